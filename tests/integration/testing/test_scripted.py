"""The scripted provider: the app receives the scripted answers, and calls are counted."""

import threading
import tracemalloc

import pytest
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import override_settings

from django_invoice_cancel import registry
from django_invoice_cancel.domain.outcomes import Code, LookupReply, Outcome, ProviderReply
from django_invoice_cancel.domain.statuses import Status
from django_invoice_cancel.exceptions import CancelInDoubt, CancelNotPossible, CancelRefused
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.services.cancel import cancel_invoice
from django_invoice_cancel.services.reconcile import reconcile_invoice
from django_invoice_cancel.testing import ScriptedProvider, make_invoice
from django_invoice_cancel.testing.scripted import CANCEL_WORDS, LOOKUP_WORDS

BACKEND = "django_invoice_cancel.testing.ScriptedProvider"


def holds(seconds_left: float) -> bool:
    return True


@pytest.fixture
def provider() -> ScriptedProvider:
    return ScriptedProvider("shop")


# -- cancel -------------------------------------------------------------------------------------------------------


def test_provider_without_a_script_cancels_open_invoices(provider):
    provider.set_status("2", "paid")
    outcomes = [provider.cancel(each, lease=holds).outcome for each in ("1", "1", "2")]
    assert outcomes == [Outcome.CANCELED, Outcome.ALREADY_CANCELED, Outcome.REFUSED]
    assert provider.cancels == ["1", "1", "2"]


NAMED_ANSWERS = {
    "canceled": (Outcome.CANCELED, Code.CANCELED, "canceled"),
    "already_canceled": (Outcome.ALREADY_CANCELED, Code.ALREADY_CANCELED, "canceled"),
    "partially_paid": (Outcome.REFUSED, Code.HAS_PAYMENT, "partially_paid"),
    "paid": (Outcome.REFUSED, Code.HAS_PAYMENT, "paid"),
    "overpaid": (Outcome.REFUSED, Code.HAS_PAYMENT, "overpaid"),
    "expired": (Outcome.REFUSED, Code.CLOSED, "expired"),
    "failed": (Outcome.REFUSED, Code.CLOSED, "failed"),
    "refused": (Outcome.REFUSED, Code.PROVIDER_REFUSED, "created"),
    "not_found": (Outcome.REFUSED, Code.NOT_FOUND, "created"),
    "not_processed": (Outcome.NOT_PROCESSED, Code.UNREACHABLE, "created"),
    "rate_limited": (Outcome.NOT_PROCESSED, Code.RATE_LIMITED, "created"),
    "bad_credentials": (Outcome.NOT_PROCESSED, Code.BAD_CREDENTIALS, "created"),
    "in_doubt": (Outcome.IN_DOUBT, Code.NO_ANSWER, "created"),
    "answer_lost": (Outcome.IN_DOUBT, Code.NO_ANSWER, "canceled"),
}


@pytest.mark.parametrize("name", NAMED_ANSWERS)
def test_named_answer_has_its_reply_and_sets_the_status_at_the_provider(provider, name):
    provider.next_cancels(name)
    reply = provider.cancel("1", lease=holds)
    outcome, code, status = NAMED_ANSWERS[name]
    assert reply.outcome == outcome
    assert reply.code == code
    assert provider.lookup(["1"])["1"].status == status
    assert provider.cancel_count == 1
    assert provider.lookup_count == 1


def test_every_named_answer_is_in_the_table_above():
    assert set(NAMED_ANSWERS) == set(CANCEL_WORDS)


def test_script_for_one_invoice_comes_before_that_for_all_and_queues_before_always(provider):
    provider.all_cancels("refused")
    provider.all_cancels("in_doubt", external_id="2")
    provider.next_cancels("paid")
    provider.next_cancels("expired", "failed", external_id="2")
    codes = [(each, provider.cancel(each, lease=holds).code) for each in ("2", "2", "2", "2", "1")]
    assert codes == [("2", Code.CLOSED), ("2", Code.CLOSED), ("2", Code.HAS_PAYMENT), ("2", Code.NO_ANSWER),
                     ("1", Code.PROVIDER_REFUSED)]  # fmt: skip
    assert provider.cancels == ["2", "2", "2", "2", "1"]


def test_none_restores_the_status_of_the_state(provider):
    provider.all_cancels("refused")
    provider.all_cancels(None)
    assert provider.cancel("1", lease=holds).outcome is Outcome.CANCELED


def test_scripted_reply_object_is_returned_unchanged(provider):
    own = ProviderReply(Outcome.REFUSED, "too_old", provider_message="Too old.")
    provider.next_cancels(own)
    assert provider.cancel("1", lease=holds) is own


@pytest.mark.parametrize("error", [ZeroDivisionError("bug"), ZeroDivisionError], ids=["instance", "class"])
def test_exception_is_raised_after_the_request_is_counted(provider, error):
    provider.next_cancels(error)
    with pytest.raises(ZeroDivisionError):
        provider.cancel("1", lease=holds)
    assert provider.cancel_count == 1


def test_scripted_function_is_called_with_the_id(provider):
    provider.all_cancels(lambda external_id: "refused" if external_id == "1" else None)
    outcomes = [provider.cancel(each, lease=holds).outcome for each in ("1", "2")]
    assert outcomes == [Outcome.REFUSED, Outcome.CANCELED]


def test_expired_lease_sends_nothing(provider):
    reply = provider.cancel("1", lease=lambda seconds_left: False)
    assert reply.outcome == Outcome.NOT_PROCESSED
    assert reply.code == Code.LEASE_EXPIRED
    assert provider.cancels == []
    assert provider.cancel_count == 0
    assert provider.truth == {}


def test_before_send_runs_before_the_lease_is_checked(provider):
    seen = []
    provider.before_send = lambda external_id: seen.append(external_id)
    provider.cancel("1", lease=lambda seconds_left: seen.append(seconds_left) or True)
    assert seen == ["1", provider.deadline]


# -- lookup -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOOKUP_WORDS)
def test_scripted_lookup_reply_is_returned(provider, name):
    provider.next_lookups(name)
    assert provider.lookup(["1"]) == {"1": LOOKUP_WORDS[name]}
    assert provider.lookup(["1"])["1"].status is Status.CREATED
    assert provider.lookup_count == 2


def test_lookup_has_a_reply_for_each_id(provider):
    provider.set_status("1", "paid")
    provider.all_lookups("no_answer", external_id="2")
    provider.all_lookups(LookupReply(None, "odd", is_answer=True), external_id="3")
    replies = provider.lookup(["1", "2", "3", "4"])
    assert [(each.status, each.code) for each in replies.values()] == [
        ("paid", Code.OBSERVED), (None, Code.NO_ANSWER), (None, "odd"), ("created", Code.OBSERVED),
    ]  # fmt: skip
    assert provider.lookups == [("1", "2", "3", "4")]
    assert provider.lookup_count == 1


def test_lookup_takes_no_more_than_its_group():
    with pytest.raises(ValueError, match="A lookup has 2 ids; the provider accepts 1"):
        ScriptedProvider("shop", lookup_group_size=1).lookup(["1", "2"])


def test_lookup_that_was_not_declared_is_not_there():
    with pytest.raises(NotImplementedError):
        ScriptedProvider("shop", supports_lookup=False).lookup(["1"])


# -- slips --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "slip",
    [
        lambda provider: provider.next_cancels("cancelled"),
        lambda provider: provider.all_cancels("ok"),
        lambda provider: provider.next_lookups("in_doubt"),
        lambda provider: provider.all_lookups(17),
        lambda provider: provider.set_status("1", "in_doubt"),
    ],
    ids=["next-cancels", "all-cancels", "next-lookups", "all-lookups", "set-status"],
)
def test_wrong_script_is_refused_at_once(provider, slip):
    with pytest.raises(ValueError, match=r"is not a valid answer to a|is not a status of a provider"):
        slip(provider)


def test_reset_clears_all_state(provider):
    provider.all_cancels("refused")
    provider.set_status("1", "paid")
    provider.cancel("1", lease=holds)
    provider.lookup(["1"])
    provider.reset()
    assert provider.cancels == []
    assert provider.lookups == []
    assert provider.truth == {}
    assert provider.cancel_count == 0
    assert provider.lookup_count == 0
    assert provider.cancel("1", lease=holds).outcome is Outcome.CANCELED


def test_each_scripted_answer_is_used_once_by_concurrent_threads(provider):
    provider.next_cancels(*["refused"] * 100)
    replies, together = [], threading.Barrier(4)

    def ask() -> None:
        together.wait(10)
        replies.extend(provider.cancel("1", lease=holds).outcome for _ in range(50))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies.count(Outcome.REFUSED) == 100
    assert provider.cancel_count == len(provider.cancels) == 200


@pytest.mark.slow
def test_memory_is_flat_over_200_000_calls_without_recording():
    provider = ScriptedProvider("shop", record=False)
    tracemalloc.start()
    try:
        for number in range(200_000):
            provider.cancel(str(number), lease=holds)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 100_000
    assert provider.cancel_count == 200_000
    assert provider.cancels == []
    assert provider.truth == {}


# -- through the app ----------------------------------------------------------------------------------------------


def codes(invoice: Invoice) -> list[str]:
    """The codes of the invoice's log; a claim has none."""
    return list(invoice.transitions.order_by("id").values_list("code", flat=True))


def test_instance_of_an_alias_is_the_one_that_the_app_uses():
    with override_settings(INVOICE_CANCEL={"PROVIDERS": {"a": {"BACKEND": BACKEND}, "b": {"BACKEND": BACKEND}}}):
        assert ScriptedProvider.of("a") is registry.get_provider("a") is not ScriptedProvider.of("b")


def test_instance_of_another_backend_is_refused():
    with pytest.raises(TypeError, match="The provider of 'firekassa' is FireKassa"):
        ScriptedProvider.of("firekassa")


@pytest.mark.parametrize("options", [{"lookup_group_size": 0}, {"recording": True}, {"deadline": -1}], ids=str)
def test_wrong_option_is_reported(options):
    entry = {"BACKEND": BACKEND, "OPTIONS": options}
    with override_settings(INVOICE_CANCEL={"PROVIDERS": {"a": entry}}), pytest.raises(ImproperlyConfigured):
        ScriptedProvider.of("a")


@pytest.mark.django_db
def test_fixture_makes_every_configured_alias_a_scripted_one(scripted_provider):
    assert scripted_provider is ScriptedProvider.of("firekassa")
    assert isinstance(ScriptedProvider.of("cryptocloud"), ScriptedProvider)
    scripted_provider.next_cancels("refused")
    with pytest.raises(CancelRefused):
        make_invoice(provider="firekassa").cancel()
    assert make_invoice(provider="cryptocloud").cancel().ok
    assert scripted_provider.cancel_count == 1
    assert ScriptedProvider.of("cryptocloud").cancel_count == 1


@pytest.fixture
def restored():
    """Fail if INVOICE_CANCEL is another one after the test."""
    before = django_settings.INVOICE_CANCEL
    yield
    assert django_settings.INVOICE_CANCEL is before


def test_fixture_restores_settings_that_the_test_changed(restored, settings, scripted_provider):
    settings.INVOICE_CANCEL = {**settings.INVOICE_CANCEL, "CLAIM_TTL": 70}
    assert set(settings.INVOICE_CANCEL["PROVIDERS"]) == {"firekassa", "cryptocloud"}
    assert scripted_provider.cancel_count == 0


@pytest.mark.scripted_providers("shop", "kiosk", supports_lookup=False)
def test_marker_names_aliases_and_options(scripted_provider):
    assert registry.aliases() == ["shop", "kiosk"]
    assert scripted_provider.alias == "shop"
    assert scripted_provider.supports_lookup is False
    assert ScriptedProvider.of("kiosk").supports_lookup is False


def test_fixture_keeps_the_rest_of_the_setting_but_the_resolver(request, settings):
    settings.INVOICE_CANCEL = {"CLAIM_TTL": 77, "PROVIDER_RESOLVER": "nobody.here"}
    assert request.getfixturevalue("scripted_provider").alias == "scripted"
    from django_invoice_cancel import conf

    assert conf.get().claim_ttl == 77
    assert conf.get().provider_resolver is None


@pytest.mark.django_db
def test_reconcile_resolves_a_lost_response(scripted_provider):
    invoice = make_invoice()
    scripted_provider.next_cancels("answer_lost")
    with pytest.raises(CancelInDoubt):
        invoice.cancel()
    assert invoice.reconcile().ok
    assert scripted_provider.cancel_count == 1
    assert scripted_provider.lookup_count == 1
    assert Invoice.objects.get().status == "canceled"
    assert codes(invoice) == ["", "no_answer", "observed"]


@pytest.mark.django_db
def test_exception_of_an_adapter_is_in_doubt(scripted_provider, caplog):
    scripted_provider.next_cancels(ZeroDivisionError("bug"))
    scripted_provider.next_lookups(ZeroDivisionError("bug"))
    invoice = make_invoice()
    assert cancel_invoice(invoice).code == Code.ADAPTER_ERROR
    assert reconcile_invoice(invoice).outcome is Outcome.IN_DOUBT
    assert scripted_provider.cancels == [invoice.external_id]
    assert scripted_provider.lookup_count == 1
    assert Invoice.objects.get().status == "in_doubt"
    assert codes(invoice) == ["", "adapter_error"]
    assert caplog.text.count("ZeroDivisionError: bug") == 2


@pytest.mark.django_db
def test_no_transaction_is_open_during_the_request(scripted_provider):
    """Nor is one opened by the scripted provider: a hook may use the database."""
    depth = len(connection.savepoint_ids)
    seen = []
    scripted_provider.next_cancels(lambda external_id: seen.append(len(connection.savepoint_ids)))
    assert make_invoice().cancel().ok
    assert seen == [depth]


@pytest.mark.django_db
def test_interruption_is_recorded_as_doubt(scripted_provider):
    scripted_provider.next_cancels(KeyboardInterrupt)
    invoice = make_invoice()
    with pytest.raises(KeyboardInterrupt):
        invoice.cancel()
    assert Invoice.objects.get().status == "in_doubt"
    with pytest.raises(CancelNotPossible):
        invoice.cancel()
    assert Invoice.objects.get().status == "in_doubt"
    assert codes(invoice) == ["", "no_answer"]
    assert scripted_provider.cancel_count == 1
