"""FireKassa's dialect (API v2): the id in the path, Bearer token, optional request signature.

The cancel's success and the bodies of 404 and 422 are the provider's documented or recorded ones. No answer to a
refused cancel, to bad credentials or to too many requests was ever published: those are in the shape that its
other errors have.
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

from .behaviours import State
from .store import CANCEL, CREATE, LOOKUP, OTHER, Dialect, Question, reply_json, reply_page
from .wire import Reply, Request

if TYPE_CHECKING:
    from .store import Invoice

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
    words: ClassVar[Mapping[State, str]] = {
        State.OPEN: "process",
        State.PARTIALLY_PAID: "partially-paid",
        State.PAID: "paid",
        State.OVERPAID: "overpaid",
        State.CANCELED: "cancel",
        State.EXPIRED: "expired",
        State.FAILED: "error",
        State.ODD: "on-hold",
    }

    def __init__(self, token: str, sign_token: str | None = None) -> None:
        super().__init__(token)
        self.sign_token = sign_token

    def canonical(self, external_id: str) -> str | None:
        if not _ID.fullmatch(external_id) or external_id[:4].upper() == "INV-":
            return None
        return external_id

    def fresh_id(self, number: int) -> str:
        return f"{5_117_270 + number}00"

    # -- reading ----------------------------------------------------------------------------------------------

    def read(self, request: Request) -> Question:
        if match := _CANCEL.fullmatch(request.path):
            return self._about(CANCEL, "POST", request, match[1])
        if match := _LOOKUP.fullmatch(request.path):
            return self._about(LOOKUP, "GET", request, match[1])
        if request.path == "/api/v2/invoices" and request.method == "POST":
            return self._create(request)
        return Question(OTHER, complaint=reply_json(404, {"message": "Not Found"}))

    def _about(self, operation: str, method: str, request: Request, quoted_id: str) -> Question:
        if request.method != method:
            message = f"The {request.method} method is not supported for this route. Supported methods: {method}."
            return Question(OTHER, complaint=reply_json(405, {"message": message}, ("Allow", method)))
        external_id = self.canonical(unquote(quoted_id))
        return Question(operation, (external_id,) if external_id else (), None if external_id else _NOT_FOUND)

    def _create(self, request: Request) -> Question:
        try:
            fields = json.loads(request.body)
            amount = Decimal(str(fields["amount"]))
            order_id = str(fields["order_id"])
        except (ValueError, TypeError, KeyError, InvalidOperation):
            return Question(CREATE, complaint=_invalid("Validation failed", "amount", "The amount field is required."))
        if not (amount.is_finite() and amount >= _MIN_AMOUNT):
            return Question(CREATE, complaint=_invalid("The given data was invalid", "amount", "Min amount is 100.00"))
        currency = str(fields.get("currency") or self.currency)
        return Question(CREATE, fields={"amount": f"{amount:.2f}", "currency": currency, "order_id": order_id})

    # -- credentials ------------------------------------------------------------------------------------------

    def objection(self, request: Request) -> Reply | None:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return self.rejected_credentials()
        if self.sign_token is not None and not self._is_signed(request, self.sign_token):
            return reply_json(403, {"message": "Invalid signature"})
        return None

    def _is_signed(self, request: Request, sign_token: str) -> bool:
        message = request.path.encode() + (b"?" + request.query.encode() if request.query else request.body)
        expected = hmac.new(sign_token.encode(), message, hashlib.sha512).hexdigest()
        return hmac.compare_digest(expected.encode(), request.headers.get("signature", "").encode())

    # -- answers ----------------------------------------------------------------------------------------------

    def created(self, invoice: "Invoice", base_url: str) -> Reply:
        return reply_json(201, {"id": invoice.external_id, "payment_url": f"{base_url}/pay/{invoice.external_id}"})

    def canceled(self) -> Reply:
        return Reply(200, b"{}")

    def not_open(self) -> Reply:
        return _invalid("The given data was invalid", "id", "Invoice can not be canceled")

    def not_found(self) -> Reply:
        return _NOT_FOUND

    def looked_up(self, invoices: Sequence["Invoice"]) -> Reply:
        return reply_json(200, transaction(invoices[0], self.words)) if invoices else _NOT_FOUND

    def rejected_credentials(self) -> Reply:
        return reply_json(401, {"message": "Unauthenticated."})

    def forbidden(self) -> Reply:
        return reply_page(403)

    def rate_limited(self, seconds: int) -> Reply:
        return reply_json(429, {"message": "Too Many Attempts."}, ("Retry-After", str(seconds)))

    def server_error(self) -> Reply:
        return reply_json(500, {"message": "Server Error"})

    def echo(self, header: str) -> Reply:
        return _invalid("The given data was invalid", "id", f"Request failed (Authorization: {header})")


def transaction(invoice: "Invoice", words: Mapping[State, str]) -> dict[str, Any]:
    """Return an invoice as ``GET /api/v2/transactions/{id}`` shows it."""
    holds_money = invoice.status in (words[State.PARTIALLY_PAID], words[State.PAID], words[State.OVERPAID])
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
        "payment_amount": invoice.amount if holds_money else "0.00",
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
