"""The API page has the docstrings of the public classes and functions that a project or an adapter uses."""

import inspect
import re
from importlib import import_module

import pytest

from .pages import text_of

SHOWN_ELSEWHERE = {
    "Code": "outcomes",
    "Outcome": "outcomes",
    "Status": "statuses",
}
"""Enumerations that a page of the reference lists with the meaning of each member."""
MODULES = ("models", "services", "bulk", "operations", "exceptions", "providers", "admin", "testing")
PAGE = text_of("docs/reference/api.md")
DOCUMENTED = set(re.findall(r"^\.\. auto(?:class|function):: (?:[\w.]+\.)?(\w+)$", PAGE, re.MULTILINE))
EXCEPTIONS = ".. automodule:: django_invoice_cancel.exceptions\n   :members:"


@pytest.mark.parametrize("name", MODULES)
def test_public_names_of_the_module_are_on_the_page(name):
    module = import_module(f"django_invoice_cancel.{name}")
    public = {
        each
        for each in module.__all__
        if inspect.isclass(getattr(module, each)) or inspect.isroutine(getattr(module, each))
    }
    raised = {each for each in public if _is_exception(getattr(module, each))}
    assert public - raised - set(SHOWN_ELSEWHERE) - DOCUMENTED == set()
    assert not raised or EXCEPTIONS in PAGE


def _is_exception(each):
    return isinstance(each, type) and issubclass(each, Exception)


def _is_documentable(each):
    return inspect.isclass(each) or inspect.isroutine(each)
