"""Preview of a draft: the invoices that it would process at each provider, and those that are left out.

It counts with grouped queries and shows ten invoices of each group, so its cost does not depend on the selection's
size.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_
from typing import Any

from django.db.models import Count, Q, QuerySet
from django.utils.translation import gettext as _

from ... import registry
from ...domain.audit import Wanted
from ...domain.outcomes import Code, Outcome
from ...labels.formatting import format_number
from ...labels.results import CODE_COUNTS, describe_count, describe_result
from ...models import BulkOperationItem, InvoiceTransition, ProviderState
from ...models.operation import Operation
from ...services.eligibility import Account, account_of, find_obstacle_in_state, state_in
from ..provider_state import account_name, describe_trouble, sending_warnings
from ..scope import OperationScope
from .totals import Totals

SAMPLE_SIZE = 10
"""Maximum number of invoices of each group that are shown."""


@dataclass
class Share(Totals):
    """The invoices of one provider that would be processed."""

    name: str = ""


@dataclass(frozen=True)
class Sample:
    """Some invoices of a group, and the number of the others."""

    examples: list[BulkOperationItem]
    more: int

    @property
    def shown_more(self) -> str:
        return format_number(self.more)


@dataclass(frozen=True)
class LeftOutGroup(Sample):
    """Selected invoices that are left out for the same reason."""

    text: str


class Preview:
    """The effect of a draft if it were confirmed now, on the invoices that the user may see."""

    def __init__(self, scope: OperationScope) -> None:
        self.scope = scope
        self.draft = scope.operation
        self.shares: dict[str, Share] = {}
        self.total = Totals()
        """The totals of all shares."""
        self._accounts: dict[str, Account] = {}
        self._left_out: Counter[str] = Counter()
        self._groups: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        """Accounts and states of items, by the code why they are left out. Eligible items have an empty code."""
        self._classify_items()

    @property
    def count(self) -> int:
        return self.total.count

    @property
    def left_out_count(self) -> int:
        return self._left_out.total()

    @property
    def left_out_codes(self) -> set[str]:
        return set(self._left_out)

    @cached_property
    def sample(self) -> Sample:
        """Some of the eligible invoices."""
        return Sample(*self._take_sample("", self.count)) if self.count else Sample([], 0)

    def eligible_items(self) -> QuerySet[Any]:
        """Return the items of the eligible invoices, with their state."""
        return self._items("")

    def left_out_groups(self) -> Iterator[LeftOutGroup]:
        """Yield the groups of invoices that are left out, the largest one first."""
        order = {code: number for number, code in enumerate(CODE_COUNTS)}
        for code, count in sorted(self._left_out.items(), key=lambda each: (-each[1], order.get(each[0], len(order)))):
            yield LeftOutGroup(*self._take_sample(code, count), describe_count(code, count))

    @cached_property
    def warnings(self) -> list[str]:
        """Warnings about causes of delay: disabled sending, and providers that are paused or fail."""
        if self.draft.operation == Operation.RESOLVE:
            return []
        disabled = sending_warnings() if self.draft.operation == Operation.CANCEL else []
        troubles = (text for state in self._states if (text := describe_trouble(state)))
        return [*disabled, *self._unavailable_configurations(), *troubles]

    @property
    def paused(self) -> list[ProviderState]:
        """The states of the providers that are paused."""
        is_sending = self.draft.operation != Operation.RESOLVE
        return [state for state in self._states if state.is_paused] if is_sending else []

    @cached_property
    def _states(self) -> list[ProviderState]:
        states = ProviderState.objects.using(self.draft.database).filter(alias__in=self.shares)
        return list(states.order_by("alias"))

    def _unavailable_configurations(self) -> Iterator[str]:
        for alias in sorted(self.shares):
            account = self._accounts[alias]
            if isinstance(account, registry.ConfigurationUnavailable):
                code, name = Code.CONFIGURATION_UNAVAILABLE, account_name(alias)
                yield str(describe_result(Outcome.SKIPPED, code, provider=name, detail=str(account)))

    @cached_property
    def repeats(self) -> list[str]:
        """Warnings about providers for which a check repeats the cancel request."""
        if self.draft.operation != Operation.CHECK:
            return []
        text = _(
            "%(provider)s offers no status lookup. A check repeats the cancel request for its invoices in doubt. "
            "If an invoice is already canceled, nothing changes. Otherwise the invoice is canceled."
        )
        return [
            text % {"provider": share.name}
            for alias, share in sorted(self.shares.items())
            if not registry.can_look_up(alias)
        ]

    # -- groups -----------------------------------------------------------------------------------------------

    def _classify_items(self) -> None:
        groups = self._items_with_state().values("provider", "state", "invoice__currency")
        for group in groups.annotate(**Totals.aggregates()).order_by():
            account = self._account_of(group["provider"])
            code = find_obstacle_in_state(self.draft.wanted, group["state"], account, waits_for=self.draft.waits_for)
            self._groups[code].add((group["provider"], group["state"]))
            if code:
                self._left_out[code] += group["count"]
            else:
                self._add(group)
        done = self.scope.items.exclude(outcome="").values("code").annotate(count=Count("pk")).order_by()
        self._left_out.update({group["code"]: group["count"] for group in done})

    def _account_of(self, alias: str) -> Account:
        if alias not in self._accounts:
            self._accounts[alias] = account_of(alias)
        return self._accounts[alias]

    def _add(self, group: Mapping[str, Any]) -> None:
        alias = group["provider"]
        self.shares.setdefault(alias, Share(name=account_name(alias))).add(group)
        self.total.add(group)

    def _take_sample(self, code: str, count: int) -> tuple[list[BulkOperationItem], int]:
        examples = list(self._items(code).select_related("invoice").order_by("pk")[:SAMPLE_SIZE])
        return examples, count - len(examples)

    def _items(self, code: str) -> QuerySet[BulkOperationItem]:
        """Return the items that are left out with this code; for an empty code, the eligible items."""
        if code not in self._groups:  # left out when the draft was created
            return self.scope.items.filter(code=code)
        pairs = (Q(provider=alias, state=state) for alias, state in self._groups[code])
        return self._items_with_state().filter(reduce(or_, pairs, Q(pk__in=())))

    def _items_with_state(self) -> QuerySet[Any]:
        return annotate_state(self.scope.left(), self.draft.wanted)


def annotate_state(items: QuerySet[BulkOperationItem], wanted: Wanted) -> QuerySet[Any]:
    """Annotate items with the current state of their invoice."""
    return items.annotate(state=state_in(wanted, InvoiceTransition.objects.using(items.db), "invoice__"))
