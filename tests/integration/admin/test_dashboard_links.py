"""Links to the provider's dashboard: on the pages of an invoice, in the report and in its file, and none if unsafe."""

import csv
import io
import logging
import re

import pytest
from django.urls import reverse

from django_invoice_cancel import registry
from django_invoice_cancel.checks import check_settings
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.operations import start
from django_invoice_cancel.testing import ScriptedProvider
from tests.support.invoices import count_statuses
from tests.support.operation_pages import operation_url
from tests.support.users import client_of, user_with

pytestmark = pytest.mark.django_db(transaction=True)

TEMPLATE = "https://dashboard.example/invoices/{external_id}?tab=all"
PAGES = ("change", "cancel", "check", "resolve", "handled", "withdraw")


@pytest.fixture
def client():
    return client_of(user_with("view_invoice", "change_invoice", "cancel_invoice", "resolve_invoice"))


@pytest.fixture
def invoice(scripted_provider):
    return Invoice.objects.register(provider="firekassa", external_id="511", reference="order-17")[0]


@pytest.fixture
def configure(settings, scripted_provider):
    """Return a function that sets further options of the account."""

    def set_options(**options):
        config = settings.INVOICE_CANCEL["PROVIDERS"]["firekassa"]
        changed = {**config, "OPTIONS": {**config.get("OPTIONS", {}), **options}}
        settings.INVOICE_CANCEL = {
            **settings.INVOICE_CANCEL,
            "PROVIDERS": {**settings.INVOICE_CANCEL["PROVIDERS"], "firekassa": changed},
        }
        return ScriptedProvider.of("firekassa")

    return set_options


@pytest.fixture
def answer_with(configure, monkeypatch):
    """Return a function that makes the adapter return this address, or raise this exception."""

    def set_address(address):
        def dashboard_url(self, invoice):
            if isinstance(address, Exception):
                raise address
            return address

        monkeypatch.setattr(ScriptedProvider, "dashboard_url", dashboard_url)

    return set_address


def links_of(answer):
    return re.findall(r'<a class="ic-dashboard" ([^>]*)>', answer.content.decode())


def invoice_page(client, invoice, page="change"):
    return client.get(reverse(f"admin:invoice_cancel_invoice_{page}", args=[invoice.pk]))


def file_lines(client, operation):
    content = client.get(operation_url(operation, "csv")).getvalue().decode("utf-8-sig")
    return [row["Provider's dashboard"] for row in csv.DictReader(io.StringIO(content))]


@pytest.mark.parametrize("page", PAGES)
def test_pages_of_an_invoice_link_to_the_dashboard(client, configure, invoice, page):
    provider = configure(dashboard_url=TEMPLATE)
    assert links_of(invoice_page(client, invoice, page)) == [
        'href="https://dashboard.example/invoices/511?tab=all" rel="noopener noreferrer" target="_blank"'
    ]
    assert provider.cancel_count == provider.lookup_count == 0
    assert count_statuses() == {"created": 1}


def test_pages_have_no_link_by_default(client, invoice, scripted_provider):
    operation = start(Invoice.objects.all(), actor="Ada")
    for page in PAGES:
        assert links_of(invoice_page(client, invoice, page)) == []
    assert links_of(client.get(operation_url(operation))) == []
    assert file_lines(client, operation) == [""]
    assert scripted_provider.cancel_count == 0


def test_report_and_file_link_to_the_dashboard(client, configure, invoice):
    Invoice.objects.bulk_create([Invoice(provider="firekassa", external_id='../a b?c#d/"<&\u202e')])
    provider = configure(dashboard_url=TEMPLATE)
    operation = start(Invoice.objects.all(), actor="Ada")
    operation.stop()
    addresses = [
        "https://dashboard.example/invoices/511?tab=all",
        "https://dashboard.example/invoices/..%2Fa%20b%3Fc%23d%2F%22%3C%26%E2%80%AE?tab=all",
    ]
    found = links_of(client.get(operation_url(operation)))
    assert [link.split('"')[1] for link in found] == addresses
    assert file_lines(client, operation) == addresses
    assert provider.cancel_count == provider.lookup_count == 0
    assert count_statuses() == {"created": 2}


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "JavaScript://dashboard.example/%0aalert(1)",
        "java\nscript:alert(1)",
        " https://dashboard.example/",
        "//dashboard.example/1",
        "/invoices/1",
        "https:///1",
        "https://[",
        "data:text/html,1",
        "https://dashboard.example/\u202e1",
        pytest.param("https://dashboard.example/" + "1" * 2000, id="long"),
        17,
        b"https://dashboard.example/1",
        ValueError("no id"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    ],
    ids=ascii,
)
def test_unsafe_address_is_not_shown_and_logged_once(client, answer_with, invoice, caplog, address):
    Invoice.objects.register(provider="firekassa", external_id="512")
    operation = start(Invoice.objects.all(), actor="Ada")
    operation.stop()
    answer_with(address)
    for shown in (invoice_page(client, invoice), client.get(operation_url(operation))):
        assert shown.status_code == 200
        assert links_of(shown) == []
        assert "alert(1)" not in shown.content.decode()
    assert file_lines(client, operation) == ["", ""]
    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(logged) == 3, "one for each page and file"
    assert all("firekassa" in record.getMessage() for record in logged)
    assert ScriptedProvider.of("firekassa").cancel_count == 0
    assert count_statuses() == {"created": 2}


def test_address_with_a_secret_is_not_shown(client, settings, caplog):
    settings.INVOICE_CANCEL = {
        "PROVIDERS": {
            "firekassa": {
                "BACKEND": "django_invoice_cancel.providers.firekassa.FireKassa",
                "OPTIONS": {
                    "base_url": "https://shop.example",
                    "api_token": "invented-token-1",
                    "dashboard_url": "https://dashboard.example/{external_id}?key=invented-token-1",
                },
            }
        }
    }
    invoice, _is_new = Invoice.objects.register(provider="firekassa", external_id="511")
    shown = invoice_page(client, invoice)
    assert links_of(shown) == []
    assert "invented-token-1" not in shown.content.decode() + caplog.text
    assert "dashboard_url" in caplog.text


def test_account_that_is_not_configured_has_no_link(client, settings, invoice):
    settings.INVOICE_CANCEL = {"PROVIDERS": {}}
    shown = invoice_page(client, invoice)
    assert shown.status_code == 200
    assert links_of(shown) == []


@pytest.mark.parametrize(
    "template",
    [
        "https://dashboard.example/invoices/",
        "dashboard.example/{external_id}",
        "javascript:open('{external_id}')",
        "https://{external_id}.example/",
        "https://user:pw@dashboard.example/{external_id}",
        "https://dashboard.example/{external_id}/{reference}",
        "https://dashboard.example/{external_id!r}",
        "https://dashboard.example/{external_id} ",
        "https://dashboard.example/\n{external_id}",
        "https:///{external_id}",
        "https://[/{external_id}",
        "",
        17,
    ],
    ids=ascii,
)
def test_bad_template_is_reported_by_a_check(configure, template, settings):
    with pytest.raises(Exception, match="option 'dashboard_url' must be an http:// or https:// address"):
        configure(dashboard_url=template)
    [found] = [message for message in check_settings(None) if message.id == "invoice_cancel.E005"]
    assert "Provider 'firekassa': option 'dashboard_url' must be an http:// or https:// address" in found.msg
    assert "pw@" not in found.msg


def test_template_may_use_http_and_the_id_twice(configure, invoice):
    provider = configure(dashboard_url="http://127.0.0.1:8000/{external_id}#{external_id}")
    assert provider.dashboard_url(invoice) == "http://127.0.0.1:8000/511#511"
    assert [message.id for message in check_settings(None) if message.id == "invoice_cancel.E005"] == []
    assert registry.is_configured("firekassa")
