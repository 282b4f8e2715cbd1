"""The keyed hash of an account's options: equal for equal options, and it shows none of their values."""

from decimal import Decimal

import pytest

from django_invoice_cancel import conf, registry
from django_invoice_cancel.models import Invoice, ProviderState
from tests.support.results import cancel_error

SCRIPTED = "django_invoice_cancel.testing.ScriptedProvider"


def digest(alias="shop", backend=SCRIPTED, **options):
    config = conf.provider_config(alias, {"BACKEND": backend, "OPTIONS": options})
    return registry._digest(config)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"nested": {"x": [1, {"y": 2, "z": 3}]}}, {"nested": {"x": [1, {"z": 3, "y": 2}]}}),
        ({"names": {"a", "b", 1}}, {"names": {1, "b", "a"}}),
        ({"pair": (1, 2)}, {"pair": [1, 2]}),
        ({"hook": object()}, {"hook": object()}),
    ],
    ids=["order", "nested", "set", "tuple", "address"],
)
def test_equal_options_have_equal_digests(one, other):
    assert digest(**one) == digest(**other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"token": "a"}, {"token": "b"}),
        ({"token": "a"}, {}),
        ({"token": "1"}, {"token": 1}),
        ({"token": None}, {"token": "None"}),
        ({"nested": {"x": [1, {"y": 2}]}}, {"nested": {"x": [1, {"y": 3}]}}),
        ({"pair": [1, 2]}, {"pair": [2, 1]}),
        ({"pair": ["1", "2"]}, {"pair": ["1, 2"]}),
        ({"amount": Decimal("1")}, {"amount": Decimal("1.0")}),
        ({"cert": b"a"}, {"cert": b"b"}),
    ],
)
def test_different_options_have_different_digests(one, other):
    assert digest(**one) != digest(**other)


def test_alias_and_backend_are_included():
    values = {digest(token="a"), digest("kiosk", token="a"), digest(backend="elsewhere.Provider", token="a")}
    assert len(values) == 3


def test_secret_key_is_the_key(settings):
    before = digest(token="a")
    settings.SECRET_KEY = "rotated"
    assert digest(token="a") != before


def test_missing_secret_key_gives_no_digest(settings):
    settings.SECRET_KEY = ""
    assert digest(token="a") == ""


@pytest.mark.django_db
def test_no_secret_is_stored(sandbox, register, settings):
    providers = settings.INVOICE_CANCEL["PROVIDERS"]
    options = providers["firekassa"]["OPTIONS"] | {"api_token": "revoked-marker-token"}
    settings.INVOICE_CANCEL = {"PROVIDERS": {"firekassa": providers["firekassa"] | {"OPTIONS": options}}}
    invoice = register(provider="firekassa")
    cancel_error(invoice.cancel)
    (row,) = ProviderState.objects.values()
    assert "revoked-marker-token" not in str(row)
    assert len(row["rejected_options"]) == 32
    assert sandbox.count("cancel") == 1
    assert Invoice.objects.get().status == "created"
