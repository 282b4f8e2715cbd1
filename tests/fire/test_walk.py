"""The walk finds no broken promise; with any one of the rules taken out, it does."""

from datetime import timedelta

import pytest
from django.db import models
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from django_invoice_cancel.attempts import Claim
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.models.verbs import decisions, observations, records
from django_invoice_cancel.models.verbs.claims import Claims
from django_invoice_cancel.models.verbs.rows import Rows
from django_invoice_cancel.outcomes import ProviderReply
from django_invoice_cancel.statuses import Status

from .model import CLAIM_TTL, DOUBT_PERIOD
from .walk import Walk

pytestmark = pytest.mark.django_db

MODEL = "tests.fire.model.ModelProvider"


@pytest.fixture(autouse=True)
def _model(settings):
    providers = {alias: {"BACKEND": MODEL} for alias in ("seen", "blind")}
    settings.INVOICE_CANCEL = {"PROVIDERS": providers, "CLAIM_TTL": CLAIM_TTL, "DOUBT_PERIOD": DOUBT_PERIOD}


def walk(*, examples, steps=40):
    profile = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # what is found is printed as it was found
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Walk, settings=profile)


def test_no_walk_breaks_a_promise():
    walk(examples=150)


# -- each rule taken out --------------------------------------------------------------------------------------


def allowed(*args):
    return True


def doubt_is_over_at_once(invoice):
    return invoice.claim_expires_at or invoice.status_changed_at


def claimed_whatever_the_status(self, invoices, before, unless_paused):
    return self.rows.invoices.filter(pk__in=[invoice.pk for invoice in invoices])


def abandoned_is_open(self, invoices, intent):
    for invoice in invoices:
        if self._abandoned(invoice, timezone.now()).update(status=Status.CREATED):
            self.rows.append([records.Entry(invoice, Status.CANCELING, Status.CREATED, intent, invoice.attempt)])
            invoice.status = Status.CREATED
    return list(invoices)


def taken_for_its_own(row, answer):
    row.attempt, row.status = answer.claim.attempt, row.status
    return MOVE(row, answer)


def own_by_key_alone(group):
    return models.Q(pk__in=[answer.invoice.pk for answer in group])


def back_to_open(self, before):
    return self.named_status or Status.CREATED


def open_is_taken_in(self, row, invoice, status, intent, word):
    if status == Status.CREATED and row.status == Status.IN_DOUBT:
        self.rows.append([self._entry(row, invoice, status, intent, "observed", word)])
        self.rows.write(row, status=Status.CREATED)
    return TAKE_IN(self, row, invoice, status, intent, word)


def not_logged(self, entries):
    return APPEND(self, entries[1:]) if len(entries) > 1 else None


MOVE, TAKE_IN, APPEND = records._move, observations.Observations._take_in, Rows.append

RULES = {
    "1 no move but those of the table": [
        (observations, "may_move", allowed),
        (records, "may_move", allowed),
        (records, "check_move", allowed),
    ],
    "2 only the verbs write": [(Invoice, "save", models.Model.save)],
    "3 one claim": [(Claims, "_guarded", claimed_whatever_the_status)],
    "3 the lease": [(Claim, "lease", lambda self, deadline: allowed)],
    "4 abandoned is in doubt": [(Claims, "abandon", abandoned_is_open)],
    "5 the attempt guards": [(records, "_move", taken_for_its_own), (records, "_own", own_by_key_alone)],
    "6 back to where it was": [(ProviderReply, "next_status", back_to_open)],
    "7 the doubt period": [
        (observations, "doubt_over_at", doubt_is_over_at_once),
    ],
    "7 one more lookup": [(observations, "ONE_MORE_LOOKUP", timedelta(days=10_000))],
    "8 money and a cancel meet": [(records, "was_canceled", lambda rows, row: False)],
    "9 open is not observed": [(observations.Observations, "_take_in", open_is_taken_in)],
    "10 nobody resolves to open too early": [(decisions, "doubt_over_at", doubt_is_over_at_once)],
    "13 the log": [(Rows, "append", not_logged)],
}


# Some rules need a longer story than a walk of 40 steps often tells: for these its steps are taken in order.


class Draws:
    """What a walk draws: always its one invoice and its one process, and the word that is set."""

    def __init__(self, machine, word=""):
        self.fixed = {"invoice": machine.keys[0], "process": 0, "answer": 0, "word": word}

    def draw(self, strategy, label):
        return self.fixed.get(label, 1)


def answer_comes_when_another_attempt_is_under_way(machine, draws):
    machine.claim_and_be_paused(draws, crash=None)
    machine.wake_up_and_send(draws, fault="not_processed", delay=1)
    machine.cron(1300)
    machine.cancel(draws, fault="killed_late", delay=800, crash=None)
    machine.record_the_answer(draws, crash=None)


def request_is_carried_out_after_the_doubt_period(machine, draws):
    machine.cancel(draws, fault="very_late", delay=800, crash=None)
    machine.cron(1300)


def old_postback_says_that_it_is_open(machine, draws):
    machine.cancel(draws, fault="late", delay=800, crash=None)
    machine.webhook(draws, is_old=True, crash=None)


STORIES = {
    "5 the attempt guards": answer_comes_when_another_attempt_is_under_way,
    "7 one more lookup": request_is_carried_out_after_the_doubt_period,
    "9 open is not observed": old_postback_says_that_it_is_open,
}


def tell(story):
    machine = Walk()
    try:
        machine.begin(provider="seen")
        story(machine, Draws(machine, "created"))
        machine.check()
    finally:
        machine.teardown()


@pytest.mark.parametrize("rule", STORIES)
def test_story_breaks_no_promise(rule):
    tell(STORIES[rule])


@pytest.mark.parametrize("rule", RULES)
def test_without_this_rule_a_promise_is_broken(rule, monkeypatch):
    for owner, name, other in RULES[rule]:
        monkeypatch.setattr(owner, name, other)
    with pytest.raises(Exception) as broken:  # noqa: PT011 - an assertion, or an integrity error that it ran into
        tell(STORIES[rule]) if rule in STORIES else walk(examples=600)
    assert isinstance(broken.value, AssertionError | ValueError | ExceptionGroup), broken.value
