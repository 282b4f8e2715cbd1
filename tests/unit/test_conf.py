"""INVOICE_CANCEL: its defaults, and a message with a remedy for everything that can be wrong in it."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_invoice_cancel import conf

BACKEND = "django_invoice_cancel.providers.firekassa.FireKassa"


def entry(**changes):
    return {"BACKEND": BACKEND, "OPTIONS": {}} | changes


def test_defaults(settings):
    settings.INVOICE_CANCEL = {}
    assert conf.get() == conf.Settings(
        providers={}, provider_resolver=None, claim_ttl=300, doubt_period=900, require_reason=False, dispatch=None
    )


def test_setting_may_be_absent(settings):
    del settings.INVOICE_CANCEL
    assert conf.get().providers == {}


BAD_CLAIM_TTL = "INVOICE_CANCEL['CLAIM_TTL'] must be a number of seconds greater than 0 and at most 86400."
BAD_DOUBT_PERIOD = "INVOICE_CANCEL['DOUBT_PERIOD'] must be a number of seconds greater than 0 and at most 2592000."
WRONG = [
    (None, "INVOICE_CANCEL must be a dict."),
    ([], "INVOICE_CANCEL must be a dict."),
    (
        {"PROVIDER": {}},
        "INVOICE_CANCEL has an unknown key 'PROVIDER'. The valid keys are CLAIM_TTL, "
        "DISPATCH, DISPATCH_WORKERS, DOUBT_PERIOD, PROVIDERS, PROVIDER_RESOLVER, REQUIRE_REASON, SEND, VETO.",
    ),
    ({"PROVIDERS": []}, "INVOICE_CANCEL['PROVIDERS'] must be a dict with aliases as keys."),
    ({"PROVIDERS": None}, "INVOICE_CANCEL['PROVIDERS'] must be a dict with aliases as keys."),
    (
        {"PROVIDERS": {7: entry()}},
        "INVOICE_CANCEL['PROVIDERS'] has an alias that is not a string of 1 to 64 characters.",
    ),
    (
        {"PROVIDERS": {"": entry()}},
        "INVOICE_CANCEL['PROVIDERS'] has an alias that is not a string of 1 to 64 characters.",
    ),
    (
        {"PROVIDERS": {"x" * 65: entry()}},
        "INVOICE_CANCEL['PROVIDERS'] has an alias that is not a string of 1 to 64 characters.",
    ),
    (
        {"PROVIDERS": {"fk": BACKEND}},
        "INVOICE_CANCEL['PROVIDERS'] is invalid for 'fk': it must be a dict with \"BACKEND\", "
        "the dotted path of the provider's class.",
    ),
    (
        {"PROVIDERS": {"fk": {"OPTIONS": {}}}},
        "INVOICE_CANCEL['PROVIDERS'] is invalid for 'fk': it must be a dict with \"BACKEND\", "
        "the dotted path of the provider's class.",
    ),
    (
        {"PROVIDERS": {"fk": entry(OPTIONS=["token"])}},
        "INVOICE_CANCEL['PROVIDERS'] is invalid for 'fk': \"OPTIONS\" must be a dict with strings as keys.",
    ),
    (
        {"PROVIDERS": {"fk": entry(OPTIONS={1: "token"})}},
        "INVOICE_CANCEL['PROVIDERS'] is invalid for 'fk': \"OPTIONS\" must be a dict with strings as keys.",
    ),
    (
        {"PROVIDERS": {"fk": entry(base_url="x")}},
        "INVOICE_CANCEL['PROVIDERS'] is invalid for 'fk': unknown key 'base_url'. "
        'The valid keys are "BACKEND" and "OPTIONS".',
    ),
    *(({"CLAIM_TTL": bad}, BAD_CLAIM_TTL) for bad in (0, "300", True, float("nan"), 86_401, 10**12, 10**400, 1e300)),
    *(({"DOUBT_PERIOD": bad}, BAD_DOUBT_PERIOD) for bad in (-1, float("inf"), 2_592_001, 10**12, 10**400)),
    ({"REQUIRE_REASON": 1}, "INVOICE_CANCEL['REQUIRE_REASON'] must be True or False."),
    ({"PROVIDER_RESOLVER": print}, "INVOICE_CANCEL['PROVIDER_RESOLVER'] must be a dotted path or None."),
    ({"DISPATCH": 3}, "INVOICE_CANCEL['DISPATCH'] must be a dotted path or None."),
    ({"VETO": print}, "INVOICE_CANCEL['VETO'] must be a dotted path or None."),
]


@pytest.mark.parametrize(("value", "sentence"), WRONG, ids=[str(number) for number in range(len(WRONG))])
def test_wrong_setting_is_reported(settings, value, sentence):
    settings.INVOICE_CANCEL = value
    with pytest.raises(ImproperlyConfigured) as caught:
        conf.get()
    assert str(caught.value) == sentence


def test_all_wrong_settings_are_reported_together(settings):
    settings.INVOICE_CANCEL = {"CLAIM_TTL": 0, "DOUBT_PERIOD": 0, "CLAIM": 1}
    assert [key for key, _ in conf.read()[1]] == ["unknown", "CLAIM_TTL", "DOUBT_PERIOD"]


def test_overridden_setting_is_used_and_restored(settings):
    settings.INVOICE_CANCEL = {"CLAIM_TTL": 60}
    assert conf.get().claim_ttl == 60
    settings.INVOICE_CANCEL = {"CLAIM_TTL": 90}
    assert conf.get().claim_ttl == 90


def test_values_of_options_are_in_no_representation(settings):
    settings.INVOICE_CANCEL = {"PROVIDERS": {"fk": entry(OPTIONS={"api_token": "canary"})}}
    assert conf.get().providers["fk"].options["api_token"] == "canary"
    assert "canary" not in repr(conf.get()) + str(conf.get().providers) + f"{conf.get().providers['fk'].options}"
