"""F8: a configuration that cannot be read for a moment leaves items untried, and is read once in a run."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_invoice_cancel.bulk import cancel_invoices
from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.testing import ScriptedProvider
from tests.operations.reading import advance, outcomes, progress, statuses

pytestmark = pytest.mark.django_db(transaction=True)

CONFIG = {"BACKEND": "django_invoice_cancel.testing.ScriptedProvider"}
CALLS: list[str] = []
FAILURES: list[BaseException] = []


def resolve(alias):
    CALLS.append(alias)
    if FAILURES:
        raise FAILURES[0]
    return CONFIG if alias == "shop" else None


@pytest.fixture(autouse=True)
def _resolver():
    CALLS.clear()
    FAILURES.clear()
    resolver = f"{__name__}.resolve"
    with override_settings(INVOICE_CANCEL={"PROVIDERS": {}, "PROVIDER_RESOLVER": resolver}):
        yield


@pytest.mark.parametrize("error", [ConnectionError("vault"), KeyError("shop"), TimeoutError()], ids=repr)
def test_resolver_that_fails_for_a_moment_leaves_items_untried(invoices, error):
    invoices(30, provider="shop")
    operation = BulkOperation.objects.start(Invoice.objects.all(), actor="Ada")
    FAILURES.append(error)
    left = advance(operation.pk)
    assert (left.has_more, left.is_finished, left.wait_seconds >= 1.0) == (True, False, True)
    assert (set(outcomes(operation).values()), progress(operation)) == ({""}, "running")
    FAILURES.clear()
    assert advance(operation.pk).is_finished
    assert set(outcomes(operation).values()) == {"canceled canceled"}
    assert ScriptedProvider.of("shop").cancel_count == 30


def test_resolver_that_fails_during_a_run_costs_no_invoice(invoices):
    made = invoices(300, provider="shop")
    operation = BulkOperation.objects.start(Invoice.objects.all(), actor="Ada")
    shop = ScriptedProvider.of("shop")
    shop.before_send = lambda external_id: external_id == "101" and FAILURES.append(ConnectionError("vault"))
    advance(operation.pk)
    FAILURES.clear()
    assert not [each for each in outcomes(operation).values() if "misconfigured" in each]
    assert (shop.cancel_count, len(made)) == (300, 300)


@pytest.mark.parametrize("alias", ["gone", "shop"], ids=["unknown to the resolver", "refused by it"])
def test_configuration_that_was_read_and_is_wrong_is_final(invoices, alias):
    invoices(3, provider=alias)
    operation = BulkOperation.objects.start(Invoice.objects.all(), actor="Ada")
    if alias == "shop":
        FAILURES.append(ImproperlyConfigured("no such merchant"))
    assert advance(operation.pk).is_finished
    assert set(outcomes(operation).values()) == {"skipped misconfigured"}
    assert set(statuses().values()) == {"created"}


def test_bulk_run_without_configuration_skips_and_names_it(invoices):
    invoices(3, provider="shop")
    FAILURES.append(ConnectionError("secret-vault-address"))
    results = list(cancel_invoices(Invoice.objects.all()))
    assert {result.code for result in results} == {"configuration_unavailable"}
    assert len(CALLS) <= 2
    assert "ConnectionError" in str(results[0].message)
    assert "secret-vault-address" not in str(results[0].message)
    assert set(statuses().values()) == {"created"}


def test_resolver_is_called_once_in_a_run(invoices):
    invoices(200, provider="shop")
    CALLS.clear()
    results = list(cancel_invoices(Invoice.objects.all()))
    assert (len(results), {result.code for result in results}) == (200, {"canceled"})
    assert len(CALLS) <= 2
