"""Totals of invoices: their number, the sums of their amounts by currency, and the dates on which they were issued."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count, Max, Min, Sum
from django.utils.translation import ngettext_lazy

from ...labels.formatting import format_count, format_dates, format_money, format_number, to_local
from ...models.fields import is_displayable

_WITHOUT_AMOUNT = ngettext_lazy("%(count)s without an amount", "%(count)s without an amount", "number")


@dataclass
class Totals:
    """The totals of some items of an operation. An item without an invoice only counts as an item."""

    count: int = 0
    without_amount: int = 0
    sums: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    first_issued: datetime | None = None
    last_issued: datetime | None = None

    @staticmethod
    def aggregates() -> dict[str, Any]:
        """Return the aggregates of items, grouped at least by ``invoice__currency``, that ``add`` needs."""
        return {
            "count": Count("pk"),
            "without_amount": Count("invoice") - Count("invoice__amount"),
            "sum": Sum("invoice__amount"),
            "first_issued": Min("invoice__issued_at"),
            "last_issued": Max("invoice__issued_at"),
        }

    def add(self, group: Mapping[str, Any]) -> None:
        """Add the aggregates of one group."""
        self.count += group["count"]
        self.without_amount += group["without_amount"]
        if group["sum"] is not None:
            self.sums[group["invoice__currency"]] += group["sum"]
        if group["first_issued"] is not None:
            self.first_issued = min(self.first_issued or group["first_issued"], group["first_issued"])
            self.last_issued = max(self.last_issued or group["last_issued"], group["last_issued"])

    @property
    def shown_count(self) -> str:
        return format_number(self.count)

    @property
    def amounts(self) -> str:
        """The sums, and the number of invoices without an amount."""
        sums = " + ".join(format_money(total, currency) for currency, total in sorted(self.sums.items()))
        missing = format_count(_WITHOUT_AMOUNT, self.without_amount) if self.without_amount else ""
        return "; ".join(filter(None, (sums, missing)))

    @property
    def issued(self) -> str:
        """The dates of the first and the last invoice, in local time; empty without an invoice."""
        if self.first_issued is None or self.last_issued is None:
            return ""
        return format_dates(_local_date(self.first_issued), _local_date(self.last_issued))


def _local_date(when: datetime) -> date:
    return (to_local(when) if is_displayable(when) else when).date()
