"""Find out what became of the invoices in doubt. For cron: every minute or so, on as many machines as there are."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db.models import Q

from ... import registry
from ...bulk import cannot_be_asked, preview_walks, reconcile_invoices, walks_of, why_not_askable
from ...statuses import OURS_ALONE, Status
from ..arguments import (
    add_output_arguments,
    checked_provider,
    invoices_in,
    refuse_bad_bounds,
    refuse_inside_transaction,
)
from ..runs import Run, stopping_on_signals


class Command(BaseCommand):
    help = (
        "Ask the providers about invoices in doubt and abandoned ones that are due, and record what they say. "
        "Invoices in doubt at a provider that cannot be asked are left to --resubmit, or to a person."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        others = [str(status) for status in Status if status not in OURS_ALONE]
        parser.add_argument("--provider", metavar="ALIAS", help="only invoices of this provider")
        parser.add_argument("--status", choices=others, help="ask about invoices in this status instead")
        parser.add_argument("--now", action="store_true", help="also those that are not due yet")
        parser.add_argument(
            "--resubmit",
            action="store_true",
            help="repeat the cancel where a provider cannot be asked and a repeat does no harm",
        )
        add_output_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        refuse_bad_bounds(options, "limit")
        provider = checked_provider(options["provider"])
        invoices = self._selection(provider, options)
        selected = invoices.count()
        run = Run(self, options, title="Reconciling", total=min(selected, options["limit"] or selected))
        if options["dry_run"]:
            why_not = partial(why_not_askable, resubmit=options["resubmit"])
            run.take_in(preview_walks(walks_of(invoices), limit=options["limit"], why_not=why_not))
            run.summarize()
            return
        bounds = {name: options[name] for name in ("resubmit", "limit")}
        refuse_inside_transaction(invoices.verbs)
        with stopping_on_signals() as stop:
            run.take_in(reconcile_invoices(invoices, stop=stop, **bounds), stop)
        if not stop.is_set() and not options["status"]:
            for alias in [provider] if provider else _looked_after(invoices_in(options)):
                invoices.verbs.beat(alias)
        run.finish(is_interrupted=stop.is_set(), if_in_doubt="They are asked about again, ever more rarely.")

    def _selection(self, provider: str | None, options: dict[str, Any]) -> Any:
        invoices = invoices_in(options)
        if provider:
            invoices = invoices.filter(provider=provider)
        if options["status"]:
            return invoices.filter(status=options["status"])
        if options["now"]:
            abandoned = Q(pk__in=invoices.abandoned().values("pk"))
            invoices = invoices.filter(Q(status=Status.IN_DOUBT) | abandoned)
        else:
            invoices = invoices.due_for_reconciling()
        if options["resubmit"] or provider:
            return invoices
        return invoices.exclude(status=Status.IN_DOUBT, provider__in=cannot_be_asked(invoices))


def _looked_after(invoices: Any) -> list[str]:
    """Return the aliases that a run for all looks after: those in the settings, and a resolver's with something to do.

    An alias that is not configured any more is not among them: nobody can be asked there.
    """
    unsettled = (invoices.in_doubt() | invoices.abandoned()).order_by().values_list("provider", flat=True)
    aliases = registry.aliases()
    return [*aliases, *filter(registry.is_configured, sorted({*unsettled.distinct()}.difference(aliases)))]
