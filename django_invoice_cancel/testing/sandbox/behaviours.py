"""The table of behaviours. The last two characters of an invoice id select one; other ids are ordinary.

Faults apply to the first cancel request of an invoice. Later ones get the ordinary answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class InvoiceState(StrEnum):
    """The state of an invoice at the provider; each dialect has its own status string for it."""

    OPEN = "open"
    PARTIALLY_PAID = "partially paid"
    PAID = "paid"
    OVERPAID = "overpaid"
    CANCELED = "canceled"
    EXPIRED = "expired"
    FAILED = "failed"
    ODD = "in a status that no client knows"


class Execution(StrEnum):
    """Execution of the cancellation: at once, never or late."""

    YES = "yes"
    NO = "no"
    LATE = "late"


class AnswerKind(StrEnum):
    """The kind of answer that is sent."""

    ORDINARY = "ordinary"
    SILENCE = "silence"
    RESET = "reset"
    CLOSE = "close"
    CUT_HEADERS = "cut headers"
    CUT_BODY = "cut body"
    SERVER_ERROR = "500"
    UNAVAILABLE = "503"
    RATE_LIMITED = "429"
    REJECTED_CREDENTIALS = "rejected credentials"
    FORBIDDEN = "403"
    GARBAGE = "garbage"
    HTML = "HTML"
    REDIRECT = "302"
    DRIP = "drip"
    SLOW = "slow"
    ECHO = "echo"


@dataclass(frozen=True)
class Behaviour:
    """One row of the table."""

    code: str
    name: str
    description: str
    """The state of the invoice and the result of its first cancel request, as text."""
    initial_state: InvoiceState | None = InvoiceState.OPEN
    """The state of an invoice with this code at its first request; None: the provider does not know it."""
    execution: Execution = Execution.YES
    answer: AnswerKind = AnswerKind.ORDINARY
    is_paid_before_answer: bool = False


_YES, _NO, _LATE = Execution.YES, Execution.NO, Execution.LATE

BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour("00", "ordinary", "open; canceled and confirmed"),
    Behaviour("01", "paid", "paid; the request is refused", InvoiceState.PAID, _NO),
    Behaviour("02", "partially_paid", "partially paid; the request is refused", InvoiceState.PARTIALLY_PAID, _NO),
    Behaviour("03", "overpaid", "overpaid; the request is refused", InvoiceState.OVERPAID, _NO),
    Behaviour("04", "already_canceled", "already canceled; the request is refused", InvoiceState.CANCELED, _NO),
    Behaviour("05", "expired", "expired (at CryptoCloud: canceled); the request is refused", InvoiceState.EXPIRED, _NO),
    Behaviour("06", "failed", "failed (at CryptoCloud: canceled); the request is refused", InvoiceState.FAILED, _NO),
    Behaviour("07", "odd_status", "in an unknown status; the request is refused", InvoiceState.ODD, _NO),
    Behaviour(
        "09", "not_found", "unknown to the provider: FireKassa answers 404, CryptoCloud's lookup omits it", None, _NO
    ),
    Behaviour("10", "silent_after", "canceled; no answer is sent", answer=AnswerKind.SILENCE),
    Behaviour("11", "silent_before", "no answer is sent", InvoiceState.OPEN, _NO, AnswerKind.SILENCE),
    Behaviour(
        "12", "late", "no answer is sent; canceled some seconds later", InvoiceState.OPEN, _LATE, AnswerKind.SILENCE
    ),
    Behaviour("13", "reset_after", "canceled; then the connection is reset", answer=AnswerKind.RESET),
    Behaviour("14", "reset_before", "the connection is reset", InvoiceState.OPEN, _NO, AnswerKind.RESET),
    Behaviour(
        "15", "close_after", "canceled; then the connection is closed without an answer", answer=AnswerKind.CLOSE
    ),
    Behaviour("16", "cut_headers", "canceled; the answer is cut in its headers", answer=AnswerKind.CUT_HEADERS),
    Behaviour("17", "cut_body", "canceled; the answer is cut in its body", answer=AnswerKind.CUT_BODY),
    Behaviour("20", "error_500_after", "canceled; then 500", answer=AnswerKind.SERVER_ERROR),
    Behaviour("21", "error_500_before", "500", InvoiceState.OPEN, _NO, AnswerKind.SERVER_ERROR),
    Behaviour("22", "unavailable", "503", InvoiceState.OPEN, _NO, AnswerKind.UNAVAILABLE),
    Behaviour("23", "rate_limited", "429 with Retry-After", InvoiceState.OPEN, _NO, AnswerKind.RATE_LIMITED),
    Behaviour(
        "24",
        "bad_credentials",
        "rejected credentials: FireKassa answers 401, CryptoCloud 400",
        InvoiceState.OPEN,
        _NO,
        AnswerKind.REJECTED_CREDENTIALS,
    ),
    Behaviour(
        "25",
        "forbidden",
        "403, at FireKassa with a Cloudflare page, at CryptoCloud with `detail`",
        InvoiceState.OPEN,
        _NO,
        AnswerKind.FORBIDDEN,
    ),
    Behaviour("30", "garbage", "canceled; then 200 with a body that is not JSON", answer=AnswerKind.GARBAGE),
    Behaviour("31", "html", "200 with a Cloudflare page", InvoiceState.OPEN, _NO, AnswerKind.HTML),
    Behaviour("32", "redirect", "302 to another port", InvoiceState.OPEN, _NO, AnswerKind.REDIRECT),
    Behaviour("33", "drip", "canceled; the answer is sent byte by byte", answer=AnswerKind.DRIP),
    Behaviour("34", "slow", "canceled; the answer is sent some seconds later", answer=AnswerKind.SLOW),
    Behaviour("35", "paid_before_answer", "canceled and paid; then confirmed", is_paid_before_answer=True),
    Behaviour("36", "echo", "an error that repeats the Authorization header", InvoiceState.OPEN, _NO, AnswerKind.ECHO),
)

BY_CODE: Mapping[str, Behaviour] = MappingProxyType({behaviour.code: behaviour for behaviour in BEHAVIOURS})
BY_NAME: Mapping[str, Behaviour] = MappingProxyType({behaviour.name: behaviour for behaviour in BEHAVIOURS})
ORDINARY = BY_NAME["ordinary"]


def behaviour_of(external_id: str) -> Behaviour:
    """Return the behaviour that an id selects."""
    return BY_CODE.get(external_id[-2:], ORDINARY)


def behaviour_named(name: str) -> Behaviour:
    """Return the behaviour with this name or code; ``ValueError`` lists the known names."""
    found = BY_NAME.get(name) or BY_CODE.get(name)
    if found is None:
        raise ValueError(f"{name!r} is not a behaviour of the sandbox. Choose from {', '.join(BY_NAME)}.")
    return found


def invoice_id(dialect: str, number: int, behaviour: str = "ordinary") -> str:
    """Return an id with this behaviour. Each ``number`` results in another id."""
    code = behaviour_named(behaviour).code
    if dialect == "firekassa":
        return f"{7_000_000 + number}{code}"
    if dialect == "cryptocloud":
        return f"INV-{_base36(number).rjust(6, '0')}{code}"
    raise ValueError(f"{dialect!r} is not a dialect of the sandbox. Choose from firekassa, cryptocloud.")


def markdown_table() -> str:
    """Return the table in Markdown, for the docs."""
    head = [
        "| code | name | the invoice, and the result of its first cancel request | carried out |",
        "|---|---|---|---|",
    ]
    rows = [f"| `{row.code}` | `{row.name}` | {row.description} | {row.execution} |" for row in BEHAVIOURS]
    return "\n".join(head + rows)


def plain_table() -> str:
    """Return the table as plain text, for the command."""
    return "\n".join(f"  {row.code}  {row.name:<19} {row.execution:<5} {row.description}" for row in BEHAVIOURS)


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[digit] + digits
    return digits
