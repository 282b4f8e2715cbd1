"""One request and what becomes of it: arrive, decide, carry out, answer.

The order is the promise: a request is logged first, credentials come before everything else, a cancel is carried out
when it is decided (not when its answer leaves), and a client that hangs up undoes nothing.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from .behaviours import ORDINARY, Answer, Behaviour, CarriesOut, State, behaviour_named, behaviour_of
from .dialect import CANCEL, CREATE, LOOKUP, Dialect, reply_page
from .faults import Step
from .log import Entry
from .wire import Line, Reply, Request, render

if TYPE_CHECKING:
    from .provider import Provider


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
