"""``register_invoices``: register the invoices of a file. Writes nothing unless every line is good."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from datetime import datetime, time
from itertools import islice
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management.base import CommandError
from django.db import Error, connections, transaction
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from django_invoice_cancel import registry
from django_invoice_cancel.intents import Trigger
from django_invoice_cancel.management.csv_rows import ID, MOST_TOLD, BadRows, BadValue, CsvRows, Row, open_rows
from django_invoice_cancel.management.output import ReportingCommand
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.models.fields import displayable
from django_invoice_cancel.models.registrations import cleaned_values
from django_invoice_cancel.models.verbs.merging import Conflict

COLUMNS = (ID, "reference", "amount", "currency", "status", "issued_at", "expires_at")
TIMES = ("issued_at", "expires_at")
CHUNK = 500
_REFUSALS = (Error, ValueError)
"""What a database or its driver raises for a value that it does not take."""


class Command(ReportingCommand):
    help = (
        "Register existing invoices from a CSV file. Idempotent: of a known invoice only empty values are filled in; "
        "values that differ are kept and listed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--provider", required=True, help="The alias of the provider in INVOICE_CANCEL.")
        parser.add_argument(
            "--from-file",
            required=True,
            metavar="FILE",
            help=f"A CSV file, or - for stdin. Columns: {', '.join(COLUMNS)}; without a header, external ids alone.",
        )
        parser.add_argument(
            "--database", choices=tuple(connections), help="Where the invoices are kept (else the router decides)."
        )

    def handle(self, *, provider: str, from_file: str, database: str | None, **options: Any) -> None:
        using = database or Invoice.objects.all().verbs.using
        read = _Reader(provider, using)
        try:
            registry.get_provider(provider)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        try:
            with open_rows(from_file, COLUMNS) as rows:
                total = rows.check(read.check)
                new, conflicts = self._register(rows, read, using)
        except BadRows as error:
            raise CommandError(f"Nothing was registered.\n{error}") from error
        self.stdout.write(f"{new:,} registered, {total - new:,} known already")
        self._list(conflicts)

    def _list(self, conflicts: list[Conflict]) -> None:
        """List invoices whose stored values differ from the file: they are kept as they are."""
        if not conflicts:
            return
        self.stderr.write(f"{len(conflicts):,} of the known differ from the file, and were kept:")
        for conflict in conflicts[:MOST_TOLD]:
            self.stderr.write(f"  {conflict}")
        if len(conflicts) > MOST_TOLD:
            self.stderr.write(f"  and {len(conflicts) - MOST_TOLD:,} more")

    def _register(self, rows: CsvRows, read: _Reader, using: str) -> tuple[int, list[Conflict]]:
        """Register the rows in chunks, all in one transaction; return how many were new, or raise ``BadRows``."""
        new, remaining = 0, iter(rows)
        conflicts: list[Conflict] = []
        with transaction.atomic(using=using):
            # SQLite refuses to write in a transaction that began to read while another process wrote.
            Invoice.objects.using(using).filter(pk=0).update(reference="")
            while chunk := list(islice(remaining, CHUNK)):
                try:
                    new += _register_chunk(chunk, read, using, conflicts)
                except _REFUSALS as error:
                    refused = islice(_refused_rows(chunk, read, using), MOST_TOLD)
                    raise BadRows("\n".join(refused) or str(error)) from error
        return new, conflicts


def _register_chunk(chunk: list[Row], read: _Reader, using: str, conflicts: list[Conflict]) -> int:
    """Register some rows within a savepoint, so that they can be tried one by one after an error."""
    manager, values = Invoice.objects.db_manager(using), [read(row.values) for row in chunk]
    options: dict[str, Any] = {"actor": "register_invoices", "trigger": Trigger.COMMAND}
    with transaction.atomic(using=using):
        new: int = manager.register_many(values, on_conflict=conflicts.append, **options)[0]
    return new


def _refused_rows(chunk: list[Row], read: _Reader, using: str) -> Iterator[str]:
    """Yield a line for each row that the database refuses; none if the connection is lost."""
    for row in chunk if connections[using].is_usable() else ():
        try:
            _register_chunk([row], read, using, [])
        except _REFUSALS as error:
            yield f"line {row.line}: The database refuses it: {error}"


class _Reader:
    """Makes the values that ``register`` takes of a line of text."""

    def __init__(self, provider: str, using: str) -> None:
        self.provider = provider
        self.using = using

    def __call__(self, values: Mapping[str, str]) -> dict[str, Any]:
        read: dict[str, Any] = {"provider": self.provider, **values}
        for name in TIMES:
            if name in values:
                read[name] = _time(name, values[name])
        return read

    def check(self, values: Mapping[str, str]) -> None:
        """Raise ``BadValue`` for what would not be registered."""
        read = self(values)
        if ID not in values:
            raise BadValue(ID, "is missing.")
        try:
            invoice = Invoice(**cleaned_values(read, Invoice))
            invoice._state.db = self.using  # some checks are those of the database
            invoice.clean_fields()
        except ValidationError as error:
            column, problems = next(iter(error.message_dict.items()))
            raise BadValue(column, " ".join(problems)) from error


def _time(column: str, text: str) -> datetime:
    """Return an instant: ISO 8601, a date for its midnight; without an offset in the current time zone."""
    try:
        day = parse_date(text)
        instant = parse_datetime(text) if day is None else datetime.combine(day, time())
    except ValueError:  # well written, and no such day or hour
        instant = None
    if instant is None:
        raise BadValue(column, f"{text[:40]!r} is no time: write 2026-01-31 or 2026-01-31T23:59:59+03:00.")
    try:
        displayable(instant)
    except ValidationError as error:
        raise BadValue(column, " ".join(error.messages)) from error
    if settings.USE_TZ and timezone.is_naive(instant):
        return timezone.make_aware(instant)
    if not settings.USE_TZ and timezone.is_aware(instant):
        return timezone.make_naive(instant)
    return instant
