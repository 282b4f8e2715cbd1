"""The contract of every adapter: declarations are checked, ids have one form, options are numbers."""

import re
from decimal import Decimal

import pytest

from django_invoice_cancel.domain.secrets import Secret
from django_invoice_cancel.domain.statuses import Status
from django_invoice_cancel.exceptions import InvalidExternalId, ProviderMisconfigured
from django_invoice_cancel.providers.base import Provider


class Good(Provider):
    verbose_name = "Good"
    id_form = "digits"
    id_pattern = re.compile("[0-9]+")
    status_words = {"open": Status.CREATED, "gone": Status.CANCELED}

    def cancel(self, external_id, *, lease):
        raise NotImplementedError


class GoodLooker(Good):
    supports_lookup = True
    lookup_group_size = 5

    def lookup(self, external_ids):
        raise NotImplementedError


@pytest.mark.parametrize("adapter", [Good, GoodLooker])
def test_adapter_with_complete_declarations_is_created(adapter):
    provider = adapter("shop-eu")

    assert repr(provider) == f"<{adapter.__name__} 'shop-eu'>"
    assert provider.deadline == 15.0
    assert provider.concurrency == 8
    assert provider.rate is None
    assert provider.secrets == []


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        pytest.param({"verbose_name": ""}, "verbose_name, id_form and id_pattern", id="no name"),
        pytest.param({"id_form": ""}, "verbose_name, id_form and id_pattern", id="no form of ids"),
        pytest.param({"id_pattern": None}, "verbose_name, id_form and id_pattern", id="no pattern"),
        pytest.param({"id_pattern": "[0-9]+"}, "verbose_name, id_form and id_pattern", id="pattern not compiled"),
        pytest.param({"cancel": Provider.cancel}, r"cancel\(\) is missing", id="no cancel"),
        pytest.param({"supports_lookup": True}, r"lookup\(\) is missing", id="no lookup"),
        pytest.param({"lookup_group_size": 0}, "lookup_group_size must be at least 1", id="group of none"),
        pytest.param({"status_words": {"Paid": Status.PAID}}, "must be lower case", id="word in capitals"),
        pytest.param({"status_words": {" paid": Status.PAID}}, "must be lower case", id="word with a blank"),
        pytest.param({"status_words": {"busy": Status.CANCELING}}, "may not contain canceling", id="canceling"),
        pytest.param({"status_words": {"what": Status.IN_DOUBT}}, "may not contain canceling", id="in doubt"),
        pytest.param(
            {"postback_status_words": {"Done": Status.PAID}}, "postback_status_words must be lower", id="postback's"
        ),
        pytest.param(
            {"postback_status_words": {"busy": Status.CANCELING}},
            "postback_status_words may not contain canceling",
            id="postback's canceling",
        ),
    ],
)
def test_adapter_with_a_wrong_declaration_is_refused(declared, problem):
    adapter = type("Wrong", (Good,), declared)

    with pytest.raises(ProviderMisconfigured, match=rf"^Adapter Wrong has invalid declarations: .*{problem}"):
        adapter("shop-eu")


def test_all_wrong_declarations_are_reported_together():
    adapter = type("Wrong", (Good,), {"verbose_name": "", "lookup_group_size": 0})

    with pytest.raises(ProviderMisconfigured, match=r"verbose_name.* lookup_group_size"):
        adapter("shop-eu")


BOUNDS = {
    "deadline": "must be a number of seconds greater than 0 and at most 3600.",
    "concurrency": "must be a whole number from 1 to 1000.",
    "rate": "must be a number of requests a second from 0.001 to 1000.",
}
NO_NUMBERS = ["8", True, False, float("inf"), float("-inf"), float("nan"), [], 1j, b"8", Decimal(8)]
OUT_OF_BOUNDS = [0, -1, 0.0, -0.0, -1e300, 1e300, 10**400, -(10**400), 2**63]


@pytest.mark.parametrize("option", BOUNDS)
@pytest.mark.parametrize("value", [*NO_NUMBERS, *OUT_OF_BOUNDS], ids=lambda value: repr(value)[:12])
def test_option_outside_its_limits_is_refused(option, value):
    with pytest.raises(
        ProviderMisconfigured, match=re.escape(f"Provider 'shop-eu': option '{option}' {BOUNDS[option]}")
    ):
        Good("shop-eu", **{option: value})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("deadline", 3600.001), ("deadline", 5e-324 * -1),
        ("concurrency", 0.5), ("concurrency", 1.5), ("concurrency", 1001), ("concurrency", 1e-320),
        ("rate", 0.00099), ("rate", 1e-6), ("rate", 1e-320), ("rate", 1000.1),
    ],
)  # fmt: skip
def test_option_just_outside_its_limits_is_refused(option, value):
    with pytest.raises(ProviderMisconfigured, match=re.escape(BOUNDS[option])):
        Good("shop-eu", **{option: value})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("deadline", 0.3), ("deadline", 3600), ("deadline", 1e-3),
        ("concurrency", 1), ("concurrency", 1000), ("concurrency", 8.0),
        ("rate", 0.001), ("rate", 1000), ("rate", None),
    ],
)  # fmt: skip
def test_option_within_its_limits_is_kept(option, value):
    kept = getattr(Good("shop-eu", **{option: value}), option)
    assert kept == value
    assert option != "concurrency" or type(kept) is int


@pytest.mark.parametrize(
    ("word", "status"),
    [("open", Status.CREATED), (" GONE ", Status.CANCELED), ("canceled", None), ("", None)],
)
def test_status_string_that_is_not_in_the_table_is_unknown(word, status):
    assert Good("shop-eu").status_of(word) is status


def test_reply_keeps_an_unknown_status_string():
    reply = Good("shop-eu").found("frozen", http_status=200)

    assert reply.status is None
    assert reply.code == "unknown_status"
    assert reply.is_answer is True
    assert reply.provider_status == "frozen"
    assert reply.http_status == 200


@pytest.mark.parametrize("word", [None, 7, ["open"]])
def test_reply_has_no_status_string_for_another_type(word):
    reply = Good("shop-eu").found(word)

    assert reply.status is None
    assert reply.code == "unknown_status"
    assert reply.provider_status == ""


def test_text_is_masked_before_it_is_shortened():
    provider = Good("shop-eu")
    provider.secrets.append(Secret("invented-secret"))

    assert provider.sanitize("y" * 490 + "invented-secret") == "y" * 490 + "***"


def test_id_is_matched_whole():
    assert Good("shop-eu").clean_id(" 123 ") == "123"
    with pytest.raises(InvalidExternalId, match=r"'12x' is not an id of Good: an id is digits\."):
        Good("shop-eu").clean_id("12x")


def test_lookup_of_a_provider_without_lookups_raises_an_error():
    with pytest.raises(NotImplementedError, match=r"Good does not implement lookup\(\)"):
        Good("shop-eu").lookup(["1"])


@pytest.mark.parametrize(
    ("word", "status"),
    [("gone", Status.EXPIRED), (" DONE ", Status.PAID), ("open", Status.CREATED), ("frozen", None), ("", None)],
)
def test_status_strings_of_postbacks_take_precedence(word, status):
    class Notifies(Good):
        postback_status_words = {"done": Status.PAID, "gone": Status.EXPIRED}

    provider = Notifies("shop-eu")

    assert provider.status_of_postback(word) is status
    assert provider.status_of("gone") is Status.CANCELED
