"""A provider without HTTP, for unit tests: it answers what a test tells it to, and counts what it was asked.

Without a script it is a well-behaved provider that cancels what it may. It obeys the lease, keeps a little truth of its
own (a canceled invoice that is looked up is canceled), sleeps never, and reaches nobody.
"""

import re
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Self, TypeVar

from .. import registry
from ..domain.outcomes import Code, LookupReply, Outcome, ProviderReply
from ..domain.statuses import CLOSED_STATUSES, PAID_STATUSES, REPORTABLE_STATUSES, Status
from ..providers.base import Lease, Provider

Reply = TypeVar("Reply")

CancelAnswer = ProviderReply | str | BaseException | type[BaseException] | Callable[[str], object] | None
"""A reply, a word, an exception to raise, a function of the id that returns any of these, or None: by the truth."""
LookupAnswer = LookupReply | str | BaseException | type[BaseException] | Callable[[str], object] | None


CANCEL_WORDS: Mapping[str, ProviderReply] = MappingProxyType(
    {
        "canceled": ProviderReply(Outcome.CANCELED, Code.CANCELED, http_status=200),
        "already_canceled": ProviderReply(Outcome.ALREADY_CANCELED, Code.ALREADY_CANCELED, Status.CANCELED, 400),
        **{status: ProviderReply(Outcome.REFUSED, Code.HAS_PAYMENT, status, 400) for status in PAID_STATUSES},
        **{
            status: ProviderReply(Outcome.REFUSED, Code.CLOSED, status, 400)
            for status in CLOSED_STATUSES - {Status.CANCELED}
        },
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
        **{
            s: LookupReply(s, Code.OBSERVED, is_answer=True, provider_status=s, http_status=200)
            for s in REPORTABLE_STATUSES
        },
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
    if reply.status in PAID_STATUSES:
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


Answer = TypeVar("Answer")


class ScriptedProvider(Provider):
    """One scripted account; its options come from ``OPTIONS`` like those of a real one."""

    verbose_name = "Scripted provider"
    id_form = "1 to 100 visible ASCII characters"
    id_pattern = re.compile(r"[!-~]{1,100}")
    status_words: ClassVar[Mapping[str, Status]] = {str(status): status for status in REPORTABLE_STATUSES}
    before_send: Callable[[str], None] | None = None
    """Called with the id before the lease is asked: where a test lets time pass, or another process act."""

    def __init__(
        self,
        alias: str,
        *,
        supports_lookup: bool = True,
        lookup_group_size: int = 100,
        is_repeat_harmless: bool = False,
        record: bool = True,
        **common: Any,
    ) -> None:
        """``record=False`` keeps counts alone, neither calls nor truth: memory stays flat, however many calls."""
        self.supports_lookup = supports_lookup
        self.lookup_group_size = lookup_group_size
        self.is_repeat_harmless = is_repeat_harmless
        super().__init__(alias, **common)
        self._is_recording = record
        self._lock = threading.Lock()
        self.reset()

    @classmethod
    def of(cls, alias: str) -> Self:
        """Return the instance that the app uses for ``alias``: a new one after each change of the settings."""
        provider = registry.get_provider(alias)
        if not isinstance(provider, cls):
            raise TypeError(f"The provider of {alias!r} is {type(provider).__name__}, not {cls.__name__}.")
        return provider

    # -- what a test says -----------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget scripts, calls and truth."""
        self._cancel_script: _Script[CancelAnswer] = _Script()
        self._lookup_script: _Script[LookupAnswer] = _Script()
        self.truth: dict[str, Status] = {}
        """The status of each invoice at the provider, unless it is open."""
        self.cancels: list[str] = []
        """The id of each cancel that was sent."""
        self.lookups: list[tuple[str, ...]] = []
        """The ids of each lookup."""
        self.cancel_count = 0
        self.lookup_count = 0
        self.before_send = None

    def set_status(self, external_id: str, status: str) -> None:
        """Let the provider hold the invoice in this status: customers pay, invoices expire."""
        if status not in REPORTABLE_STATUSES:
            raise ValueError(f"A provider cannot hold {status!r}; it holds {', '.join(REPORTABLE_STATUSES)}.")
        self.truth[self.clean_id(external_id)] = Status(status)

    def next_cancels(self, *answers: CancelAnswer, external_id: str | None = None) -> None:
        """Let the next cancels, of all invoices or of one, be answered so, in turn."""
        self._cancel_script.queue(self._key(external_id), _checked(answers, cancel_reply))

    def all_cancels(self, answer: CancelAnswer, external_id: str | None = None) -> None:
        """Let every cancel, of all invoices or of one, be answered so; None: by the truth again."""
        self._cancel_script.always(self._key(external_id), *_checked([answer], cancel_reply))

    def next_lookups(self, *answers: LookupAnswer, external_id: str | None = None) -> None:
        """Let the next lookups, of all invoices or of one, be answered so, in turn."""
        self._lookup_script.queue(self._key(external_id), _checked(answers, lookup_reply))

    def all_lookups(self, answer: LookupAnswer, external_id: str | None = None) -> None:
        """Let every lookup, of all invoices or of one, be answered so; None: by the truth again."""
        self._lookup_script.always(self._key(external_id), *_checked([answer], lookup_reply))

    def _key(self, external_id: str | None) -> str | None:
        return None if external_id is None else self.clean_id(external_id)

    # -- what the app asks ----------------------------------------------------------------------------------------

    def cancel(self, external_id: str, *, lease: Lease) -> ProviderReply:
        if self.before_send is not None:
            self.before_send(external_id)
        if not lease(self.deadline):
            return ProviderReply(Outcome.NOT_PROCESSED, Code.LEASE_EXPIRED)
        with self._lock:
            self.cancel_count += 1
            if self._is_recording:
                self.cancels.append(external_id)
            answer = self._cancel_script.next(external_id)
        answer = _carried_out(answer, external_id)
        if answer is None:
            answer = by_truth(self.truth.get(external_id))
        reply = cancel_reply(answer)
        held = held_after(answer, reply)
        if held is not None and self._is_recording:
            self.truth[external_id] = held
        return reply

    def lookup(self, external_ids: Sequence[str]) -> Mapping[str, LookupReply]:
        if not self.supports_lookup:
            raise NotImplementedError("This scripted provider declares no lookup: ask it for none.")
        if len(external_ids) > self.lookup_group_size:
            raise ValueError(f"{len(external_ids)} ids in a lookup; the provider takes {self.lookup_group_size}.")
        with self._lock:
            self.lookup_count += 1
            if self._is_recording:
                self.lookups.append(tuple(external_ids))
        return {each: self._look_up(each) for each in external_ids}

    def _look_up(self, external_id: str) -> LookupReply:
        with self._lock:
            answer = self._lookup_script.next(external_id)
        answer = _carried_out(answer, external_id)
        return lookup_reply(self.truth.get(external_id, Status.CREATED) if answer is None else answer)


class _Script(Generic[Answer]):
    """The scripted answers: first the queues, then the permanent ones; first for one id, then for all."""

    def __init__(self) -> None:
        self._queues: dict[str | None, deque[Answer]] = {}
        self._always: dict[str | None, Answer] = {}

    def queue(self, key: str | None, answers: Sequence[Answer]) -> None:
        self._queues.setdefault(key, deque()).extend(answers)

    def always(self, key: str | None, answer: Answer) -> None:
        self._always[key] = answer

    def next(self, external_id: str) -> Answer | None:
        for key in (external_id, None):
            if queue := self._queues.get(key):
                return queue.popleft()
        return self._always.get(external_id) or self._always.get(None)


def _carried_out(answer: Any, external_id: str) -> Any:
    """Raise what is to be raised, call what is to be called, return what is to be answered."""
    if isinstance(answer, BaseException) or (isinstance(answer, type) and issubclass(answer, BaseException)):
        raise answer
    return _carried_out(answer(external_id), external_id) if callable(answer) else answer


def _checked(answers: Sequence[Any], read: Callable[[object], object]) -> Sequence[Any]:
    """Return the answers after a check: a misspelt one raises in the test that passes it."""
    for answer in answers:
        if answer is not None and not callable(answer) and not isinstance(answer, BaseException):
            read(answer)
    return answers
