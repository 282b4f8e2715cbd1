"""The quickstart works as written: its settings, its session with the sandbox, and its first tests."""

import doctest
import re

import pytest
from django.core.management import call_command

from django_invoice_cancel.models import Invoice

from .pages import ROOT, block_with, text_of

pytest_plugins = ["pytester"]

PAGE = "docs/quickstart.md"
PORT = "8765"


@pytest.fixture
def configured(settings, sandbox):
    """Use the settings of the page with the sandbox of the test."""
    namespace = block_with(PAGE, "INVOICE_CANCEL = {").run({"INSTALLED_APPS": []})
    for provider in namespace["INVOICE_CANCEL"]["PROVIDERS"].values():
        assert provider["OPTIONS"]["base_url"] == f"http://127.0.0.1:{PORT}"
        provider["OPTIONS"]["base_url"] = sandbox.base_url
    settings.INVOICE_CANCEL = namespace["INVOICE_CANCEL"]
    settings.DEBUG = True
    assert namespace["INSTALLED_APPS"] == ["django_invoice_cancel"]


@pytest.mark.django_db(transaction=True)
def test_session_prints_what_the_page_shows(configured, sandbox):
    examples = doctest.DocTestParser().get_doctest(text_of(PAGE), {}, PAGE, str(ROOT / PAGE), 0)

    assert doctest.DocTestRunner().run(examples) == doctest.TestResults(failed=0, attempted=len(examples.examples))
    assert sandbox.count("cancel") == 2
    assert set(Invoice.objects.values_list("status", flat=True)) == {"canceled"}


def test_check_finds_no_problem(configured, capsys):
    call_command("check", fail_level="WARNING")

    assert "no issues" in capsys.readouterr().out


def test_port_of_the_sandbox_is_that_of_the_settings():
    sandbox_port = re.search(r"testing\.sandbox --port (\d+)", text_of(PAGE))
    assert sandbox_port
    assert sandbox_port[1] == PORT


@pytest.mark.slow
def test_first_tests_pass(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.path.joinpath("test_shop.py").write_text(block_with(PAGE, "class CancelTests").code, encoding="utf-8")

    run = pytester.runpytest_subprocess("--ds=tests.settings", "-W", "error", "-q")

    run.assert_outcomes(passed=2)
