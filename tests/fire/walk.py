"""A random walk over any number of invoices: every door, stale pages, paused and killed processes, a faulty provider.

A process dies at any SQL statement, or while it waits for an answer; it meets another at the same row; its clock is
ahead. After each step the promises are read off the rows, the log and the provider's books; at the end reconcile must
bring all of it to the truth.
"""

import copy
import itertools
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import time_machine
from django.db import IntegrityError, transaction
from django.test import TestCase
from hypothesis import strategies as st
from hypothesis.stateful import RULE_MARKER, RuleBasedStateMachine, initialize, invariant, precondition, rule

from django_invoice_cancel import registry
from django_invoice_cancel.asking import look_up, submit
from django_invoice_cancel.exceptions import ResolveNotPossible
from django_invoice_cancel.intents import Intent
from django_invoice_cancel.models import Invoice, InvoiceTransition
from django_invoice_cancel.models.verbs.rows import VERB_FIELDS
from django_invoice_cancel.services import cancel_invoice, recorded

from .fates import CALM, CLOCKS, FATES, Fate, Meeting, dying_at
from .model import FAULTS, LATEST, MONEY, Books, Broken, Killed, ModelProvider
from .promises import LEVELS, Ledger, check_instance, check_log, check_money, check_truth, promise

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
CLERK, RECONCILE = Intent("clerk", "admin", "asked by the customer"), Intent(None, "reconcile")
PROVIDERS = st.sampled_from(["seen", "seen", "blind"])
WAITS = st.sampled_from([1, 59, 61, 250, 269, 299, 361, 601, 899, 901, 961, 1300, 3700])
DELAYS = st.sampled_from([1, 300, 600, LATEST])
# What a verb that reads no row lets the instance tell: what it wrote. The others let it tell the whole row.
REQUESTED = ("status", "cancel_requested_at")
CLAIMED = (*REQUESTED, "attempt", "claim_expires_at", "status_changed_at")
RECORDED = (*CLAIMED, "last_outcome")
_numbers = itertools.count(1)


def only(*steps):
    """Return a walk that takes these steps alone: a long story is told sooner by few words."""
    rules = {name: getattr(step, RULE_MARKER, None) for name, step in vars(Walk).items()}
    others = {name: rule.function for name, rule in rules.items() if rule is not None and name not in steps}
    return type("Walk", (Walk,), others)


class Walk(RuleBasedStateMachine):
    """The rows, and beside them what was ever told and what the processes of this story are doing."""

    def __init__(self):
        super().__init__()
        self.clock = time_machine.travel(NOON, tick=False)
        self.traveller = self.clock.start()
        self.books = ModelProvider.books = Books()
        self.ledger = Ledger()
        self.pages = []  # instances that somebody still has, as old as they like
        self.paused = []  # (claim, instance, how far its clock is ahead): claimed, and not sent
        self.answered = []  # (answer, ahead): answers that are not recorded
        self.looking = []  # (seen, reply, ahead): lookups that are not recorded
        self.told_money = {}
        self.just_used = None  # (instance, fields) of the last verb, where nothing came between it and its row
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

    def account(self, invoice):
        return self.books.of(invoice.external_id)

    def tell_money(self, invoice, word):
        if word in MONEY:
            self.told_money[invoice.pk] = max(self.told_money.get(invoice.pk, ""), word, key=LEVELS.index)

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
    def process(self, invoice, fate=CALM, *, tells=VERB_FIELDS):
        """A process that holds this instance, with an edit that nobody saved, and uses its verbs."""
        unsaved = invoice.reference = f"unsaved {next(_numbers)}"
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

    # -- steps ------------------------------------------------------------------------------------------------

    @initialize(provider=PROVIDERS)
    def begin(self, provider):
        self.new_invoice(provider)

    @rule(provider=PROVIDERS)
    def register(self, provider):
        self.new_invoice(provider)

    def new_invoice(self, provider):
        external_id = f"{provider}-{next(_numbers)}"
        for _ in range(2):  # idempotent
            invoice, _created = Invoice.objects.register(provider=provider, external_id=external_id)
        self.ledger.add(invoice.pk, external_id)

    @rule(seconds=WAITS)
    def wait(self, seconds):
        self.pass_time(seconds)

    def pass_time(self, seconds):
        self.traveller.shift(seconds)
        for account in self.books.accounts.values():
            account.pass_time(self.books.now())

    @rule(data=st.data())
    def open_page(self, data):
        self.pages.append(self.invoice(data))

    @rule(data=st.data(), word=st.sampled_from(["created", "canceled", "paid", "in_doubt"]))
    def save_old_page(self, data, word):
        page = self.invoice(data, may_be_old=True)
        page.status, page.reference = word, "edited"
        page.save()

    @rule(data=st.data())
    def save_a_new_one_over_it(self, data):
        """Somebody builds an instance with a key that there is already."""
        old = self.invoice(data)
        with suppress(IntegrityError), transaction.atomic():
            Invoice(pk=old.pk, provider="seen", external_id=f"seen-{next(_numbers)}").save()

    @rule(data=st.data(), fault=st.sampled_from(FAULTS), delay=DELAYS, fate=FATES)
    def cancel(self, data, fault, delay, fate):
        invoice = self.open_invoice(data)
        self.books.fault, self.books.delay = fault, delay
        with self.process(invoice, fate, tells=RECORDED):
            self.hear(invoice, cancel_invoice(invoice, actor="clerk", reason="asked for"))

    @rule(data=st.data(), fault=st.sampled_from(FAULTS), is_run=st.booleans(), fate=FATES)
    def cancel_on_commit(self, data, fault, is_run, fate):
        """The process may die between the commit and what follows it."""
        invoice = self.open_invoice(data)
        captured = TestCase.captureOnCommitCallbacks()
        with captured as callbacks, self.process(invoice, fate, tells=REQUESTED), transaction.atomic():
            invoice.cancel_on_commit(actor="clerk", reason="asked for")
        if callbacks and is_run:
            self.books.fault = fault
            with self.process(invoice, fate, tells=RECORDED):
                callbacks[0]()

    @rule(fault=st.sampled_from(FAULTS), fate=FATES)
    def do_what_was_requested(self, fault, fate):
        for invoice in Invoice.objects.filter(pk__in=self.ledger.rows).requested().order_by("pk"):
            self.books.fault = fault
            with self.process(invoice, fate):
                self.hear(invoice, cancel_invoice(invoice))

    @rule(data=st.data(), fate=FATES)
    def claim_and_be_paused(self, data, fate):
        invoice = self.open_invoice(data)
        won = []
        with self.process(invoice, fate, tells=CLAIMED):
            claim = invoice.verbs.claim([invoice], CLERK)
            won = claim.invoices
            self.paused += [(claim, invoice, fate.ahead) for invoice in won]
        self.just_used = self.just_used if won else None

    @precondition(lambda self: self.paused)
    @rule(data=st.data(), fault=st.sampled_from(FAULTS), delay=DELAYS)
    def wake_up_and_send(self, data, fault, delay):
        self.send(self.paused.pop(data.draw(st.integers(0, len(self.paused) - 1), "process")), fault, delay)

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

    @precondition(lambda self: self.paused)
    @rule(data=st.data(), seconds=st.sampled_from([250, 361]), ahead=CLOCKS, fault=st.sampled_from(FAULTS))
    def others_look_after_it(self, data, seconds, ahead, fault):
        """Time passes, somebody comes upon a claim whose process is paused, and then that wakes up."""
        process = self.paused.pop(data.draw(st.integers(0, len(self.paused) - 1), "process"))
        invoice = copy.copy(process[1])
        self.pass_time(seconds)
        with self.process(invoice, Fate(ahead)):
            self.hear(invoice, invoice.reconcile())
        self.send(process, fault, LATEST)

    @precondition(lambda self: self.answered)
    @rule(data=st.data(), fate=FATES)
    def record_the_answer(self, data, fate):
        answer, ahead = self.answered.pop(data.draw(st.integers(0, len(self.answered) - 1), "answer"))
        with self.process(answer.invoice, replace(fate, ahead=ahead), tells=RECORDED):
            self.hear(answer.invoice, recorded(answer))

    @precondition(lambda self: self.answered)
    @rule(data=st.data(), fault=st.sampled_from(FAULTS), delay=DELAYS)
    def the_next_attempt_begins(self, data, fault, delay):
        """Before an answer is recorded, its claim is abandoned, called open, and somebody cancels anew."""
        invoice = copy.copy(data.draw(st.sampled_from(self.answered), "whose")[0].invoice)
        self.cron(1300, ahead=0, fault="none")
        self.books.fault, self.books.delay = fault, delay
        with self.process(invoice, tells=RECORDED):
            self.hear(invoice, cancel_invoice(invoice, actor="another", reason="asked for"))

    @precondition(lambda self: self.paused)
    @rule()
    def give_back(self):
        claim, invoice, ahead = self.paused.pop()
        with self.machine(ahead):
            invoice.verbs.give_back(claim, [invoice])

    @rule(data=st.data(), is_resubmit=st.booleans(), fault=st.sampled_from(["none", "none", *FAULTS]), fate=FATES)
    def reconcile(self, data, is_resubmit, fault, fate):
        invoice = self.invoice(data, "in_doubt", "canceling", may_be_old=True)
        self.books.fault = fault
        with self.process(invoice, fate):
            self.hear(invoice, invoice.reconcile(resubmit=is_resubmit))

    @rule(seconds=st.sampled_from([361, 899, 1300]), ahead=CLOCKS, fault=st.sampled_from(["none", "none", *FAULTS]))
    def cron(self, seconds, ahead, fault):
        """Time passes, and reconcile runs as it does every minute; its first question meets a fault."""
        self.pass_time(seconds)
        self.books.fault = fault
        with suppress(Killed), self.machine(ahead):
            for _ in range(2):
                self.reconcile_what_is_due(is_resubmit=True)
        self.just_used = None  # what was used before is old now

    @rule(data=st.data(), delay=DELAYS)
    def the_doubt_period_is_too_short(self, data, delay):
        """The provider carries out a lost request after it: by then the invoice may have been called open."""
        invoice = self.open_invoice(data)
        self.books.fault, self.books.delay = "very_late", delay
        with self.process(invoice, tells=RECORDED):
            self.hear(invoice, cancel_invoice(invoice, actor="clerk", reason="asked for"))
        self.cron(961, ahead=0, fault="none")

    def reconcile_what_is_due(self, *, is_resubmit):
        invoices = Invoice.objects.filter(pk__in=self.ledger.rows)
        for invoice in invoices.due_for_reconciling().order_by("pk"):
            if is_resubmit or invoice.provider == "seen":
                self.hear(invoice, invoice.reconcile(resubmit=is_resubmit))

    @rule(data=st.data(), ahead=CLOCKS)
    def look_up_and_be_paused(self, data, ahead):
        invoice = self.invoice(data, "in_doubt", "canceling")
        if invoice.provider != "seen":
            return
        with self.machine(ahead):
            if invoice.is_abandoned:
                invoice.verbs.abandon([invoice], RECONCILE)
            seen = invoice.verbs.seen(invoice)
            reply = look_up(registry.get_provider("seen"), [invoice.external_id])[invoice.external_id]
        self.looking.append((seen, reply, ahead))

    @precondition(lambda self: self.looking)
    @rule(data=st.data(), fate=FATES)
    def record_the_lookup(self, data, fate):
        seen, reply, ahead = self.looking.pop(data.draw(st.integers(0, len(self.looking) - 1), "lookup"))
        with self.process(seen.invoice, replace(fate, ahead=ahead)):
            seen.invoice.verbs.record_lookup(seen, reply, RECONCILE)
            self.tell_money(seen.invoice, reply.status)
        self.just_used = self.just_used if reply.is_answer else None

    @rule(data=st.data(), word=st.sampled_from([*MONEY, "expired", "failed"]))
    def the_customer_acts(self, data, word):
        """At the provider alone: money only grows there, and a closed invoice may still be paid."""
        account = self.account(self.invoice(data, "canceled", "in_doubt", *MONEY))
        held = account.state if account.state in MONEY else ""
        grows = word in MONEY and LEVELS.index(word) > LEVELS.index(held)
        if grows or account.state == "created":
            account.become(word)

    @rule(data=st.data(), fate=FATES)
    def webhook(self, data, fate):
        """What the provider holds now."""
        self.observe(
            self.invoice(data, "canceled", "canceling", "in_doubt", *MONEY, may_be_old=True),
            fate,
            is_old=False,
            data=data,
        )

    @rule(data=st.data(), fate=FATES)
    def old_webhook(self, data, fate):
        """What a postback says that was long under way."""
        self.observe(self.invoice(data, "in_doubt", *MONEY, may_be_old=True), fate, is_old=True, data=data)

    def observe(self, invoice, fate, *, is_old, data):
        account = self.account(invoice)
        word = data.draw(st.sampled_from(account.history), "word") if is_old else account.state
        with self.process(invoice, fate):
            invoice.observe_status(word)
            self.tell_money(invoice, word)

    @rule(data=st.data(), word=st.sampled_from(["created", "canceled", "paid", "expired"]), fate=FATES)
    def resolve(self, data, word, fate):
        invoice = self.invoice(data, "in_doubt", "canceling", may_be_old=True)
        with self.process(invoice, fate):
            self.decide(invoice, word)
        self.just_used = None  # as old as it was, where it was refused

    def hear(self, invoice, said):
        """Note the money that a result speaks of: it was recorded before it was told."""
        if said.is_recorded:
            self.tell_money(invoice, said.status)

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
