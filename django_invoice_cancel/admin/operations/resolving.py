"""The guidance and the limits of one decision about many invoices, as the page of one invoice has them.

One decision is about the invoices of one provider, because the user reads it in that provider's dashboard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from django.db.models import Count, QuerySet
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ...domain.audit import Wanted
from ...domain.outcomes import Code
from ...domain.statuses import Status
from ...labels.formatting import format_number, format_time
from ...labels.results import describe_count
from ...models import BulkOperationItem
from ...services.eligibility import CONTRADICTED, REFUSED, account_of, doubt_over_at, find_obstacle_in_state
from .preview import Preview, annotate_state

_STATE_COUNTS = {
    Status.IN_DOUBT: Code.IN_DOUBT,
    CONTRADICTED: Code.CONTRADICTORY_ANSWER,
    REFUSED: Code.PROVIDER_REFUSED,
}
"""The code whose text counts the invoices in a state."""


def can_look_up(alias: str) -> bool:
    """Return whether a lookup may settle a doubt about an invoice of this provider."""
    return not find_obstacle_in_state(Wanted.CHECK, Status.IN_DOUBT, account_of(alias))


@dataclass(frozen=True)
class Part:
    """The invoices of one provider."""

    alias: str
    name: str
    count: str


class Resolving:
    """What the confirmation page shows about the decision, and which decisions are possible."""

    def __init__(self, preview: Preview) -> None:
        self._preview = preview

    @property
    def parts(self) -> list[Part]:
        """The providers between which the user must choose first; empty if there is only one."""
        shares = sorted(self._preview.shares.items())
        if len(shares) < 2:
            return []
        return [Part(alias, share.name, share.shown_count) for alias, share in shares]

    @property
    def provider(self) -> str:
        """The name of the only provider."""
        return next((share.name for share in self._preview.shares.values()), "")

    @property
    def names_with_lookup(self) -> str:
        """The names of the providers that can be asked for the status."""
        shares = sorted(self._preview.shares.items())
        return ", ".join(share.name for alias, share in shares if can_look_up(alias))

    @property
    def kinds(self) -> list[str]:
        """The number of invoices of each kind: in doubt, contradicted, refused."""
        return [
            describe_count(code, self._states[state]) for state, code in _STATE_COUNTS.items() if self._states[state]
        ]

    @property
    def is_all_refused(self) -> bool:
        """Whether the provider refused all of them, so that the decision records what its dashboard shows."""
        return bool(self._states[REFUSED]) and self._states.total() == self._states[REFUSED]

    @property
    def can_reopen(self) -> bool:
        """Whether "Still open" is possible for each of the invoices."""
        return not self._reopen_obstacles

    def remarks(self) -> Iterator[str]:
        """Yield the reasons why "Still open" is not possible."""
        refused, in_period = (self._reopen_obstacles[code] for code in (Code.NOT_IN_DOUBT, Code.DOUBT_PERIOD))
        if refused:
            text = ngettext(
                "“Still open” cannot be chosen: %(count)s invoice was refused and is open here already. "
                "If the dashboard shows it as open, leave it out.",
                "“Still open” cannot be chosen: %(count)s invoices were refused and are open here already. "
                "Leave out those that the dashboard shows as open.",
                refused,
            )
            yield text % {"count": format_number(refused)}
        if in_period:
            text = _("“Still open” can be chosen after %(when)s. Until then %(provider)s may carry out a lost request.")
            yield text % {"when": self._reopen_from(), "provider": self.provider}

    # -- the decision -------------------------------------------------------------------------------------------

    @cached_property
    def _states(self) -> Counter[str]:
        rows = self._preview.eligible_items().order_by().values("state").annotate(count=Count("pk"))
        return Counter({row["state"]: row["count"] for row in rows})

    @cached_property
    def _reopen_obstacles(self) -> Counter[str]:
        """The number of invoices that cannot be decided to be still open, by the code of the reason."""
        found: Counter[str] = Counter()
        items = annotate_state(self._eligible(), Wanted.REOPEN)
        for row in items.order_by().values("provider", "state").annotate(count=Count("pk")):
            if code := find_obstacle_in_state(Wanted.REOPEN, row["state"], account_of(row["provider"])):
                found[code] += row["count"]
        return found

    def _reopen_from(self) -> str:
        """Return the time after which the last of the lost requests can no longer be carried out."""
        end = Coalesce("invoice__claim_expires_at", "invoice__status_changed_at")
        items = annotate_state(self._eligible(), Wanted.REOPEN).filter(state=Code.DOUBT_PERIOD)
        last = items.select_related("invoice").order_by(end.desc(), "pk").first()
        return format_time(doubt_over_at(last.invoice)) if last is not None else ""

    def _eligible(self) -> QuerySet[BulkOperationItem]:
        keys = self._preview.eligible_items().order_by().values("pk")
        return BulkOperationItem.objects.using(self._preview.draft.database).filter(pk__in=keys)
