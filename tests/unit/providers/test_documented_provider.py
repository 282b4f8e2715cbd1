"""The example adapter in the docs for authors works as it is printed there."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import requests

from django_invoice_cancel import registry
from django_invoice_cancel.domain.outcomes import Outcome
from django_invoice_cancel.domain.secrets import Secret
from django_invoice_cancel.domain.statuses import Status
from django_invoice_cancel.exceptions import InvalidExternalId

from .conftest import may_send

DOCS = Path(__file__).parents[3] / "docs" / "howto" / "add-provider.md"
ID = "inv_0a1b2c3d"
VOID = f"https://api.examplepay.example/v1/invoices/{ID}/void"
NOT_OPEN, END = f'{{"error":"not_open","id":"{ID}","status":"', '"}'
READ = f"https://api.examplepay.example/v1/invoices/{ID}"


@pytest.fixture(scope="module")
def snippets():
    """The Python of the section, in order: the adapter, the settings."""
    return re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def module(snippets):
    made = ModuleType("examplepay")
    exec(compile(snippets[0], str(DOCS), "exec"), vars(made))  # noqa: S102 - our own docs
    return made


@pytest.fixture
def examplepay(module):
    return module.Examplepay("example", api_token=Secret("invented-token"))


def test_docs_adapter_is_short(snippets):
    lines = [line for line in snippets[0].splitlines() if line.strip()]

    assert len(lines) < 60


@pytest.mark.parametrize(
    ("http_status", "body", "outcome", "code", "status"),
    [
        (200, f'{{"id":"{ID}","status":"void"}}', "canceled", "canceled", None),
        (200, f'{{"id":"{ID}","status":"open"}}', "in_doubt", "unreadable_answer", None),
        (200, '{"id":"inv_other000","status":"void"}', "in_doubt", "unreadable_answer", None),
        (200, "<html>", "in_doubt", "unreadable_answer", None),
        (
            409,
            f'{{"error":"not_open","id":"{ID}","status":"void"}}',
            "already_canceled",
            "already_canceled",
            Status.CANCELED,
        ),
        (409, f'{{"error":"not_open","id":"{ID}","status":"paid"}}', "refused", "has_payment", Status.PAID),
        (409, f'{{"error":"not_open","id":"{ID}","status":"lapsed"}}', "refused", "closed", Status.EXPIRED),
        (409, '{"error":"not_open"}', "refused", "provider_refused", None),
        (409, f'{{"id":"{ID}","status":"void"}}', "in_doubt", "unreadable_answer", None),
        (404, '{"error":"no_such_invoice"}', "refused", "not_found", None),
        (404, "<html>", "in_doubt", "wrong_address", None),
        (401, "{}", "not_processed", "bad_credentials", None),
        (503, "", "in_doubt", "provider_error", None),
        (200, requests.ConnectTimeout(), "not_processed", "unreachable", None),
        (200, requests.ReadTimeout(), "in_doubt", "no_answer", None),
    ],
)
def test_docs_adapter_cancels(examplepay, web, http_status, body, outcome, code, status):
    web.post(VOID, status=http_status, body=body)

    reply = examplepay.cancel(ID, lease=may_send)

    assert reply.outcome == outcome
    assert reply.code == code
    assert reply.status == status
    assert web.calls[0].request.headers["Authorization"] == "Bearer invented-token"
    assert len(web.calls) == 1


@pytest.mark.parametrize(
    ("http_status", "body", "status", "code", "is_answer"),
    [
        (200, f'{{"id":"{ID}","status":"open"}}', Status.CREATED, "observed", True),
        (200, f'{{"id":"{ID}","status":"frozen"}}', None, "unknown_status", True),
        (200, '{"id":"inv_other000","status":"open"}', None, "unreadable_answer", False),
        (404, '{"error":"no_such_invoice"}', None, "not_found", True),
        (404, "{}", None, "wrong_address", False),
    ],
)
def test_docs_adapter_looks_up(examplepay, web, http_status, body, status, code, is_answer):
    web.get(READ, status=http_status, body=body)

    reply = examplepay.lookup([ID])[ID]

    assert reply.status == status
    assert reply.code == code
    assert reply.is_answer == is_answer
    assert len(web.calls) == 1


def test_docs_adapter_refuses_an_id_that_would_change_its_path(examplepay, web):
    with pytest.raises(InvalidExternalId):
        examplepay.cancel("inv_../../xx", lease=may_send)
    assert examplepay.lookup(["inv_../../xx"])["inv_../../xx"].code == "misconfigured"
    assert len(web.calls) == 0


def test_docs_settings_make_the_docs_adapter(snippets, module, settings, web, monkeypatch):
    monkeypatch.setenv("EXAMPLEPAY_TOKEN", "invented-token")
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.examplepay", module)
    namespace = {"os": __import__("os")}
    exec(snippets[1], namespace)  # noqa: S102 - our own docs
    settings.INVOICE_CANCEL = namespace["INVOICE_CANCEL"]
    web.post(VOID, body=f'{{"id":"{ID}","status":"void"}}')

    reply = registry.get_provider("examplepay").cancel(ID, lease=may_send)

    assert reply.outcome is Outcome.CANCELED
    assert len(web.calls) == 1
