"""Validation of the values of a new invoice: normalized ids, amounts as Decimal, known statuses."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypedDict
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db.models import Model
from django.utils import timezone

from .. import registry
from ..domain.statuses import REPORTABLE_STATUSES, Status
from ..exceptions import InvalidExternalId
from .fields import as_plain, displayable, is_amount
from .values import parse_time

_TOO_LARGE = 10**100
_NOT_FINITE = frozenset({"NaN", "sNaN", "Infinity"})


class InvoiceFields(TypedDict, total=False):
    """The data of an invoice besides its provider and id. None means unknown."""

    reference: str | int | UUID | None
    amount: Decimal | str | int | None
    currency: str | None
    status: str | None
    issued_at: datetime | str | None
    expires_at: datetime | str | None


FIELDS = ("provider", "external_id", *InvoiceFields.__annotations__)


def cleaned_values(values: Mapping[str, Any], model: type[Model]) -> dict[str, Any]:
    """Return the validated values of an invoice to register, or raise ``ValidationError`` with a text for each field.

    ``model`` is the class of the invoice. The values of fields that a child class adds are not changed.
    """
    own = own_names(model)
    unknown = sorted(set(values) - {*FIELDS, *own})
    if unknown:
        raise ValidationError({unknown[0]: f"Unknown field. The valid fields are {', '.join((*FIELDS, *own))}."})
    cleaned = {name: value for name, value in values.items() if value is not None or name in own}
    cleaned["external_id"] = _clean_id(cleaned.get("provider"), cleaned.get("external_id"))
    if "amount" in cleaned:
        cleaned["amount"] = _money(cleaned["amount"])
    if "status" in cleaned:
        cleaned["status"] = _status(cleaned["status"])
    for name in {"issued_at", "expires_at"} & set(cleaned):
        cleaned[name] = _instant(name, cleaned[name])
    for name in {"reference", "currency"} & set(cleaned):
        cleaned[name] = _text(name, cleaned[name])
    return cleaned


def own_names(model: type[Model]) -> list[str]:
    """Return the names and columns of the fields that a child class adds to ``Invoice``."""
    return [name for field in _own_fields(model) for name in dict.fromkeys((field.name, field.attname))]


def columns_to_register(model: type[Model]) -> list[str]:
    """Return the columns that ``register`` accepts for a new instance. The database computes the others."""
    return [*FIELDS, *(field.attname for field in _own_fields(model) if not getattr(field, "generated", False))]


def _own_fields(model: type[Model]) -> list[Any]:
    """Return the fields that a child class adds to ``Invoice``, without the links between its tables."""
    inherited = model._meta.get_field("external_id").model._meta.concrete_fields
    links = {link for parent in (model, *model._meta.all_parents) for link in parent._meta.parents.values()}
    return [field for field in model._meta.concrete_fields if field not in inherited and field not in links]


def id_text(external_id: object) -> object:
    """Return the decimal text of an id that is a whole number, and any other value unchanged.

    Some providers send invoice numbers as JSON numbers. Raises ``InvalidExternalId`` for a number of more than 100
    digits, which no provider uses and which Python may refuse to print.
    """
    if not isinstance(external_id, int) or isinstance(external_id, bool):
        return external_id
    if abs(external_id) >= _TOO_LARGE:
        raise InvalidExternalId("A number with more than 100 digits cannot be an id.")
    return str(int(external_id))


def _clean_id(provider: Any, external_id: Any) -> str:
    try:
        return registry.get_provider(str(provider)).clean_id(id_text(external_id))
    except ImproperlyConfigured as error:
        raise ValidationError({"provider": str(error)}) from error
    except InvalidExternalId as error:
        raise ValidationError({"external_id": str(error)}) from error


def _money(amount: Any) -> Decimal:
    if isinstance(amount, float):
        raise ValidationError({"amount": "An amount cannot be a float. Pass a string or a Decimal."})
    is_number = isinstance(amount, Decimal | int) and not isinstance(amount, bool)
    is_text = isinstance(amount, str) and (is_amount(amount) or amount.strip(" ").lstrip("+-") in _NOT_FINITE)
    try:
        money = Decimal(amount) if is_number or is_text else None
    except (InvalidOperation, ValueError):
        money = None
    if money is None:
        raise ValidationError({"amount": f"{_shown(amount)} is not a valid amount. Use digits, such as '1000.50'."})
    if not money.is_finite() or money < 0:
        raise ValidationError({"amount": f"{money} is not a valid amount. It must be a number of at least 0."})
    return money


def _instant(name: str, value: Any) -> datetime:
    """Return a time in the form of a ``DateTimeField``, or raise ``ValidationError``."""
    if isinstance(value, str):
        with suppress(ValueError):  # valid syntax, but the day or hour does not exist
            value = parse_time(value)
    if not isinstance(value, datetime):
        raise ValidationError(
            {name: f"{_shown(value)} is not a valid time. Pass a datetime, or a string in the format of isoformat()."}
        )
    try:
        displayable(value)
    except ValidationError as error:
        raise ValidationError({name: error.messages}) from error
    if settings.USE_TZ and timezone.is_naive(value):
        raise ValidationError({name: f"{value} has no time zone. Pass an aware datetime (timezone.make_aware)."})
    return value if settings.USE_TZ or timezone.is_naive(value) else as_plain(value)


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool | float | bytes | Mapping | list | tuple | set):
        raise ValidationError({name: f"{_shown(value)} is not a string."})
    return str(value)


def _shown(value: Any) -> str:
    try:
        text = ascii(value)
    except ValueError:  # a number that Python refuses to print
        text = f"a very long {type(value).__name__}"
    return text if len(text) <= 40 else f"{text[:37]}..."


def _status(word: Any) -> Status:
    if not isinstance(word, str) or word not in REPORTABLE_STATUSES:
        allowed = ", ".join(REPORTABLE_STATUSES)
        raise ValidationError(
            {"status": f"{str(word)[:40]!r} is not a valid status for registration. Use one of: {allowed}."}
        )
    return Status(word)
