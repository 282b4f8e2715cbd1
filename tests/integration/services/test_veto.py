"""A veto of the shop prevents each request that would cancel an invoice, and writes nothing."""

import json
import logging
from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.utils.functional import lazystr
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy, override

from django_invoice_cancel import registry, services
from django_invoice_cancel.domain.audit import Wanted
from django_invoice_cancel.exceptions import CancelInTransaction, CancelNotPossible
from django_invoice_cancel.models import Invoice, InvoiceTransition
from django_invoice_cancel.services.eligibility import account_of, find_obstacle
from django_invoice_cancel.services.veto import Veto
from django_invoice_cancel.testing import ScriptedProvider, make_invoice
from tests.support.invoices import set_columns, stored
from tests.support.logs import CANCELED_LOG, log_entries
from tests.support.results import cancel_error
from tests.support.vetoes import SHIPPED, count_requests

pytestmark = pytest.mark.django_db(transaction=True)

SENTENCE = f"A rule of your shop forbids its cancellation: “{SHIPPED}”"
FAILED = "The check of the shop failed (ValueError). See the log."
LONG_AGO = timedelta(days=2)


def obstacle(invoice, wanted=Wanted.CANCEL):
    return find_obstacle(wanted, invoice, account_of(invoice.provider))


# -- the decision -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [None, ""], ids=["none", "empty"])
def test_answer_without_text_allows_the_cancellation(shop_rule, answer):
    shop_rule.forbid(answer=answer)
    invoice = make_invoice()
    assert obstacle(invoice) == ""
    assert invoice.cancel().ok
    assert shop_rule.asked == [invoice.external_id] * 2
    assert log_entries(invoice) == CANCELED_LOG
    assert count_requests() == 1


class Text(str):
    """A text of a subclass, as template libraries use."""


TEXTS = {
    "text": (SHIPPED, SHIPPED),
    "lazy": (lazystr(SHIPPED), SHIPPED),
    "translated": (gettext_lazy("Canceled"), "Отменён"),
    "subclass": (Text(SHIPPED), SHIPPED),
    "safe": (mark_safe("<b>shipped</b>"), "<b>shipped</b>"),
    "spaces": (f"  {SHIPPED}\n", SHIPPED),
    "blank": (" \t", "Причина не указана."),
    "nul": ("a\0b", "a\ufffdb"),
    "surrogate": ("a\ud800b", "a\ufffdb"),
    "long": ("x" * 600, "x" * 500),
}


@pytest.mark.parametrize(("answer", "reason"), TEXTS.values(), ids=TEXTS)
def test_text_is_a_veto_with_a_storable_reason(shop_rule, answer, reason):
    shop_rule.forbid(answer=answer)
    with override("ru"):
        veto = obstacle(make_invoice())
    assert veto == "vetoed"
    assert veto.reason == reason
    assert type(veto.reason) is str
    assert not veto.is_failure
    assert count_requests() == 0


WRONG = {
    "true": (True, "bool"),
    "false": (False, "bool"),
    "zero": (0, "int"),
    "bytes": (b"no", "bytes"),
    "list": ([SHIPPED], "list"),
    "object": (object(), "object"),
}


@pytest.mark.parametrize(("answer", "name"), WRONG.values(), ids=WRONG)
def test_answer_of_another_type_is_a_veto_and_logged(shop_rule, caplog, answer, name):
    shop_rule.forbid(answer=answer)
    invoice = make_invoice()
    veto = obstacle(invoice)
    assert veto == "vetoed"
    assert veto.reason == f"The check of the shop failed ({name}). See the log."
    assert veto.is_failure
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == (
        f"{invoice}: VETO returned {name}, not a string or None, so the invoice is not canceled."
    )
    assert count_requests() == 0


def test_exception_is_a_veto_and_logged_with_its_traceback(shop_rule, caplog):
    shop_rule.forbid(answer=ValueError("no such order"))
    invoice = make_invoice()
    result = services.cancel_invoice(invoice)
    assert result.outcome == "skipped"
    assert result.code == "vetoed"
    assert result.veto_reason == FAILED
    assert result.has_veto_failed
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.name == "django_invoice_cancel"
    assert record.getMessage().startswith(f"{invoice}: VETO failed, so the invoice is not canceled:\nTraceback")
    assert record.getMessage().endswith("ValueError: no such order\n")
    assert record.exc_info is None
    assert record.code == "vetoed"
    assert log_entries(invoice) == []
    assert count_requests() == 0


@pytest.mark.parametrize("path", ["no.such.function", "tests.support.vetoes", "tests.support.vetoes.SHIPPED"])
def test_path_without_a_function_forbids_every_cancellation(shop_rule, settings, path):
    settings.INVOICE_CANCEL = {**settings.INVOICE_CANCEL, "VETO": path}
    result = services.cancel_invoice(make_invoice())
    assert result.code == "vetoed"
    assert result.has_veto_failed
    assert count_requests() == 0


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), SystemExit(1)], ids=["ctrl-c", "exit"])
def test_interruption_is_raised_before_the_claim(shop_rule, interruption):
    shop_rule.forbid(answer=interruption)
    invoice = make_invoice()
    with pytest.raises(type(interruption)):
        invoice.cancel()
    assert stored(invoice).status == "created"
    assert log_entries(invoice) == []
    assert count_requests() == 0


def test_secret_is_masked_in_the_reason_and_in_the_log(shop_rule, settings, caplog):
    token = "t0ken-of-the-other-account"
    other = {
        "BACKEND": "django_invoice_cancel.providers.cryptocloud.CryptoCloud",
        "OPTIONS": {"api_key": token, "base_url": "http://127.0.0.1:1"},
    }
    providers = settings.INVOICE_CANCEL["PROVIDERS"] | {"other": other}
    settings.INVOICE_CANCEL = {**settings.INVOICE_CANCEL, "PROVIDERS": providers}
    registry.get_provider("other")
    invoice = make_invoice()
    shop_rule.forbid(answer=f"refused by {token}")
    assert obstacle(invoice).reason == "refused by ***"
    shop_rule.forbid(answer=ValueError(f"401 for {token}"))
    assert obstacle(invoice).reason == FAILED
    assert "401 for ***" in caplog.text
    assert token not in caplog.text
    assert count_requests() == 0


ORDER = {
    "status": ("paid", Wanted.CANCEL, "has_payment"),
    "doubt": ("in_doubt", Wanted.CANCEL, "in_doubt"),
    "check": ("created", Wanted.CHECK, "no_lookup"),
    "period": ("in_doubt", Wanted.REPEAT, "doubt_period"),
}


@pytest.mark.parametrize(("status", "wanted", "code"), ORDER.values(), ids=ORDER)
def test_shop_is_asked_only_if_nothing_else_prevents_a_request(shop_rule, status, wanted, code):
    shop_rule.forbid()
    assert obstacle(make_invoice(status), wanted) == code
    assert shop_rule.asked == []
    assert count_requests() == 0


def test_shop_is_not_asked_about_lookups(shop_rule):
    shop_rule.forbid()
    invoice = make_invoice("in_doubt", provider="cryptocloud", age=LONG_AGO)
    assert obstacle(invoice, Wanted.REPEAT) == ""
    assert invoice.reconcile(resubmit=True).code == "still_open"
    assert shop_rule.asked == []
    assert ScriptedProvider.of("cryptocloud").lookup_count == 1
    assert count_requests() == 0


def test_veto_is_reported_before_a_temporary_reason(shop_rule, settings):
    shop_rule.forbid()
    invoice = make_invoice()
    settings.INVOICE_CANCEL = {**settings.INVOICE_CANCEL, "SEND": False}
    invoice._writer.pause("firekassa", "rate_limited", 600)
    assert obstacle(invoice) == "vetoed"
    assert services.cancel_invoice(invoice).code == "vetoed"
    assert count_requests() == 0


# -- single calls -------------------------------------------------------------------------------------------------


def test_vetoed_cancellation_raises_and_writes_nothing(shop_rule):
    shop_rule.forbid()
    invoice = make_invoice(reference="order-17")
    error = cancel_error(invoice.cancel)
    assert type(error) is CancelNotPossible
    assert error.result.outcome == "skipped"
    assert error.result.code == "vetoed"
    assert error.result.status == "created"
    assert error.result.veto_reason == SHIPPED
    assert not error.result.has_veto_failed
    assert str(error.result.message) == SENTENCE
    assert json.loads(json.dumps(error.result.as_dict()))["veto_reason"] == SHIPPED
    assert shop_rule.asked == [invoice.external_id]
    assert log_entries(invoice) == []
    assert count_requests() == 0


def test_status_in_the_row_is_reported_before_the_veto(shop_rule):
    shop_rule.forbid()
    invoice = make_invoice()
    stored(invoice).observe_status("paid")
    assert services.cancel_invoice(invoice).code == "has_payment"
    assert stored(invoice).status == "paid"
    assert count_requests() == 0


def test_shop_is_asked_once_for_a_claim_that_is_lost(shop_rule):
    invoice = make_invoice()
    shop_rule.forbid(answer=lambda asked: set_columns(asked, status="expired"))
    assert services.cancel_invoice(invoice).code == "closed"
    assert shop_rule.asked == [invoice.external_id]
    assert count_requests() == 0


def test_shop_is_asked_outside_of_transactions(shop_rule):
    shop_rule.forbid(answer=lambda invoice: str(connection.in_atomic_block))
    assert cancel_error(make_invoice().cancel).result.veto_reason == "False"
    assert count_requests() == 0


def test_cancellation_in_a_transaction_is_refused_before_the_shop_is_asked(shop_rule):
    shop_rule.forbid()
    invoice = make_invoice()
    with transaction.atomic(), pytest.raises(CancelInTransaction):
        invoice.cancel()
    assert shop_rule.asked == []
    assert log_entries(invoice) == []
    assert count_requests() == 0


def read_a_missing_table(invoice):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM no_such_table")


def test_database_error_of_the_shop_does_not_break_the_transaction(shop_rule):
    shop_rule.forbid(answer=read_a_missing_table)
    invoice = make_invoice()
    with transaction.atomic():
        veto = obstacle(invoice)
        assert Invoice.objects.filter(pk=invoice.pk).exists()
        assert invoice.observe_status("expired")
    assert isinstance(veto, Veto)
    assert veto.is_failure
    assert stored(invoice).status == "expired"
    assert count_requests() == 0


def test_setting_of_the_wrong_type_sends_nothing(shop_rule, settings):
    invoice = make_invoice()
    settings.INVOICE_CANCEL = {**settings.INVOICE_CANCEL, "VETO": print}
    assert services.cancel_invoice(invoice).code == "misconfigured"
    assert isinstance(account_of("firekassa"), ImproperlyConfigured)
    assert log_entries(invoice) == []
    settings.INVOICE_CANCEL = {**settings.INVOICE_CANCEL, "VETO": None}
    assert count_requests() == 0


# -- requested cancellations --------------------------------------------------------------------------------------


def request(invoice):
    with transaction.atomic():
        assert invoice.cancel_on_commit(actor="shop")


def test_vetoed_request_stays_requested(shop_rule):
    shop_rule.forbid()
    invoice = make_invoice()
    request(invoice)
    assert shop_rule.asked == [invoice.external_id]
    assert log_entries(invoice) == [("created", "created", "", "requested")]
    assert list(Invoice.objects.requested()) == [invoice]
    assert count_requests() == 0


def test_request_is_stored_without_a_question_and_asked_after_the_commit(shop_rule):
    invoice = make_invoice()
    shop_rule.forbid(answer=lambda asked: str(connection.in_atomic_block))
    with transaction.atomic():
        assert invoice.cancel_on_commit()
        assert shop_rule.asked == []
    assert shop_rule.asked == [invoice.external_id]
    assert Invoice.objects.requested().count() == 1
    assert count_requests() == 0


# -- repeats ------------------------------------------------------------------------------------------------------


def test_vetoed_repeat_leaves_the_invoice_in_doubt(shop_rule):
    shop_rule.forbid()
    invoice = make_invoice("in_doubt", age=LONG_AGO)
    before = Invoice.objects.values().get()
    log = InvoiceTransition.objects.count()
    result = invoice.reconcile(resubmit=True)
    assert result.outcome == "in_doubt"
    assert result.code == "vetoed"
    assert result.veto_reason == SHIPPED
    assert str(result.message).startswith(SENTENCE)
    assert str(result.message).endswith("Look it up in the dashboard of Scripted provider, then resolve it.")
    assert Invoice.objects.values().get() == before
    assert InvoiceTransition.objects.count() == log
    assert shop_rule.asked == [invoice.external_id]
    assert count_requests() == 0


def test_repeat_is_sent_when_the_veto_has_ended(shop_rule):
    shop_rule.forbid()
    invoice = make_invoice("in_doubt", age=LONG_AGO)
    invoice.reconcile(resubmit=True)
    shop_rule.allow()
    assert invoice.reconcile(resubmit=True).ok
    assert stored(invoice).status == "canceled"
    assert count_requests() == 1
