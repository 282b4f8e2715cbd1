"""Cancel invoices at their providers, from a shell or from cron. Selects and confirms; the bulk run does the rest."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Count

from ...bulk import ListedWalk, Walk, cancel_walks, preview_walks, walks_of
from ...exceptions import CancelInTransaction
from ...intents import Trigger
from ...services import checked_intent
from ..arguments import (
    actor,
    add_output_arguments,
    age,
    checked_provider,
    invoices_in,
    keys_of,
    moment,
    positive,
    rate,
)
from ..runs import Run, stopping_on_signals

_SELECTORS = ("external_ids", "from_file", "provider", "older_than", "expires_before", "requested", "all")


class Command(BaseCommand):
    help = "Cancel invoices at their providers. Needs a selector or --all; asks before it sends."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "external_ids", nargs="*", metavar="EXTERNAL_ID", help="the provider's ids (needs --provider)"
        )
        parser.add_argument("--from-file", metavar="FILE", help="ids, one a line; - reads stdin (needs --noinput)")
        parser.add_argument("--provider", metavar="ALIAS", help="only invoices of this provider")
        parser.add_argument("--older-than", type=age, metavar="AGE", help="issued longer ago than: 45m, 36h, 2d, 1w")
        parser.add_argument("--expires-before", type=moment, metavar="TIME", help="expiring before this time")
        parser.add_argument("--requested", action="store_true", help="those that cancel_on_commit left behind")
        parser.add_argument("--include-refused", action="store_true", help="also those that were refused before")
        parser.add_argument("--all", action="store_true", help="every invoice that can be canceled")
        parser.add_argument("--concurrency", type=positive, metavar="N", help="requests in flight, for each provider")
        parser.add_argument("--rate", type=rate, metavar="N", help="requests a second, shared by all processes")
        parser.add_argument("--reason", default="", help="why; kept in the log of each invoice")
        parser.add_argument("--actor", metavar="NAME", help="who; a user's name, or any label")
        parser.add_argument("--noinput", "--no-input", action="store_true", help="do not ask")
        add_output_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            intent = checked_intent(actor(options["actor"]), Trigger.COMMAND, options["reason"])
        except ValueError as error:
            raise CommandError(f"{error} (--reason)") from error
        walks, counts = self._selection(options)
        total = min(counts.total(), options["limit"] or counts.total())
        run = Run(self, as_jsonl=options["format"] == "jsonl", title="Canceling", total=total)
        if options["dry_run"]:
            run.take_in(preview_walks(walks, limit=options["limit"]))
            return run.summarize()
        if total and not options["noinput"]:
            self._confirm(counts, options)
        bounds = {name: options[name] for name in ("limit", "concurrency", "rate")}
        verbs = invoices_in(options).verbs
        try:
            verbs.refuse_inside_transaction()
        except CancelInTransaction as error:
            raise CommandError(str(error)) from error
        with stopping_on_signals(self) as stop:
            run.take_in(cancel_walks(verbs, walks, intent, stop=stop, **bounds))
        return run.finish(is_interrupted=stop.is_set())

    # -- what is selected -------------------------------------------------------------------------------------

    def _selection(self, options: dict[str, Any]) -> tuple[dict[str, Walk], Counter[str]]:
        if not any(options[name] for name in _SELECTORS):
            raise CommandError("Nothing is selected: name ids, a selector such as --older-than 2d, or --all.")
        provider = checked_provider(options["provider"])
        if options["external_ids"] or options["from_file"]:
            return self._listed(provider, options)
        invoices = self._filtered(provider, options)
        groups = invoices.order_by("provider").values_list("provider").annotate(Count("pk"))
        return walks_of(invoices), Counter(dict(groups))

    def _listed(self, provider: str | None, options: dict[str, Any]) -> tuple[dict[str, Walk], Counter[str]]:
        if provider is None:
            raise CommandError("Ids need --provider: the same id may exist at two of them.")
        for name in ("older_than", "expires_before", "requested", "all"):
            if options[name]:
                raise CommandError(f"Ids and --{name.replace('_', '-')} do not go together.")
        invoices = invoices_in(options)
        keys = keys_of(invoices, provider, self._ids(options))
        return {provider: ListedWalk(invoices, keys)}, Counter({provider: len(keys)})

    def _ids(self, options: dict[str, Any]) -> Iterator[str]:
        yield from options["external_ids"]
        source = options["from_file"]
        if source == "-":
            if not options["noinput"]:
                raise CommandError("--from-file - needs --noinput: stdin cannot both list ids and confirm.")
            yield from filter(None, map(str.strip, sys.stdin))
        elif source:
            try:
                with Path(source).open(encoding="utf-8-sig") as lines:
                    yield from filter(None, map(str.strip, lines))
            except (OSError, UnicodeDecodeError) as error:
                raise CommandError(f"{source} cannot be read: {error}") from error

    def _filtered(self, provider: str | None, options: dict[str, Any]) -> Any:
        invoices = invoices_in(options).cancelable(include_refused=options["include_refused"])
        if provider:
            invoices = invoices.filter(provider=provider)
        if options["older_than"]:
            invoices = invoices.unpaid_since(options["older_than"])
        if options["expires_before"]:
            invoices = invoices.filter(expires_at__lt=options["expires_before"])
        return invoices.requested() if options["requested"] else invoices

    def _confirm(self, counts: Counter[str], options: dict[str, Any]) -> None:
        for provider, count in counts.items():
            self.stderr.write(f"{count:>9,}  {provider}")
        limit = f" (at most {options['limit']:,} of them)" if options["limit"] else ""
        self.stderr.write(f"Cancel {counts.total():,} invoices{limit}? [y/N] ", ending="")
        self.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise CommandError("Not confirmed: nothing was sent. Use --noinput where nobody can answer.")
