"""A server that answers before it received a request: this never makes an invoice canceled, refused, paid or open."""

import json
from datetime import timedelta

import pytest

from django_invoice_cancel.exceptions import CancelNotProcessed
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.providers.transport import silence
from django_invoice_cancel.testing import make_invoice
from tests.integration.providers.transport.fault_server import FaultServer, Peer, answer, make_certificates

pytestmark = pytest.mark.django_db

IDS = {"firekassa": "511727028", "cryptocloud": "INV-89UX09KA"}
KEYS = {"firekassa": {"api_token": "invented-token", "lookup": True}, "cryptocloud": {"api_key": "invented-key"}}
CANCELED = {"firekassa": b"{}", "cryptocloud": b'{"status": "success", "result": ["ok"]}'}
REFUSED = {
    "firekassa": b'{"message": "The given data was invalid"}',
    "cryptocloud": b'{"status": "error", "result": {"validate_error": "Invoice is closed for changes"}}',
}
CANCEL_FORMS = {
    "success": lambda provider: answer(CANCELED[provider]),
    "success that closes": lambda provider: answer(CANCELED[provider], "200 OK", "Connection: close"),
    "refusal": lambda provider: answer(REFUSED[provider], "400 Bad Request"),
    "401": lambda _: answer(b"", "401 Unauthorized"),
    "429": lambda _: answer(b"", "429 Too Many Requests", "Retry-After: 300"),
    "interim and success": lambda provider: b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer(CANCELED[provider]),
}


def found(provider: str, status: str) -> bytes:
    if provider == "firekassa":
        return answer(json.dumps({"id": IDS[provider], "status": status}).encode())
    return answer(json.dumps({"status": "success", "result": [{"uuid": IDS[provider], "status": status}]}).encode())


WORDS = {"firekassa": ("process", "paid", "cancel"), "cryptocloud": ("created", "paid", "canceled")}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=["plain", "tls"])
def tls(request, certificates, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates.bundle)
    monkeypatch.setattr(silence, "MIN_SECONDS", 5)  # long enough for a slow thread of the server
    monkeypatch.setattr(silence, "MAX_SECONDS", 5)
    return certificates.ours if request.param == "tls" else None


@pytest.fixture(params=["firekassa", "cryptocloud"])
def provider(request):
    return request.param


def set_up(settings, provider: str, server: FaultServer) -> None:
    backend = settings.INVOICE_CANCEL["PROVIDERS"][provider]["BACKEND"]
    entry = {"BACKEND": backend, "OPTIONS": {"base_url": server.url, **KEYS[provider]}}
    settings.INVOICE_CANCEL = {"PROVIDERS": {provider: entry}}


def early_and_then(wire: bytes, true_answer: bytes):
    """Return a behaviour that sends ``wire`` at once, and the true response to each request."""

    def behave(peer: Peer) -> None:
        peer.send(wire)
        while peer.read_request() is not None:
            peer.send(true_answer)

    return behave


@pytest.mark.parametrize("form", CANCEL_FORMS)
def test_cancellation_with_an_early_response_is_not_sent(settings, provider, tls, form):
    behave = early_and_then(CANCEL_FORMS[form](provider), answer(REFUSED[provider], "400 Bad Request"))
    with FaultServer(behave, tls=tls) as server:
        set_up(settings, provider, server)
        invoice = make_invoice(provider=provider, external_id=IDS[provider])
        with pytest.raises(CancelNotProcessed) as caught:
            invoice.cancel()

    assert caught.value.result.code == "unreachable"
    steps = invoice.transitions.order_by("pk").values_list("from_status", "to_status", "code")
    assert list(steps)[-2:] == [("created", "canceling", ""), ("canceling", "created", "unreachable")]
    assert Invoice.objects.get().status == "created"
    assert server.executed == 0


def test_invoice_is_canceled_once_the_server_has_recovered(settings, provider, tls, monkeypatch):
    def behave(peer: Peer) -> None:
        wire = answer(REFUSED[provider], "400 Bad Request") if peer.number == 1 else b""
        early_and_then(wire, answer(CANCELED[provider]))(peer)

    with FaultServer(behave, tls=tls) as server:
        set_up(settings, provider, server)
        invoice = make_invoice(provider=provider, external_id=IDS[provider])
        with pytest.raises(CancelNotProcessed):
            invoice.cancel()
        monkeypatch.setattr(silence, "MAX_SECONDS", 0.01)
        result = invoice.cancel()

    assert result.code == "canceled"
    assert Invoice.objects.get().status == "canceled"
    assert server.executed == 1


@pytest.mark.parametrize("number", [0, 1, 2], ids=["open", "paid", "canceled"])
def test_lookup_with_an_early_response_changes_nothing(settings, provider, tls, number):
    wire = found(provider, WORDS[provider][number])
    with FaultServer(early_and_then(wire, wire), tls=tls) as server:
        set_up(settings, provider, server)
        invoice = make_invoice("in_doubt", provider=provider, external_id=IDS[provider], age=timedelta(hours=1))
        count = invoice.transitions.count()
        result = invoice.reconcile()

    assert result.outcome == "in_doubt"
    assert result.code == "unreachable"
    assert Invoice.objects.get().status == "in_doubt"
    assert invoice.transitions.count() == count
    assert server.executed == 0
