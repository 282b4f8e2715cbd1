"""The plugin for these tests alone; a user names it in ``pytest_plugins``, which only the top conftest.py may hold."""

from django_invoice_cancel.testing.pytest_plugin import pytest_configure, scripted_provider

__all__ = ["pytest_configure", "scripted_provider"]
