"""Resolve invoices in doubt and send requested cancellations. For cron: every minute, on any number of machines."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.models import F

from ... import conf, registry
from ...bulk import reconcile_invoices
from ...bulk.start import aliases_without_lookup, cancel_requested_selection, make_readers, preview_selection
from ...domain.audit import Wanted
from ...domain.clock import TOLERANCE, utc_now
from ...domain.numbers import COMMAND_LIMIT
from ...domain.outcomes import Code
from ...domain.statuses import REPORTABLE_STATUSES, Status
from ...models import ProviderState
from ...services.eligibility import doubtful
from ..arguments import (
    add_output_arguments,
    check_numbers,
    checked_provider,
    invoices_in,
    refuse_inside_transaction,
)
from ..output import ReportingCommand
from ..runs import RunSummary, stop_on_signals

_UNUSABLE = (Code.MISCONFIGURED, Code.CONFIGURATION_UNAVAILABLE)
"""Codes of accounts that cannot be used until the configuration is repaired."""
_REPORTED_FOR = timedelta(hours=1) - timedelta(seconds=30)
"""Period in which the report about such an account is not repeated. Cron does not start at the exact second."""


class Command(ReportingCommand):
    help = (
        "Look up invoices that are due and in doubt or abandoned, and record the answers. Then send requested "
        "cancellations (cancel_on_commit) that are due. Invoices in doubt at a provider without a status lookup are "
        "skipped, unless --resubmit or --provider is given."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        statuses = [str(status) for status in REPORTABLE_STATUSES]
        parser.add_argument("--provider", metavar="ALIAS", help="only invoices of this provider")
        parser.add_argument(
            "--status", choices=statuses, help="look up invoices with this status instead; send no cancel requests"
        )
        parser.add_argument("--now", action="store_true", help="also look up invoices that are not due yet")
        parser.add_argument(
            "--resubmit",
            action="store_true",
            help="repeat the cancel request if the provider has no status lookup and a repeat is harmless",
        )
        add_output_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        check_numbers(options, limit=COMMAND_LIMIT)
        provider = checked_provider(options["provider"])
        if provider and options["status"] and not registry.can_look_up(provider):
            raise CommandError(f"Provider {provider!r} has no status lookup.")
        invoices = self._selection(provider, options)
        requested = self._requested(provider, options)
        selected = invoices.count() + requested.count()
        limit = options["limit"]
        run = RunSummary(self, options, title="Reconciling", total=min(selected, limit or selected))
        if options["dry_run"]:
            wanted = Wanted.REPEAT if options["resubmit"] else Wanted.CHECK
            run.collect(preview_selection(make_readers(invoices), limit=limit, wanted=wanted))
            run.collect(preview_selection(make_readers(requested), limit=run.remaining_of(limit)))
            run.summarize()
            return
        writer = invoices._writer
        refuse_inside_transaction(writer)
        reported = _reported_before(writer.using) if options["verbosity"] == 0 and not options["status"] else set()
        with stop_on_signals() as stop:
            run.collect(reconcile_invoices(invoices, stop=stop, resubmit=options["resubmit"], limit=limit), stop)
            if not stop.is_set() and run.remaining_of(limit) != 0:
                readers = make_readers(requested)
                run.collect(
                    cancel_requested_selection(writer, readers, should_stop=stop.is_set, limit=run.remaining_of(limit)),
                    stop,
                )
        if not stop.is_set() and not options["status"]:
            for alias in [provider] if provider else _aliases_to_reconcile(invoices_in(options)):
                writer.touch_heartbeat(alias)
            for alias, code in run.reasons:
                if code in _UNUSABLE and (alias, code) not in reported:
                    writer.pause(alias, code, 0.0)  # does not stop anything: it stores the time of this report
        in_doubt = "They will be looked up again, at increasing intervals."
        run.finish(is_interrupted=stop.is_set(), if_in_doubt=in_doubt, reported=reported)

    def _requested(self, provider: str | None, options: dict[str, Any]) -> Any:
        """Return the invoices whose requested cancellation is due.

        The result is empty if a status was selected, because such a run only makes lookups, or if sending is disabled.
        """
        invoices = invoices_in(options)
        if options["status"] or not conf.get().send:
            return invoices.none()
        due = invoices.due_for_canceling()
        return due.filter(provider=provider) if provider else due

    def _selection(self, provider: str | None, options: dict[str, Any]) -> Any:
        invoices = invoices_in(options)
        if provider:
            invoices = invoices.filter(provider=provider)
        if options["status"]:
            chosen = invoices.filter(status=options["status"])
            return chosen.exclude(provider__in=aliases_without_lookup(chosen))
        invoices = invoices.filter(doubtful()) if options["now"] else invoices.due_for_reconciling()
        if options["resubmit"] or provider:
            return invoices
        return invoices.exclude(status=Status.IN_DOUBT, provider__in=aliases_without_lookup(invoices))


def _reported_before(using: str) -> set[tuple[str, str]]:
    """Return the reports of earlier runs as (alias, code).

    A pause was reported if a run ended after its start. An unusable account was reported if that happened within the
    last hour.
    """
    states = ProviderState.objects.using(using)
    met = {state.alias for state in states.filter(paused_at__lte=F("last_reconcile_at")) if state.is_paused}
    now = utc_now()
    recent = states.filter(pause_code__in=_UNUSABLE, paused_at__range=(now - _REPORTED_FOR, now + TOLERANCE))
    return {(alias, Code.PROVIDER_PAUSED) for alias in met} | set(recent.values_list("alias", "pause_code"))


def _aliases_to_reconcile(invoices: Any) -> list[str]:
    """Return the aliases that a run without ``--provider`` handles.

    These are the aliases in the settings, and the aliases of a resolver that have invoices in doubt or requested
    cancellations. Aliases that are no longer configured are left out, because no request can be sent for them.
    """
    unsettled = invoices.filter(doubtful()) | invoices.requested()
    unsettled = unsettled.order_by().values_list("provider", flat=True)
    aliases = registry.aliases()
    return [*aliases, *filter(registry.is_configured, sorted({*unsettled.distinct()}.difference(aliases)))]
