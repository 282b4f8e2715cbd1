"""A provider that sometimes sends interim answers: each invoice is recorded from its own answer."""

import json
import threading
from collections import Counter

import pytest

from django_invoice_cancel.models import Invoice
from tests.integration.providers.transport.fault_server import FaultServer, answer

pytestmark = pytest.mark.django_db(transaction=True)

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
CANCELED = {"firekassa": b"{}", "cryptocloud": b'{"status": "success", "result": ["ok"]}'}
REFUSED = {
    "firekassa": b'{"message": "The given data was invalid"}',
    "cryptocloud": b'{"status": "error", "result": {"validate_error": "Invoice is closed for changes"}}',
}


class Account:
    """A provider that cancels unpaid invoices, and sends an interim response before every third response."""

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.lock = threading.Lock()
        self.answered = 0

    def __call__(self, peer) -> None:
        while (request := peer.read_request()) is not None:
            with self.lock:
                self.answered += 1
                is_announced = self.answered % 3 == 0
            if is_announced:
                peer.send(HINTS)
                peer.flush()
            peer.send(self.final_answer(request))

    def final_answer(self, request) -> bytes:
        if request.path.endswith("/info"):
            found = [{"uuid": uuid, "status": "paid"} for uuid in json.loads(request.body)["uuids"]]
            return answer(json.dumps({"status": "success", "result": found}).encode())
        is_paid = "PAID" in request.path + request.body.decode()
        return answer(REFUSED[self.provider], "400 Bad Request") if is_paid else answer(CANCELED[self.provider])


@pytest.mark.parametrize(
    ("provider", "key", "prefix"), [("firekassa", "api_token", ""), ("cryptocloud", "api_key", "INV-")]
)
@pytest.mark.parametrize("window", [1, 4], ids=["one after the other", "four at once"])
def test_invoices_are_recorded_from_their_own_answers(settings, provider, key, prefix, window):
    with FaultServer(Account(provider)) as server:
        entry = {
            "BACKEND": settings.INVOICE_CANCEL["PROVIDERS"][provider]["BACKEND"],
            "OPTIONS": {"base_url": server.url, key: "invented-token", "concurrency": window},
        }
        settings.INVOICE_CANCEL = {"PROVIDERS": {provider: entry}}
        for number in range(20):
            external_id = f"{prefix}{'PAID' if number % 4 == 1 else 'OPEN'}{number:03d}"
            Invoice.objects.create(provider=provider, external_id=external_id)

        report = Invoice.objects.order_by("pk").cancel()

        cancels = [request for request in server.requests if not request.path.endswith("/info")]
    refusal = ("refused", "has_payment" if provider == "cryptocloud" else "provider_refused")
    outcomes = Counter((str(result.outcome), result.code) for result in report.results)
    assert outcomes == {("canceled", "canceled"): 15, refusal: 5}
    paid = "paid" if provider == "cryptocloud" else "created"
    recorded = {(invoice.external_id.removeprefix(prefix)[:4], invoice.status) for invoice in Invoice.objects.all()}
    assert recorded == {("OPEN", "canceled"), ("PAID", paid)}
    assert len(cancels) == 20
    assert server.connections < server.executed  # after plain exchanges, connections are reused
