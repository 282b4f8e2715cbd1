"""Read a page by its elements instead of its source."""

import re
from html.parser import HTMLParser
from typing import Any

from django.contrib.messages import get_messages


def shown_messages(response: Any) -> list[tuple[str, str]]:
    """Return the messages of a response as (level, text)."""
    return [(message.level_tag, str(message)) for message in get_messages(response.wsgi_request)]


def page_text(response: Any) -> str:
    """Return the source of a page with single spaces, and without the ``<bdi>`` around texts that others wrote."""
    return " ".join(re.sub("</?bdi>", "", response.content.decode()).split())


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


def element_texts(response: Any, wanted: str) -> list[str]:
    """Return the text of each element with this class or tag."""
    reader = _Reader(wanted)
    reader.feed(response.content.decode())
    return [re.sub(r"\s+", " ", text).strip() for text in reader.found]


def link_addresses(response: Any) -> list[str]:
    """Return the addresses of the links of a page."""
    return [address.replace("&amp;", "&") for address in re.findall(r'href="([^"]*)"', response.content.decode())]
