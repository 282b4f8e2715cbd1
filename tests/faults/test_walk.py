"""The random walk finds no broken promise. If any one of the rules is removed, it finds one."""

import logging
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import connection, models, transaction
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from django_invoice_cancel.domain.claims import Claim
from django_invoice_cancel.domain.outcomes import ProviderReply
from django_invoice_cancel.domain.statuses import Status
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.models.writes import answers, decisions, observations, rows
from django_invoice_cancel.models.writes.claims import ClaimWriter
from django_invoice_cancel.models.writes.rows import RowWriter
from django_invoice_cancel.services import eligibility

from .model import CLAIM_TTL, DOUBT_PERIOD
from .walk import Walk, only

pytestmark = pytest.mark.django_db

MODEL = "tests.faults.model.ModelProvider"


@pytest.fixture(autouse=True)
def _model(settings):
    providers = {alias: {"BACKEND": MODEL} for alias in ("seen", "blind")}
    settings.INVOICE_CANCEL = {"PROVIDERS": providers, "CLAIM_TTL": CLAIM_TTL, "DOUBT_PERIOD": DOUBT_PERIOD}
    logging.disable()  # an adapter's bug is logged with its traceback, a thousand times
    yield
    logging.disable(logging.NOTSET)


BATCH = 20
"""So many examples are drawn from one seed: hypothesis makes many of the later ones from the earlier."""


def walk(machine=Walk, *, examples, first=1):
    profile = settings(
        max_examples=BATCH,
        stateful_step_count=40,
        deadline=None,
        database=None,
        report_multiple_bugs=False,  # else it goes on to look for others
        phases=[Phase.generate],  # what is found is printed as it was found
        suppress_health_check=list(HealthCheck),
    )
    for number in range(first, first + examples // BATCH):
        with forgotten():
            run_state_machine_as_test(seed(number)(machine), settings=profile)


@contextmanager
def forgotten():
    """Take back the rows of a batch, and what waits for the commit of the test: else each batch is slower."""
    before = connection.savepoint()
    try:
        yield
    finally:
        connection.savepoint_rollback(before)
        connection.run_on_commit.clear()


def test_no_walk_breaks_a_promise():
    walk(examples=200)


# -- each rule taken out --------------------------------------------------------------------------------------


def allowed(*args):
    return True


def doubt_is_over_at_once(invoice):
    return invoice.claim_expires_at or invoice.status_changed_at


def claimed_whatever_the_status(self, invoices, *guards):
    return self.invoices.filter(pk__in=[invoice.pk for invoice in invoices])


@transaction.atomic
def abandoned_is_open(self, invoices, audit):
    for invoice in invoices:
        claimed = self.invoices.filter(eligibility.abandoned(), pk=invoice.pk, attempt=invoice.attempt)
        if claimed.update(status=Status.CREATED):
            self.append([answers.Entry(invoice, Status.CANCELING, Status.CREATED, audit, invoice.attempt)])
            invoice.status = Status.CREATED
    return list(invoices)


def taken_for_its_own(row, answer):
    return MOVE(SimpleNamespace(attempt=answer.claim.attempt, status=row.status), answer)


def own_by_key_alone(group):
    return models.Q(pk__in=[answer.invoice.pk for answer in group])


def back_to_open(self, before):
    return self.named_status or Status.CREATED


def open_is_taken_in(self, row, invoice, status, audit, word):
    if status == Status.CREATED and row.status == Status.IN_DOUBT:
        self.append([self._observed_entry(row, invoice, status, audit, "observed", word)])
        self.write(row, status=Status.CREATED)
    return TAKE_IN(self, row, invoice, status, audit, word)


def read_and_not_taken(self, pk):
    return self.invoices.filter(pk=pk).first()


def nothing_is_carried_over(row, invoice):
    pass


def all_is_carried_over(row, invoice):
    for field in row._meta.concrete_fields:
        setattr(invoice, field.attname, getattr(row, field.attname))


def saved_whole(self, **kwargs):
    models.Model.save(self, force_insert=self._state.adding, **kwargs)


def saved_over_what_is_there(self, **kwargs):
    if not self._state.adding:
        kwargs["update_fields"] = self._host_fields()
    models.Model.save(self, **kwargs)


def cleared_by_a_claim(self, claim):
    return CHANGES(self, claim) | {"cancel_requested_at": None}


def not_logged(self, entries):
    return APPEND(self, entries[1:]) if len(entries) > 1 else None


MOVE, TAKE_IN, APPEND = answers._move, observations.ObservationWriter._take_in, RowWriter.append
CHANGES = ClaimWriter._claim_columns
CARRIERS = (observations, decisions, answers, rows)

RULES = {
    "1 no move but those of the table": (
        [(observations, "may_move", allowed), (answers, "may_move", allowed), (answers, "check_move", allowed)],
        "money overwritten|is not in the table",
    ),
    "2 only the writer writes": ([(Invoice, "save", saved_whole)], "the log ends in|money overwritten|never looked up"),
    "3 one claim": ([(ClaimWriter, "_guarded", claimed_whatever_the_status)], "the log goes on from|asked for again"),
    "3 the lease": ([(Claim, "lease", lambda self, deadline: allowed)], "sent after its claim|too early"),
    "4 abandoned is in doubt": ([(ClaimWriter, "mark_abandoned", abandoned_is_open)], "called open|too early"),
    "4 clocks differ": (
        [(eligibility, "ABANDONED_AFTER", timedelta(0))],
        "sent after its claim was called abandoned",
    ),
    "5 the attempt guards": (
        [(answers, "_move", taken_for_its_own), (answers, "_own", own_by_key_alone)],
        "what another attempt had claimed|called open|too early|does not carry its row's .*attempt",
    ),
    "6 back to where it was": ([(ProviderReply, "next_status", back_to_open)], "called open|too early"),
    "7 the doubt period": ([(observations, "doubt_over_at", doubt_is_over_at_once)], "called open|too early"),
    "7 one more lookup": ([(observations, "ONE_MORE_LOOKUP", timedelta(days=10_000))], "canceled there, created here"),
    "8 money and a cancel meet": ([(answers, "was_canceled", lambda rows, row: False)], "money and a cancel met"),
    "9 open is not observed": (
        [(observations.ObservationWriter, "_take_in", open_is_taken_in)],
        "called open|too early",
    ),
    "10 nobody resolves to open too early": ([(eligibility, "doubt_over_at", doubt_is_over_at_once)], "too early"),
    "11 a row is taken before it is read": (
        [(RowWriter, "lock", read_and_not_taken)],
        "money overwritten|the log goes on|money and a cancel met",
    ),
    "12 the instance tells the row": (
        [(owner, "carry_over", nothing_is_carried_over) for owner in CARRIERS],
        "the instance does not carry its row's",
    ),
    "12 unsaved edits stay": (
        [(owner, "carry_over", all_is_carried_over) for owner in CARRIERS],
        "an unsaved edit was overwritten",
    ),
    "12 a new instance is inserted": (
        [(Invoice, "save", saved_over_what_is_there)],
        "a new instance was written over it",
    ),
    "13 a claim keeps the request": ([(ClaimWriter, "_claim_columns", cleared_by_a_claim)], "a request was forgotten"),
    "the log": ([(RowWriter, "append", not_logged)], "the log"),
}
# A long story is told sooner where the walk knows few other steps.
LOSING, ATTEMPTS = ("register", "cancel", "wait", "cron"), ("claim_and_be_paused", "wake_up_and_send")
ALONE = {
    "4 abandoned is in doubt": (*LOSING, *ATTEMPTS, "reconcile"),
    "4 clocks differ": (*ATTEMPTS, "others_look_after_it"),
    "5 the attempt guards": (*ATTEMPTS, "register", "the_next_attempt_begins", "record_the_answer"),
    "6 back to where it was": LOSING,
    "7 the doubt period": (*LOSING, "reconcile"),
    "7 one more lookup": ("register", "wait", "the_doubt_period_is_too_short"),
    "9 open is not observed": (*LOSING, "old_webhook"),
    "10 nobody resolves to open too early": ("register", "cancel", "resolve"),
    "11 a row is taken before it is read": ("register", "cancel", "the_customer_acts", "webhook", "resolve"),
}


@pytest.mark.parametrize("rule", RULES)
def test_without_this_rule_a_promise_is_broken(rule, monkeypatch):
    changes, why = RULES[rule]
    for owner, name, other in changes:
        monkeypatch.setattr(owner, name, other)
    with pytest.raises(AssertionError, match=why):
        walk(only(*ALONE[rule]) if rule in ALONE else Walk, examples=600)
