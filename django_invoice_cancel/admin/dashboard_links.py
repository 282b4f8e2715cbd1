"""Links to an invoice in the dashboard of its provider. The adapter or the account's options give the address."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

from ..domain.interruptions import is_interruption
from ..domain.secrets import mask
from ..models import Invoice
from ..providers.base import Provider
from ..services.eligibility import Account, account_of
from ..services.provider_calls import log_adapter_error

logger = logging.getLogger("django_invoice_cancel")

MAX_LENGTH = 2000
"""Maximum length of an address, in characters."""


class DashboardLinks:
    """The addresses for one page or file. An account with an error is logged once."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._logged: set[str] = set()

    def find(self, invoice: Invoice) -> str:
        """Return the address of the invoice; empty if there is none, if the adapter fails, or if it is unsafe."""
        alias = invoice.provider
        if alias not in self._accounts:
            self._accounts[alias] = account_of(alias)
        account = self._accounts[alias]
        if not isinstance(account, Provider):
            return ""
        try:
            address = account.dashboard_url(invoice)
        except Exception as error:
            if is_interruption(error):
                raise
            if alias not in self._logged:
                log_adapter_error(account, error)
            self._logged.add(alias)
            return ""
        if not address:
            return ""
        if is_web_address(address) and mask(address, account.secrets) == address:
            return address
        if alias not in self._logged:
            text = "The adapter of %s returned a dashboard_url that is not an http(s) address or contains a secret."
            logger.error(text, alias, extra={"provider": alias})
        self._logged.add(alias)
        return ""


def is_web_address(address: object) -> bool:
    """Return whether a value is an ``http://`` or ``https://`` address without spaces and invisible characters."""
    if not isinstance(address, str) or len(address) > MAX_LENGTH or not address.isprintable() or " " in address:
        return False
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False
