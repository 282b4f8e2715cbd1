"""What a scripted provider can be told to answer: short words, and what they stand for.

A word says what the app hears. What the provider holds afterwards is told beside it, so that a later lookup does not
contradict an earlier answer.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

from ..outcomes import Code, LookupReply, Outcome, ProviderReply
from ..statuses import CLOSED, MONEY, OURS_ALONE, Status

Reply = TypeVar("Reply")

CancelAnswer = ProviderReply | str | BaseException | type[BaseException] | Callable[[str], object] | None
"""A reply, a word, an exception to raise, a function of the id that returns any of these, or None: by the truth."""
LookupAnswer = LookupReply | str | BaseException | type[BaseException] | Callable[[str], object] | None

STATUSES: tuple[Status, ...] = tuple(status for status in Status if status not in OURS_ALONE)
"""What a provider can hold."""

CANCEL_WORDS: Mapping[str, ProviderReply] = MappingProxyType(
    {
        "canceled": ProviderReply(Outcome.CANCELED, Code.CANCELED, http_status=200),
        "already_canceled": ProviderReply(Outcome.ALREADY_CANCELED, Code.ALREADY_CANCELED, Status.CANCELED, 400),
        **{status: ProviderReply(Outcome.REFUSED, Code.HAS_PAYMENT, status, 400) for status in MONEY},
        **{status: ProviderReply(Outcome.REFUSED, Code.CLOSED, status, 400) for status in CLOSED - {Status.CANCELED}},
        "refused": ProviderReply(Outcome.REFUSED, Code.PROVIDER_REFUSED, http_status=400),
        "not_found": ProviderReply(Outcome.REFUSED, Code.NOT_FOUND, http_status=404),
        "not_processed": ProviderReply(Outcome.NOT_PROCESSED, Code.UNREACHABLE),
        "rate_limited": ProviderReply(Outcome.NOT_PROCESSED, Code.RATE_LIMITED, http_status=429, retry_after=60.0),
        "bad_credentials": ProviderReply(Outcome.NOT_PROCESSED, Code.BAD_CREDENTIALS, http_status=401),
        "in_doubt": ProviderReply(Outcome.IN_DOUBT, Code.NO_ANSWER),
        "answer_lost": ProviderReply(Outcome.IN_DOUBT, Code.NO_ANSWER),
    }
)
"""``in_doubt``: no answer, and nothing was done; ``answer_lost``: no answer, and the invoice *is* canceled."""

_CARRIED_OUT = frozenset({"canceled", "already_canceled", "answer_lost"})

LOOKUP_WORDS: Mapping[str, LookupReply] = MappingProxyType(
    {
        **{s: LookupReply(s, Code.OBSERVED, is_answer=True, provider_status=s, http_status=200) for s in STATUSES},
        "not_found": LookupReply(None, Code.NOT_FOUND, is_answer=True, http_status=200),
        "unknown_status": LookupReply(
            None, Code.UNKNOWN_STATUS, is_answer=True, provider_status="frozen", http_status=200
        ),
        "no_answer": LookupReply(None, Code.NO_ANSWER, is_answer=False),
        "not_processed": LookupReply(None, Code.UNREACHABLE, is_answer=False),
        "rate_limited": LookupReply(None, Code.RATE_LIMITED, is_answer=False, http_status=429, retry_after=60.0),
        "bad_credentials": LookupReply(None, Code.BAD_CREDENTIALS, is_answer=False, http_status=401),
    }
)


def cancel_reply(answer: object) -> ProviderReply:
    """Return the reply that a word stands for, or raise ``ValueError`` with the words that exist."""
    if isinstance(answer, ProviderReply):
        return answer
    return _named(CANCEL_WORDS, answer, "cancel")


def lookup_reply(answer: object) -> LookupReply:
    """Return the reply that a word stands for, or raise ``ValueError`` with the words that exist."""
    if isinstance(answer, LookupReply):
        return answer
    return _named(LOOKUP_WORDS, answer, "lookup")


def held_after(answer: object, reply: ProviderReply) -> Status | None:
    """Return what the provider holds after this answer to a cancel; None: as before."""
    if reply.status in MONEY:
        return reply.status
    if reply.confirms_cancel or (isinstance(answer, str) and answer in _CARRIED_OUT):
        return Status.CANCELED
    return reply.status if reply.outcome is Outcome.REFUSED else None


def by_truth(status: Status | None) -> str:
    """Return the word by which a provider answers a cancel that nobody scripted, from what it holds."""
    if status is None or status is Status.CREATED:
        return "canceled"
    return "already_canceled" if status is Status.CANCELED else str(status)


def _named(words: Mapping[str, Reply], answer: object, what: str) -> Reply:
    if not isinstance(answer, str) or answer not in words:
        raise ValueError(f"{answer!r} is no answer to a {what}; the words are {', '.join(words)}.")
    return words[answer]
