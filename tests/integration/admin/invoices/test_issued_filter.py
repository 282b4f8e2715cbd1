"""The list's filter by the dates on which invoices were issued, in local time, and its order of doubts."""

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.test import Client
from django.utils import timezone

from django_invoice_cancel.admin import InvoiceAdmin
from django_invoice_cancel.admin.invoices.filters import IssuedFilter
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.testing import make_invoice
from tests.support.html import element_texts, link_addresses
from tests.support.invoice_pages import changelist_url

pytestmark = pytest.mark.django_db

BERLIN = ZoneInfo("Europe/Berlin")
SATURDAY = datetime(2026, 11, 28, 10, tzinfo=BERLIN)


def issue(text):
    """Create an invoice that was issued at this local time, which is also its reference."""
    when = datetime.fromisoformat(text).replace(tzinfo=BERLIN)
    return make_invoice(
        reference=text, issued_at=when if timezone.is_aware(timezone.now()) else when.replace(tzinfo=None)
    )


def listed(response):
    return sorted(invoice.reference for invoice in response.context["cl"].result_list)


def spec_of(response):
    [spec] = [spec for spec in response.context["cl"].filter_specs if isinstance(spec, IssuedFilter)]
    return spec


def chosen(response):
    choices = spec_of(response).choices(response.context["cl"])
    return [str(choice["display"]) for choice in choices if choice["selected"]]


@pytest.fixture
def clerk(shop, settings):
    settings.TIME_ZONE = "Europe/Berlin"
    client = Client()
    with time_machine.travel(SATURDAY.timestamp(), tick=False):
        client.force_login(User.objects.create_superuser("ada"))
        yield client


@pytest.mark.usefixtures("use_tz")
@pytest.mark.parametrize(
    ("query", "label", "expected"),
    [
        ("issued=last-week", "Last week (16\N{EN DASH}22 Nov 2026)", ["2026-11-16 00:00", "2026-11-22 23:59"]),
        ("issued=last-month", "Last month (1\N{EN DASH}31 Oct 2026)", ["2026-10-01 00:00", "2026-10-31 23:59"]),
        (
            "issued_from=2026-11-16&issued_to=2026-11-22",
            "16\N{EN DASH}22 Nov 2026",
            ["2026-11-16 00:00", "2026-11-22 23:59"],
        ),
        ("issued_from=2026-11-23", "from 23 Nov 2026", ["2026-11-23 00:00"]),
        ("issued_from=&issued_to=2026-10-01", "until 1 Oct 2026", ["2026-09-30 23:59", "2026-10-01 00:00"]),
        (
            "issued_from=2026-10-31&issued_to=2026-11-15&issued=last-week",
            "31 Oct 2026\N{EN DASH}15 Nov 2026",
            ["2026-10-31 23:59", "2026-11-15 23:59"],
        ),
    ],
)
def test_dates_include_the_whole_last_day_in_local_time(clerk, query, label, expected):
    for text in (
        *("2026-09-30 23:59", "2026-10-01 00:00", "2026-10-31 23:59"),
        *("2026-11-15 23:59", "2026-11-16 00:00", "2026-11-22 23:59", "2026-11-23 00:00"),
    ):
        issue(text)
    response = clerk.get(changelist_url(f"?{query}"))
    assert listed(response) == expected
    assert chosen(response) == [label]
    assert element_texts(response, "errornote") == []


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("issued_from=yesterday", "No invoices are shown: “yesterday” is not a date. Enter it like 2026-01-31."),
        ("issued_to=2026-02-30", "No invoices are shown: “2026-02-30” is not a date. Enter it like 2026-01-31."),
        ("issued_to=9999-12-31", "No invoices are shown: “9999-12-31” is not a date. Enter it like 2026-01-31."),
        ("issued_from=0001-01-01", "No invoices are shown: “0001-01-01” is not a date. Enter it like 2026-01-31."),
        (
            "issued_from=2026-11-22&issued_to=2026-11-16",
            "No invoices are shown: the first date is after the last one.",
        ),
    ],
    ids=["a word", "no such day", "end of the calendar", "start of the calendar", "reversed"],
)
def test_invalid_dates_list_nothing_and_are_explained(clerk, query, error):
    issue("2026-11-20 12:00")
    response = clerk.get(changelist_url(f"?{query}"))
    assert response.status_code == 200
    assert listed(response) == []
    assert element_texts(response, "errornote") == [error]


@pytest.mark.parametrize("query", ["issued_from=%00", "issued_to=%ED%A0%80", "issued_from=<script>"])
def test_hostile_dates_are_harmless(clerk, query):
    response = clerk.get(changelist_url(f"?{query}"), follow=True)
    assert response.status_code == 200
    assert "<script>alert" not in response.content.decode()


def test_form_keeps_the_other_filters(clerk):
    issue("2026-11-20 12:00")
    response = clerk.get(changelist_url("?status__exact=created&q=2026&o=-4&issued=last-week&p=1"))
    form = response.content.decode().partition('class="ic-dates"')[2].partition("</form>")[0]
    hidden = dict(re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', form))
    assert hidden == {"status__exact": "created", "q": "2026", "o": "-4"}
    assert re.findall(r'type="date" name="([^"]*)" value="([^"]*)"', form) == [("issued_from", ""), ("issued_to", "")]


def test_form_shows_the_dates_that_were_entered(clerk):
    response = clerk.get(changelist_url("?issued_from=2026-11-16&issued_to=2026-11-22"))
    form = response.content.decode().partition('class="ic-dates"')[2].partition("</form>")[0]
    assert re.findall(r'type="date" name="([^"]*)" value="([^"]*)"', form) == [
        ("issued_from", "2026-11-16"),
        ("issued_to", "2026-11-22"),
    ]


# -- doubts ---------------------------------------------------------------------------------------------------


def make_doubts():
    """Create three invoices in doubt, and an open one; return them with the oldest doubt first."""
    ages = {"young": 1, "old": 3, "middle": 2}
    doubts = {name: make_invoice("in_doubt", reference=name, age=timedelta(hours=age)) for name, age in ages.items()}
    return [doubts["old"].pk, doubts["middle"].pk, doubts["young"].pk], make_invoice(reference="open").pk


@pytest.mark.parametrize("query", ["?attention=in_doubt", "?status__exact=in_doubt", "?attention=in_doubt&q=o"])
def test_doubts_are_listed_with_the_oldest_first(shop, operator, query):
    doubts, _open = make_doubts()
    rows = operator.get(changelist_url(query)).context["cl"].result_list
    found = [row.pk for row in rows]
    assert found == [pk for pk in doubts if pk in found]
    assert found[0] == doubts[0]


def test_column_shows_since_when_an_invoice_is_in_doubt(shop, operator):
    doubts, _open = make_doubts()
    make_invoice("abandoned", reference="abandoned")
    QuerySet(Invoice).filter(pk=doubts[0]).update(status_changed_at=utc_now().replace(year=2020, month=5, day=3))
    response = operator.get(changelist_url("?attention=any"))
    columns = (element_texts(response, f"field-{name}") for name in ("reference", "doubt_since"))
    shown = dict(zip(*columns, strict=True))
    assert shown["abandoned"] == "-"
    assert shown["old"].startswith("3 May 2020, ")
    assert re.fullmatch(r".*\d\d:\d\d", shown["young"])


@pytest.mark.parametrize(
    ("query", "is_shown"),
    [("", False), ("?status__exact=created", False), ("?attention=in_doubt", True), ("?status__exact=in_doubt", True)],
)
def test_list_of_doubts_has_the_column_in_place_of_the_last_report(shop, operator, query, is_shown):
    columns = operator.get(changelist_url(query)).context["cl"].list_display
    assert ("doubt_since" in columns) is is_shown
    assert ("confirmed" in columns) is not is_shown
    assert len(columns) == 8


@pytest.mark.parametrize("is_descending", [False, True])
def test_column_sorts_by_the_age_of_the_doubt(shop, operator, is_descending):
    doubts, _open = make_doubts()
    other = make_invoice("abandoned").pk
    column = operator.get(changelist_url("?attention=any")).context["cl"].list_display.index("doubt_since")
    response = operator.get(changelist_url(f"?attention=any&o={'-' if is_descending else ''}{column}"))
    expected = [*doubts, other]
    assert [row.pk for row in response.context["cl"].result_list] == (expected[::-1] if is_descending else expected)


# -- shortcuts ------------------------------------------------------------------------------------------------


def test_shortcut_lists_the_open_invoices_of_the_last_week(clerk):
    issue("2026-11-20 12:00")
    issue("2026-11-23 12:00")
    make_invoice("paid", reference="paid", issued_at=issue("2026-11-21 12:00").issued_at)
    response = clerk.get(changelist_url())
    assert element_texts(response, "ic-shortcuts") == ["Open invoices: issued last week · issued last month"]
    [address, _month] = [link for link in link_addresses(response) if link.startswith("?status__exact=created&issued=")]
    found = clerk.get(changelist_url(address))
    assert listed(found) == ["2026-11-20 12:00", "2026-11-21 12:00"]
    assert chosen(found) == ["Last week (16\N{EN DASH}22 Nov 2026)"]


@pytest.mark.parametrize("list_filter", [("status",), (IssuedFilter,), ()], ids=["status", "issued", "none"])
def test_list_without_the_filters_has_no_shortcuts(clerk, monkeypatch, list_filter):
    monkeypatch.setattr(InvoiceAdmin, "list_filter", list_filter)
    assert element_texts(clerk.get(changelist_url()), "ic-shortcuts") == []
