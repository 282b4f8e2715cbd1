"""Checks of values that Django does not make, for forms, ``register`` and files."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import DatabaseError, connections, models, transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from .fields import AmountField

T = TypeVar("T")


def parse_time(text: str) -> datetime:
    """Return the time of a text in ISO 8601. A date is its midnight. Other texts raise ``ValueError``."""
    try:
        when = parse_datetime(text.strip(" "))
    except ValueError:  # valid syntax, but the day or hour does not exist
        when = None
    if when is None:
        raise ValueError(f"{text[:40]!r} is not a valid time. Use for example 2026-01-31 or 2026-01-31T23:59:59+03:00.")
    return when


def localize_time(when: datetime) -> datetime:
    """Return a time in the form of a ``DateTimeField``. A time without an offset is in the current time zone.

    Raises ``OverflowError`` if the converted time is outside of the calendar.
    """
    if not settings.USE_TZ:
        return when if timezone.is_naive(when) else timezone.make_naive(when)
    return (timezone.make_aware(when) if timezone.is_naive(when) else when).astimezone(UTC)


_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_NOT_REPRESENTABLE = frozenset({1300, 1366, 3854, 3988})
"""Error codes of MariaDB and MySQL for a character that the column or the connection cannot represent."""


def is_unstorable(text: str) -> bool:
    """Return whether a text contains NUL or half of a surrogate pair, which a database may not store or compare."""
    return bool(_UNSTORABLE.search(text))


def storable(text: str, length: int | None = None) -> str:
    """Return the text without NUL (PostgreSQL) and lone surrogates, cut to ``length`` characters."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")[:length]


def write_texts(write: Callable[[list[str]], T], texts: Sequence[str], *, using: str) -> T:
    """Call ``write`` with the texts; if the database cannot represent them, call it again with ASCII escapes.

    On MariaDB and MySQL, utf8mb3 has no emoji, and latin1 lacks most alphabets. An escape is longer than its character,
    so ``write`` must cut the texts to the length of their columns.
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
    """Return the columns that cannot store every character, as "table.column (character set)"."""
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


def untimely(instance: models.Model, excluded: Collection[str]) -> dict[str, Any]:
    """Return errors for values of time fields whose type Django cannot convert."""
    errors: dict[str, Any] = {}
    for field in instance._meta.fields:
        value = getattr(instance, field.attname)
        is_time = isinstance(field, models.DateTimeField) and field.name not in excluded
        if is_time and not isinstance(value, str | date | None):
            errors[field.name] = [_("Pass a datetime, not %(type)s.") % {"type": type(value).__name__}]
    return errors


def unstorable(instance: models.Model, excluded: Collection[str], *, using: str) -> dict[str, Any]:
    """Return errors for texts and amounts that a database cannot store unchanged."""
    errors: dict[str, Any] = {}
    for field in instance._meta.fields:
        value = getattr(instance, field.attname)
        if field.name in excluded:
            continue
        if isinstance(value, str) and is_unstorable(value):
            errors[field.name] = [
                _("This text contains a character that cannot be stored (NUL, or half of a surrogate pair). Remove it.")
            ]
        elif isinstance(field, AmountField) and isinstance(value, Decimal) and connections[using].vendor == "sqlite":
            try:
                field.refuse_rounding(value)
            except ValidationError as error:
                errors[field.name] = error.messages
    return errors
