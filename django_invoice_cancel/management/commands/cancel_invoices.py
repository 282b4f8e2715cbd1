"""Cancel invoices at their providers, from a shell or cron: select them, ask for confirmation, start the run."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from django.core.management.base import CommandError, CommandParser
from django.db import transaction
from django.db.models import Count

from ...bulk.selection import KeyListReader, SelectionReader
from ...bulk.start import cancel_requested_selection, cancel_selection, make_readers, preview_selection
from ...domain.audit import AuditContext, Trigger
from ...domain.numbers import COMMAND_LIMIT, CONCURRENCY, RATE
from ...models import BulkOperation, Invoice
from ...services.call_arguments import build_checked_audit_context
from ..arguments import (
    actor,
    add_output_arguments,
    age,
    check_numbers,
    checked_provider,
    invoices_in,
    keys_of,
    moment,
    number_in,
    read_texts,
    reason,
    refuse_inside_transaction,
)
from ..output import ReportingCommand
from ..runs import INTERRUPTED, RunSummary, stop_on_signals
from .register_invoices import COLUMNS, ID, BadRows, open_rows

if TYPE_CHECKING:
    from ...models.queryset import InvoiceQuerySet

_SELECTORS = ("external_ids", "from_file", "provider", "older_than", "expires_before", "requested", "all")


class Command(ReportingCommand):
    help = (
        "Cancel invoices at their providers. Requires a selector or --all, and asks for confirmation before it sends."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "external_ids",
            nargs="*",
            metavar="EXTERNAL_ID",
            help="ids of invoices at the provider (requires --provider)",
        )
        parser.add_argument(
            "--from-file",
            metavar="FILE",
            help="file with one id per line, or CSV file as for register_invoices; - for stdin (requires --noinput)",
        )
        parser.add_argument("--provider", metavar="ALIAS", help="only invoices of this provider")
        parser.add_argument(
            "--older-than", type=age, metavar="AGE", help="unpaid invoices older than AGE, such as 45m, 36h, 2d or 1w"
        )
        parser.add_argument(
            "--expires-before", type=moment, metavar="TIME", help="unpaid invoices that expire before TIME"
        )
        parser.add_argument(
            "--requested",
            action="store_true",
            help="invoices with a request from cancel_on_commit, due or not; the log keeps the user of the request",
        )
        parser.add_argument("--include-refused", action="store_true", help="include invoices that were refused before")
        parser.add_argument("--all", action="store_true", help="all open invoices, except those refused before")
        parser.add_argument(
            "--concurrency",
            type=number_in(CONCURRENCY),
            metavar="N",
            help="maximum number of requests in flight per provider",
        )
        parser.add_argument(
            "--rate", type=number_in(RATE), metavar="N", help="maximum requests per second, over all processes"
        )
        parser.add_argument("--reason", type=reason, default="", help="reason, stored in the log of each invoice")
        parser.add_argument("--actor", metavar="NAME", help="name of the user who cancels, or any label")
        parser.add_argument("--noinput", "--no-input", action="store_true", help="do not ask for confirmation")
        parser.add_argument(
            "--background",
            action="store_true",
            help="store the selection as a bulk operation for workers or run_bulk_operations, and print its id",
        )
        add_output_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        check_numbers(options, limit=COMMAND_LIMIT, concurrency=CONCURRENCY, rate=RATE)
        read_texts(options, older_than=age, expires_before=moment, reason=reason)
        if options["background"]:
            self._refuse_background(options)
        audit = self._audit_context(options)
        readers, counts = self._selection(options)
        total = min(counts.total(), options["limit"] or counts.total())
        run = RunSummary(self, options, title="Canceling", total=total)
        if options["dry_run"]:
            run.collect(preview_selection(readers, limit=options["limit"]))
            run.summarize()
            return
        writer = invoices_in(options)._writer
        refuse_inside_transaction(writer)
        if total and not options["noinput"]:
            self._confirm(counts, options)
        if options["background"]:
            self._start(readers, audit, writer.using, options)
            return
        bounds = {name: options[name] for name in ("limit", "concurrency", "rate")}
        with stop_on_signals() as stop:
            if options["requested"]:
                results = cancel_requested_selection(writer, readers, should_stop=stop.is_set, **bounds)
            else:
                results = cancel_selection(writer, readers, audit, should_stop=stop.is_set, **bounds)
            run.collect(results, stop)
        run.finish(is_interrupted=stop.is_set(), if_in_doubt="Do not cancel them again. Run reconcile_invoices.")

    def _refuse_background(self, options: dict[str, Any]) -> None:
        """Raise ``CommandError`` for options that a stored operation does not support, and for another database."""
        if options["requested"]:
            raise CommandError("--background cannot be combined with --requested.")
        if options["concurrency"] or options["rate"]:
            raise CommandError(
                "--background cannot be combined with --concurrency or --rate. Set them in the provider's OPTIONS."
            )
        own = Invoice.objects.all()._writer.using
        if options["database"] not in (None, own):
            raise CommandError(
                f"--background requires database {own!r}: workers process no operations in other databases."
            )

    def _start(
        self, readers: dict[str, SelectionReader], audit: AuditContext, using: str, options: dict[str, Any]
    ) -> None:
        """Store the selection as a bulk operation and start it. Only its id is written to stdout.

        If nothing is selected, nothing is stored.
        """
        fields = {"actor": audit.actor, "trigger": audit.trigger, "reason": audit.reason}
        with transaction.atomic(using=using):
            manager = BulkOperation.objects.db_manager(using)
            operation = manager.draft(Invoice.objects.none(), is_previewed=False, **fields)
            for reader in readers.values():
                left = options["limit"] and options["limit"] - operation.total
                for selected in reader.querysets(left) if left != 0 else ():
                    operation.snapshot(cast("InvoiceQuerySet", selected))
            operation.skip_invalid_ids()
            transaction.set_rollback(operation.total == 0, using=using)
        if operation.total == 0:
            if options["verbosity"]:
                self.stderr.write("No invoices are selected, so no operation was stored.", style_func=str)
            return
        operation.confirm()
        self.stdout.write(str(operation.pk))

    def _audit_context(self, options: dict[str, Any]) -> AuditContext:
        if options["requested"]:
            return AuditContext(trigger=Trigger.ON_COMMIT)  # each one is logged for the user who requested it
        try:
            return build_checked_audit_context(actor(options["actor"]), Trigger.COMMAND, options["reason"])
        except ValueError as error:
            raise CommandError(f"--reason: {error}") from error

    # -- the selection -------------------------------------------------------------------------------------

    def _selection(self, options: dict[str, Any]) -> tuple[dict[str, SelectionReader], Counter[str]]:
        if not any(_is_given(options[name]) for name in _SELECTORS):
            raise CommandError("No invoices are selected. Pass ids, a selector such as --older-than 2d, or --all.")
        provider = checked_provider(options["provider"])
        if options["external_ids"] or _is_given(options["from_file"]):
            return self._listed(provider, options)
        invoices = self._filtered(provider, options)
        groups = invoices.order_by("provider").values_list("provider").annotate(Count("pk"))
        return make_readers(invoices), Counter(dict(groups))

    def _listed(self, provider: str | None, options: dict[str, Any]) -> tuple[dict[str, SelectionReader], Counter[str]]:
        if provider is None:
            raise CommandError("Ids require --provider, because two providers may use the same id.")
        for name in ("older_than", "expires_before", "requested", "all"):
            if options[name]:
                raise CommandError(f"Ids cannot be combined with --{name.replace('_', '-')}.")
        invoices = invoices_in(options)
        keys = keys_of(invoices, provider, self._ids(options))
        return {provider: KeyListReader(invoices, keys)}, Counter({provider: len(keys)})

    def _ids(self, options: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield pairs of the place where an id was read and the id."""
        for external_id in options["external_ids"]:
            yield "", external_id
        source = options["from_file"]
        if source is None:
            return
        if source == "-" and not options["noinput"]:
            raise CommandError(
                "--from-file - requires --noinput, because stdin is read for the ids and cannot confirm."
            )
        try:
            with open_rows(source, COLUMNS) as rows:
                for row in rows:
                    yield f"line {row.line}: ", row.values.get(ID, "")
        except BadRows as error:
            raise CommandError(f"Nothing was sent. {error}") from error

    def _filtered(self, provider: str | None, options: dict[str, Any]) -> Any:
        # A refusal clears the request. A request that is still stored was made later, or must be tried again.
        is_wanted = options["include_refused"] or options["requested"]
        invoices = invoices_in(options).cancelable(include_refused=is_wanted)
        if provider:
            invoices = invoices.filter(provider=provider)
        if options["older_than"]:
            invoices = invoices.unpaid_since(options["older_than"])
        if options["expires_before"]:
            invoices = invoices.filter(expires_at__lt=options["expires_before"])
        return invoices.requested() if options["requested"] else invoices

    def _confirm(self, counts: Counter[str], options: dict[str, Any]) -> None:
        for provider, count in counts.items():
            self.stderr.write(f"{count:>9,}  {provider}", style_func=str)
        limit = f", at most {options['limit']:,} of them" if options["limit"] else ""
        noun = "invoice" if counts.total() == 1 else "invoices"
        self.stderr.write(f"Cancel {counts.total():,} {noun}{limit}? [y/N] ", style_func=str, ending="")
        self.stderr.flush()
        try:
            answer = sys.stdin.readline() if sys.stdin else ""
        except KeyboardInterrupt:
            self.stderr.write("")
            raise CommandError("Not confirmed. Nothing was sent.", returncode=INTERRUPTED) from None
        if not answer.endswith("\n"):
            self.stderr.write("")  # the line of the question is not complete yet
        if answer.strip().lower() not in ("y", "yes"):
            raise CommandError("Not confirmed. Nothing was sent. Use --noinput to skip the confirmation.")


def _is_given(value: Any) -> bool:
    """Return whether an option was given. An empty file name, from an unset variable, must not mean "all"."""
    return value == "" or bool(value)
