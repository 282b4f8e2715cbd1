"""Users in another database and deleted users: their actions stay logged with their names."""

from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import OperationalError, connections
from django.test import Client

from django_invoice_cancel import operations
from django_invoice_cancel.models import BulkOperation, Invoice, InvoiceTransition
from django_invoice_cancel.operations import advance
from django_invoice_cancel.testing import make_invoice

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.scripted_providers("shop"),
]


class UsersInOther:
    """A router that keeps users in "other", and everything else in "default"."""

    def db_for_read(self, model, **hints):
        return "other" if model._meta.app_label == "auth" else "default"

    db_for_write = db_for_read

    def allow_relation(self, *args, **hints):
        return True


def refuse_package_tables(execute, sql, params, many, context):
    if "invoice_cancel" in sql:
        raise OperationalError("no such table: invoice_cancel")
    return execute(sql, params, many, context)


@pytest.fixture(params=["same database", "another database"])
def users_database(request, settings):
    """Yield the alias of the users' database. In "other", the tables of this package do not exist."""
    if request.param == "same database":
        yield "default"
        return
    settings.DATABASE_ROUTERS = [f"{__name__}.UsersInOther"]
    with connections["other"].execute_wrapper(refuse_package_tables):
        yield "other"


@pytest.fixture
def ada(users_database):
    return User.objects.create_user("ada")


def delete(user, users_database):
    user.delete()
    assert not User.objects.using(users_database).filter(username="ada").exists()


def test_log_keeps_the_name_of_a_deleted_user(scripted_provider, ada, users_database):
    invoice = make_invoice()
    invoice.cancel(actor=ada)
    assert {row.actor for row in invoice.transitions.all()} == {ada}
    delete(ada, users_database)
    rows = InvoiceTransition.objects.filter(invoice=invoice)
    assert [(row.actor, row.actor_label, row.to_status) for row in rows] == [
        (None, "ada", "canceling"),
        (None, "ada", "canceled"),
    ]


def test_operation_of_a_deleted_user_is_processed_and_logged_with_the_name(scripted_provider, ada, users_database):
    invoice = make_invoice()
    operation = operations.start(Invoice.objects.all(), actor=ada)
    delete(ada, users_database)
    operation = BulkOperation.objects.get()
    assert operation.actor is None
    assert operation.actor_label == "ada"
    assert operation.audit.actor == "ada"
    assert advance(operation.pk).is_finished
    assert {row.actor_label for row in invoice.transitions.all()} == {"ada"}
    assert Invoice.objects.get().status == "canceled"
    assert scripted_provider.cancel_count == 1


def test_handled_payment_keeps_the_name_of_a_deleted_user(scripted_provider, ada, users_database):
    invoice = make_invoice("paid_after_cancel")
    assert invoice.mark_handled(actor=ada, note="paid back")
    assert Invoice.objects.get().paid_after_cancel_handled_by == ada
    delete(ada, users_database)
    invoice = Invoice.objects.get()
    assert invoice.paid_after_cancel_handled_by is None
    assert invoice.transitions.get(code="handled").actor_label == "ada"
    assert invoice.observe_status("overpaid")


def test_invoice_of_a_deleted_user_can_be_saved(scripted_provider, ada, users_database):
    invoice = make_invoice("paid_after_cancel")
    invoice.mark_handled(actor=ada, note="paid back")
    delete(ada, users_database)
    invoice = Invoice.objects.get()
    invoice.reference = "order-18"
    invoice.full_clean()
    invoice.save()
    assert Invoice.objects.get().reference == "order-18"


def test_admin_pages_show_the_name_of_a_deleted_user(scripted_provider, ada, users_database):
    root = "/admin/invoice_cancel"
    handled, canceled = make_invoice("paid_after_cancel"), make_invoice()
    handled.mark_handled(actor=ada, note="paid back")
    operation = operations.start(Invoice.objects.filter(pk=canceled.pk), actor=ada)
    advance(operation.pk)
    User.objects.create_superuser("grace")
    delete(ada, users_database)
    client = Client()
    client.force_login(User.objects.get(username="grace"))
    pages = {
        "list of invoices": f"{root}/invoice/",
        "handled invoice": f"{root}/invoice/{handled.pk}/change/",
        "canceled invoice": f"{root}/invoice/{canceled.pk}/change/",
        "list of operations": f"{root}/bulkoperation/",
        "report": f"{root}/bulkoperation/{operation.pk}/change/",
    }
    responses = {name: client.get(url, follow=True) for name, url in pages.items()}
    assert {name: response.status_code for name, response in responses.items()} == dict.fromkeys(pages, 200)
    assert "by ada" in responses["handled invoice"].content.decode()
    shown = [name for name, response in responses.items() if "ada" in response.content.decode()]
    assert shown == ["handled invoice", "canceled invoice", "list of operations", "report"]


def test_admin_shows_the_user_of_a_handled_payment_with_a_long_log(scripted_provider, ada, users_database):
    handled = make_invoice("paid_after_cancel")
    handled.mark_handled(actor=ada, note="paid back")
    for _ in range(60):
        handled.observe_status(provider_status="held")
    User.objects.create_superuser("grace")
    client = Client()
    client.force_login(User.objects.get(username="grace"))
    url = f"/admin/invoice_cancel/invoice/{handled.pk}/change/"
    assert "by ada" in client.get(url).content.decode()
    delete(ada, users_database)
    assert "by an unknown user" in client.get(url).content.decode()


def test_csv_report_of_a_deleted_user_can_be_downloaded(scripted_provider, ada, users_database):
    make_invoice()
    operation = operations.start(Invoice.objects.all(), actor=ada)
    advance(operation.pk)
    User.objects.create_superuser("grace")
    delete(ada, users_database)
    client = Client()
    client.force_login(User.objects.get(username="grace"))
    response = client.get(f"/admin/invoice_cancel/bulkoperation/{operation.pk}/report.csv")
    assert response.status_code == 200
    assert b"canceled" in b"".join(response.streaming_content if response.streaming else [response.content])


def test_command_finds_a_user_in_the_other_database(scripted_provider, ada, users_database):
    make_invoice()
    call_command("cancel_invoices", "--all", "--noinput", "--actor", "ada", stdout=StringIO(), stderr=StringIO())
    last = InvoiceTransition.objects.last()
    assert last.actor == ada
    assert last.actor_label == "ada"
    assert scripted_provider.cancel_count == 1
    delete(ada, users_database)
    assert InvoiceTransition.objects.last().actor is None
