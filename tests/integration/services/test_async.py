"""The async methods do the same as the sync ones."""

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient

from django_invoice_cancel.exceptions import CancelInDoubt
from django_invoice_cancel.models import Invoice
from tests.support.clock import travel_forward
from tests.support.invoices import stored
from tests.support.logs import CANCELED_LOG, log_entries, status_and_log

LOST = [("created", "canceling", "", ""), ("canceling", "in_doubt", "in_doubt", "provider_error")]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.integration.services.urls")]


def test_acancel_cancels_or_raises(sandbox, register):
    invoice, lost = register(), register("error_500_after")

    async def story():
        assert (await invoice.acancel(actor="till 3", reason="async")).ok
        with pytest.raises(CancelInDoubt):
            await lost.acancel()

    async_to_sync(story)()
    assert status_and_log(invoice) == ("canceled", CANCELED_LOG)
    assert status_and_log(lost) == ("in_doubt", LOST)
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


def test_areconcile_finds_out(sandbox, register):
    invoice = register("already_canceled")

    async def story():
        return await invoice.areconcile()

    with travel_forward(minutes=16):
        assert async_to_sync(story)().status == "canceled"
    assert sandbox.count("lookup") == 1
    assert sandbox.count("cancel") == 0


def test_aobserve_status_takes_in_both_forms(sandbox, register):
    invoice = register()

    async def story():
        assert await invoice.aobserve_status("partially_paid")
        return await Invoice.objects.aobserve_status("cryptocloud", invoice.external_id, provider_status="paid")

    assert async_to_sync(story)() == invoice
    assert stored(invoice).status == "paid"


def test_aresolve_decides(sandbox, register):
    invoice = register("error_500_after")

    async def story():
        with pytest.raises(CancelInDoubt):
            await invoice.acancel()
        await invoice.aresolve("canceled", actor="ada", reason="seen in the cabinet")

    async_to_sync(story)()
    assert status_and_log(invoice) == ("canceled", [*LOST, ("in_doubt", "canceled", "", "resolved")])
    assert sandbox.count("cancel") == 1


def test_async_view_cancels(sandbox, register):
    invoice = register()
    response = async_to_sync(AsyncClient().post)(f"/async/{invoice.pk}/")
    assert response.json()["outcome"] == "canceled"
    assert log_entries(invoice) == CANCELED_LOG
    assert sandbox.count("cancel") == 1
