"""Text from outside, made acceptable to every database: unusual characters must not lose an answer."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from django.db import DatabaseError, connections, transaction

T = TypeVar("T")

_NOT_REPRESENTABLE = frozenset({1300, 1366, 3854, 3988})
"""Errors of MariaDB and MySQL about a character that the column or the connection cannot represent."""


def storable(text: str, length: int | None = None) -> str:
    """Return the text without NUL (PostgreSQL) and lone surrogates, cut to ``length`` characters."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")[:length]


def write_texts(write: Callable[[list[str]], T], texts: Sequence[str], *, using: str) -> T:
    """Call ``write`` with the texts; again with ASCII escapes if the database cannot represent them.

    Tables of MariaDB and MySQL in utf8mb3 lack emoji, tables in latin1 most alphabets. ``write`` cuts the texts to
    their columns: an escape is longer than its character.
    """
    if connections[using].vendor != "mysql" or all(text.isascii() for text in texts):
        return write(list(texts))
    for escape in (str, _escape_beyond_utf8mb3):
        try:
            with transaction.atomic(using=using):
                return write([escape(text) for text in texts])
        except (DatabaseError, UnicodeEncodeError) as error:
            if isinstance(error, DatabaseError) and not _NOT_REPRESENTABLE.intersection(error.args[:1]):
                raise
    return write([_escape_all(text) for text in texts])


def _escape_beyond_utf8mb3(text: str) -> str:
    return "".join(_escape_all(character) if character > "\uffff" else character for character in text)


def _escape_all(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("ascii")


def narrow_columns(alias: str, columns: Sequence[tuple[str, str]]) -> list[str]:
    """Return which of the (table, column) pairs cannot hold every character, as "table.column (character set)"."""
    connection = connections[alias]
    if connection.vendor != "mysql":
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name, column_name, character_set_name FROM information_schema.columns "
            "WHERE table_schema = DATABASE() AND character_set_name <> 'utf8mb4'"
        )
        found = {(table, column): name for table, column, name in cursor.fetchall()}
    return [f"{table}.{column} ({found[table, column]})" for table, column in columns if (table, column) in found]
