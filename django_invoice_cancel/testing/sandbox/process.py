"""``SandboxProcess``: the sandbox as a child process, with the same controls as ``ProviderSandbox``.

It is for tests and benchmarks in which several processes send requests to one provider. It is also faster, because
the child has its own interpreter. The child exits at the end of the ``with`` block, or when this process is killed.
"""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import IO, Any, Self
from urllib.parse import urlencode, urlsplit

from .config import SandboxConfig, provider_settings
from .store import CANCEL

END_SECONDS = 10.0


class SandboxProcess:
    """A sandbox in a child process. A ``with`` block starts and stops it.

    Args:
        port: The port of the providers; 0: any free port.
        **config: The fields of ``SandboxConfig``.
    """

    def __init__(self, *, port: int = 0, **config: Any) -> None:
        self._first_config = SandboxConfig(**config)
        self._port = port
        self._child: subprocess.Popen[bytes] | None = None
        self.base_url = self.control_url = ""

    # -- start and stop ---------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start the child and wait until it reports its addresses.

        Raises:
            RuntimeError: The child did not start.
        """
        module = "django_invoice_cancel.testing.sandbox"
        config = json.dumps(asdict(self._first_config))
        arguments = ["--port", str(self._port), "--exit-with-parent", "--json", "--config", "-"]
        self._child = subprocess.Popen(  # noqa: S603 - our own module, literal arguments
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C in a terminal must not end the provider before the processes that wait for its answers.
            start_new_session=True,
        )
        # The tokens go through stdin: a command line can be read by every user of the machine.
        _pipe(self._child.stdin).write(config.encode() + b"\n")
        _pipe(self._child.stdin).flush()
        line = _pipe(self._child.stdout).readline()
        if not line:
            self.close()
            raise RuntimeError("The sandbox did not start. See its stderr for the reason.")
        addresses = json.loads(line)
        self.base_url, self.control_url = addresses["base_url"], addresses["control_url"]
        return self

    @property
    def pid(self) -> int:
        """The child's process id."""
        if self._child is None:
            raise RuntimeError("The sandbox is not running.")
        return self._child.pid

    def close(self) -> None:
        """Terminate the child and wait for its exit. Does nothing if it is closed already."""
        child, self._child = self._child, None
        if child is None:
            return
        _pipe(child.stdin).close()
        child.terminate()  # if another process inherited the pipe, its end is never seen
        try:
            child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        _pipe(child.stdout).close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def settings(self, **options: Any) -> dict[str, dict[str, Any]]:
        """Return ``INVOICE_CANCEL["PROVIDERS"]`` with the aliases ``firekassa`` and ``cryptocloud``.

        Args:
            **options: More ``OPTIONS``, for both providers.
        """
        return provider_settings(self._first_config, self.base_url, **options)

    # -- controls -----------------------------------------------------------------------------------------

    def configure(self, **changes: Any) -> None:
        """Change fields of ``SandboxConfig`` from the next request on.

        Args:
            **changes: The new values by field.

        Raises:
            ValueError: A field is a credential, which can only be set at the start.
        """
        self._post("control", {"configure": changes})

    def script(
        self, external_id: str, steps: Iterable[str | bytes], *, operation: str = CANCEL, forever: bool = False
    ) -> None:
        """Script the next requests for an invoice, one step for each request.

        Args:
            external_id: The id of the invoice; ``"*"``: any invoice.
            steps: Names or codes of behaviours, or raw bytes.
            operation: ``cancel``, ``lookup``, ``list``, ``create`` or ``other``.
            forever: Whether the steps are repeated without end.

        Raises:
            ValueError: A step, the operation or the id is invalid.
        """
        plain = [step if isinstance(step, str) else {"raw": step.decode("latin-1")} for step in steps]
        script = {"id": external_id, "steps": plain, "operation": operation, "forever": forever}
        self._post("control", {"script": [script]})

    def set_status(self, external_id: str, word: str) -> None:
        """Set the provider's status string of an invoice. Unknown strings are allowed."""
        self._post("control", {"set_status": {external_id: word}})

    def pay(self, external_id: str) -> None:
        """Mark the invoice as paid, regardless of its status."""
        self._post("control", {"pay": [external_id]})

    def reset(self) -> None:
        """Delete invoices, requests and steps, and restore the initial configuration."""
        self._post("reset", {})

    def truth(self, external_id: str) -> str | None:
        """Return the provider's status string of an invoice; None if the provider does not know the invoice."""
        word: str | None = self._get("truth", id=external_id)[external_id]
        return word

    def truths(self) -> dict[str, str]:
        """Return the provider's status string of every known invoice, by id."""
        words: dict[str, str] = self._get("truth")
        return words

    def count(self, operation: str, external_id: str | None = None) -> int:
        """Return the number of requests for an operation.

        Args:
            operation: ``cancel``, ``lookup``, ``list``, ``create``, ``other`` or ``elsewhere``.
            external_id: The id of one invoice; None: all invoices.
        """
        named = {} if external_id is None else {"id": external_id}
        return int(self._get("count", operation=operation, **named)["count"])

    def executed(self, external_id: str) -> int:
        """Return the number of cancel requests that changed the invoice at the provider."""
        return int(self._get("count", id=external_id)["executed"])

    def summary(self) -> dict[str, dict[str, Any]]:
        """Return all counts: ``totals`` by operation, ``counts`` by operation and id, ``executed`` by id."""
        summary: dict[str, dict[str, Any]] = self._get("requests")
        return summary

    def timeline(self) -> list[tuple[float, str, str]]:
        """Return (monotonic time in seconds, operation, first id) of every request, in order of arrival."""
        return [(seconds, operation, first) for seconds, operation, first in self._get("timeline")]

    @staticmethod
    def wait_until(condition: Callable[[], object], timeout: float = 10.0, *, every: float = 0.02) -> None:
        """Evaluate ``condition()`` repeatedly until it is true.

        Args:
            condition: A function without arguments.
            timeout: Maximum waiting time in seconds.
            every: Interval between two evaluations, in seconds.

        Raises:
            TimeoutError: The condition was still false.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"The condition was not met within {timeout} s.")
            time.sleep(every)

    def _get(self, name: str, **query: str) -> Any:
        return self._ask("GET", f"{name}?{urlencode(query)}", None)

    def _post(self, name: str, body: Mapping[str, object]) -> None:
        self._ask("POST", name, json.dumps(body))

    def _ask(self, method: str, name: str, body: str | None) -> Any:
        address = urlsplit(self.control_url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
        try:
            connection.request(method, f"{address.path}/{name}", body)
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(answer["error"])
        return answer


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("The child has no pipe.")
    return pipe
