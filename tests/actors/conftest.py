"""Fixtures of the tests about acting users: scripted providers."""

from django_invoice_cancel.testing.pytest_plugin import pytest_configure, scripted_provider

__all__ = ["pytest_configure", "scripted_provider"]
