"""What a shop tells about an invoice, cleaned: ids in their one form, money as Decimal, words that exist."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db.models import Model

from .. import registry
from ..exceptions import InvalidExternalId
from ..statuses import OURS_ALONE, Status

_TOO_LARGE = 10**100
FIELDS = ("provider", "external_id", "reference", "amount", "currency", "status", "issued_at", "expires_at")


def cleaned_values(values: Mapping[str, Any], model: type[Model]) -> dict[str, Any]:
    """Return the values of an invoice to register, or raise ``ValidationError`` with what to do, by field.

    ``model``: the class to register it as; the fields that a child class adds are passed on as they are.
    """
    own = _own_fields(model)
    unknown = sorted(set(values) - {*FIELDS, *own})
    if unknown:
        raise ValidationError({unknown[0]: f"Unknown field; the known ones are {', '.join((*FIELDS, *own))}."})
    cleaned = {name: value for name, value in values.items() if value is not None or name in own}
    cleaned["external_id"] = _clean_id(cleaned.get("provider"), cleaned.get("external_id"))
    if "amount" in cleaned:
        cleaned["amount"] = _money(cleaned["amount"])
    if "status" in cleaned:
        cleaned["status"] = _status(cleaned["status"])
    return cleaned


def _own_fields(model: type[Model]) -> list[str]:
    """Return the names of the fields that a child class adds to ``Invoice``, without the links between its tables."""
    inherited = model._meta.get_field("external_id").model._meta.concrete_fields
    links = {link for parent in (model, *model._meta.all_parents) for link in parent._meta.parents.values()}
    own = [field for field in model._meta.concrete_fields if field not in inherited and field not in links]
    return [name for field in own for name in dict.fromkeys((field.name, field.attname))]


def id_text(external_id: object) -> object:
    """Return the decimal text of an id that is a whole number, and any other value unchanged.

    Providers put the numbers of invoices into JSON as numbers too. Raises ``InvalidExternalId`` for a number that is
    too long for every provider, and that Python may refuse to print.
    """
    if not isinstance(external_id, int) or isinstance(external_id, bool):
        return external_id
    if abs(external_id) >= _TOO_LARGE:
        raise InvalidExternalId("A number of more than 100 digits is not an id.")
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
        raise ValidationError({"amount": "Money is not a float: pass a string or a Decimal."})
    try:
        money = Decimal(amount)
    except (InvalidOperation, TypeError, ValueError):
        raise ValidationError({"amount": f"{str(amount)[:40]!r} is not an amount."}) from None
    if not money.is_finite() or money < 0:
        raise ValidationError({"amount": f"{money} is not an amount: it must be a number, not below 0."})
    return money


def _status(word: Any) -> Status:
    if word in OURS_ALONE or word not in list(Status):
        allowed = ", ".join(status for status in Status if status not in OURS_ALONE)
        raise ValidationError({"status": f"{str(word)[:40]!r} is not a status to register with: {allowed}."})
    return Status(word)
