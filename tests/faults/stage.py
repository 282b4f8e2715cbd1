"""The state of a random walk: rows, processes with faults, and the promises.

A process may crash at any SQL statement or while it waits for an answer, meet another process at the same row, or
have a clock that is ahead. After each step the promises are checked with the rows, the log and the provider's data.
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

from .fates import CALM, Meeting, dying_at
from .model import MONEY, Books, Broken, Killed, ModelProvider
from .promises import LEVELS, Ledger, check_instance, check_log, check_money, check_request, check_truth, promise

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
PROVIDERS = st.sampled_from(["seen", "seen", "blind"])
numbers = itertools.count(1)


class Stage(RuleBasedStateMachine):
    """The rows, and beside them what was ever told and what the processes of this story are doing."""

    def __init__(self):
        super().__init__()
        self.clock = time_machine.travel(NOON, tick=False)
        self.traveller = self.clock.start()
        self.books = ModelProvider.books = Books()
        ProviderState.objects.all().delete()  # failures of the example before
        self.ledger = Ledger()
        self.pages = []  # instances that somebody still has, as old as they like
        self.paused = []  # (claim, instance, how far its clock is ahead): claimed, and not sent
        self.answered = []  # (answer, ahead): answers that are not recorded
        self.looking = []  # (seen, reply, ahead): lookups that are not recorded
        self.told_money = {}
        self.just_used = None  # (instance, fields) of the last method, where nothing came between it and its row
        self.is_broken = False

    def teardown(self):
        try:
            if not self.is_broken:
                self.come_to_the_truth()
        finally:
            self.clock.stop()

    # -- who and what -----------------------------------------------------------------------------------------

    def invoice(self, data, *rather, may_be_old=False):
        """Draw an invoice, rather one in one of these statuses; or the instance that somebody still has."""
        if may_be_old and self.pages and data.draw(st.integers(0, 3), "0: an old page") == 0:
            return data.draw(st.sampled_from(self.pages), "page")
        rows = self.ledger.rows
        keys = [pk for pk, row in rows.items() if row.status in rather]
        any_key = not keys or data.draw(st.integers(0, 3), "0: any") == 0
        return copy.copy(rows[data.draw(st.sampled_from(list(rows) if any_key else keys), "invoice")])

    def open_invoice(self, data):
        """Draw an invoice that may be canceled; there is always one."""
        if not any(row.status == "created" for row in self.ledger.rows.values()):
            self.new_invoice(data.draw(PROVIDERS, "provider"))
            self.ledger.read()
        return self.invoice(data, "created", may_be_old=True)

    def new_invoice(self, provider):
        external_id = f"{provider}-{next(numbers)}"
        for _ in range(2):  # idempotent
            invoice, _created = Invoice.objects.register(provider=provider, external_id=external_id)
        self.ledger.add(invoice.pk, external_id)

    def account(self, invoice):
        return self.books.of(invoice.external_id)

    def pass_time(self, seconds):
        self.traveller.shift(seconds)
        for account in self.books.accounts.values():
            account.pass_time(self.books.now())

    # -- one process ------------------------------------------------------------------------------------------

    @contextmanager
    def machine(self, ahead):
        """A process on a machine whose clock is ahead of the others'."""
        self.traveller.shift(ahead)
        self.books.ahead = ahead
        try:
            yield
        finally:
            self.traveller.shift(-ahead)
            self.books.ahead, self.books.fault = 0, "none"

    @contextmanager
    def process(self, invoice, fate=CALM, *, tells=WRITER_FIELDS):
        """A process that holds this instance, with an edit that nobody saved, and uses its writer."""
        unsaved = invoice.reference = f"unsaved {next(numbers)}"
        self.just_used, is_done = None, False
        meeting = Meeting(fate.meets_at, invoice.pk, partial(self.other_process, invoice.pk, fate.other))
        befalls = meeting.comes() if fate.meets_at else dying_at(fate.dies_at)
        with suppress(Killed), self.machine(fate.ahead), befalls:
            yield
            is_done = True
        if is_done:
            self.promise(invoice.reference == unsaved, "an unsaved edit was overwritten")
            self.just_used = None if fate.meets_at else (invoice, tells)

    def other_process(self, pk, word, reason):
        invoice = Invoice.objects.get(pk=pk)
        account = self.account(invoice)
        if word == "resolve":
            return self.decide(invoice, "expired", reason)
        if word == "paid" and "paid" not in account.history and account.state != "overpaid":
            account.become(word)
        invoice.observe_status(account.state, reason=reason)
        return self.tell_money(invoice, account.state)

    def decide(self, invoice, word, reason="seen in the cabinet"):
        with suppress(ResolveNotPossible):
            invoice.resolve(word, actor="Ada", reason=reason)
            self.tell_money(invoice, word)

    def send(self, process, fault, delay):
        claim, invoice, ahead = process
        self.books.fault, self.books.delay = fault, delay
        before = self.account(invoice).requests
        with self.machine(ahead), suppress(Killed):
            self.answered.append((submit(registry.get_provider(invoice.provider), claim, invoice), ahead))
        if self.account(invoice).requests > before:
            log = InvoiceTransition.objects.filter(invoice_id=invoice.pk, attempt=claim.attempt, code="abandoned")
            self.promise(time.time() + ahead <= claim.opened_at + claim.ttl, "sent after its claim was over")
            self.promise(not log.exists(), "sent after its claim was called abandoned")

    def reconcile_what_is_due(self, *, is_resubmit):
        invoices = Invoice.objects.filter(pk__in=self.ledger.rows)
        for invoice in invoices.due_for_reconciling().order_by("pk"):
            if is_resubmit or invoice.provider == "seen":
                self.hear(invoice, invoice.reconcile(resubmit=is_resubmit))

    # -- what was told ----------------------------------------------------------------------------------------

    def hear(self, invoice, said):
        """Note the money that a result speaks of: it was recorded before it was told."""
        if said.is_recorded:
            self.tell_money(invoice, said.status)

    def tell_money(self, invoice, word):
        if word in MONEY:
            self.told_money[invoice.pk] = max(self.told_money.get(invoice.pk, ""), word, key=LEVELS.index)

    # -- what holds after each step ---------------------------------------------------------------------------

    def promise(self, is_kept, words):
        self.is_broken = self.is_broken or not is_kept
        promise(is_kept, words)

    @invariant()
    def every_promise_is_kept(self):
        self.is_broken = True
        self.check()
        self.is_broken = False

    def check(self):
        if self.books.broken:
            raise Broken(self.books.broken)
        self.ledger.read()
        for pk, row in self.ledger.rows.items():
            log = self.ledger.logs[pk]
            promise(row.external_id == self.ledger.ids[pk], "a new instance was written over it")
            check_log(row, log)
            check_request(row, log)
            check_money(row, log, self.told_money.get(pk, ""))
            check_truth(row, log, self.account(row))
            promise(not row.reference.startswith("unsaved"), "an unsaved edit was saved")
        if self.just_used is not None:
            instance, tells = self.just_used
            check_instance(instance, self.ledger.rows[instance.pk], tells)
            self.just_used = None

    # -- the end ----------------------------------------------------------------------------------------------

    def come_to_the_truth(self):
        """Nobody acts any more: reconcile, over the days that follow, finds out what can be found out."""
        self.paused.clear()
        self.answered.clear()
        for _ in range(4):
            self.pass_time(7 * 3600)
            self.reconcile_what_is_due(is_resubmit=False)
        self.check()
        kept = {entry.pk for log in self.ledger.logs.values() for entry in log}
        promise(kept == self.ledger.written(), "the log is not what it was")
        for pk, row in self.ledger.rows.items():
            if row.provider == "seen":
                self.check_end(row, self.ledger.logs[pk])

    def check_end(self, row, log):
        account = self.account(row)
        is_decided = any(each.trigger == "operator" and each.code != "requested" for each in log)
        promise(row.status not in ("canceling", "in_doubt"), f"{row.status} for ever")
        if account.state == "canceled" and account.requests and not is_decided:
            promise(row.status == "canceled", f"canceled there, {row.status} here")
