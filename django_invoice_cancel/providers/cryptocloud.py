"""CryptoCloud (renamed Trybit in 2026), API v2: cancels an invoice by ``POST /v2/invoice/merchant/canceled``.

Documented at docs.cryptocloud.plus, pages "Cancel invoice", "Invoice information" and "Authorization". Keys in the
body identify an error, not status codes: invalid credentials return a 400. "Invoice is not created" is returned for
paid, canceled and unknown invoices alike, so the adapter looks the invoice up before it draws a conclusion.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..domain.outcomes import Code, LookupReply, Outcome, ProviderReply
from ..domain.secrets import Secret
from ..domain.statuses import PAID_STATUSES, Status
from .base import Lease
from .http import HTTPProvider
from .transport import Deadline, Exchange

__all__ = ["CryptoCloud"]

DOCUMENTED_HOST = "https://api.cryptocloud.plus"
NOT_CREATED = "invoice is not created"
REJECTED_KEY = frozenset({"signature verification failed", "invalid header padding"})
"""The documented texts of ``{"detail": ...}`` for a key that CryptoCloud cannot verify."""
_ERROR_KEYS = frozenset({"error", "errors", "detail", "validate_error", "authorization"})


class CryptoCloud(HTTPProvider):
    """A project at CryptoCloud.

    Args:
        alias: The key of the account in ``INVOICE_CANCEL["PROVIDERS"]``.
        api_key: The API key of the project, sent as ``Authorization: Token <api_key>`` (page "Authorization").
        base_url: The address of the API, without the version.
        **common: The other options of ``HTTPProvider`` and ``Provider``.

    Raises:
        ProviderMisconfigured: An option is invalid.
    """

    verbose_name = "CryptoCloud"

    # options

    scheme = "Token"
    token_option = "api_key"  # noqa: S105 - an option's name
    secret_options = frozenset({"api_key"})
    id_form = "INV- and 1 to 32 of 0-9 and A-Z, with or without the INV-"
    id_pattern = re.compile(r"INV-[0-9A-Z]{1,32}")
    supports_lookup = True
    lookup_group_size = 100

    def __init__(self, alias: str, *, api_key: Secret, base_url: str = DOCUMENTED_HOST, **common: Any) -> None:
        super().__init__(alias, api_key, base_url=base_url, **common)
        if self.base_url == DOCUMENTED_HOST:
            self.address_hint = (
                f"CryptoCloud is now Trybit: if {DOCUMENTED_HOST} has been retired, "
                "set the option base_url to https://api.trybit.com."
            )

    def normalise_id(self, external_id: str) -> str:
        # Answers contain the prefix INV-, postbacks do not. All versions of the docs accept it in requests.
        text = super().normalise_id(external_id)
        return f"INV-{_bare(text)}" if text.isascii() else text  # upper() turns some non-ASCII letters into ASCII

    # paths

    _cancel_path = "/v2/invoice/merchant/canceled"
    _lookup_path = "/v2/invoice/merchant/info"

    # statuses

    status_words = {  # page "Invoice statuses": it lists exactly these five
        "created": Status.CREATED,
        "partial": Status.PARTIALLY_PAID,
        "paid": Status.PAID,
        "overpaid": Status.OVERPAID,
        "canceled": Status.CANCELED,
    }
    postback_status_words = {"success": Status.PAID}  # page "Postback": its only value, sent after a payment

    # answers

    def _read_cancel(self, exchange: Exchange, uuid: str) -> ProviderReply:
        if _is_key_rejected(exchange):
            return self.reply(exchange, Outcome.NOT_PROCESSED, Code.BAD_CREDENTIALS)
        if common := self.read_common(exchange):
            return common
        if isinstance(_named_errors(exchange).get("validate_error"), str):
            return self.reply(exchange, Outcome.REFUSED, Code.PROVIDER_REFUSED)
        success = _success(exchange)
        if success.get("result") not in ("ok", ["ok"]):  # the page has "ok" in its table and ["ok"] in its example
            return self.reply(exchange, Outcome.IN_DOUBT, Code.UNREADABLE_ANSWER)
        if _names_error(success) or _names_other_invoice(success, uuid):
            return self.reply(exchange, Outcome.IN_DOUBT, Code.CONTRADICTORY_ANSWER)
        return self.reply(exchange, Outcome.CANCELED, Code.CANCELED)

    def _read_refusal(self, refusal: ProviderReply, exchange: Exchange, found: LookupReply) -> ProviderReply:
        if named := self.explain_refusal(refusal, found):
            return named
        if _named_errors(exchange)["validate_error"].strip(" .").lower() != NOT_CREATED:
            return refusal
        if found.code == Code.NOT_FOUND:
            return self.reply(exchange, Outcome.REFUSED, Code.NOT_FOUND)
        return self.doubt_refusal(refusal, found)

    def _read_lookup(self, exchange: Exchange, external_ids: Sequence[str]) -> dict[str, LookupReply]:
        if _is_key_rejected(exchange):
            return dict.fromkeys(external_ids, self.no_answer(exchange, Code.BAD_CREDENTIALS))
        if common := self.read_common_lookup(exchange):
            return dict.fromkeys(external_ids, common)
        unreadable = self.no_answer(exchange, Code.UNREADABLE_ANSWER)
        success = _success(exchange)
        entries = success.get("result")
        if not isinstance(entries, list) or success.keys() & _ERROR_KEYS:
            return dict.fromkeys(external_ids, unreadable)
        words: dict[str | None, list[object]] = {}
        for entry in entries:
            words.setdefault(_uuid(entry), []).append(entry.get("status") if isinstance(entry, dict) else None)
        # Unknown invoices are missing from the answer. An entry for an invoice that was not requested means that the
        # answer belongs to another request. Then missing entries prove nothing.
        is_ours = words.keys() <= {_bare(each) for each in external_ids}
        missing = self.not_found(exchange) if is_ours else unreadable
        return {each: self._merge_entries(words.get(_bare(each)), missing, unreadable) for each in external_ids}

    def _merge_entries(
        self, words: Sequence[object] | None, missing: LookupReply, contradictory: LookupReply
    ) -> LookupReply:
        """Return the reply for one invoice. Its entries must agree, except that a payment always takes precedence."""
        if words is None:
            return missing
        replies = [self.found(word, http_status=200) for word in words]
        paid = [reply for reply in replies if reply.status in PAID_STATUSES]
        if paid:
            return max(paid, key=lambda reply: PAID_STATUSES.index(reply.status))
        return replies[0] if all(reply == replies[0] for reply in replies) else contradictory

    # requests

    def cancel(self, external_id: str, *, lease: Lease) -> ProviderReply:
        deadline = Deadline(self.deadline)
        uuid = self.clean_id(external_id)
        exchange = self.send("POST", self._cancel_path, document={"uuid": uuid}, deadline=deadline, lease=lease)
        reply = self._read_cancel(exchange, uuid)
        if reply.outcome is not Outcome.REFUSED:
            return reply
        return self._read_refusal(reply, exchange, self._look_up([uuid], deadline)[uuid])

    def lookup(self, external_ids: Sequence[str]) -> Mapping[str, LookupReply]:
        wrong = self.invalid_id_replies(external_ids)
        asked = [each for each in external_ids if each not in wrong]
        return wrong | self._look_up(asked, Deadline(self.deadline)) if asked else wrong

    def _look_up(self, external_ids: Sequence[str], deadline: Deadline) -> dict[str, LookupReply]:
        uuids = [self.clean_id(each) for each in external_ids]
        exchange = self.send("POST", self._lookup_path, document={"uuids": uuids}, deadline=deadline)
        return self._read_lookup(exchange, external_ids)


def _named_errors(exchange: Exchange) -> dict[str, Any]:
    """Return the errors by key, from ``{"status": "error", "result": {key: text}}`` with status 400 or 200."""
    body = exchange.json if isinstance(exchange.json, dict) and exchange.http_status in (200, 400) else {}
    result = body.get("result") if body.get("status") == "error" else None
    return result if isinstance(result, dict) else {}


def _is_key_rejected(exchange: Exchange) -> bool:
    """Return whether the answer rejects the API key, in one of the two documented forms."""
    if "authorization" in _named_errors(exchange):
        return True
    body = exchange.json if isinstance(exchange.json, dict) and exchange.http_status == 400 else {}
    detail = body.get("detail")
    is_error = not body.keys() & {"status", "result"}
    return is_error and isinstance(detail, str) and detail.strip(" .").lower() in REJECTED_KEY


def _success(exchange: Exchange) -> dict[str, Any]:
    """Return the body if the answer is HTTP 200 *and* ``{"status": "success", ...}``; otherwise an empty dict."""
    body = exchange.json if isinstance(exchange.json, dict) and exchange.http_status == 200 else {}
    return body if body.get("status") == "success" else {}


def _names_other_invoice(body: Mapping[str, Any], uuid: str) -> bool:
    """Return whether the body contains, at any depth, the id of another invoice."""
    named = [value for key, value in _members(body) if key in ("uuid", "invoice_id")]
    return any(not isinstance(each, str) or _bare(each) != _bare(uuid) for each in named)


def _names_error(body: Mapping[str, Any]) -> bool:
    """Return whether the body contains, at any depth, a key of an error."""
    return any(key in _ERROR_KEYS for key, _ in _members(body))


def _members(value: object) -> Iterator[tuple[str, object]]:
    """Yield the keys (in lower case) and the values of all objects in a JSON document."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield from ((key.lower(), each) for key, each in part.items())
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def _uuid(entry: object) -> str | None:
    uuid = entry.get("uuid") if isinstance(entry, dict) else None
    return _bare(uuid) if isinstance(uuid, str) else None


def _bare(uuid: str) -> str:
    """Return an id for comparison: in upper case, without the prefix."""
    return uuid.upper().removeprefix("INV-")
