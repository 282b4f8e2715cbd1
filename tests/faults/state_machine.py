"""The steps of the state machine: every entry point, stale instances, paused processes, a faulty provider."""

import copy
from contextlib import suppress
from dataclasses import replace

from django.db import IntegrityError, transaction
from django.test import TestCase
from hypothesis import strategies as st
from hypothesis.stateful import RULE_MARKER, initialize, precondition, rule

from django_invoice_cancel import registry
from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.domain.claims import Seen
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.services.cancel import cancel_invoice, cancel_requested, record_answer
from django_invoice_cancel.services.provider_calls import look_up

from .invariants import LEVELS
from .process_faults import CLOCKS, PROCESS_FAULTS, ProcessFault
from .provider_model import FAULTS, MAX_DELAY, PAID, Killed
from .state import PROVIDERS, StateMachineBase, numbers

CLERK, RECONCILE = AuditContext("clerk", "admin", "asked by the customer"), AuditContext(None, "reconcile")
WAITS = st.sampled_from([1, 59, 61, 250, 269, 299, 361, 601, 899, 901, 961, 1300, 3700])
DELAYS = st.sampled_from([1, 300, 600, MAX_DELAY])
# The fields that a method without a read of the row sets on the instance. The others set all writer fields.
CLAIMED = ("status", "attempt", "claim_expires_at", "status_changed_at")
RECORDED = (*CLAIMED, "last_outcome")


def only(*steps):
    """Return a state machine with these steps only. It finds a long sequence of steps sooner."""
    rules = {name: getattr(step, RULE_MARKER, None) for name, step in vars(InvoiceStateMachine).items()}
    others = {name: rule.function for name, rule in rules.items() if rule is not None and name not in steps}
    return type("InvoiceStateMachine", (InvoiceStateMachine,), others)


class InvoiceStateMachine(StateMachineBase):
    """The steps of operators, customers, workers and providers."""

    @initialize(provider=PROVIDERS)
    def begin(self, provider):
        self.new_invoice(provider)

    @rule(provider=PROVIDERS)
    def register(self, provider):
        self.new_invoice(provider)

    @rule(seconds=WAITS)
    def wait(self, seconds):
        self.pass_time(seconds)

    @rule(data=st.data())
    def keep_instance(self, data):
        self.stale_instances.append(self.invoice(data))

    @rule(data=st.data(), status=st.sampled_from(["created", "canceled", "paid", "in_doubt"]))
    def save_stale_instance(self, data, status):
        instance = self.invoice(data, may_be_stale=True)
        instance.status, instance.reference = status, "edited"
        instance.save()

    @rule(data=st.data())
    def save_new_instance_with_existing_key(self, data):
        """A host project saves a new instance with an existing key."""
        old = self.invoice(data)
        with suppress(IntegrityError), transaction.atomic():
            Invoice(pk=old.pk, provider="seen", external_id=f"seen-{next(numbers)}").save()

    @rule(data=st.data(), fault=st.sampled_from(FAULTS), delay=DELAYS, process_fault=PROCESS_FAULTS)
    def cancel(self, data, fault, delay, process_fault):
        invoice = self.open_invoice(data)
        self.store.fault, self.store.delay = fault, delay
        with self.process(invoice, process_fault, refreshed=RECORDED):
            self.note_result(invoice, cancel_invoice(invoice, actor="clerk", reason="asked for"))

    @rule(data=st.data(), fault=st.sampled_from(FAULTS), is_run=st.booleans(), process_fault=PROCESS_FAULTS)
    def cancel_on_commit(self, data, fault, is_run, process_fault):
        """The process may crash between the commit and its callbacks."""
        invoice = self.open_invoice(data)
        captured = TestCase.captureOnCommitCallbacks()
        with captured as callbacks, self.process(invoice, process_fault), transaction.atomic():
            invoice.cancel_on_commit(actor="clerk", reason="asked for")
        if callbacks and is_run:
            self.store.fault = fault
            with self.process(invoice, process_fault, refreshed=RECORDED):
                callbacks[0]()

    @rule(fault=st.sampled_from(FAULTS), process_fault=PROCESS_FAULTS)
    def cancel_requested_invoices(self, fault, process_fault):
        for invoice in Invoice.objects.filter(pk__in=self.stored.rows).requested().order_by("pk"):
            self.store.fault = fault
            with self.process(invoice, process_fault):
                self.note_result(invoice, cancel_requested(invoice))

    @rule(data=st.data(), process_fault=PROCESS_FAULTS)
    def withdraw(self, data, process_fault):
        invoice = self.invoice(data, "created", "canceling", "in_doubt", may_be_stale=True)
        with self.process(invoice, process_fault):
            invoice.withdraw(actor="clerk", reason="by mistake")

    @rule(data=st.data(), process_fault=PROCESS_FAULTS)
    def claim_and_pause(self, data, process_fault):
        invoice = self.open_invoice(data)
        won = []
        with self.process(invoice, process_fault, refreshed=CLAIMED):
            claim = invoice._writer.claim([invoice], CLERK)
            won = claim.invoices
            self.paused += [(claim, invoice, process_fault.ahead) for invoice in won]
        self.last_used = self.last_used if won else None

    @precondition(lambda self: self.paused)
    @rule(data=st.data(), fault=st.sampled_from(FAULTS), delay=DELAYS)
    def resume_and_send(self, data, fault, delay):
        self.send(self.paused.pop(data.draw(st.integers(0, len(self.paused) - 1), "process")), fault, delay)

    @precondition(lambda self: self.paused)
    @rule(data=st.data(), seconds=st.sampled_from([250, 361]), ahead=CLOCKS, fault=st.sampled_from(FAULTS))
    def reconcile_while_paused(self, data, seconds, ahead, fault):
        """Time passes, another process reconciles the claim of a paused process, and then that process resumes."""
        process = self.paused.pop(data.draw(st.integers(0, len(self.paused) - 1), "process"))
        invoice = copy.copy(process[1])
        self.pass_time(seconds)
        with self.process(invoice, ProcessFault(ahead)):
            self.note_result(invoice, invoice.reconcile())
        self.send(process, fault, MAX_DELAY)

    @precondition(lambda self: self.pending_answers)
    @rule(data=st.data(), process_fault=PROCESS_FAULTS)
    def record_pending_answer(self, data, process_fault):
        answer, ahead = self.pending_answers.pop(data.draw(st.integers(0, len(self.pending_answers) - 1), "answer"))
        with self.process(answer.invoice, replace(process_fault, ahead=ahead), refreshed=RECORDED):
            self.note_result(answer.invoice, record_answer(answer, answer.invoice._writer))

    @precondition(lambda self: self.pending_answers)
    @rule(data=st.data(), fault=st.sampled_from(FAULTS), delay=DELAYS)
    def start_next_attempt_before_answer_is_recorded(self, data, fault, delay):
        """Before an answer is recorded, its claim is abandoned and set to created, and another process cancels."""
        invoice = copy.copy(data.draw(st.sampled_from(self.pending_answers), "whose")[0].invoice)
        self.run_scheduled_reconcile(1300, ahead=0, fault="none")
        self.store.fault, self.store.delay = fault, delay
        with self.process(invoice, refreshed=RECORDED):
            self.note_result(invoice, cancel_invoice(invoice, actor="another", reason="asked for"))

    @precondition(lambda self: self.paused)
    @rule()
    def give_back(self):
        claim, invoice, ahead = self.paused.pop()
        with self.machine(ahead):
            invoice._writer.give_back(claim, [invoice])

    @rule(
        data=st.data(),
        is_resubmit=st.booleans(),
        fault=st.sampled_from(["none", "none", *FAULTS]),
        process_fault=PROCESS_FAULTS,
    )
    def reconcile(self, data, is_resubmit, fault, process_fault):
        invoice = self.invoice(data, "in_doubt", "canceling", may_be_stale=True)
        self.store.fault = fault
        with self.process(invoice, process_fault):
            self.note_result(invoice, invoice.reconcile(resubmit=is_resubmit))

    @rule(seconds=st.sampled_from([361, 899, 1300]), ahead=CLOCKS, fault=st.sampled_from(["none", "none", *FAULTS]))
    def run_scheduled_reconcile(self, seconds, ahead, fault):
        """Time passes, and reconcile runs as scheduled. Its first lookup has a fault."""
        self.pass_time(seconds)
        self.store.fault = fault
        with suppress(Killed), self.machine(ahead):
            for _ in range(2):
                self.reconcile_due(is_resubmit=True)
        self.last_used = None  # the instance is stale

    @rule(data=st.data(), delay=DELAYS)
    def execute_after_doubt_period(self, data, delay):
        """The provider executes a lost request after the doubt period, when the invoice may be open again."""
        invoice = self.open_invoice(data)
        self.store.fault, self.store.delay = "very_late", delay
        with self.process(invoice, refreshed=RECORDED):
            self.note_result(invoice, cancel_invoice(invoice, actor="clerk", reason="asked for"))
        self.run_scheduled_reconcile(961, ahead=0, fault="none")

    @rule(data=st.data(), ahead=CLOCKS)
    def look_up_and_pause(self, data, ahead):
        invoice = self.invoice(data, "in_doubt", "canceling")
        if invoice.provider != "seen":
            return
        with self.machine(ahead):
            if invoice.is_abandoned:
                invoice._writer.mark_abandoned([invoice], RECONCILE)
            seen = Seen.now(invoice)
            reply = look_up(registry.get_provider("seen"), [invoice.external_id])[invoice.external_id]
        self.pending_lookups.append((seen, reply, ahead))

    @precondition(lambda self: self.pending_lookups)
    @rule(data=st.data(), process_fault=PROCESS_FAULTS)
    def record_pending_lookup(self, data, process_fault):
        seen, reply, ahead = self.pending_lookups.pop(
            data.draw(st.integers(0, len(self.pending_lookups) - 1), "lookup")
        )
        with self.process(seen.invoice, replace(process_fault, ahead=ahead)):
            seen.invoice._writer.record_lookup(seen, reply, RECONCILE)
            self.note_payment(seen.invoice, reply.status)
        self.last_used = self.last_used if reply.is_answer else None

    @rule(data=st.data(), status=st.sampled_from([*PAID, "expired", "failed"]))
    def change_at_provider(self, data, status):
        """Only at the provider. The paid amount only grows, and a closed invoice may still be paid."""
        account = self.account(self.invoice(data, "canceled", "in_doubt", *PAID))
        held = account.state if account.state in PAID else ""
        grows = status in PAID and LEVELS.index(status) > LEVELS.index(held)
        if grows or account.state == "created":
            account.set_state(status)

    @rule(data=st.data(), process_fault=PROCESS_FAULTS)
    def webhook(self, data, process_fault):
        """A webhook with the present state."""
        self.observe(
            self.invoice(data, "canceled", "canceling", "in_doubt", *PAID, may_be_stale=True),
            process_fault,
            is_old=False,
            data=data,
        )

    @rule(data=st.data(), process_fault=PROCESS_FAULTS)
    def delayed_webhook(self, data, process_fault):
        """A webhook with an earlier state."""
        self.observe(self.invoice(data, "in_doubt", *PAID, may_be_stale=True), process_fault, is_old=True, data=data)

    def observe(self, invoice, process_fault, *, is_old, data):
        account = self.account(invoice)
        status = data.draw(st.sampled_from(account.history), "status") if is_old else account.state
        with self.process(invoice, process_fault):
            invoice.observe_status(status)
            self.note_payment(invoice, status)

    @rule(
        data=st.data(), status=st.sampled_from(["created", "canceled", "paid", "expired"]), process_fault=PROCESS_FAULTS
    )
    def resolve(self, data, status, process_fault):
        invoice = self.invoice(data, "in_doubt", "canceling", may_be_stale=True)
        with self.process(invoice, process_fault):
            self.resolve_by_operator(invoice, status)
        self.last_used = None  # if refused, the instance is not refreshed
