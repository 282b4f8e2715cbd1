"""What the commands read from their arguments. Bad input is a usage error that names it, before anything is sent."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, time, timedelta
from itertools import islice
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from django.db import connections
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from .. import registry
from ..domain.numbers import LEAST_RATE, MOST_RATE, checked_bounds
from ..exceptions import CancelInTransaction, InvalidExternalId
from ..models import Invoice
from ..models.actors import find_actor

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SHOWN = 20


def age(text: str) -> timedelta:
    """Read ``90s``, ``45m``, ``36h``, ``2d`` or ``1w``."""
    match = re.fullmatch(r"(\d{1,4})([smhdw])", text)
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not an age: write 90s, 45m, 36h, 2d or 1w.")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def moment(text: str) -> datetime:
    """Read an ISO 8601 date (its midnight) or time; without a zone it is in the current one."""
    try:
        day = parse_date(text)
        when = datetime.combine(day, time()) if day else parse_datetime(text)
        if when is not None:
            return _as_stored(when)
    except (ValueError, OverflowError):  # well written, and no such day or hour
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a time: write 2026-11-22 or 2026-11-22T14:30.")


def _as_stored(when: datetime) -> datetime:
    """Return a time as the database wants it; raise ``OverflowError`` for one that leaves the calendar by that."""
    if not settings.USE_TZ:
        return when if timezone.is_naive(when) else timezone.make_naive(when)
    return (timezone.make_aware(when) if timezone.is_naive(when) else when).astimezone(UTC)


def positive(text: str) -> int:
    """Read a whole number above 0."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0.")
    return int(text)


def rate(text: str) -> float:
    """Read a number of requests a second."""
    try:
        value = float(text)
        checked_bounds(rate=value)
    except ValueError as error:
        bounds = f"from {LEAST_RATE} to {MOST_RATE:g}"
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of requests a second {bounds}.") from error
    return value


def read_texts(options: dict[str, Any], **readers: Callable[[str], Any]) -> None:
    """Read what ``call_command`` hands on as text as a shell's arguments are read; else raise ``CommandError``."""
    for name, read in readers.items():
        if isinstance(options[name], str):
            try:
                options[name] = read(options[name])
            except argparse.ArgumentTypeError as error:
                raise CommandError(f"--{name.replace('_', '-')}: {error}") from error


def add_output_arguments(parser: CommandParser) -> None:
    """Add what both bulk commands take."""
    parser.add_argument(
        "--database", choices=tuple(connections), help="alias of the invoices' database (else the router decides)"
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="at most so many invoices")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done; send and write nothing")
    parser.add_argument("--format", choices=("table", "jsonl"), default="table", help="jsonl: one result a line")


def refuse_bad_bounds(options: dict[str, Any], *names: str) -> None:
    """Raise ``CommandError`` for a bound that is none: ``call_command`` does not read its keywords with our types.

    A limit of 0 is refused too: nobody who types it means "nothing".
    """
    try:
        checked_bounds(**{name: options[name] for name in names})
    except ValueError as error:
        raise CommandError(f"--{error}") from error
    if options["limit"] == 0:
        raise CommandError("--limit must be above 0, not 0.")


def invoices_in(options: dict[str, Any]) -> Any:
    """Return all invoices of the database that was named, read where they are written: never from a replica."""
    invoices = Invoice.objects.all()
    return invoices.using(options["database"] or invoices._writer.using)


def refuse_inside_transaction(writer: Any) -> None:
    """Raise ``CommandError`` where a provider may not be asked: ``call_command`` may be called anywhere."""
    try:
        writer.refuse_inside_transaction()
    except CancelInTransaction as error:
        raise CommandError(str(error)) from error


def checked_provider(alias: str | None) -> str | None:
    """Return the alias, or raise ``CommandError`` where it is not configured."""
    if alias is not None:
        try:
            registry.get_provider(alias)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
    return alias


def actor(name: str | None) -> Any:
    """Return the user of this name, else the name as a label."""
    return find_actor(name) if name else None


def keys_of(invoices: Any, provider: str, external_ids: Iterable[tuple[str, str]]) -> list[Any]:
    """Return the primary keys of the invoices with these ids; raise ``CommandError`` for ids that are not there.

    Each id comes with the place where it was read.
    """
    keys: set[Any] = set()
    wrong: list[str] = []
    for chunk in _chunks(external_ids, 500):
        found, missing = _found(invoices, provider, chunk)
        keys |= found
        wrong += missing
    if wrong:
        more = [f"... and {len(wrong) - _SHOWN:,} more"] if len(wrong) > _SHOWN else []
        shown = "\n".join(f"  {line}" for line in wrong[:_SHOWN] + more)
        raise CommandError(f"Nothing was sent. Not registered with {provider!r}:\n{shown}")
    return sorted(keys)


def _found(invoices: Any, provider: str, chunk: list[tuple[str, str]]) -> tuple[set[Any], list[str]]:
    """Return the keys of the ids that are there, and a line for each that is not."""
    known = registry.get_provider(provider)
    clean: dict[str, str] = {}
    wrong: list[str] = []
    for place, text in chunk:
        try:
            clean[known.clean_id(text)] = f"{place}{text}"
        except InvalidExternalId as error:
            wrong.append(f"{place}{error}")
    rows = invoices.filter(provider=provider, external_id__in=clean)
    found = dict(rows.values_list("external_id", "pk"))
    wrong += [where for external_id, where in clean.items() if external_id not in found]
    return set(found.values()), wrong


def _chunks(items: Iterable[tuple[str, str]], size: int) -> Iterator[list[tuple[str, str]]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
