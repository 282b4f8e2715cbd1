"""Find out what became of the invoices in doubt. For cron: every minute or so, on as many machines as there are."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q

from ... import registry
from ...bulk import preview_walks, reconcile_invoices, walks_of
from ...exceptions import CancelInTransaction
from ...statuses import OURS_ALONE, Status
from ..arguments import add_output_arguments, checked_provider, invoices_in
from ..runs import Run, stopping_on_signals


class Command(BaseCommand):
    help = "Ask the providers about invoices in doubt and abandoned ones that are due, and record what they say."

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
        provider = checked_provider(options["provider"])
        invoices = self._selection(provider, options)
        run = Run(self, as_jsonl=options["format"] == "jsonl", title="Reconciling", total=None)
        if options["dry_run"]:
            run.take_in(preview_walks(walks_of(invoices), limit=options["limit"], why_not=lambda invoice: None))
            return run.summarize()
        try:
            with stopping_on_signals(self) as stop:
                run.take_in(
                    reconcile_invoices(invoices, resubmit=options["resubmit"], limit=options["limit"], stop=stop)
                )
        except CancelInTransaction as error:
            raise CommandError(str(error)) from error
        if not stop.is_set() and not options["status"]:
            for alias in [provider] if provider else registry.aliases():
                invoices.verbs.beat(alias)
        return run.finish(is_interrupted=stop.is_set())

    def _selection(self, provider: str | None, options: dict[str, Any]) -> Any:
        invoices = invoices_in(options)
        if provider:
            invoices = invoices.filter(provider=provider)
        if options["status"]:
            return invoices.filter(status=options["status"])
        if options["now"]:
            abandoned = Q(pk__in=invoices.abandoned().values("pk"))
            return invoices.filter(Q(status=Status.IN_DOUBT) | abandoned)
        return invoices.due_for_reconciling()
