"""End the pause of a provider account, so that the next request is sent as a probe."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import connections

from ...labels.formatting import format_clock
from ...models.writes.provider_state import Resumption
from ..arguments import actor, checked_provider, invoices_in
from ..output import ReportingCommand
from ..runs import NOT_TRIED


class Command(ReportingCommand):
    help = (
        "End the pause of a provider account. Sends nothing itself: the next cancellation, lookup or bulk operation "
        "sends one request as a probe. A usable answer clears the pause; any other answer may pause the account again. "
        "Once in ten seconds for each account."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("provider", metavar="ALIAS", help="the alias of the account")
        parser.add_argument(
            "--force",
            action="store_true",
            help="also before the time has passed that the provider named in a Retry-After header",
        )
        parser.add_argument("--actor", metavar="NAME", help="the name of a user, or any label; it is logged")
        parser.add_argument(
            "--database",
            choices=tuple(connections),
            help="alias of the invoices' database (default: the router decides)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        alias = checked_provider(options["provider"])
        writer = invoices_in(options)._writer
        who = actor(options["actor"]) or "resume_provider"
        resumed = writer.resume(alias, actor=who, force=options["force"])
        at = "" if resumed.at is None else format_clock(resumed.at)
        if resumed.result == Resumption.TOO_SOON:
            raise CommandError(f"The pause of {alias} was just ended. Try again after {at}.", returncode=NOT_TRIED)
        if resumed.result == Resumption.RETRY_AFTER:
            raise CommandError(
                f"{alias} asked for no requests before {at} (Retry-After). Wait, or use --force.", returncode=NOT_TRIED
            )
        if options["verbosity"] > 0:
            ended = f"The pause of {alias} has ended. The next request is a probe."
            self.stdout.write(ended if resumed.result == Resumption.RESUMED else f"{alias} is not paused.")
