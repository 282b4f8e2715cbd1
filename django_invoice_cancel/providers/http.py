"""The base class of adapters over HTTP: the address, the transport, and the answers with a common meaning.

Each request is sent once and never repeated. Invariant: NOT_PROCESSED is used only for requests that were never sent
and for complete answers with status 401, 403 or 429. An answer that neither this module nor the adapter can interpret
is ``IN_DOUBT``.
"""

import ipaddress
import json
import re
from collections.abc import Hashable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from ..domain.numbers import REQUEST_SECONDS
from ..domain.outcomes import Code, LookupReply, Outcome, ProviderReply
from ..domain.secrets import Secret
from ..domain.statuses import CLOSED_STATUSES, PAID_STATUSES, Status
from .base import Lease, Provider
from .transport import Deadline, Exchange, Kind, Transport

_ADDRESS = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[A-Za-z0-9._~-]+)*)/?"
)
MIN_POOL_SIZE = 64
"""Minimum number of idle connections to keep, because a bulk run may use a higher ``concurrency`` than the option."""
_VERSION_AT_END = re.compile(r"(/api)?/v[0-9]+$", re.IGNORECASE)
_NOT_PROCESSED: Final = {401: Code.BAD_CREDENTIALS, 403: Code.BAD_CREDENTIALS, 429: Code.RATE_LIMITED}
_ADDRESS_CODES: Final = frozenset({Code.UNREACHABLE, Code.REDIRECTED, Code.WRONG_ADDRESS})
_BLOCKED = "Cloudflare blocked the request before the provider saw it (often the sender's IP address):"


class HTTPProvider(Provider):
    """One account at a provider with an HTTP API and a token in the Authorization header.

    Secrets are positional arguments, because only keyword arguments are options in the settings.

    Args:
        alias: The key of the account in ``INVOICE_CANCEL["PROVIDERS"]``.
        token: The token for the Authorization header.
        *more_secrets: Other secrets, which are masked in texts that are stored or logged.
        base_url: The address of the API, without the version. HTTPS, except for loopback addresses.
        connect_timeout: Maximum time to connect, in seconds.
        reuse_connections: Whether a connection may serve more than one request.
        **common: The options of ``Provider``.

    Raises:
        ProviderMisconfigured: An option or a declaration is invalid.
    """

    scheme: ClassVar[str] = "Bearer"
    """The authentication scheme: the word before the token in the Authorization header."""
    token_option: ClassVar[str] = ""
    """Name of the option that contains the token. Must be one of ``secret_options``."""
    address_hint: str = ""
    """Text for the operator if ``base_url`` is unreachable, redirects or is wrong. May be set on the instance."""

    def __init__(
        self,
        alias: str,
        token: Secret,
        *more_secrets: Secret | None,
        base_url: str,
        connect_timeout: float = 5.0,
        reuse_connections: bool = True,
        **common: Any,
    ) -> None:
        super().__init__(alias, **common)
        self._token = token
        self.secrets = [secret for secret in (token, *more_secrets) if secret]
        try:
            self.base_url = clean_base_url(base_url)
        except ValueError as error:
            raise self.misconfigured("base_url", str(error)) from error
        if not isinstance(reuse_connections, bool):
            raise self.misconfigured("reuse_connections", "must be True or False.")
        try:
            self._transport = Transport(
                base_url=self.base_url,
                scheme=self.scheme,
                token=token,
                secrets=self.secrets,
                connect_timeout=self._number("connect_timeout", connect_timeout, REQUEST_SECONDS),
                pool_size=max(self.concurrency, MIN_POOL_SIZE),
                reuse_connections=reuse_connections,
            )
        except ValueError as error:  # the address was checked above
            raise self.misconfigured(self.token_option, f"is invalid: {error}") from error

    @property
    def account(self) -> Hashable:
        """The normalised address and the token. Other secrets and options do not distinguish accounts."""
        return _comparable(self.base_url), self._token

    @property
    def is_plain_http(self) -> bool:
        """Whether the token is sent unencrypted. This is possible for loopback addresses only."""
        return self.base_url.startswith("http://")

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    # -- requests ---------------------------------------------------------------------------------------------

    def send(
        self,
        method: str,
        path: str,
        *,
        deadline: Deadline,
        document: object = None,
        headers: Mapping[str, str] | None = None,
        lease: Lease | None = None,
    ) -> Exchange:
        """Send one request. Never raises for provider or network errors.

        Args:
            method: The HTTP method.
            path: The quoted path, beginning with a slash.
            deadline: The end of the time for the request, shared by all requests of one ``cancel`` or ``lookup``.
            document: The JSON body; None: no body.
            headers: More headers.
            lease: The lease that was passed to ``Provider.cancel``; None for lookups.

        Returns:
            The answer, or the reason why it is missing.

        Raises:
            ValueError: The path is not quoted.
        """
        all_headers = dict(headers or {})
        body = None
        if document is not None:
            all_headers["Content-Type"] = "application/json"
            body = json.dumps(document, separators=(",", ":")).encode()
        return self._transport.request(method, path, body=body, headers=all_headers, deadline=deadline, lease=lease)

    # -- answers ----------------------------------------------------------------------------------------------

    def read_common(self, exchange: Exchange) -> ProviderReply | None:
        """Return the reply to a cancel request if the answer has a common meaning, otherwise None."""
        read = _read_common(exchange)
        return None if read is None else self.reply(exchange, *read)

    def read_common_lookup(self, exchange: Exchange) -> LookupReply | None:
        """Return the reply to a lookup if the answer has a common meaning, otherwise None. The reply has no status."""
        read = _read_common(exchange)
        return None if read is None else self.no_answer(exchange, read[1])

    def reply(self, exchange: Exchange, outcome: Outcome, code: str) -> ProviderReply:
        """Return the reply to a cancel request, with the details of the exchange."""
        return ProviderReply(
            outcome,
            code,
            http_status=exchange.http_status,
            provider_message=self._message(exchange, code),
            retry_after=exchange.retry_after,
        )

    def not_found(self, exchange: Exchange) -> LookupReply:
        """Return the reply to a lookup of an invoice that the provider does not know."""
        return replace(self.no_answer(exchange, Code.NOT_FOUND), is_answer=True)

    def no_answer(self, exchange: Exchange, code: str) -> LookupReply:
        """Return the reply to a lookup without a usable answer."""
        return LookupReply(
            status=None,
            code=code,
            is_answer=False,
            http_status=exchange.http_status,
            provider_message=self._message(exchange, code),
            retry_after=exchange.retry_after,
        )

    def explain_refusal(self, refusal: ProviderReply, found: LookupReply) -> ProviderReply | None:
        """Return the refusal with the reason that a lookup found; None if the lookup does not explain it."""
        if found.status is Status.CANCELED:
            return replace(refusal, outcome=Outcome.ALREADY_CANCELED, code=Code.ALREADY_CANCELED, status=found.status)
        if found.status in PAID_STATUSES:
            return replace(refusal, code=Code.HAS_PAYMENT, status=found.status)
        if found.status in CLOSED_STATUSES:
            return replace(refusal, code=Code.CLOSED, status=found.status)
        return None

    def doubt_refusal(self, refusal: ProviderReply, found: LookupReply) -> ProviderReply:
        """Return IN_DOUBT for a refusal that a lookup did not explain. An open invoice contradicts the refusal."""
        unexplained = Code.UNKNOWN_STATUS if found.is_answer else Code.NO_ANSWER
        code = Code.CONTRADICTORY_ANSWER if found.status is Status.CREATED else unexplained
        learned = " ".join(filter(None, (found.code, found.provider_status, found.provider_message)))
        return replace(
            refusal,
            outcome=Outcome.IN_DOUBT,
            code=code,
            provider_message=self.sanitize(f"{refusal.provider_message} (asked for its status: {learned})"),
            retry_after=found.retry_after,
        )

    def _message(self, exchange: Exchange, code: str) -> str:
        hint = self.address_hint if code in _ADDRESS_CODES else ""
        if exchange.http_status == 403 and not exchange.is_json and exchange.server.lower() == "cloudflare":
            hint = _BLOCKED
        return self.sanitize(" ".join(filter(None, (hint, exchange.text or exchange.detail))))

    def _invalid_declarations(self) -> Iterable[str]:
        yield from super()._invalid_declarations()
        if self.token_option not in self.secret_options:
            yield "token_option must name one of secret_options."


def _read_common(exchange: Exchange) -> tuple[Outcome, str] | None:
    if exchange.kind is Kind.NOT_SENT:
        return Outcome.NOT_PROCESSED, exchange.code
    if exchange.kind is not Kind.ANSWER:
        # Also for status 401 or 429: an incomplete, encoded or wrongly framed answer may belong to another request.
        # A wrong IN_DOUBT costs one lookup, a wrong NOT_PROCESSED a second cancel request.
        return Outcome.IN_DOUBT, exchange.code
    status = exchange.http_status or 0
    if status in _NOT_PROCESSED:
        return Outcome.NOT_PROCESSED, _NOT_PROCESSED[status]
    if 300 <= status < 400:
        return Outcome.IN_DOUBT, Code.REDIRECTED
    if status in (404, 405):
        return Outcome.IN_DOUBT, Code.WRONG_ADDRESS
    if status >= 500:
        return Outcome.IN_DOUBT, Code.PROVIDER_ERROR
    return None


def clean_base_url(value: object) -> str:
    """Return the address without a trailing slash, or raise ``ValueError`` with the reason."""
    address = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if address is None or not 0 < int(address["port"] or 1) < 65536:
        raise ValueError(
            "must be an address such as 'https://api.example.com', with an optional port and path, "
            "and without user, password, query or fragment."
        )
    if address["scheme"] == "http" and not is_loopback(address["host"]):
        raise ValueError("must begin with https://, because every request contains the token.")
    if version := _VERSION_AT_END.search(address["path"]):
        raise ValueError(f"must not end in {version[0]!r}, because this app appends it.")
    return address[0].removesuffix("/")


def _comparable(base_url: str) -> tuple[str, str, int, str]:
    """Return the parts of an address in a comparable form."""
    parts = urlsplit(base_url)
    host = (parts.hostname or "").removesuffix(".")
    with suppress(ValueError):
        host = str(ipaddress.ip_address(host))
    return parts.scheme, host, parts.port or {"http": 80, "https": 443}[parts.scheme], parts.path


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is a loopback address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
