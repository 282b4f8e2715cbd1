"""Parameters that no database can compare (NUL, single surrogates) are ignored or match no rows, without errors."""

import pytest
from django.urls import reverse

from django_invoice_cancel.admin import InvoiceAdmin
from django_invoice_cancel.models import BulkOperation, Invoice
from tests.support.operation_pages import operation_url

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted_provider")]

VALUES = {
    "NUL": "%00",
    "NUL within": "a%00b",
    "NUL behind a word": "created%00",
    "half of a pair": "%ED%A0%80",
    "half of a pair within": "a%ED%B0%80b",
}
LOOKUPS = ["", "__in", "__contains", "__range", "__date"]
OTHERS = [
    "q",
    "o",
    "p",
    "e",
    "all",
    "attention",
    "provider",
    "issued",
    "issued_from",
    "issued_to",
    "_facets",
    "_popup",
    "_to_field",
    "_changelist_filters",
]
LISTS = {"invoices": Invoice, "operations": BulkOperation}


def parameters(model, lookups):
    """Return the name of every parameter that the list of a model may take, with these lookups."""
    names = [field.name for field in model._meta.get_fields()] + ["pk", "actor__username", "transitions__reason"]
    return OTHERS + [f"{name}{lookup}" for name in names for lookup in lookups]


def address_of(model):
    return reverse(f"admin:invoice_cancel_{model._meta.model_name}_changelist")


@pytest.fixture
def made(invoices, choose, supervisor_client):
    """Two invoices, and a draft of one of them."""
    return choose(supervisor_client, invoices(2)[:1])


def errors(client, model, names, value):
    """Return the answers that are neither the list, nor a redirect to it, nor a refusal of the parameter."""
    answers = {name: client.get(f"{address_of(model)}?{name}={value}").status_code for name in names}
    return {name: status for name, status in answers.items() if status not in (200, 302, 400)}


@pytest.mark.parametrize("model", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("value", ["a%00b", "a%ED%B0%80b"], ids=["NUL within", "half of a pair within"])
def test_list_accepts_any_parameter(admin_client, made, model, value):
    assert errors(admin_client, model, parameters(model, [""]), value) == {}


@pytest.mark.parametrize("model", LISTS.values(), ids=LISTS)
def test_list_accepts_any_value(admin_client, made, model):
    for name, value in VALUES.items():
        assert errors(admin_client, model, ("q", "o", "p", "attention", "pk"), value) == {}, name


@pytest.mark.slow
@pytest.mark.parametrize("model", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("value", ["a%00b", "%ED%A0%80"], ids=["NUL", "half of a pair"])
def test_list_accepts_any_lookup(admin_client, made, model, value):
    assert errors(admin_client, model, parameters(model, LOOKUPS), value) == {}


@pytest.mark.parametrize("model", LISTS.values(), ids=LISTS)
def test_list_accepts_any_parameter_name(admin_client, made, model):
    for name in ("%00", "provider%00", "status__exact%00", "%ED%A0%80"):
        assert admin_client.get(f"{address_of(model)}?{name}=paid").status_code in (200, 302, 400)


@pytest.mark.parametrize("name", ["provider", "status__exact", "q", "external_id", "reference__startswith"])
def test_action_on_all_of_a_wrong_filter_selects_nothing(supervisor_client, invoices, name):
    """Without the filter it would be an action on every invoice."""
    chosen = invoices(2)
    data = {
        "action": "cancel_selected_invoices",
        "_selected_action": [str(chosen[0].pk)],
        "select_across": "1",
        "index": "0",
    }
    answer = supervisor_client.post(f"{address_of(Invoice)}?{name}=a%00b", data)
    assert answer.status_code in (200, 302)
    assert not BulkOperation.objects.exists()


@pytest.mark.parametrize("term", ["\0", "a\0b", "\ud800", "a\udfffb"], ids=ascii)
def test_search_of_a_host_finds_nothing(rf, admin_user, invoices, term):
    """As an autocomplete field does, which does not check the term."""
    invoices(2)
    request = rf.get("/")
    request.user = admin_user
    admin = InvoiceAdmin(Invoice, None)
    assert list(admin.get_search_results(request, Invoice.objects.all(), term)[0]) == []


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("is_started", [False, True], ids=["draft", "started"])
def test_pages_of_an_operation_accept_any_parameter(supervisor_client, made, is_started, value):
    if is_started:
        made.confirm()
    for name in ("outcome", "page", "format", "q", "x", "_changelist_filters"):
        for path in ("operation", "csv"):
            answer = supervisor_client.get(f"{operation_url(made, path)}?{name}={value}")
            assert answer.status_code == 200
            b"".join(answer) if answer.streaming else answer.content
    answer = supervisor_client.get(f"{operation_url(made)}?format=json&outcome={value}")
    assert answer.status_code == 200


@pytest.mark.parametrize("model", LISTS.values(), ids=LISTS)
def test_url_with_an_unstorable_key_is_not_found(admin_client, made, model):
    for value in (*VALUES.values(), "_00", "a_00b"):
        for name in ("change", "history", "delete"):
            answer = admin_client.get(f"{address_of(model)}{value}/{name}/")
            assert answer.status_code in (302, 403, 404), f"{name} of {value}"
