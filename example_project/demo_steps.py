"""The steps of the demo: register, cancel, reconcile, record late money, compare with the providers.

Each step prints its result. Only the ids are specific to the demo: they select the behaviour of the sandbox.
"""

from collections.abc import Sequence

from demo_bulk import cancel_many
from demo_print import cells, heading, history, note, painted

from django_invoice_cancel.exceptions import CancelError
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.services import CancelResult
from django_invoice_cancel.testing.sandbox import SandboxProcess, invoice_id

CASES = (
    # account, behaviour of the sandbox, description
    ("cryptocloud", "ordinary", "open"),
    ("firekassa", "ordinary", "open"),
    ("cryptocloud", "paid", "paid"),
    ("firekassa", "partially_paid", "partly paid"),
    ("cryptocloud", "already_canceled", "canceled yesterday"),
    ("firekassa", "not_found", "unknown there"),
    ("cryptocloud", "silent_after", "open; will be canceled, but no answer will come"),
    ("firekassa_old", "ordinary", "open; our token for this account was revoked"),
)


def run(sandbox: SandboxProcess) -> None:
    """Run all steps."""
    print(f"\nA sandbox in a process of its own plays FireKassa and CryptoCloud: {sandbox.base_url}")
    invoices = register()
    cancel_each(invoices)
    reconcile([invoice for invoice in invoices if invoice.status == "in_doubt"], sandbox)
    take_in_late_money(invoices[0], sandbox)
    compare(invoices, sandbox)
    cancel_many(sandbox)


def register() -> list[Invoice]:
    heading(f"{len(CASES)} invoices, issued long ago, are made known: Invoice.objects.register(...)")
    invoices = []
    for number, (provider, behaviour, is_there) in enumerate(CASES, start=1):
        dialect = provider.removesuffix("_old")
        invoice, _ = Invoice.objects.register(
            provider=provider,
            external_id=invoice_id(dialect, number, behaviour),
            reference=f"order-{number}",
            amount="100.00",
        )
        cells(invoice.external_id, provider, "at the provider:", is_there)
        invoices.append(invoice)
    return invoices


def cancel_each(invoices: Sequence[Invoice]) -> None:
    heading('Each is canceled: invoice.cancel(actor="demo", reason="unpaid for a week")')
    cells("INVOICE", "PROVIDER", "OUTCOME", "MESSAGE, AND THE TRANSITIONS")
    for invoice in invoices:
        result = cancel(invoice)
        cells(invoice.external_id, invoice.provider, painted(result.outcome), str(result.message))
        history(invoice)


def cancel(invoice: Invoice) -> CancelResult:
    try:
        return invoice.cancel(actor="demo", reason="unpaid for a week")
    except CancelError as error:  # CancelRefused, CancelInDoubt, ...: the result contains the same information
        return error.result


def reconcile(invoices: Sequence[Invoice], sandbox: SandboxProcess) -> None:
    heading("What is in doubt is not sent again. It is looked up: invoice.reconcile()")
    for invoice in invoices:
        tell("before", invoice, sandbox)
        result = invoice.reconcile(actor="demo")
        tell("after", invoice, sandbox)
        cells("", "", painted(result.outcome), str(result.message))
        history(invoice)


def take_in_late_money(invoice: Invoice, sandbox: SandboxProcess) -> None:
    heading('Somebody pays a canceled invoice all the same: invoice.observe_status("paid"), from the webhook')
    sandbox.pay(invoice.external_id)
    tell("before", invoice, sandbox)
    invoice.observe_status("paid", trigger="webhook")
    tell("after", invoice, sandbox)
    note("It is flagged (paid_after_cancel_at) and signalled (invoice_paid_after_cancel).")


def compare(invoices: Sequence[Invoice], sandbox: SandboxProcess) -> None:
    heading("In the end: what this database says, and what the providers say")
    cells("INVOICE", "PROVIDER", "HERE", f"{'THERE':<16}ASKED TO CANCEL")
    for invoice in invoices:
        invoice.refresh_from_db()
        there = sandbox.truth(invoice.external_id) or "unknown"
        asked = sandbox.count("cancel", invoice.external_id)
        cells(invoice.external_id, invoice.provider, painted(invoice.status), f"{there:<16}{asked} x")
    note("FireKassa says process where we say created, and partially-paid where we say partially_paid.")


def tell(when: str, invoice: Invoice, sandbox: SandboxProcess) -> None:
    there = sandbox.truth(invoice.external_id) or "unknown"
    cells(invoice.external_id, when, painted(invoice.status), f"at the provider: {there}")
