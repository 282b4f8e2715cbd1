"""The contract of a provider, written for the author of an adapter. No HTTP, no Django.

A provider answers two questions about one of its invoices: *cancel it* and *what is its status?* It returns
replies and raises for nothing that the provider or the network does; what it cannot read is ``IN_DOUBT``.
An adapter over HTTP subclasses ``http.HTTPProvider`` instead, which brings the transport and reads in common
what all providers share.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import ClassVar, TypeGuard

from ..domain.outcomes import Code, LookupReply, ProviderReply
from ..domain.secrets import Secret, mask
from ..domain.statuses import OURS_ALONE, Status
from ..exceptions import InvalidExternalId, ProviderMisconfigured

Lease = Callable[[float], bool]
"""``lease(seconds_left)``: may the first byte of the request, with that much of its deadline left, still go out?"""

MOST_SECONDS = 3600
"""The upper bound of ``deadline`` and ``connect_timeout``."""
MOST_CONCURRENCY = 1000
"""Each request in flight has a thread."""
LEAST_RATE, MOST_RATE = 0.001, 10_000
"""Requests a second: a lower rate would reserve its next request more than 17 minutes ahead."""
WORDS_KEPT = 500
"""How many characters of a provider's words are kept."""
_UNKEEPABLE = re.compile("[\x00\ud800-\udfff]")


class Provider:
    """One account at one provider.

    Class attributes are the adapter's declarations and are checked when an instance is made. Options come as
    keyword arguments of ``__init__``; those named in ``secret_options`` arrive wrapped in ``Secret``.
    """

    verbose_name: ClassVar[str] = ""
    """The provider's name, for people."""
    secret_options: ClassVar[frozenset[str]] = frozenset()
    """The names of the options that must never leave."""
    status_words: ClassVar[Mapping[str, Status]] = {}
    """The provider's words for our statuses. A word that is not here is unknown."""
    postback_status_words: ClassVar[Mapping[str, Status]] = {}
    """The status words that only the provider's postbacks use; they take precedence over ``status_words`` there."""
    id_form: ClassVar[str] = ""
    """What an id looks like, for people: ends the sentence "An id is ..."."""
    id_pattern: ClassVar[re.Pattern[str]]
    """What an id must match, whole, after ``normalise_id``."""
    supports_lookup: bool = False
    """Whether ``lookup`` works. May be set on the instance."""
    lookup_group_size: int = 1
    """How many ids one lookup takes."""
    is_repeat_harmless: bool = False
    """Whether a second cancel of the same invoice can do no harm."""

    def __init__(self, alias: str, *, deadline: float = 15.0, concurrency: int = 8, rate: float | None = None) -> None:
        self.alias = alias
        self.deadline = self._seconds("deadline", deadline)
        """Seconds for the whole of one submit, lookups within it included."""
        self.concurrency = int(self._number("concurrency", concurrency, 1, MOST_CONCURRENCY, whole=True))
        """How many requests a bulk run may have in flight."""
        self.rate = None if rate is None else self._number("rate", rate, LEAST_RATE, MOST_RATE)
        """Requests a second that all processes together may send; None: as many as go."""
        self.secrets: list[Secret] = []
        self._check_declarations()

    # -- what an adapter implements ---------------------------------------------------------------------------

    def cancel(self, external_id: str, *, lease: Lease) -> ProviderReply:
        """Ask the provider to cancel the invoice, once, within ``deadline`` seconds; raise for nothing remote.

        ``external_id`` is normalised. ``lease`` is asked where the first byte of the cancel is handed to the
        socket; where it says no, nothing is sent and the reply is NOT_PROCESSED ``lease_expired``.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement cancel().")

    def lookup(self, external_ids: Sequence[str]) -> Mapping[str, LookupReply]:
        """Ask for the status of up to ``lookup_group_size`` invoices; return a reply for each id."""
        raise NotImplementedError(f"{type(self).__name__} does not implement lookup().")

    def normalise_id(self, external_id: str) -> str:
        """Return the one form in which the id is stored and sent; idempotent."""
        return external_id.strip(" ")  # a line break or a tab is not a slip of the hand: it is refused

    # -- what every adapter has -------------------------------------------------------------------------------

    def clean_id(self, external_id: object) -> str:
        """Return the id in its one form, or raise ``InvalidExternalId`` with what it should look like."""
        text = self.normalise_id(external_id) if isinstance(external_id, str) else None
        if text is None or not self.id_pattern.fullmatch(text):
            shown = ascii(external_id)
            shown = shown if len(shown) <= 60 else shown[:57] + "..."
            raise InvalidExternalId(f"{shown} is not an id of {self.verbose_name}: an id is {self.id_form}.")
        return text

    def wrong_ids(self, external_ids: Iterable[str]) -> dict[str, LookupReply]:
        """Return a reply to each id that is none, so that a lookup can ask for the others of its group."""
        replies = {}
        for each in external_ids:
            try:
                self.clean_id(each)
            except InvalidExternalId as error:
                replies[each] = LookupReply(None, Code.MISCONFIGURED, is_answer=False, provider_message=str(error))
        return replies

    def status_of(self, word: str) -> Status | None:
        """Return our status for the provider's word; None where the word is not known."""
        return self.status_words.get(word.strip().lower())

    def status_of_postback(self, word: str) -> Status | None:
        """Return our status for the status word of a postback; None if the word is not known."""
        return self.postback_status_words.get(word.strip().lower()) or self.status_of(word)

    def words(self, text: object) -> str:
        """Return a provider's text as it may be kept: secrets masked, then cut to 500 characters.

        What no database takes (NUL in PostgreSQL, halves of surrogate pairs) becomes U+FFFD.
        """
        return _UNKEEPABLE.sub("\ufffd", mask(str(text), self.secrets))[:WORDS_KEPT]

    def found(self, word: object, *, http_status: int | None = None) -> LookupReply:
        """Return the reply for an invoice that the provider knows, in the status ``word``."""
        status = self.status_of(word) if isinstance(word, str) else None
        code = Code.UNKNOWN_STATUS if status is None else Code.OBSERVED
        shown = self.words(word) if isinstance(word, str) else ""
        return LookupReply(status, code, is_answer=True, provider_status=shown, http_status=http_status)

    @property
    def account(self) -> Hashable | None:
        """The account at the provider, for comparison only; None without credentials.

        Two providers with equal accounts cancel the same invoices. Override it if other options (a merchant id)
        distinguish accounts that share their credentials.
        """
        return (type(self), frozenset(self.secrets)) if self.secrets else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.alias!r}>"

    # -- checks at construction -------------------------------------------------------------------------------

    def misconfigured(self, option: str, problem: str) -> ProviderMisconfigured:
        """Return the error for a bad option; ``problem`` must not hold its value if it is secret."""
        return ProviderMisconfigured(f"Provider {self.alias!r}: option {option!r} {problem}")

    def _seconds(self, option: str, value: object) -> float:
        if not _is_number(value) or not 0 < value <= MOST_SECONDS:
            raise self.misconfigured(option, f"must be a number greater than 0 and at most {MOST_SECONDS:g}.")
        return value

    def _number(self, option: str, value: object, least: float, most: float, *, whole: bool = False) -> float:
        if not _is_number(value) or not least <= value <= most or (whole and value != int(value)):
            kind = "whole number" if whole else "number"
            raise self.misconfigured(option, f"must be a {kind} from {least:g} to {most:g}.")
        return value

    def _check_declarations(self) -> None:
        problems = list(self._wrong_declarations())
        if problems:
            raise ProviderMisconfigured(f"Adapter {type(self).__name__} declares wrongly: {' '.join(problems)}")

    def _wrong_declarations(self) -> Iterable[str]:
        if not self.verbose_name or not self.id_form or not isinstance(getattr(self, "id_pattern", None), re.Pattern):
            yield "verbose_name, id_form and id_pattern (a compiled pattern) are required."
        if type(self).cancel is Provider.cancel:
            yield "cancel() is missing."
        if self.supports_lookup and type(self).lookup is Provider.lookup:
            yield "supports_lookup is set and lookup() is missing."
        if self.lookup_group_size < 1:
            yield "lookup_group_size must be at least 1."
        for name in ("status_words", "postback_status_words"):
            words: Mapping[str, Status] = getattr(self, name)
            if any(word != word.strip().lower() for word in words):
                yield f"{name} must be lower case."
            if OURS_ALONE & set(words.values()):
                yield f"{name} may not name canceling or in_doubt: no provider can know those."


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
