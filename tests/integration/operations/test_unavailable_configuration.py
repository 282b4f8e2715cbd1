"""F8: items wait while the configuration is temporarily unreadable. It is read once per run."""

import sqlite3
import ssl

import django.db
import pytest
import requests
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_invoice_cancel import operations
from django_invoice_cancel.bulk import cancel_invoices
from django_invoice_cancel.exceptions import CancelNotPossible, ProviderMisconfigured
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.testing import ScriptedProvider
from tests.support.invoices import statuses_by_id
from tests.support.operations import advance_slice, item_outcomes, stored_progress

pytestmark = pytest.mark.django_db(transaction=True)

CONFIG = {"BACKEND": "django_invoice_cancel.testing.ScriptedProvider"}
RESOLVED: list[str] = []
FAILURES: list[BaseException] = []


class ProviderWithSecrets(ScriptedProvider):
    """An adapter that reads its secrets in its constructor."""

    def __init__(self, alias, **common):
        if FAILURES:
            raise FAILURES[0]
        super().__init__(alias, **common)


class VaultSealed(Exception):
    """Stands for an exception of a client library."""


class TimeLimit(Exception):
    __module__, __qualname__ = "billiard.exceptions", "SoftTimeLimitExceeded"


def resolve(alias):
    RESOLVED.append(alias)
    if FAILURES:
        raise FAILURES[0]
    return CONFIG if alias == "shop" else None


@pytest.fixture(autouse=True)
def _resolver():
    RESOLVED.clear()
    FAILURES.clear()
    resolver = f"{__name__}.resolve"
    with override_settings(INVOICE_CANCEL={"PROVIDERS": {}, "PROVIDER_RESOLVER": resolver}):
        yield


@pytest.mark.parametrize("error", [ConnectionError("vault"), KeyError("shop"), TimeoutError()], ids=repr)
def test_items_wait_for_a_resolver_that_fails_temporarily(invoices, error):
    invoices(3, provider="shop")
    operation = operations.start(Invoice.objects.all(), actor="Ada")
    FAILURES.append(error)
    progress = advance_slice(operation.pk)
    assert progress.has_more is True
    assert progress.is_finished is False
    assert progress.wait_seconds >= 1.0
    assert set(item_outcomes(operation).values()) == {""}
    assert stored_progress(operation) == "running"
    FAILURES.clear()
    assert advance_slice(operation.pk).is_finished
    assert set(item_outcomes(operation).values()) == {"canceled canceled"}
    assert ScriptedProvider.of("shop").cancel_count == 3


def test_resolver_that_fails_during_a_slice_skips_no_invoice(invoices):
    rows = invoices(120, provider="shop")
    operation = operations.start(Invoice.objects.all(), actor="Ada")
    shop = ScriptedProvider.of("shop")
    shop.before_send = lambda external_id: external_id == "101" and FAILURES.append(ConnectionError("vault"))
    advance_slice(operation.pk)
    FAILURES.clear()
    assert not [each for each in item_outcomes(operation).values() if "misconfigured" in each]
    assert shop.cancel_count == 120
    assert len(rows) == 120


@pytest.mark.parametrize("alias", ["gone", "shop"], ids=["unknown to the resolver", "refused by it"])
def test_invalid_configuration_ends_the_items(invoices, alias):
    invoices(3, provider=alias)
    operation = operations.start(Invoice.objects.all(), actor="Ada")
    if alias == "shop":
        FAILURES.append(ImproperlyConfigured("no such merchant"))
    assert advance_slice(operation.pk).is_finished
    assert set(item_outcomes(operation).values()) == {"skipped misconfigured"}
    assert set(statuses_by_id().values()) == {"created"}


def test_bulk_run_without_configuration_returns_the_error(invoices):
    invoices(3, provider="shop")
    FAILURES.append(ConnectionError("secret-vault-address"))
    results = list(cancel_invoices(Invoice.objects.all()))
    assert {result.code for result in results} == {"configuration_unavailable"}
    assert len(RESOLVED) <= 2
    assert "ConnectionError" in str(results[0].message)
    assert "secret-vault-address" not in str(results[0].message)
    assert set(statuses_by_id().values()) == {"created"}


def test_resolver_is_called_once_in_a_run(invoices):
    invoices(200, provider="shop")
    RESOLVED.clear()
    results = list(cancel_invoices(Invoice.objects.all()))
    assert len(results) == 200
    assert {result.code for result in results} == {"canceled"}
    assert len(RESOLVED) <= 2


@pytest.fixture
def failing_provider():
    own = {"BACKEND": f"{__name__}.ProviderWithSecrets"}
    with override_settings(INVOICE_CANCEL={"PROVIDERS": {"shop": own}}):
        yield


TEMPORARY = [
    PermissionError("/run/secrets/token"),
    FileNotFoundError("/run/secrets/token"),
    TimeoutError(),
    requests.ConnectionError("vault"),
    ssl.SSLCertVerificationError("vault"),  # a ValueError, too
    django.db.OperationalError("locked"),
    sqlite3.OperationalError("locked"),
    EOFError(),
    VaultSealed(),
]
FINAL = [
    ImproperlyConfigured("no token"),
    ProviderMisconfigured("no token"),
    ValueError("token"),
    UnicodeError("token"),
    TypeError("token"),
    KeyError("token"),
    AttributeError("token"),
    NotImplementedError(),
    ImportError("vault"),
    AssertionError(),
    ZeroDivisionError(),
]


def test_items_wait_for_an_adapter_that_fails_temporarily(failing_provider, invoices):
    invoices(3, provider="shop")
    FAILURES.append(TEMPORARY[0])
    operation = operations.start(Invoice.objects.all(), actor="Ada")
    for error in TEMPORARY:
        FAILURES[:] = [error]
        progress = advance_slice(operation.pk)
        assert progress.has_more is True, error
        assert progress.is_finished is False, error
        assert progress.wait_seconds >= 1.0, error
        assert set(item_outcomes(operation).values()) == {""}, error
        assert stored_progress(operation) == "running", error
    FAILURES.clear()
    assert advance_slice(operation.pk).is_finished
    assert set(item_outcomes(operation).values()) == {"canceled canceled"}
    assert ScriptedProvider.of("shop").cancel_count == 3


@pytest.mark.parametrize("error", FINAL, ids=lambda error: type(error).__qualname__)
def test_adapter_that_rejects_its_options_ends_the_items(failing_provider, invoices, error):
    invoices(3, provider="shop")
    FAILURES.append(error)
    operation = operations.start(Invoice.objects.all(), actor="Ada")
    assert advance_slice(operation.pk).is_finished
    assert set(item_outcomes(operation).values()) == {"skipped misconfigured"}
    FAILURES.clear()
    assert set(statuses_by_id().values()) == {"created"}
    assert ScriptedProvider.of("shop").cancel_count == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [(PermissionError(13, "secret-path"), "configuration_unavailable"), (ValueError("token"), "misconfigured")],
    ids=["temporary", "final"],
)
@pytest.mark.parametrize("in_bulk", [False, True], ids=["single", "bulk"])
def test_result_contains_the_error_of_the_adapter(failing_provider, invoices, error, code, in_bulk):
    [invoice] = invoices(1, provider="shop")
    FAILURES.append(error)
    if in_bulk:
        [result] = cancel_invoices(Invoice.objects.all())
    else:
        with pytest.raises(CancelNotPossible) as raised:
            invoice.cancel()
        result = raised.value.result
    assert result.outcome == "skipped"
    assert result.code == code
    assert type(error).__name__ in str(result.message)
    assert statuses_by_id() == {"101": "created"}
    assert invoice.transitions.count() == 0
    FAILURES.clear()
    assert invoice.cancel().code == "canceled"
    assert ScriptedProvider.of("shop").cancel_count == 1


@pytest.mark.parametrize("in_bulk", [False, True], ids=["single", "bulk"])
def test_time_limit_in_the_constructor_of_an_adapter_is_raised(failing_provider, invoices, in_bulk):
    [invoice] = invoices(1, provider="shop")
    FAILURES.append(TimeLimit())
    with pytest.raises(TimeLimit):
        list(cancel_invoices(Invoice.objects.all())) if in_bulk else invoice.cancel()
    FAILURES.clear()
    assert statuses_by_id() == {"101": "created"}
    assert ScriptedProvider.of("shop").cancel_count == 0


def test_items_wait_for_a_module_that_cannot_be_imported_temporarily(invoices, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    secrets = tmp_path / "token"
    (tmp_path / "module_with_secrets.py").write_text(
        f"from django_invoice_cancel.testing import ScriptedProvider as Shop\nTOKEN = open({str(secrets)!r}).close()\n"
    )
    invoices(3, provider="shop")
    with override_settings(INVOICE_CANCEL={"PROVIDERS": {"shop": {"BACKEND": "module_with_secrets.Shop"}}}):
        operation = operations.start(Invoice.objects.all(), actor="Ada")
        assert not advance_slice(operation.pk).is_finished
        assert set(item_outcomes(operation).values()) == {""}
        secrets.write_text("token")
        assert advance_slice(operation.pk).is_finished
        assert ScriptedProvider.of("shop").cancel_count == 3
    assert set(item_outcomes(operation).values()) == {"canceled canceled"}
