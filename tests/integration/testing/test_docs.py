"""The examples of docs/howto/testing.md run unchanged, as files of a user's test suite."""

import re
from pathlib import Path

import pytest

from django_invoice_cancel.testing.conformance_base import ConformanceBase
from django_invoice_cancel.testing.scripted import CANCEL_WORDS, LOOKUP_WORDS

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "howto" / "testing.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.slow
def test_examples_pass_as_a_test_suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    for name, code in FILES.items():
        pytester.path.joinpath(name).write_text(code, encoding="utf-8")
    run = pytester.runpytest_subprocess("--ds=tests.settings", "-W", "error", "--strict-markers", "-q", "-rA")
    passed = {line.split("::")[0].split()[-1] for line in run.outlines if line.startswith("PASSED")}
    assert run.ret == 0
    assert passed == set(FILES) - {"conftest.py"}


def test_every_behaviour_is_in_the_docs():
    text = section("Without HTTP: ScriptedProvider")
    words = set(CANCEL_WORDS) | {"not_found", "unknown_status", "no_answer"}
    assert words >= set(CANCEL_WORDS) | set(LOOKUP_WORDS) - {"created"}
    assert [word for word in words if f"`{word}`" not in text] == []


def test_every_required_attribute_is_in_the_docs():
    text = section("Your own adapter: ProviderConformance")
    named = {name for name in ConformanceBase.__annotations__ if not name.startswith("_")} | {
        "make_provider(",
        "lookup_answer(",
    }
    assert [name for name in named if f"`{name}" not in text] == []
