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
PAYMENTS = ["partially_paid", "paid", "overpaid"]
ENDS = ["canceled", "expired", "failed", *PAYMENTS]
REPLIES = st.sampled_from(
    [("canceled", None), ("already_canceled", None), ("in_doubt", None), ("not_processed", None), ("refused", None)]
    + [("refused", status) for status in ENDS if status != "canceled"]
)
WAITS = st.sampled_from([1, 59, 61, 299, 361, 899, 901, 1300, 3600])


class CallSequence(RuleBasedStateMachine):
    """An invoice, and what was reported about it so far."""

    def __init__(self):
        super().__init__()
        self.clock = time_machine.travel(INSTANT.timestamp(), tick=False)
        self.traveller = self.clock.start()
        self.now = 0
        self.invoice = invoice_in_status()
        self.stale = stored(self.invoice)  # an instance of any age
        self.claims = []  # (claim, instance, end of its request)
        self.lookup = None
        self.money = self.handled = ""
        self.is_cancel_reported = False

    def teardown(self):
        self.clock.stop()

    def note_report(self, status):
        self.is_cancel_reported |= status in ("canceled", "already_canceled")
        if status in PAYMENTS:
            self.money = max(self.money, status, key=["", *PAYMENTS].index)

    def instance(self, is_stale):
        return self.stale if is_stale else stored(self.invoice)

    # -- steps ------------------------------------------------------------------------------------------------

    @initialize(is_late=st.booleans())
    def begin(self, is_late):
        """Half of the sequences begin with a late payment, which random calls rarely reach."""
        for status in ["canceled", "partially_paid"] if is_late else []:
            self.observe(is_stale=False, status=status)
        self.read_instance()

    @rule(seconds=WAITS)
    def wait(self, seconds):
        self.now += seconds
        self.traveller.shift(seconds)

    @rule()
    def read_instance(self):
        self.stale = stored(self.invoice)

    @rule(is_stale=st.booleans(), before=st.sampled_from(["created", "in_doubt"]))
    def open_claim(self, is_stale, before):
        instance = self.instance(is_stale)
        if before == "in_doubt" and self.now < (doubt_over_at(instance) - NOON).total_seconds():
            return
        opened = open_claim(instance, before=before)
        if opened.invoices:
            assert all(self.now >= over + DOUBT_PERIOD for _, _, over in self.claims)
            self.claims.append((opened, instance, self.now + CLAIM_TTL))

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), reply=REPLIES)
    def answer(self, data, reply):
        opened, instance, _ = self.claims.pop(data.draw(st.integers(0, len(self.claims) - 1)))
        record_answer(opened, instance, *reply)
        self.note_report(reply[1] or reply[0])

    @precondition(lambda self: self.claims)
    @rule()
    def give_back(self):
        opened, instance, _ = self.claims.pop()
        instance._writer.give_back(opened, [instance])

    @rule(is_stale=st.booleans())
    def abandon(self, is_stale):
        instance = self.instance(is_stale)
        instance._writer.mark_abandoned([instance], RECONCILE)

    @rule(is_stale=st.booleans(), status=st.sampled_from(["created", *ENDS]))
    def observe(self, is_stale, status):
        self.instance(is_stale).observe_status(status)
        self.note_report(status)

    @rule(is_stale=st.booleans())
    def begin_lookup(self, is_stale):
        instance = self.instance(is_stale)
        instance._writer.book_check([instance])
        self.lookup = Seen.now(instance)

    @precondition(lambda self: self.lookup)
    @rule(status=st.sampled_from(["created", "created", None, *ENDS]), is_answer=st.booleans())
    def end_lookup(self, status, is_answer):
        seen, self.lookup = self.lookup, None
        self.invoice._writer.record_lookup(
            seen, lookup_reply(status, is_answer=is_answer or status is not None), RECONCILE
        )
        self.note_report(status)

    @rule(is_stale=st.booleans(), status=st.sampled_from(["created", *ENDS]))
    def resolve(self, is_stale, status):
        instance = self.instance(is_stale)
        try:
            instance._writer.resolve(instance, status, OPERATOR)
        except ResolveNotPossible:
            return
        self.note_report(status)

    @precondition(lambda self: self.is_cancel_reported and self.money)
    @rule(is_stale=st.booleans())
    def handle(self, is_stale):
        instance = self.instance(is_stale)
        seen = instance.status if instance.status in PAYMENTS else ""
        is_waiting = self.handled != self.money
        try:
            instance.mark_handled(actor="Ada", note="paid back", seen=seen)
        except ResolveNotPossible:
            return
        assert not is_waiting or seen in ("", self.money)
        self.handled = self.money

    @precondition(lambda self: self.handled == self.money in PAYMENTS[:-1])
    @rule(is_stale=st.booleans(), more=st.integers(1, 2))
    def pay_more(self, is_stale, more):
        left = PAYMENTS[PAYMENTS.index(self.money) + 1 :]
        self.observe(is_stale=is_stale, status=left[:more][-1])

    @rule()
    def request(self):
        self.stale._writer.request_cancel(self.stale, CLERK)

    @rule(status=st.sampled_from(["created", *ENDS]))
    def save_stale_instance(self, status):
        self.stale.status = status
        self.stale.save()

    # -- invariants ----------------------------------------------------------------------------------

    @invariant()
    def row_matches_the_reports(self):
        row = stored(self.invoice)
        self.check_log(row)
        assert (row.status if row.status in PAYMENTS else "") == self.money
        assert row.status != "canceled" or self.is_cancel_reported
        is_late = self.is_cancel_reported and bool(self.money)
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
    run_state_machine_as_test(CallSequence, settings=profile)
