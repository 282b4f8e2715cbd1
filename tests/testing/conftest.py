"""The plugin for these tests only. A user enables it in ``pytest_plugins``, allowed only in the top conftest.py."""

from django_invoice_cancel.testing.pytest_plugin import pytest_configure, scripted_provider

__all__ = ["pytest_configure", "scripted_provider"]
