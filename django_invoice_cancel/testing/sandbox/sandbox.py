"""``ProviderSandbox``: the stand-in for both providers, as a server in a thread of this process.

It listens on 127.0.0.1, on two ports. The first is the providers' address. The second receives requests that followed
a redirect, and control requests, so that these work while the providers are down. Every method is thread-safe.
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

    ``with ProviderSandbox() as sandbox`` starts and stops it. Keyword arguments are the fields of ``SandboxConfig``.
    An exception in a step, a hook or the sandbox itself is raised at the end of the ``with`` block.
    """

    def __init__(self, *, port: int = 0, **config: Any) -> None:
        self._first_config = SandboxConfig(**config)
        self._state = SandboxState(self._first_config)
        self._port = port
        self._new_ids = itertools.count(1)
        self._server = Server(self._receive, self._receive_elsewhere)

    # -- start and stop ---------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen, and answer in a separate thread."""
        self._port, elsewhere_port = self._server.start(self._port)
        self._state.base_url = self.base_url
        self._state.elsewhere_url = f"http://127.0.0.1:{elsewhere_port}"
        if self.config.down == "refuse":
            self._server.refuse()
        return self

    def close(self) -> None:
        """Close all connections and stop the thread. Does nothing if it was closed before."""
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
        """The address of control requests; it works also while the providers are down."""
        return f"{self._state.elsewhere_url}/_sandbox"

    def settings(self, **options: Any) -> dict[str, dict[str, Any]]:
        """Return ``INVOICE_CANCEL["PROVIDERS"]`` with ``firekassa`` and ``cryptocloud``; options go to both."""
        return provider_settings(self.config, self.base_url, **options)

    # -- behaviour -----------------------------------------------------------------------------------------

    @property
    def config(self) -> SandboxConfig:
        """The current configuration."""
        return self._state.config

    def configure(self, **changes: Any) -> None:
        """Set fields of ``SandboxConfig``, other than the credentials, from the next request on."""
        fixed = CREDENTIALS & changes.keys()
        if fixed:
            raise ValueError(f"{', '.join(sorted(fixed))} can be set at the start only.")
        before, self._state.config = self._state.config, replace(self._state.config, **changes)
        was_refusing, is_refusing = before.down == "refuse", self.config.down == "refuse"
        if is_refusing and not was_refusing:
            self._server.refuse()
        elif was_refusing and not is_refusing:
            self._server.accept_again()

    def script(self, external_id: str, steps: Iterable[Step], *, operation: str = CANCEL) -> None:
        """Apply one step to each of the next requests for an invoice (``"*"``: any invoice)."""
        self._state.scripts.add(self._id(external_id), steps, operation)

    def hold(self, external_id: str = EVERY, *, operation: str = CANCEL, when: str = "before") -> Gate:
        """Hold requests about an invoice ``before`` or ``after`` they are carried out, until released."""
        return self._state.gates.add(self._id(external_id), operation, when)

    @property
    def before_answer(self) -> Callable[[LoggedRequest], None] | None:
        """A hook that is called in the sandbox's thread, after a request is executed and before its answer is sent."""
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
        """Return an id that was not used before, of an invoice with this behaviour."""
        return invoice_id(dialect, next(self._new_ids), behaviour)

    def truth(self, external_id: str) -> str | None:
        """Return the provider's status string of an invoice; None if the provider does not know it."""
        invoice = self._state.store.find(self._id(external_id))
        return None if invoice is None else invoice.status

    def truths(self) -> dict[str, str]:
        """Return the status of every known invoice, by id."""
        return {invoice.external_id: invoice.status for invoice in self._state.store}

    def set_status(self, external_id: str, word: str) -> None:
        """Set the provider's status string of an invoice, known or not."""
        self._state.store.set_status(self._id(external_id), word)

    def pay(self, external_id: str) -> None:
        """Mark the invoice as paid, whatever its status is."""
        self._state.store.set_state(self._id(external_id), InvoiceState.PAID)

    def carry_out(self, external_id: str) -> bool:
        """Cancel the invoice at the provider, without a request; return whether that changed it."""
        return self._state.store.carry_out(self._id(external_id))

    # -- received requests --------------------------------------------------------------------------------------

    @property
    def requests(self) -> list[LoggedRequest]:
        """The requests that reached the providers, in order of arrival; a copy."""
        return self._state.log.requests()

    def count(self, operation: str, external_id: str | None = None) -> int:
        """Return the number of requests for an operation, of all invoices or of one."""
        return self._state.log.count(operation, None if external_id is None else self._id(external_id))

    def summary(self) -> dict[str, dict[str, object]]:
        """Return all counts: ``totals`` by operation, ``counts`` by operation and id, ``executed`` by id."""
        executed: dict[str, object] = {one.external_id: one.executed for one in self._state.store if one.executed}
        return {**self._state.log.summary(), "executed": executed}

    def executed(self, external_id: str) -> int:
        """Return how many cancel requests changed the invoice at the provider."""
        invoice = self._state.store.find(self._id(external_id))
        return 0 if invoice is None else invoice.executed

    def timeline(self) -> list[tuple[float, str, str]]:
        """Return (monotonic time, operation, first id) of every request, in order of arrival."""
        return self._state.log.timeline()

    def wait_until(self, condition: Callable[[], object], timeout: float = 10.0) -> None:
        """Wait until ``condition()`` is true; raise ``TimeoutError`` after ``timeout`` seconds."""
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
