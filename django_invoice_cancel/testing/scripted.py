"""A provider without HTTP, for unit tests. It returns scripted answers, and counts the calls.

Without a script it acts as a well-behaved provider that cancels open invoices. It obeys the lease and stores its own
state, so that a lookup of a canceled invoice returns "canceled". It never sleeps, and sends nothing.
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
"""A reply, a name from ``CANCEL_WORDS``, an exception to raise, or a function of the id that returns any of these.

None: the answer is derived from ``truth``.
"""
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
"""``in_doubt``: no answer, and nothing was done. ``answer_lost``: no answer, but the invoice *is* canceled."""

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
    """Return the reply for a name, or raise ``ValueError`` with the known names."""
    if isinstance(answer, ProviderReply):
        return answer
    return _named(CANCEL_WORDS, answer, "cancel")


def lookup_reply(answer: object) -> LookupReply:
    """Return the reply for a name, or raise ``ValueError`` with the known names."""
    if isinstance(answer, LookupReply):
        return answer
    return _named(LOOKUP_WORDS, answer, "lookup")


def status_after(answer: object, reply: ProviderReply) -> Status | None:
    """Return the status at the provider after this answer to a cancel request; None if it is unchanged."""
    if reply.status in PAID_STATUSES:
        return reply.status
    if reply.confirms_cancel or (isinstance(answer, str) and answer in _CARRIED_OUT):
        return Status.CANCELED
    return reply.status if reply.outcome is Outcome.REFUSED else None


def by_truth(status: Status | None) -> str:
    """Return the name of the answer to an unscripted cancel request, from the status at the provider."""
    if status is None or status is Status.CREATED:
        return "canceled"
    return "already_canceled" if status is Status.CANCELED else str(status)


def _named(words: Mapping[str, Reply], answer: object, what: str) -> Reply:
    if not isinstance(answer, str) or answer not in words:
        raise ValueError(f"{answer!r} is not a valid answer to a {what}. Choose from {', '.join(words)}.")
    return words[answer]


Answer = TypeVar("Answer")


class ScriptedProvider(Provider):
    """A scripted account. Its options are set in ``OPTIONS``, as for a real provider.

    Scripted answers are replies, exceptions to raise, functions of the id, or names. Names for cancel requests:
    ``canceled``, ``already_canceled``, ``refused``, ``not_found``, ``not_processed``, ``rate_limited``,
    ``bad_credentials``, ``in_doubt`` (no answer, nothing was done), ``answer_lost`` (no answer, the invoice is
    canceled), and the statuses that refuse a cancellation. Names for lookups: the statuses, ``not_found``,
    ``unknown_status``, ``no_answer``, ``not_processed``, ``rate_limited`` and ``bad_credentials``. An unknown name
    raises ``ValueError`` when the script is set.

    Args:
        alias: The key of the account in ``INVOICE_CANCEL["PROVIDERS"]``.
        supports_lookup: Whether the provider has a status lookup.
        lookup_group_size: Maximum number of ids in one lookup.
        is_repeat_harmless: Whether a second cancel request for the same invoice is harmless.
        record: Whether calls and states are stored. If False, only calls are counted, so memory use stays constant.
        **common: The options of ``Provider``.
    """

    verbose_name = "Scripted provider"
    id_form = "1 to 100 visible ASCII characters"
    id_pattern = re.compile(r"[!-~]{1,100}")
    status_words: ClassVar[Mapping[str, Status]] = {str(status): status for status in REPORTABLE_STATUSES}
    before_send: Callable[[str], None] | None = None
    """Called with the id before the lease is checked. A test can use it to let time pass or to run another process."""

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
        self.supports_lookup = supports_lookup
        self.lookup_group_size = lookup_group_size
        self.is_repeat_harmless = is_repeat_harmless
        super().__init__(alias, **common)
        self._is_recording = record
        self._lock = threading.Lock()
        self.reset()

    @classmethod
    def of(cls, alias: str) -> Self:
        """Return the instance that the app uses for ``alias``. Each change of the settings creates a new one.

        Raises:
            TypeError: The alias has a provider of another class.
        """
        provider = registry.get_provider(alias)
        if not isinstance(provider, cls):
            raise TypeError(f"The provider of {alias!r} is {type(provider).__name__}, not {cls.__name__}.")
        return provider

    # -- scripts of a test -----------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Delete scripts, calls and states."""
        self._cancel_script: _Script[CancelAnswer] = _Script()
        self._lookup_script: _Script[LookupAnswer] = _Script()
        self.truth: dict[str, Status] = {}
        """The status of each invoice at the provider, by id. Missing invoices are open."""
        self.cancels: list[str] = []
        """The id of each cancel request."""
        self.lookups: list[tuple[str, ...]] = []
        """The ids of each lookup."""
        self.cancel_count = 0
        self.lookup_count = 0
        self.before_send = None

    def set_status(self, external_id: str, status: str) -> None:
        """Set the status of the invoice at the provider, for example after a payment or an expiry.

        Args:
            external_id: The id of the invoice.
            status: Any status except ``canceling`` and ``in_doubt``.

        Raises:
            ValueError: A provider cannot have this status.
        """
        if status not in REPORTABLE_STATUSES:
            raise ValueError(f"{status!r} is not a status of a provider. Choose from {', '.join(REPORTABLE_STATUSES)}.")
        self.truth[self.clean_id(external_id)] = Status(status)

    def next_cancels(self, *answers: CancelAnswer, external_id: str | None = None) -> None:
        """Script the answers to the next cancel requests, one for each request.

        Args:
            *answers: The answers, in this order.
            external_id: The id of one invoice; None: any invoice.
        """
        self._cancel_script.queue(self._key(external_id), _checked(answers, cancel_reply))

    def all_cancels(self, answer: CancelAnswer, external_id: str | None = None) -> None:
        """Script the answer to every cancel request that has no answer of its own.

        Args:
            answer: The answer; None: derive it from ``truth`` again.
            external_id: The id of one invoice; None: any invoice.
        """
        self._cancel_script.always(self._key(external_id), *_checked([answer], cancel_reply))

    def next_lookups(self, *answers: LookupAnswer, external_id: str | None = None) -> None:
        """Script the answers to the next lookups, one for each invoice that is looked up.

        Args:
            *answers: The answers, in this order.
            external_id: The id of one invoice; None: any invoice.
        """
        self._lookup_script.queue(self._key(external_id), _checked(answers, lookup_reply))

    def all_lookups(self, answer: LookupAnswer, external_id: str | None = None) -> None:
        """Script the answer to every lookup that has no answer of its own.

        Args:
            answer: The answer; None: derive it from ``truth`` again.
            external_id: The id of one invoice; None: any invoice.
        """
        self._lookup_script.always(self._key(external_id), *_checked([answer], lookup_reply))

    def _key(self, external_id: str | None) -> str | None:
        return None if external_id is None else self.clean_id(external_id)

    # -- calls of the app ----------------------------------------------------------------------------------------

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
        status = status_after(answer, reply)
        if status is not None and self._is_recording:
            self.truth[external_id] = status
        return reply

    def lookup(self, external_ids: Sequence[str]) -> Mapping[str, LookupReply]:
        if not self.supports_lookup:
            raise NotImplementedError("This scripted provider declares no lookup.")
        if len(external_ids) > self.lookup_group_size:
            raise ValueError(f"A lookup has {len(external_ids)} ids; the provider accepts {self.lookup_group_size}.")
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
    """The scripted answers. Queued answers come before permanent ones, then those for one id before those for all."""

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
    """Return the answer itself: raise an exception, or call a function until it returns an answer."""
    if isinstance(answer, BaseException) or (isinstance(answer, type) and issubclass(answer, BaseException)):
        raise answer
    return _carried_out(answer(external_id), external_id) if callable(answer) else answer


def _checked(answers: Sequence[Any], read: Callable[[object], object]) -> Sequence[Any]:
    """Return the answers after a check, so that a misspelt name raises in the line that sets it."""
    for answer in answers:
        if answer is not None and not callable(answer) and not isinstance(answer, BaseException):
            read(answer)
    return answers
