"""Dispatch an operation to its workers: within a time limit, and never to more workers than requested.

A dispatched message contains only the id of the operation, so messages cannot be distinguished. They are counted
instead. A further dispatch marks the earlier messages as surplus, and the same number of messages end when they arrive.
"""

from __future__ import annotations

import contextvars
import inspect
import logging
import re
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, models
from django.db.models import Case, F, IntegerField, Value, When
from django.db.models.functions import Greatest

from .. import conf, registry
from ..domain.clock import utc_now
from ..domain.secrets import MASK, mask
from .fields import InstantField
from .values import storable, write_texts

if TYPE_CHECKING:
    from .typed import Text, TimeOrNone

logger = logging.getLogger("django_invoice_cancel")

QUIET = timedelta(minutes=2)
"""An operation without a heartbeat for this time is interrupted."""

DISPATCH_SECONDS = 10.0
"""Maximum seconds that the start of an operation waits for the dispatcher, for all its messages together."""
DISPATCH_BACK_OFF = (QUIET, timedelta(minutes=10), timedelta(hours=1))
"""Time without a heartbeat before an operation is dispatched again, by the number of dispatches without effect."""
ERROR_LENGTH = 200
"""Maximum length of a stored error of the dispatcher, in characters."""
_USER_INFO = re.compile(r"(?<=://)[^\s'\"]+(?=@)")
_ASSIGNED = re.compile(r"""((?:password|passwd|secret|token|api_?key)['"]?\s?[=:]\s?['"]?)[^\s'",;)]+""", re.IGNORECASE)
"""Credentials in the text of an error: in the address of a broker, and after a name such as ``password=``."""


class Dispatched(models.Model):
    """The messages of an operation: those in the queue, and those that are surplus."""

    chains = models.PositiveIntegerField(default=0, editable=False)
    surplus_chains = models.PositiveIntegerField(default=0, editable=False)
    joined_chains = models.PositiveIntegerField(default=0, editable=False)
    is_drained = models.BooleanField(default=False, editable=False)
    unanswered = models.PositiveIntegerField(default=0, editable=False)
    dispatched_at: TimeOrNone = InstantField(null=True, blank=True, editable=False)
    dispatch_error: Text = models.CharField(max_length=ERROR_LENGTH, blank=True, editable=False)

    class Meta:
        abstract = True

    @property
    def _own_row(self) -> models.QuerySet[Any]:
        manager: Any = type(self)._default_manager
        rows: models.QuerySet[Any] = manager.using(self._state.db).filter(pk=self.pk)
        return rows

    @property
    def last_activity_at(self) -> datetime | None:
        """The time of the last heartbeat (before the first one: the start) or dispatch, whichever is later.

        A failed dispatch does not count.
        """
        row: Any = self
        times = (row.worked_at or row.started_at, None if self.has_failed_dispatch else self.dispatched_at)
        return max((each for each in times if each is not None), default=None)

    @property
    def has_started(self) -> bool:
        """True if a message has arrived, or a worker has been active, since the last dispatch."""
        row: Any = self
        is_newer = row.worked_at is not None and (self.dispatched_at is None or row.worked_at > self.dispatched_at)
        return self.joined_chains > 0 or is_newer

    @property
    def has_failed_dispatch(self) -> bool:
        """True if the last call of the dispatcher failed, and no worker has been active since."""
        return bool(self.dispatch_error) and not self.has_started

    @property
    def is_dispatch_due(self) -> bool:
        """True if a sweep may dispatch it again. Messages without effect may still wait for busy workers."""
        quiet = DISPATCH_BACK_OFF[min(self.unanswered, len(DISPATCH_BACK_OFF) - 1)]
        return self.last_activity_at is None or self.last_activity_at < utc_now() - quiet

    def join_chain(self) -> bool:
        """Count a message that arrived. Return False if it is surplus and enough others have arrived."""
        surplus = {"surplus_chains__gt": 0, "joined_chains__gte": F("workers")}
        ended = {"surplus_chains": F("surplus_chains") - 1, "is_drained": True}
        if self.surplus_chains and self._own_row.filter(**surplus).update(**ended):
            return False
        is_counted = self.chains or self.surplus_chains
        if is_counted and (self.joined_chains < getattr(self, "workers", 1) or self.is_drained or self.unanswered):
            self._own_row.update(joined_chains=F("joined_chains") + 1, is_drained=False, unanswered=0)
        return True

    def leave_chain(self, count: int = 1) -> None:
        """Count messages that are not sent again."""
        try:
            self._own_row.filter(chains__gt=0).update(chains=Greatest(F("chains"), Value(count)) - count)
        except DatabaseError:  # then a later dispatch marks too many messages as surplus
            logger.warning("A message of bulk operation %s was not counted.", self.pk)

    def send_messages(self, count: int) -> None:
        """Call the dispatcher ``count`` times; raise its first error, or ``TimeoutError`` if it does not return."""
        # If a surplus message ended and then no message arrived, the earlier ones were lost, so none is surplus. The
        # order of the columns matters: MySQL reads the new values of the columns to the left.
        surplus = Case(
            When(is_drained=True, surplus_chains=0, then=Value(0)),
            default=F("surplus_chains") + F("chains"),
            output_field=IntegerField(),
        )
        self.dispatched_at, self.dispatch_error, self.joined_chains = utc_now(), "", 0
        self._own_row.update(
            surplus_chains=surplus,
            chains=count,
            joined_chains=0,
            is_drained=False,
            dispatched_at=self.dispatched_at,
            dispatch_error="",
        )
        calls = _Calls(str(conf.get().dispatch), str(self.pk), count)
        try:
            calls.make()
        except BaseException as error:
            self._store_dispatch_error(error)
            raise
        finally:
            if calls.failed:
                self.leave_chain(calls.failed)

    def _store_dispatch_error(self, error: BaseException) -> None:
        def write(texts: list[str]) -> None:
            self.dispatch_error = texts[0][:ERROR_LENGTH]
            self._own_row.update(dispatch_error=self.dispatch_error)

        try:
            write_texts(write, [describe_dispatch_error(error)], using=self._state.db or "default")
        except DatabaseError:  # the error of the dispatcher is raised and logged by the caller
            logger.warning("The dispatch error of bulk operation %s was not stored.", self.pk)


class _Calls:
    """Calls of the dispatcher in a separate thread, because a broker may accept a connection and never answer."""

    def __init__(self, path: str, key: str, count: int) -> None:
        self.failed = count
        """Number of messages that were certainly not sent."""
        self._path, self._key, self._count = path, key, count
        self._error: BaseException | None = None
        self._is_given_up = False

    def make(self) -> None:
        """Make the calls; raise the first error."""
        call = dispatcher(self._path)
        if getattr(call, "uses_database", False):  # in the caller's connection and transaction
            self._work(call)
        else:
            context = contextvars.copy_context()
            thread = threading.Thread(target=lambda: context.run(self._work_in_thread, call), daemon=True)
            thread.start()
            thread.join(DISPATCH_SECONDS)
            if thread.is_alive():
                self._is_given_up = True
                self.failed = 0  # the message may still be sent
                raise TimeoutError(f"The dispatcher {self._path} has not returned after {DISPATCH_SECONDS:g} s.")
        if self._error is not None:
            raise self._error

    def _work(self, call: Callable[[str], Any]) -> None:
        for _number in range(self._count):
            if self._is_given_up:
                return
            try:
                _refuse_awaitable(self._path, call(self._key))
                self.failed -= 1
            except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
                self._error = self._error or error

    def _work_in_thread(self, call: Callable[[str], Any]) -> None:
        try:
            self._work(call)
        finally:
            connections.close_all()  # the connections of this thread


def describe_dispatch_error(error: BaseException) -> str:
    """Return the class and the first line of a dispatcher's exception, with credentials masked, as it is stored."""
    line = next(iter(str(error).splitlines()), "")
    secrets = [
        secret for alias in registry.aliases() if (known := registry.last_known(alias)) for secret in known.secrets
    ]
    text = mask(_ASSIGNED.sub(rf"\1{MASK}", _USER_INFO.sub(MASK, line)), secrets)
    return storable(f"{type(error).__name__}: {text}" if text else type(error).__name__, ERROR_LENGTH)


def dispatcher(path: str) -> Callable[[str], Any]:
    """Return the function in ``DISPATCH``. Raises ``ImproperlyConfigured`` if it cannot be imported, or is async."""
    call: Callable[[str], Any] = registry.resolve(path)
    if is_async(call):
        raise _never_runs(path)
    return call


def is_async(call: object) -> bool:
    """Return whether a call only makes a coroutine."""
    own_call = vars(type(call)).get("__call__")
    return any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in (call, own_call))


def _refuse_awaitable(path: str, returned: object) -> None:
    if inspect.iscoroutine(returned):
        returned.close()
        raise _never_runs(path)


def _never_runs(path: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(
        f"INVOICE_CANCEL['DISPATCH'], {path!r}, is an async function, which would never run: name a plain function."
    )
