"""The async methods do the same as the sync ones."""

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient

from django_invoice_cancel.exceptions import CancelInDoubt
from django_invoice_cancel.models import Invoice
from tests.support.clock import travel_forward
from tests.support.invoices import stored
from tests.support.logs import CANCELED_LOG, log_entries, status_and_log

IN_DOUBT = [("created", "canceling", "", ""), ("canceling", "in_doubt", "in_doubt", "provider_error")]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.integration.services.urls")]


def test_acancel_cancels_or_raises(sandbox, register):
    invoice, in_doubt = register(), register("error_500_after")

    async def calls():
        assert (await invoice.acancel(actor="till 3", reason="async")).ok
        with pytest.raises(CancelInDoubt):
            await in_doubt.acancel()

    async_to_sync(calls)()
    assert status_and_log(invoice) == ("canceled", CANCELED_LOG)
    assert status_and_log(in_doubt) == ("in_doubt", IN_DOUBT)
    assert sandbox.count("cancel") == 2


def test_acancel_calls_the_method_of_a_child_class():
    class HurriedInvoice(Invoice):
        class Meta:
            app_label = "tests_async"
            proxy = True

        def cancel(self, *, actor=None, reason="", trigger="api"):
            return f"not now, {actor}: {reason}"

    answer = async_to_sync(HurriedInvoice().acancel)(actor="till 3", reason="async")

    assert answer == "not now, till 3: async"


def test_areconcile_stores_the_status(sandbox, register):
    invoice = register("already_canceled")

    async def calls():
        return await invoice.areconcile()

    with travel_forward(minutes=16):
        assert async_to_sync(calls)().status == "canceled"
    assert sandbox.count("lookup") == 1
    assert sandbox.count("cancel") == 0


def test_aobserve_status_stores_a_status_and_a_status_string(sandbox, register):
    invoice = register()

    async def calls():
        assert await invoice.aobserve_status("partially_paid")
        return await Invoice.objects.aobserve_status("cryptocloud", invoice.external_id, provider_status="paid")

    assert async_to_sync(calls)() == invoice
    assert stored(invoice).status == "paid"


def test_aresolve_stores_the_decision(sandbox, register):
    invoice = register("error_500_after")

    async def calls():
        with pytest.raises(CancelInDoubt):
            await invoice.acancel()
        await invoice.aresolve("canceled", actor="ada", reason="seen in the dashboard")

    async_to_sync(calls)()
    assert status_and_log(invoice) == ("canceled", [*IN_DOUBT, ("in_doubt", "canceled", "", "resolved")])
    assert sandbox.count("cancel") == 1


def test_async_view_cancels(sandbox, register):
    invoice = register()
    response = async_to_sync(AsyncClient().post)(f"/async/{invoice.pk}/")
    assert response.json()["outcome"] == "canceled"
    assert log_entries(invoice) == CANCELED_LOG
    assert sandbox.count("cancel") == 1
