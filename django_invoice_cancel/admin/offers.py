"""What makes sense to do with an invoice now, for this user; and why Cancel is not among it.

Only offers: whether something is done is decided anew by the view, and by the story.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from .. import services
from ..clock import utc_now
from ..models import Invoice
from ..outcomes import CancelResult
from ..providers.base import Provider
from ..results import provider_name
from ..statuses import Status, is_known
from .pauses import pause_of, sending_disabled
from .sentences import NEWER, why_no_cancel
from .times import clock

if TYPE_CHECKING:
    from .single import SingleInvoice


_WHY_NOT_RESOLVED = gettext_lazy(
    "Only an invoice in doubt, one whose status the provider contradicts, and one that was refused by "
    "a provider that cannot be asked can be resolved manually."
)


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
        self.may_cancel = admin.has_cancel_permission(request, invoice)
        self.may_resolve = admin.has_resolve_permission(request, invoice)

    # -- questions --------------------------------------------------------------------------------------------

    @property
    def is_in_doubt(self) -> bool:
        return self.invoice.status == Status.IN_DOUBT or self.invoice.is_abandoned

    @property
    def has_late_money(self) -> bool:
        return self.invoice.paid_after_cancel_at is not None and self.invoice.paid_after_cancel_handled_at is None

    @property
    def is_contradicted(self) -> bool:
        return self.invoice.contradicted_at is not None

    @property
    def has_request(self) -> bool:
        return self.invoice.cancel_requested_at is not None

    @property
    def is_repeat(self) -> bool:
        """Whether checking means to repeat the cancel: the provider cannot be asked for a status."""
        return self._provider is not None and not self._provider.supports_lookup

    @cached_property
    def why_no_cancel(self) -> str:
        """Why the invoice cannot be canceled now; empty where it can."""
        if not self.may_cancel:
            return _("Your account does not have the permission to cancel this invoice.")
        return why_no_cancel(self.invoice) or self._why_not_asked or " ".join(sending_disabled())

    @cached_property
    def why_no_check(self) -> str:
        """Why the provider cannot be asked about the invoice now; empty where it can."""
        if not is_known(self.invoice.status):
            return str(NEWER)
        if self.invoice.status == Status.CANCELING and not self.invoice.is_abandoned:
            return _("A cancel is under way: its answer is waited for.")
        if self._why_not_asked or not self.is_repeat:
            return self._why_not_asked
        return self._why_no_repeat or " ".join(sending_disabled())

    def why_not(self, page: str) -> str:
        """Return why what a page asks about cannot be done now; empty where it can."""
        if not is_known(self.invoice.status):
            return str(NEWER)
        if page == "cancel":
            return self.why_no_cancel
        if page == "check":
            return self.why_no_check
        if page == "resolve":
            return "" if self.invoice.is_resolvable else str(_WHY_NOT_RESOLVED)
        if page == "withdraw":
            return "" if self.has_request else _("Its cancellation is not requested.")
        return "" if self.has_late_money else _("There is no late money that waits to be handled.")

    @property
    def open_from(self) -> str:
        """The time from which a person may decide that an invoice in doubt is still open; empty if that is now."""
        if not self.is_in_doubt:
            return ""
        over_at = self.invoice.verbs.doubt_over_at(self.invoice)
        return clock(over_at) if utc_now() < over_at else ""

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
        if self.invoice.is_resolvable and self.may_resolve:
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

    # -- the provider -----------------------------------------------------------------------------------------

    @cached_property
    def _ready(self) -> Provider | CancelResult:
        return services.ready_provider(self.invoice)

    @property
    def _provider(self) -> Provider | None:
        return None if isinstance(self._ready, CancelResult) else self._ready

    @cached_property
    def _why_not_asked(self) -> str:
        if isinstance(self._ready, CancelResult):
            return str(self._ready.message)
        state: Any = self.invoice.verbs.paused(self.invoice.provider)
        return pause_of(state) if state else ""

    @cached_property
    def _why_no_repeat(self) -> str:
        """Why the cancel cannot be repeated to find out; empty where it can."""
        names = {"provider": provider_name(self.invoice.provider)}
        if not self.is_in_doubt:
            return _("%(provider)s cannot be asked for an invoice's status.") % names
        if self._provider is None or not self._provider.is_repeat_harmless:
            return _("%(provider)s cannot be asked for an invoice's status: look in its cabinet, then resolve.") % names
        verbs = self.invoice.verbs
        over_at = verbs.doubt_over_at(self.invoice)
        if utc_now() < over_at:
            text = _(
                "%(provider)s cannot be asked for an invoice's status, and may still carry out the lost request: "
                "the cancel can be repeated from %(when)s on."
            )
            return text % {**names, "when": clock(over_at)}
        if verbs.is_withdrawn(self.invoice):
            text = _("The request to cancel it was withdrawn: look in %(provider)s's dashboard, then resolve.")
            return text % names
        if verbs.repeats(self.invoice) >= services.MOST_REPEATS:
            text = ngettext(
                "The cancel was repeated %(count)d time in vain: look in %(provider)s's cabinet, then resolve.",
                "The cancel was repeated %(count)d times in vain: look in %(provider)s's cabinet, then resolve.",
                services.MOST_REPEATS,
            )
            return text % {**names, "count": services.MOST_REPEATS}
        return ""
