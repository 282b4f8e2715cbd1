"""Finding an invoice by what people have at hand: the provider's id, in any form, or their own order number.

What is exactly so is found by the indexes. Only where nothing is, it is taken for a beginning.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Q

from .. import conf, registry
from ..exceptions import InvalidExternalId
from .filters import known_aliases


def found(invoices: Any, term: str) -> Any:
    """Return the invoices of this id or reference; those that begin so where there is none."""
    term = term.strip()
    if not term:
        return invoices
    exact = invoices.filter(_exactly(term))
    if exact.exists():
        return exact
    return invoices.filter(Q(external_id__startswith=term) | Q(reference__startswith=term))


def _exactly(term: str) -> Q:
    """Return the condition: each provider's one form of the id (the index begins with the provider), or a reference."""
    configured = conf.read()[0].providers
    forms: dict[str, list[str]] = defaultdict(list)
    for alias in known_aliases():
        forms[term].append(alias)
        if alias in configured and (form := _form(alias, term)) != term:
            forms[form].append(alias)
    condition = Q(reference=term)
    for form, aliases in forms.items():
        condition |= Q(provider__in=aliases, external_id=form)
    return condition


def _form(alias: str, term: str) -> str:
    try:
        return registry.get_provider(alias).clean_id(term)
    except (ImproperlyConfigured, InvalidExternalId):
        return term
