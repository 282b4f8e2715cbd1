"""The page of public names matches each ``__all__``. The pages and the examples import no other names."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module

import pytest

from .pages import ROOT, pages, prose, python_blocks, text_of

PAGE = "docs/reference/public-names.md"
PACKAGE = "django_invoice_cancel"
_SECTION = re.compile(r"^## `([\w.]+)`\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"^\| `([\w.]+)` \| ", re.MULTILINE)
_DOTTED = re.compile(rf"\b{PACKAGE}(?:\.\w+)+\b(?!/)")
_IMPORT = re.compile(rf"\bfrom ({PACKAGE}[\w.]*) import ([\w, ]+)")
EXAMPLES = sorted(path for path in ROOT.glob("example_project/**/*.py") if "migrations" not in path.parts)
ADAPTERS = [ROOT / "tests/unit/providers/conformance/test_no_content.py"]


def listed() -> dict[str, list[str]]:
    """Return the names of the page by their module; names with a dot are attributes of a name of that module."""
    return {module: _NAME.findall(section) for module, section in _SECTION.findall(text_of(PAGE))}


LISTED = listed()
PUBLIC = {module: [name for name in names if "." not in name] for module, names in LISTED.items()}
ATTRIBUTES = [(module, name) for module, names in LISTED.items() for name in names if "." in name]
PATHS = {*PUBLIC, *(f"{module}.{name}" for module, names in PUBLIC.items() for name in names)}
BLOCKS = [block for page in pages() for block in python_blocks(page)]


@pytest.mark.parametrize("module", PUBLIC)
def test_page_lists_what_the_module_exports(module):
    assert PUBLIC[module] == sorted(import_module(module).__all__)


@pytest.mark.parametrize("module", PUBLIC)
def test_exported_names_can_be_imported(module):
    namespace = {}
    exec(f"from {module} import *", namespace)  # noqa: S102 - as a project writes it
    assert namespace.keys() - {"__builtins__"} == set(PUBLIC[module])


@pytest.mark.parametrize(("module", "name"), ATTRIBUTES, ids=[name for _, name in ATTRIBUTES])
def test_listed_attribute_exists(module, name):
    owner = import_module(module)
    for part in name.split("."):
        owner = getattr(owner, part)


def test_page_lists_every_top_level_module_that_exports_names():
    """A module with an ``__all__`` looks public, so no private one at the top has it."""
    files = [*(ROOT / PACKAGE).glob("*.py"), *(path.parent for path in (ROOT / PACKAGE).glob("*/__init__.py"))]
    modules = {f"{PACKAGE}.{path.stem}" for path in files} - {f"{PACKAGE}.__init__"}
    exporting = {name for name in modules if hasattr(import_module(name), "__all__")}
    assert exporting == {name for name in PUBLIC if name.count(".") == 1}


def imports_of(source: str) -> Iterator[str]:
    """Yield the dotted paths that a source imports from the package."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == PACKAGE)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from django_invoice_cancel.domain.secrets import Secret", {"django_invoice_cancel.domain.secrets.Secret"}),
        ("def f():\n    from django_invoice_cancel import conf", {"django_invoice_cancel.conf"}),
        ("import django_invoice_cancel.registry", {"django_invoice_cancel.registry"}),
        ("import django_invoice_cancel.models\nimport os", set()),
        ("from django_invoice_cancel.models import (\n    Invoice,\n)", set()),
    ],
)
def test_private_imports_are_found(source, found):
    assert set(imports_of(source)) - PATHS == found


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block_imports_public_names_only(block):
    assert set(imports_of(block.code)) - PATHS == set()


@pytest.mark.parametrize("page", pages())
def test_page_names_public_paths_only(page):
    """In its prose, console sessions and settings: ``django_invoice_cancel.<module>.<name>`` is public."""
    text = text_of(page)
    imported = {f"{module}.{name.strip()}" for module, names in _IMPORT.findall(text) for name in names.split(",")}
    assert {*_DOTTED.findall(text), *imported} - PATHS == set()
    assert prose(page)


@pytest.mark.parametrize("path", [*EXAMPLES, *ADAPTERS], ids=lambda path: str(path.relative_to(ROOT)))
def test_example_imports_public_names_only(path):
    assert set(imports_of(path.read_text(encoding="utf-8"))) - PATHS == set()
