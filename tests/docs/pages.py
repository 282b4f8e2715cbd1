"""The project's Markdown pages for tests: their Python blocks, links, headings and tables."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_ANCHOR = re.compile(r"^\(([^)\n]+)\)=$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of Python."""

    page: str
    line: int
    code: str

    def run(self, namespace: dict[str, object]) -> dict[str, object]:
        """Execute the block in ``namespace``, and return that."""
        source = "\n" * (self.line - 1) + self.code  # so that a traceback names the page's own line
        exec(compile(source, str(ROOT / self.page), "exec"), namespace)  # noqa: S102 - our own pages
        return namespace

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Return all pages, relative to the project's root."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def python_blocks(page: str) -> Iterator[Block]:
    text = text_of(page)
    for fence in _FENCE.finditer(text):
        if fence[2] == "python":
            yield Block(page, text.count("\n", 0, fence.start()) + 2, fence[3])


def block_with(page: str, words: str) -> Block:
    """Return the only block of the page that contains this text."""
    (block,) = [block for block in python_blocks(page) if words in block.code]
    return block


def links(page: str) -> list[str]:
    """Return the targets of the page's links to the project's own files, as they are written."""
    return [target for target in _LINK.findall(prose(page)) if "://" not in target and not target.startswith("mailto:")]


def anchors(page: str) -> set[str]:
    """Return the valid targets of ``#...`` on the page: its headings, as GitHub spells them, and its anchors."""
    text = prose(page)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}
    return slugs | set(_ANCHOR.findall(text))


def table_rows(page: str, title: str = "") -> list[list[str]]:
    """Return the cells of all rows of the tables that begin with something in backquotes.

    ``title``: that of a section of the page, to which the rows are limited; its subsections belong to it.
    """
    text = section(page, title) if title else prose(page)
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows]


def section(page: str, title: str) -> str:
    """Return the text of a section, up to the next heading of its level or a higher one, without fenced blocks."""
    text = prose(page)
    heading = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert heading, f"{page} has no section {title!r}"
    rest = text[heading.end() :]
    end = re.search(rf"^#{{1,{len(heading[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def prose(page: str) -> str:
    """Return the page without its fenced blocks."""
    return _FENCE.sub("", text_of(page))


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")
