"""A random walk over any number of invoices: every door, stale pages, paused and killed processes, a faulty provider.

A process dies at any SQL statement, or while it waits for an answer. After each step the promises are read off the
rows, the log and the provider's books; at the end reconcile must bring all of it to the truth.
"""

import itertools
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import time_machine
from django.db import connection, transaction
from django.test import TestCase
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from django_invoice_cancel import registry
from django_invoice_cancel.asking import look_up, submit
from django_invoice_cancel.exceptions import ResolveNotPossible
from django_invoice_cancel.intents import Intent
from django_invoice_cancel.models import Invoice, InvoiceTransition
from django_invoice_cancel.outcomes import CONFIRMS_CANCEL
from django_invoice_cancel.services import cancel_invoice, recorded
from django_invoice_cancel.statuses import MOVES

from .model import DOUBT_PERIOD, FAULTS, MONEY, Books, Broken, Killed, ModelProvider

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
CLERK, RECONCILE = Intent("clerk", "admin", "asked by the customer"), Intent(None, "reconcile")
PROVIDERS = st.sampled_from(["seen", "seen", "blind"])
WAITS = st.sampled_from([1, 59, 61, 239, 299, 361, 601, 899, 901, 1300, 3700])
CRASHES = st.one_of(st.none(), st.none(), st.integers(1, 10))
LEGAL = {(str(old), str(new)) for table in MOVES.values() for old, news in table.items() for new in news}
_numbers = itertools.count(1)


@contextmanager
def dying_at(number):
    """Let this process die at its so-many-th SQL statement; what it wrote in an open transaction is rolled back."""
    left = itertools.count(number or -1, -1)

    def execute(execute, sql, params, many, context):
        if next(left) == 1:
            raise Killed
        return execute(sql, params, many, context)

    with suppress(Killed), connection.execute_wrapper(execute):
        yield


class Walk(RuleBasedStateMachine):
    """The rows, and beside them what was ever told and what the processes of this story are doing."""

    def __init__(self):
        super().__init__()
        self.clock = time_machine.travel(NOON, tick=False)
        self.traveller = self.clock.start()
        self.books = ModelProvider.books = Books()
        self.keys = []
        self.pages = []  # instances that somebody still has, as old as they like
        self.paused = []  # (claim, instance): claimed, and not sent
        self.answered = []  # answers that are not recorded
        self.looking = []  # (seen, reply): lookups that are not recorded
        self.told_money = {}

    def teardown(self):
        try:
            self.come_to_the_truth()
        finally:
            self.clock.stop()

    # -- who and what -----------------------------------------------------------------------------------------

    def invoice(self, data, *rather, may_be_old=False):
        """Draw an invoice, rather one in one of these statuses; or the instance that somebody still has."""
        if may_be_old and self.pages and data.draw(st.integers(0, 3), "0: an old page") == 0:
            return data.draw(st.sampled_from(self.pages), "page")
        wanted = Invoice.objects.filter(pk__in=self.keys, status__in=rather)
        keys = (
            list(wanted.order_by("pk").values_list("pk", flat=True)) if data.draw(st.integers(0, 3), "0: any") else []
        )
        return Invoice.objects.get(pk=data.draw(st.sampled_from(keys or self.keys), "invoice"))

    def open_invoice(self, data):
        """Draw an invoice that may be canceled; there is always one."""
        if not Invoice.objects.filter(pk__in=self.keys, status="created").exists():
            self.new_invoice(data.draw(PROVIDERS, "provider"))
        return self.invoice(data, "created", may_be_old=True)

    def account(self, invoice):
        return self.books.of(invoice.external_id)

    def tell_money(self, invoice, word):
        if word in MONEY:
            known = self.told_money.get(invoice.pk, "")
            self.told_money[invoice.pk] = max(known, word, key=["", *MONEY].index)

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
        self.keys.append(invoice.pk)

    @rule(seconds=WAITS)
    def wait(self, seconds):
        self.pass_time(seconds)

    def pass_time(self, seconds):
        self.traveller.shift(seconds)
        for account in self.books.accounts.values():
            account.pass_time()

    @rule(data=st.data())
    def open_page(self, data):
        self.pages.append(self.invoice(data))

    @rule(data=st.data(), word=st.sampled_from(["created", "canceled", "paid", "in_doubt"]))
    def save_old_page(self, data, word):
        page = self.invoice(data, may_be_old=True)
        page.status, page.reference = word, "edited"
        page.save()

    @rule(data=st.data(), fault=st.sampled_from(FAULTS), delay=st.floats(1, DOUBT_PERIOD), crash=CRASHES)
    def cancel(self, data, fault, delay, crash):
        invoice = self.open_invoice(data)
        self.books.fault, self.books.delay = fault, delay
        with dying_at(crash):
            self.hear(invoice, cancel_invoice(invoice, actor="clerk", reason="asked for"))

    @rule(data=st.data(), fault=st.sampled_from(FAULTS), is_run=st.booleans(), crash=CRASHES)
    def cancel_on_commit(self, data, fault, is_run, crash):
        """The process may die between the commit and what follows it."""
        invoice = self.open_invoice(data)
        with dying_at(crash), TestCase.captureOnCommitCallbacks() as callbacks, transaction.atomic():
            invoice.cancel_on_commit(actor="clerk", reason="asked for")
        self.books.fault = fault
        with dying_at(crash):
            for callback in callbacks if is_run else ():
                callback()

    @rule(fault=st.sampled_from(FAULTS), crash=CRASHES)
    def do_what_was_requested(self, fault, crash):
        self.books.fault = fault
        with dying_at(crash):
            for invoice in Invoice.objects.filter(pk__in=self.keys).requested():
                self.hear(invoice, cancel_invoice(invoice))

    @rule(data=st.data(), crash=CRASHES)
    def claim_and_be_paused(self, data, crash):
        invoice = self.open_invoice(data)
        with dying_at(crash):
            claim = invoice.verbs.claim([invoice], CLERK)
            self.paused += [(claim, won) for won in claim.invoices]

    @precondition(lambda self: self.paused)
    @rule(data=st.data(), fault=st.sampled_from(FAULTS), delay=st.floats(1, DOUBT_PERIOD))
    def wake_up_and_send(self, data, fault, delay):
        claim, invoice = self.paused.pop(data.draw(st.integers(0, len(self.paused) - 1), "process"))
        self.books.fault, self.books.delay = fault, delay
        before = self.account(invoice).requests
        with suppress(Killed):
            self.answered.append(submit(registry.get_provider(invoice.provider), claim, invoice))
        self.books.fault = "none"
        is_over = time.time() > claim.opened_at + claim.ttl
        assert not (is_over and self.account(invoice).requests > before), "sent after its claim was over"

    @precondition(lambda self: self.answered)
    @rule(data=st.data(), crash=CRASHES)
    def record_the_answer(self, data, crash):
        answer = self.answered.pop(data.draw(st.integers(0, len(self.answered) - 1), "answer"))
        with dying_at(crash):
            self.hear(answer.invoice, recorded(answer))

    @precondition(lambda self: self.paused)
    @rule()
    def give_back(self):
        claim, invoice = self.paused.pop()
        invoice.verbs.give_back(claim, [invoice])

    @rule(data=st.data(), is_resubmit=st.booleans(), fault=st.sampled_from(["none", "none", *FAULTS]), crash=CRASHES)
    def reconcile(self, data, is_resubmit, fault, crash):
        invoice = self.invoice(data, "in_doubt", "canceling", may_be_old=True)
        self.books.fault = fault
        with dying_at(crash):
            self.hear(invoice, invoice.reconcile(resubmit=is_resubmit))

    @rule(seconds=st.sampled_from([361, 1300]))
    def cron(self, seconds):
        """Time passes, and reconcile runs as it does every minute."""
        self.pass_time(seconds)
        for _ in range(2):
            for invoice in Invoice.objects.filter(pk__in=self.keys).due_for_reconciling().order_by("pk"):
                self.hear(invoice, invoice.reconcile(resubmit=True))

    @rule(data=st.data())
    def look_up_and_be_paused(self, data):
        invoice = self.invoice(data, "in_doubt", "canceling")
        if invoice.provider != "seen":
            return
        if invoice.is_abandoned:
            invoice.verbs.abandon([invoice], RECONCILE)
        seen = invoice.verbs.seen(invoice)
        reply = look_up(registry.get_provider("seen"), [invoice.external_id])[invoice.external_id]
        self.looking.append((seen, reply))

    @precondition(lambda self: self.looking)
    @rule(data=st.data(), crash=CRASHES)
    def record_the_lookup(self, data, crash):
        seen, reply = self.looking.pop(data.draw(st.integers(0, len(self.looking) - 1), "lookup"))
        with dying_at(crash):
            seen.invoice.verbs.record_lookup(seen, reply, RECONCILE)
            self.tell_money(seen.invoice, reply.status)

    @rule(data=st.data(), word=st.sampled_from([*MONEY, "expired", "failed"]))
    def the_customer_acts(self, data, word):
        """At the provider alone: money only grows there, and a closed invoice may still be paid."""
        account = self.account(self.invoice(data, "canceled", "in_doubt", *MONEY))
        levels = ["", *MONEY]
        held = account.state if account.state in MONEY else ""
        grows = word in MONEY and levels.index(word) > levels.index(held)
        if grows or account.state == "created":
            account.become(word)

    @rule(data=st.data(), is_old=st.booleans(), crash=CRASHES)
    def webhook(self, data, is_old, crash):
        """What the provider holds now, or what a postback says that was long under way."""
        invoice = self.invoice(data, "canceled", *MONEY, may_be_old=True)
        account = self.account(invoice)
        word = data.draw(st.sampled_from(account.history), "word") if is_old else account.state
        with dying_at(crash):
            invoice.observe_status(word)
            self.tell_money(invoice, word)

    @rule(data=st.data(), word=st.sampled_from(["created", "canceled", "paid", "expired"]), crash=CRASHES)
    def resolve(self, data, word, crash):
        invoice = self.invoice(data, "in_doubt", "canceling", may_be_old=True)
        with dying_at(crash), suppress(ResolveNotPossible):
            invoice.resolve(word, actor="Ada", reason="seen in the cabinet")
            self.tell_money(invoice, word)

    def hear(self, invoice, said):
        """Note the money that a result speaks of: it was recorded before it was told."""
        if said.is_recorded:
            self.tell_money(invoice, said.status)

    # -- what holds after each step ---------------------------------------------------------------------------

    @invariant()
    def every_promise_is_kept(self):
        self.check()

    def check(self):
        if self.books.broken:
            raise Broken(self.books.broken)
        logs = {key: [] for key in self.keys}
        for row in InvoiceTransition.objects.filter(invoice_id__in=self.keys).order_by("id"):
            logs[row.invoice_id].append(row)
        for row in Invoice.objects.filter(pk__in=self.keys):
            self.check_log(row, logs[row.pk])
            self.check_truth(row, logs[row.pk])
            self.check_money(row, logs[row.pk])

    def check_log(self, row, log):
        """The log is a chain of moves that exist, and it ends in the row's status."""
        at = "created"
        for each in log:
            assert each.from_status == at
            assert each.to_status == at or (at, each.to_status) in LEGAL, f"{at} > {each.to_status}"
            at = each.to_status
        assert row.status == at
        assert row.status != "in_doubt" or row.next_check_at is not None
        assert row.status != "canceling" or row.claim_expires_at is not None

    def check_truth(self, row, log):
        account = self.account(row)
        is_decided = any(each.trigger == "operator" and each.to_status == row.status for each in log)
        if row.status == "canceled":
            assert account.was_canceled or is_decided, "canceled without the provider's word"
        if row.status in ("expired", "failed"):
            assert account.state == row.status or account.state in MONEY or is_decided
        if row.status == "created" and not is_decided:
            assert not account.late, "called open while a lost request may still be carried out"
            assert not (account.is_ours and account.state == "canceled"), "called open, and we had canceled it"

    def check_money(self, row, log):
        told = self.told_money.get(row.pk, "")
        held = row.status if row.status in MONEY else ""
        assert ["", *MONEY].index(held) >= ["", *MONEY].index(told), f"{told} became {row.status}"
        if held:
            met = any(each.to_status == "canceled" or each.outcome in CONFIRMS_CANCEL for each in log)
            assert (row.paid_after_cancel_at is not None) is met

    # -- the end ----------------------------------------------------------------------------------------------

    def come_to_the_truth(self):
        """Nobody acts any more: reconcile, over the days that follow, finds out what can be found out."""
        self.paused.clear()
        self.answered.clear()
        for _ in range(4):
            self.pass_time(7 * 3600)
            due = Invoice.objects.filter(pk__in=self.keys, provider="seen").due_for_reconciling()
            for invoice in due:
                self.hear(invoice, invoice.reconcile())
        self.check()
        for row in Invoice.objects.filter(pk__in=self.keys, provider="seen"):
            account = self.account(row)
            is_decided = row.transitions.filter(trigger="operator").exclude(code="requested").exists()
            assert row.status not in ("canceling", "in_doubt")
            if account.state == "canceled" and account.requests and not is_decided:
                assert row.status == "canceled", f"canceled there, {row.status} here"
