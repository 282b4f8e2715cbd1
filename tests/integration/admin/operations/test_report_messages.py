"""The provider's messages in the report and its file, and the follow-up at a provider that cannot be asked."""

import csv
import io
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.domain.outcomes import Code, Outcome, ProviderReply
from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.testing import ScriptedProvider
from tests.support.html import element_texts, page_text
from tests.support.invoices import count_statuses, set_columns
from tests.support.logs import count_answers
from tests.support.operation_pages import operation_url, run_slice

pytestmark = pytest.mark.django_db(transaction=True)


def refusal(text, **fields):
    return ProviderReply(Outcome.REFUSED, Code.PROVIDER_REFUSED, http_status=409, provider_message=text, **fields)


@pytest.fixture
def reported(scripted_provider, operator_client, invoices, choose):
    """Return a function that cancels an invoice for each of these answers, and returns the operation."""

    def report(*answers, **fields):
        provider = ScriptedProvider.of("firekassa")
        chosen = invoices(len(answers), **fields)
        for invoice, answer in zip(chosen, answers, strict=True):
            provider.next_cancels(answer, external_id=invoice.external_id)
        draft = choose(operator_client, chosen)
        operator_client.post(operation_url(draft, "confirm"), {"reason": "too old"})
        run_slice(operator_client, draft)
        return draft

    return report


def file_lines(client, operation):
    answer = client.get(operation_url(operation, "csv"))
    content = answer.getvalue()
    assert content.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))


MESSAGE = "Provider's message or error"


def test_report_and_file_show_the_message_of_each_invoice(scripted_provider, operator_client, reported):
    confirmed = ProviderReply(Outcome.CANCELED, Code.CANCELED, http_status=200, provider_message="{}")
    operation = reported(refusal("Счёт <b>закрыт</b>"), confirmed, refusal("closed yesterday"))
    shown = operator_client.get(operation_url(operation))
    assert element_texts(shown, "bo-message") == [
        "Provider's message: Счёт <b>закрыт</b>",
        "Provider's message: closed yesterday",
    ]
    assert [row[MESSAGE] for row in file_lines(operator_client, operation)] == [
        "Счёт <b>закрыт</b>",
        "{}",
        "closed yesterday",
    ]
    assert scripted_provider.cancel_count == 3
    assert count_statuses() == {"canceled": 1, "created": 2}
    assert count_answers() == {"canceled": 1, "provider_refused": 2}


def test_error_of_a_request_is_not_called_a_message_of_the_provider(scripted_provider, operator_client, reported):
    operation = reported(ProviderReply(Outcome.IN_DOUBT, Code.NO_ANSWER, provider_message="ReadTimeout"))
    shown = operator_client.get(operation_url(operation))
    assert element_texts(shown, "bo-message") == ["Error message: ReadTimeout"]
    assert scripted_provider.cancel_count == 1
    assert count_statuses() == {"in_doubt": 1}


def test_message_of_another_operation_is_not_shown(scripted_provider, operator_client, reported, choose):
    reported(refusal("first"))
    invoice = Invoice.objects.get()
    second = choose(operator_client, [invoice])
    operator_client.post(operation_url(second, "confirm"), {"reason": "too old"})
    set_columns(invoice, status="canceling", claim_expires_at=utc_now() + timedelta(minutes=1))
    run_slice(operator_client, second)
    assert "Skipped" in page_text(operator_client.get(operation_url(second)))
    assert element_texts(operator_client.get(operation_url(second)), "bo-message") == []
    assert scripted_provider.cancel_count == 1
    assert count_statuses() == {"canceling": 1}


def test_message_of_an_answer_after_which_an_invoice_still_waits_is_not_its_outcome(
    scripted_provider, operator_client, reported
):
    limited = ProviderReply(Outcome.NOT_PROCESSED, Code.RATE_LIMITED, retry_after=60.0, provider_message="slow down")
    operation = reported(limited)
    shown = operator_client.get(operation_url(operation))
    assert "Not tried" in page_text(shown)
    assert element_texts(shown, "bo-message") == []
    assert scripted_provider.cancel_count == 1
    assert count_statuses() == {"created": 1}


def test_messages_take_one_query_for_any_number_of_rows(scripted_provider, operator_client, reported, monkeypatch):
    monkeypatch.setattr("django_invoice_cancel.admin.operations.report.ROW_BATCH_SIZE", 100)
    few, many = reported(refusal("one")), reported(*[refusal("many")] * 20)
    counts = []
    for operation in (few, many):
        for page in ("operation", "csv"):
            with CaptureQueriesContext(
                connection,
            ) as queries:
                answer = operator_client.get(operation_url(operation, page))
                answer.getvalue() if answer.streaming else answer.content
            counts.append(len(queries))
    assert counts[:2] == counts[2:]
    assert scripted_provider.cancel_count == 21


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "a\n=", "a\r\n@"], ids=ascii)
def test_no_cell_of_the_file_is_a_formula(scripted_provider, operator_client, reported, start):
    formula = f"{start}SUM(A1)"
    operation = reported(refusal(formula))
    set_columns(Invoice.objects.get(), external_id="=1+1", reference=formula, currency="=A1")
    operation.items.update(code="@code", provider="-shop")
    operation.add_unmatched([formula])
    cells = [cell for row in file_lines(operator_client, operation) for cell in row.values()]
    starts = [line[:1] for cell in cells for line in cell.splitlines()]
    assert not {*"=+-@\t\r"} & set(starts)
    assert "'=1+1" in cells
    assert scripted_provider.cancel_count == 1


# -- a provider that cannot be asked --------------------------------------------------------------------------


@pytest.fixture
def without_lookup(scripted_provider, settings):
    """The account as FireKassa is by default: no lookup, and a repeated cancel request is harmless."""
    config = settings.INVOICE_CANCEL["PROVIDERS"]["firekassa"]
    options = {**config.get("OPTIONS", {}), "supports_lookup": False, "is_repeat_harmless": True}
    providers = settings.INVOICE_CANCEL["PROVIDERS"] | {"firekassa": {**config, "OPTIONS": options}}
    settings.INVOICE_CANCEL = settings.INVOICE_CANCEL | {"PROVIDERS": providers}
    return ScriptedProvider.of("firekassa")


def test_refused_invoices_without_a_lookup_have_no_check(without_lookup, operator_client, reported):
    operation = reported("refused", "refused")
    assert "Check these" not in page_text(operator_client.get(operation_url(operation)))
    group = {"outcome": "refused", "code": "provider_refused", "provider": "firekassa"}
    group = {"outcome": "refused", "code": "provider_refused", "provider": "firekassa"}
    assert operator_client.post(operation_url(operation, "again"), group).status_code == 403, "only Resolve can follow"
    assert BulkOperation.objects.get() == operation
    assert without_lookup.cancel_count == 2
    assert without_lookup.lookup_count == 0
    assert count_statuses() == {"created": 2}
    assert count_answers() == {"provider_refused": 2}


def test_doubt_without_a_lookup_can_be_checked_after_the_doubt_period(without_lookup, operator_client, reported):
    operation = reported("in_doubt", "refused")
    assert "Check these" not in page_text(operator_client.get(operation_url(operation)))
    group = {"outcome": "in_doubt", "code": "no_answer", "provider": "firekassa"}
    answer = operator_client.post(operation_url(operation, "again"), group)
    assert answer.headers["Location"] == operation_url(operation)
    assert BulkOperation.objects.get() == operation
    long_ago = utc_now() - timedelta(days=1)
    set_columns(Invoice.objects.get(status="in_doubt"), status_changed_at=long_ago, claim_expires_at=long_ago)
    assert page_text(operator_client.get(operation_url(operation))).count("Check these") == 1
    assert without_lookup.cancel_count == 2
    assert count_statuses() == {"created": 1, "in_doubt": 1}
