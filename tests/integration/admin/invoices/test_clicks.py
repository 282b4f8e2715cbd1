"""One click: at most one request, one message, one admin log entry, and user and reason in the invoice's log."""

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.db import OperationalError, connections
from django.db.models import QuerySet

from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.domain.outcomes import Outcome, ProviderReply
from django_invoice_cancel.models import ProviderState
from django_invoice_cancel.models.writes.answers import AnswerWriter
from django_invoice_cancel.services.cancel import cancel_invoice, cancel_requested
from django_invoice_cancel.testing import make_invoice
from tests.support.html import element_texts, link_addresses, shown_messages
from tests.support.invoice_pages import PAGES, invoice_url
from tests.support.invoices import stored

pytestmark = pytest.mark.django_db


def entries(invoice):
    return list(LogEntry.objects.filter(object_id=str(invoice.pk)).values_list("change_message", flat=True))


def log(invoice):
    """The log without its first rows, which made the invoice what it is."""
    fields = ("from_status", "to_status", "code", "trigger", "actor_label", "reason")
    return list(invoice.transitions.exclude(actor_label="make_invoice").values_list(*fields))


def put_back(invoice, age):
    """Let the last attempt be as old as this."""
    QuerySet(type(invoice)).filter(pk=invoice.pk).update(claim_expires_at=utc_now() - age)


# -- cancel ---------------------------------------------------------------------------------------------------


ANSWERS = {
    "canceled": (None, "canceled", "canceled", ("success", "Scripted provider confirmed the cancellation.")),
    "already": (
        ProviderReply(Outcome.ALREADY_CANCELED, "already_canceled"),
        "canceled",
        "already_canceled",
        ("success", "It was already canceled."),
    ),
    "refused": (
        ProviderReply(Outcome.REFUSED, "provider_refused"),
        "created",
        "provider_refused",
        ("warning", "Scripted provider refused to cancel it."),
    ),
    "not processed": (
        ProviderReply(Outcome.NOT_PROCESSED, "unreachable"),
        "created",
        "unreachable",
        ("warning", "Scripted provider could not be reached; nothing was sent."),
    ),
    "in doubt": (
        ProviderReply(Outcome.IN_DOUBT, "no_answer"),
        "in_doubt",
        "no_answer",
        ("warning", "No answer from Scripted provider: it may or may not be canceled."),
    ),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_cancel_sends_one_request_and_shows_the_result(shop, operator, answer):
    reply, status, code, (level, text) = ANSWERS[answer]
    shop.next_cancels(reply)
    invoice = make_invoice()
    response = operator.post(invoice_url(invoice, "cancel"), {"reason": "too old"})
    assert response["Location"] == invoice_url(invoice)
    assert shown_messages(response) == [(level, f"{invoice}: {text}")]
    assert entries(invoice) == [f"Cancel: {text}"]
    assert stored(invoice).status == status
    assert {row[3:] for row in log(invoice)} == {("admin", operator.user.username, "too old")}
    assert [row[:3] for row in log(invoice)] == [("created", "canceling", ""), ("canceling", status, code)]
    assert shop.cancels == [invoice.external_id]


def test_second_click_sends_no_request(shop, operator):
    invoice = make_invoice("canceled")
    response = operator.post(invoice_url(invoice, "cancel"), {"reason": ""})
    assert shown_messages(response) == [("success", f"{invoice}: It was already canceled.")]
    assert len(entries(invoice)) == 1
    assert shop.cancel_count == 0


@pytest.mark.parametrize(
    ("story", "why"),
    [
        ("in_doubt", "It is in doubt: an earlier cancel request may have been carried out. Reconcile will check it."),
        ("canceling", "It is being canceled now."),
        ("paid", "A payment was received for it."),
        ("expired", "It is already closed: it expired, or its payment failed."),
    ],
)
def test_ineligible_invoice_has_an_explanation_instead_of_a_button(shop, operator, story, why):
    invoice = make_invoice(story)
    response = operator.get(invoice_url(invoice, "cancel"))
    assert element_texts(response, "title")[0].startswith("Cannot cancel this invoice")
    assert element_texts(response, "ic-remark") == [why]
    assert element_texts(response, "ic-field") == []
    operator.post(invoice_url(invoice, "cancel"), {"reason": ""})
    assert stored(invoice).status == invoice.status
    assert shop.cancel_count == 0


@pytest.mark.parametrize(("required", "status"), [(True, "created"), (False, "canceled")])
def test_reason_is_required_by_the_setting(configure, operator, required, status):
    shop = configure(REQUIRE_REASON=required)
    invoice = make_invoice()
    response = operator.post(invoice_url(invoice, "cancel"), {"reason": "  "})
    assert response.status_code == (200 if required else 302)
    assert element_texts(response, "errorlist") == (["This field is required."] if required else [])
    assert stored(invoice).status == status
    assert len(entries(invoice)) == (not required)
    assert shop.cancel_count == (not required)


def test_answer_that_cannot_be_recorded_is_shown_as_an_error(shop, operator, monkeypatch):
    def fail(*args, **kwargs):
        raise OperationalError("the disk is full")

    monkeypatch.setattr(AnswerWriter, "record", fail)
    invoice = make_invoice()
    [(level, text)] = shown_messages(operator.post(invoice_url(invoice, "cancel"), {"reason": ""}))
    assert level == "error"
    assert text.endswith("Reconcile will check the invoice again.") is True
    assert stored(invoice).status == "canceling"
    assert len(entries(invoice)) == 1
    assert shop.cancel_count == 1
    assert [row[:3] for row in log(invoice)] == [("created", "canceling", "")]


# -- check ----------------------------------------------------------------------------------------------------


CHECKS = {
    # story, the provider's truth, what is left: the status, the codes of the rows that were added; what is said
    "canceled": ("in_doubt", "canceled", "canceled", ["observed"], ("success", "It was already canceled.")),
    "still open, too early": (
        "in_doubt",
        "created",
        "in_doubt",
        ["still_open"],
        ("warning", "Scripted provider reports it as still open."),
    ),
    "open": ("created", "created", "created", [], ("info", "Scripted provider reports it as still open.")),
    "paid": ("created", "paid", "paid", ["observed"], ("info", "A payment was received for it.")),
    "expired": (
        "created",
        "expired",
        "expired",
        ["observed"],
        ("info", "It is already closed: it expired, or its payment failed."),
    ),
    "left behind": (
        "abandoned",
        "canceled",
        "canceled",
        ["abandoned", "observed"],
        ("success", "It was already canceled."),
    ),
}


@pytest.mark.parametrize("case", CHECKS)
def test_check_sends_one_lookup(shop, operator, case):
    story, truth, status, codes, (level, text) = CHECKS[case]
    invoice = make_invoice(story)
    shop.set_status(invoice.external_id, truth)
    response = operator.post(invoice_url(invoice, "check"))
    assert shown_messages(response) == [(level, f"{invoice}: {text}")]
    assert entries(invoice) == [f"Check with provider: {text}"]
    assert {row[3:5] for row in log(invoice)} == ({("admin", operator.user.username)} if case != "open" else set())
    assert stored(invoice).status == status
    assert [row[2] for row in log(invoice)] == codes
    assert shop.cancel_count == 0
    assert shop.lookups == [(invoice.external_id,)]


def test_unanswered_lookup_changes_nothing(shop, operator):
    shop.all_lookups(TimeoutError)
    invoice = make_invoice("in_doubt")
    [(level, _text)] = shown_messages(operator.post(invoice_url(invoice, "check")))
    assert level == "warning"
    assert stored(invoice).status == "in_doubt"
    assert log(invoice) == []
    assert shop.cancel_count == 0
    assert shop.lookup_count == 1


def test_repeated_request_needs_a_confirmation(configure, operator):
    """Without a lookup, checking is a repeat of the cancel: one click alone sends nothing."""
    shop = configure(supports_lookup=False, is_repeat_harmless=True)
    invoice = make_invoice("in_doubt", age=timedelta(hours=1))
    offered = operator.get(invoice_url(invoice))
    assert element_texts(offered, "ic-button") == ["Check with provider", "Resolve…"]
    assert invoice_url(invoice, "check") in link_addresses(offered)
    asked = operator.post(invoice_url(invoice, "check"))
    assert asked.status_code == 200
    assert element_texts(asked, "ic-amber")[0].endswith("Otherwise the invoice is canceled.")
    assert entries(invoice) == []
    assert shop.cancel_count == 0
    response = operator.post(invoice_url(invoice, "check"), {"repeat": "yes"})
    assert shown_messages(response) == [("success", f"{invoice}: Scripted provider confirmed the cancellation.")]
    assert stored(invoice).status == "canceled"
    assert len(entries(invoice)) == 1
    assert shop.cancel_count == 1
    assert {row[3:5] for row in log(invoice)} == {("admin", operator.user.username)}


TOO_EARLY = "may still carry out the lost request. Wait. The cancel request can be repeated after "


@pytest.mark.parametrize(
    ("options", "age", "why"),
    [
        (
            {"is_repeat_harmless": True},
            timedelta(minutes=1),
            TOO_EARLY,
        ),
        (
            {},
            timedelta(hours=1),
            "Scripted provider offers no status lookup. "
            "Look it up in the dashboard of Scripted provider, then resolve it.",
        ),
    ],
    ids=["too early", "a repeat may harm"],
)
def test_impossible_repeat_is_explained(configure, operator, options, age, why):
    shop = configure(supports_lookup=False, **options)
    invoice = make_invoice("in_doubt", age=age)
    response = operator.get(invoice_url(invoice))
    assert element_texts(response, "ic-button") == ["Resolve…"]
    assert why in element_texts(response, "ic-remark")[1]
    assert why in element_texts(operator.get(invoice_url(invoice, "check")), "ic-remark")[0]
    operator.post(invoice_url(invoice, "check"), {"repeat": "yes"})
    assert stored(invoice).status == "in_doubt"
    assert shop.cancel_count == 0


def test_withdrawn_request_is_not_repeated(configure, operator):
    shop = configure(supports_lookup=False, is_repeat_harmless=True)
    shop.next_cancels("in_doubt")
    invoice = make_invoice("requested")
    cancel_requested(invoice)
    stored(invoice).withdraw(actor="ada")
    put_back(invoice, timedelta(hours=1))
    assert (
        "was withdrawn. Look it up in the dashboard of Scripted provider"
        in element_texts(operator.get(invoice_url(invoice)), "ic-remark")[1]
    )
    operator.post(invoice_url(invoice, "check"), {"repeat": "yes"})
    assert stored(invoice).status == "in_doubt"
    assert shop.cancel_count == 1


def test_after_three_repeats_only_resolve_is_offered(configure, operator):
    shop = configure(supports_lookup=False, is_repeat_harmless=True)
    shop.all_cancels(ProviderReply(Outcome.IN_DOUBT, "no_answer"))
    invoice = make_invoice("in_doubt", age=timedelta(hours=1))
    for _time in range(3):
        operator.post(invoice_url(invoice, "check"), {"repeat": "yes"})
        _long_ago(invoice)
    assert element_texts(operator.get(invoice_url(invoice, "check")), "ic-remark") == [
        "The cancel request was repeated without success. "
        "Look it up in the dashboard of Scripted provider, then resolve it."
    ]
    operator.post(invoice_url(invoice, "check"), {"repeat": "yes"})
    assert stored(invoice).status == "in_doubt"
    assert shop.cancel_count == 3
    assert [row[:3] for row in log(invoice)] == [
        ("in_doubt", "canceling", ""),
        ("canceling", "in_doubt", "no_answer"),
    ] * 3


def _long_ago(invoice):
    row = stored(invoice)
    QuerySet(type(row)).filter(pk=row.pk).update(claim_expires_at=row.claim_expires_at - timedelta(hours=1))


# -- resolve --------------------------------------------------------------------------------------------------


def test_resolve_records_the_decision(shop, operator):
    invoice = make_invoice("in_doubt")
    response = operator.post(
        invoice_url(invoice, "resolve"), {"decision": "canceled", "reason": "seen there", "attempt": invoice.attempt}
    )
    assert shown_messages(response) == [("success", f"{invoice}: Resolved as “Canceled”.")]
    assert entries(invoice) == ["Resolved as “Canceled”. seen there"]
    assert log(invoice) == [("in_doubt", "canceled", "resolved", "operator", operator.user.username, "seen there")]
    [state] = element_texts(operator.get(invoice_url(invoice)), "ic-state")
    assert f"by decision of {operator.user.username}, not by a report of Scripted provider." in state
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0


def test_decision_about_another_attempt_is_rejected(shop, operator):
    """While the form was open, somebody checked and repeated: the person saw another doubt."""
    invoice = make_invoice("in_doubt")
    form = operator.get(invoice_url(invoice, "resolve")).context["form"]
    data = {"decision": "canceled", "reason": "seen", "attempt": form["attempt"].value()}
    assert str(data["attempt"]) == str(invoice.attempt)
    invoice._writer.claim([invoice], AuditContext("somebody else"), before="in_doubt")
    before = len(log(invoice))
    [(level, text)] = shown_messages(operator.post(invoice_url(invoice, "resolve"), data))
    assert level == "warning"
    assert "has changed since you opened it" in text
    assert stored(invoice).status == "canceling"
    assert len(log(invoice)) == before
    assert entries(invoice) == []
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0


def test_invoice_that_is_no_longer_in_doubt_is_not_resolved(shop, operator):
    invoice = make_invoice("in_doubt")
    data = {"decision": "canceled", "reason": "seen", "attempt": invoice.attempt}
    invoice.observe_status("paid")
    assert element_texts(operator.get(invoice_url(invoice, "resolve")), "title")[0].startswith(
        "Cannot resolve this invoice"
    )
    [(level, text)] = shown_messages(operator.post(invoice_url(invoice, "resolve"), data))
    assert level == "warning"
    assert "It needs no decision: it is neither in doubt nor contradicted" in text
    assert stored(invoice).status == "paid"
    assert entries(invoice) == []
    assert [row[:3] for row in log(invoice)] == [("in_doubt", "paid", "observed")]
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0


@pytest.mark.parametrize(
    ("age", "offers"), [(timedelta(), False), (timedelta(hours=1), True)], ids=["at once", "after the doubt period"]
)
def test_invoice_can_be_resolved_as_open_after_the_doubt_period(shop, operator, age, offers):
    invoice = make_invoice("in_doubt", age=age)
    response = operator.get(invoice_url(invoice, "resolve"))
    choices = dict(response.context["form"]["decision"].field.choices)
    assert ("created" in choices) is offers
    assert bool(element_texts(response, "ic-remark")) is not offers
    data = {"decision": "created", "reason": "seen", "attempt": invoice.attempt}
    operator.post(invoice_url(invoice, "resolve"), data)
    assert stored(invoice).status == ("created" if offers else "in_doubt")


@pytest.mark.parametrize(
    "wrong",
    [{"reason": " "}, {"decision": ""}, {"decision": "canceling"}, {"attempt": "x"}],
    ids=["no reason", "no decision", "no decision of a person's", "no attempt"],
)
def test_incomplete_decision_is_rejected(shop, operator, wrong):
    invoice = make_invoice("in_doubt")
    data = {"decision": "canceled", "reason": "seen", "attempt": invoice.attempt}
    response = operator.post(invoice_url(invoice, "resolve"), data | wrong)
    assert response.status_code == 200
    assert len(element_texts(response, "errorlist")) == 1
    assert stored(invoice).status == "in_doubt"
    assert entries(invoice) == []


def test_abandoned_claim_can_be_resolved(shop, operator):
    invoice = make_invoice("abandoned")
    operator.post(
        invoice_url(invoice, "resolve"), {"decision": "canceled", "reason": "seen", "attempt": invoice.attempt}
    )
    assert stored(invoice).status == "canceled"
    assert [row[:3] for row in log(invoice)] == [
        ("canceling", "in_doubt", "abandoned"),
        ("in_doubt", "canceled", "resolved"),
    ]
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0


@pytest.mark.parametrize("name", PAGES)
def test_confirmation_page_has_breadcrumbs(shop, operator, name):
    invoice = make_invoice("in_doubt")
    [trail] = element_texts(operator.get(invoice_url(invoice, name)), "breadcrumbs")
    assert f" {invoice} " in trail


@pytest.mark.parametrize(("is_requested", "hints"), [(True, 1), (False, 0)])
def test_resolve_form_warns_that_a_requested_cancellation_is_sent_again(shop, operator, is_requested, hints):
    shop.next_cancels("in_doubt")
    invoice = make_invoice("requested" if is_requested else "created")
    cancel_requested(invoice) if is_requested else cancel_invoice(invoice)
    put_back(invoice, timedelta(hours=1))
    response = operator.get(invoice_url(invoice, "resolve"))
    found = [text for text in element_texts(response, "help") if "the cancel request is sent again" in text]
    assert len(found) == hints
    assert stored(invoice).status == "in_doubt"


# -- withdraw -------------------------------------------------------------------------------------------------


def test_withdraw_clears_the_request(shop, operator):
    invoice = make_invoice("requested")
    response = operator.post(invoice_url(invoice, "withdraw"), {"reason": "a mistake"})
    assert shown_messages(response) == [("success", f"{invoice}: The request to cancel it was withdrawn.")]
    assert entries(invoice) == ["The request to cancel it was withdrawn. a mistake"]
    assert log(invoice) == [("created", "created", "withdrawn", "admin", operator.user.username, "a mistake")]
    assert stored(invoice).cancel_requested_at is None
    assert shop.cancel_count == 0
    assert "The request to cancel it was withdrawn." in element_texts(operator.get(invoice_url(invoice)), "ic-event")[0]


def test_withdrawal_in_doubt_warns_that_the_request_may_still_succeed(shop, operator):
    shop.next_cancels("in_doubt")
    invoice = make_invoice("requested")
    cancel_requested(invoice)
    assert "may still succeed" in element_texts(operator.get(invoice_url(invoice, "withdraw")), "ic-remark")[0]
    [(level, text)] = shown_messages(operator.post(invoice_url(invoice, "withdraw"), {"reason": ""}))
    assert level == "warning"
    assert text.endswith("may still succeed; it is not repeated.") is True
    assert stored(invoice).status == "in_doubt"
    assert stored(invoice).cancel_requested_at is None
    assert shop.cancel_count == 1


def test_second_withdrawal_changes_nothing(shop, operator):
    invoice = make_invoice("requested")
    operator.post(invoice_url(invoice, "withdraw"), {"reason": ""})
    assert element_texts(operator.get(invoice_url(invoice, "withdraw")), "title")[0].startswith(
        "No cancellation is requested"
    )
    assert shown_messages(operator.post(invoice_url(invoice, "withdraw"), {"reason": ""}))[-1] == (
        "info",
        f"{invoice}: Its cancellation is not requested.",
    )
    assert [row[2] for row in log(invoice)] == ["withdrawn"]
    assert len(entries(invoice)) == 1


# -- late money -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["change", "handled"])
def test_late_payment_has_the_same_color_on_all_pages(shop, operator, name):
    invoice = make_invoice("paid_after_cancel")
    assert len(element_texts(operator.get(invoice_url(invoice, name)), "ic-late")) == 1
    invoice.mark_handled(actor="ada", note="paid back")
    assert element_texts(operator.get(invoice_url(invoice, name)), "ic-late") == []


def test_late_payment_is_handled_once(shop, operator):
    invoice = make_invoice("paid_after_cancel")
    first = operator.post(invoice_url(invoice, "handled"), {"note": "paid back"})
    second = operator.post(invoice_url(invoice, "handled"), {"note": "me too"})
    assert shown_messages(first) == [("success", f"{invoice}: Its late payment was marked as handled.")]
    assert shown_messages(second)[-1] == ("info", f"{invoice}: Its late payment was already handled.")
    assert entries(invoice) == ["Its late payment was marked as handled. paid back"]
    assert [row[2:] for row in log(invoice)] == [("handled", "operator", operator.user.username, "paid back")]
    response = operator.get(invoice_url(invoice))
    assert element_texts(response, "ic-button") == ["Check with provider"]
    assert element_texts(response, "ic-state")[0].endswith(f"by {operator.user.username}.")


def test_further_payment_must_be_handled_again(shop, operator):
    invoice = make_invoice("paid_after_cancel")
    operator.post(invoice_url(invoice, "handled"), {"note": "paid back"})
    stored(invoice).observe_status("overpaid")
    response = operator.get(invoice_url(invoice))
    assert element_texts(response, "ic-button") == ["Mark as handled", "Check with provider"]
    assert "Deliver, or return the money, then mark it as handled." in element_texts(response, "ic-state")[0]
    assert "More was paid after its late payment was handled." in element_texts(response, "ic-event")[0]
    again = operator.post(invoice_url(invoice, "handled"), {"note": "the rest too", "seen": "overpaid"})
    assert shown_messages(again) == [("success", f"{invoice}: Its late payment was marked as handled.")]
    assert [row[:3] for row in log(invoice)] == [
        ("paid", "paid", "handled"),
        ("paid", "overpaid", "observed"),
        ("overpaid", "overpaid", "more_money"),
        ("overpaid", "overpaid", "handled"),
    ]


def test_payment_after_the_page_was_shown_is_not_marked_as_handled(shop, operator):
    invoice = make_invoice("paid_after_cancel")
    shown = operator.get(invoice_url(invoice, "handled")).content.decode()
    [seen] = re.findall(r'<input type="hidden" name="seen" value="(\w+)"', shown)
    stored(invoice).observe_status("overpaid")
    response = operator.post(invoice_url(invoice, "handled"), {"note": "paid back", "seen": seen})
    assert shown_messages(response) == [
        ("warning", f"{invoice}: The invoice has changed since you opened it. Look at it again.")
    ]
    assert stored(invoice).paid_after_cancel_handled_at is None
    assert entries(invoice) == []
    assert stored(invoice).status == "overpaid"
    assert log(invoice)[-1][:3] == ("paid", "overpaid", "observed")
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0


def test_note_is_required(shop, operator):
    invoice = make_invoice("paid_after_cancel")
    assert element_texts(operator.post(invoice_url(invoice, "handled"), {"note": ""}), "errorlist") == [
        "This field is required."
    ]
    assert stored(invoice).paid_after_cancel_handled_at is None


def test_payment_that_is_not_late_cannot_be_handled(shop, operator):
    invoice = make_invoice("paid")
    assert element_texts(operator.get(invoice_url(invoice, "handled")), "title")[0].startswith(
        "No late payment to handle"
    )
    [(level, _text)] = shown_messages(operator.post(invoice_url(invoice, "handled"), {"note": "x"}))
    assert level == "warning"
    assert entries(invoice) == []


# -- everywhere -----------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("name", "story", "status"),
    [("cancel", "created", "canceled"), ("check", "in_doubt", "canceled"), ("resolve", "in_doubt", "expired")],
)
def test_pages_work_with_atomic_requests(shop, operator, settings, name, story, status):
    invoice = make_invoice(story)
    shop.set_status(invoice.external_id, "created" if name == "cancel" else "canceled")
    data = {"decision": "expired", "reason": "seen", "attempt": invoice.attempt or ""}
    connections["default"].settings_dict["ATOMIC_REQUESTS"] = True
    try:
        response = operator.post(invoice_url(invoice, name), data)
    finally:
        connections["default"].settings_dict["ATOMIC_REQUESTS"] = False
    assert response.status_code == 302
    assert stored(invoice).status == status
    assert shop.cancel_count + shop.lookup_count == (name != "resolve")


def test_pause_prevents_the_request_and_is_shown(shop, operator):
    ProviderState.objects.create(alias="shop", paused_until=utc_now() + timedelta(minutes=5))
    invoice = make_invoice()
    [(level, text)] = shown_messages(operator.post(invoice_url(invoice, "cancel"), {"reason": ""}))
    assert level == "warning"
    assert text == f"{invoice}: Scripted provider is paused after failed requests; nothing was sent."
    assert stored(invoice).status == "created"
    assert log(invoice) == []
    assert shop.cancel_count == 0


def test_invoice_that_does_not_exist_is_not_found(shop, operator):
    invoice = make_invoice()
    invoice.pk += 1
    assert {operator.get(invoice_url(invoice, name)).status_code for name in PAGES} == {404}
