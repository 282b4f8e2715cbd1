"""What makes sense to do with an invoice now, for this user; and why Cancel is not among it.

Only offers: whether something is done is decided anew by the view, and by the story.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.translation import gettext as _

from ...domain.audit import Wanted
from ...domain.outcomes import Code
from ...domain.statuses import is_known
from ...labels import NEWER
from ...models import Invoice, ProviderState
from ...providers.base import Provider
from ...services.eligibility import Account, account_of, doubt_over_at, is_in_doubt, why_not, why_not_now
from ..formatting import clock
from .summary import reason_not

if TYPE_CHECKING:
    from .views import SingleInvoice


@dataclass(frozen=True)
class Button:
    """One thing that can be done."""

    label: str
    address: str
    is_post: bool = False
    """Whether a click does it at once; else it leads to a page that asks."""


class Offers:
    """What can be done with one invoice by one user."""

    def __init__(self, admin: SingleInvoice, request: HttpRequest, invoice: Invoice) -> None:
        self.admin = admin
        self.invoice = invoice
        self._codes: dict[Wanted, str] = {}
        self.may_cancel = admin.has_cancel_permission(request, invoice)
        self.may_resolve = admin.has_resolve_permission(request, invoice)

    # -- questions --------------------------------------------------------------------------------------------

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
    def is_repeat(self) -> bool:
        """Whether checking means to repeat the cancel: the provider cannot be asked for a status."""
        return isinstance(self._account, Provider) and not self._account.supports_lookup

    @cached_property
    def why_no_cancel(self) -> str:
        """Why the invoice cannot be canceled now; empty where it can."""
        if not self.may_cancel:
            return _("Your account does not have the permission to cancel this invoice.")
        return self._reason(Wanted.CANCEL)

    @cached_property
    def why_no_check(self) -> str:
        """Why the provider cannot be asked about the invoice now; empty where it can."""
        return self._reason(Wanted.REPEAT)

    def why_not(self, page: str) -> str:
        """Return why what a page asks about cannot be done now; empty where it can."""
        if page == "cancel":
            return self.why_no_cancel
        if page == "check":
            return self.why_no_check
        if page == "withdraw" and is_known(self.invoice.status):
            return "" if self.has_request else _("Its cancellation is not requested.")
        return str(NEWER) if page == "withdraw" else self._reason(Wanted(page))

    @property
    def open_from(self) -> str:
        """The time from which a person may decide that an invoice in doubt is still open; empty if that is now."""
        is_early = self._code(Wanted.REOPEN) == Code.DOUBT_PERIOD
        return clock(doubt_over_at(self.invoice)) if is_early else ""

    # -- buttons ----------------------------------------------------------------------------------------------

    def buttons(self) -> Iterator[Button]:
        """Yield what makes sense now, the most likely first."""
        if not is_known(self.invoice.status):
            return
        if self.has_late_money and self.may_resolve:
            yield Button(_("Mark as handled"), self._address("handled"))
        if not self.why_no_cancel:
            yield Button(_("Cancel"), self._address("cancel"))
        if self.may_cancel and not self.why_no_check:
            yield Button(_("Check with provider"), self._address("check"), is_post=not self.is_repeat)
        if self.may_resolve and not self._code(Wanted.RESOLVE):
            yield Button(_("Resolve …"), self._address("resolve"))
        if self.has_request and self.may_cancel:
            yield Button(_("Withdraw request …"), self._address("withdraw"))

    def remarks(self) -> Iterator[str]:
        """Yield why what one would look for is not there."""
        if self.why_no_cancel:
            yield self.why_no_cancel
        if self.may_cancel and self.is_in_doubt and self.why_no_check:
            yield self.why_no_check

    def _address(self, page: str) -> str:
        return self.admin.address_of(self.invoice, page)

    # -- the decision -----------------------------------------------------------------------------------------

    def _code(self, wanted: Wanted) -> str:
        """Return the code of why this cannot be done now; empty if it can."""
        if wanted not in self._codes:
            code = why_not(wanted, self.invoice, self._account)
            if not code and wanted in (Wanted.CANCEL, Wanted.REPEAT):
                code = why_not_now(wanted, self._account, self._pause)
            self._codes[wanted] = code
        return self._codes[wanted]

    def _reason(self, wanted: Wanted) -> str:
        code = self._code(wanted)
        pause = self._pause if code == Code.PROVIDER_PAUSED else None
        return reason_not(wanted, self.invoice, code, self._account, pause)

    @cached_property
    def _account(self) -> Account:
        return account_of(self.invoice.provider)

    @cached_property
    def _pause(self) -> ProviderState | None:
        state: ProviderState | None = self.invoice._writer.paused(self.invoice.provider)
        return state
