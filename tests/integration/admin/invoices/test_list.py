"""The list: the box with entries that need attention, filters and search by indexes, a constant number of queries."""

import re
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_invoice_cancel import operations
from django_invoice_cancel.admin import InvoiceAdmin, pages
from django_invoice_cancel.admin.invoices.filters import AttentionFilter
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.domain.outcomes import LookupReply
from django_invoice_cancel.models import BulkOperation, Invoice, ProviderState
from django_invoice_cancel.testing import ScriptedProvider, make_invoice
from tests.support.html import element_texts, link_addresses
from tests.support.invoice_pages import changelist_url

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
UNATTENDED = "Invoices in doubt are not checked. Schedule reconcile_invoices, or use Check with provider."


def beat(ago=timedelta(), alias="shop"):
    ProviderState.objects.update_or_create(alias=alias, defaults={"last_reconcile_at": utc_now() - ago})


def listed(response):
    return sorted(invoice.external_id for invoice in response.context["cl"].result_list)


def in_bulk(number, **fields):
    values = {"provider": "shop", "amount": "10.50", "currency": "USD"} | fields
    Invoice.objects.bulk_create(
        Invoice(external_id=f"bulk-{i}", reference=f"order-{i}", **values) for i in range(number)
    )


# -- the strip ------------------------------------------------------------------------------------------------


def test_empty_dashboard_is_not_shown(shop, operator):
    for story in ("created", "requested", "canceling", "canceled", "paid"):
        make_invoice(story)
    assert element_texts(operator.get(changelist_url()), "ic-attention") == []


def test_dashboard_counts_invoices_and_links_to_them(shop, operator):
    beat(timedelta(minutes=5))
    doubts = [make_invoice("in_doubt", age=3 * HOUR), make_invoice("in_doubt")]
    left, late = make_invoice("abandoned"), make_invoice("paid_after_cancel")
    waiting = [make_invoice("requested", age=2 * HOUR), make_invoice("requested", age=HOUR)]
    make_invoice("paid_after_cancel").mark_handled(actor="ada", note="paid back")
    response = operator.get(changelist_url())
    assert element_texts(response, "ic-items") == [
        "2 in doubt (oldest 3 h) 1 cancellation interrupted "
        "2 requested cancellations are waiting (oldest 2 h) 1 paid after cancellation"
    ]
    wanted = {"in_doubt": doubts, "abandoned": [left], "waiting": waiting, "paid_after_cancel": [late]}
    for need, invoices in wanted.items():
        address = changelist_url(f"?attention={need}")
        assert address in link_addresses(response)
        assert listed(operator.get(address)) == sorted(invoice.external_id for invoice in invoices)


def test_handled_payment_needs_no_attention(shop, operator):
    make_invoice("paid_after_cancel").mark_handled(actor="ada", note="paid back")
    assert element_texts(operator.get(changelist_url()), "ic-attention") == []


def test_dashboard_shows_interrupted_operations(shop, operator):
    make_invoice()
    operation, at_work = (operations.start(Invoice.objects.all(), actor="ada") for _ in range(2))
    assert element_texts(operator.get(changelist_url()), "ic-attention") == []
    BulkOperation.objects.filter(pk=operation.pk).update(started_at=utc_now() - HOUR)
    response = operator.get(changelist_url())
    assert element_texts(response, "ic-items") == ["1 operation interrupted"]
    [address] = [link for link in link_addresses(response) if link.endswith("attention=interrupted")]
    found = operator.get(address)
    assert list(found.context["cl"].result_list) == [operation]
    assert element_texts(found, "field-state") == ["Interrupted"]
    everything = operator.get(address.partition("?")[0])
    assert list(everything.context["cl"].result_list) == [at_work, operation]
    assert element_texts(everything, "field-state") == ["Running", "Interrupted"]


@pytest.mark.parametrize(
    ("ran", "line", "is_amber"),
    [
        (None, UNATTENDED, True),
        (timedelta(minutes=5), "Reconcile last ran 5 min ago.", False),
        (timedelta(minutes=61), f"{UNATTENDED} Reconcile last ran 1 h ago.", True),
    ],
    ids=["never", "lately", "an hour ago"],
)
def test_dashboard_shows_the_last_reconciliation(shop, operator, ran, line, is_amber):
    make_invoice("in_doubt")
    if ran is not None:
        beat(ran)
    response = operator.get(changelist_url())
    assert line in element_texts(response, "ic-attention")[0]
    assert element_texts(response, "ic-amber") == ([line] if is_amber else [])


def test_each_provider_in_doubt_has_to_be_checked(settings, operator):
    """Reconcile that runs for one account alone leaves the other's invoices unattended."""
    scripted = {"BACKEND": "django_invoice_cancel.testing.ScriptedProvider"}
    settings.INVOICE_CANCEL = {"PROVIDERS": {"shop": scripted, "kiosk": scripted}}
    beat(alias="shop")
    make_invoice("in_doubt", provider="shop")
    assert element_texts(operator.get(changelist_url()), "ic-amber") == []
    make_invoice("in_doubt", provider="kiosk")
    assert element_texts(operator.get(changelist_url()), "ic-amber") == [
        "Invoices in doubt are not checked (kiosk (Scripted provider)). Schedule reconcile_invoices, "
        "or use Check with provider."
    ]


def accounts(settings, *aliases):
    """Configure these accounts, each with an invoice in doubt."""
    scripted = {"BACKEND": "django_invoice_cancel.testing.ScriptedProvider"}
    settings.INVOICE_CANCEL = {"PROVIDERS": dict.fromkeys(aliases, scripted)}
    for alias in aliases:
        make_invoice("in_doubt", provider=alias)


def test_dashboard_shows_the_older_of_two_reconciliations(settings, operator):
    accounts(settings, "shop", "kiosk")
    beat(timedelta(minutes=5), alias="shop")
    beat(timedelta(minutes=30), alias="kiosk")
    assert "Reconcile last ran 30 min ago." in element_texts(operator.get(changelist_url()), "ic-attention")[0]


@pytest.mark.parametrize(
    ("unattended", "named"),
    [
        (["b", "c", "d"], "b (Scripted provider), c (Scripted provider), d (Scripted provider)"),
        (["b", "c", "d", "e"], "b (Scripted provider), c (Scripted provider), d (Scripted provider), …"),
    ],
    ids=["three", "four"],
)
def test_dashboard_names_at_most_three_unreconciled_accounts(settings, operator, unattended, named):
    accounts(settings, "shop", *unattended)
    beat(alias="shop")
    [line] = element_texts(operator.get(changelist_url()), "ic-amber")
    assert line.startswith(f"Invoices in doubt are not checked ({named}). ")


def account(alias):
    """A resolver that knows every account."""
    return {"BACKEND": "django_invoice_cancel.testing.ScriptedProvider"}


def test_dashboard_shows_the_last_reconciliation_of_resolved_accounts(settings, operator):
    settings.INVOICE_CANCEL = {"PROVIDER_RESOLVER": f"{__name__}.account"}
    make_invoice("in_doubt", provider="shop", age=2 * HOUR)
    assert element_texts(operator.get(changelist_url()), "ic-amber") == [UNATTENDED]
    ScriptedProvider.of("shop").all_lookups(LookupReply(None, "no_answer", is_answer=False))
    with pytest.raises(CommandError, match="In doubt: 1"):
        call_command("reconcile_invoices", verbosity=0)
    response = operator.get(changelist_url())
    assert "Reconcile last ran" in element_texts(response, "ic-attention")[0]
    assert element_texts(response, "ic-amber") == []


def test_new_doubt_is_not_reported_before_the_next_run(settings, operator):
    """Reconcile beats for a resolver's account only once that is in doubt; an hour later it would have."""
    settings.INVOICE_CANCEL = {"PROVIDER_RESOLVER": f"{__name__}.account"}
    beat(timedelta(minutes=1), alias="kiosk")
    make_invoice("in_doubt", provider="shop")
    assert element_texts(operator.get(changelist_url()), "ic-amber") == []
    make_invoice("in_doubt", provider="shop", age=2 * HOUR)
    assert len(element_texts(operator.get(changelist_url()), "ic-amber")) == 1


def test_dashboard_shows_a_pause_until_it_ends(shop, operator):
    state = ProviderState.objects.create(alias="shop", paused_until=utc_now() + HOUR, pause_code="rate_limited")
    [line] = element_texts(operator.get(changelist_url()), "ic-amber")
    assert line.startswith("Scripted provider is paused until ")
    assert line.endswith(": Scripted provider asks for fewer requests; try again later.")
    ProviderState.objects.filter(pk=state.pk).update(paused_until=utc_now())
    assert element_texts(operator.get(changelist_url()), "ic-attention") == []


def test_dashboard_shows_a_provider_without_an_answer_since_its_pause(shop, operator):
    """Is it still down? The pause is over, and nobody has asked again."""
    ProviderState.objects.create(alias="shop", paused_until=utc_now() - HOUR, pause_code="no_answer", failures=5)
    expected = ["Scripted provider gave no usable answer to the last 5 requests."]
    assert element_texts(operator.get(changelist_url()), "ic-amber") == expected
    beat()
    ProviderState.objects.update(failures=4)  # here and there an answer is lost
    assert element_texts(operator.get(changelist_url()), "ic-attention") == []


def test_dashboard_does_not_count_hidden_invoices(shop, operator, monkeypatch):
    make_invoice("in_doubt")
    monkeypatch.setattr(InvoiceAdmin, "get_queryset", lambda self, request: Invoice.objects.none())
    assert element_texts(operator.get(changelist_url()), "ic-attention") == []


def test_dashboard_has_no_links_if_the_filter_is_removed(shop, operator, monkeypatch):
    monkeypatch.setattr(InvoiceAdmin, "list_filter", ("status",))
    make_invoice("in_doubt")
    response = operator.get(changelist_url())
    assert element_texts(response, "ic-items") == ["1 in doubt (0 min)"]
    assert not [link for link in link_addresses(response) if AttentionFilter.parameter_name in link]


# -- columns --------------------------------------------------------------------------------------------------


def test_row_shows_labels(shop, operator):
    confirmed = make_invoice("canceled", reference="order-17", amount="100", currency="USD", age=3 * HOUR)
    make_invoice()
    response = operator.get(changelist_url())
    assert element_texts(response, "field-external_id")[1] == confirmed.external_id
    assert [
        element_texts(response, f"field-{name}")[1] for name in ("reference", "provider", "money", "state", "confirmed")
    ] == [
        "order-17",
        "shop",
        "100.00 USD",
        "Canceled",
        "3 h ago",
    ]
    assert element_texts(response, "field-confirmed")[0] == "-"


# -- filters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "stories"),
    [
        ("?attention=any", ["waiting", "in_doubt", "abandoned", "paid_after_cancel"]),
        ("?attention=in_doubt", ["in_doubt"]),
        ("?attention=abandoned", ["abandoned"]),
        ("?attention=paid_after_cancel", ["paid_after_cancel"]),
        ("?attention=requested", ["requested", "waiting"]),
        ("?attention=waiting", ["waiting"]),
        ("?status__exact=paid", ["paid", "paid_after_cancel"]),
        ("?status__exact=in_doubt&attention=any", ["in_doubt"]),
        ("?provider=other", []),
        ("?attention=what", ["created", "requested", "waiting", "in_doubt", "abandoned", "paid", "paid_after_cancel"]),
    ],
)
def test_filter_selects_the_matching_invoices(shop, operator, query, stories):
    made = {story: make_invoice(story) for story in ("created", "requested", "in_doubt", "abandoned", "paid")}
    made["paid_after_cancel"] = make_invoice("paid_after_cancel")
    made["waiting"] = make_invoice("requested", age=timedelta(minutes=16))
    assert listed(operator.get(changelist_url(query))) == sorted(made[story].external_id for story in stories)


@pytest.mark.parametrize(
    ("issued", "ages"),
    [
        ("new-1", [0]),
        ("new-7", [0, 2]),
        ("old-1", [2, 8, 31]),
        ("old-7", [8, 31]),
        ("old-30", [31]),
        ("x", [0, 2, 8, 31]),
    ],
)
def test_filter_by_age(shop, operator, issued, ages):
    now = timezone.now()
    made = {days: make_invoice(issued_at=now - timedelta(days=days)) for days in (0, 2, 8, 31)}
    assert listed(operator.get(changelist_url(f"?issued={issued}"))) == sorted(made[days].external_id for days in ages)


def test_filter_offers_configured_and_stored_providers(shop, operator):
    beat(alias="gone")
    make_invoice()
    with CaptureQueriesContext(connection) as queries:
        response = operator.get(changelist_url())
    specs = {spec.title: [choice["display"] for choice in spec.choices(response.context["cl"])]
             for spec in response.context["cl"].filter_specs}  # fmt: skip
    assert specs["provider"] == ["All", "shop (Scripted provider)", "gone"]
    assert not [query for query in queries if "DISTINCT" in query["sql"]]


# -- search ---------------------------------------------------------------------------------------------------


@pytest.fixture
def books(settings, operator):
    """Invoices of two kinds of provider, and of one that nobody knows any more."""
    invoices = [
        ("cryptocloud", "INV-8A7B6C5D", "order-1"),
        ("cryptocloud", "INV-99999999", "order-12"),
        ("firekassa", "1234567", "order-2"),
        ("firekassa", "12345678", "100%"),
        ("vanished", "old-1", "INV-8A"),
    ]
    Invoice.objects.bulk_create(
        Invoice(provider=provider, external_id=external_id, reference=reference)
        for provider, external_id, reference in invoices
    )
    return lambda term: listed(operator.get(changelist_url(), {"q": term}))


@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("INV-8A7B6C5D", ["INV-8A7B6C5D"]),
        (" INV-8A7B6C5D ", ["INV-8A7B6C5D"]),
        ("8A7B6C5D", ["INV-8A7B6C5D"]),
        ("1234567", ["1234567"]),
        ("12345", ["1234567", "12345678"]),
        ("order-1", ["INV-8A7B6C5D"]),
        ("order-", ["1234567", "INV-8A7B6C5D", "INV-99999999"]),
        ("old-1", ["old-1"]),
        ("INV-8A", ["old-1"]),
        ("INV-9", ["INV-99999999"]),
        ("100%", ["12345678"]),
        ("%", []),
        ("8A7B", []),
        ("nothing", []),
        ("  ", ["1234567", "12345678", "INV-8A7B6C5D", "INV-99999999", "old-1"]),
    ],
)
def test_search_finds_exact_matches_or_prefixes(books, term, found):
    assert books(term) == found


@pytest.mark.parametrize("term", ["INV-8A7B6C5D", "8A7B6C5D", "order-1"])
def test_exact_matches_are_found_by_indexes(books, operator, term):
    if connection.vendor != "sqlite":
        pytest.skip("reads SQLite's plan")
    with CaptureQueriesContext(connection) as queries:
        books(term)
    exact = [
        q["sql"] for q in queries if "LIKE" not in q["sql"] and "external_id" in q["sql"] and "reference" in q["sql"]
    ]
    plans = []
    for sql in exact:
        with connection.cursor() as cursor:
            cursor.execute("EXPLAIN QUERY PLAN " + sql)
            plans += [row[3] for row in cursor.fetchall()]
    assert plans
    assert not [plan for plan in plans if plan.startswith("SCAN invoice_cancel")]


# -- order ----------------------------------------------------------------------------------------------------

SORTED_BY = {
    "external_id": "external_id",
    "reference": "reference",
    "provider": "provider",
    "money": "amount",
    "state": "status",
    "confirmed": "status_confirmed_at",
    "issued_at": "issued_at",
}


@pytest.fixture
def shuffled(shop):
    """Four invoices, each column of which is in another order."""
    now, local_now = utc_now(), timezone.now()
    values = {
        "external_id": ["b", "c", "a", "d"],
        "reference": ["order-4", "order-2", "order-3", "order-1"],
        "provider": ["gone", "shop", "booth", "kiosk"],
        "amount": ["10", "9", "8.5", "100"],
        "status": ["created", "paid", "expired", "canceled"],
        "status_confirmed_at": [now, now - 3 * HOUR, now - 2 * HOUR, now - HOUR],
        "issued_at": [local_now - 3 * HOUR, local_now - HOUR, local_now - 2 * HOUR, local_now],
    }
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return Invoice.objects.bulk_create(Invoice(**row) for row in rows)


def shown(response):
    return [invoice.pk for invoice in response.context["cl"].result_list]


def heads(response):
    """Where a click on the head of a column leads, by column."""
    cells = re.findall(r"<th\b[^>]*column-(\w+)(.*?)</th>", response.content.decode(), re.DOTALL)
    return {name: re.findall(r'<a [^>]*href="(\?[^"]*)"', cell) for name, cell in cells}


@pytest.mark.parametrize("column", SORTED_BY)
def test_column_header_sorts_and_reverses_the_order(shuffled, operator, column):
    rows = Invoice.objects.order_by(SORTED_BY[column]).values_list("pk", flat=True)
    [address] = heads(operator.get(changelist_url()))[column]
    up = operator.get(changelist_url(address))
    assert shown(up) == list(rows)
    address = heads(up)[column][-1]
    assert shown(operator.get(changelist_url(address))) == list(rows)[::-1]


def test_viewer_can_sort(shuffled, client_with):
    viewer = client_with("view")
    [address] = heads(viewer.get(changelist_url()))["money"]
    assert shown(viewer.get(changelist_url(address))) == [row.pk for row in Invoice.objects.order_by("amount")]


def test_sort_order_is_kept_within_a_filter(shop, operator):
    in_bulk(3)
    first, second, third = Invoice.objects.order_by("pk")
    Invoice.objects.filter(pk=second.pk).update(amount="1", issued_at=timezone.now() - HOUR)
    make_invoice("paid", provider="shop", amount="2")
    unsorted = operator.get(changelist_url("?status__exact=created"))
    assert shown(unsorted) == [third.pk, first.pk, second.pk]
    [address] = heads(unsorted)["money"]
    assert shown(operator.get(changelist_url(address.replace("&amp;", "&")))) == [second.pk, third.pk, first.pk]


@pytest.mark.parametrize("query", ["", "?status__exact=created", "?p=2"])
def test_nothing_is_sorted_unasked(shop, operator, query):
    if connection.vendor != "sqlite":
        pytest.skip("reads SQLite's plan")
    in_bulk(201)
    with CaptureQueriesContext(connection) as queries:
        operator.get(changelist_url(query))
    pages = [q["sql"] for q in queries if "ORDER BY" in q["sql"] and '."amount"' in q["sql"]]
    assert pages
    for sql in pages:
        with connection.cursor() as cursor:
            cursor.execute("EXPLAIN QUERY PLAN " + sql)
            assert not [row[3] for row in cursor.fetchall() if "ORDER BY" in row[3]]


# -- cost -----------------------------------------------------------------------------------------------------


def cost(operator, address):
    operator.get(address)  # the first page of a process also reads the content types, which Django keeps
    with CaptureQueriesContext(connection) as queries:
        operator.get(address)
    return len(queries)


@pytest.mark.parametrize(
    "query",
    [
        *(
            "",
            "?attention=any",
            "?status__exact=created",
            "?q=bulk",
            "?provider=shop",
            "?p=2",
            "?o=-4",
            "?o=5.3&q=bulk",
        ),
        *(
            "?issued=last-week",
            "?issued_from=2020-01-01&issued_to=2030-12-31",
            "?attention=in_doubt",
            "?attention=any&o=6",
        ),
    ],
)
def test_number_of_queries_of_the_list_is_constant(shop, operator, query):
    in_bulk(10)
    few = cost(operator, changelist_url("" if query == "?p=2" else query))
    Invoice.objects.all()._raw_delete("default")
    in_bulk(201)
    for story in ("in_doubt", "abandoned", "paid_after_cancel"):
        make_invoice(story)
    assert cost(operator, changelist_url(query)) == few
    assert few <= 15


@pytest.mark.parametrize("story", ["created", "in_doubt", "paid_after_cancel"])
def test_number_of_queries_of_an_invoice_page_is_constant(shop, operator, story):
    invoice = make_invoice(story)
    invoice.observe_status(provider_status="what is this")  # one without any history is also looked for in reports
    few = cost(operator, f"/admin/invoice_cancel/invoice/{invoice.pk}/change/")
    for _time in range(60):
        invoice.observe_status(provider_status="what is this")
    assert cost(operator, f"/admin/invoice_cancel/invoice/{invoice.pk}/change/") == few
    assert few <= 14


@pytest.mark.parametrize("order", ["", "?o=4"], ids=["newest first", "sorted"])
def test_row_count_is_limited(shop, operator, monkeypatch, order):
    monkeypatch.setattr(pages, "MAX_COUNT", 150)
    in_bulk(151)
    with CaptureQueriesContext(connection) as queries:
        response = operator.get(changelist_url(order))
    counts = [
        query["sql"] for query in queries if "COUNT(*)" in query["sql"] and "invoice_cancel_invoice" in query["sql"]
    ]
    assert not [sql for sql in counts if "ORDER BY" in sql]  # else all are sorted to count a few
    assert [sql for sql in counts if "WHERE" not in sql and "LIMIT" not in sql] == []
    assert "&gt;150 invoices" in response.content.decode() or ">150 invoices" in response.content.decode()
    assert [len(operator.get(changelist_url(f"?p={number}")).context["cl"].result_list) for number in (1, 2)] == [
        100,
        50,
    ]


def test_row_count_is_exact_up_to_the_limit(shop, operator, monkeypatch):
    monkeypatch.setattr(pages, "MAX_COUNT", 150)
    in_bulk(150)
    response = operator.get(changelist_url())
    assert response.context["cl"].result_count == 150
    assert str(response.context["cl"].result_count) == "150"


def test_limited_count_has_thousand_separators(shop, operator, monkeypatch, settings):
    settings.USE_THOUSAND_SEPARATOR = True
    monkeypatch.setattr(pages, "MAX_COUNT", 1500)
    in_bulk(1501)
    assert ">1,500 invoices" in operator.get(changelist_url()).content.decode().replace("&gt;", ">")


def test_displaying_a_page_writes_no_values(shop, operator):
    """Looking is free: no row changes, nobody is asked."""
    make_invoice("in_doubt")
    before = list(QuerySet(Invoice).values())
    operator.get(changelist_url())
    assert list(QuerySet(Invoice).values()) == before
    assert shop.cancel_count == 0
    assert shop.lookup_count == 0
