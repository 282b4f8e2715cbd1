"""Rows that no writer creates (a raw UPDATE, a restored column) are still found, listed and reconciled."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import QuerySet
from django.urls import reverse

from django_invoice_cancel.bulk import reconcile_invoices
from django_invoice_cancel.checks import check_reconciling
from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.testing import make_invoice
from tests.support.clock import travel_forward
from tests.support.invoices import stored
from tests.support.results import cancel_error

pytestmark = pytest.mark.django_db(transaction=True)

YEAR = timedelta(days=365)
MOST = connection.ops.integer_field_range("PositiveIntegerField")[1]
ODD = {
    # status of the row, the columns that are odd
    "claimed, no end of the claim": ("canceling", {"claim_expires_at": None}),
    "claimed, no end and no attempt": ("canceling", {"claim_expires_at": None, "attempt": None}),
    "claimed until next year": ("canceling", {"claim_expires_at": YEAR}),
    "in doubt, no next check": ("in_doubt", {"next_check_at": None}),
    "in doubt, no next check and no claim": ("in_doubt", {"next_check_at": None, "claim_expires_at": None}),
    "in doubt, no attempt": ("in_doubt", {"next_check_at": None, "attempt": None}),
    "in doubt, next check in a year": ("in_doubt", {"next_check_at": YEAR}),
    "in doubt until next year": ("in_doubt", {"next_check_at": YEAR, "claim_expires_at": YEAR}),
    "in doubt, checked as often as the column holds": ("in_doubt", {"check_count": MOST, "next_check_at": None}),
}
each_odd_row = pytest.mark.parametrize("odd", ODD)


def put(odd, **fields):
    """Make an invoice and write the odd columns past everything that guards them."""
    status, columns = ODD[odd]
    invoice = make_invoice(status, **fields)
    written = {name: utc_now() + value if isinstance(value, timedelta) else value for name, value in columns.items()}
    QuerySet(Invoice).filter(pk=invoice.pk).update(**written)
    return stored(invoice)


def cron(*arguments):
    try:
        call_command("reconcile_invoices", *arguments, verbosity=0)
    except CommandError as error:
        return error.returncode
    return 0


@each_odd_row
def test_odd_row_is_listed_and_due(shop, odd):
    invoice = put(odd)
    others = [make_invoice(), make_invoice("canceling"), make_invoice("paid")]
    assert list(Invoice.objects.needing_attention()) == [invoice]
    assert list(Invoice.objects.due_for_reconciling()) == [invoice]
    assert list(Invoice.objects.abandoned() | Invoice.objects.in_doubt()) == [invoice]
    assert invoice.is_abandoned is (invoice.status == "canceling")
    assert not any(stored(other).is_abandoned for other in others)


@each_odd_row
@pytest.mark.parametrize("way", ["cron", "bulk", "single"])
def test_odd_row_is_reconciled(shop, odd, way):
    invoice = put(odd)
    shop.set_status(invoice.external_id, "canceled")
    if way == "cron":
        assert cron() == 0
    elif way == "bulk":
        assert [result.ok for result in reconcile_invoices(Invoice.objects.due_for_reconciling())] == [True]
    else:
        assert invoice.reconcile().ok
    assert stored(invoice).status == "canceled"
    assert shop.lookup_count == 1
    assert shop.cancel_count == 0


@each_odd_row
def test_odd_row_that_stays_in_doubt_waits_for_its_next_check_like_others(shop, odd):
    invoice = put(odd)
    shop.all_lookups("unknown_status")
    for _number in range(3):
        cron()
    saved = stored(invoice)
    assert saved.status == "in_doubt"
    assert shop.lookup_count == 1
    assert shop.cancel_count == 0
    assert utc_now() < saved.next_check_at <= utc_now() + timedelta(days=1)
    assert 0 < saved.check_count <= 1_000_000


@each_odd_row
def test_odd_row_is_canceled_only_after_a_whole_doubt_period(shop, odd):
    """Nothing is known of its request: it may have been sent a moment before."""
    invoice = put(odd)
    cron()
    for minutes in (1, 14):
        with travel_forward(minutes=minutes):
            assert stored(invoice).reconcile().status == "in_doubt"
            assert cancel_error(stored(invoice).cancel).result.code == "in_doubt"
    with travel_forward(minutes=21):
        assert stored(invoice).reconcile().status == "created"
        assert stored(invoice).cancel().ok
    assert shop.cancel_count == 1


@each_odd_row
def test_odd_row_at_a_provider_without_lookup_is_left_to_a_person(scripted, odd):
    shop = scripted(supports_lookup=False)
    invoice = put(odd)
    cron("--resubmit")
    assert stored(invoice).reconcile().status == "in_doubt"
    stored(invoice).resolve("canceled", actor="Ada", reason="seen in the dashboard")
    assert stored(invoice).status == "canceled"
    assert shop.cancel_count == 0


@each_odd_row
def test_two_reconcilers_look_an_odd_row_up_once(shop, odd):
    first = put(odd)
    second = stored(first)
    if first.status == "canceling":
        assert [len(first._writer.mark_abandoned([each], AuditContext())) for each in (first, second)] == [1, 0]
        return
    assert [len(each._writer.book_check([each])) for each in (first, second)] == [1, 0]


@each_odd_row
def test_pages_show_an_odd_row(shop, client, odd):
    invoice = put(odd)
    client.force_login(User.objects.create_superuser("ada"))
    pages = [
        reverse("admin:invoice_cancel_invoice_changelist") + "?attention=any",
        *(
            reverse(f"admin:invoice_cancel_invoice_{name}", args=[invoice.pk])
            for name in ("change", "check", "resolve")
        ),
    ]
    for page in pages:
        response = client.get(page)
        assert response.status_code == 200
        assert invoice.external_id in response.content.decode()


REQUESTS = {
    "no time of the next try": {"cancel_try_at": None},
    "next try in a year": {"cancel_try_at": YEAR},
    "requested in a year": {"cancel_try_at": YEAR, "cancel_requested_at": YEAR},
    "tried as often as the column holds": {"cancel_try_at": None, "cancel_try_count": MOST},
}


@pytest.mark.parametrize("columns", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("answer", ["canceled", "rate_limited", "in_doubt"])
def test_odd_request_is_tried(shop, columns, answer):
    invoice = make_invoice("requested")
    written = {name: utc_now() + value if isinstance(value, timedelta) else value for name, value in columns.items()}
    QuerySet(Invoice).update(**written)
    shop.all_cancels(answer)
    cron()
    status = {"canceled": "canceled", "rate_limited": "created", "in_doubt": "in_doubt"}[answer]
    assert stored(invoice).status == status
    assert shop.cancel_count == 1
    assert stored(invoice).cancel_try_count <= max(1_000_000, columns.get("cancel_try_count", 0))


def test_odd_row_hides_no_other_in_the_check_of_silence(shop):
    for odd in ODD:
        put(odd)
    QuerySet(Invoice).update(status_changed_at=utc_now() - timedelta(hours=2))
    [message] = check_reconciling(None, ["default"])
    assert message.id == "invoice_cancel.W004"
    assert f"({len(ODD)} in 'default')" in message.msg
