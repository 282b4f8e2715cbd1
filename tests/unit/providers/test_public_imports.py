"""An adapter imports every name from one place, and starting Django does not import the HTTP library for it."""

import os
import subprocess
import sys

import pytest

from django_invoice_cancel import exceptions, providers
from django_invoice_cancel.domain import outcomes, secrets, statuses
from django_invoice_cancel.providers import base, http, transport

DEFINED_IN = (base, http, transport, outcomes, secrets, statuses, exceptions)


def imported_after(statement: str) -> set[str]:
    """Return the modules that a new process has imported after a statement, with the settings of the tests."""
    return set(output_of(f"{statement}\nimport sys\nprint(*sys.modules)").split())


def output_of(code: str) -> str:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    return subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)


@pytest.mark.parametrize("name", providers.__all__)
def test_name_is_the_object_that_the_package_uses(name):
    named = getattr(providers, name)
    definitions = [vars(module)[name] for module in DEFINED_IN if name in vars(module)]
    assert definitions
    assert all(each is named for each in definitions)


def test_unknown_name_raises_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'HttpProvider'"):
        providers.HttpProvider  # noqa: B018


def test_starting_django_imports_no_http_library():
    modules = imported_after("import django; django.setup()")
    assert "django_invoice_cancel.providers" in modules
    assert modules & {"requests", "urllib3", "django_invoice_cancel.providers.http"} == set()


def test_declaring_a_provider_without_http_imports_no_http_library():
    modules = imported_after("from django_invoice_cancel.providers import LookupReply, Outcome, Provider, Secret")
    assert modules & {"django", "requests", "urllib3"} == set()


def test_names_of_an_adapter_over_http_need_no_django():
    modules = imported_after("from django_invoice_cancel.providers import *")
    assert "requests" in modules
    assert "django" not in modules
