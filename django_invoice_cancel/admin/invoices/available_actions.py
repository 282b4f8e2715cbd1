"""The actions that a user can take on one invoice now, and the reasons why other actions are not possible.

They decide which buttons a page shows. Views and services check again before they act.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ...domain.audit import Wanted
from ...domain.outcomes import Code
from ...domain.statuses import is_known
from ...labels.formatting import format_time
from ...labels.invoices import BUTTONS, CANNOT
from ...labels.results import CODE_TEXTS
from ...models import Invoice, ProviderState
from ...providers.base import Provider
from ...services.eligibility import (
    Account,
    account_of,
    doubt_over_at,
    find_obstacle,
    find_temporary_obstacle,
    is_in_doubt,
    is_refused,
)
from ..pages import keep_filter
from .summary import explain_obstacle

if TYPE_CHECKING:
    from .views import InvoiceViews


@dataclass(frozen=True)
class Button:
    """A button on the page of an invoice."""

    label: str
    url: str
    is_post: bool = False
    """Whether the button acts at once. Otherwise it leads to a confirmation page."""
    is_irreversible: bool = False
    """Whether the action may close the invoice at its provider."""


def list_request_links(admin: InvoiceViews, request: HttpRequest, invoices: Iterable[Invoice]) -> dict[Any, SafeString]:
    """Return links to "Cancel now" and "Withdraw" of requested cancellations, as HTML by primary key.

    Invoices that the user may not cancel have no links. Both links lead to a page that asks. The veto of the shop is
    left to that page.
    """
    accounts: dict[str, Account] = {}
    links: dict[Any, SafeString] = {}
    for invoice in invoices:
        if invoice.cancel_requested_at is None or not admin.has_cancel_permission(request, invoice):
            continue
        if invoice.provider not in accounts:
            accounts[invoice.provider] = account_of(invoice.provider)
        can_cancel = not find_obstacle(
            Wanted.CANCEL, invoice, accounts[invoice.provider], find_veto=lambda _invoice: None
        )
        pages = {"cancel": "cancel_now", "withdraw": "withdraw"} if can_cancel else {"withdraw": "withdraw"}
        urls = ((keep_filter(admin, request, admin.invoice_url(invoice, page)), key) for page, key in pages.items())
        cells = ((url, f"{BUTTONS[key]} {invoice}", BUTTONS[key]) for url, key in urls)
        links[invoice.pk] = format_html_join(" · ", '<a href="{}" aria-label="{}">{}</a>', cells)
    return links


class AvailableActions:
    """The actions that a user can take on one invoice."""

    def __init__(self, admin: InvoiceViews, request: HttpRequest, invoice: Invoice) -> None:
        self.admin = admin
        self.request = request
        self.invoice = invoice
        self._codes: dict[Wanted, str] = {}
        self.can_cancel = admin.has_cancel_permission(request, invoice)
        self.can_resolve = admin.has_resolve_permission(request, invoice)

    # -- state ------------------------------------------------------------------------------------------------

    @property
    def is_in_doubt(self) -> bool:
        return is_in_doubt(self.invoice)

    @property
    def has_late_money(self) -> bool:
        return not self._code(Wanted.HANDLED)

    @property
    def is_contradicted(self) -> bool:
        return self.invoice.contradicted_at is not None

    @property
    def has_request(self) -> bool:
        return self.invoice.cancel_requested_at is not None

    @property
    def is_refused(self) -> bool:
        """Whether the last cancellation was refused, so that a decision records what the provider's dashboard shows."""
        return is_refused(self.invoice)

    @property
    def can_look_up(self) -> bool:
        """Whether the user can look the status up at the provider now."""
        return self.can_cancel and not self.is_repeat and not self.check_obstacle

    @property
    def check_url(self) -> str:
        return keep_filter(self.admin, self.request, self.admin.invoice_url(self.invoice, "check"))

    @property
    def is_repeat(self) -> bool:
        """Whether a check repeats the cancel request, because the provider has no status lookup."""
        return isinstance(self._account, Provider) and not self._account.supports_lookup

    @cached_property
    def cancel_obstacle(self) -> str:
        """The reason why the invoice cannot be canceled now; empty if it can."""
        if not self.can_cancel:
            return _("Your account does not have the permission to cancel this invoice.")
        return self._explain(Wanted.CANCEL)

    @cached_property
    def check_obstacle(self) -> str:
        """The reason why the invoice cannot be checked at its provider now; empty if it can."""
        return self._explain(Wanted.REPEAT)

    def explain_obstacle(self, page: str) -> str:
        """Return the reason why the action of a confirmation page is not possible now; empty if it is."""
        if page == "cancel":
            return self.cancel_obstacle
        if page == "check":
            return self.check_obstacle
        if page == "withdraw" and is_known(self.invoice.status):
            return "" if self.has_request else _("Its cancellation is not requested.")
        return str(CODE_TEXTS[Code.NEWER_STATUS]) if page == "withdraw" else self._explain(Wanted(page))

    def variant_of(self, page: str) -> str:
        """Return the key of the labels of a page for this invoice: the name of the page, or of its variant."""
        if page == "cancel" and self.has_request:
            return "cancel_now"
        return "record" if page == "resolve" and self.is_refused else page

    @property
    def reopen_from(self) -> str:
        """The time from which a user may decide that an invoice in doubt is still open; empty if that is now."""
        is_early = self._code(Wanted.REOPEN) == Code.DOUBT_PERIOD
        return format_time(doubt_over_at(self.invoice)) if is_early else ""

    # -- buttons ----------------------------------------------------------------------------------------------

    def buttons(self) -> Iterator[Button]:
        """Yield the buttons of the available actions, the most likely one first."""
        if not is_known(self.invoice.status):
            return
        if self.has_late_money and self.can_resolve:
            yield self._button("handled")
        if not self.cancel_obstacle:
            yield self._button("cancel", is_irreversible=True)
        if self.can_cancel and not self.check_obstacle:
            yield self._button("check", is_post=not self.is_repeat, is_irreversible=self.is_repeat)
        if self.can_resolve and not self._code(Wanted.RESOLVE):
            yield self._button("resolve")
        if self.has_request and self.can_cancel:
            yield self._button("withdraw")

    def remarks(self) -> Iterator[str]:
        """Yield the reasons why the buttons to cancel or to check the invoice are missing."""
        if self.cancel_obstacle:
            yield self._explain_missing("cancel", self.cancel_obstacle) if self.can_cancel else self.cancel_obstacle
        if self.can_cancel and self.is_in_doubt and self.check_obstacle:
            yield self._explain_missing("check", self.check_obstacle)

    def _explain_missing(self, page: str, reason: str) -> str:
        return f"{CANNOT[page]}. {reason}"

    def _button(self, page: str, *, is_post: bool = False, is_irreversible: bool = False) -> Button:
        url = keep_filter(self.admin, self.request, self.admin.invoice_url(self.invoice, page))
        return Button(str(BUTTONS[self.variant_of(page)]), url, is_post, is_irreversible)

    def blocking_pause(self, page: str = "") -> ProviderState | None:
        """Return the state of the provider if its pause is the obstacle of a page, or a reason in ``remarks``.

        Otherwise return None.
        """
        missing = {"cancel": [Wanted.CANCEL], "check": [Wanted.REPEAT], "": [Wanted.CANCEL, Wanted.REPEAT]}[page]
        if not page and not self.is_in_doubt:
            missing = [Wanted.CANCEL]
        is_cause = self.can_cancel and any(self._code(wanted) == Code.PROVIDER_PAUSED for wanted in missing)
        return self._pause if is_cause else None

    # -- the decision -----------------------------------------------------------------------------------------

    def _code(self, wanted: Wanted) -> str:
        """Return the code of the reason why this is not possible now; empty if it is possible."""
        if wanted not in self._codes:
            code = find_obstacle(wanted, self.invoice, self._account)
            if not code and wanted in (Wanted.CANCEL, Wanted.REPEAT):
                code = find_temporary_obstacle(wanted, self._account, self._pause)
            self._codes[wanted] = code
        return self._codes[wanted]

    def _explain(self, wanted: Wanted) -> str:
        code = self._code(wanted)
        pause = self._pause if code == Code.PROVIDER_PAUSED else None
        return explain_obstacle(wanted, self.invoice, code, self._account, pause)

    @cached_property
    def _account(self) -> Account:
        return account_of(self.invoice.provider)

    @cached_property
    def _pause(self) -> ProviderState | None:
        state: ProviderState | None = self.invoice._writer.paused(self.invoice.provider)
        return state
