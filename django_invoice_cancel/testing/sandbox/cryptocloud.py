"""The dialect of CryptoCloud (API v2, now Trybit): POST requests with a JSON body and a Token header.

The bodies are documented. Invalid credentials get a 400, not a 401. "Invoice is not created" is the documented answer
for every invoice that cannot be canceled. The sandbox uses it for unknown invoices too, whose answer is not
documented.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl

from .behaviours import InvoiceState, invoice_id
from .store import CANCEL, CREATE, LIST, LOOKUP, OTHER, Dialect, ParsedRequest, reply_json
from .wire import Reply, Request

if TYPE_CHECKING:
    from .store import StoredInvoice

MAX_UUIDS = 100
_ID = re.compile(r"[0-9A-Z]{1,32}")
_FIRST_CREATED = 10 * 36**5
_CANCELED = Reply(200, b'{"status":"success","result":["ok"]}')


class CryptoCloudDialect(Dialect):
    """CryptoCloud API v2."""

    name = "cryptocloud"
    currency = "USD"
    words: ClassVar[Mapping[InvoiceState, str]] = {
        InvoiceState.OPEN: "created",
        InvoiceState.PARTIALLY_PAID: "partial",
        InvoiceState.PAID: "paid",
        InvoiceState.OVERPAID: "overpaid",
        InvoiceState.CANCELED: "canceled",
        # CryptoCloud has no status for these two: an unpaid invoice becomes canceled when it expires.
        InvoiceState.EXPIRED: "canceled",
        InvoiceState.FAILED: "canceled",
        InvoiceState.ODD: "on_hold",
    }

    def canonical_id(self, external_id: str) -> str | None:
        bare = external_id.upper().removeprefix("INV-")
        return f"INV-{bare}" if _ID.fullmatch(bare) else None

    def make_id(self, number: int) -> str:
        return invoice_id(self.name, _FIRST_CREATED + number)

    # -- reading ----------------------------------------------------------------------------------------------

    def read(self, request: Request) -> ParsedRequest:
        reader = self._READERS.get(request.path)
        if reader is None:
            return ParsedRequest(OTHER, error=reply_json(404, {"detail": "Not found."}))
        if request.method != "POST":
            detail = f'Method "{request.method}" not allowed.'
            return ParsedRequest(OTHER, error=reply_json(405, {"detail": detail}, ("Allow", "POST")))
        return reader(self, _fields(request))

    def _cancel(self, fields: Mapping[str, Any]) -> ParsedRequest:
        uuid = fields.get("uuid")
        if not isinstance(uuid, str) or not uuid:
            return ParsedRequest(CANCEL, error=_invalid("uuid is required"))
        external_id = self.canonical_id(uuid)
        return ParsedRequest(
            CANCEL, (external_id,) if external_id else (), None if external_id else self.reply_not_found()
        )

    def _lookup(self, fields: Mapping[str, Any]) -> ParsedRequest:
        uuids = fields.get("uuids")
        if not isinstance(uuids, list) or not all(isinstance(uuid, str) for uuid in uuids):
            return ParsedRequest(LOOKUP, error=_invalid("uuids is required"))
        if len(uuids) > MAX_UUIDS:
            return ParsedRequest(LOOKUP, error=_invalid(f"Max {MAX_UUIDS} uuids"))
        return ParsedRequest(LOOKUP, tuple(filter(None, map(self.canonical_id, uuids))))

    def _list(self, fields: Mapping[str, Any]) -> ParsedRequest:
        try:
            start, end = (_date(fields.get(key)) for key in ("start", "end"))
        except ValueError:
            return ParsedRequest(LIST, error=_error({"start": "Invalid date.", "end": "Invalid date."}))
        offset, limit = _whole(fields.get("offset"), 0), min(_whole(fields.get("limit"), 10), 100)
        return ParsedRequest(LIST, fields={"start": start, "end": end, "offset": offset, "limit": limit})

    def _create(self, fields: Mapping[str, Any]) -> ParsedRequest:
        if not fields.get("shop_id"):
            return ParsedRequest(CREATE, error=_error({"shop_id": "Shop not found."}))
        try:
            amount = float(fields["amount"])
        except (KeyError, TypeError, ValueError):
            return ParsedRequest(CREATE, error=_error({"amount": "Amount is required."}))
        if not 0 < amount < float("inf"):
            return ParsedRequest(CREATE, error=_error({"amount": "Amount must be greater than 0."}))
        currency, order_id = fields.get("currency") or self.currency, fields.get("order_id") or "None"
        return ParsedRequest(
            CREATE, fields={"amount": str(amount), "currency": str(currency), "order_id": str(order_id)}
        )

    _READERS = {
        "/v2/invoice/merchant/canceled": _cancel,
        "/v2/invoice/merchant/info": _lookup,
        "/v2/invoice/merchant/list": _list,
        "/v2/invoice/create": _create,
    }

    # -- credentials ------------------------------------------------------------------------------------------

    def credentials_error(self, request: Request) -> Reply | None:
        is_right = request.headers.get("authorization") == f"Token {self.token}"
        return None if is_right else self.reply_bad_credentials()

    # -- answers ----------------------------------------------------------------------------------------------

    def reply_created(self, invoice: "StoredInvoice", base_url: str) -> Reply:
        link = {"link": f"{base_url}/pay/{invoice.external_id}", "invoice_id": None, "is_email_required": False}
        # One public client requires this key, which is missing in the documented example.
        return _success(_common(invoice) | _issued(invoice) | link | {"side_commission_service": "client"})

    def reply_canceled(self) -> Reply:
        return _CANCELED

    def reply_not_open(self) -> Reply:
        return _invalid("Invoice is not created")

    def reply_not_found(self) -> Reply:
        return _invalid("Invoice is not created")

    def reply_lookup(self, invoices: Sequence["StoredInvoice"]) -> Reply:
        return _success([self._info(invoice) for invoice in invoices])

    def reply_list(self, invoices: Sequence["StoredInvoice"], fields: Mapping[str, Any]) -> Reply:
        """Return the answer to a list of the invoices created between two days."""
        chosen = [invoice for invoice in invoices if fields["start"] <= _day(invoice) <= fields["end"]]
        page = [self._info(invoice) for invoice in chosen[fields["offset"] :][: fields["limit"]]]
        return reply_json(200, {"status": "success", "result": page, "all_count": len(chosen)})

    def _info(self, invoice: "StoredInvoice") -> dict[str, Any]:
        amount = float(invoice.amount)
        share = {
            self.words[InvoiceState.PARTIALLY_PAID]: 0.5,
            self.words[InvoiceState.PAID]: 1.0,
            self.words[InvoiceState.OVERPAID]: 1.5,
        }
        received = amount * share.get(invoice.status, 0.0)
        return _common(invoice) | {"received": received, "received_usd": received, "order_id": invoice.order_id}

    def reply_bad_credentials(self) -> Reply:
        return _error({"authorization": "Unauthorized request."})

    def reply_forbidden(self) -> Reply:
        return reply_json(403, {"detail": "You do not have permission to perform this action."})

    def reply_rate_limited(self, seconds: int) -> Reply:
        return reply_json(429, {"detail": "Request was throttled."}, ("Retry-After", str(seconds)))

    def reply_server_error(self) -> Reply:
        return Reply(500, b"<h1>Server Error (500)</h1>", "text/html")

    def reply_echo(self, header: str) -> Reply:
        return _invalid(f"Request failed (Authorization: {header})")


def _fields(request: Request) -> Mapping[str, Any]:
    # The documentation requires JSON, but one public client sends a form to create an invoice.
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return dict(parse_qsl(request.body.decode("utf-8", "replace")))
    try:
        fields = json.loads(request.body)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _whole(value: object, default: int) -> int:
    return value if isinstance(value, int) and value >= 0 else default


def _date(value: object) -> date:
    return datetime.strptime(str(value), "%d.%m.%Y").replace(tzinfo=UTC).date()


def _day(invoice: "StoredInvoice") -> date:
    return datetime.fromtimestamp(invoice.created_at, UTC).date()


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _common(invoice: "StoredInvoice") -> dict[str, Any]:
    amount = float(invoice.amount)
    return {
        "uuid": invoice.external_id,
        "address": "",
        "expiry_date": _time(invoice.created_at + timedelta(days=1).total_seconds()),
        "side_commission": "client",
        "side_commission_cc": "client",
        "amount": amount,
        "amount_usd": amount,
        "fee": 1.4,
        "fee_usd": 1.4,
        "service_fee": 1.9,
        "service_fee_usd": 1.9,
        "status": invoice.status,
        "currency": _CURRENCY,
        "project": _PROJECT,
        "test_mode": False,
    }


def _issued(invoice: "StoredInvoice") -> dict[str, Any]:
    return {
        "created": _time(invoice.created_at),
        "amount_in_fiat": float(invoice.amount),
        "type_payments": "crypto",
        "fiat_currency": invoice.currency,
    }


_PROJECT = {"id": 1, "name": "Sandbox", "fail": "", "success": "", "logo": None}
_CURRENCY = {
    "id": 4,
    "code": "USDT",
    "fullcode": "USDT_TRC20",
    "network": {"code": "TRC20", "id": 4, "icon": "", "fullname": "Tron"},
    "name": "Tether",
    "is_email_required": False,
    "stablecoin": True,
    "icon_base": "",
    "icon_network": "",
    "icon_qr": "",
    "order": 1,
}


def _success(result: object) -> Reply:
    return reply_json(200, {"status": "success", "result": result})


def _error(result: Mapping[str, str]) -> Reply:
    return reply_json(400, {"status": "error", "result": result})


def _invalid(text: str) -> Reply:
    return _error({"validate_error": text})
