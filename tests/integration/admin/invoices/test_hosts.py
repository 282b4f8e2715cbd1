"""A project may subclass the admin, override each template, use its own site, and use another theme."""

import json
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest
from django.contrib.auth.models import User

from django_invoice_cancel.testing import make_invoice
from tests.support.html import element_texts, link_addresses, shown_messages
from tests.support.invoice_pages import changelist_url, invoice_url
from tests.support.invoices import stored

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.admin.invoices.hosts")]

TEMPLATES = {
    "change_list.html": lambda invoice: changelist_url(),
    "attention.html": lambda invoice: changelist_url(),
    "change_form.html": invoice_url,
    "summary.html": invoice_url,
    "timeline.html": invoice_url,
    "object_history.html": lambda invoice: invoice_url(invoice, "history"),
    "ask.html": lambda invoice: invoice_url(invoice, "cancel"),
    "cancel.html": lambda invoice: invoice_url(invoice, "cancel"),
    "check.html": lambda invoice: invoice_url(invoice, "check"),
    "resolve.html": lambda invoice: invoice_url(invoice, "resolve"),
    "handled.html": lambda invoice: invoice_url(invoice, "handled"),
}


@pytest.fixture
def host_template(settings: Any, tmp_path: Any) -> Any:
    """Return a function that puts a template into the host's own directory."""
    [engine] = settings.TEMPLATES
    settings.TEMPLATES = [{**engine, "DIRS": [tmp_path]}]

    def write(name: str, text: str) -> None:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    return write


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_template_can_be_replaced_by_its_name(shop, operator, host_template, name):
    host_template(f"admin/invoice_cancel/invoice/{name}", "the host's own")
    response = operator.get(TEMPLATES[name](make_invoice("in_doubt")))
    assert "the host's own" in response.content.decode()


def test_block_of_a_template_can_be_replaced(shop, operator, host_template):
    host_template(
        "host/resolve.html",
        "{% extends 'admin/invoice_cancel/invoice/resolve.html' %}{% block yes %}So be it{% endblock %}",
    )
    invoice = make_invoice("in_doubt")
    assert 'value="So be it"' in operator.get(invoice_url(invoice, "resolve", "backoffice")).content.decode()
    assert 'value="Resolve"' in operator.get(invoice_url(invoice, "resolve")).content.decode()


def test_pages_of_a_custom_site_link_to_that_site(shop, operator):
    """No page of the back office leads to the other site, and a click comes back to where it was made."""
    doubt, late = make_invoice("in_doubt"), make_invoice("paid_after_cancel")
    shown = [
        changelist_url(site="backoffice"),
        invoice_url(doubt, "change", "backoffice"),
        invoice_url(doubt, "history", "backoffice"),
    ]
    shown += [invoice_url(doubt, "check", "backoffice"), invoice_url(late, "handled", "backoffice")]
    for address in shown:
        assert [link for link in link_addresses(operator.get(address)) if link.startswith("/admin/")] == []
    response = operator.post(invoice_url(late, "handled", "backoffice"), {"note": "paid back"})
    assert response["Location"] == invoice_url(late, "change", "backoffice")
    assert stored(late).paid_after_cancel_handled_at is not None


def test_subclass_keeps_inherited_options(shop, client_with):
    operator = client_with("view", "change", "cancel", "resolve")
    invoice = make_invoice("in_doubt", reference="order-17")
    response = operator.get(changelist_url(site="backoffice"))
    assert {"Greet", "Cancel selected invoices"} <= set(element_texts(response, "option"))
    assert len(element_texts(response, "column-expires_at")) == 1
    assert f"{changelist_url(site='backoffice')}?attention=in_doubt" in link_addresses(response)
    data = {"action": "greet", "_selected_action": [invoice.pk], "index": "0"}
    assert shown_messages(operator.post(changelist_url(site="backoffice"), data)) == [("info", "hello 1")]
    form = operator.get(invoice_url(invoice, "change", "backoffice"))
    assert "reference" not in form.context["adminform"].form.fields
    assert "status" not in form.context["adminform"].form.fields


def test_site_without_bulk_operations_shows_the_invoices(shop, operator):
    invoice = make_invoice("in_doubt")
    assert element_texts(operator.get(changelist_url(site="plain")), "ic-items") == ["1 in doubt (0 min)"]
    assert operator.post(invoice_url(invoice, "check", "plain")).status_code == 302
    assert shop.lookup_count == 1


@pytest.mark.parametrize(("theme", "package"), [("unfold", "django-unfold"), ("jazzmin", "django-jazzmin")])
def test_pages_work_in_another_theme(theme, package):
    """In a process of its own: a theme replaces the admin's templates and its site when Django starts."""
    if find_spec(theme) is None:
        pytest.skip(f"needs {package}")
    command = [sys.executable, "-m", "tests.integration.admin.invoices.theme", theme]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen == {
        "list": [200, "1 in doubt (0 min)"],
        "change": [200, "it may or may not be canceled."],
        "history": [200, "cancellation started"],
        "add": [200, "external_id"],
        "cancel": [200, "Take me back"],
        "resolve": [200, "Status in the provider&#x27;s dashboard"],
        "check": [302, "canceled"],
    }


def test_user_without_permissions_sees_no_dashboard(shop, client):
    client.force_login(User.objects.create_user("nobody", is_staff=True))
    make_invoice("in_doubt")
    assert client.get(changelist_url()).status_code == 403
