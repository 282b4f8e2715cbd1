"""The adapters of this package pass the conformance tests for all adapters."""

import json
from collections.abc import Mapping
from typing import Any

from django_invoice_cancel.providers import Secret
from django_invoice_cancel.providers.cryptocloud import CryptoCloud
from django_invoice_cancel.providers.firekassa import FireKassa
from django_invoice_cancel.testing import ProviderConformance


class TestFireKassa(ProviderConformance):
    external_id = "1234567"
    other_id = "ab-12_CD"
    secrets = ("invented-api-token", "invented/sign+token")
    successes = ((200, "{}"), (200, "[]"), (200, ""))
    refusals = ((404, '{"error": "Transaction not exists"}'), (422, '{"errors": {"id": ["no"]}}'), (400, "{}"))

    def make_provider(self, base_url: str, **options: Any) -> FireKassa:
        api_token, sign_token = map(Secret, self.secrets)
        return FireKassa("shop", base_url=base_url, api_token=api_token, sign_token=sign_token, **options)


class TestFireKassaWithLookup(TestFireKassa):
    def make_provider(self, base_url: str, **options: Any) -> FireKassa:
        return super().make_provider(base_url, lookup=True, **options)

    def lookup_answer(self, words: Mapping[str, str]) -> tuple[int, str]:
        for external_id, word in words.items():
            return 200, json.dumps({"id": external_id, "status": word, "amount": "100.00"})
        return 404, '{"error": "Transaction not exists"}'


class TestCryptoCloud(ProviderConformance):
    external_id = "INV-8VI0XZJ6"
    other_id = "INV-ABCDEFGH"
    secrets = ("invented-api-key",)
    successes = ((200, '{"status": "success", "result": ["ok"]}'), (200, '{"status": "success", "result": "ok"}'))
    refusals = ((400, '{"status": "error", "result": {"validate_error": "Invoice is not created"}}'),)
    rejected_credentials = (
        (400, '{"status": "error", "result": {"authorization": "Token is not valid."}}'),
        (401, "{}"),
        (403, "{}"),
    )

    def make_provider(self, base_url: str, **options: Any) -> CryptoCloud:
        return CryptoCloud("shop", base_url=base_url, api_key=Secret(self.secrets[0]), **options)

    def lookup_answer(self, words: Mapping[str, str]) -> tuple[int, str]:
        found = [{"uuid": external_id, "status": word, "amount": 10.0} for external_id, word in words.items()]
        return 200, json.dumps({"status": "success", "result": found})
