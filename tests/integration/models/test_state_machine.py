"""Random sequences of calls for one invoice: in any order, the log is a chain and no payment is lost.

It has no crashes and no provider: only the writer, stale instances, late answers and the clock.
"""

import pytest
import time_machine
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from django_invoice_cancel.domain.claims import Seen
from django_invoice_cancel.exceptions import ResolveNotPossible
from django_invoice_cancel.models import Invoice, InvoiceTransition
from django_invoice_cancel.services.eligibility import doubt_over_at
from tests.support.invoices import invoice_in_status, stored
from tests.support.writes import CLERK, INSTANT, NOON, OPERATOR, RECONCILE, lookup_reply, open_claim, record_answer

pytestmark = pytest.mark.django_db

CLAIM_TTL, DOUBT_PERIOD = 300, 900
SOME_MONEY = ["partially_paid", "paid", "overpaid"]
ENDS = ["canceled", "expired", "failed", *SOME_MONEY]
REPLIES = st.sampled_from(
    [("canceled", None), ("already_canceled", None), ("in_doubt", None), ("not_processed", None), ("refused", None)]
    + [("refused", word) for word in ENDS if word != "canceled"]
)
WAITS = st.sampled_from([1, 59, 61, 299, 361, 899, 901, 1300, 3600])


class Walk(RuleBasedStateMachine):
    """The reports so far, beside the invoice that received them."""

    def __init__(self):
        super().__init__()
        self.clock = time_machine.travel(INSTANT.timestamp(), tick=False)
        self.traveller = self.clock.start()
        self.now = 0
        self.invoice = invoice_in_status()
        self.page = stored(self.invoice)  # a stale instance of any age
        self.open = []  # (claim, instance, when its request is over)
        self.looking = None
        self.money = self.handled = ""
        self.is_cancel_heard = False

    def teardown(self):
        self.clock.stop()

    def hear(self, word):
        self.is_cancel_heard |= word in ("canceled", "already_canceled")
        if word in SOME_MONEY:
            self.money = max(self.money, word, key=["", *SOME_MONEY].index)

    def instance(self, is_stale):
        return self.page if is_stale else stored(self.invoice)

    # -- steps ------------------------------------------------------------------------------------------------

    @initialize(is_late=st.booleans())
    def begin(self, is_late):
        """Half of the sequences begin with a late payment, which random calls rarely reach."""
        for word in ["canceled", "partially_paid"] if is_late else []:
            self.observe(is_stale=False, word=word)
        self.open_page()

    @rule(seconds=WAITS)
    def wait(self, seconds):
        self.now += seconds
        self.traveller.shift(seconds)

    @rule()
    def open_page(self):
        self.page = stored(self.invoice)

    @rule(is_stale=st.booleans(), before=st.sampled_from(["created", "in_doubt"]))
    def open_claim(self, is_stale, before):
        instance = self.instance(is_stale)
        if before == "in_doubt" and self.now < (doubt_over_at(instance) - NOON).total_seconds():
            return
        opened = open_claim(instance, before=before)
        if opened.invoices:
            assert all(self.now >= over + DOUBT_PERIOD for _, _, over in self.open)
            self.open.append((opened, instance, self.now + CLAIM_TTL))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), reply=REPLIES)
    def answer(self, data, reply):
        opened, instance, _ = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        record_answer(opened, instance, *reply)
        self.hear(reply[1] or reply[0])

    @precondition(lambda self: self.open)
    @rule()
    def give_back(self):
        opened, instance, _ = self.open.pop()
        instance._writer.give_back(opened, [instance])

    @rule(is_stale=st.booleans())
    def abandon(self, is_stale):
        instance = self.instance(is_stale)
        instance._writer.mark_abandoned([instance], RECONCILE)

    @rule(is_stale=st.booleans(), word=st.sampled_from(["created", *ENDS]))
    def observe(self, is_stale, word):
        self.instance(is_stale).observe_status(word)
        self.hear(word)

    @rule(is_stale=st.booleans())
    def begin_lookup(self, is_stale):
        instance = self.instance(is_stale)
        instance._writer.book_check([instance])
        self.looking = Seen.now(instance)

    @precondition(lambda self: self.looking)
    @rule(word=st.sampled_from(["created", "created", None, *ENDS]), is_answer=st.booleans())
    def end_lookup(self, word, is_answer):
        seen, self.looking = self.looking, None
        self.invoice._writer.record_lookup(seen, lookup_reply(word, is_answer=is_answer or word is not None), RECONCILE)
        self.hear(word)

    @rule(is_stale=st.booleans(), word=st.sampled_from(["created", *ENDS]))
    def resolve(self, is_stale, word):
        instance = self.instance(is_stale)
        try:
            instance._writer.resolve(instance, word, OPERATOR)
        except ResolveNotPossible:
            return
        self.hear(word)

    @precondition(lambda self: self.is_cancel_heard and self.money)
    @rule(is_stale=st.booleans())
    def handle(self, is_stale):
        instance = self.instance(is_stale)
        seen = instance.status if instance.status in SOME_MONEY else ""
        is_waiting = self.handled != self.money
        try:
            instance.mark_handled(actor="Ada", note="paid back", seen=seen)
        except ResolveNotPossible:
            return
        assert not is_waiting or seen in ("", self.money)
        self.handled = self.money

    @precondition(lambda self: self.handled == self.money in SOME_MONEY[:-1])
    @rule(is_stale=st.booleans(), more=st.integers(1, 2))
    def pay_more(self, is_stale, more):
        left = SOME_MONEY[SOME_MONEY.index(self.money) + 1 :]
        self.observe(is_stale=is_stale, word=left[:more][-1])

    @rule()
    def request(self):
        self.page._writer.request_cancel(self.page, CLERK)

    @rule(word=st.sampled_from(["created", *ENDS]))
    def save_an_old_page(self, word):
        self.page.status = word
        self.page.save()

    # -- what holds after each ----------------------------------------------------------------------------------

    @invariant()
    def nothing_is_lost_or_made_up(self):
        row = stored(self.invoice)
        self.check_log(row)
        assert (row.status if row.status in SOME_MONEY else "") == self.money
        assert row.status != "canceled" or self.is_cancel_heard
        is_late = self.is_cancel_heard and bool(self.money)
        assert (row.paid_after_cancel_at is not None) is is_late
        is_listed = Invoice.objects.paid_after_cancel().filter(pk=row.pk).exists()
        assert is_listed is (is_late and self.handled != self.money)
        assert row.status != "in_doubt" or row.next_check_at is not None

    def check_log(self, row):
        """The log is a chain that ends in the row's status."""
        at = "created"
        for old, new in InvoiceTransition.objects.filter(invoice=row).values_list("from_status", "to_status"):
            assert old == at
            at = new
        assert row.status == at


@pytest.mark.parametrize("count", [6, pytest.param(120, marks=pytest.mark.slow)])
def test_no_order_of_calls_loses_a_payment_or_breaks_the_log(limits, count):
    limits(CLAIM_TTL=CLAIM_TTL, DOUBT_PERIOD=DOUBT_PERIOD)
    profile = settings(
        max_examples=count,
        stateful_step_count=25,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Walk, settings=profile)
