"""The state of the state machine: rows, processes with faults, and the invariants.

A process may crash at any SQL statement or while it waits for an answer, use the same row as another process, or
have a clock that is ahead. After each step the invariants are checked with the rows, the log and the provider's data.
At the end, reconcile must resolve everything correctly.
"""

import copy
import itertools
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial

import time_machine
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from django_invoice_cancel import registry
from django_invoice_cancel.exceptions import ResolveNotPossible
from django_invoice_cancel.models import Invoice, InvoiceTransition, ProviderState
from django_invoice_cancel.models.writes.transactions import WRITER_FIELDS
from django_invoice_cancel.services.provider_calls import submit

from .invariants import (
    LEVELS,
    StoredRows,
    check_against_provider,
    check_instance,
    check_log,
    check_payment,
    check_request,
    require,
)
from .process_faults import NO_FAULT, ConcurrentProcess, crash_at
from .provider_model import PAID, AccountStore, InvariantBroken, Killed, ModelProvider

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
PROVIDERS = st.sampled_from(["seen", "seen", "blind"])
numbers = itertools.count(1)


class StateMachineBase(RuleBasedStateMachine):
    """The rows, the reported payments, and the pending steps of paused processes."""

    def __init__(self):
        super().__init__()
        self.clock = time_machine.travel(NOON, tick=False)
        self.traveller = self.clock.start()
        self.store = ModelProvider.store = AccountStore()
        ProviderState.objects.all().delete()  # failures of the previous example
        self.stored = StoredRows()
        self.stale_instances = []  # instances that were read earlier
        self.paused = []  # (claim, instance, ahead): claimed, not sent
        self.pending_answers = []  # (answer, ahead): answers that are not recorded
        self.pending_lookups = []  # (seen, reply, ahead): lookups that are not recorded
        self.reported_payments = {}
        self.last_used = None  # (instance, fields) of the last method, if no other process acted
        self.is_violated = False

    def teardown(self):
        try:
            if not self.is_violated:
                self.reconcile_at_the_end()
        finally:
            self.clock.stop()

    # -- invoices ---------------------------------------------------------------------------------------------

    def invoice(self, data, *preferred, may_be_stale=False):
        """Draw an invoice, preferably in one of these statuses, or an instance that was read earlier."""
        if may_be_stale and self.stale_instances and data.draw(st.integers(0, 3), "0: a stale instance") == 0:
            return data.draw(st.sampled_from(self.stale_instances), "instance")
        rows = self.stored.rows
        keys = [pk for pk, row in rows.items() if row.status in preferred]
        any_key = not keys or data.draw(st.integers(0, 3), "0: any") == 0
        return copy.copy(rows[data.draw(st.sampled_from(list(rows) if any_key else keys), "invoice")])

    def open_invoice(self, data):
        """Draw an invoice that may be canceled; there is always one."""
        if not any(row.status == "created" for row in self.stored.rows.values()):
            self.new_invoice(data.draw(PROVIDERS, "provider"))
            self.stored.read()
        return self.invoice(data, "created", may_be_stale=True)

    def new_invoice(self, provider):
        external_id = f"{provider}-{next(numbers)}"
        for _ in range(2):  # idempotent
            invoice, _created = Invoice.objects.register(provider=provider, external_id=external_id)
        self.stored.add(invoice.pk, external_id)

    def account(self, invoice):
        return self.store.of(invoice.external_id)

    def pass_time(self, seconds):
        self.traveller.shift(seconds)
        for account in self.store.accounts.values():
            account.pass_time(self.store.now())

    # -- one process ------------------------------------------------------------------------------------------

    @contextmanager
    def machine(self, ahead):
        """Act on a machine whose clock is ahead of the others'."""
        self.traveller.shift(ahead)
        self.store.ahead = ahead
        try:
            yield
        finally:
            self.traveller.shift(-ahead)
            self.store.ahead, self.store.fault = 0, "none"

    @contextmanager
    def process(self, invoice, process_fault=NO_FAULT, *, refreshed=WRITER_FIELDS):
        """Act as a process that has this instance, with an unsaved edit, and uses its writer."""
        unsaved = invoice.reference = f"unsaved {next(numbers)}"
        self.last_used, is_done = None, False
        concurrent = ConcurrentProcess(
            process_fault.concurrent_statement,
            invoice.pk,
            partial(self.run_other_process, invoice.pk, process_fault.other),
        )
        fault_context = (
            concurrent.running() if process_fault.concurrent_statement else crash_at(process_fault.crash_statement)
        )
        with suppress(Killed), self.machine(process_fault.ahead), fault_context:
            yield
            is_done = True
        if is_done:
            self.require(invoice.reference == unsaved, "an unsaved edit was overwritten")
            self.last_used = None if process_fault.concurrent_statement else (invoice, refreshed)

    def run_other_process(self, pk, status, reason):
        invoice = Invoice.objects.get(pk=pk)
        account = self.account(invoice)
        if status == "resolve":
            return self.resolve_by_operator(invoice, "expired", reason)
        if status == "paid" and "paid" not in account.history and account.state != "overpaid":
            account.set_state(status)
        invoice.observe_status(account.state, reason=reason)
        return self.note_payment(invoice, account.state)

    def resolve_by_operator(self, invoice, status, reason="seen in the dashboard"):
        with suppress(ResolveNotPossible):
            invoice.resolve(status, actor="Ada", reason=reason)
            self.note_payment(invoice, status)

    def send(self, process, fault, delay):
        claim, invoice, ahead = process
        self.store.fault, self.store.delay = fault, delay
        before = self.account(invoice).requests
        with self.machine(ahead), suppress(Killed):
            self.pending_answers.append((submit(registry.get_provider(invoice.provider), claim, invoice), ahead))
        if self.account(invoice).requests > before:
            log = InvoiceTransition.objects.filter(invoice_id=invoice.pk, attempt=claim.attempt, code="abandoned")
            self.require(time.time() + ahead <= claim.opened_at + claim.ttl, "sent after its claim had expired")
            self.require(not log.exists(), "sent after its claim was marked abandoned")

    def reconcile_due(self, *, is_resubmit):
        invoices = Invoice.objects.filter(pk__in=self.stored.rows)
        for invoice in invoices.due_for_reconciling().order_by("pk"):
            if is_resubmit or invoice.provider == "seen":
                self.note_result(invoice, invoice.reconcile(resubmit=is_resubmit))

    # -- reported payments ------------------------------------------------------------------------------------

    def note_result(self, invoice, result):
        """Store the payment of a recorded result."""
        if result.is_recorded:
            self.note_payment(invoice, result.status)

    def note_payment(self, invoice, status):
        if status in PAID:
            self.reported_payments[invoice.pk] = max(
                self.reported_payments.get(invoice.pk, ""), status, key=LEVELS.index
            )

    # -- invariants -------------------------------------------------------------------------------------------

    def require(self, is_true, message):
        self.is_violated = self.is_violated or not is_true
        require(is_true, message)

    @invariant()
    def all_invariants_hold(self):
        self.is_violated = True
        self.check()
        self.is_violated = False

    def check(self):
        if self.store.violation:
            raise InvariantBroken(self.store.violation)
        self.stored.read()
        for pk, row in self.stored.rows.items():
            log = self.stored.logs[pk]
            require(row.external_id == self.stored.ids[pk], "a new instance overwrote the row")
            check_log(row, log)
            check_request(row, log)
            check_payment(row, log, self.reported_payments.get(pk, ""))
            check_against_provider(row, log, self.account(row))
            require(not row.reference.startswith("unsaved"), "an unsaved edit was saved")
        if self.last_used is not None:
            instance, refreshed = self.last_used
            check_instance(instance, self.stored.rows[instance.pk], refreshed)
            self.last_used = None

    # -- the end ----------------------------------------------------------------------------------------------

    def reconcile_at_the_end(self):
        """Drop all pending steps. Reconciling over the next days must resolve every invoice."""
        self.paused.clear()
        self.pending_answers.clear()
        for _ in range(4):
            self.pass_time(7 * 3600)
            self.reconcile_due(is_resubmit=False)
        self.check()
        kept = {entry.pk for log in self.stored.logs.values() for entry in log}
        require(kept == self.stored.written(), "an entry of the log was changed or deleted")
        for pk, row in self.stored.rows.items():
            if row.provider == "seen":
                self.check_end(row, self.stored.logs[pk])

    def check_end(self, row, log):
        account = self.account(row)
        is_decided = any(each.trigger == "operator" and each.code != "requested" for each in log)
        require(row.status not in ("canceling", "in_doubt"), f"not resolved: {row.status}")
        if account.state == "canceled" and account.requests and not is_decided:
            require(row.status == "canceled", f"canceled at the provider, stored as {row.status}")
