"""``register_invoices``: what a file may look like, what is told about a bad one, and that it writes all or nothing."""

import io
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from django_invoice_cancel.models import Invoice

HEADER = "external_id,reference,amount,currency,status,issued_at,expires_at\n"


@pytest.fixture
def register(tmp_path):
    """Return a function that writes a file and registers it; returns what the command printed."""

    def run(content: str | bytes, *, provider: str = "firekassa", **options: str) -> str:
        path = tmp_path / "invoices.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        out = io.StringIO()
        call_command("register_invoices", provider=provider, from_file=str(path), stdout=out, **options)
        return out.getvalue().strip()

    return run


def external_ids(using: str = "default") -> list[str]:
    return list(Invoice.objects.using(using).order_by("pk").values_list("external_id", flat=True))


@pytest.mark.django_db
def test_row_becomes_an_invoice_with_all_it_says(register, settings):
    settings.USE_TZ = True
    register(HEADER + '17,order-1,"1234.50",USD,paid,2026-01-31T12:00:00+03:00,2026-02-01\n')
    invoice = Invoice.objects.get()
    assert (invoice.provider, invoice.external_id, invoice.reference) == ("firekassa", "17", "order-1")
    assert (invoice.amount, invoice.currency, invoice.status) == (Decimal("1234.50"), "USD", "paid")
    assert invoice.issued_at == datetime(2026, 1, 31, 9, tzinfo=UTC)
    assert invoice.expires_at == datetime(2026, 2, 1, tzinfo=ZoneInfo("Europe/Berlin"))
    row = invoice.transitions.get()
    assert (row.from_status, row.to_status, row.trigger, row.actor_label) == (
        "",
        "paid",
        "command",
        "register_invoices",
    )


@pytest.mark.django_db
def test_naive_time_is_in_the_current_time_zone(register, settings):
    settings.USE_TZ = True
    register("external_id,issued_at\n17,2026-07-01 12:00\n")
    assert Invoice.objects.get().issued_at == datetime(2026, 7, 1, 10, tzinfo=UTC)


@pytest.mark.django_db
def test_times_are_naive_where_the_project_has_no_time_zones(register, settings):
    settings.USE_TZ = False
    register("external_id,issued_at,expires_at\n17,2026-07-01T10:00:00Z,2026-07-02\n")
    invoice = Invoice.objects.get()
    assert (invoice.issued_at, invoice.expires_at) == (datetime(2026, 7, 1, 12), datetime(2026, 7, 2))  # noqa: DTZ001


@pytest.mark.django_db
@pytest.mark.parametrize(
    "content",
    [
        pytest.param("17\n18\n", id="ids-alone"),
        pytest.param("17\n18", id="no-line-break-at-the-end"),
        pytest.param("\n17\n\n18\n", id="empty-lines"),
        pytest.param("17\r\n18\r\n", id="windows"),
        pytest.param("\ufeff17\n18\n", id="byte-order-mark"),
        pytest.param("\ufeffexternal_id\n17\n18\n", id="byte-order-mark-and-header"),
        pytest.param("external_id\n17\n18\n", id="header"),
        pytest.param("external_id;reference\n17;a,b\n18;\n", id="semicolons"),
        pytest.param("external_id\treference\n17\ta\n18\n", id="tabs"),
        pytest.param("reference,external_id\na, 17\n,18 \n", id="spaces"),
        pytest.param('"external_id","reference"\n"17","a ""b"""\n"18",""\n', id="quotes"),
        pytest.param("external_id,reference,,\n17,,,\n".replace(",,\n", "\n") + "18,,,\n", id="too-many-empty-cells"),
    ],
)
def test_file_may_look_so(register, content):
    assert register(content) == "2 registered, 0 known already"
    assert external_ids() == ["17", "18"]


@pytest.mark.django_db
def test_ids_are_stored_in_their_one_form(register):
    register("external_id\n8vi0xzj6\nINV-ABCDEFGH\n", provider="cryptocloud")
    assert external_ids() == ["INV-8VI0XZJ6", "INV-ABCDEFGH"]


@pytest.mark.django_db
def test_known_invoices_and_duplicates_are_counted_and_left_alone(register):
    register("external_id,reference\n17,first\n")
    said = register("external_id,reference\n17,second\n18,a\n18,b\n19,c\n")
    assert said == "2 registered, 2 known already"
    assert list(Invoice.objects.order_by("pk").values_list("external_id", "reference")) == [
        ("17", "first"),
        ("18", "a"),
        ("19", "c"),
    ]


@pytest.mark.django_db
def test_many_are_registered_in_chunks_of_500(register, django_assert_max_num_queries):
    ids = "\n".join(str(n) for n in range(1, 1202))
    with django_assert_max_num_queries(120):  # a tenth of a statement for each
        assert register(ids) == "1,201 registered, 0 known already"
    assert register(f"{ids}\n5000") == "1 registered, 1,201 known already"
    assert Invoice.objects.count() == 1202


@pytest.mark.django_db(databases=["default", "other"])
def test_invoices_go_to_the_database_that_is_named(register):
    register("17\n", database="other")
    assert (external_ids("default"), external_ids("other")) == ([], ["17"])


class Elsewhere:
    """A router of a project that keeps its invoices in a database of their own."""

    def db_for_read(self, model, **hints):
        return "other" if model._meta.app_label == "invoice_cancel" else None

    db_for_write = db_for_read


@pytest.mark.django_db(databases=["default", "other"])
def test_invoices_go_where_the_router_says(register, settings):
    settings.DATABASE_ROUTERS = [Elsewhere()]
    register("17\n")
    assert (external_ids("default"), external_ids("other")) == ([], ["17"])


@pytest.mark.django_db
def test_it_works_inside_a_transaction(register):
    with transaction.atomic():
        register("17\n")
    assert external_ids() == ["17"]


@pytest.mark.django_db
@pytest.mark.parametrize("binary", [True, False], ids=["bytes", "text"])
def test_stdin_is_read_as_a_file_is(monkeypatch, binary):
    content = "\ufeffexternal_id;reference\n17;ä\n"
    stdin = SimpleNamespace(buffer=io.BytesIO(content.encode())) if binary else io.StringIO(content)
    monkeypatch.setattr(sys, "stdin", stdin)
    out = io.StringIO()
    call_command("register_invoices", provider="firekassa", from_file="-", stdout=out)
    assert out.getvalue() == "1 registered, 0 known already\n"
    assert Invoice.objects.get().reference == "ä"


# -- what is wrong ------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param("external_id,foo\n17,1\n", "line 1: 'foo' is not a column", id="unknown-column"),
        pytest.param("uuid\n17\n", "line 1: 'uuid' is not a column", id="unknown-column-alone"),
        pytest.param("17,order-1\n", "line 1: '17' is not a column", id="no-header"),
        pytest.param("reference,amount\na,1\n", "one column 'external_id'", id="no-id-column"),
        pytest.param("external_id,external_id\n17,18\n", "no column twice", id="column-twice"),
        pytest.param("external_id,reference\n17,a\n,b\n", "line 3, external_id: is missing.", id="id-missing"),
        pytest.param("17\n1/2\n", "line 2, external_id: '1/2' is not an id of FireKassa", id="bad-id"),
        pytest.param("17\n\n18/..\n", "line 3, external_id", id="line-numbers-count-empty-lines"),
        pytest.param('external_id,reference\n17,"a\nb"\n1/2,c\n', "line 4, external_id", id="line-numbers-in-quotes"),
        pytest.param("external_id,amount\n17,1.5\n18,lots\n", "line 3, amount: 'lots'", id="bad-amount"),
        pytest.param("external_id,amount\n17,-1\n", "line 2, amount: -1", id="negative-amount"),
        pytest.param("external_id,amount\n17,0.123456789\n", "line 2, amount: ", id="too-many-places"),
        pytest.param("external_id,currency\n17," + "X" * 17 + "\n", "line 2, currency: ", id="long-currency"),
        pytest.param("external_id,status\n17,in_doubt\n", "line 2, status: 'in_doubt'", id="status-of-ours"),
        pytest.param("external_id,status\n17,gone\n", "line 2, status: 'gone'", id="unknown-status"),
        pytest.param("external_id,issued_at\n17,yesterday\n", "line 2, issued_at: 'yesterday'", id="no-time"),
        pytest.param("external_id,expires_at\n17,2026-02-30\n", "line 2, expires_at: '2026-02-30'", id="no-such-day"),
        pytest.param("external_id,reference\n17,a,b\n", "line 2: there are 3 cells", id="too-many-cells"),
        pytest.param('external_id,reference\n17,"a\n', "This is not a CSV file", id="open-quote"),
        pytest.param(b"external_id,reference\n17,\xe4\n", "not a CSV file in UTF-8", id="not-utf-8"),
    ],
)
def test_bad_line_is_told_and_nothing_is_written(register, content, told):
    with pytest.raises(CommandError) as caught:
        register(content)
    assert str(caught.value).startswith("Nothing was registered.\n")
    assert told in str(caught.value)
    assert external_ids() == []


@pytest.mark.django_db
def test_bad_line_after_many_good_ones_lets_none_of_them_in(register):
    with pytest.raises(CommandError, match="line 1202, external_id"):
        register("\n".join(str(n) for n in range(1, 1202)) + "\n1/2\n")
    assert external_ids() == []


@pytest.mark.django_db
def test_up_to_20_bad_lines_are_told(register):
    with pytest.raises(CommandError) as caught:
        register("".join(f"{n}/\n" for n in range(30)))
    lines = str(caught.value).splitlines()
    assert [line.partition(",")[0] for line in lines[1:-1]] == [f"line {n}" for n in range(1, 21)]
    assert lines[-1].startswith("There may be more")


@pytest.mark.django_db
def test_alias_that_is_not_configured_is_told_once(register):
    with pytest.raises(CommandError, match="No provider 'nobody' is configured") as caught:
        register("17\n18\n", provider="nobody")
    assert "line" not in str(caught.value)


@pytest.mark.django_db
def test_file_that_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(CommandError, match=r"missing\.csv cannot be read: No such file"):
        call_command("register_invoices", provider="firekassa", from_file=str(tmp_path / "missing.csv"))


@pytest.mark.parametrize("missing", ["--provider", "--from-file"])
def test_what_is_required_is_asked_for(missing):
    given = {"--provider": "firekassa", "--from-file": "-"}
    del given[missing]
    with pytest.raises(CommandError, match=missing):
        call_command("register_invoices", *(each for pair in given.items() for each in pair))
