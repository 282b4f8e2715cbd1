"""Outcomes: their effects on the invoice, the interpretation of a contradictory reply, the texts of a result."""

import json
import re
from types import SimpleNamespace

import pytest

from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.domain.claims import Claim
from django_invoice_cancel.domain.outcomes import EFFECTS, CancelResult, Outcome, ProviderReply
from django_invoice_cancel.domain.statuses import Status
from django_invoice_cancel.providers.base import Provider
from django_invoice_cancel.services.provider_calls import submit


class FixedReplyProvider(Provider):
    """Answers every cancel request with the same reply."""

    verbose_name = "Fixed reply"
    id_form = "a number"
    id_pattern = re.compile("[0-9]+")

    def __init__(self, reply):
        super().__init__("fixed")
        self.reply = reply
        self.calls = 0

    def cancel(self, external_id, *, lease):
        self.calls += 1
        return self.reply


EFFECT_TABLE = [
    ("canceled", "canceled", "no"),
    ("already_canceled", "canceled", "no"),
    ("refused", None, "if_asked"),
    ("not_processed", None, "later"),
    ("in_doubt", "in_doubt", "after_reconcile"),
]


@pytest.mark.parametrize(("outcome", "becomes", "may_be_sent_again"), EFFECT_TABLE)
def test_outcome_has_its_effect(outcome, becomes, may_be_sent_again):
    effect = EFFECTS[Outcome(outcome)]
    assert effect.becomes == becomes
    assert effect.may_be_sent_again == may_be_sent_again


def test_every_outcome_but_skipped_has_an_effect():
    assert sorted(EFFECTS) == sorted(set(Outcome) - {"skipped"}) == sorted(row[0] for row in EFFECT_TABLE)


@pytest.mark.parametrize("before", ["created", "in_doubt"])
@pytest.mark.parametrize(
    ("outcome", "named", "expected"),
    [
        ("canceled", None, "canceled"),
        ("canceled", "paid", "paid"),
        ("already_canceled", None, "canceled"),
        ("already_canceled", "overpaid", "overpaid"),
        ("refused", None, "before"),
        ("refused", "paid", "paid"),
        ("refused", "partially_paid", "partially_paid"),
        ("refused", "expired", "expired"),
        ("not_processed", None, "before"),
        ("not_processed", "expired", "before"),
        ("not_processed", "paid", "paid"),
        ("in_doubt", None, "in_doubt"),
        ("in_doubt", "expired", "in_doubt"),
        ("in_doubt", "partially_paid", "partially_paid"),
    ],
)
def test_reply_leads_to_a_status(outcome, named, expected, before):
    """A reported payment always counts, another status only in a refusal. Else the previous status is restored."""
    reply = ProviderReply(Outcome(outcome), "code", Status(named) if named else None)
    assert reply.next_status(Status(before)) == (before if expected == "before" else expected)


def test_provider_cannot_reply_skipped():
    with pytest.raises(ValueError, match="cannot have the outcome"):
        ProviderReply(Outcome.SKIPPED, "in_progress")


@pytest.mark.parametrize(
    ("outcome", "named", "expected", "code", "status"),
    [
        ("refused", "created", "in_doubt", "contradictory_answer", None),
        ("refused", "canceling", "in_doubt", "contradictory_answer", None),
        ("refused", "in_doubt", "in_doubt", "contradictory_answer", None),
        ("refused", "canceled", "already_canceled", "already_canceled", "canceled"),
        ("refused", "paid", "refused", "code", "paid"),
        ("refused", None, "refused", "code", None),
        ("canceled", "created", "in_doubt", "contradictory_answer", None),
        ("already_canceled", "expired", "in_doubt", "contradictory_answer", None),
        ("canceled", "canceled", "canceled", "code", "canceled"),
        ("canceled", "paid", "canceled", "code", "paid"),
        ("in_doubt", "paid", "in_doubt", "code", "paid"),
        ("in_doubt", "canceled", "in_doubt", "code", None),
        ("not_processed", "partially_paid", "not_processed", "code", "partially_paid"),
        ("not_processed", None, "not_processed", "code", None),
    ],
)
def test_contradictory_reply_is_in_doubt(outcome, named, expected, code, status):
    provider = FixedReplyProvider(ProviderReply(Outcome(outcome), "code", Status(named) if named else None))
    reply = submit(
        provider, Claim(AuditContext(), Status.CREATED, 300), SimpleNamespace(id=1, provider="shop", external_id="17")
    ).reply
    assert reply.outcome == expected
    assert reply.code == code
    assert reply.status == status
    assert provider.calls == 1


@pytest.mark.parametrize(
    ("outcome", "ok"),
    [
        ("canceled", True), ("already_canceled", True),
        ("refused", False), ("not_processed", False), ("in_doubt", False), ("skipped", False),
    ],
)  # fmt: skip
def test_result_is_ok_only_if_the_invoice_is_canceled(outcome, ok):
    assert CancelResult("alias", "17", Outcome(outcome), "code", "Sentence.", "created").ok is ok


def test_result_can_be_serialised_as_json():
    result = CancelResult("alias", "17", Outcome.REFUSED, "has_payment", "It holds money.", Status.PAID, invoice_id=3)
    data = json.loads(json.dumps(result.as_dict()))
    assert data["outcome"] == "refused"
    assert data["invoice_id"] == "3"
    assert data["status"] == "paid"
    assert data["message"] == "It holds money."
