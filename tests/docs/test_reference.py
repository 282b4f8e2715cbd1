"""The reference is complete and exact: statuses, codes, exceptions, signals, options, exit codes."""

import re
from argparse import Action
from dataclasses import fields

import pytest
from django.core.management import BaseCommand, load_command_class
from django.core.management.base import CommandError
from django.dispatch import Signal

from django_invoice_cancel import exceptions, signals
from django_invoice_cancel.domain.audit import Trigger
from django_invoice_cancel.domain.outcomes import CancelResult, Code, Outcome
from django_invoice_cancel.domain.statuses import Status
from django_invoice_cancel.management import output, runs
from django_invoice_cancel.models import Invoice, InvoiceTransition
from django_invoice_cancel.testing import make_invoice

from .pages import ROOT, section, table_rows, text_of

COMMANDS = sorted(path.stem for path in (ROOT / "django_invoice_cancel/management/commands").glob("[a-z]*.py"))


def names(page: str, title: str = "", column: int = 0) -> list[str]:
    """Return the texts in backquotes in a column of the tables."""
    rows = table_rows(f"docs/reference/{page}.md", title)
    return [name for row in rows for name in quoted(row[column])]


def quoted(text: str) -> list[str]:
    """Return the texts in backquotes."""
    return re.findall("`([^`]+)`", text)


def test_every_status_is_listed():
    assert names("statuses") == list(Status)


def test_every_outcome_is_listed():
    assert names("outcomes", "Outcomes") == list(Outcome)


def test_every_code_is_listed_once():
    assert sorted(names("outcomes", "Codes")) == sorted(Code)


def test_every_key_of_a_result_is_listed():
    assert sorted(names("outcomes", "The result")) == sorted(field.name for field in fields(CancelResult))


def test_every_exception_is_listed():
    public = vars(exceptions).items()
    classes = {name for name, each in public if isinstance(each, type) and issubclass(each, Exception)}
    assert set(names("exceptions")) == classes


def test_tree_of_exceptions_has_their_base_classes():
    tree = re.search(r"```text\n(Exception\n.*?)```", text_of("docs/reference/exceptions.md"), re.DOTALL)
    assert tree
    parents = ["Exception"]
    for line in tree[1].splitlines()[1:]:
        indent, name = re.fullmatch(r"([│├└─ ]+)(\w+)", line).groups()
        level = len(indent) // 4
        parents[level:] = [name]
        known = getattr(exceptions, name, None)
        if known is not None:
            assert known.__bases__[0].__name__ == parents[level - 1]


def test_every_signal_is_listed():
    assert names("signals")[:2] == [name for name, each in vars(signals).items() if isinstance(each, Signal)]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", [name for name, each in vars(signals).items() if isinstance(each, Signal)])
def test_arguments_of_a_signal_are_listed(name, sandbox):
    received = {}

    def receive(sender, signal, **arguments):
        received.update(arguments)

    invoice = make_invoice("canceled", provider="cryptocloud")
    signal = getattr(signals, name)
    signal.connect(receive)
    try:
        invoice.observe_status("paid")
    finally:
        signal.disconnect(receive)

    (row,) = [row for row in table_rows("docs/reference/signals.md") if row[0] == f"`{name}`"]
    assert quoted(row[1]) == list(received)
    assert set(received) <= set(names("signals"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_is_listed(command):
    documented = {row[0].strip("`") for row in table_rows("docs/reference/commands.md", command)}
    assert documented == {shown(action) for action in own_actions(command)}


def test_every_command_is_listed():
    headings = re.findall(r"^## ([a-z_]+)$", text_of("docs/reference/commands.md"), re.MULTILINE)
    assert sorted(headings) == COMMANDS


def test_statuses_that_can_be_looked_up_are_listed():
    (row,) = [row for row in table_rows("docs/reference/commands.md", "reconcile_invoices") if "--status" in row[0]]
    (action,) = [action for action in own_actions("reconcile_invoices") if action.dest == "status"]
    assert quoted(row[1]) == action.choices


def test_every_exit_code_is_listed():
    rows = re.findall(r"^\| ([\d, ]+) \|", section("docs/reference/commands.md", "Exit codes"), re.MULTILINE)
    codes = {int(code) for row in rows for code in row.split(", ")}
    usage = 2  # of argparse
    own = {runs.IN_DOUBT, runs.NOT_TRIED, runs.INTERRUPTED, output.NOT_REPORTED}
    assert codes == own | {0, CommandError().returncode, usage}


def test_every_field_of_an_invoice_is_listed():
    fields_of_model = {field.name for field in Invoice._meta.concrete_fields} - {"id"}
    listed = names("invoice")
    assert fields_of_model <= set(listed)


def test_every_field_of_the_log_is_listed():
    listed = names("invoice", "The log")
    assert set(listed) == {field.name for field in InvoiceTransition._meta.concrete_fields} - {"id", "invoice"}


def test_every_trigger_is_listed():
    (row,) = [row for row in table_rows("docs/reference/invoice.md", "The log") if row[0] == "`trigger`"]
    assert quoted(row[1]) == list(Trigger)


def own_actions(command: str) -> list[Action]:
    """Return the arguments that a command adds to those of Django."""
    common = {action.dest for action in BaseCommand().create_parser("manage.py", command)._actions}
    parser = load_command_class("django_invoice_cancel", command).create_parser("manage.py", command)
    return [action for action in parser._actions if action.dest not in common]


def shown(action: Action) -> str:
    """Return how the reference shows an argument."""
    if not action.option_strings:
        return f"{action.metavar} ..." if action.nargs else str(action.metavar)
    if action.nargs == 0:
        return "`, `".join(action.option_strings)
    if action.dest == "format":
        return f"--format {{{','.join(action.choices or ())}}}"
    return f"{action.option_strings[0]} {action.metavar or action.dest.upper()}"
