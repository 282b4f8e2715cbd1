"""Public clients of CryptoCloud, written by others, work with the sandbox without changes.

They were written for the real provider, so their requirements for its answers confirm those of the sandbox. Both
accept the provider's address in their constructor.
"""

import asyncio
import importlib

import pytest

KEY = "sandbox-cryptocloud-key"

pytestmark = [
    pytest.mark.third_party,
    # crypto-cloud-py calls pydantic by names that pydantic 2 gives up.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:crypto_cloud_py"),
]


def client_module(name, package):
    return pytest.importorskip(name, reason=f"needs the package {package}", exc_type=ImportError)


def test_crypto_cloud_py_creates_looks_up_and_cancels(sandbox):
    client = client_module("crypto_cloud_py", "crypto-cloud-py")
    requests = importlib.import_module("requests")
    api = client.CryptoCloudApi(api_key=KEY, base_url=f"{sandbox.base_url}/v2")
    invoice = api.invoice_create(shop_id="shop", amount=100, currency="EUR", order_id="17")
    assert invoice.status == "created"
    assert invoice.amount == 100.0
    assert invoice.fiat_currency == "EUR"
    assert api.invoice_cancel(invoice.uuid) == ["ok"]
    assert [(one.uuid, one.status, one.order_id) for one in api.invoices_info([invoice.uuid])] == [
        (invoice.uuid, "canceled", "17")
    ]
    with pytest.raises(requests.HTTPError, match="400 Client Error"):
        api.invoice_cancel(invoice.uuid)
    assert sandbox.executed(invoice.uuid) == 1
    assert sandbox.count("cancel") == 2
    assert sandbox.count("create") == 1


def test_crypto_cloud_py_reads_the_paid_amount(sandbox):
    client = client_module("crypto_cloud_py", "crypto-cloud-py")
    api = client.CryptoCloudApi(api_key=KEY, base_url=f"{sandbox.base_url}/v2")
    uuids = [sandbox.new_id("cryptocloud", name) for name in ("paid", "partially_paid", "overpaid", "not_found")]
    found = api.invoices_info(uuids)
    assert [(one.status, one.received) for one in found] == [("paid", 100.0), ("partial", 50.0), ("overpaid", 150.0)]
    assert sandbox.count("lookup") == 1


def test_cryptocloud_sdk_creates_looks_up_and_cancels(sandbox):
    sdk = client_module("cryptocloud_sdk", "cryptocloud-sdk")
    dto = importlib.import_module("cryptocloud_sdk.dto")
    errors = importlib.import_module("cryptocloud_sdk.errors")
    client = sdk.CryptoCloud(api_token=KEY, shop_id="shop", host=sandbox.base_url)

    async def work():
        invoice = await client.create_invoice(dto.InvoiceInput(amount=100.2, currency="EUR", order_id="17"))
        await client.cancel_invoice(invoice.uuid)
        (info,) = await client.get_invoices([invoice.uuid])
        with pytest.raises(errors.BadRequestError, match="Invoice is not created"):
            await client.cancel_invoice(invoice.uuid)
        return invoice, info

    invoice, info = asyncio.run(work())
    assert invoice.status == "created"
    assert info.status == "canceled"
    assert info.order_id == "17"
    assert info.amount == 100.2
    assert sandbox.executed(invoice.uuid) == 1
    assert sandbox.count("cancel") == 2
    assert sandbox.count("create") == 1


@pytest.mark.parametrize(
    ("token", "name", "error"),
    [("wrong", "ordinary", "BadRequestError"), (KEY, "forbidden", "ForbiddenError")],
    ids=["400 authorization", "403 detail"],
)
def test_cryptocloud_sdk_reads_how_credentials_are_rejected(sandbox, token, name, error):
    sdk = client_module("cryptocloud_sdk", "cryptocloud-sdk")
    errors = importlib.import_module("cryptocloud_sdk.errors")
    client = sdk.CryptoCloud(api_token=token, shop_id="shop", host=sandbox.base_url)
    uuid = sandbox.new_id("cryptocloud", name)
    with pytest.raises(getattr(errors, error)):
        asyncio.run(client.cancel_invoice(uuid))
    assert sandbox.executed(uuid) == 0
    assert sandbox.count("cancel") == 1
