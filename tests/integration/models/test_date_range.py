"""Times at the ends of the calendar cannot be registered, because some time zones cannot show them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from django_invoice_cancel.models import Invoice

pytestmark = pytest.mark.django_db

EAST, WEST = timezone(timedelta(hours=14)), timezone(-timedelta(hours=12))
EDGES = {
    "last instant": datetime.max.replace(tzinfo=UTC),
    "last instant in the west": datetime.max.replace(tzinfo=WEST),
    "last day in the east": datetime(9999, 12, 31, tzinfo=EAST),
    "first instant": datetime.min.replace(tzinfo=UTC),
    "first instant in the east": datetime.min.replace(tzinfo=EAST),
    "first day in the west": datetime(1, 1, 1, tzinfo=WEST),
}
each_edge = pytest.mark.parametrize("time", EDGES.values(), ids=EDGES)
each_field = pytest.mark.parametrize("field", ["issued_at", "expires_at"])


@each_edge
@each_field
def test_register_rejects_a_time_outside_the_supported_range(field, time):
    with pytest.raises(ValidationError) as caught:
        Invoice.objects.register(provider="firekassa", external_id="17", **{field: time})
    assert list(caught.value.message_dict) == [field]
    assert Invoice.objects.count() == 0


@each_edge
@each_field
def test_register_many_rejects_all_rows_for_one_unsupported_time(field, time):
    rows = [{"provider": "firekassa", "external_id": str(number)} for number in range(1, 4)]
    rows[1][field] = time
    with pytest.raises(ValidationError):
        Invoice.objects.register_many(rows)
    assert Invoice.objects.count() == 0


@pytest.mark.parametrize("text", ["9999-12-31", "0001-01-01"])
@each_field
def test_admin_form_names_the_field_of_an_unsupported_time(admin_client: Client, field, text):
    data = {
        "provider": "firekassa",
        "external_id": "17",
        "status": "created",
        "issued_at_0": "2026-01-31",
        "issued_at_1": "12:00:00",
    }
    data |= {f"{field}_0": text, f"{field}_1": "00:00:00"}
    answer = admin_client.post("/admin/invoice_cancel/invoice/add/", data)
    assert answer.status_code == 200
    assert list(answer.context["adminform"].form.errors) == [field]
    assert Invoice.objects.count() == 0
