"""The append-only log: forbidden changes, the actors, and texts of every kind."""

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.utils.functional import SimpleLazyObject

from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.exceptions import TransitionsAreAppendOnly
from django_invoice_cancel.models import InvoiceTransition
from tests.support.invoices import invoice_in_status, stored
from tests.support.logs import status_history
from tests.support.writes import open_claim, record_answer

pytestmark = pytest.mark.django_db


def _row():
    invoice = invoice_in_status()
    open_claim(invoice)
    return invoice.transitions.get()


TAMPERING = {
    "save": lambda row: row.save(),
    "save, forced": lambda row: row.save(force_update=True),
    "save of one field": lambda row: row.save(update_fields=["reason"]),
    "asave": lambda row: async_to_sync(row.asave)(),
    "delete": lambda row: row.delete(),
    "adelete": lambda row: async_to_sync(row.adelete)(),
    "manager's update": lambda row: InvoiceTransition.objects.update(reason="x"),
    "query set's update": lambda row: InvoiceTransition.objects.filter(pk=row.pk).update(reason="x"),
    "aupdate": lambda row: async_to_sync(InvoiceTransition.objects.all().aupdate)(reason="x"),
    "query set's delete": lambda row: InvoiceTransition.objects.all().delete(),
    "bulk_update": lambda row: InvoiceTransition.objects.bulk_update([row], ["reason"]),
    "update_or_create": lambda row: InvoiceTransition.objects.update_or_create(pk=row.pk, defaults={"reason": "x"}),
    "bulk_create": lambda row: InvoiceTransition.objects.bulk_create(
        [row], update_conflicts=True, update_fields=["reason"], unique_fields=["id"]
    ),
    "bulk_create by position": lambda row: InvoiceTransition.objects.bulk_create(
        [row], None, False, True, ["reason"], ["id"]
    ),
    "related manager's update": lambda row: row.invoice.transitions.update(reason="x"),
    "related manager's delete": lambda row: row.invoice.transitions.all().delete(),
}


@pytest.mark.parametrize("tamper", TAMPERING.values(), ids=TAMPERING)
def test_no_row_of_the_log_is_changed_or_deleted(tamper):
    row = _row()
    row.reason = "x"
    with pytest.raises(TransitionsAreAppendOnly), transaction.atomic():
        tamper(row)
    assert InvoiceTransition.objects.get().reason == "asked by the customer"


def test_row_may_be_appended():
    row = _row()
    row.invoice.transitions.create(to_status="canceling", created_at=row.created_at)
    assert InvoiceTransition.objects.count() == 2


def test_log_row_survives_the_deletion_of_its_user():
    ada, invoice = User.objects.create_user("ada"), invoice_in_status()
    invoice._writer.claim([invoice], AuditContext(ada))
    assert invoice.transitions.get().actor == ada
    ada.delete()
    row = invoice.transitions.get()
    assert row.actor is None
    assert row.actor_label == "ada"


def test_user_who_handled_a_payment_may_be_deleted():
    ada = User.objects.create_user("ada")
    invoice = invoice_in_status("paid", paid_after_cancel_handled_by=ada)
    ada.delete()
    assert stored(invoice).paid_after_cancel_handled_by is None


@pytest.mark.parametrize(
    ("actor", "is_user", "label"),
    [
        pytest.param(lambda ada: ada, True, "ada", id="user"),
        pytest.param(lambda ada: SimpleLazyObject(lambda: ada), True, "ada", id="request.user"),
        pytest.param(lambda ada: AnonymousUser(), False, "anonymous", id="anonymous"),
        pytest.param(lambda ada: SimpleLazyObject(AnonymousUser), False, "anonymous", id="request.user, anonymous"),
        pytest.param(lambda ada: None, False, "", id="nobody"),
        pytest.param(lambda ada: "nightly job", False, "nightly job", id="label"),
        pytest.param(lambda ada: "j" * 151, False, "j" * 150, id="long label"),
    ],
)
def test_actor_is_stored_as_key_and_label(actor, is_user, label):
    ada, invoice = User.objects.create_user("ada"), invoice_in_status()
    invoice._writer.claim([invoice], AuditContext(actor(ada)))
    row = invoice.transitions.get()
    assert row.actor_id == (ada.pk if is_user else None)
    assert row.actor_label == label


@pytest.mark.parametrize("actor", [17, object(), ["ada"], InvoiceTransition])
@pytest.mark.parametrize(
    "method",
    [
        pytest.param(lambda invoice, audit: invoice._writer.claim([invoice], audit), id="claim"),
        pytest.param(lambda invoice, audit: invoice._writer.observe(invoice, "paid", audit), id="observe"),
        pytest.param(lambda invoice, audit: invoice._writer.request_cancel(invoice, audit), id="request_cancel"),
    ],
)
def test_actor_of_the_wrong_type_leaves_nothing_behind(method, actor):
    invoice = invoice_in_status()
    with pytest.raises(TypeError, match="actor must be a user, a label"):
        method(invoice, AuditContext(actor))
    row = stored(invoice)
    assert row.status == "created"
    assert row.attempt is None
    assert row.cancel_requested_at is None
    assert status_history(row) == []
    assert invoice.status == "created"
    assert invoice.attempt is None


@pytest.mark.parametrize(
    ("field", "given", "kept"),
    [
        pytest.param("provider_message", "w" * 501, "w" * 500, id="long words"),
        pytest.param("provider_message", "a\0b", "ab", id="NUL, which PostgreSQL refuses"),
        pytest.param("provider_message", "a\ud83db", "a?b", id="half a character, as JSON can escape it"),
        pytest.param("provider_message", "не найден 😀", "не найден 😀", id="not ASCII"),
        pytest.param("code", "c" * 33, "c" * 32, id="an adapter's own long code"),
    ],
)
def test_answer_with_any_text_is_recorded(field, given, kept):
    """A third-party adapter may return longer texts. Its answer must not be lost because of that."""
    invoice = invoice_in_status()
    record_answer(open_claim(invoice), invoice, "canceled", **{field: given})
    assert stored(invoice).status == "canceled"
    assert getattr(invoice.transitions.last(), field) == kept


def test_log_row_contains_all_details_of_its_cause():
    invoice = invoice_in_status()
    opened = open_claim(invoice)
    record_answer(
        opened, invoice, "refused", "expired", code="provider_refused", http_status=422, provider_message="late"
    )
    row = invoice.transitions.last()
    assert row.from_status == "canceling"
    assert row.to_status == "expired"
    assert row.attempt == opened.attempt
    assert row.actor_label == "clerk"
    assert row.trigger == "admin"
    assert row.reason == "asked by the customer"
    assert row.outcome == "refused"
    assert row.code == "provider_refused"
    assert row.http_status == 422
    assert row.provider_message == "late"
    assert row.duration_ms == 7
    assert str(row) == "canceling > expired (admin provider_refused)"
