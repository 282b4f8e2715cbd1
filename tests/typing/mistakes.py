# pyright: strict
"""Mistakes that type checkers find, each with mypy's name of the rule. It is never run."""

from datetime import timedelta

from django_invoice_cancel.bulk import cancel_invoices
from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.services import cancel_invoice

invoice = Invoice.objects.get()

# Methods that do not exist.
Invoice.objects.cancelabel()  # error: attr-defined
Invoice.objects.filter(pk=1).cancelabel()  # error: attr-defined
Invoice.objects.needing_atention()  # error: attr-defined
Invoice.objects.registr(provider="shop", external_id="1")  # error: attr-defined
Invoice.objects.cancel()  # error: attr-defined
Invoice.objects.delete()  # error: attr-defined
found = Invoice.objects.unpaid_since(timedelta(days=7)).cancel().result  # error: attr-defined
invoice.cancle()  # error: attr-defined
invoice.get_status_displays()  # error: attr-defined
invoice.transition.all()  # error: attr-defined
invoice.transitions.histories()  # error: attr-defined
invoice.transitions.filter(code="canceled").histories()  # error: attr-defined
invoice.acancle()  # error: attr-defined
status = Invoice.Status.PAYED  # error: attr-defined
number = invoice.refrence  # error: attr-defined
BulkOperation.objects.unfinnished()  # error: attr-defined

# Keywords that do not exist, or are missing.
Invoice.objects.register(provider="shop", external_id="1", refrence="order-17")  # error: call-arg
Invoice.objects.register(external_id="1")  # error: call-arg
Invoice.objects.register_many([], actr="import")  # error: call-arg
Invoice.objects.observe_status("shop", "1", provider_state="success")  # error: call-arg
Invoice.objects.cancelable(refused=True)  # error: call-arg
Invoice.objects.cancelable().cancel(resaon="unpaid")  # error: call-arg
Invoice.objects.aregister(provider="shop", external_id="1", refrence="order-17")  # error: call-arg
Invoice.objects.aobserve_status("shop", "1", provider_state="success")  # error: call-arg
invoice.cancel(resaon="unpaid")  # error: call-arg
invoice.acancel(resaon="unpaid")  # error: call-arg
invoice.cancel_on_commit(user=None)  # error: call-arg
invoice.observe_status(provider_state="success")  # error: call-arg
invoice.reconcile(resend=True)  # error: call-arg
invoice.areconcile(resend=True)  # error: call-arg
invoice.resolve("canceled", actor="shop")  # error: call-arg
invoice.aresolve("canceled", actor="shop")  # error: call-arg
invoice.withdraw(note="paid")  # error: call-arg
invoice.mark_handled(actor="shop", reason="delivered")  # error: call-arg
cancel_invoice(invoice, by="shop")  # error: call-arg
cancel_invoices(Invoice.objects.all(), rates=20)  # error: call-arg

# Values of another type.
Invoice.objects.register(provider="shop", external_id="1", amount=10.5)  # error: arg-type
Invoice.objects.register(provider="shop", external_id=None)  # error: arg-type
Invoice.objects.unpaid_since(7)  # error: arg-type
invoice.cancel(reason=17)  # error: arg-type
cancel_invoices(BulkOperation.objects.all())  # error: arg-type
