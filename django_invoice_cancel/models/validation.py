"""Checks of an invoice's values that Django does not make, for forms, ``register`` and files alike."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import date
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import connections, models
from django.utils.translation import gettext as _

from .fields import AmountField

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def untimely(instance: models.Model, excluded: Collection[str]) -> dict[str, Any]:
    """Return errors for values of time fields that Django would not even try to read."""
    errors: dict[str, Any] = {}
    for field in instance._meta.fields:
        value = getattr(instance, field.attname)
        is_time = isinstance(field, models.DateTimeField) and field.name not in excluded
        if is_time and not isinstance(value, str | date | None):
            errors[field.name] = [_("Pass a datetime, not %(type)s.") % {"type": type(value).__name__}]
    return errors


def unstorable(instance: models.Model, excluded: Collection[str], *, using: str) -> dict[str, Any]:
    """Return errors for texts and amounts that a database cannot store as they are."""
    errors: dict[str, Any] = {}
    for field in instance._meta.fields:
        value = getattr(instance, field.attname)
        if field.name in excluded:
            continue
        if isinstance(value, str) and _UNSTORABLE.search(value):
            errors[field.name] = [
                _("This text holds a character that cannot be stored (NUL, or half of a surrogate pair): remove it.")
            ]
        elif isinstance(field, AmountField) and isinstance(value, Decimal) and connections[using].vendor == "sqlite":
            try:
                field.refuse_rounding(value)
            except ValidationError as error:
                errors[field.name] = error.messages
    return errors
