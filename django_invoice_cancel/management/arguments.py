"""Arguments of the commands. Invalid input is a usage error that names the argument, before anything is sent."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from django.db import connections

from .. import registry
from ..domain.audit import REASON_LENGTH
from ..domain.numbers import COMMAND_LIMIT, NumberRange
from ..exceptions import CancelInTransaction, InvalidExternalId
from ..models import Invoice
from ..models.actors import find_actor
from ..models.values import localize_time, parse_time

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
MAX_LISTED = 20
"""Maximum number of rows or ids in an error message."""
ID_BATCH_SIZE = 500
"""Number of ids in one query."""


def age(text: str) -> timedelta:
    """Parse ``90s``, ``45m``, ``36h``, ``2d`` or ``1w``."""
    match = re.fullmatch(r"(\d{1,4})([smhdw])", text)
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a valid age. Use a number with a unit, such as 90s, 45m, 36h, 2d or 1w."
        )
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def moment(text: str) -> datetime:
    """Parse a date or a time in ISO 8601, as ``register_invoices`` does."""
    try:
        return localize_time(parse_time(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    except OverflowError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a valid time: it is outside the supported range of dates."
        ) from error


def reason(text: str) -> str:
    """Parse a reason with the rule of the admin's forms: it is stripped, and its length is limited."""
    text = text.strip()
    if len(text) > REASON_LENGTH:
        raise argparse.ArgumentTypeError(f"A reason has at most {REASON_LENGTH} characters, not {len(text):,}.")
    return text


def number_in(range_: NumberRange) -> Callable[[str], float]:
    """Return a parser for numbers in this range."""

    def read(text: str) -> float:
        is_readable = text.isdecimal() or not range_.is_whole
        try:
            value = (int(text) if range_.is_whole else float(text)) if is_readable else None
        except ValueError:
            value = None
        if value is None or value not in range_:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not {range_}.")
        return value

    return read


def read_texts(options: dict[str, Any], **readers: Callable[[str], Any]) -> None:
    """Parse texts that ``call_command`` passed on, in the same way as arguments from a shell.

    Raises:
        CommandError: A text is invalid.
    """
    for name, read in readers.items():
        if isinstance(options[name], str):
            try:
                options[name] = read(options[name])
            except argparse.ArgumentTypeError as error:
                raise CommandError(f"--{name.replace('_', '-')}: {error}") from error


def add_output_arguments(parser: CommandParser) -> None:
    """Add the arguments that both bulk commands accept."""
    parser.add_argument(
        "--database", choices=tuple(connections), help="alias of the invoices' database (default: the router decides)"
    )
    parser.add_argument("--limit", type=number_in(COMMAND_LIMIT), metavar="N", help="process at most N invoices")
    parser.add_argument("--dry-run", action="store_true", help="show the actions without sending or writing")
    parser.add_argument(
        "--format", choices=("table", "jsonl"), default="table", help="jsonl: one JSON object per invoice"
    )


def check_numbers(options: dict[str, Any], **ranges: NumberRange) -> None:
    """Raise ``CommandError`` for an invalid number, because ``call_command`` passes values on unparsed."""
    for name, range_ in ranges.items():
        if options[name] is not None:
            try:
                range_.check(f"--{name}", options[name])
            except ValueError as error:
                raise CommandError(str(error)) from error


def invoices_in(options: dict[str, Any]) -> Any:
    """Return all invoices of the selected database. They are read from the write database, never from a replica."""
    invoices = Invoice.objects.all()
    return invoices.using(options["database"] or invoices._writer.using)


def refuse_inside_transaction(writer: Any) -> None:
    """Raise ``CommandError`` inside a transaction, because ``call_command`` may be called there."""
    try:
        writer.refuse_inside_transaction()
    except CancelInTransaction as error:
        raise CommandError(str(error)) from error


def checked_provider(alias: str | None) -> str | None:
    """Return the alias, or raise ``CommandError`` if it is not configured."""
    if alias is not None:
        try:
            registry.get_provider(alias)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
    return alias


def actor(name: str | None) -> Any:
    """Return the user with this name, or else the name as a label."""
    return find_actor(name) if name else None


def keys_of(invoices: Any, provider: str, external_ids: Iterable[tuple[str, str]]) -> list[Any]:
    """Return the primary keys of the invoices with these ids.

    Args:
        external_ids: Pairs of the place where an id was read and the id.

    Raises:
        CommandError: Some ids are not registered.
    """
    keys: set[Any] = set()
    wrong: list[str] = []
    rest = iter(external_ids)
    while batch := list(islice(rest, ID_BATCH_SIZE)):
        found, missing = _find_keys(invoices, provider, batch)
        keys |= found
        wrong += missing
    if wrong:
        more = [f"... and {len(wrong) - MAX_LISTED:,} more"] if len(wrong) > MAX_LISTED else []
        shown = "\n".join(f"  {line}" for line in wrong[:MAX_LISTED] + more)
        raise CommandError(f"Nothing was sent. These ids are not registered for provider {provider!r}:\n{shown}")
    return sorted(keys)


def _find_keys(invoices: Any, provider: str, batch: list[tuple[str, str]]) -> tuple[set[Any], list[str]]:
    """Return the keys of the registered ids, and a line for each id that is invalid or not registered."""
    known = registry.get_provider(provider)
    clean: dict[str, str] = {}
    wrong: list[str] = []
    for place, text in batch:
        try:
            clean[known.clean_id(text)] = f"{place}{text}"
        except InvalidExternalId as error:
            wrong.append(f"{place}{error}")
    rows = invoices.filter(provider=provider, external_id__in=clean)
    found = dict(rows.values_list("external_id", "pk"))
    wrong += [where for external_id, where in clean.items() if external_id not in found]
    return set(found.values()), wrong
