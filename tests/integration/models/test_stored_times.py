"""Stored times are read back unchanged, also at both clock changes of a year, with and without ``USE_TZ``."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.core import serializers
from django.db import models
from django.db.models import F, Max, Min

from django_invoice_cancel.models import BulkOperation, BulkOperationItem, Invoice, InvoiceTransition, ProviderState
from django_invoice_cancel.models.fields import InstantField

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("use_tz")]

PLAIN = {"issued_at", "expires_at", "created_at"}


def around(change: datetime) -> list[datetime]:
    """Return the instants of three hours before and after, each quarter of an hour, with microseconds."""
    return [change + timedelta(minutes=15 * step, microseconds=step + 500) for step in range(-12, 13)]


def test_every_instant_is_read_as_it_was_stored(clock_change):
    stored = {f"account-{number}": instant for number, instant in enumerate(around(clock_change))}
    for alias, instant in stored.items():
        ProviderState.objects.create(alias=alias, paused_until=instant)
    states = ProviderState.objects.order_by("paused_until")
    assert {state.alias: state.paused_until for state in states} == stored
    assert dict(states.values_list("alias", "paused_until")) == stored
    assert [state.alias for state in states] == list(stored)
    ends = ProviderState.objects.aggregate(first=Min("paused_until"), last=Max("paused_until"))
    assert ends["first"] == min(stored.values())
    assert ends["last"] == max(stored.values())
    for alias, instant in stored.items():
        assert ProviderState.objects.get(paused_until=instant).alias == alias
        assert ProviderState.objects.filter(paused_until__lt=instant).count() == list(stored).index(alias)


def test_every_instant_is_read_in_utc(clock_change):
    ProviderState.objects.create(alias="shop", paused_until=clock_change.astimezone(timezone(timedelta(hours=-7))))
    state = ProviderState.objects.annotate(same=F("paused_until")).get()
    assert state.paused_until.tzinfo == UTC
    assert state.same.tzinfo == UTC
    assert state.paused_until == clock_change
    assert state.same == clock_change


def test_instant_survives_an_update_by_another_column(clock_change):
    for number, instant in enumerate(around(clock_change)):
        ProviderState.objects.create(alias=f"account-{number}", paused_until=instant)
    ProviderState.objects.update(last_success_at=F("paused_until"))
    assert all(state.last_success_at == state.paused_until for state in ProviderState.objects.all())
    assert ProviderState.objects.filter(last_success_at=F("paused_until")).count() == len(around(clock_change))


@pytest.mark.parametrize("form", ["json", "xml"])
def test_instant_survives_dumpdata_and_loaddata(clock_change, form):
    for number, instant in enumerate(around(clock_change)):
        whole = instant.replace(microsecond=500_000)  # Django writes JSON to the millisecond
        ProviderState.objects.create(alias=f"account-{number}", paused_until=whole)
    before = dict(ProviderState.objects.values_list("alias", "paused_until"))
    dump = serializers.serialize(form, ProviderState.objects.all())
    ProviderState.objects.all().delete()
    for loaded in serializers.deserialize(form, dump):
        loaded.save()
    assert dict(ProviderState.objects.values_list("alias", "paused_until")) == before


def test_naive_time_in_a_filter_is_local(settings):
    settings.TIME_ZONE = "Europe/Berlin"
    ProviderState.objects.create(alias="shop", paused_until=datetime(2026, 7, 1, 10, tzinfo=UTC))
    if settings.USE_TZ:
        with pytest.warns(RuntimeWarning, match="naive datetime"):
            assert ProviderState.objects.filter(paused_until=datetime(2026, 7, 1, 12)).exists()  # noqa: DTZ001
    else:
        assert ProviderState.objects.filter(paused_until=datetime(2026, 7, 1, 12)).exists()  # noqa: DTZ001


@pytest.mark.parametrize("model", [Invoice, InvoiceTransition, ProviderState, BulkOperation, BulkOperationItem])
def test_only_the_dates_of_an_invoice_depend_on_the_time_zone(model):
    plain = {
        field.name
        for field in model._meta.concrete_fields
        if isinstance(field, models.DateTimeField) and not isinstance(field, InstantField)
    }
    assert plain == (PLAIN if model is Invoice else set())
