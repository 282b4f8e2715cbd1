"""What a draft would do if it was confirmed now: how many, at which providers, and which not, because of what.

Counts by grouped queries and shows ten of each, whatever the size of the selection.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property, reduce
from operator import or_
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum
from django.utils.translation import gettext as _

from ... import registry
from ...domain.audit import Wanted
from ...domain.outcomes import Code, Outcome
from ...labels import COUNTED, sentence
from ...models import BulkOperationItem, InvoiceTransition, ProviderState
from ...models.operation import Operation
from ...services.eligibility import Account, account_of, state_in, why_not_in
from .. import formatting
from ..provider_state import sending_disabled, trouble_of
from ..scope import OperationSight

EXAMPLES = 10
"""How many invoices are shown for each reason."""


@dataclass
class Share:
    """One provider's share of what would be done."""

    name: str
    count: int = 0
    sums: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))

    @property
    def shown_count(self) -> str:
        return formatting.number(self.count)

    @property
    def amounts(self) -> str:
        return " + ".join(formatting.money(total, currency) for currency, total in sorted(self.sums.items()))


@dataclass(frozen=True)
class Sample:
    """Ten of the selected invoices that go the same way, and how many more there are."""

    examples: list[BulkOperationItem]
    more: int

    @property
    def shown_more(self) -> str:
        return formatting.number(self.more)


@dataclass(frozen=True)
class Refusal(Sample):
    """Selected invoices that would be left alone, for one reason."""

    text: str


class Plan:
    """The effect of a draft if it was confirmed now, on the invoices that the user sees."""

    def __init__(self, sight: OperationSight) -> None:
        self.sight = sight
        self.draft = sight.operation
        self.shares: dict[str, Share] = {}
        self._accounts: dict[str, Account] = {}
        self._refused: Counter[str] = Counter()
        self._groups: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        """Accounts and states of the items that are left, by the code of why nothing would be done; empty: it would."""
        self._sort()

    @property
    def count(self) -> int:
        return sum(share.count for share in self.shares.values())

    @property
    def refused_count(self) -> int:
        return self._refused.total()

    @property
    def refused_codes(self) -> set[str]:
        return set(self._refused)

    @cached_property
    def sample(self) -> Sample:
        """Return ten of those that something would be done about."""
        return Sample(*self._some("", self.count)) if self.count else Sample([], 0)

    def refusals(self) -> Iterator[Refusal]:
        """Yield why invoices would be left alone, the most frequent reason first, with ten of each."""
        order = {code: number for number, code in enumerate(COUNTED)}
        for code, count in sorted(self._refused.items(), key=lambda each: (-each[1], order.get(each[0], len(order)))):
            text = formatting.counted(COUNTED[code], count) if code in COUNTED else f"{formatting.number(count)} {code}"
            yield Refusal(*self._some(code, count), text)

    @cached_property
    def warnings(self) -> list[str]:
        """Return what the invoices would wait for: disabled sending, providers that are paused or did not answer."""
        states = ProviderState.objects.using(self.draft.database).filter(alias__in=self.shares)
        asks = self.draft.operation != Operation.RESOLVE
        disabled = sending_disabled() if self.draft.operation == Operation.CANCEL else []
        return [*disabled, *self._unavailable(), *(text for state in states if asks and (text := trouble_of(state)))]

    def _unavailable(self) -> Iterator[str]:
        """Yield which configurations cannot be read at the moment: the operation waits for them."""
        for alias in sorted(self.shares):
            account = self._accounts[alias]
            if isinstance(account, registry.ConfigurationUnavailable) and self.draft.operation != Operation.RESOLVE:
                code = Code.CONFIGURATION_UNAVAILABLE
                yield str(sentence(Outcome.SKIPPED, code, provider=formatting.account(alias), detail=str(account)))

    @cached_property
    def repeats(self) -> list[str]:
        """Say at which providers checking is a repeat of the cancel."""
        if self.draft.operation != Operation.CHECK:
            return []
        text = _(
            "%(provider)s cannot be asked for an invoice's status. Checking repeats the cancel there, for invoices in "
            "doubt: it does no harm where it has been carried out, and cancels where it has not."
        )
        return [
            text % {"provider": share.name}
            for alias, share in sorted(self.shares.items())
            if not registry.can_look_up(alias)
        ]

    # -- sorting ----------------------------------------------------------------------------------------------

    def _sort(self) -> None:
        groups = self._stated().values("provider", "state", "invoice__currency")
        for group in groups.annotate(count=Count("pk"), sum=Sum("invoice__amount")).order_by():
            account = self._account_of(group["provider"])
            code = why_not_in(self.draft.wanted, group["state"], account, waits_for=self.draft.waits_for)
            self._groups[code].add((group["provider"], group["state"]))
            if code:
                self._refused[code] += group["count"]
            else:
                self._add(group)
        done = self.sight.items.exclude(outcome="").values("code").annotate(count=Count("pk")).order_by()
        self._refused.update({group["code"]: group["count"] for group in done})

    def _account_of(self, alias: str) -> Account:
        if alias not in self._accounts:
            self._accounts[alias] = account_of(alias)
        return self._accounts[alias]

    def _add(self, group: Mapping[str, Any]) -> None:
        alias = group["provider"]
        share = self.shares.setdefault(alias, Share(formatting.account(alias)))
        share.count += group["count"]
        if group["sum"] is not None:
            share.sums[group["invoice__currency"]] += group["sum"]

    def _some(self, code: str, count: int) -> tuple[list[BulkOperationItem], int]:
        examples = list(self._items(code).select_related("invoice").order_by("pk")[:EXAMPLES])
        return examples, count - len(examples)

    def _items(self, code: str) -> QuerySet[BulkOperationItem]:
        """Return those that would be left alone because of this; without a code those that would not."""
        if code not in self._groups:  # concluded when it was selected
            return self.sight.items.filter(code=code)
        pairs = (Q(provider=alias, state=state) for alias, state in self._groups[code])
        return self._stated().filter(reduce(or_, pairs, Q(pk__in=())))

    def _stated(self) -> QuerySet[Any]:
        """Annotate the items that are left with the current state of their invoice."""
        return stated(self.sight.left(), self.draft.wanted)


def stated(items: QuerySet[BulkOperationItem], wanted: Wanted) -> QuerySet[Any]:
    """Annotate items with the current state of their invoice."""
    return items.annotate(state=state_in(wanted, InvoiceTransition.objects.using(items.db), "invoice__"))
