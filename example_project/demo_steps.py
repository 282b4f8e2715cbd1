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
    ("firekassa", "not_found", "unknown"),
    ("cryptocloud", "silent_after", "open; will be canceled without an answer"),
    ("firekassa_old", "ordinary", "open; our token for this account was revoked"),
)


def run(sandbox: SandboxProcess) -> None:
    """Run all steps."""
    print(f"\nThe sandbox for FireKassa and CryptoCloud runs in a separate process: {sandbox.base_url}")
    invoices = register()
    cancel_each(invoices)
    reconcile([invoice for invoice in invoices if invoice.status == "in_doubt"], sandbox)
    record_late_payment(invoices[0], sandbox)
    compare(invoices, sandbox)
    cancel_many(sandbox)


def register() -> list[Invoice]:
    heading(f"{len(CASES)} existing invoices are registered: Invoice.objects.register(...)")
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
    heading('Each invoice is canceled: invoice.cancel(actor="demo", reason="unpaid for a week")')
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
    heading("The invoice in doubt is looked up and not canceled again: invoice.reconcile()")
    for invoice in invoices:
        print_status("before", invoice, sandbox)
        result = invoice.reconcile(actor="demo")
        print_status("after", invoice, sandbox)
        cells("", "", painted(result.outcome), str(result.message))
        history(invoice)


def record_late_payment(invoice: Invoice, sandbox: SandboxProcess) -> None:
    heading('A canceled invoice is paid, as the webhook reports: invoice.observe_status("paid")')
    sandbox.pay(invoice.external_id)
    print_status("before", invoice, sandbox)
    invoice.observe_status("paid", trigger="webhook")
    print_status("after", invoice, sandbox)
    note("The invoice is flagged (paid_after_cancel_at), and the signal invoice_paid_after_cancel is sent.")


def compare(invoices: Sequence[Invoice], sandbox: SandboxProcess) -> None:
    heading("The statuses in the database are compared with those at the providers")
    cells("INVOICE", "PROVIDER", "DATABASE", f"{'AT PROVIDER':<16}CANCEL REQUESTS")
    for invoice in invoices:
        invoice.refresh_from_db()
        there = sandbox.truth(invoice.external_id) or "unknown"
        asked = sandbox.count("cancel", invoice.external_id)
        cells(invoice.external_id, invoice.provider, painted(invoice.status), f"{there:<16}{asked} x")
    note("FireKassa's status strings process and partially-paid mean created and partially_paid.")


def print_status(when: str, invoice: Invoice, sandbox: SandboxProcess) -> None:
    there = sandbox.truth(invoice.external_id) or "unknown"
    cells(invoice.external_id, when, painted(invoice.status), f"at the provider: {there}")
