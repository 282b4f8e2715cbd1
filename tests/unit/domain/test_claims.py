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
    """Return a function that says whether a claim of 300 s lets the first byte out, so long after it was opened."""
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
def test_either_clock_refuses_what_could_still_be_under_way_when_the_claim_ends(lease, wall, monotonic, expected):
    assert lease(wall=wall, monotonic=monotonic) is expected


def test_what_is_left_of_the_deadline_counts_and_not_the_whole(lease):
    """284 s gone by a clock that ran too fast, and little left: the request is over before the claim is."""
    assert lease(wall=295, monotonic=100, left=4.9) is True
    assert lease(wall=295, monotonic=100, left=5) is False


def test_claim_reads_the_clocks_that_are_in_place_when_it_is_won(monkeypatch):
    """freezegun and its like replace the functions of ``time`` after our modules were imported."""
    monkeypatch.setattr(claims.time, "time", lambda: 17.0)
    monkeypatch.setattr(claims.time, "monotonic", lambda: 5.0)
    claim = Claim(CLERK, Status.CREATED, TTL)
    assert claim.opened_at == 17.0
    assert claim.opened_monotonic == 5.0
    assert claim.lease(DEADLINE)(DEADLINE)
    monkeypatch.setattr(claims.time, "time", lambda: 17.0 + TTL - DEADLINE)
    assert not claim.lease(DEADLINE)(DEADLINE)
