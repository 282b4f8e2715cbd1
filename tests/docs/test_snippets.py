"""Every Python block of the README and of these pages runs, and does what the page describes."""

import sys
from types import SimpleNamespace

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from django_invoice_cancel import registry
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.testing import make_invoice

from .conftest import EXTERNAL_ID
from .pages import block_with, python_blocks

README, SETTINGS, INVOICE = "README.md", "docs/reference/settings.md", "docs/reference/invoice.md"
CANCELLATION, DOUBT = "docs/discussions/cancellation.md", "docs/discussions/doubt.md"
CANCEL, ORDERS, WEBHOOKS = "docs/howto/cancel.md", "docs/howto/orders.md", "docs/howto/webhooks.md"
ACCOUNTS, QUICKSTART = "docs/howto/accounts.md", "docs/quickstart.md"
PAGES = (
    *(README, SETTINGS, INVOICE, CANCELLATION, DOUBT, CANCEL, ORDERS, WEBHOOKS, ACCOUNTS, QUICKSTART),
    *("docs/reference/outcomes.md", "docs/reference/signals.md"),
)
BLOCKS = [block for page in PAGES for block in python_blocks(page)]
NEEDS_DOUBT = ("invoice.resolve(", "invoice.reconcile(")


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    monkeypatch.setenv("CRYPTOCLOUD_API_KEY", "invented-key")
    monkeypatch.setenv("CRYPTOCLOUD_API_KEY_SOUTH", "another-invented-key")
    monkeypatch.setenv("FIREKASSA_API_TOKEN", "invented-token")


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block_runs(block, reader):
    namespace = reader("in_doubt" if any(call in block.code for call in NEEDS_DOUBT) else "created")
    before = set(namespace)

    block.run(namespace)

    assert namespace["invoice"].transitions.exists() or set(namespace) - before


def test_first_block_handles_doubt():
    assert "except CancelInDoubt" in next(python_blocks(README)).code


@pytest.mark.parametrize(
    ("meets", "answer", "status", "code"),
    [
        ("ordinary", "Canceled.", "canceled", "canceled"),
        (
            "reset_after",
            "The provider did not answer, so the invoice may be canceled. "
            "Do not try again; the result will be looked up.",
            "in_doubt",
            "no_answer",
        ),
        ("paid", "Not canceled: A payment was received for it.", "paid", "has_payment"),
        ("bad_credentials", "CryptoCloud rejected our credentials.", "created", "bad_credentials"),
    ],
)
def test_first_block_distinguishes_the_outcomes(reader, sandbox, meets, answer, status, code):
    if meets == "paid":
        sandbox.pay(EXTERNAL_ID)
    else:
        sandbox.script(EXTERNAL_ID, [meets])

    namespace = next(python_blocks(README)).run(reader())

    assert namespace["answer"] == answer
    assert namespace["invoice"].status == Invoice.objects.get().status == status
    assert [row.code for row in Invoice.objects.get().transitions.all()] == ["", code]
    assert sandbox.count("cancel") == 1


def test_settings_of_the_readme_are_accepted(reader, settings):
    settings.INVOICE_CANCEL = block_with(README, "INVOICE_CANCEL = {").run(reader())["INVOICE_CANCEL"]

    assert [registry.get_provider(alias).verbose_name for alias in registry.aliases()] == ["CryptoCloud", "FireKassa"]


@pytest.mark.parametrize("page", [README, QUICKSTART])
def test_view_sends_the_request_after_the_commit(reader, sandbox, page):
    namespace = block_with(page, "def cancel_order").run(reader())

    with transaction.atomic():
        namespace["cancel_order"](namespace["request"], "order-17")
        asked_before_the_commit = sandbox.count("cancel")

    assert asked_before_the_commit == 0
    assert sandbox.count("cancel") == 1
    assert Invoice.objects.get().status == "canceled"
    assert namespace["warnings"] == []


@pytest.mark.parametrize("page", [README, QUICKSTART])
def test_view_shows_the_reason_of_a_refusal(reader, sandbox, page):
    namespace = block_with(page, "def cancel_order").run(reader("paid"))

    namespace["cancel_order"](namespace["request"], "order-17")

    assert namespace["warnings"] == ["It cannot be canceled now: Paid."]
    assert sandbox.count("cancel") == 0


@pytest.mark.parametrize("page", [README, WEBHOOKS])
def test_webhook_records_the_payment(reader, sandbox, page):
    block_with(page, 'trigger="webhook"').run(reader())

    assert Invoice.objects.get().status == "paid"
    assert sandbox.count("cancel") == 0


@pytest.mark.parametrize("page", [README, ORDERS])
@pytest.mark.parametrize("status", ["paid", "overpaid"])
def test_receivers_update_an_open_order(reader, page, status):
    namespace = block_with(page, "def follow_invoice").run(reader())

    namespace["invoice"].observe_status(status)

    assert namespace["Order"].order["state"] == "paid"
    assert namespace["mails"] == []


@pytest.mark.parametrize("page", [README, ORDERS])
def test_receivers_keep_a_canceled_order_canceled_after_a_payment(reader, sandbox, page):
    namespace = block_with(page, "def follow_invoice").run(reader())

    namespace["invoice"].cancel()
    namespace["invoice"].observe_status("paid")

    assert namespace["Order"].order["state"] == "canceled"
    assert [subject for subject, _ in namespace["mails"]] == ["Order order-17 was paid after it was canceled"]
    assert sandbox.count("cancel") == 1


@pytest.mark.parametrize("page", [README, ORDERS])
@pytest.mark.parametrize("status", ["created", "in_doubt"])
def test_receivers_keep_an_order_with_another_open_invoice_open(reader, sandbox, page, status):
    namespace = block_with(page, "def follow_invoice").run(reader())
    make_invoice(status, provider="firekassa", external_id="511727000", reference="order-17")

    namespace["invoice"].cancel()

    assert namespace["invoice"].status == "canceled"
    assert namespace["Order"].order["state"] == "open"
    assert sandbox.count("cancel") == 1


@pytest.mark.parametrize("page", [README, WEBHOOKS])
def test_webhook_records_a_payment_before_the_registration(reader, page):
    namespace = reader()
    namespace["postback"]["invoice_id"] = "FASTER00"

    block_with(page, 'trigger="webhook"').run(namespace)

    assert dict(Invoice.objects.values_list("external_id", "status")) == {
        EXTERNAL_ID: "created",
        "INV-FASTER00": "paid",
    }


def test_stale_save_does_not_change_the_status(reader):
    namespace = reader()
    namespace["invoice"].observe_status("paid")

    block_with(INVOICE, "# a mistake").run(namespace)

    invoice = Invoice.objects.get()
    assert invoice.status == "paid"
    assert invoice.reference == "order-19"
    with pytest.raises(ValueError, match="Only the methods"):
        Invoice.objects.update(status="created")


def test_commit_executes_the_requested_cancellation(reader, sandbox):
    namespace = block_with(CANCELLATION, "cancel_on_commit").run(reader())

    assert namespace["is_stored"] is True
    assert Invoice.objects.get().status == "canceled"
    assert sandbox.count("cancel") == 1


def test_reconcile_resolves_the_doubt(reader, sandbox, capsys):
    sandbox.carry_out(EXTERNAL_ID)

    block_with(DOUBT, "invoice.reconcile()").run(reader("in_doubt"))

    assert capsys.readouterr().out == "already_canceled It was already canceled. canceled\n"
    invoice = Invoice.objects.get()
    assert invoice.status == "canceled"
    assert invoice.transitions.last().code == "observed"
    assert sandbox.count("cancel") == 0
    assert sandbox.count("lookup") == 1


def test_decision_is_logged_with_its_actor(reader, sandbox):
    block_with(DOUBT, "invoice.resolve(").run(reader("in_doubt"))

    row = Invoice.objects.get().transitions.last()
    assert row.to_status == "canceled"
    assert row.trigger == "operator"
    assert row.actor_label == "reader"
    assert sandbox.count("cancel") == sandbox.count("lookup") == 0


def test_resolver_returns_its_accounts(reader, settings, monkeypatch):
    account = block_with(ACCOUNTS, "def account").run(reader())["account"]
    monkeypatch.setitem(sys.modules, "shop_accounts", SimpleNamespace(account=account))
    settings.INVOICE_CANCEL = {"PROVIDER_RESOLVER": "shop_accounts.account"}

    assert registry.get_provider("shop-17").verbose_name == "FireKassa"
    with pytest.raises(ImproperlyConfigured, match=r"Provider .nobody. is not configured"):
        registry.get_provider("nobody")
