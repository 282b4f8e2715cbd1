"""A random walk over any number of invoices: every entry point, stale pages, paused processes, a faulty provider."""

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

from .fates import CLOCKS, FATES, Fate
from .model import FAULTS, LATEST, MONEY, Killed
from .promises import LEVELS
from .stage import PROVIDERS, Stage, numbers

CLERK, RECONCILE = AuditContext("clerk", "admin", "asked by the customer"), AuditContext(None, "reconcile")
WAITS = st.sampled_from([1, 59, 61, 250, 269, 299, 361, 601, 899, 901, 961, 1300, 3700])
DELAYS = st.sampled_from([1, 300, 600, LATEST])
# What a method that reads no row lets the instance tell: what it wrote. The others let it tell the whole row.
CLAIMED = ("status", "attempt", "claim_expires_at", "status_changed_at")
RECORDED = (*CLAIMED, "last_outcome")


def only(*steps):
    """Return a walk that takes these steps alone: a long story is told sooner by few words."""
    rules = {name: getattr(step, RULE_MARKER, None) for name, step in vars(Walk).items()}
    others = {name: rule.function for name, rule in rules.items() if rule is not None and name not in steps}
    return type("Walk", (Walk,), others)


class Walk(Stage):
    """The steps."""

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
            Invoice(pk=old.pk, provider="seen", external_id=f"seen-{next(numbers)}").save()

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
        with captured as callbacks, self.process(invoice, fate), transaction.atomic():
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
                self.hear(invoice, cancel_requested(invoice))

    @rule(data=st.data(), fate=FATES)
    def withdraw(self, data, fate):
        invoice = self.invoice(data, "created", "canceling", "in_doubt", may_be_old=True)
        with self.process(invoice, fate):
            invoice.withdraw(actor="clerk", reason="by mistake")

    @rule(data=st.data(), fate=FATES)
    def claim_and_be_paused(self, data, fate):
        invoice = self.open_invoice(data)
        won = []
        with self.process(invoice, fate, tells=CLAIMED):
            claim = invoice._writer.claim([invoice], CLERK)
            won = claim.invoices
            self.paused += [(claim, invoice, fate.ahead) for invoice in won]
        self.just_used = self.just_used if won else None

    @precondition(lambda self: self.paused)
    @rule(data=st.data(), fault=st.sampled_from(FAULTS), delay=DELAYS)
    def wake_up_and_send(self, data, fault, delay):
        self.send(self.paused.pop(data.draw(st.integers(0, len(self.paused) - 1), "process")), fault, delay)

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
            self.hear(answer.invoice, record_answer(answer, answer.invoice._writer))

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
            invoice._writer.give_back(claim, [invoice])

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

    @rule(data=st.data(), ahead=CLOCKS)
    def look_up_and_be_paused(self, data, ahead):
        invoice = self.invoice(data, "in_doubt", "canceling")
        if invoice.provider != "seen":
            return
        with self.machine(ahead):
            if invoice.is_abandoned:
                invoice._writer.mark_abandoned([invoice], RECONCILE)
            seen = Seen.now(invoice)
            reply = look_up(registry.get_provider("seen"), [invoice.external_id])[invoice.external_id]
        self.looking.append((seen, reply, ahead))

    @precondition(lambda self: self.looking)
    @rule(data=st.data(), fate=FATES)
    def record_the_lookup(self, data, fate):
        seen, reply, ahead = self.looking.pop(data.draw(st.integers(0, len(self.looking) - 1), "lookup"))
        with self.process(seen.invoice, replace(fate, ahead=ahead)):
            seen.invoice._writer.record_lookup(seen, reply, RECONCILE)
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
