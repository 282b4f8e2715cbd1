"""Arguments of every kind are used, or rejected with one sentence before anything is sent."""

import pytest

from tests.support.invoices import count_statuses

pytestmark = pytest.mark.django_db(transaction=True)

HUGE = "9" * 30
CANCEL = ["cancel_invoices", "--provider", "shop", "--noinput"]
ARGUMENTS = {
    "limit": [*CANCEL, "--limit", HUGE],
    "concurrency": [*CANCEL, "--concurrency", HUGE],
    "rate": [*CANCEL, "--rate", "1e300"],
    "full-width digits": [*CANCEL, "--limit", "\uff11\uff12"],
    "superscript": [*CANCEL, "--limit", "²"],
    "age": [*CANCEL, "--older-than", "9999w"],
    "age in other digits": [*CANCEL, "--older-than", "१w"],
    "first day": [*CANCEL, "--expires-before", "0001-01-01"],
    "last day": [*CANCEL, "--expires-before", "9999-12-31"],
    "last instant": [*CANCEL, "--expires-before", "9999-12-31T23:59:59.999999-14:00"],
    "NUL in an id": [*CANCEL, "a\0b"],
    "lone surrogate in an id": [*CANCEL, "a\udc80b"],
    "long id": [*CANCEL, "1" * 5000],
    "NUL in a file's name": [*CANCEL, "--from-file", "a\0b"],
    "folder": [*CANCEL, "--from-file", "/"],
    "long file name": [*CANCEL, "--from-file", "a" * 5000],
    "lone surrogate in a file's name": [*CANCEL, "--from-file", "a\udc80b"],
    "NUL in a provider": ["cancel_invoices", "--provider", "a\0b", "--noinput"],
    "lone surrogate in a provider": ["cancel_invoices", "--provider", "a\udc80b", "--noinput"],
    "NUL in a reason": [*CANCEL, "--reason", "a\0b"],
    "lone surrogate in a reason": [*CANCEL, "--reason", "a\udc80b"],
    "lone surrogate in an actor": [*CANCEL, "--actor", "a\udc80b"],
    "lone surrogate in the background": [*CANCEL, "--background", "--reason", "a\udc80b", "--actor", "a\udc80b"],
    "reconcile, limit": ["reconcile_invoices", "--limit", HUGE],
    "reconcile, NUL in a provider": ["reconcile_invoices", "--provider", "a\0b"],
    "operation": ["run_bulk_operations", "ä\0"],
    "long operation": ["run_bulk_operations", HUGE],
    "lone surrogate in an operation": ["run_bulk_operations", "a\udc80b"],
    "register, NUL in a provider": ["register_invoices", "--provider", "a\0b", "--from-file", "/dev/null"],
    "register, NUL in a file's name": ["register_invoices", "--provider", "shop", "--from-file", "a\0b"],
}


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
def test_every_argument_is_used_or_rejected(shop, make, manage, arguments):
    make(2)
    ended = manage(*arguments)
    assert ended.code in (0, 1, 2)
    if ended.code:
        assert ended.err.strip() != ""
        assert shop.cancel_count == 0
        assert count_statuses() == {"created": 2}
    ended.err.encode("utf-8", "backslashreplace")
