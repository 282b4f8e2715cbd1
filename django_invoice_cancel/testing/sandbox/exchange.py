"""The state of both providers in one place, and what can be set on it.

Finds out whom a request is for and hands it to an ``Exchange``; decides nothing about invoices itself.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Condition

from .behaviours import ORDINARY, Answer, Behaviour, CarriesOut, State, behaviour_named, behaviour_of
from .cryptocloud import CryptoCloudDialect
from .faults import Holds, Scripts, Step
from .firekassa import FireKassaDialect
from .log import Entry, LoggedRequest, RequestLog
from .store import CANCEL, CREATE, LOOKUP, Books, Dialect, reply_page
from .wire import Line, Reply, Request, render


class Exchange:
    """One request, from its arrival to its answer."""

    __slots__ = ("dialect", "entry", "line", "provider", "question", "request")

    def __init__(self, provider: "Provider", dialect: Dialect, request: Request, line: Line) -> None:
        self.provider, self.dialect, self.request, self.line = provider, dialect, request, line
        self.question = dialect.read(request)
        self.entry = Entry(request, dialect.name, self.question.operation, self.question.external_ids)

    def arrive(self) -> None:
        """Log the request, then decide, unless the provider is down or a test holds it."""
        self.provider.log.enter(self.entry, keep=self.provider.knobs.keep_requests)
        if self.provider.knobs.down:
            return
        self.provider.holds.pass_through(self.question, "before", self.decide)

    def decide(self) -> None:
        """Turn the request down, or do with it what the script, else the id says."""
        objection = self.objection()
        if objection is not None:
            self.finish(ORDINARY, objection)
        elif (step := self.provider.scripts.next(self.question)) is not None:
            self.follow(step)
        else:
            self.behave(self.behaviour_by_id())

    def objection(self) -> Reply | None:
        """Return the answer to a request that is turned down as it stands."""
        objection = self.dialect.objection(self.request)
        if objection is None and not self.provider.is_within_rate(self.dialect):
            objection = self.dialect.rate_limited(self.provider.knobs.retry_after_seconds)
        return objection or self.question.complaint

    def behaviour_by_id(self) -> Behaviour:
        """Return what the id picks: a fault strikes the first cancel alone."""
        if self.question.operation != CANCEL:
            return ORDINARY
        invoice = self.provider.books.find(self.question.external_ids[0])
        if invoice is None or not self.provider.books.count_cancel(invoice):
            return ORDINARY
        behaviour = behaviour_of(invoice.external_id)
        return behaviour if behaviour.born is State.OPEN else ORDINARY

    def follow(self, step: Step) -> None:
        """Do what a scripted step says."""
        result = step if isinstance(step, str | bytes) else step(self.entry.public())
        if isinstance(result, bytes):
            self.line.send(result, close=True)
        else:
            self.follow_behaviour(behaviour_named(result or ORDINARY.name))

    def follow_behaviour(self, behaviour: Behaviour) -> None:
        """Meet the invoice as the behaviour says, whatever its id says."""
        if behaviour.born is None:
            self.finish(ORDINARY, self.unknown())
        elif behaviour.born is State.OPEN:
            self.behave(behaviour)
        else:
            self.put(behaviour.born)
            self.behave(ORDINARY)

    def put(self, state: State) -> None:
        """Write a state on the invoices that are asked about."""
        for external_id in self.question.external_ids:
            self.provider.books.put(external_id, state)

    def behave(self, behaviour: Behaviour) -> None:
        """Carry the request out as the behaviour says, then go on to the answer."""
        reply = Reply(500, b"", "text/plain")  # of what is not carried out, the behaviour brings its own answer
        if behaviour.carries_out is CarriesOut.YES:
            reply = self.carry_out()
        elif behaviour.carries_out is CarriesOut.LATE:
            asyncio.get_running_loop().call_later(self.provider.knobs.late_seconds, self.carry_out)
        if behaviour.is_paid_before_answer:
            self.put(State.PAID)
        self.finish(behaviour, reply)

    def finish(self, behaviour: Behaviour, reply: Reply) -> None:
        """Answer, unless a test holds the answer."""
        if self.provider.before_answer is not None:
            self.provider.before_answer(self.entry.public())
        self.provider.holds.pass_through(self.question, "after", lambda: self.answer(behaviour.answer, reply))

    def answer(self, answer: Answer, reply: Reply) -> None:
        """Let the answer go, when the latency is over."""
        knobs = self.provider.knobs
        seconds = knobs.latency_of(self.dialect.name) + (knobs.slow_seconds if answer is Answer.SLOW else 0.0)
        if seconds:
            asyncio.get_running_loop().call_later(seconds, self.deliver, answer, reply)
        else:
            self.deliver(answer, reply)

    # -- carrying out -----------------------------------------------------------------------------------------

    def carry_out(self) -> Reply:
        """Do what was asked for and return the ordinary answer."""
        books, question = self.provider.books, self.question
        if question.operation == CANCEL:
            return self.cancel(question.external_ids[0])
        if question.operation == LOOKUP:
            return self.dialect.looked_up([found for id_ in question.external_ids if (found := books.find(id_))])
        if question.operation == CREATE:
            return self.dialect.created(books.create(self.dialect, **question.fields), self.provider.base_url)
        mine = [invoice for invoice in books if books.dialect_of(invoice.external_id) is self.dialect]
        return self.provider.cryptocloud.listed(mine, question.fields)

    def cancel(self, external_id: str) -> Reply:
        """Cancel the invoice if it is open, and return the ordinary answer."""
        books, dialect = self.provider.books, self.dialect
        invoice = books.find(external_id)
        if invoice is None:
            return dialect.not_found()
        if books.carry_out(external_id):
            self.entry.executed = True
            return dialect.canceled()
        is_repeat = invoice.status == dialect.words[State.CANCELED] and dialect is self.provider.firekassa
        return dialect.canceled() if is_repeat and self.provider.knobs.repeat_is_ok else dialect.not_open()

    def unknown(self) -> Reply:
        """Return the answer about an invoice that the provider does not know."""
        is_lookup = self.question.operation == LOOKUP
        return self.dialect.looked_up([]) if is_lookup else self.dialect.not_found()

    # -- the wire ---------------------------------------------------------------------------------------------

    def deliver(self, answer: Answer, reply: Reply) -> None:
        """Put the answer on the wire, or what the behaviour makes of it."""
        special = _SPECIAL.get(answer)
        if special is not None:
            special(self, reply)
        else:
            self.line.send(render(_REPLIES[answer](self) if answer in _REPLIES else reply))

    def cut_body(self, reply: Reply) -> None:
        """End the connection before the body is what Content-Length said."""
        cut = reply._replace(body=reply.body[:1])
        self.line.send(render(cut, length=len(reply.body)), close=True)

    def redirect(self) -> Reply:
        """Return a redirect to the other port."""
        return reply_page(302)._replace(headers=(("Location", self.provider.elsewhere_url + self.request.path),))


_SPECIAL: Mapping[Answer, Callable[[Exchange, Reply], None]] = {
    Answer.SILENCE: lambda exchange, reply: None,
    Answer.RESET: lambda exchange, reply: exchange.line.reset(),
    Answer.CLOSE: lambda exchange, reply: exchange.line.close(),
    Answer.CUT_HEADERS: lambda exchange, reply: exchange.line.send(b"HTTP/1.1 200 OK\r\nContent-Ty", close=True),
    Answer.CUT_BODY: Exchange.cut_body,
    Answer.DRIP: lambda exchange, reply: exchange.line.drip(render(reply), exchange.provider.knobs.drip_seconds),
}
_REPLIES: Mapping[Answer, Callable[[Exchange], Reply]] = {
    Answer.SERVER_ERROR: lambda exchange: exchange.dialect.server_error(),
    Answer.UNAVAILABLE: lambda exchange: reply_page(503),
    Answer.RATE_LIMITED: lambda exchange: exchange.dialect.rate_limited(exchange.provider.knobs.retry_after_seconds),
    Answer.REJECTED_CREDENTIALS: lambda exchange: exchange.dialect.rejected_credentials(),
    Answer.FORBIDDEN: lambda exchange: exchange.dialect.forbidden(),
    Answer.GARBAGE: lambda exchange: Reply(200, b'{"status": "succ\x00\xff'),
    Answer.HTML: lambda exchange: reply_page(200),
    Answer.REDIRECT: Exchange.redirect,
    Answer.ECHO: lambda exchange: exchange.dialect.echo(exchange.request.headers.get("authorization", "")),
}


CREDENTIALS = frozenset({"firekassa_token", "cryptocloud_key", "sign_token"})
"""The knobs that can be set at the start only."""


@dataclass(frozen=True)
class Knobs:
    """What can be set on a sandbox, at its start and while it runs."""

    firekassa_token: str = "sandbox-firekassa-token"  # noqa: S105 - invented, and public
    cryptocloud_key: str = "sandbox-cryptocloud-key"
    sign_token: str | None = None
    """With one, FireKassa demands a right ``Signature``."""
    latency: float | Mapping[str, float] = 0.0
    """Seconds between carrying out and answering; a mapping sets it by dialect."""
    rate: float | None = None
    """Requests a second that each dialect accepts; the rest get 429."""
    down: str = ""
    """``silent``: no request is answered or carried out; ``refuse``: no connection is accepted."""
    late_seconds: float = 3.0
    """How long after its arrival a ``late`` cancel is carried out."""
    slow_seconds: float = 2.0
    """How long a ``slow`` answer takes."""
    drip_seconds: float = 1.0
    """The time between two bytes of a ``drip``."""
    retry_after_seconds: int = 1
    repeat_is_ok: bool = False
    """Whether FireKassa confirms the cancel of an invoice that is canceled already (nobody knows if it does)."""
    keep_requests: bool = True
    """Whether requests are kept whole; without, only their times and counts."""

    def __post_init__(self) -> None:
        if self.down not in ("", "silent", "refuse"):
            raise ValueError(f"down is '', 'silent' or 'refuse', not {self.down!r}.")

    def latency_of(self, dialect: str) -> float:
        """Return the seconds that an answer takes."""
        return self.latency.get(dialect, 0.0) if isinstance(self.latency, Mapping) else self.latency


class Provider:
    """Both providers' state: all that an exchange needs to know."""

    def __init__(self, knobs: Knobs) -> None:
        self.changed = Condition()
        self.knobs: Knobs = knobs
        self.firekassa = FireKassaDialect(knobs.firekassa_token, knobs.sign_token)
        self.cryptocloud = CryptoCloudDialect(knobs.cryptocloud_key)
        dialects: dict[str, Dialect] = {"firekassa": self.firekassa, "cryptocloud": self.cryptocloud}
        self.books = Books(dialects, self.changed)
        self.log = RequestLog(self.changed)
        self.scripts = Scripts(self.changed)
        self.holds = Holds(self.changed)
        self.before_answer: Callable[[LoggedRequest], None] | None = None
        self.base_url = self.elsewhere_url = ""
        self._accepted: dict[str, deque[float]] = {name: deque() for name in dialects}

    def dialect_at(self, path: str) -> Dialect | None:
        """Return who answers at this path."""
        if path.startswith("/api/v2/"):
            return self.firekassa
        return self.cryptocloud if path.startswith("/v2/") else None

    def is_within_rate(self, dialect: Dialect) -> bool:
        """Book a request, or say that the dialect has had enough for this second."""
        if self.knobs.rate is None:
            return True
        now, accepted = time.monotonic(), self._accepted[dialect.name]
        while accepted and accepted[0] <= now - 1:
            accepted.popleft()
        if len(accepted) >= self.knobs.rate:
            return False
        accepted.append(now)
        return True

    def receive(self, request: Request, line: Line) -> None:
        """Begin the exchange of a request that arrived at the provider's port."""
        dialect = self.dialect_at(request.path)
        if dialect is None:
            line.send(render(reply_page(404, b"<h1>404 Not Found</h1>")))
        else:
            Exchange(self, dialect, request, line).arrive()

    def receive_elsewhere(self, request: Request, line: Line) -> None:
        """Note a request that arrived where only a followed redirect leads, and answer as if all were well."""
        self.log.enter(Entry(request, "", "elsewhere", ()), keep=self.knobs.keep_requests)
        line.send(render(Reply(200, b"{}")))
