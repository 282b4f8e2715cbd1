"""The command ``resume_provider``: it ends a pause and sends nothing; the next run sends the probe."""

import logging

import pytest
from django.contrib.auth.models import User

from django_invoice_cancel.models import ProviderState
from tests.support.clock import travel_forward
from tests.support.invoices import count_statuses
from tests.support.logs import count_answers, count_invoices_by_log_rows
from tests.support.pauses import pause_provider

pytestmark = pytest.mark.django_db


def test_next_run_sends_a_probe_and_then_the_others(shop, make, manage):
    make(5)
    pause_provider("shop")
    assert manage("cancel_invoices", "--all", "--noinput").code == 4
    ended = manage("resume_provider", "shop")
    assert ended.code == 0
    assert ended.out == "The pause of shop has ended. The next request is a probe.\n"
    assert shop.cancel_count == 0
    assert manage("cancel_invoices", "--all", "--noinput").code == 0
    assert shop.cancel_count == 5
    assert count_statuses() == {"canceled": 5}
    assert count_answers() == {"canceled": 5}
    assert ProviderState.objects.get().pause_code == ""


def test_rejected_probe_is_the_only_request(shop, make, manage):
    make(5)
    pause_provider("shop")
    shop.all_cancels("bad_credentials")
    manage("resume_provider", "shop")
    assert manage("cancel_invoices", "--all", "--noinput").code == 4
    assert shop.cancel_count == 1
    assert count_statuses() == {"created": 5}
    assert count_answers() == {"bad_credentials": 1}


def test_second_command_within_ten_seconds_is_refused(shop, make, manage):
    make(1)
    pause_provider("shop")
    assert manage("resume_provider", "shop", "-v", "0").out == ""
    again = manage("resume_provider", "shop")
    assert again.code == 4
    assert again.err.startswith("The pause of shop was just ended. Try again after ")
    with travel_forward(seconds=11):
        ended = manage("resume_provider", "shop")
    assert ended.code == 0
    assert ended.out == "shop is not paused.\n"
    assert shop.cancel_count == 0
    assert count_invoices_by_log_rows() == {}


def test_retry_after_requires_force(shop, make, manage):
    make(1)
    pause_provider("shop", "rate_limited", 60, retry_after=60)
    ended = manage("resume_provider", "shop")
    assert ended.code == 4
    assert "(Retry-After). Wait, or use --force." in ended.err
    assert ProviderState.objects.get().is_paused
    assert manage("resume_provider", "shop", "--force").code == 0
    assert not ProviderState.objects.get().is_paused
    assert shop.cancel_count == 0
    assert count_statuses() == {"created": 1}


def test_unknown_alias_is_refused(shop, manage):
    ended = manage("resume_provider", "kiosk")
    assert ended.code == 1
    assert "Provider 'kiosk' is not configured" in ended.err
    assert ProviderState.objects.count() == 0
    assert shop.cancel_count == 0


@pytest.mark.parametrize(
    ("arguments", "name"), [((), "resume_provider"), (("--actor", "ada"), "ada"), (("--actor", "cron"), "cron")]
)
def test_actor_is_logged(shop, manage, caplog, arguments, name):
    User.objects.create_user("ada")
    pause_provider("shop")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        manage("resume_provider", "shop", *arguments)
    (record,) = caplog.records
    assert f"was ended by {name}." in record.getMessage()
    assert record.actor == name
    assert shop.cancel_count == 0
    assert ProviderState.objects.get().resumed_at is not None
