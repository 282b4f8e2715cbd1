"""``register_invoices``: register the invoices of a file. Nothing is written unless every line is valid."""

from __future__ import annotations

import csv
import io
import re
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import IO, Any, TextIO

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management.base import CommandError
from django.db import Error, connections, transaction

from django_invoice_cancel import registry
from django_invoice_cancel.domain.audit import Trigger
from django_invoice_cancel.management.arguments import MAX_LISTED
from django_invoice_cancel.management.output import ReportingCommand
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.models.fields import displayable
from django_invoice_cancel.models.registrations import cleaned_values
from django_invoice_cancel.models.values import localize_time, parse_time
from django_invoice_cancel.models.writes.answers import Conflict

ID = "external_id"
MEMORY_BYTES = 8_000_000
"""Maximum number of bytes of a pipe that are kept in memory, about 500,000 ids."""
_DELIMITERS = ",;\t"
_TITLE = re.compile(r"[a-z_ ]+")
"""Names of columns, such as "uuid", that must not be read as an id."""


class BadRows(Exception):
    """A file is not usable. The message has one line for each problem."""


class BadValue(Exception):
    """A row is not usable: the column and the problem."""

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(column, problem)
        self.column = column
        self.problem = problem


@dataclass(frozen=True)
class Row:
    """One line of the file."""

    line: int
    values: Mapping[str, str]
    """The values by column."""


class CsvRows:
    """The rows of an open file. It can be iterated more than once."""

    def __init__(self, stream: TextIO, columns: Collection[str] = (ID,)) -> None:
        """``columns``: the known columns. An unknown column is an error, and ``external_id`` is required."""
        self._stream = stream
        self._columns = columns

    def __iter__(self) -> Iterator[Row]:
        try:
            self._stream.seek(0)
            delimiter = _delimiter(self._stream.readline())
            self._stream.seek(0)
            yield from self._rows(csv.reader(self._stream, delimiter=delimiter, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise BadRows(f"The file is not valid CSV in UTF-8: {error}.") from error

    def check(self, read: Callable[[Mapping[str, str]], object]) -> int:
        """Call ``read``, which raises ``BadValue``, for every row. Return the number of rows, or raise ``BadRows``."""
        count, bad = 0, []
        for count, row in enumerate(self, start=1):  # noqa: B007 - the number of rows, after the loop
            try:
                read(row.values)
            except BadValue as error:
                bad.append(f"line {row.line}, {error.column}: {error.problem}")
            if len(bad) == MAX_LISTED:
                bad.append("The check stopped here; later lines may have more errors.")
                break
        if bad:
            raise BadRows("\n".join(bad))
        return count

    def _rows(self, reader: Any) -> Iterator[Row]:
        header: list[str] | None = None
        for cells in reader:
            cells = [cell.strip(" ") for cell in cells]
            if not any(cells):
                continue
            if header is None:
                header = self._header(cells)
                if header != [ID] or cells == [ID]:
                    continue
            yield Row(reader.line_num, _values(header, cells, reader.line_num))

    def _header(self, cells: list[str]) -> list[str]:
        """Return the columns. A file with one column may have no header, and is then a file of ids."""
        if len(cells) == 1 and cells[0] not in self._columns and not _TITLE.fullmatch(cells[0]):
            return [ID]
        for name in cells:
            if name not in self._columns:
                known = ", ".join(self._columns)
                raise BadRows(f"line 1: {name[:60]!r} is not a known column. The known columns are {known}.")
        if ID not in cells or len(set(cells)) < len(cells):
            raise BadRows(f"line 1: the column {ID!r} is required, and no column may occur twice.")
        return cells


@contextmanager
def open_rows(path: str, columns: Collection[str] = (ID,), *, stdin: TextIO | None = None) -> Iterator[CsvRows]:
    """Open a file, or stdin for ``-``, without a byte order mark. Raise ``BadRows`` if it cannot be opened."""
    try:
        with _open_bytes(path, stdin) as stream:
            yield CsvRows(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""), columns)
    except OSError as error:
        raise BadRows(f"{path or repr(path)} cannot be read: {error.strerror}.") from error


@contextmanager
def _open_bytes(path: str, stdin: TextIO | None) -> Iterator[IO[bytes]]:
    if path == "-":
        source = stdin or sys.stdin
        if source is None:
            raise BadRows("Stdin is closed.")
        with _spooled(getattr(source, "buffer", source)) as kept:
            yield kept
        return
    if "\0" in path:  # Python raises ValueError for it, not OSError
        raise BadRows(f"{path!r} is not a valid file name.")
    with open(path, "rb") as stream:  # noqa: PTH123 - a path from the command line is text
        if stream.seekable():
            yield stream
        else:  # a pipe, such as the shell's <(...)
            with _spooled(stream) as kept:
                yield kept


@contextmanager
def _spooled(source: Any) -> Iterator[IO[bytes]]:
    """Keep the content of a pipe in memory or, if it is larger than ``MEMORY_BYTES``, in a temporary file."""
    with tempfile.SpooledTemporaryFile(MEMORY_BYTES) as kept:
        while piece := source.read(65536):
            try:
                kept.write(piece if isinstance(piece, bytes) else piece.encode())
            except OSError as error:
                problem = "The input is too large for memory, and cannot be written to a temporary file"
                raise BadRows(f"{problem}: {error.strerror}.") from error
        yield kept


def _delimiter(line: str) -> str:
    """Return the delimiter of the cells: the one that occurs most often, by default the comma."""
    return max(_DELIMITERS, key=line.count)


def _values(header: list[str], cells: list[str], line: int) -> dict[str, str]:
    if len(cells) > len(header) and any(cells[len(header) :]):
        raise BadRows(f"line {line}: the line has {len(cells)} cells, and the header has {len(header)} columns.")
    return {name: cell for name, cell in zip(header, cells, strict=False) if cell}


COLUMNS = (ID, "reference", "amount", "currency", "status", "issued_at", "expires_at")
TIMES = ("issued_at", "expires_at")
ROW_BATCH_SIZE = 500
"""Number of rows that are registered together."""
_REFUSALS = (Error, ValueError)
"""Exceptions of a database or driver for a value that it rejects."""


class Command(ReportingCommand):
    help = (
        "Register existing invoices from a CSV file. The command is idempotent. For invoices that are already "
        "registered, it fills in empty values only; it keeps and lists stored values that differ from the file."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--provider", required=True, help="alias of the provider in INVOICE_CANCEL")
        parser.add_argument(
            "--from-file",
            required=True,
            metavar="FILE",
            help=f"CSV file, or - for stdin. Columns: {', '.join(COLUMNS)}. Without a header: one id per line.",
        )
        parser.add_argument(
            "--database",
            choices=tuple(connections),
            help="alias of the invoices' database (default: the router decides)",
        )

    def handle(self, *, provider: str, from_file: str, database: str | None, **options: Any) -> None:
        using = database or Invoice.objects.all()._writer.using
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
        self.stdout.write(f"{new:,} registered, {total - new:,} already known")
        self._list(conflicts)

    def _list(self, conflicts: list[Conflict]) -> None:
        """List the invoices whose stored values differ from the file. The stored values are kept."""
        if not conflicts:
            return
        self.stderr.write(f"{len(conflicts):,} already registered with other values, which were kept:")
        for conflict in conflicts[:MAX_LISTED]:
            self.stderr.write(f"  {conflict}")
        if len(conflicts) > MAX_LISTED:
            self.stderr.write(f"  and {len(conflicts) - MAX_LISTED:,} more")

    def _register(self, rows: CsvRows, read: _Reader, using: str) -> tuple[int, list[Conflict]]:
        """Register the rows in batches, in one transaction. Return the number of new invoices, or raise ``BadRows``."""
        new, remaining = 0, iter(rows)
        conflicts: list[Conflict] = []
        with transaction.atomic(using=using):
            # SQLite refuses to write in a transaction that started with a read, if another process wrote in between.
            Invoice.objects.using(using).filter(pk=0).update(reference="")
            while batch := list(islice(remaining, ROW_BATCH_SIZE)):
                try:
                    new += _register_batch(batch, read, using, conflicts)
                except _REFUSALS as error:
                    refused = islice(_refused_rows(batch, read, using), MAX_LISTED)
                    raise BadRows("\n".join(refused) or str(error)) from error
        return new, conflicts


def _register_batch(batch: list[Row], read: _Reader, using: str, conflicts: list[Conflict]) -> int:
    """Register some rows in a savepoint, so that they can be tried one by one after an error."""
    manager, values = Invoice.objects.db_manager(using), [read(row.values) for row in batch]
    options: dict[str, Any] = {"actor": "register_invoices", "trigger": Trigger.COMMAND}
    with transaction.atomic(using=using):
        new: int = manager.register_many(values, on_conflict=conflicts.append, **options)[0]
    return new


def _refused_rows(batch: list[Row], read: _Reader, using: str) -> Iterator[str]:
    """Yield a line for each row that the database rejects. If the connection is lost, yield none."""
    for row in batch if connections[using].is_usable() else ():
        try:
            _register_batch([row], read, using, [])
        except _REFUSALS as error:
            yield f"line {row.line}: the database rejects it: {error}"


class _Reader:
    """Converts the text of a line to the arguments of ``register``."""

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
        """Raise ``BadValue`` for a value that cannot be registered."""
        read = self(values)
        if ID not in values:
            raise BadValue(ID, "is missing.")
        try:
            invoice = Invoice(**cleaned_values(read, Invoice))
            invoice._state.db = self.using  # some checks depend on the database
            invoice.clean_fields()
        except ValidationError as error:
            column, problems = next(iter(error.message_dict.items()))
            raise BadValue(column, " ".join(problems)) from error


def _time(column: str, text: str) -> datetime:
    """Return the time in a cell, or raise ``BadValue``."""
    try:
        when = parse_time(text)
        displayable(when)
        return localize_time(when)
    except ValidationError as error:
        raise BadValue(column, " ".join(error.messages)) from error
    except ValueError as error:
        raise BadValue(column, str(error)) from error
