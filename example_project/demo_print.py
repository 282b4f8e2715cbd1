"""The output of the demo: columns for a width of 100 characters, colours on a terminal only."""

import itertools
import os
import sys
import textwrap

from django.utils import timezone

from django_invoice_cancel.models import Invoice

WIDTHS = (14, 15, 18)
LAST_WIDTH = 100 - 2 - sum(WIDTHS)
GREEN, YELLOW, RED = "32", "33", "31"
COLOURS = {
    "canceled": GREEN,
    "already_canceled": GREEN,
    "paid": GREEN,
    "partially_paid": GREEN,
    "in_doubt": YELLOW,
    "skipped": YELLOW,
    "not_processed": YELLOW,
    "refused": RED,
}
HAS_COLOURS = sys.stdout.isatty() and "NO_COLOR" not in os.environ
_steps = itertools.count(1)


class painted(str):
    """A string that has a colour on a terminal."""

    __slots__ = ()


def heading(text: str) -> None:
    print(f"\n{next(_steps)}. {text}\n")


def note(text: str) -> None:
    print(f"\n  {text}")


def cells(first: str, second: str, third: str, fourth: str) -> None:
    """Print a row. A long fourth cell continues on further lines."""
    start = "".join(_padded(text, width) for text, width in zip((first, second, third), WIDTHS, strict=True))
    rest = f"\n{' ' * (2 + sum(WIDTHS))}".join(textwrap.wrap(fourth, LAST_WIDTH))
    print(f"  {start}{rest}".rstrip())


def history(invoice: Invoice) -> None:
    """Print the transitions of an invoice below its row."""
    for row in invoice.transitions.all():
        time = timezone.localtime(row.created_at).strftime("%H:%M:%S.%f")[:-3]
        move = f"{row.from_status} > {row.to_status}"
        details = [row.code, f"HTTP {row.http_status}" if row.http_status else ""]
        details.append(f"{row.duration_ms} ms" if row.duration_ms is not None else "")
        print(f"  {'':<{WIDTHS[0]}}{time}  {move:<28}{', '.join(filter(None, details))}".rstrip())


def _padded(text: str, width: int) -> str:
    padded = f"{text:<{width}}"
    if isinstance(text, painted) and HAS_COLOURS:
        colour = COLOURS.get(text, "0")
        return padded.replace(text, f"\033[{colour}m{text}\033[0m")
    return padded
