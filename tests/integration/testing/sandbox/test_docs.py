"""The documentation of the sandbox is correct."""

import doctest
from dataclasses import fields
from pathlib import Path

from django_invoice_cancel.testing.sandbox import SandboxConfig
from django_invoice_cancel.testing.sandbox.behaviours import markdown_table

DOCS = Path(__file__).parents[4] / "docs" / "reference" / "sandbox.md"


def sandbox_section():
    return DOCS.read_text(encoding="utf-8")


def test_table_of_behaviours_in_the_docs_is_the_table():
    documented = [line for line in sandbox_section().splitlines() if line.startswith(("| code |", "| `0", "| `1"))]
    documented += [line for line in sandbox_section().splitlines() if line.startswith(("| `2", "| `3"))]
    assert documented == [line for line in markdown_table().splitlines() if not line.startswith("|-")]


def test_every_option_is_in_the_docs():
    assert [option.name for option in fields(SandboxConfig) if f"`{option.name}`" not in sandbox_section()] == []


def test_examples_in_the_docs_work():
    examples = doctest.DocTestParser().get_doctest(sandbox_section(), {}, "docs/reference/sandbox.md", str(DOCS), 0)
    runner = doctest.DocTestRunner()
    assert runner.run(examples) == doctest.TestResults(failed=0, attempted=len(examples.examples))
    assert examples.examples
