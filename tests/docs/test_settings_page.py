"""docs/reference/settings.md has a row for each setting and each option that the code accepts, with its default."""

import dataclasses
import inspect

import pytest

from django_invoice_cancel import conf
from django_invoice_cancel.providers.base import Provider
from django_invoice_cancel.providers.cryptocloud import CryptoCloud
from django_invoice_cancel.providers.firekassa import FireKassa
from django_invoice_cancel.providers.http import HTTPProvider

from .pages import table_rows

ROWS = {row[0].strip("`"): row for row in table_rows("docs/reference/settings.md")}
SETTINGS = {field.name.upper(): field.default for field in dataclasses.fields(conf.Settings)}


def options(*classes: type[Provider]) -> dict[str, object]:
    parameters = [p for cls in classes for p in inspect.signature(cls.__init__).parameters.values()]
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


OPTIONS = options(Provider, HTTPProvider, CryptoCloud, FireKassa)


def test_every_setting_has_a_row():
    assert {name for name in ROWS if name.isupper()} == {*SETTINGS, "BACKEND", "OPTIONS"}


def test_every_option_has_a_row():
    assert {name for name in ROWS if name.islower()} == set(OPTIONS)


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "PROVIDERS"])
def test_row_names_the_default_of_a_setting(name):
    assert ROWS[name][2] == f"`{SETTINGS[name]}`"


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "base_url"])
def test_row_names_the_default_of_an_option(name):
    default = OPTIONS[name]
    if isinstance(default, float):
        default = int(default)
    assert ROWS[name][2] == ("required" if default is inspect.Parameter.empty else f"`{default}`")
