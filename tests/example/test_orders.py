"""The receivers of the example: the state of an order with two invoices after each sequence of events."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from django_invoice_cancel.testing import ProviderSandbox

from .conftest import EXAMPLE

pytestmark = pytest.mark.slow  # the example runs in a process of its own

A, B = "cryptocloud", "firekassa"
REFUND = ("refund", "")
BOTH_OPEN = ((A, "created"), (B, "created"))
BOTH_CANCELED = ((A, "canceled"), (B, "canceled"))
CASES = {
    # the events, the state of the order, whether a refund is due, the notice
    "both open": (BOTH_OPEN, "open", False, "open"),
    "one canceled": ((*BOTH_OPEN, (A, "canceled")), "open", False, "open"),
    "other unregistered": (((A, "canceled"),), "open", False, "open"),
    "both canceled": (BOTH_CANCELED, "canceled", False, "canceled"),
    "canceled and expired": (((A, "canceled"), (B, "expired")), "canceled", False, "canceled"),
    "both expired": (((A, "expired"), (B, "expired")), "expired", False, "expired"),
    "expired and failed": (((A, "expired"), (B, "failed")), "expired", False, "expired"),
    "both failed": (((A, "failed"), (B, "failed")), "failed", False, "failed"),
    "one paid": ((*BOTH_OPEN, (B, "paid")), "paid", False, "paid"),
    "one overpaid": ((*BOTH_OPEN, (B, "overpaid")), "paid", False, "paid"),
    "canceled, paid": (((A, "canceled"), (B, "paid")), "paid", False, "paid"),
    "paid, canceled": (((A, "paid"), (B, "canceled")), "paid", False, "paid"),
    "a part": ((*BOTH_OPEN, (A, "partially_paid")), "partially_paid", False, "partially_paid"),
    "a part, the rest": (((A, "partially_paid"), (A, "paid")), "paid", False, "paid"),
    "expired, then paid": (((A, "expired"), (B, "expired"), (A, "paid")), "paid", False, "paid"),
    "both paid": (((A, "paid"), (B, "paid")), "paid", True, "paid_too_much"),
    "a part, other paid": (((A, "partially_paid"), (B, "paid")), "paid", True, "paid_too_much"),
    "late money": ((*BOTH_CANCELED, (A, "paid")), "canceled", True, "refund_due"),
    "late part": ((*BOTH_CANCELED, (A, "partially_paid")), "canceled", True, "refund_due"),
    "expired, late money": (((A, "canceled"), (B, "expired"), (B, "paid")), "canceled", True, "refund_due"),
    "canceled one is paid": ((*BOTH_OPEN, (A, "canceled"), (A, "paid")), "paid", True, "paid_too_much"),
    "refunded": ((*BOTH_CANCELED, (A, "paid"), REFUND), "canceled", False, "canceled"),
    "refunded, more": ((*BOTH_CANCELED, (A, "paid"), REFUND, (A, "overpaid")), "canceled", True, "refund_due"),
}


@pytest.fixture(scope="module")
def orders(tmp_path_factory):
    """Return what became of the order of each case, and the number of requests that reached the providers."""
    with ProviderSandbox() as sandbox:
        env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "settings",
            "PYTHONPATH": str(EXAMPLE),
            "EXAMPLE_SANDBOX_URL": sandbox.base_url,
            "EXAMPLE_DATABASE": str(tmp_path_factory.mktemp("orders") / "orders.sqlite3"),
        }
        ended = subprocess.run(
            [sys.executable, Path(__file__).with_name("follow_orders.py")],
            cwd=EXAMPLE,
            env=env,
            input=json.dumps({name: case[0] for name, case in CASES.items()}),
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=True,
        )
        return json.loads(ended.stdout), len(sandbox.requests)


@pytest.mark.parametrize("name", CASES)
def test_state_of_the_order_follows_all_its_invoices(orders, name):
    results, requests = orders
    _events, state, is_refund_due, notice = CASES[name]

    assert results[name] == [state, is_refund_due, notice]
    assert requests == 0
