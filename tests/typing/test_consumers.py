"""A project that uses the app is type-checked: existing names have their real types, and unknown names are errors."""

import inspect
import re
from collections import defaultdict
from pathlib import Path

import pytest

from django_invoice_cancel.models import Invoice, InvoiceTransition

pytestmark = pytest.mark.types

HERE = Path(__file__).parent
MANAGERS = {
    "Invoice.objects": Invoice.objects,
    "InvoiceTransition.objects": InvoiceTransition.objects,
    "Invoice().transitions": InvoiceTransition.objects,
}
IMPORTS = "from typing import Any; from django_invoice_cancel.models import Invoice, InvoiceTransition"
EXPECTED = re.compile(r"# error: (\S+)$")


def test_consumer_is_accepted(checker, cache):
    reports = checker.check([HERE / "consumer.py"], cache)
    assert not reports, "\n".join(map(str, reports))


def test_each_mistake_is_an_error(checker, cache):
    lines = (HERE / "mistakes.py").read_text().splitlines()
    expected = {number: {match[1]} for number, line in enumerate(lines, 1) if (match := EXPECTED.search(line))}
    assert len(expected) > 30

    found = defaultdict(set)
    for report in checker.check([HERE / "mistakes.py"], cache):
        found[report.line].add(report.code)

    missed = {lines[number - 1] for number, codes in expected.items() if checker.rule(*codes) not in found[number]}
    others = {lines[number - 1] for number in found if number not in expected}
    assert missed == set()
    assert others == set()


def test_manager_returns_what_its_query_set_returns(checker, cache, tmp_path):
    """Type checkers have a hand-written list of the methods that a manager has from its query set."""
    calls = {
        f"{source}.{name}(*values, **values)": f"{source}.all().{name}(*values, **values)"
        for source, manager in MANAGERS.items()
        for name in methods_of_query_set(manager)
    }
    file = tmp_path / "calls.py"

    returned = reveal_types([*calls, *calls.values()], checker, cache, file)

    assert len(calls) > 120
    assert {call: returned[call] for call in calls} == {call: returned[same] for call, same in calls.items()}


def methods_of_query_set(manager):
    names = (name for name in dir(manager) if not name.startswith("_"))
    return [name for name in names if inspect.isroutine(getattr(manager._queryset_class, name, None))]


def reveal_types(expressions, checker, cache, file):
    """Return the types of expressions; each has a function of its own, since nothing is checked after ``Never``."""
    functions = (f"def call_{line}(values: Any): return reveal_type({each})" for line, each in enumerate(expressions))
    file.write_text("\n".join([IMPORTS, *functions]))
    types = {}
    for report in checker.check([file], cache, is_strict=False):
        assert report.code == "", report
        types[expressions[report.line - 2]] = report.text.rpartition(' is "')[2]
    return types
