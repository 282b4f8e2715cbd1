"""``ProviderSandbox``: simulates both providers, as a server in a thread of this process.

It listens on two ports of 127.0.0.1. The first one is the address of the providers. The second one receives control
requests, which therefore work while the providers are down, and requests that followed a redirect. All methods are
thread-safe.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any, Self

from . import control
from .behaviours import InvoiceState, invoice_id
from .config import CREDENTIALS, SandboxConfig, provider_settings
from .faults import EVERY, Gate, Step
from .handler import SandboxState
from .log import LoggedRequest
from .server import Server
from .store import CANCEL
from .wire import Connection, Request, render


class ProviderSandbox:
    """FireKassa and CryptoCloud on one port, with documented answers and with faults.

    A ``with`` block starts and stops it. At its end, an exception in a step, a hook or the sandbox itself is raised.

    Args:
        port: The port of the providers; 0: any free port.
        **config: The fields of ``SandboxConfig``.
    """

    def __init__(self, *, port: int = 0, **config: Any) -> None:
        self._first_config = SandboxConfig(**config)
        self._state = SandboxState(self._first_config)
        self._port = port
        self._new_ids = itertools.count(1)
        self._server = Server(self._receive, self._receive_elsewhere)

    # -- start and stop ---------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start a thread that listens and answers."""
        self._port, elsewhere_port = self._server.start(self._port)
        self._state.base_url = self.base_url
        self._state.elsewhere_url = f"http://127.0.0.1:{elsewhere_port}"
        if self.config.down == "refuse":
            self._server.refuse()
        return self

    def close(self) -> None:
        """Close all connections and stop the thread. Does nothing if the sandbox is closed already."""
        self._server.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        self.close()
        if exc_type is None and self._server.errors:
            raise self._server.errors[0]

    # -- addresses ----------------------------------------------------------------------------------------

    @property
    def base_url(self) -> str:
        """The address of both providers, without a path."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def control_url(self) -> str:
        """The address of control requests. It works also while the providers are down."""
        return f"{self._state.elsewhere_url}/_sandbox"

    def settings(self, **options: Any) -> dict[str, dict[str, Any]]:
        """Return ``INVOICE_CANCEL["PROVIDERS"]`` with the aliases ``firekassa`` and ``cryptocloud``.

        Args:
            **options: More ``OPTIONS``, for both providers.
        """
        return provider_settings(self.config, self.base_url, **options)

    # -- behaviour -----------------------------------------------------------------------------------------

    @property
    def config(self) -> SandboxConfig:
        """The current configuration."""
        return self._state.config

    def configure(self, **changes: Any) -> None:
        """Change fields of ``SandboxConfig`` from the next request on.

        Args:
            **changes: The new values by field.

        Raises:
            ValueError: A field is a credential, which can only be set at the start.
        """
        fixed = CREDENTIALS & changes.keys()
        if fixed:
            raise ValueError(f"{', '.join(sorted(fixed))} can only be set at the start.")
        before, self._state.config = self._state.config, replace(self._state.config, **changes)
        was_refusing, is_refusing = before.down == "refuse", self.config.down == "refuse"
        if is_refusing and not was_refusing:
            self._server.refuse()
        elif was_refusing and not is_refusing:
            self._server.accept_again()

    def script(self, external_id: str, steps: Iterable[Step], *, operation: str = CANCEL) -> None:
        """Script the next requests for an invoice, one step for each request.

        Args:
            external_id: The id of the invoice; ``"*"``: any invoice.
            steps: Names or codes of behaviours, raw bytes, or functions of the request that return either.
            operation: ``cancel``, ``lookup``, ``list``, ``create`` or ``other``.

        Raises:
            ValueError: A step, the operation or the id is invalid.
        """
        self._state.scripts.add(self._id(external_id), steps, operation)

    def hold(self, external_id: str = EVERY, *, operation: str = CANCEL, when: str = "before") -> Gate:
        """Hold requests for an invoice until the gate is released.

        Args:
            external_id: The id of the invoice; ``"*"``: any invoice.
            operation: The operation of the requests.
            when: ``before`` or ``after`` the execution of the request.

        Returns:
            The gate. Its ``wait_arrived`` waits for requests, its ``release`` lets them continue.
        """
        return self._state.gates.add(self._id(external_id), operation, when)

    @property
    def before_answer(self) -> Callable[[LoggedRequest], None] | None:
        """A hook that runs in the sandbox's thread, after a request was executed and before its answer is sent."""
        return self._state.before_answer

    @before_answer.setter
    def before_answer(self, hook: Callable[[LoggedRequest], None] | None) -> None:
        self._state.before_answer = hook

    def reset(self) -> None:
        """Delete invoices, requests, steps and gates, and restore the initial configuration."""
        first = {field.name: getattr(self._first_config, field.name) for field in fields(SandboxConfig)}
        self.configure(**{name: value for name, value in first.items() if name not in CREDENTIALS})
        self._state.before_answer = None
        for part in (self._state.gates, self._state.scripts, self._state.store, self._state.log):
            part.clear()

    # -- invoices at the provider ---------------------------------------------------------------------------------

    def new_id(self, dialect: str, behaviour: str = "ordinary") -> str:
        """Return a new id of an invoice.

        Args:
            dialect: ``firekassa`` or ``cryptocloud``.
            behaviour: The name or code of the behaviour that the id selects.
        """
        return invoice_id(dialect, next(self._new_ids), behaviour)

    def truth(self, external_id: str) -> str | None:
        """Return the provider's status string of an invoice; None if the provider does not know the invoice."""
        invoice = self._state.store.find(self._id(external_id))
        return None if invoice is None else invoice.status

    def truths(self) -> dict[str, str]:
        """Return the provider's status string of every known invoice, by id."""
        return {invoice.external_id: invoice.status for invoice in self._state.store}

    def set_status(self, external_id: str, word: str) -> None:
        """Set the provider's status string of an invoice. Unknown strings are allowed."""
        self._state.store.set_status(self._id(external_id), word)

    def pay(self, external_id: str) -> None:
        """Mark the invoice as paid, regardless of its status."""
        self._state.store.set_state(self._id(external_id), InvoiceState.PAID)

    def carry_out(self, external_id: str) -> bool:
        """Cancel the invoice at the provider without a request. Return whether it was changed."""
        return self._state.store.carry_out(self._id(external_id))

    # -- received requests --------------------------------------------------------------------------------------

    @property
    def requests(self) -> list[LoggedRequest]:
        """A copy of the list of requests that reached the providers, in order of arrival."""
        return self._state.log.requests()

    def count(self, operation: str, external_id: str | None = None) -> int:
        """Return the number of requests for an operation.

        Args:
            operation: ``cancel``, ``lookup``, ``list``, ``create``, ``other`` or ``elsewhere``.
            external_id: The id of one invoice; None: all invoices.
        """
        return self._state.log.count(operation, None if external_id is None else self._id(external_id))

    def summary(self) -> dict[str, dict[str, object]]:
        """Return all counts: ``totals`` by operation, ``counts`` by operation and id, ``executed`` by id."""
        executed: dict[str, object] = {one.external_id: one.executed for one in self._state.store if one.executed}
        return {**self._state.log.summary(), "executed": executed}

    def executed(self, external_id: str) -> int:
        """Return the number of cancel requests that changed the invoice at the provider."""
        invoice = self._state.store.find(self._id(external_id))
        return 0 if invoice is None else invoice.executed

    def timeline(self) -> list[tuple[float, str, str]]:
        """Return (monotonic time in seconds, operation, first id) of every request, in order of arrival."""
        return self._state.log.timeline()

    def wait_until(self, condition: Callable[[], object], timeout: float = 10.0) -> None:
        """Wait until ``condition()`` is true. It is evaluated again after each event in the sandbox.

        Args:
            condition: A function without arguments.
            timeout: Maximum waiting time in seconds.

        Raises:
            TimeoutError: The condition was still false.
        """
        with self._state.changed:
            if not self._state.changed.wait_for(condition, timeout):
                raise TimeoutError(f"The condition was not met within {timeout} s.")

    def _id(self, external_id: str) -> str:
        return external_id if external_id == EVERY else self._state.store.canonical_id(external_id)

    def _receive(self, request: Request, connection: Connection) -> None:
        if request.path.startswith(control.PREFIX):
            connection.send(render(control.answer(self, request)))
        else:
            self._state.receive(request, connection)

    def _receive_elsewhere(self, request: Request, connection: Connection) -> None:
        if request.path.startswith(control.PREFIX):
            connection.send(render(control.answer(self, request)))
        else:
            self._state.receive_elsewhere(request, connection)
