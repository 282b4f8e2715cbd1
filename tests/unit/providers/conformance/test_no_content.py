"""An adapter for a provider that confirms a cancellation by 204, without a body and without a Content-Length."""

import re
from typing import Any

from django_invoice_cancel.providers import Code, Deadline, HTTPProvider, Lease, Outcome, ProviderReply, Secret
from django_invoice_cancel.testing import ProviderConformance


class NoContentPay(HTTPProvider):
    verbose_name = "No Content Pay"
    token_option = "token"
    secret_options = frozenset({"token"})
    id_form = "digits"
    id_pattern = re.compile(r"[0-9]{1,9}")

    def __init__(self, alias: str, *, token: Secret, base_url: str, **common: Any) -> None:
        super().__init__(alias, token, base_url=base_url, **common)

    def cancel(self, external_id: str, *, lease: Lease) -> ProviderReply:
        exchange = self.send("DELETE", f"/invoices/{external_id}", deadline=Deadline(self.deadline), lease=lease)
        if common := self.read_common(exchange):
            return common
        if exchange.http_status == 204 and exchange.is_empty:
            return self.reply(exchange, Outcome.CANCELED, Code.CANCELED)
        return self.reply(exchange, Outcome.IN_DOUBT, Code.UNREADABLE_ANSWER)


class TestNoContentPay(ProviderConformance):
    external_id = "17"
    other_id = "18"
    secrets = ("invented-token",)
    successes = ((204, ""),)

    def make_provider(self, base_url: str, **options: Any) -> NoContentPay:
        return NoContentPay("shop", base_url=base_url, token=Secret(self.secrets[0]), **options)
