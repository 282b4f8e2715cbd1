"""Read a catalogue of translations and its compiled form, without the gettext programs."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from gettext import GNUTranslations
from pathlib import Path

_LINE = re.compile(r'^(?:(msgctxt|msgid_plural|msgid|msgstr(?:\[\d\])?) )?(".*")$')


@dataclass
class Entry:
    """One text and its translations: one, or one for each plural form."""

    parts: dict[str, str] = field(default_factory=dict)
    is_fuzzy: bool = False

    @property
    def text(self) -> str:
        return self.parts["msgid"]

    @property
    def plural(self) -> str | None:
        return self.parts.get("msgid_plural")

    @property
    def forms(self) -> list[str]:
        return [part for name, part in self.parts.items() if name.startswith("msgstr")]

    @property
    def key(self) -> str:
        """The text as a compiled catalogue knows it."""
        context = self.parts.get("msgctxt")
        return self.text if context is None else f"{context}\x04{self.text}"


def entries(path: Path) -> list[Entry]:
    """Return the entries of a ``.po`` file, the header first, without obsolete ones (``#~``)."""
    return list(_entries(path.read_text(encoding="utf-8")))


def _entries(text: str) -> Iterator[Entry]:
    for block in re.split(r"\n\s*\n", text):
        entry, name = Entry(), ""
        for line in block.splitlines():
            if line.startswith("#,") and "fuzzy" in line:
                entry.is_fuzzy = True
            if found := _LINE.match(line):
                name = found[1] or name
                entry.parts[name] = entry.parts.get(name, "") + ast.literal_eval(found[2])
        if entry.parts:
            yield entry


def compiled(path: Path) -> dict[object, str]:
    """Return the entries of a ``.mo`` file, by text, or by text and number of the plural form."""
    with path.open("rb") as file:
        return dict(GNUTranslations(file)._catalog)


def as_compiled(found: list[Entry]) -> dict[object, str]:
    """Return the expected content of the ``.mo`` file for these entries."""
    said: dict[object, str] = {}
    for entry in found:
        if entry.plural is None:
            said[entry.key] = entry.forms[0]
        else:
            said |= {(entry.key, number): form for number, form in enumerate(entry.forms)}
    return said
