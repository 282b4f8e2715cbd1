"""What a bulk run tells at its end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ..outcomes import CancelResult, Outcome


@dataclass
class BulkReport:
    """One result for each invoice of a bulk run, in the order in which they came."""

    results: list[CancelResult] = field(default_factory=list)

    @property
    def counts(self) -> Counter[Outcome]:
        """How many invoices ended with each outcome."""
        return Counter(result.outcome for result in self.results)

    @property
    def ok(self) -> bool:
        """Whether every invoice is known to be canceled."""
        return all(result.ok and result.is_recorded for result in self.results)
