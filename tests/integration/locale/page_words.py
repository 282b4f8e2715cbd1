"""The visible text of a page: its text and labels, without the parts that only programs read."""

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import django

from tests.integration.locale.catalogue import compiled, entries

_LABELS = ("title", "aria-label", "placeholder", "data-lost")
_UNREAD = frozenset({"script", "style", "code"})
_VOID = frozenset({"br", "input", "link", "meta", "img", "hr", "col"})


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.open.append(tag)
        named = dict(attrs)
        labels = [*_LABELS, *(("value",) if named.get("type") in ("submit", "button") else ())]
        self.words += [named[label] or "" for label in labels if label in named]

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not _UNREAD & set(self.open):
            self.words.append(data)


def read(answer: Any) -> str:
    """Return what a person reads, white space made single."""
    reader = _Reader()
    reader.feed(answer.content.decode())
    return re.sub(r"\s+", " ", " ".join(words for words in reader.words if words.strip() not in _djangos()))


@cache
def _djangos() -> set[str]:
    """The texts of Django and of its admin that have no Russian translation yet."""
    texts: set[str] = set()
    for part in ("conf", "contrib/admin"):
        place = Path(django.__file__).parent / part / "locale"
        russian = compiled(place / "ru/LC_MESSAGES/django.mo")
        texts |= {entry.text for entry in entries(place / "en/LC_MESSAGES/django.po")} - russian.keys()
    return texts


def english(text: str, names: frozenset[str]) -> list[str]:
    """Return the words in Latin letters that are not names. Code in backticks and UUIDs are left out."""
    found = re.findall(r"[A-Za-z_]{2,}", re.sub(r"`[^`]*`|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "", text))
    return [word for word in found if word not in names]
