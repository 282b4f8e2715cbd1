"""The lease of a claim: it is checked just before the first byte, and either clock can refuse it (rule 3)."""

import pytest
import time_machine

from django_invoice_cancel.domain import claims
from django_invoice_cancel.domain.claims import Claim
from django_invoice_cancel.domain.statuses import Status
from tests.support.writes import CLERK, INSTANT

TTL, DEADLINE = 300, 15


@pytest.fixture
def lease(monkeypatch):
    """Return a function that returns whether a claim of 300 s permits the first byte after the given seconds."""
    up = {"seconds": 1000.0}
    monkeypatch.setattr(claims.time, "monotonic", lambda: up["seconds"])

    def ask(*, wall, monotonic, left=DEADLINE):
        with time_machine.travel(INSTANT.timestamp(), tick=False) as traveller:
            may_send = Claim(CLERK, Status.CREATED, TTL, opened_monotonic=up["seconds"]).lease(DEADLINE)
            traveller.shift(wall)
            up["seconds"] += monotonic
            return may_send(left)

    return ask


@pytest.mark.parametrize(
    ("wall", "monotonic", "expected"),
    [
        pytest.param(0, 0, True, id="at once"),
        pytest.param(284.9, 284.9, True, id="just in time"),
        pytest.param(285, 0, False, id="over by the wall clock alone"),
        pytest.param(0, 285, False, id="over by the monotonic clock alone: the wall clock was set back"),
        pytest.param(-3600, 284.9, True, id="wall clock set back, in time by the other"),
        pytest.param(10_000, 10, False, id="woken up: the monotonic clock stood still"),
    ],
)
def test_lease_is_refused_if_the_request_could_outlast_the_claim_by_either_clock(lease, wall, monotonic, expected):
    assert lease(wall=wall, monotonic=monotonic) is expected


def test_lease_depends_on_the_remaining_seconds_of_the_deadline(lease):
    """With few seconds left, the request ends before the claim does."""
    assert lease(wall=295, monotonic=100, left=4.9) is True
    assert lease(wall=295, monotonic=100, left=5) is False


def test_claim_reads_clocks_that_are_patched_after_the_import(monkeypatch):
    """freezegun and its like replace the functions of ``time`` after our modules were imported."""
    monkeypatch.setattr(claims.time, "time", lambda: 17.0)
    monkeypatch.setattr(claims.time, "monotonic", lambda: 5.0)
    claim = Claim(CLERK, Status.CREATED, TTL)
    assert claim.opened_at == 17.0
    assert claim.opened_monotonic == 5.0
    assert claim.lease(DEADLINE)(DEADLINE)
    monkeypatch.setattr(claims.time, "time", lambda: 17.0 + TTL - DEADLINE)
    assert not claim.lease(DEADLINE)(DEADLINE)
