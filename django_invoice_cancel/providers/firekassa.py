"""FireKassa, API v2: cancels an invoice by ``POST /api/v2/invoices/{id}/cancel``.

The official page, "Отмена инвойса" on fkassa.gitbook.io/firekassa-api-v2, documents the request and its success, but
no errors. All other facts come from recorded exchanges and public clients of the API, and are marked as such. The
adapter never interprets the text of a refusal, because its language depends on the request.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ..domain.outcomes import Code, LookupReply, Outcome, ProviderReply
from ..domain.secrets import Secret
from ..domain.statuses import Status
from .base import Lease
from .http import HTTPProvider
from .transport import Deadline, Exchange

__all__ = ["FireKassa"]


class FireKassa(HTTPProvider):
    """An account at FireKassa.

    Args:
        alias: The key of the account in ``INVOICE_CANCEL["PROVIDERS"]``.
        base_url: The API domain that FireKassa gave to the merchant, without the version.
        api_token: The token, sent as ``Authorization: Bearer <api_token>``.
        sign_token: If set, requests have a ``Signature`` header, as two public clients send it.
        lookup: Whether the status lookup is used. FireKassa does not document it for invoices.
        **common: The other options of ``HTTPProvider`` and ``Provider``.

    Raises:
        ProviderMisconfigured: An option is invalid.
    """

    verbose_name = "FireKassa"

    # options

    scheme = "Bearer"
    token_option = "api_token"  # noqa: S105 - an option's name
    secret_options = frozenset({"api_token", "sign_token"})
    id_form = "FireKassa's own number of the invoice, 1 to 19 of 0-9, A-Z, a-z, _ and -"
    id_pattern = re.compile(r"[0-9A-Za-z_-]{1,19}")
    is_repeat_harmless = True
    """A cancellation moves no money, and a canceled invoice stays canceled."""

    def __init__(
        self,
        alias: str,
        *,
        base_url: str,
        api_token: Secret,
        sign_token: Secret | None = None,
        lookup: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(alias, api_token, sign_token, base_url=base_url, **common)
        if lookup not in (True, False):
            raise self.misconfigured("lookup", "must be True or False.")
        self.supports_lookup = bool(lookup)
        self._sign_token = sign_token

    # paths

    def _cancel_path(self, external_id: str) -> str:
        return f"/api/v2/invoices/{quote(self.clean_id(external_id), safe='')}/cancel"

    def _lookup_path(self, external_id: str) -> str:
        # Not documented. Four public clients use it for invoices, whose ids are part of the series of transaction ids.
        return f"/api/v2/transactions/{quote(self.clean_id(external_id), safe='')}"

    # statuses

    status_words = {  # no official list: recorded ("process", "expired") or handled by public clients
        "process": Status.CREATED,
        "partially-paid": Status.PARTIALLY_PAID,
        "paid": Status.PAID,
        "overpaid": Status.OVERPAID,
        "expired": Status.EXPIRED,
        "error": Status.FAILED,
        "cancel": Status.CANCELED,
        "canceled": Status.CANCELED,
        "cancelled": Status.CANCELED,
    }

    # answers

    def _read_cancel(self, exchange: Exchange) -> ProviderReply:
        if _is_unknown_invoice(exchange):
            return self.reply(exchange, Outcome.REFUSED, Code.NOT_FOUND)
        if common := self.read_common(exchange):
            return common
        if exchange.http_status == 200:
            return self._read_200(exchange)
        if exchange.http_status in (400, 409, 422) and isinstance(exchange.json, dict):
            return self.reply(exchange, Outcome.REFUSED, Code.PROVIDER_REFUSED)
        return self.reply(exchange, Outcome.IN_DOUBT, Code.UNREADABLE_ANSWER)  # also 201, 202, 204

    def _read_200(self, exchange: Exchange) -> ProviderReply:
        # "HTTP 200 {}"; PHP encodes an empty array as []. An empty body counts if its framing proves it complete.
        if exchange.is_empty or (exchange.is_json and exchange.json in ({}, [])):
            return self.reply(exchange, Outcome.CANCELED, Code.CANCELED)
        has_error = isinstance(exchange.json, dict) and (exchange.json.get("error") or exchange.json.get("errors"))
        code = Code.CONTRADICTORY_ANSWER if has_error else Code.UNREADABLE_ANSWER
        return self.reply(exchange, Outcome.IN_DOUBT, code)

    def _read_lookup(self, exchange: Exchange, external_id: str) -> LookupReply:
        if _is_unknown_invoice(exchange):
            return self.not_found(exchange)
        if common := self.read_common_lookup(exchange):
            return common
        entry = exchange.json if exchange.http_status == 200 and isinstance(exchange.json, dict) else {}
        if str(entry.get("id")) != external_id:  # a string in recordings, a number in one public client
            return self.no_answer(exchange, Code.UNREADABLE_ANSWER)
        return self.found(entry.get("status"), http_status=exchange.http_status)

    # requests

    def cancel(self, external_id: str, *, lease: Lease) -> ProviderReply:
        deadline = Deadline(self.deadline)
        path = self._cancel_path(external_id)
        reply = self._read_cancel(
            self.send("POST", path, deadline=deadline, headers=self._signature(path), lease=lease)
        )
        if reply.code != Code.PROVIDER_REFUSED or not self.supports_lookup:
            return reply
        found = self._look_up(external_id, deadline)
        if found.status is Status.CREATED:
            return self.doubt_refusal(reply, found)
        return self.explain_refusal(reply, found) or reply

    def lookup(self, external_ids: Sequence[str]) -> Mapping[str, LookupReply]:
        if not self.supports_lookup:
            return {each: LookupReply(None, Code.NO_LOOKUP, is_answer=False) for each in external_ids}
        deadline = Deadline(self.deadline)
        wrong = self.invalid_id_replies(external_ids)
        return wrong | {each: self._look_up(each, deadline) for each in external_ids if each not in wrong}

    def _look_up(self, external_id: str, deadline: Deadline) -> LookupReply:
        path = self._lookup_path(external_id)
        exchange = self.send("GET", path, deadline=deadline, headers=self._signature(path))
        return self._read_lookup(exchange, external_id)

    def _signature(self, path: str) -> dict[str, str]:
        """Return the signature header of two public clients: HMAC-SHA512 of the path, followed by the body if any."""
        if not self._sign_token:
            return {}
        key = self._sign_token.reveal().encode()
        return {"Signature": hmac.new(key, path.encode(), hashlib.sha512).hexdigest()}


def _is_unknown_invoice(exchange: Exchange) -> bool:
    """Return whether the answer is a 404 with a JSON ``error``. Recorded: ``{"error": "Transaction not exists"}``.

    Any other 404 does not come from FireKassa's API.
    """
    return exchange.http_status == 404 and isinstance(exchange.json, dict) and bool(exchange.json.get("error"))
