"""Every page of the admin in Russian contains no English text except names. No request is sent to a provider."""

import csv
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.test import Client
from django.urls import reverse
from django.utils.translation import get_language, override

from django_invoice_cancel import operations
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.domain.outcomes import Code, Outcome
from django_invoice_cancel.models import BulkOperation, Invoice, InvoiceTransition, ProviderState
from django_invoice_cancel.models.operation import Operation, Progress
from django_invoice_cancel.testing import make_invoice
from tests.integration.locale.page_words import english, read

pytestmark = pytest.mark.django_db

NAMES = frozenset(
    {"API", "CSV", "CryptoCloud", "Django", "FireKassa", "HTTP", "ID", "INVOICE_CANCEL", "JavaScript", "SEND", "USD"}
)
DATA = frozenset({"INV", "Firekassa", "base_url", "cryptocloud", "firekassa", "make_invoice"})
STATES = (
    *("created", "requested", "refused", "canceling", "abandoned", "in_doubt", "canceled", "paid_after_cancel"),
    *("partially_paid", "paid", "overpaid", "expired", "failed"),
)
LONG_AGO = timedelta(hours=5)
ARGUMENTS = {
    "cancel": {"actor": "ада", "reason": "старые"},
    "check": {"actor": "ада", "reason": "старые"},
    "resolve": {"actor": "ада", "reason": "старые", "decision": "canceled"},
}
each_operation = pytest.mark.parametrize("operation", Operation)


@pytest.fixture
def client(db: None) -> Iterator[Client]:
    """A superuser who reads Russian. The language of the middleware is reset after the test."""
    client = Client(headers={"accept-language": "ru"})
    client.user = User.objects.create_superuser("ада")
    client.force_login(client.user)
    with override(get_language()):
        yield client


@pytest.fixture
def read_page(client: Client) -> Callable[..., str]:
    """Return a function that requests a page and returns its text, which must not contain English."""

    def get(name: str, *args: Any, query: str = "", **data: Any) -> str:
        address = reverse(f"admin:{name}", args=args) + query
        answer = client.post(address, data, follow=True) if data else client.get(address)
        assert answer.status_code == 200
        text = read(answer)
        assert english(text, NAMES | DATA) == []
        return text

    return get


def put(rows: Any, **columns: Any) -> None:
    """Write columns without the guards of the public methods."""
    QuerySet(type(rows)).filter(pk=rows.pk).update(**columns)


# -- invoices -------------------------------------------------------------------------------------------------


def test_list_of_invoices(read_page):
    for state in STATES:
        make_invoice(state, age=LONG_AGO, amount="1014.50", currency="USD", reference="7")
    ProviderState.objects.create(alias="firekassa", paused_until=utc_now() + LONG_AGO, pause_code=Code.BAD_CREDENTIALS)
    operation = operations.start(Invoice.objects.all(), actor="ада")
    put(operation, started_at=utc_now() - LONG_AGO)
    text = read_page("invoice_cancel_invoice_changelist")
    assert "Под вопросом: 1 (дольше всего — 5 ч)" in text
    assert "Прерванные операции: 1" in text
    assert "Счета под вопросом не проверяются" in text
    assert "Провайдер FireKassa не принял наши ключи доступа." in text


def test_empty_list(read_page):
    assert "Счета" in read_page("invoice_cancel_invoice_changelist", query="?q=7&attention=in_doubt")


@pytest.mark.parametrize("alias", ["firekassa", pytest.param("cryptocloud", marks=pytest.mark.slow)])
@pytest.mark.parametrize("state", STATES)
def test_pages_of_an_invoice(read_page, alias, state):
    ids = {"firekassa": "511727028", "cryptocloud": "INV-87654321"}
    invoice = make_invoice(state, provider=alias, external_id=ids[alias], age=timedelta(days=2))
    for page in ("change", "history", "cancel", "check", "resolve", "handled"):
        read_page(f"invoice_cancel_invoice_{page}", invoice.pk)


def test_lost_answer_is_described_without_a_duration(read_page):
    """Missing for 40 ms would mean that it came then."""
    invoice = make_invoice("in_doubt")
    QuerySet(InvoiceTransition).filter(invoice=invoice, to_status="in_doubt").update(code="no_answer", duration_ms=40)
    assert "запрос на отмену отправлен, ответа нет (прошло 40 мс)" in read_page(
        "invoice_cancel_invoice_change", invoice.pk
    )


def test_page_to_register_an_invoice(read_page):
    assert "Номер заказа в вашем магазине." in read_page("invoice_cancel_invoice_add")
    wrong = {"provider": "firekassa", "external_id": "1/2", "status": "created"}
    assert "Это не ID провайдера FireKassa" in read_page("invoice_cancel_invoice_add", **wrong)


def test_pages_that_record_a_decision(read_page, client):
    """The response is the page of the invoice, with a message and the decision in its timeline."""
    doubtful, late = make_invoice("in_doubt"), make_invoice("paid_after_cancel")
    decision = {"decision": "canceled", "reason": "видно в кабинете", "attempt": str(doubtful.attempt)}
    assert "Принято решение: «Отменён»." in read_page("invoice_cancel_invoice_resolve", doubtful.pk, **decision)
    assert "Счёт изменился после того" in read_page(
        "invoice_cancel_invoice_resolve", doubtful.pk, **{**decision, "attempt": ""}
    )
    assert "отмечена обработанной" in read_page("invoice_cancel_invoice_handled", late.pk, note="вернули деньги")
    assert "уже была обработана" in read_page("invoice_cancel_invoice_handled", late.pk, note="вернули деньги")


# -- operations -----------------------------------------------------------------------------------------------


@each_operation
def test_confirmation(read_page, client, operation):
    for state in STATES:
        make_invoice(state)
    make_invoice(provider="cryptocloud")
    put(make_invoice(), provider="бывший")
    ProviderState.objects.create(alias="cryptocloud", failures=3)
    Invoice.objects.bulk_create(
        Invoice(provider="firekassa", external_id=f"9{i}", status="in_doubt") for i in range(25)
    )
    draft = BulkOperation.objects.draft(
        Invoice.objects.all(), operation=operation, actor=client.user, unmatched=["заказ без счёта"]
    )
    text = read_page("invoice_cancel_bulkoperation_operation", draft.pk)
    assert "Причины:" in text
    assert "Счёт не найден: 1" in text


def test_confirmation_without_an_eligible_invoice(read_page, client):
    make_invoice("paid")
    draft = BulkOperation.objects.draft(Invoice.objects.all(), actor=client.user)
    assert "Эти счета нельзя отменить" in read_page("invoice_cancel_bulkoperation_operation", draft.pk)


def test_confirmation_of_another_users_selection(read_page):
    make_invoice()
    draft = BulkOperation.objects.draft(Invoice.objects.all(), actor="вера")
    assert "тот, кто выбрал счета: вера" in read_page("invoice_cancel_bulkoperation_operation", draft.pk)


def test_wrong_answers_to_the_confirmation(read_page, client):
    Invoice.objects.bulk_create(
        Invoice(provider="firekassa", external_id=f"9{i}", status="in_doubt") for i in range(25)
    )
    draft = BulkOperation.objects.draft(Invoice.objects.all(), operation="resolve", actor=client.user)
    assert "Счетов: 25." in read_page("invoice_cancel_bulkoperation_confirm", draft.pk, typed_count="24")


@each_operation
@pytest.mark.parametrize(
    "dispatch",
    [None, pytest.param("tests.integration.locale.test_pages.discard", marks=pytest.mark.slow)],
    ids=["by the page", "by workers"],
)
@pytest.mark.parametrize("state", ["running", "quiet", "paused", "stopped"])
def test_progress(read_page, settings, operation, dispatch, state):
    settings.INVOICE_CANCEL = {**settings.INVOICE_CANCEL, "DISPATCH": dispatch}
    done = [make_invoice(), make_invoice()]
    make_invoice()
    running = operations.start(Invoice.objects.all(), operation=operation, **ARGUMENTS[operation])
    running.items.conclude(
        [(done[0].pk, Outcome.CANCELED, Code.CANCELED), (done[1].pk, Outcome.IN_DOUBT, Code.NO_ANSWER)]
    )
    if state == "quiet":
        put(running, started_at=utc_now() - LONG_AGO)
    if state == "paused":
        until = utc_now() + LONG_AGO
        ProviderState.objects.create(alias="firekassa", paused_until=until, pause_code=Code.RATE_LIMITED)
    if state == "stopped":
        running.stop()
    assert "2 из 3" in read_page("invoice_cancel_bulkoperation_operation", running.pk)


@pytest.mark.slow
@each_operation
def test_report_with_every_code(read_page, client, operation):
    outcomes = dict.fromkeys(Code, Outcome.SKIPPED) | {
        Code.NO_ANSWER: Outcome.IN_DOUBT,
        Code.UNREACHABLE: Outcome.NOT_PROCESSED,
        Code.PROVIDER_REFUSED: Outcome.REFUSED,
        Code.STILL_OPEN: Outcome.NOT_PROCESSED,
        Code.CANCELED: Outcome.CANCELED,
        Code.ALREADY_CANCELED: Outcome.ALREADY_CANCELED,
        "a_word_of_its_own": Outcome.IN_DOUBT,
    }
    invoices = Invoice.objects.bulk_create(
        Invoice(provider="firekassa", external_id=f"9{i}", amount="1.5", currency="USD")
        for i in range(len(outcomes) + 1)
    )
    finished = operations.start(Invoice.objects.all(), operation=operation, **ARGUMENTS[operation])
    results = [
        (invoice.pk, outcome, code) for invoice, (code, outcome) in zip(invoices, outcomes.items(), strict=False)
    ]
    finished.items.conclude(results)
    finished.finish()
    assert finished.progress == Progress.FINISHED
    assert "По причинам" in read_page("invoice_cancel_bulkoperation_operation", finished.pk)
    read_page("invoice_cancel_bulkoperation_changelist")
    head, *rows = _csv(client, finished)
    assert english(" ".join(head), NAMES) == []
    assert english(" ".join(row[5] + row[7] + row[8] for row in rows), NAMES | DATA) == []
    assert len(rows) == len(outcomes) + 1


def _csv(client: Client, operation: BulkOperation) -> list[list[str]]:
    answer = client.get(reverse("admin:invoice_cancel_bulkoperation_csv", args=[operation.pk]))
    return list(csv.reader(answer.getvalue().decode("utf-8-sig").splitlines()))


def discard(operation_id: str) -> None:
    """A dispatcher whose workers never come."""
