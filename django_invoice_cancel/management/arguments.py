"""What the commands read from their arguments. Bad input is a usage error that names it, before anything is sent."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from .. import registry
from ..exceptions import InvalidExternalId
from ..models import Invoice

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SHOWN = 5


def age(text: str) -> timedelta:
    """Read ``90s``, ``45m``, ``36h``, ``2d`` or ``1w``."""
    match = re.fullmatch(r"(\d{1,4})([smhdw])", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not an age: write 90s, 45m, 36h, 2d or 1w.")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def moment(text: str) -> datetime:
    """Read an ISO 8601 date or time; without a zone it is in the current one."""
    try:
        day = parse_date(text)
        when = datetime(day.year, day.month, day.day) if day else parse_datetime(text)  # noqa: DTZ001 - zone below
    except ValueError:
        when = None
    if when is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: write 2026-11-22 or 2026-11-22T14:30.")
    return timezone.make_aware(when) if timezone.is_naive(when) else when


def positive(text: str) -> int:
    """Read a whole number above 0."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0.")
    return int(text)


def rate(text: str) -> float:
    """Read a number of requests a second."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of requests a second.")
    return value


def add_output_arguments(parser: CommandParser) -> None:
    """Add what both bulk commands take."""
    parser.add_argument("--database", default=None, help="alias of the invoices' database (else the router decides)")
    parser.add_argument("--limit", type=positive, metavar="N", help="at most so many invoices")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done; send and write nothing")
    parser.add_argument("--format", choices=("table", "jsonl"), default="table", help="jsonl: one result a line")


def invoices_in(options: dict[str, Any]) -> Any:
    """Return all invoices of the database that was named."""
    invoices = Invoice.objects.all()
    return invoices.using(options["database"]) if options["database"] else invoices


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
    if not name:
        return None
    user_model = get_user_model()
    return user_model._default_manager.filter(**{user_model.USERNAME_FIELD: name}).first() or name


def keys_of(invoices: Any, provider: str, external_ids: Iterable[str]) -> list[Any]:
    """Return the primary keys of the invoices with these ids, in order; raise for ids that are not there."""
    known = registry.get_provider(provider)
    keys: dict[str, Any] = {}
    wrong: list[str] = []
    for chunk in _chunks(external_ids, 500):
        clean: dict[str, str] = {}
        for text in chunk:
            try:
                clean[known.clean_id(text)] = text
            except InvalidExternalId:
                wrong.append(text)
        rows = invoices.filter(provider=provider, external_id__in=clean)
        found = dict(rows.values_list("external_id", "pk"))
        keys.update(found)
        wrong += [text for external_id, text in clean.items() if external_id not in found]
    if wrong:
        shown = ", ".join(repr(text[:40]) for text in wrong[:_SHOWN]) + (", ..." if len(wrong) > _SHOWN else "")
        raise CommandError(f"{len(wrong):,} not registered with {provider!r}: {shown}. Nothing was sent.")
    return sorted(keys.values())


def _chunks(items: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
