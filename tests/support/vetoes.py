"""The function of the setting VETO in the tests. It gives the answers that a test sets, and stores its calls."""

from typing import Any

from django_invoice_cancel.models import Invoice
from django_invoice_cancel.testing import ScriptedProvider

SHIPPED = "The goods are shipped."


class ShopRule:
    """Answers for each invoice; an exception is raised, and a function is called with the invoice."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.answer: Any = None
        """The answer about invoices without their own."""
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []
        """The ids of the invoices that the package asked about."""

    def forbid(self, *invoices: Invoice, answer: Any = SHIPPED) -> None:
        """Give this answer about these invoices, or about all."""
        self.answers |= {invoice.external_id: answer for invoice in invoices}
        if not invoices:
            self.answer = answer

    def allow(self) -> None:
        self.answer, self.answers = None, {}

    def __call__(self, invoice: Invoice) -> Any:
        self.asked.append(invoice.external_id)
        answer = self.answers.get(invoice.external_id, self.answer)
        if isinstance(answer, BaseException):
            raise answer
        return answer(invoice) if callable(answer) else answer


RULE = ShopRule()
PATH = "tests.support.vetoes.RULE"


def count_requests() -> int:
    """Return the number of cancel requests that reached the scripted accounts."""
    return sum(ScriptedProvider.of(alias).cancel_count for alias in ("firekassa", "cryptocloud"))
