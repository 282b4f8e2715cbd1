"""The metadata of the installed package is correct."""

from importlib.metadata import metadata, requires, version
from importlib.resources import files

import django
import pytest

import django_invoice_cancel
from django_invoice_cancel import DOCUMENTATION_URL


def test_installed_version_is_the_package_version():
    assert version("django-invoice-cancel") == django_invoice_cancel.__version__


def test_type_marker_is_part_of_the_package():
    assert files(django_invoice_cancel).joinpath("py.typed").is_file()


@pytest.mark.parametrize("name", ["django", "requests", "urllib3"])
def test_package_requires_only_three_packages(name):
    needed = [line for line in requires("django-invoice-cancel") or [] if "extra ==" not in line]
    assert len(needed) == 3
    assert any(line.lower().startswith(name) for line in needed)


def test_running_django_has_a_classifier():
    named = metadata("django-invoice-cancel").get_all("Classifier") or []
    assert f"Framework :: Django :: {django.VERSION[0]}.{django.VERSION[1]}" in named


def test_extras_are_for_users_only():
    """Development requirements are in the dependency groups, which are not in the metadata of the installed package."""
    assert sorted(metadata("django-invoice-cancel").get_all("Provides-Extra") or []) == ["cli", "tasks", "tasks-db"]


def test_address_of_the_documentation_is_the_one_in_the_metadata():
    urls = metadata("django-invoice-cancel").get_all("Project-URL") or []
    documentation = [url for url in urls if url.lower().startswith("documentation,")]
    assert documentation == ([f"Documentation, {DOCUMENTATION_URL}"] if DOCUMENTATION_URL else [])


def test_readme_links_to_the_documentation_if_it_has_an_address():
    """An installed package has only its README, whose relative links lead nowhere."""
    readme = metadata("django-invoice-cancel").get_payload()
    assert (f"[documentation]({DOCUMENTATION_URL})" in readme) is bool(DOCUMENTATION_URL)
