"""The base class of adapters. It uses neither HTTP nor Django.

An adapter cancels an invoice and may look up its status. It never raises for provider or network errors. An answer
that it cannot interpret is ``IN_DOUBT``. Adapters over HTTP subclass ``http.HTTPProvider``, which contains the
transport and reads the answers that have the same meaning at all providers.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

from ..domain.numbers import CONCURRENCY, RATE, REQUEST_SECONDS, NumberRange
from ..domain.outcomes import Code, LookupReply, ProviderReply
from ..domain.ports import InvoicePort
from ..domain.secrets import Secret, sanitize
from ..domain.statuses import INTERNAL_STATUSES, Status
from ..exceptions import InvalidExternalId, ProviderMisconfigured

Lease = Callable[[float], bool]
"""``lease(seconds_left)``: return whether the request may still be sent. ``seconds_left``: the rest of its deadline."""

_ID_PLACE = "{external_id}"
"""The place of the id in the option ``dashboard_url``."""


class Provider:
    """One account at one provider.

    The class attributes are the declarations of an adapter. They are checked when an instance is created. The
    arguments below come from ``OPTIONS`` in the settings. Options that are named in ``secret_options`` are passed as
    ``Secret``.

    Args:
        alias: The key of the account in ``INVOICE_CANCEL["PROVIDERS"]``.
        deadline: Maximum duration of one ``cancel`` call in seconds, including its lookups. More than 0, at most 3600.
        concurrency: Maximum number of requests in flight in a bulk run, from 1 to 1000.
        rate: Maximum number of requests per second, shared by all processes, from 0.001 to 1000. None: no limit.
        dashboard_url: The address of an invoice in the provider's dashboard, as a template such as
            ``https://provider.example/invoices/{external_id}``. None: no address.

    Raises:
        ProviderMisconfigured: An option or a declaration is invalid.
    """

    verbose_name: ClassVar[str] = ""
    """The provider's name, as users see it."""
    secret_options: ClassVar[frozenset[str]] = frozenset()
    """Names of the options that contain secrets."""
    status_words: ClassVar[Mapping[str, Status]] = {}
    """Maps the provider's status strings, in lower case, to statuses. Other strings are unknown."""
    postback_status_words: ClassVar[Mapping[str, Status]] = {}
    """Maps status strings that only postbacks use. For postbacks they take precedence over ``status_words``."""
    id_form: ClassVar[str] = ""
    """The form of an id, as the end of the sentence "An id is ..."."""
    id_pattern: ClassVar[re.Pattern[str]]
    """The pattern that the whole id must match after ``normalise_id``."""
    supports_lookup: bool = False
    """Whether ``lookup`` is available. May be set on the instance."""
    lookup_group_size: int = 1
    """Maximum number of ids in one lookup."""
    is_repeat_harmless: bool = False
    """Whether a second cancel request for the same invoice is harmless."""

    def __init__(
        self,
        alias: str,
        *,
        deadline: float = 15.0,
        concurrency: int = 8,
        rate: float | None = None,
        dashboard_url: str | None = None,
    ) -> None:
        self.alias = alias
        self.deadline = self._number("deadline", deadline, REQUEST_SECONDS)
        """Maximum duration of one ``cancel`` call in seconds, including its lookups."""
        self.concurrency = int(self._number("concurrency", concurrency, CONCURRENCY))
        """Maximum number of requests in flight in a bulk run."""
        self.rate = None if rate is None else self._number("rate", rate, RATE)
        """Maximum number of requests per second, shared by all processes; None: no limit."""
        if dashboard_url is not None and not _is_address_template(dashboard_url):
            raise self.misconfigured(
                "dashboard_url", f"must be an http:// or https:// address with {_ID_PLACE} after the host."
            )
        self._dashboard_template = dashboard_url
        self.secrets: list[Secret] = []
        self.options_digest = ""
        """A keyed hash of the configured options; empty if the instance was not created from the settings."""
        self._check_declarations()

    # -- to be implemented by an adapter ---------------------------------------------------------------------------

    def cancel(self, external_id: str, *, lease: Lease) -> ProviderReply:
        """Send one cancel request. Never raises for provider or network errors.

        Args:
            external_id: The normalised id of the invoice.
            lease: Called with the remaining seconds before the first byte of the request is sent. If it returns
                False, nothing is sent, and the reply is NOT_PROCESSED with the code ``lease_expired``.

        Returns:
            The provider's reply, within ``deadline`` seconds.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement cancel().")

    def lookup(self, external_ids: Sequence[str]) -> Mapping[str, LookupReply]:
        """Look up the status of at most ``lookup_group_size`` invoices. Never raises for provider or network errors.

        Returns:
            One reply for each id.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement lookup().")

    def normalise_id(self, external_id: str) -> str:
        """Return the id as it is stored and sent. Applying it twice has no further effect."""
        return external_id.strip(" ")  # a line break or a tab is not a typo: clean_id() rejects it

    def dashboard_url(self, invoice: InvoicePort) -> str | None:
        """Return the address of an invoice in the provider's dashboard. The admin links to it. Sends no request.

        Args:
            invoice: The invoice, with its ``external_id`` and ``reference``. Any text may be in them: encode it.

        Returns:
            An ``http://`` or ``https://`` address; None if there is none. By default, the option ``dashboard_url``
            with the percent-encoded external id.
        """
        template = self._dashboard_template
        return None if template is None else template.replace(_ID_PLACE, quote(invoice.external_id, safe=""))

    # -- for adapters -------------------------------------------------------------------------------

    def clean_id(self, external_id: object) -> str:
        """Return the normalised id.

        Raises:
            InvalidExternalId: The id is not a string or does not match ``id_pattern``. The message contains the
                expected form.
        """
        text = self.normalise_id(external_id) if isinstance(external_id, str) else None
        if text is None or not self.id_pattern.fullmatch(text):
            shown = ascii(external_id)
            shown = shown if len(shown) <= 60 else shown[:57] + "..."
            raise InvalidExternalId(f"{shown} is not an id of {self.verbose_name}: an id is {self.id_form}.")
        return text

    def invalid_id_replies(self, external_ids: Iterable[str]) -> dict[str, LookupReply]:
        """Return one reply for each invalid id, so that the other ids can still be looked up."""
        replies = {}
        for each in external_ids:
            try:
                self.clean_id(each)
            except InvalidExternalId as error:
                replies[each] = LookupReply(None, Code.MISCONFIGURED, is_answer=False, provider_message=str(error))
        return replies

    def status_of(self, word: str) -> Status | None:
        """Return the status for a provider's status string, ignoring case; None if it is unknown."""
        return self.status_words.get(word.strip().lower())

    def status_of_postback(self, word: str) -> Status | None:
        """Return the status for a postback's status string, ignoring case; None if it is unknown."""
        return self.postback_status_words.get(word.strip().lower()) or self.status_of(word)

    def sanitize(self, text: object) -> str:
        """Return a provider's text as it is stored: with secrets masked, then truncated to 500 characters.

        Characters that a database rejects (NUL in PostgreSQL, lone surrogates) become U+FFFD.
        """
        return sanitize(text, self.secrets)

    def found(self, word: object, *, http_status: int | None = None) -> LookupReply:
        """Return the lookup reply for a known invoice.

        Args:
            word: The provider's status string, as it was received. If it is unknown or not a string, the reply has
                the code ``unknown_status`` and no status.
            http_status: The HTTP status code of the answer.
        """
        status = self.status_of(word) if isinstance(word, str) else None
        code = Code.UNKNOWN_STATUS if status is None else Code.OBSERVED
        shown = self.sanitize(word) if isinstance(word, str) else ""
        return LookupReply(status, code, is_answer=True, provider_status=shown, http_status=http_status)

    @property
    def account(self) -> Hashable | None:
        """The account at the provider, for comparison only; None without credentials.

        Aliases with equal accounts cancel the same invoices. Override this property if another option (such as a
        merchant id) distinguishes accounts with the same credentials.
        """
        return (type(self), frozenset(self.secrets)) if self.secrets else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.alias!r}>"

    # -- checks at construction -------------------------------------------------------------------------------

    def misconfigured(self, option: str, problem: str) -> ProviderMisconfigured:
        """Return the exception for an invalid option. ``problem`` must not contain a secret value."""
        return ProviderMisconfigured(f"Provider {self.alias!r}: option {option!r} {problem}")

    def _number(self, option: str, value: Any, range_: NumberRange) -> Any:
        if range_.is_whole and isinstance(value, float) and value.is_integer():
            value = int(value)
        if value not in range_:
            raise self.misconfigured(option, f"must be {range_}.")
        return value

    def _check_declarations(self) -> None:
        problems = list(self._invalid_declarations())
        if problems:
            raise ProviderMisconfigured(f"Adapter {type(self).__name__} has invalid declarations: {' '.join(problems)}")

    def _invalid_declarations(self) -> Iterable[str]:
        if not self.verbose_name or not self.id_form or not isinstance(getattr(self, "id_pattern", None), re.Pattern):
            yield "verbose_name, id_form and id_pattern (a compiled pattern) are required."
        if type(self).cancel is Provider.cancel:
            yield "cancel() is missing."
        if self.supports_lookup and type(self).lookup is Provider.lookup:
            yield "supports_lookup is True, but lookup() is missing."
        if self.lookup_group_size < 1:
            yield "lookup_group_size must be at least 1."
        for name in ("status_words", "postback_status_words"):
            words: Mapping[str, Status] = getattr(self, name)
            if any(word != word.strip().lower() for word in words):
                yield f"{name} must be lower case."
            if INTERNAL_STATUSES & set(words.values()):
                yield f"{name} may not contain canceling or in_doubt, which no provider reports."


def _is_address_template(template: object) -> bool:
    """Return whether a text is an address that contains the id after the host, and no other placeholder."""
    if not isinstance(template, str) or not template.isprintable() or " " in template:
        return False
    try:
        parts = urlsplit(template)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return False
    rest = template.replace(_ID_PLACE, "")
    return is_address and rest != template and _ID_PLACE not in parts.netloc and not {"{", "}"} & set(rest)
