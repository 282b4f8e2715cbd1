"""The page of an invoice shows its state first, then the actions that are possible now, then its history."""

from datetime import timedelta

import pytest
import time_machine

from django_invoice_cancel.admin.invoices.timeline import MAX_EVENTS
from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.domain.outcomes import Outcome, ProviderReply
from django_invoice_cancel.models import ProviderState
from django_invoice_cancel.services.cancel import cancel_requested
from django_invoice_cancel.testing import make_invoice
from tests.support.html import element_texts
from tests.support.invoice_pages import changelist_url, invoice_url
from tests.support.invoices import stored

pytestmark = pytest.mark.django_db

CANCEL, CHECK, RESOLVE, HANDLED = "Cancel", "Check with provider", "Resolve…", "Mark as handled"
WITHDRAW = "Withdraw request…"

CANNOT = "Cannot cancel this invoice. "
FIRST_FIND_OUT = (
    f"{CANNOT}It is in doubt: an earlier cancel request may have been carried out. Reconcile will check it."
)
MAY_NOT = "Your account does not have the permission to cancel this invoice."
STATES = {
    "created": ("Open since 12:00. No payment received.", [CANCEL, CHECK], []),
    "requested": (
        "Open. Cancellation requested by make_invoice at 12:00; reconcile_invoices tries it after 12:01.",
        ["Cancel now", CHECK, WITHDRAW],
        [],
    ),
    "refused": ("Open. At 12:00 Scripted provider refused to cancel it.", [CANCEL, CHECK], []),
    "canceling": (
        "Being canceled since 12:00. The request to Scripted provider is in flight.",
        [],
        [f"{CANNOT}It is being canceled now."],
    ),
    "abandoned": (
        "Cancellation interrupted; it began at 11:53. "
        "The process that was canceling it has ended: it may or may not be canceled.",
        [CHECK, RESOLVE],
        [FIRST_FIND_OUT],
    ),
    "in_doubt": (
        "In doubt since 12:00. No answer from Scripted provider: it may or may not be canceled.",
        [CHECK, RESOLVE],
        [FIRST_FIND_OUT],
    ),
    "canceled": (
        "Canceled at 12:00. Scripted provider confirmed it.",
        [CHECK],
        [f"{CANNOT}It was already canceled."],
    ),
    "partially_paid": (
        "Partially paid (recorded at 12:00). Less than the amount of the invoice was received.",
        [CHECK],
        [f"{CANNOT}A payment was received for it."],
    ),
    "paid": ("Paid (recorded at 12:00).", [CHECK], [f"{CANNOT}A payment was received for it."]),
    "overpaid": (
        "Overpaid (recorded at 12:00). More than the amount of the invoice was received.",
        [CHECK],
        [f"{CANNOT}A payment was received for it."],
    ),
    "expired": (
        "Expired. Scripted provider closed it (recorded at 12:00).",
        [CHECK],
        [f"{CANNOT}It is already closed: it expired, or its payment failed."],
    ),
    "failed": (
        "Payment failed. Scripted provider closed it (recorded at 12:00).",
        [CHECK],
        [f"{CANNOT}It is already closed: it expired, or its payment failed."],
    ),
    "paid_after_cancel": (
        "Paid after cancellation (recorded at 12:00). Deliver, or return the customer's money,",
        [HANDLED, CHECK],
        [f"{CANNOT}A payment was received for it."],
    ),
}


@pytest.fixture(autouse=True)
def noon(settings):
    settings.TIME_ZONE = "UTC"
    with time_machine.travel("2026-11-21 12:00:00Z", tick=False) as clock:
        yield clock


def requested_by(invoice, actor):
    assert invoice._writer.request_cancel(invoice, AuditContext(actor, "on_commit"))
    return invoice


def offered(response):
    """The words of the buttons that the page offers."""
    return element_texts(response, "ic-button")


@pytest.mark.parametrize("story", sorted(STATES))
def test_page_describes_the_status_and_offers_actions(shop, operator, story):
    sentence, buttons, remarks = STATES[story]
    response = operator.get(invoice_url(make_invoice(story)))
    [state] = element_texts(response, "ic-state")
    assert state.startswith(sentence)
    assert offered(response) == buttons
    assert element_texts(response, "ic-remark") == remarks
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0


def test_description_contains_the_date_after_a_day(shop, operator, noon):
    invoice = make_invoice("in_doubt")
    noon.shift(timedelta(days=1))
    assert element_texts(operator.get(invoice_url(invoice)), "ic-state")[0].startswith(
        "In doubt since 21 Nov 2026, 12:00."
    )


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("unreadable_answer", "The answer of Scripted provider could not be read: it may or may not be canceled."),
        ("provider_error", "Scripted provider failed during the request: it may or may not be canceled."),
        ("redirected", "Scripted provider redirected the request: check base_url. It may or may not be canceled."),
        (
            "a_code_of_its_own",
            "The answer of Scripted provider is unclear: it may or may not be canceled.",
        ),
    ],
)
def test_description_of_a_doubt_names_its_cause(shop, operator, answer, sentence):
    shop.next_cancels(ProviderReply(Outcome.IN_DOUBT, answer))
    invoice = make_invoice()
    operator.post(invoice_url(invoice, "cancel"), {"reason": ""})
    [state] = element_texts(operator.get(invoice_url(invoice)), "ic-state")
    assert state == f"In doubt since 12:00. {sentence}"
    last = invoice.transitions.last()
    assert stored(invoice).status == "in_doubt"
    assert last.to_status == "in_doubt"
    assert last.code == answer
    assert shop.cancel_count == 1


@pytest.mark.parametrize(
    ("cancel_answer", "sentence"),
    [
        ("bad_credentials", "Last try at 12:00: Scripted provider rejected our credentials."),
        ("not_found", "Last try at 12:00: Scripted provider did not find this invoice."),
    ],
)
def test_pending_request_is_shown_with_the_last_error(shop, operator, cancel_answer, sentence):
    shop.next_cancels(cancel_answer)
    invoice = make_invoice()
    cancel_requested(requested_by(invoice, "the till"))
    [state] = element_texts(operator.get(invoice_url(invoice)), "ic-state")
    assert state == (
        "Open. Cancellation requested by the till at 12:00; reconcile_invoices tries it after 12:01. " + sentence
    )
    assert stored(invoice).status == "created"
    assert shop.cancel_count == 1


@pytest.mark.parametrize("name", ["change", "resolve", "withdraw"])
@pytest.mark.parametrize(("actor", "by"), [("the till", "by the till "), (None, "")])
def test_description_of_a_doubt_names_the_user_of_the_request(shop, operator, name, actor, by):
    shop.next_cancels("in_doubt")
    invoice = make_invoice()
    cancel_requested(requested_by(invoice, actor))
    for _ in range(MAX_EVENTS + 5):  # so many that the request is not among the latest rows
        invoice.observe_status(provider_status="frozen")
    [state] = element_texts(operator.get(invoice_url(invoice, name)), "ic-state")
    assert state.endswith(f"may or may not be canceled. Cancellation requested {by}at 12:00.")
    assert shop.cancel_count == 1


def test_description_of_a_claim_names_the_user_of_the_request(shop, operator):
    invoice = requested_by(make_invoice(), "the till")
    list(invoice._writer.claim_requested([invoice], is_try=True))
    [state] = element_texts(operator.get(invoice_url(invoice)), "ic-state")
    assert state.endswith("is in flight. Cancellation requested by the till at 12:00.")


def test_missing_button_is_explained_by_the_pause(shop, operator):
    until = utc_now() + timedelta(minutes=5)
    ProviderState.objects.create(alias="shop", paused_until=until, pause_code="bad_credentials")
    response = operator.get(invoice_url(make_invoice()))
    assert offered(response) == ["Try now"]
    assert element_texts(response, "ic-remark") == [
        f"{CANNOT}Scripted provider is paused until 12:05: Scripted provider rejected our credentials."
    ]


def test_pause_of_a_wrong_clock_is_shown_with_its_length(shop, operator):
    invoice = make_invoice()
    start = utc_now() + timedelta(hours=1)
    until = start + timedelta(minutes=5)
    ProviderState.objects.create(alias="shop", paused_at=start, paused_until=until, pause_code="rate_limited")
    for address in (changelist_url(), invoice_url(invoice)):  # the list corrects nothing, so it comes first
        assert " is paused until 12:05: Scripted provider" in operator.get(address).content.decode()


def test_missing_button_is_explained_by_the_configuration(shop, operator, settings):
    invoice = make_invoice()
    settings.INVOICE_CANCEL = {"PROVIDERS": {}}
    response = operator.get(invoice_url(invoice))
    assert offered(response) == []
    assert element_texts(response, "ic-remark")[0].startswith(
        f"{CANNOT}No request can be sent for it: Provider 'shop' is not configured"
    )


@pytest.mark.parametrize(
    ("actions", "buttons", "remarks"),
    [
        (["view"], [], [MAY_NOT]),
        (
            ["view", "cancel"],
            [CHECK],
            [FIRST_FIND_OUT],
        ),
        (["view", "resolve"], [RESOLVE], [MAY_NOT]),
    ],
    ids=["view", "cancel", "resolve"],
)
def test_actions_without_permission_are_not_offered(shop, client_with, actions, buttons, remarks):
    response = client_with(*actions).get(invoice_url(make_invoice("in_doubt")))
    assert offered(response) == buttons
    assert element_texts(response, "ic-remark") == remarks
