"""``ProviderSandbox``: the stand-in for both providers, as a server in a thread of this process.

Listens on 127.0.0.1 alone, on two ports: one is the providers' address, the other takes what a followed redirect
brings and the control requests, so that those work while the providers are down. Every method is thread-safe.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any, Self

from . import control
from .behaviours import State, invoice_id
from .exchange import CREDENTIALS, Knobs, Provider
from .faults import EVERY, Held, Step
from .log import LoggedRequest
from .server import Server
from .store import CANCEL
from .wire import Line, Request, render


class ProviderSandbox:
    """FireKassa and CryptoCloud on one port, answering as documented, or wrongly on purpose.

    ``with ProviderSandbox() as sandbox`` starts and ends it. Keyword arguments are the fields of ``Knobs``. An
    exception in a step, a hook or the sandbox itself is raised where the ``with`` block ends.
    """

    def __init__(self, *, port: int = 0, **knobs: Any) -> None:
        self._first_knobs = Knobs(**knobs)
        self._provider = Provider(self._first_knobs)
        self._port = port
        self._new_ids = itertools.count(1)
        self._server = Server(self._receive, self._receive_elsewhere)

    # -- its life ---------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen, and answer from a thread of its own."""
        self._port, elsewhere_port = self._server.start(self._port)
        self._provider.base_url = self.base_url
        self._provider.elsewhere_url = f"http://127.0.0.1:{elsewhere_port}"
        if self.knobs.down == "refuse":
            self._server.refuse()
        return self

    def close(self) -> None:
        """End every connection and the thread. Does nothing the second time."""
        self._server.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        self.close()
        if exc_type is None and self._server.errors:
            raise self._server.errors[0]

    # -- its addresses ----------------------------------------------------------------------------------------

    @property
    def base_url(self) -> str:
        """The address of both providers, without a path."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def control_url(self) -> str:
        """Where the control requests go also while the providers are down."""
        return f"{self._provider.elsewhere_url}/_sandbox"

    def settings(self, **options: Any) -> dict[str, dict[str, Any]]:
        """Return ``INVOICE_CANCEL["PROVIDERS"]`` with ``firekassa`` and ``cryptocloud``; options go to both."""
        return provider_settings(self.knobs, self.base_url, **options)

    # -- what it does -----------------------------------------------------------------------------------------

    @property
    def knobs(self) -> Knobs:
        """What is set now."""
        return self._provider.knobs

    def configure(self, **changes: Any) -> None:
        """Set fields of ``Knobs``, other than the credentials, from the next request on."""
        fixed = CREDENTIALS & changes.keys()
        if fixed:
            raise ValueError(f"{', '.join(sorted(fixed))} can be set at the start only.")
        before, self._provider.knobs = self._provider.knobs, replace(self._provider.knobs, **changes)
        was_refusing, is_refusing = before.down == "refuse", self.knobs.down == "refuse"
        if is_refusing and not was_refusing:
            self._server.refuse()
        elif was_refusing and not is_refusing:
            self._server.accept_again()

    def script(self, external_id: str, steps: Iterable[Step], *, operation: str = CANCEL) -> None:
        """Let the next requests about an invoice (``"*"``: about any) meet these steps, one each."""
        self._provider.scripts.add(self._id(external_id), steps, operation)

    def hold(self, external_id: str = EVERY, *, operation: str = CANCEL, when: str = "before") -> Held:
        """Hold requests about an invoice ``before`` or ``after`` they are carried out, until released."""
        return self._provider.holds.add(self._id(external_id), operation, when)

    @property
    def before_answer(self) -> Callable[[LoggedRequest], None] | None:
        """A hook, called in the sandbox's thread between carrying out and answering."""
        return self._provider.before_answer

    @before_answer.setter
    def before_answer(self, hook: Callable[[LoggedRequest], None] | None) -> None:
        self._provider.before_answer = hook

    def reset(self) -> None:
        """Forget invoices, requests, steps and holds, and set what can be set back to the start."""
        first = {field.name: getattr(self._first_knobs, field.name) for field in fields(Knobs)}
        self.configure(**{name: value for name, value in first.items() if name not in CREDENTIALS})
        self._provider.before_answer = None
        for part in (self._provider.holds, self._provider.scripts, self._provider.books, self._provider.log):
            part.clear()

    # -- the provider's truth ---------------------------------------------------------------------------------

    def new_id(self, dialect: str, behaviour: str = "ordinary") -> str:
        """Return an id that was not used before, of an invoice with this behaviour."""
        return invoice_id(dialect, next(self._new_ids), behaviour)

    def truth(self, external_id: str) -> str | None:
        """Return the invoice's status in the provider's word; None where the provider does not know it."""
        invoice = self._provider.books.find(self._id(external_id))
        return None if invoice is None else invoice.status

    def truths(self) -> dict[str, str]:
        """Return the status of every invoice that was ever asked for, by id."""
        return {invoice.external_id: invoice.status for invoice in self._provider.books}

    def set_status(self, external_id: str, word: str) -> None:
        """Write a status in the provider's word, known or not."""
        self._provider.books.set_status(self._id(external_id), word)

    def pay(self, external_id: str) -> None:
        """Let the money arrive, whatever the invoice is now."""
        self._provider.books.put(self._id(external_id), State.PAID)

    def carry_out(self, external_id: str) -> bool:
        """Cancel the invoice at the provider, without a request; say whether that changed it."""
        return self._provider.books.carry_out(self._id(external_id))

    # -- what reached it --------------------------------------------------------------------------------------

    @property
    def requests(self) -> list[LoggedRequest]:
        """The requests that reached the providers, in order of arrival; a copy."""
        return self._provider.log.requests()

    def count(self, operation: str, external_id: str | None = None) -> int:
        """Return how many requests asked for the operation, all of them or those that named the invoice."""
        return self._provider.log.count(operation, None if external_id is None else self._id(external_id))

    def summary(self) -> dict[str, dict[str, object]]:
        """Return all counts: ``totals`` by operation, ``counts`` by operation and id, ``executed`` by id."""
        executed: dict[str, object] = {one.external_id: one.executed for one in self._provider.books if one.executed}
        return {**self._provider.log.summary(), "executed": executed}

    def executed(self, external_id: str) -> int:
        """Return how many times a cancel changed the provider's truth about the invoice."""
        invoice = self._provider.books.find(self._id(external_id))
        return 0 if invoice is None else invoice.executed

    def timeline(self) -> list[tuple[float, str, str]]:
        """Return (monotonic time, operation, first id) of every request, in order of arrival."""
        return self._provider.log.timeline()

    def wait_until(self, condition: Callable[[], object], timeout: float = 10.0) -> None:
        """Wait for a request or a change of the truth after which ``condition()`` holds, else ``TimeoutError``."""
        with self._provider.changed:
            if not self._provider.changed.wait_for(condition, timeout):
                raise TimeoutError(f"Not so within {timeout} s.")

    def _id(self, external_id: str) -> str:
        return external_id if external_id == EVERY else self._provider.books.canonical(external_id)

    def _receive(self, request: Request, line: Line) -> None:
        if request.path.startswith(control.PREFIX):
            line.send(render(control.answer(self, request)))
        else:
            self._provider.receive(request, line)

    def _receive_elsewhere(self, request: Request, line: Line) -> None:
        if request.path.startswith(control.PREFIX):
            line.send(render(control.answer(self, request)))
        else:
            self._provider.receive_elsewhere(request, line)


def provider_settings(knobs: Knobs, base_url: str, **options: Any) -> dict[str, dict[str, Any]]:
    """Return ``INVOICE_CANCEL["PROVIDERS"]`` for a sandbox at ``base_url``."""
    signed = {"sign_token": knobs.sign_token} if knobs.sign_token is not None else {}
    firekassa = {"base_url": base_url, "api_token": knobs.firekassa_token, **signed, **options}
    cryptocloud = {"base_url": base_url, "api_key": knobs.cryptocloud_key, **options}
    return {
        "firekassa": {"BACKEND": "django_invoice_cancel.providers.firekassa.FireKassa", "OPTIONS": firekassa},
        "cryptocloud": {"BACKEND": "django_invoice_cancel.providers.cryptocloud.CryptoCloud", "OPTIONS": cryptocloud},
    }
