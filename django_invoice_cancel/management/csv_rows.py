"""Read invoices, or their ids alone, from a CSV file or from stdin: all of it checked before the first row is used.

A file is read twice rather than held in memory; a large pipe is kept in a temporary file for that. Knows
no database: what a row must be is for the caller to say. What is wrong is told by line and column, of up to
``MOST_TOLD`` lines.
"""

import csv
import io
import re
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, TextIO

ID = "external_id"
MOST_TOLD = 20
MEMORY_BYTES = 8_000_000
"""How much of a pipe is kept in memory; some 500,000 ids."""
_DELIMITERS = ",;\t"
_TITLE = re.compile(r"[a-z_ ]+")
"""What reads like a column's name and not like an id: "uuid" must not become an invoice."""


class BadRows(Exception):
    """A file is not usable; the message says what is wrong, a line for each."""


class BadValue(Exception):
    """A row is not usable: in which column, and why."""

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(column, problem)
        self.column = column
        self.problem = problem


@dataclass(frozen=True)
class Row:
    """One line of the file."""

    line: int
    values: Mapping[str, str]
    """What is filled in, by column."""


class CsvRows:
    """The rows of an open file, which can be read again and again."""

    def __init__(self, stream: TextIO, columns: Collection[str] = (ID,)) -> None:
        """``columns``: those that are known; one that is not is an error, ``external_id`` is required."""
        self._stream = stream
        self._columns = columns

    def __iter__(self) -> Iterator[Row]:
        try:
            self._stream.seek(0)
            delimiter = _delimiter(self._stream.readline())
            self._stream.seek(0)
            yield from self._rows(csv.reader(self._stream, delimiter=delimiter, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise BadRows(f"This is not a CSV file in UTF-8: {error}.") from error

    def check(self, read: Callable[[Mapping[str, str]], object]) -> int:
        """Hand every row to ``read``, which raises ``BadValue``; return their number, or raise ``BadRows``."""
        count, bad = 0, []
        for count, row in enumerate(self, start=1):  # noqa: B007 - the number of rows, after the loop
            try:
                read(row.values)
            except BadValue as error:
                bad.append(f"line {row.line}, {error.column}: {error.problem}")
            if len(bad) == MOST_TOLD:
                bad.append("There may be more: this is where reading stopped.")
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
        """Return the columns; a file of one column may go without naming it, and is a file of ids then."""
        if len(cells) == 1 and cells[0] not in self._columns and not _TITLE.fullmatch(cells[0]):
            return [ID]
        for name in cells:
            if name not in self._columns:
                known = ", ".join(self._columns)
                raise BadRows(f"line 1: {name[:60]!r} is not a column that is known; those are {known}.")
        if ID not in cells or len(set(cells)) < len(cells):
            raise BadRows(f"line 1: there must be one column {ID!r}, and no column twice.")
        return cells


@contextmanager
def open_rows(path: str, columns: Collection[str] = (ID,), *, stdin: TextIO | None = None) -> Iterator[CsvRows]:
    """Open a file, or stdin for ``-``; a byte order mark is no part of it. Raises ``BadRows`` where it cannot."""
    try:
        with _opened(path, stdin) as stream:
            yield CsvRows(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""), columns)
    except OSError as error:
        raise BadRows(f"{path or repr(path)} cannot be read: {error.strerror}.") from error


@contextmanager
def _opened(path: str, stdin: TextIO | None) -> Iterator[IO[bytes]]:
    if path == "-":
        source = stdin or sys.stdin
        if source is None:
            raise BadRows("There is no stdin to read.")
        with _kept(getattr(source, "buffer", source)) as kept:
            yield kept
        return
    if "\0" in path:  # Python raises ValueError for it, not OSError
        raise BadRows(f"{path!r} is not the name of a file.")
    with open(path, "rb") as stream:  # noqa: PTH123 - a path from the command line is text
        if stream.seekable():
            yield stream
        else:  # a pipe, such as the shell's <(...)
            with _kept(stream) as kept:
                yield kept


@contextmanager
def _kept(source: Any) -> Iterator[IO[bytes]]:
    """Keep what can be read only once: in memory, beyond ``MEMORY_BYTES`` in a temporary file."""
    with tempfile.SpooledTemporaryFile(MEMORY_BYTES) as kept:
        while piece := source.read(65536):
            try:
                kept.write(piece if isinstance(piece, bytes) else piece.encode())
            except OSError as error:
                problem = "It is too large for memory, and cannot be kept in a temporary directory"
                raise BadRows(f"{problem}: {error.strerror}.") from error
        yield kept


def _delimiter(line: str) -> str:
    """Return what separates the cells of a line: what stands in it most often, the comma where nothing does."""
    return max(_DELIMITERS, key=line.count)


def _values(header: list[str], cells: list[str], line: int) -> dict[str, str]:
    if len(cells) > len(header) and any(cells[len(header) :]):
        raise BadRows(f"line {line}: there are {len(cells)} cells; the file has {len(header)} columns.")
    return {name: cell for name, cell in zip(header, cells, strict=False) if cell}
