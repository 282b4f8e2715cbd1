"""MariaDB and MySQL with tables or connections that lack characters: a text never loses the record that contains it."""

import pytest
from django.core.checks import run_checks
from django.db import OperationalError, connection

from django_invoice_cancel import checks
from django_invoice_cancel.domain.outcomes import Code, Outcome, ProviderReply
from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.operations import advance
from django_invoice_cancel.testing import make_invoice

pytestmark = [
    pytest.mark.mysql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.scripted_providers("shop"),
]

TEXT = "оплачен 😀"
STORED = {
    "utf8mb4": TEXT,
    "utf8mb3": "оплачен \\U0001f600",
    "latin1": "\\u043e\\u043f\\u043b\\u0430\\u0447\\u0435\\u043d \\U0001f600",
    "ascii": "\\u043e\\u043f\\u043b\\u0430\\u0447\\u0435\\u043d \\U0001f600",
}


def confirmation(text):
    return ProviderReply(Outcome.CANCELED, Code.CANCELED, provider_message=text)


@pytest.mark.parametrize("charset", STORED)
def test_confirmed_cancellation_is_recorded_in_tables_with_a_charset(charset, scripted_provider, tables_in):
    tables_in(charset)
    scripted_provider.next_cancels(confirmation(TEXT))
    invoice = make_invoice()
    result = invoice.cancel(actor=TEXT, reason=TEXT)
    assert result.ok is True
    assert result.is_recorded is True
    assert Invoice.objects.get().status == "canceled"
    rows = invoice.transitions.values_list("to_status", "actor_label", "reason", "provider_message")
    assert list(rows) == [
        ("canceling", STORED[charset], STORED[charset], ""),
        ("canceled", STORED[charset], STORED[charset], STORED[charset]),
    ]
    assert scripted_provider.cancel_count == 1


@pytest.mark.parametrize("charset", ["utf8mb3", "latin1"])
def test_confirmed_cancellation_is_recorded_over_a_connection_with_a_charset(charset, scripted_provider, connection_in):
    connection_in(charset)
    scripted_provider.next_cancels(confirmation(TEXT))
    result = make_invoice().cancel(reason="asked by phone")
    assert result.ok is True
    assert result.is_recorded is True
    connection_in("utf8mb4")
    invoice = Invoice.objects.get()
    assert invoice.status == "canceled"
    assert invoice.transitions.last().provider_message == STORED[charset]
    assert scripted_provider.cancel_count == 1


@pytest.mark.parametrize("charset", ["utf8mb3", "latin1"])
def test_payment_is_recorded_in_tables_with_a_charset(charset, scripted_provider, tables_in):
    tables_in(charset)
    invoice = make_invoice()
    assert invoice.observe_status("paid", reason=TEXT, actor=TEXT)
    assert Invoice.objects.get().status == "paid"
    assert invoice.transitions.last().reason == STORED[charset]


def test_long_message_is_cut_after_it_was_escaped(scripted_provider, tables_in):
    tables_in("latin1")
    scripted_provider.next_cancels(confirmation("ж" * 500))
    invoice = make_invoice()
    assert invoice.cancel().is_recorded
    assert invoice.transitions.last().provider_message == ("\\u0436" * 84)[:500]


@pytest.mark.parametrize("charset", ["utf8mb3", "latin1"])
def test_bulk_operation_is_executed_in_tables_with_a_charset(charset, scripted_provider, tables_in):
    tables_in(charset)
    scripted_provider.all_cancels(confirmation(TEXT))
    invoices = [make_invoice() for _ in range(3)]
    operation = BulkOperation.objects.draft(Invoice.objects.all(), actor=TEXT, unmatched=[TEXT])
    assert operation.confirm(reason=TEXT)
    advance(operation.pk)
    operation.refresh_from_db()
    assert operation.reason == STORED[charset]
    assert operation.actor_label == STORED[charset]
    assert operation.progress == "finished"
    assert set(operation.items.values_list("outcome", "label")) == {("canceled", ""), ("skipped", STORED[charset])}
    assert {invoice.transitions.last().provider_message for invoice in invoices} == {STORED[charset]}
    assert scripted_provider.cancel_count == 3


def test_other_database_error_is_not_treated_as_a_missing_character(scripted_provider):
    """The write is tried again as a whole, not with escaped texts."""
    invoice = make_invoice()
    deadlocks = [OperationalError(1213, "Deadlock found")]

    def fail_once(execute, sql, params, many, context):
        if "invoicetransition" in sql and sql.startswith("INSERT") and deadlocks:
            raise deadlocks.pop()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(fail_once):
        assert invoice.observe_status("paid", reason=TEXT)
    assert invoice.transitions.get().reason == TEXT
    assert deadlocks == []


@pytest.mark.parametrize("charset", ["utf8mb3", "latin1"])
def test_check_names_columns_that_lack_characters(charset, tables_in):
    def found():
        return [each for each in run_checks(databases=["default"]) if each.id == f"{checks.TAG}.W011"]

    assert found() == []
    tables_in(charset)
    (warning,) = found()
    assert f"invoice_cancel_invoicetransition.provider_message ({charset})" in warning.msg


def test_check_reads_no_database_that_was_not_named(tables_in, django_assert_num_queries):
    tables_in("latin1")
    with django_assert_num_queries(0):
        assert not [each for each in run_checks() if each.id == f"{checks.TAG}.W011"]


def test_check_ignores_an_unreachable_database(monkeypatch):
    def unreachable(execute, sql, params, many, context):
        raise OperationalError(2002, "no route to host")

    with connection.execute_wrapper(unreachable):
        assert checks.check_character_sets(None, databases=["default"]) == []
