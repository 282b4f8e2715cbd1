"""The state of both providers, and the handling of one request from arrival to answer."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from threading import Condition

from .behaviours import ORDINARY, AnswerKind, Behaviour, Execution, InvoiceState, behaviour_named, behaviour_of
from .config import SandboxConfig
from .cryptocloud import CryptoCloudDialect
from .faults import Gates, Scripts, Step
from .firekassa import FireKassaDialect
from .log import LogEntry, LoggedRequest, RequestLog
from .store import CANCEL, CREATE, LOOKUP, Dialect, InvoiceStore, reply_page
from .wire import Connection, Reply, Request, render


class RequestHandler:
    """Handles one request, from arrival to answer."""

    __slots__ = ("connection", "dialect", "entry", "parsed", "request", "state")

    def __init__(self, state: "SandboxState", dialect: Dialect, request: Request, connection: Connection) -> None:
        self.state, self.dialect, self.request, self.connection = state, dialect, request, connection
        self.parsed = dialect.read(request)
        self.entry = LogEntry(request, dialect.name, self.parsed.operation, self.parsed.external_ids)

    def arrive(self) -> None:
        """Log the request, and process it unless the provider is down or a gate holds it."""
        self.state.log.enter(self.entry, keep=self.state.config.keep_requests)
        if self.state.config.down:
            return
        self.state.gates.pass_through(self.parsed, "before", self.process)

    def process(self) -> None:
        """Reject the request, or apply its scripted step or the behaviour of its id."""
        error = self.rejection()
        if error is not None:
            self.finish(ORDINARY, error)
        elif (step := self.state.scripts.next(self.parsed)) is not None:
            self.follow_step(step)
        else:
            self.apply(self.behaviour_of_id())

    def rejection(self) -> Reply | None:
        """Return the answer that rejects the request (credentials, rate, syntax); None if it is accepted."""
        error = self.dialect.credentials_error(self.request)
        if error is None and not self.state.accept_within_rate(self.dialect):
            error = self.dialect.reply_rate_limited(self.state.config.retry_after_seconds)
        return error or self.parsed.error

    def behaviour_of_id(self) -> Behaviour:
        """Return the behaviour that the id selects. Faults apply only to the first cancel request."""
        if self.parsed.operation != CANCEL:
            return ORDINARY
        invoice = self.state.store.find(self.parsed.external_ids[0])
        if invoice is None or not self.state.store.count_cancel(invoice):
            return ORDINARY
        behaviour = behaviour_of(invoice.external_id)
        return behaviour if behaviour.initial_state is InvoiceState.OPEN else ORDINARY

    def follow_step(self, step: Step) -> None:
        """Apply a scripted step."""
        result = step if isinstance(step, str | bytes) else step(self.entry.public())
        if isinstance(result, bytes):
            self.connection.send(result, close=True)
        else:
            self.apply_whole(behaviour_named(result or ORDINARY.name))

    def apply_whole(self, behaviour: Behaviour) -> None:
        """Apply a behaviour including its initial state. The behaviour that the id selects is ignored."""
        if behaviour.initial_state is None:
            self.finish(ORDINARY, self.not_found())
        elif behaviour.initial_state is InvoiceState.OPEN:
            self.apply(behaviour)
        else:
            self.set_state(behaviour.initial_state)
            self.apply(ORDINARY)

    def set_state(self, state: InvoiceState) -> None:
        """Set the state of the invoices of this request."""
        for external_id in self.parsed.external_ids:
            self.state.store.set_state(external_id, state)

    def apply(self, behaviour: Behaviour) -> None:
        """Execute the request as the behaviour defines, then answer it."""
        reply = Reply(500, b"", "text/plain")  # replaced unless the behaviour does not execute the request
        if behaviour.execution is Execution.YES:
            reply = self.carry_out()
        elif behaviour.execution is Execution.LATE:
            asyncio.get_running_loop().call_later(self.state.config.late_seconds, self.carry_out)
        if behaviour.is_paid_before_answer:
            self.set_state(InvoiceState.PAID)
        self.finish(behaviour, reply)

    def finish(self, behaviour: Behaviour, reply: Reply) -> None:
        """Send the answer now, or after the release if a gate holds it."""
        if self.state.before_answer is not None:
            self.state.before_answer(self.entry.public())
        self.state.gates.pass_through(self.parsed, "after", lambda: self.answer(behaviour.answer, reply))

    def answer(self, answer: AnswerKind, reply: Reply) -> None:
        """Send the answer after the latency."""
        config = self.state.config
        seconds = config.latency_of(self.dialect.name) + (config.slow_seconds if answer is AnswerKind.SLOW else 0.0)
        if seconds:
            asyncio.get_running_loop().call_later(seconds, self.deliver, answer, reply)
        else:
            self.deliver(answer, reply)

    # -- execution -----------------------------------------------------------------------------------------

    def carry_out(self) -> Reply:
        """Execute the request and return the ordinary answer."""
        store, parsed = self.state.store, self.parsed
        if parsed.operation == CANCEL:
            return self.cancel(parsed.external_ids[0])
        if parsed.operation == LOOKUP:
            return self.dialect.reply_lookup([found for id_ in parsed.external_ids if (found := store.find(id_))])
        if parsed.operation == CREATE:
            return self.dialect.reply_created(store.create(self.dialect, **parsed.fields), self.state.base_url)
        invoices = [invoice for invoice in store if store.dialect_of(invoice.external_id) is self.dialect]
        return self.state.cryptocloud.reply_list(invoices, parsed.fields)

    def cancel(self, external_id: str) -> Reply:
        """Cancel the invoice if it is open, and return the ordinary answer."""
        store, dialect = self.state.store, self.dialect
        invoice = store.find(external_id)
        if invoice is None:
            return dialect.reply_not_found()
        if store.carry_out(external_id):
            self.entry.executed = True
            return dialect.reply_canceled()
        is_repeat = invoice.status == dialect.words[InvoiceState.CANCELED] and dialect is self.state.firekassa
        return dialect.reply_canceled() if is_repeat and self.state.config.repeat_is_ok else dialect.reply_not_open()

    def not_found(self) -> Reply:
        """Return the answer for an invoice that the provider does not know."""
        is_lookup = self.parsed.operation == LOOKUP
        return self.dialect.reply_lookup([]) if is_lookup else self.dialect.reply_not_found()

    # -- answers ---------------------------------------------------------------------------------------------

    def deliver(self, answer: AnswerKind, reply: Reply) -> None:
        """Send the answer, or the fault that replaces it."""
        special = _SPECIAL.get(answer)
        if special is not None:
            special(self, reply)
        else:
            self.connection.send(render(_REPLIES[answer](self) if answer in _REPLIES else reply))

    def cut_body(self, reply: Reply) -> None:
        """Close the connection before the whole body was sent."""
        cut = reply._replace(body=reply.body[:1])
        self.connection.send(render(cut, length=len(reply.body)), close=True)

    def redirect(self) -> Reply:
        """Return a redirect to the other port."""
        return reply_page(302)._replace(headers=(("Location", self.state.elsewhere_url + self.request.path),))


_SPECIAL: Mapping[AnswerKind, Callable[[RequestHandler, Reply], None]] = {
    AnswerKind.SILENCE: lambda handler, reply: None,
    AnswerKind.RESET: lambda handler, reply: handler.connection.reset(),
    AnswerKind.CLOSE: lambda handler, reply: handler.connection.close(),
    AnswerKind.CUT_HEADERS: lambda handler, reply: handler.connection.send(
        b"HTTP/1.1 200 OK\r\nContent-Ty", close=True
    ),
    AnswerKind.CUT_BODY: RequestHandler.cut_body,
    AnswerKind.DRIP: lambda handler, reply: handler.connection.drip(render(reply), handler.state.config.drip_seconds),
}
_REPLIES: Mapping[AnswerKind, Callable[[RequestHandler], Reply]] = {
    AnswerKind.SERVER_ERROR: lambda handler: handler.dialect.reply_server_error(),
    AnswerKind.UNAVAILABLE: lambda handler: reply_page(503),
    AnswerKind.RATE_LIMITED: lambda handler: handler.dialect.reply_rate_limited(
        handler.state.config.retry_after_seconds
    ),
    AnswerKind.REJECTED_CREDENTIALS: lambda handler: handler.dialect.reply_bad_credentials(),
    AnswerKind.FORBIDDEN: lambda handler: handler.dialect.reply_forbidden(),
    AnswerKind.GARBAGE: lambda handler: Reply(200, b'{"status": "succ\x00\xff'),
    AnswerKind.HTML: lambda handler: reply_page(200),
    AnswerKind.REDIRECT: RequestHandler.redirect,
    AnswerKind.ECHO: lambda handler: handler.dialect.reply_echo(handler.request.headers.get("authorization", "")),
}


class SandboxState:
    """The state of both providers."""

    def __init__(self, config: SandboxConfig) -> None:
        self.changed = Condition()
        self.config: SandboxConfig = config
        self.firekassa = FireKassaDialect(config.firekassa_token, config.sign_token)
        self.cryptocloud = CryptoCloudDialect(config.cryptocloud_key)
        dialects: dict[str, Dialect] = {"firekassa": self.firekassa, "cryptocloud": self.cryptocloud}
        self.store = InvoiceStore(dialects, self.changed)
        self.log = RequestLog(self.changed)
        self.scripts = Scripts(self.changed)
        self.gates = Gates(self.changed)
        self.before_answer: Callable[[LoggedRequest], None] | None = None
        self.base_url = self.elsewhere_url = ""
        self._accepted: dict[str, deque[float]] = {name: deque() for name in dialects}

    def dialect_at(self, path: str) -> Dialect | None:
        """Return the dialect for a path."""
        if path.startswith("/api/v2/"):
            return self.firekassa
        return self.cryptocloud if path.startswith("/v2/") else None

    def accept_within_rate(self, dialect: Dialect) -> bool:
        """Count a request. Return False if the rate of the current second is exceeded."""
        if self.config.rate is None:
            return True
        now, accepted = time.monotonic(), self._accepted[dialect.name]
        while accepted and accepted[0] <= now - 1:
            accepted.popleft()
        if len(accepted) >= self.config.rate:
            return False
        accepted.append(now)
        return True

    def receive(self, request: Request, connection: Connection) -> None:
        """Handle a request to the port of the providers."""
        dialect = self.dialect_at(request.path)
        if dialect is None:
            connection.send(render(reply_page(404, b"<h1>404 Not Found</h1>")))
        else:
            RequestHandler(self, dialect, request, connection).arrive()

    def receive_elsewhere(self, request: Request, connection: Connection) -> None:
        """Log a request to the target of a redirect, and answer it with 200."""
        self.log.enter(LogEntry(request, "", "elsewhere", ()), keep=self.config.keep_requests)
        connection.send(render(Reply(200, b"{}")))
