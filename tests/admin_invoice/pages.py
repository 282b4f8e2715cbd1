"""URLs of pages, and functions that read a page by its elements instead of its source."""

import re
from html.parser import HTMLParser
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.urls import reverse

from django_invoice_cancel.models import Invoice, InvoiceTransition

PAGES = ("cancel", "check", "resolve", "handled", "withdraw")


def listing(query: str = "", site: str = "admin") -> str:
    return reverse(f"{site}:invoice_cancel_invoice_changelist") + query


def page(invoice: Invoice, name: str = "change", site: str = "admin") -> str:
    return reverse(f"{site}:invoice_cancel_invoice_{name}", args=[invoice.pk])


def stored(invoice: Invoice) -> Invoice:
    return Invoice.objects.get(pk=invoice.pk)


def rows() -> tuple[int, int]:
    """How many rows the log of the invoices and the admin's own log hold."""
    return InvoiceTransition.objects.count(), LogEntry.objects.count()


def said(response: Any) -> list[tuple[str, str]]:
    """The messages that a click left, as (level, text)."""
    return [(message.level_tag, str(message)) for message in get_messages(response.wsgi_request)]


class _Reader(HTMLParser):
    VOID = frozenset({"br", "input", "link", "meta", "img", "hr"})

    def __init__(self, wanted: str) -> None:
        super().__init__()
        self.wanted, self.depth, self.found = wanted, 0, []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if self.depth:
            self.depth += tag not in self.VOID
        elif self.wanted in (dict(attrs).get("class") or "").split() or self.wanted == tag:
            self.depth = 1
            self.found.append("")

    def handle_endtag(self, tag: str) -> None:
        if self.depth and tag not in self.VOID:
            self.depth -= 1

    def handle_data(self, data: str) -> None:
        if self.depth:
            self.found[-1] += data


def texts(response: Any, wanted: str) -> list[str]:
    """What the elements with this class (or tag) say, in words."""
    reader = _Reader(wanted)
    reader.feed(response.content.decode())
    return [re.sub(r"\s+", " ", text).strip() for text in reader.found]


def links(response: Any) -> list[str]:
    """The addresses that a page leads to."""
    return [address.replace("&amp;", "&") for address in re.findall(r'href="([^"]*)"', response.content.decode())]
