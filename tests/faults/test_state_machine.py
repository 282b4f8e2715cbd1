"""Random steps violate no invariant. If any one of the rules is removed, they violate one."""

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

from .provider_model import CLAIM_TTL, DOUBT_PERIOD
from .state_machine import InvoiceStateMachine, only

pytestmark = pytest.mark.django_db

MODEL = "tests.faults.provider_model.ModelProvider"


@pytest.fixture(autouse=True)
def _model(settings):
    providers = {alias: {"BACKEND": MODEL} for alias in ("seen", "blind")}
    settings.INVOICE_CANCEL = {"PROVIDERS": providers, "CLAIM_TTL": CLAIM_TTL, "DOUBT_PERIOD": DOUBT_PERIOD}
    logging.disable()  # the injected error of the adapter is logged thousands of times
    yield
    logging.disable(logging.NOTSET)


BATCH = 20
"""The number of examples per seed. Hypothesis derives many later examples from earlier ones."""


def run_examples(machine=InvoiceStateMachine, *, examples, first=1):
    profile = settings(
        max_examples=BATCH,
        stateful_step_count=40,
        deadline=None,
        database=None,
        report_multiple_bugs=False,  # the first one is enough
        phases=[Phase.generate],  # no shrinking
        suppress_health_check=list(HealthCheck),
    )
    for number in range(first, first + examples // BATCH):
        with rolled_back_batch():
            run_state_machine_as_test(seed(number)(machine), settings=profile)


@contextmanager
def rolled_back_batch():
    """Roll back the rows of a batch and drop its on-commit callbacks, which would slow down the next batches."""
    before = connection.savepoint()
    try:
        yield
    finally:
        connection.savepoint_rollback(before)
        connection.run_on_commit.clear()


def test_random_steps_violate_no_invariant():
    run_examples(examples=200)


# -- without each rule ---------------------------------------------------------------------------------------
# These changes break the code itself, so they replace functions wherever a rule is implemented, also private ones.


def allow(*args):
    return True


def end_doubt_period_at_once(invoice):
    return invoice.claim_expires_at or invoice.status_changed_at


def claim_any_status(self, invoices, *guards):
    return self.invoices.filter(pk__in=[invoice.pk for invoice in invoices])


@transaction.atomic
def set_abandoned_to_created(self, invoices, audit):
    for invoice in invoices:
        claimed = self.invoices.filter(eligibility.abandoned(), pk=invoice.pk, attempt=invoice.attempt)
        if claimed.update(status=Status.CREATED):
            self.append([answers.Entry(invoice, Status.CANCELING, Status.CREATED, audit, invoice.attempt)])
            invoice.status = Status.CREATED
    return list(invoices)


def accept_any_attempt(row, answer):
    return MOVE(SimpleNamespace(attempt=answer.claim.attempt, status=row.status), answer)


def match_by_key_only(group):
    return models.Q(pk__in=[answer.invoice.pk for answer in group])


def restore_created(self, before):
    return self.named_status or Status.CREATED


def observe_open_status(self, row, invoice, status, audit, provider_status):
    if status == Status.CREATED and row.status == Status.IN_DOUBT:
        self.append([self._observed_entry(row, invoice, status, audit, "observed", provider_status)])
        self.write(row, status=Status.CREATED)
    return TAKE_IN(self, row, invoice, status, audit, provider_status)


def read_without_lock(self, pk):
    return self.invoices.filter(pk=pk).first()


def carry_over_nothing(row, invoice):
    pass


def carry_over_everything(row, invoice):
    for field in row._meta.concrete_fields:
        setattr(invoice, field.attname, getattr(row, field.attname))


def save_all_fields(self, **kwargs):
    models.Model.save(self, force_insert=self._state.adding, **kwargs)


def save_over_existing_row(self, **kwargs):
    if not self._state.adding:
        kwargs["update_fields"] = self._host_fields()
    models.Model.save(self, **kwargs)


def clear_request_in_claim(self, claim):
    return CHANGES(self, claim) | {"cancel_requested_at": None}


def skip_first_entry(self, entries):
    return APPEND(self, entries[1:]) if len(entries) > 1 else None


MOVE, TAKE_IN, APPEND = answers._move, observations.ObservationWriter._take_in, RowWriter.append
CHANGES = ClaimWriter._claim_columns
CARRIERS = (observations, decisions, answers, rows)

RULES = {
    "1 only permitted transitions": (
        [(observations, "may_move", allow), (answers, "may_move", allow), (answers, "check_move", allow)],
        "payment overwritten|is not in the table",
    ),
    "2 only the writer writes the status": (
        [(Invoice, "save", save_all_fields)],
        "the log ends in|payment overwritten|without a time of the next lookup",
    ),
    "3 claims are exclusive": ([(ClaimWriter, "_guarded", claim_any_status)], "the log continues from|requested again"),
    "3 the lease is checked before sending": (
        [(Claim, "lease", lambda self, deadline: allow)],
        "sent after its claim|too early",
    ),
    "4 an abandoned claim is in doubt": (
        [(ClaimWriter, "mark_abandoned", set_abandoned_to_created)],
        "set to created|too early",
    ),
    "4 clocks may differ": (
        [(eligibility, "ABANDONED_AFTER", timedelta(0))],
        "sent after its claim was marked abandoned",
    ),
    "5 an answer belongs to its attempt": (
        [(answers, "_move", accept_any_attempt), (answers, "_own", match_by_key_only)],
        "the claim of another attempt|set to created|too early|differs from its row in .*attempt",
    ),
    "6 a refusal restores the previous status": (
        [(ProviderReply, "next_status", restore_created)],
        "set to created|too early",
    ),
    "7 the doubt period": ([(observations, "doubt_over_at", end_doubt_period_at_once)], "set to created|too early"),
    "7 one lookup after the doubt period": (
        [(observations, "ONE_MORE_LOOKUP", timedelta(days=10_000))],
        "canceled at the provider, stored as created",
    ),
    "8 a payment after a cancellation is flagged": (
        [(answers, "was_canceled", lambda rows, row: False)],
        "payment after a cancellation is not flagged",
    ),
    "9 an open status is not observed": (
        [(observations.ObservationWriter, "_take_in", observe_open_status)],
        "set to created|too early",
    ),
    "10 not resolved to created within the doubt period": (
        [(eligibility, "doubt_over_at", end_doubt_period_at_once)],
        "too early",
    ),
    "11 a row is locked before it is read": (
        [(RowWriter, "lock", read_without_lock)],
        "payment overwritten|the log continues|payment after a cancellation is not flagged",
    ),
    "12 the instance has the values of its row": (
        [(owner, "carry_over", carry_over_nothing) for owner in CARRIERS],
        "the instance differs from its row in",
    ),
    "12 unsaved edits are kept": (
        [(owner, "carry_over", carry_over_everything) for owner in CARRIERS],
        "an unsaved edit was overwritten",
    ),
    "12 a new instance is inserted": (
        [(Invoice, "save", save_over_existing_row)],
        "a new instance overwrote the row",
    ),
    "13 a claim keeps the requested cancellation": (
        [(ClaimWriter, "_claim_columns", clear_request_in_claim)],
        "a requested cancellation was lost",
    ),
    "the log is complete": ([(RowWriter, "append", skip_first_entry)], "the log"),
}
# A machine with few steps finds a long sequence sooner.
LOST_ANSWER_STEPS, PAUSED_STEPS = (
    ("register", "cancel", "wait", "run_scheduled_reconcile"),
    ("claim_and_pause", "resume_and_send"),
)
STEPS = {
    "4 an abandoned claim is in doubt": (*LOST_ANSWER_STEPS, *PAUSED_STEPS, "reconcile"),
    "4 clocks may differ": (*PAUSED_STEPS, "reconcile_while_paused"),
    "5 an answer belongs to its attempt": (
        *PAUSED_STEPS,
        "register",
        "start_next_attempt_before_answer_is_recorded",
        "record_pending_answer",
    ),
    "6 a refusal restores the previous status": LOST_ANSWER_STEPS,
    "7 the doubt period": (*LOST_ANSWER_STEPS, "reconcile"),
    "7 one lookup after the doubt period": ("register", "wait", "execute_after_doubt_period"),
    "9 an open status is not observed": (*LOST_ANSWER_STEPS, "delayed_webhook"),
    "10 not resolved to created within the doubt period": ("register", "cancel", "resolve"),
    "11 a row is locked before it is read": ("register", "cancel", "change_at_provider", "webhook", "resolve"),
}


@pytest.mark.parametrize("rule", RULES)
def test_steps_without_a_rule_violate_an_invariant(rule, monkeypatch):
    changes, message = RULES[rule]
    for owner, name, other in changes:
        monkeypatch.setattr(owner, name, other)
    with pytest.raises(AssertionError, match=message):
        run_examples(only(*STEPS[rule]) if rule in STEPS else InvoiceStateMachine, examples=600)
