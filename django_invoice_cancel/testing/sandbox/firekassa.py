"""The dialect of FireKassa (API v2): the id in the path, a Bearer token and an optional signature.

The success and the bodies of 404 and 422 are documented or recorded. The answers to a refused cancel request, to
invalid credentials and to too many requests are not published. The sandbox sends them in the form of FireKassa's
other errors.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote

from .behaviours import InvoiceState
from .store import CANCEL, CREATE, LOOKUP, OTHER, Dialect, ParsedRequest, reply_json, reply_page
from .wire import Reply, Request

if TYPE_CHECKING:
    from .store import StoredInvoice

_CANCEL = re.compile(r"/api/v2/invoices/([^/]+)/cancel")
_LOOKUP = re.compile(r"/api/v2/transactions/([^/]+)")
_ID = re.compile(r"[0-9A-Za-z_-]{1,19}")
_MOSCOW = timezone(timedelta(hours=3))
_MIN_AMOUNT = Decimal(100)
_NOT_FOUND = reply_json(404, {"error": "Transaction not exists"})


class FireKassaDialect(Dialect):
    """FireKassa API v2."""

    name = "firekassa"
    currency = "RUB"
    words: ClassVar[Mapping[InvoiceState, str]] = {
        InvoiceState.OPEN: "process",
        InvoiceState.PARTIALLY_PAID: "partially-paid",
        InvoiceState.PAID: "paid",
        InvoiceState.OVERPAID: "overpaid",
        InvoiceState.CANCELED: "cancel",
        InvoiceState.EXPIRED: "expired",
        InvoiceState.FAILED: "error",
        InvoiceState.ODD: "on-hold",
    }

    def __init__(self, token: str, sign_token: str | None = None) -> None:
        super().__init__(token)
        self.sign_token = sign_token

    def canonical_id(self, external_id: str) -> str | None:
        if not _ID.fullmatch(external_id) or external_id[:4].upper() == "INV-":
            return None
        return external_id

    def make_id(self, number: int) -> str:
        return f"{5_117_270 + number}00"

    # -- reading ----------------------------------------------------------------------------------------------

    def read(self, request: Request) -> ParsedRequest:
        if match := _CANCEL.fullmatch(request.path):
            return self._about(CANCEL, "POST", request, match[1])
        if match := _LOOKUP.fullmatch(request.path):
            return self._about(LOOKUP, "GET", request, match[1])
        if request.path == "/api/v2/invoices" and request.method == "POST":
            return self._create(request)
        return ParsedRequest(OTHER, error=reply_json(404, {"message": "Not Found"}))

    def _about(self, operation: str, method: str, request: Request, quoted_id: str) -> ParsedRequest:
        if request.method != method:
            message = f"The {request.method} method is not supported for this route. Supported methods: {method}."
            return ParsedRequest(OTHER, error=reply_json(405, {"message": message}, ("Allow", method)))
        external_id = self.canonical_id(unquote(quoted_id))
        return ParsedRequest(operation, (external_id,) if external_id else (), None if external_id else _NOT_FOUND)

    def _create(self, request: Request) -> ParsedRequest:
        try:
            fields = json.loads(request.body)
            amount = Decimal(str(fields["amount"]))
            order_id = str(fields["order_id"])
        except (ValueError, TypeError, KeyError, InvalidOperation):
            return ParsedRequest(CREATE, error=_invalid("Validation failed", "amount", "The amount field is required."))
        if not (amount.is_finite() and amount >= _MIN_AMOUNT):
            return ParsedRequest(CREATE, error=_invalid("The given data was invalid", "amount", "Min amount is 100.00"))
        currency = str(fields.get("currency") or self.currency)
        return ParsedRequest(CREATE, fields={"amount": f"{amount:.2f}", "currency": currency, "order_id": order_id})

    # -- credentials ------------------------------------------------------------------------------------------

    def credentials_error(self, request: Request) -> Reply | None:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return self.reply_bad_credentials()
        if self.sign_token is not None and not self._is_signed(request, self.sign_token):
            return reply_json(403, {"message": "Invalid signature"})
        return None

    def _is_signed(self, request: Request, sign_token: str) -> bool:
        message = request.path.encode() + (b"?" + request.query.encode() if request.query else request.body)
        expected = hmac.new(sign_token.encode(), message, hashlib.sha512).hexdigest()
        return hmac.compare_digest(expected.encode(), request.headers.get("signature", "").encode())

    # -- answers ----------------------------------------------------------------------------------------------

    def reply_created(self, invoice: "StoredInvoice", base_url: str) -> Reply:
        return reply_json(201, {"id": invoice.external_id, "payment_url": f"{base_url}/pay/{invoice.external_id}"})

    def reply_canceled(self) -> Reply:
        return Reply(200, b"{}")

    def reply_not_open(self) -> Reply:
        return _invalid("The given data was invalid", "id", "Invoice can not be canceled")

    def reply_not_found(self) -> Reply:
        return _NOT_FOUND

    def reply_lookup(self, invoices: Sequence["StoredInvoice"]) -> Reply:
        return reply_json(200, transaction(invoices[0], self.words)) if invoices else _NOT_FOUND

    def reply_bad_credentials(self) -> Reply:
        return reply_json(401, {"message": "Unauthenticated."})

    def reply_forbidden(self) -> Reply:
        return reply_page(403)

    def reply_rate_limited(self, seconds: int) -> Reply:
        return reply_json(429, {"message": "Too Many Attempts."}, ("Retry-After", str(seconds)))

    def reply_server_error(self) -> Reply:
        return reply_json(500, {"message": "Server Error"})

    def reply_echo(self, header: str) -> Reply:
        return _invalid("The given data was invalid", "id", f"Request failed (Authorization: {header})")


def transaction(invoice: "StoredInvoice", words: Mapping[InvoiceState, str]) -> dict[str, Any]:
    """Return an invoice in the form of ``GET /api/v2/transactions/{id}``."""
    has_payment = invoice.status in (
        words[InvoiceState.PARTIALLY_PAID],
        words[InvoiceState.PAID],
        words[InvoiceState.OVERPAID],
    )
    return {
        "id": invoice.external_id,
        "created_at": _time(invoice.created_at),
        "updated_at": _time(invoice.changed_at),
        "action": "deposit",
        "method": "wallet-card",
        "payment_id": None,
        "order_id": invoice.order_id,
        "account": None,
        "amount": invoice.amount,
        "payment_amount": invoice.amount if has_payment else "0.00",
        "commission": "0.00",
        "comment": None,
        "status": invoice.status,
        "payment_url": None,
        "payment_code": None,
        "payment_error_code": None,
        "payment_error": None,
        "currency": invoice.currency,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).astimezone(_MOSCOW).isoformat()


def _invalid(message: str, field: str, problem: str) -> Reply:
    return reply_json(422, {"message": message, "errors": {field: [problem]}})
