"""One rule by which an invoice's id picks its behaviour: its last two characters are a code of this table.

Pure data: nothing here knows HTTP. An id whose last two characters are no code is ordinary, so nothing misbehaves
by accident of spelling alone; faults strike the first cancel of an invoice, every later one is answered ordinarily.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """What an invoice is at the provider; each dialect has its own word for it."""

    OPEN = "open"
    PARTIALLY_PAID = "partially paid"
    PAID = "paid"
    OVERPAID = "overpaid"
    CANCELED = "canceled"
    EXPIRED = "expired"
    FAILED = "failed"
    ODD = "in a status that no client knows"


class CarriesOut(StrEnum):
    """Whether a cancel that meets the behaviour changes the provider's truth."""

    YES = "yes"
    NO = "no"
    LATE = "late"


class Answer(StrEnum):
    """What comes back over the wire."""

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
    """A row of the table."""

    code: str
    name: str
    says: str
    """What the invoice is and what its first cancel meets, for people."""
    born: State | None = State.OPEN
    """What an invoice with this code is when it is first asked for; None: the provider does not know it."""
    carries_out: CarriesOut = CarriesOut.YES
    answer: Answer = Answer.ORDINARY
    is_paid_before_answer: bool = False


_YES, _NO, _LATE = CarriesOut.YES, CarriesOut.NO, CarriesOut.LATE

BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour("00", "ordinary", "open: canceled and confirmed"),
    Behaviour("01", "paid", "holds the money asked for: refused", State.PAID, _NO),
    Behaviour("02", "partially_paid", "holds part of the money: refused", State.PARTIALLY_PAID, _NO),
    Behaviour("03", "overpaid", "holds more than asked: refused", State.OVERPAID, _NO),
    Behaviour("04", "already_canceled", "canceled before: refused", State.CANCELED, _NO),
    Behaviour("05", "expired", "its lifetime is over (CryptoCloud calls that canceled): refused", State.EXPIRED, _NO),
    Behaviour("06", "failed", "its payment failed (CryptoCloud calls that canceled): refused", State.FAILED, _NO),
    Behaviour("07", "odd_status", "in a status whose word no client knows: refused", State.ODD, _NO),
    Behaviour("09", "not_found", "unknown to the provider: FireKassa 404, not in CryptoCloud's info", None, _NO),
    Behaviour("10", "silent_after", "canceled, and no answer ever comes", answer=Answer.SILENCE),
    Behaviour("11", "silent_before", "no answer ever comes", State.OPEN, _NO, Answer.SILENCE),
    Behaviour("12", "late", "no answer ever comes; canceled some seconds later", State.OPEN, _LATE, Answer.SILENCE),
    Behaviour("13", "reset_after", "canceled, then the connection is reset", answer=Answer.RESET),
    Behaviour("14", "reset_before", "the connection is reset", State.OPEN, _NO, Answer.RESET),
    Behaviour("15", "close_after", "canceled, then the connection is closed without a word", answer=Answer.CLOSE),
    Behaviour("16", "cut_headers", "canceled; the answer ends within its headers", answer=Answer.CUT_HEADERS),
    Behaviour("17", "cut_body", "canceled; the answer ends within its body", answer=Answer.CUT_BODY),
    Behaviour("20", "error_500_after", "canceled, then 500", answer=Answer.SERVER_ERROR),
    Behaviour("21", "error_500_before", "500", State.OPEN, _NO, Answer.SERVER_ERROR),
    Behaviour("22", "unavailable", "503", State.OPEN, _NO, Answer.UNAVAILABLE),
    Behaviour("23", "rate_limited", "429 with Retry-After", State.OPEN, _NO, Answer.RATE_LIMITED),
    Behaviour(
        "24",
        "bad_credentials",
        "the credentials are rejected: FireKassa 401, CryptoCloud 400",
        State.OPEN,
        _NO,
        Answer.REJECTED_CREDENTIALS,
    ),
    Behaviour(
        "25", "forbidden", "403: FireKassa a Cloudflare page, CryptoCloud `detail`", State.OPEN, _NO, Answer.FORBIDDEN
    ),
    Behaviour("30", "garbage", "canceled, then 200 with a body that is no JSON", answer=Answer.GARBAGE),
    Behaviour("31", "html", "200 with a Cloudflare page", State.OPEN, _NO, Answer.HTML),
    Behaviour("32", "redirect", "302 to another port", State.OPEN, _NO, Answer.REDIRECT),
    Behaviour("33", "drip", "canceled; the answer comes a byte at a time", answer=Answer.DRIP),
    Behaviour("34", "slow", "canceled; the answer comes some seconds later", answer=Answer.SLOW),
    Behaviour("35", "paid_before_answer", "canceled and paid, then confirmed", is_paid_before_answer=True),
    Behaviour("36", "echo", "an error that repeats the Authorization header", State.OPEN, _NO, Answer.ECHO),
)

BY_CODE: Mapping[str, Behaviour] = MappingProxyType({behaviour.code: behaviour for behaviour in BEHAVIOURS})
BY_NAME: Mapping[str, Behaviour] = MappingProxyType({behaviour.name: behaviour for behaviour in BEHAVIOURS})
ORDINARY = BY_NAME["ordinary"]


def behaviour_of(external_id: str) -> Behaviour:
    """Return the behaviour that the id picks."""
    return BY_CODE.get(external_id[-2:], ORDINARY)


def behaviour_named(name: str) -> Behaviour:
    """Return the behaviour with this name or code; ``ValueError`` names the ones there are."""
    found = BY_NAME.get(name) or BY_CODE.get(name)
    if found is None:
        raise ValueError(f"{name!r} is no behaviour of the sandbox; there are {', '.join(BY_NAME)}.")
    return found


def invoice_id(dialect: str, number: int, behaviour: str = "ordinary") -> str:
    """Return the id of an invoice of ``dialect`` that has ``behaviour``: a different one for each ``number``."""
    code = behaviour_named(behaviour).code
    if dialect == "firekassa":
        return f"{7_000_000 + number}{code}"
    if dialect == "cryptocloud":
        return f"INV-{_base36(number).rjust(6, '0')}{code}"
    raise ValueError(f"{dialect!r} is no dialect of the sandbox; there are firekassa, cryptocloud.")


def markdown_table() -> str:
    """Return the table as it stands in the docs."""
    head = ["| code | name | the invoice, and what its first cancel meets | carried out |", "|---|---|---|---|"]
    rows = [f"| `{row.code}` | `{row.name}` | {row.says} | {row.carries_out} |" for row in BEHAVIOURS]
    return "\n".join(head + rows)


def plain_table() -> str:
    """Return the table as the command prints it."""
    return "\n".join(f"  {row.code}  {row.name:<19} {row.carries_out:<5} {row.says}" for row in BEHAVIOURS)


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[digit] + digits
    return digits
