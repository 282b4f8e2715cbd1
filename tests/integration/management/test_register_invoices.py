"""``register_invoices``: the accepted forms of a file, the errors in an invalid one, and all-or-nothing writes."""

import io
import sys
import tempfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from django.core.management import CommandError, call_command
from django.db import DataError, OperationalError, connection, transaction

from django_invoice_cancel.management.commands import register_invoices
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
def test_row_becomes_an_invoice_with_all_its_values(register, settings):
    settings.USE_TZ = True
    register(HEADER + '17,order-1,"1234.50",USD,paid,2026-01-31T12:00:00+03:00,2026-02-01\n')
    invoice = Invoice.objects.get()
    assert invoice.provider == "firekassa"
    assert invoice.external_id == "17"
    assert invoice.reference == "order-1"
    assert invoice.amount == Decimal("1234.50")
    assert invoice.currency == "USD"
    assert invoice.status == "paid"
    assert invoice.issued_at == datetime(2026, 1, 31, 9, tzinfo=UTC)
    assert invoice.expires_at == datetime(2026, 2, 1, tzinfo=ZoneInfo("Europe/Berlin"))
    row = invoice.transitions.get()
    assert row.from_status == ""
    assert row.to_status == "paid"
    assert row.trigger == "command"
    assert row.actor_label == "register_invoices"


@pytest.mark.django_db
def test_empty_values_of_a_known_invoice_are_filled_in_and_conflicts_are_listed(tmp_path):
    Invoice.objects.register(provider="firekassa", external_id="17", reference="order-17")
    Invoice.objects.register(provider="firekassa", external_id="18", reference="order-18", amount="5")
    path, out, err = tmp_path / "invoices.csv", io.StringIO(), io.StringIO()
    path.write_text("external_id,reference,amount\n17,order-17,100\n18,order-80,6\n19,order-19,7\n")
    call_command("register_invoices", provider="firekassa", from_file=str(path), stdout=out, stderr=err)
    assert out.getvalue() == "1 registered, 2 already known\n"
    assert err.getvalue().splitlines() == [
        "1 already registered with other values, which were kept:",
        "  firekassa 18: reference is order-18 and not order-80, amount is 5 and not 6",
    ]
    assert list(Invoice.objects.order_by("external_id").values_list("external_id", "reference", "amount")) == [
        ("17", "order-17", 100),
        ("18", "order-18", 5),
        ("19", "order-19", 7),
    ]


@pytest.mark.django_db
def test_naive_time_is_in_the_current_time_zone(register, settings):
    settings.USE_TZ = True
    register("external_id,issued_at\n17,2026-07-01 12:00\n")
    assert Invoice.objects.get().issued_at == datetime(2026, 7, 1, 10, tzinfo=UTC)


@pytest.mark.django_db
def test_times_are_naive_if_use_tz_is_off(register, settings):
    settings.USE_TZ = False
    register("external_id,issued_at,expires_at\n17,2026-07-01T10:00:00Z,2026-07-02\n")
    invoice = Invoice.objects.get()
    assert invoice.issued_at == datetime(2026, 7, 1, 12)  # noqa: DTZ001
    assert invoice.expires_at == datetime(2026, 7, 2)  # noqa: DTZ001


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
def test_file_formats_are_accepted(register, content):
    assert register(content) == "2 registered, 0 already known"
    assert external_ids() == ["17", "18"]


@pytest.mark.django_db
def test_ids_are_stored_normalized(register):
    register("external_id\n8vi0xzj6\nINV-ABCDEFGH\n", provider="cryptocloud")
    assert external_ids() == ["INV-8VI0XZJ6", "INV-ABCDEFGH"]


@pytest.mark.django_db
def test_known_invoices_and_duplicates_are_counted_and_not_changed(register):
    register("external_id,reference\n17,first\n")
    output = register("external_id,reference\n17,second\n18,a\n18,b\n19,c\n")
    assert output == "2 registered, 2 already known"
    assert list(Invoice.objects.order_by("pk").values_list("external_id", "reference")) == [
        ("17", "first"),
        ("18", "a"),
        ("19", "c"),
    ]


@pytest.mark.django_db
def test_many_are_registered_in_chunks_of_500(register, django_assert_max_num_queries):
    ids = "\n".join(str(n) for n in range(1, 1202))
    with django_assert_max_num_queries(120):  # a tenth of a statement for each
        assert register(ids) == "1,201 registered, 0 already known"
    assert register(f"{ids}\n5000") == "1 registered, 1,201 already known"
    assert Invoice.objects.count() == 1202


@pytest.mark.django_db(databases=["default", "other"])
def test_invoices_are_stored_in_the_named_database(register):
    register("17\n", database="other")
    assert external_ids("default") == []
    assert external_ids("other") == ["17"]


class Elsewhere:
    """A router of a project that keeps its invoices in a database of their own."""

    def db_for_read(self, model, **hints):
        return "other" if model._meta.app_label == "invoice_cancel" else None

    db_for_write = db_for_read


@pytest.mark.django_db(databases=["default", "other"])
def test_invoices_are_stored_in_the_database_of_the_router(register, settings):
    settings.DATABASE_ROUTERS = [Elsewhere()]
    register("17\n")
    assert external_ids("default") == []
    assert external_ids("other") == ["17"]


@pytest.mark.django_db
def test_registration_works_inside_a_transaction(register):
    with transaction.atomic():
        register("17\n")
    assert external_ids() == ["17"]


@pytest.mark.django_db
@pytest.mark.parametrize("binary", [True, False], ids=["bytes", "text"])
def test_stdin_is_read_like_a_file(monkeypatch, binary):
    content = "\ufeffexternal_id;reference\n17;ä\n"
    stdin = SimpleNamespace(buffer=io.BytesIO(content.encode())) if binary else io.StringIO(content)
    monkeypatch.setattr(sys, "stdin", stdin)
    out = io.StringIO()
    call_command("register_invoices", provider="firekassa", from_file="-", stdout=out)
    assert out.getvalue() == "1 registered, 0 already known\n"
    assert Invoice.objects.get().reference == "ä"


# -- invalid files ------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("external_id,foo\n17,1\n", "line 1: 'foo' is not a known column", id="unknown-column"),
        pytest.param("uuid\n17\n", "line 1: 'uuid' is not a known column", id="unknown-column-alone"),
        pytest.param("17,order-1\n", "line 1: '17' is not a known column", id="no-header"),
        pytest.param("reference,amount\na,1\n", "the column 'external_id' is required", id="no-id-column"),
        pytest.param("external_id,external_id\n17,18\n", "no column may occur twice", id="column-twice"),
        pytest.param("external_id,reference\n17,a\n,b\n", "line 3, external_id: is missing.", id="id-missing"),
        pytest.param("17\n1/2\n", "line 2, external_id: '1/2' is not an id of FireKassa", id="bad-id"),
        pytest.param("17\n\n18/..\n", "line 3, external_id", id="line-numbers-count-empty-lines"),
        pytest.param('external_id,reference\n17,"a\nb"\n1/2,c\n', "line 4, external_id", id="line-numbers-in-quotes"),
        pytest.param("external_id,amount\n17,1.5\n18,lots\n", "line 3, amount: 'lots'", id="bad-amount"),
        pytest.param("external_id,amount\n17,-1\n", "line 2, amount: -1", id="negative-amount"),
        pytest.param("external_id,amount\n17,0.1234567890123456789\n", "line 2, amount: ", id="too-many-places"),
        pytest.param("external_id,currency\n17," + "X" * 17 + "\n", "line 2, currency: ", id="long-currency"),
        pytest.param("external_id,status\n17,in_doubt\n", "line 2, status: 'in_doubt'", id="status-of-ours"),
        pytest.param("external_id,status\n17,gone\n", "line 2, status: 'gone'", id="unknown-status"),
        pytest.param("external_id,issued_at\n17,yesterday\n", "line 2, issued_at: 'yesterday'", id="no-time"),
        pytest.param("external_id,expires_at\n17,2026-02-30\n", "line 2, expires_at: '2026-02-30'", id="no-such-day"),
        pytest.param("external_id,amount\n17,True\n", "line 2, amount: 'True'", id="bool"),
        pytest.param("external_id,amount\n17,1_000.50\n", "line 2, amount: '1_000.50'", id="underscore"),
        pytest.param(
            "external_id,amount\n17,\uff11\uff12\n", "line 2, amount: '\\uff11\\uff12'", id="full-width-digits"
        ),
        pytest.param("external_id,amount\n17,NaN\n", "line 2, amount: ", id="not-a-number"),
        pytest.param("external_id,amount\n17,Infinity\n", "line 2, amount: ", id="infinite"),
        pytest.param("external_id,amount\n17,1e400\n", "line 2, amount: ", id="too-large"),
        pytest.param("external_id,amount\n17," + "9" * 5000 + "\n", "line 2, amount: ", id="very-long"),
        pytest.param("external_id,reference\n17,a\n18,b\0c\n", "line 3, reference: ", id="NUL-in-a-reference"),
        pytest.param("external_id,currency\n17,U\0D\n", "line 2, currency: ", id="NUL-in-a-currency"),
        pytest.param("external_id,reference\n1\0007,a\n", "line 2, external_id: ", id="NUL-in-an-id"),
        pytest.param("external_id,status\n17,pa\0id\n", "line 2, status: ", id="NUL-in-a-status"),
        pytest.param("external_id,reference\n17," + "r" * 256 + "\n", "line 2, reference: ", id="long-reference"),
        pytest.param("external_id,issued_at\n17,1780315200\n", "line 2, issued_at: '1780315200'", id="timestamp"),
        pytest.param("external_id,issued_at\n17,2026-01-31T25:00\n", "line 2, issued_at: ", id="no-such-hour"),
        pytest.param("external_id,issued_at\n17,2026-01-31T12:00+25:00\n", "line 2, issued_at: ", id="no-such-offset"),
        pytest.param("external_id,issued_at\n17,2026-01\0-31\n", "line 2, issued_at: ", id="NUL-in-a-time"),
        pytest.param(b"external_id,reference\n17,\xed\xa0\x80\n", "not valid CSV in UTF-8", id="lone-surrogate"),
        pytest.param("external_id,reference\n17,a,b\n", "line 2: the line has 3 cells", id="too-many-cells"),
        pytest.param('external_id,reference\n17,"a\n', "The file is not valid CSV", id="open-quote"),
        pytest.param(b"external_id,reference\n17,\xe4\n", "not valid CSV in UTF-8", id="not-utf-8"),
    ],
)
def test_invalid_line_is_reported_and_nothing_is_written(register, content, message):
    with pytest.raises(CommandError) as caught:
        register(content)
    assert str(caught.value).startswith("Nothing was registered.\n")
    assert message in str(caught.value)
    assert external_ids() == []


@pytest.mark.django_db
def test_invalid_line_after_many_valid_ones_registers_none(register):
    with pytest.raises(CommandError, match="line 1202, external_id"):
        register("\n".join(str(n) for n in range(1, 1202)) + "\n1/2\n")
    assert external_ids() == []


@pytest.mark.django_db
def test_up_to_20_invalid_lines_are_reported(register):
    with pytest.raises(CommandError) as caught:
        register("".join(f"{n}/\n" for n in range(30)))
    lines = str(caught.value).splitlines()
    assert [line.partition(",")[0] for line in lines[1:-1]] == [f"line {n}" for n in range(1, 21)]
    assert lines[-1].startswith("The check stopped here")


@pytest.mark.django_db
def test_unconfigured_alias_is_reported_once(register):
    with pytest.raises(CommandError, match="Provider 'nobody' is not configured") as caught:
        register("17\n18\n", provider="nobody")
    assert "line" not in str(caught.value)


@pytest.mark.django_db
def test_missing_file_is_reported(tmp_path: Path):
    with pytest.raises(CommandError, match=r"missing\.csv cannot be read: No such file"):
        call_command("register_invoices", provider="firekassa", from_file=str(tmp_path / "missing.csv"))


@pytest.mark.parametrize("missing", ["--provider", "--from-file"])
def test_missing_required_options_are_named(missing):
    given = {"--provider": "firekassa", "--from-file": "-"}
    del given[missing]
    with pytest.raises(CommandError, match=missing):
        call_command("register_invoices", *(each for pair in given.items() for each in pair))


# -- all or nothing -----------------------------------------------------------------------------------------------


def rows(*bad, count=1300, columns="external_id,reference", before=600):
    """Return a file of good rows, with some others after the first ``before``."""
    good = [f"{number},order-{number}" for number in range(1, count)]
    return "\n".join([columns, *good[:before], *bad, *good[before:]]) + "\n"


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("bad", ["5000,a\0b", "5000,\0"], ids=["NUL", "NUL alone"])
def test_text_that_postgresql_rejects_is_named_and_nothing_is_written(register, bad):
    with pytest.raises(CommandError, match=r"Nothing was registered.\nline 602"):
        register(rows(bad))
    assert external_ids() == []


def refuse_inserts_of(text, error):
    """Return a wrapper of a connection that refuses to insert rows with a text, as a database may for many reasons."""

    def execute(execute, sql, params, many, context):
        if sql.startswith("INSERT") and text in str(params):
            raise error
        return execute(sql, params, many, context)

    return execute


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "error",
    [
        DataError("out of range"),
        pytest.param(OperationalError("disk full"), marks=pytest.mark.slow),
        pytest.param(ValueError("refused by the driver"), marks=pytest.mark.slow),
    ],
    ids=lambda error: type(error).__name__,
)
def test_row_that_the_database_rejects_is_named_and_nothing_is_written(register, error, monkeypatch):
    monkeypatch.setattr(register_invoices, "ROW_BATCH_SIZE", 5)
    with (
        connection.execute_wrapper(refuse_inserts_of("bad", error)),
        pytest.raises(CommandError, match=rf"Nothing was registered.\nline 8: .*{error}"),
    ):
        register(rows("5000,bad", count=13, before=6))
    assert external_ids() == []


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_temporarily_rejected_chunk_is_reported_without_a_line(register):
    """Each of its rows is accepted when it is tried separately."""
    error = OperationalError("server closed the connection")

    def fail_once(execute, sql, params, many, context):
        if sql.startswith("INSERT") and "5000" in str(params) and not failed:
            failed.append(sql)
            raise error
        return execute(sql, params, many, context)

    failed = []
    with connection.execute_wrapper(fail_once), pytest.raises(CommandError, match=f"Nothing was registered.\n{error}"):
        register(rows("5000,a"))
    assert external_ids() == []


@pytest.mark.django_db(transaction=True)
def test_interrupted_registration_writes_nothing(register, monkeypatch):
    real = Invoice.objects.__class__.register_many
    calls = []

    def interrupted(self, *args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Invoice.objects.__class__, "register_many", interrupted)
    with pytest.raises(KeyboardInterrupt):
        register(rows())
    assert len(calls) == 2
    assert external_ids() == []


@pytest.mark.django_db(transaction=True)
def test_rows_of_a_file_become_visible_together(register, in_thread, monkeypatch):
    real = Invoice.objects.__class__.register_many
    seen = []

    def look(self, *args, **kwargs):
        result = real(self, *args, **kwargs)
        seen.append(in_thread(Invoice.objects.count).result())
        return result

    monkeypatch.setattr(Invoice.objects.__class__, "register_many", look)
    assert register(rows()) == "1,299 registered, 0 already known"
    assert seen == [0, 0, 0]
    assert Invoice.objects.count() == 1299


EDGES = {
    "last day": "9999-12-31",
    "last instant": "9999-12-31T23:59:59.999999",
    "last day, in UTC": "9999-12-31T00:00:00Z",
    "last day, far in the west": "9999-12-31T12:00:00-12:00",
    "first day": "0001-01-01",
    "first instant, in UTC": "0001-01-01T00:00:00Z",
    "first day, far in the east": "0001-01-01T00:00:00+14:00",
}


@pytest.mark.django_db
@pytest.mark.parametrize("use_tz", [True, False], ids=["time zones", "no time zones"])
@pytest.mark.parametrize("text", EDGES.values(), ids=EDGES)
def test_date_outside_the_supported_range_is_named_and_nothing_is_written(register, settings, text, use_tz):
    settings.USE_TZ = use_tz
    for zone in ("UTC", "Europe/Berlin", "Pacific/Kiritimati", "Pacific/Pago_Pago"):
        settings.TIME_ZONE = zone
        for column in ("issued_at", "expires_at"):
            with pytest.raises(CommandError, match=f"Nothing was registered.\nline 3, {column}: .*leave it empty"):
                register(f"external_id,{column}\n17,2026-01-31\n18,{text}\n")
    assert external_ids() == []


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["0002-01-02", "9999-12-29"])
def test_supported_dates_can_be_registered_and_shown_in_every_time_zone(register, admin_client, settings, text):
    register(f"external_id,issued_at,expires_at\n17,{text},{text}\n")
    invoice = Invoice.objects.get()
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        settings.TIME_ZONE = zone
        for url in ("", f"{invoice.pk}/change/"):
            assert admin_client.get(f"/admin/invoice_cancel/invoice/{url}").status_code == 200


# -- without a temporary directory --------------------------------------------------------------------------------


@pytest.fixture
def no_temporary_directory(monkeypatch, tmp_path):
    """As in a container whose file system may not be written to."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))


def read_stdin(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    out = io.StringIO()
    call_command("register_invoices", provider="firekassa", from_file="-", stdout=out)
    return out.getvalue()


@pytest.mark.slow
@pytest.mark.django_db
def test_stdin_needs_no_temporary_directory(monkeypatch, no_temporary_directory):
    ids = b"".join(b"%d\n" % number for number in range(10_000, 20_000))
    assert read_stdin(monkeypatch, ids) == "10,000 registered, 0 already known\n"


@pytest.mark.django_db
def test_stdin_too_large_for_memory_without_a_temporary_directory_is_named(monkeypatch, no_temporary_directory):
    monkeypatch.setattr("django_invoice_cancel.management.commands.register_invoices.MEMORY_BYTES", 100)
    with pytest.raises(CommandError, match=r"Nothing was registered.\nThe input is too large for memory, and"):
        read_stdin(monkeypatch, b"17\n" * 100)
    assert external_ids() == []


@pytest.mark.django_db
def test_stdin_larger_than_memory_is_stored_in_a_temporary_file(monkeypatch):
    monkeypatch.setattr("django_invoice_cancel.management.commands.register_invoices.MEMORY_BYTES", 100)
    ids = b"".join(b"%d\n" % number for number in range(1000, 2000))
    assert read_stdin(monkeypatch, ids) == "1,000 registered, 0 already known\n"
