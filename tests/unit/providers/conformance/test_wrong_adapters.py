"""An adapter that breaks the contract fails: each kind of mistake fails the tests about it, by name."""

from pathlib import Path
from textwrap import dedent, indent

import pytest

pytest_plugins = ["pytester"]

WRONG = {
    "any 200 is a success": (
        """
        def _read_200(self, exchange):
            return self.reply(exchange, Outcome.CANCELED, Code.CANCELED)
        """,
        "test_other_body_with_the_http_status_of_success_is_in_doubt",
    ),
    "an empty object is a success, whatever the status": (
        """
        def _read_cancel(self, exchange):
            if exchange.json == {}:
                return self.reply(exchange, Outcome.CANCELED, Code.CANCELED)
            return super()._read_cancel(exchange)
        """,
        "test_success_body_with_another_http_status_is_not_canceled",
    ),
    "a server error is a refusal": (
        """
        def _read_cancel(self, exchange):
            if (exchange.http_status or 0) >= 500:
                return self.reply(exchange, Outcome.REFUSED, Code.PROVIDER_REFUSED)
            return super()._read_cancel(exchange)
        """,
        "test_server_error_is_in_doubt",
    ),
    "no answer is nothing done": (
        """
        def _read_cancel(self, exchange):
            reply = super()._read_cancel(exchange)
            if reply.http_status is None:
                return self.reply(exchange, Outcome.NOT_PROCESSED, Code.UNREACHABLE)
            return reply
        """,
        "test_missing_response_at_the_deadline_is_in_doubt",
        "test_truncated_response_is_in_doubt",
    ),
    "a lost answer is asked for again": (
        """
        def cancel(self, external_id, *, lease):
            reply = super().cancel(external_id, lease=lease)
            return reply if reply.http_status else super().cancel(external_id, lease=lease)
        """,
        "test_truncated_response_is_in_doubt",
    ),
    "a success is asked for twice": (
        """
        def cancel(self, external_id, *, lease):
            super().cancel(external_id, lease=lease)
            return super().cancel(external_id, lease=lease)
        """,
        "test_documented_success_is_canceled_with_one_request",
        "test_lease_is_checked_once_with_the_remaining_seconds",
    ),
    "the lease is not asked": (
        """
        def cancel(self, external_id, *, lease):
            return super().cancel(external_id, lease=lambda seconds_left: True)
        """,
        "test_expired_lease_sends_nothing",
        "test_lease_is_checked_once_with_the_remaining_seconds",
    ),
    "the deadline is not kept": (
        """
        def cancel(self, external_id, *, lease):
            self.deadline = 1.6
            return super().cancel(external_id, lease=lease)
        """,
        "test_missing_response_at_the_deadline_is_in_doubt",
    ),
    "it logs its token": (
        """
        def cancel(self, external_id, *, lease):
            logging.getLogger("shop").debug("asking with %s", self.secrets[0].reveal())
            return super().cancel(external_id, lease=lease)
        """,
        "test_echoed_secret_is_masked",
    ),
    "it keeps an answer as it came": (
        """
        def _read_cancel(self, exchange):
            return dataclasses.replace(super()._read_cancel(exchange), provider_message=str(exchange.json))
        """,
        "test_echoed_secret_is_masked",
    ),
    "any id will do": (
        """
        id_pattern = re.compile(r".*", re.DOTALL)
        """,
        "test_id_that_could_change_the_request_is_rejected",
        "test_id_with_trailing_characters_is_rejected",
    ),
    "an id grows each time": (
        """
        def normalise_id(self, external_id):
            return "0" + super().normalise_id(external_id)
        """,
        "test_id_has_one_normalized_form",
    ),
    "a rejected token is a refusal": (
        """
        def _read_cancel(self, exchange):
            if exchange.http_status in (401, 403):
                return self.reply(exchange, Outcome.REFUSED, Code.PROVIDER_REFUSED)
            return super()._read_cancel(exchange)
        """,
        "test_rejected_credentials_are_not_processed",
    ),
    "a rate limit is doubt": (
        """
        def _read_cancel(self, exchange):
            if exchange.http_status == 429:
                return self.reply(exchange, Outcome.IN_DOUBT, Code.PROVIDER_ERROR)
            return super()._read_cancel(exchange)
        """,
        "test_rate_limit_is_not_processed",
    ),
    "an unknown word is open": (
        """
        def status_of(self, word):
            return super().status_of(word) or Status.CREATED
        """,
        "test_lookup_with_an_unknown_status_string_has_no_status",
    ),
    "no answer is no invoice": (
        """
        def no_answer(self, exchange, code):
            return LookupReply(None, Code.NOT_FOUND, is_answer=True)
        """,
        "test_lookup_without_a_usable_response_is_no_answer",
        "test_lookup_with_rejected_credentials_is_no_answer",
    ),
    "another invoice's status is this one's": (
        """
        def _read_lookup(self, exchange, external_id):
            if isinstance(exchange.json, dict) and "status" in exchange.json:
                return self.found(exchange.json["status"])
            return super()._read_lookup(exchange, external_id)
        """,
        "test_lookup_that_answers_for_another_invoice_has_no_status",
    ),
    "some ids have no reply": (
        """
        def lookup(self, external_ids):
            found = super().lookup(external_ids)
            return {each: reply for each, reply in found.items() if reply.status}
        """,
        "test_lookup_of_an_unknown_invoice_is_not_found",
    ),
    "it speaks HTTP by itself": (
        """
        def cancel(self, external_id, *, lease):
            token = self.secrets[0].reveal()
            headers = {"Authorization": f"Bearer {token}"}
            answer = requests.post(self.base_url + self._cancel_path(external_id), headers=headers, timeout=5)
            outcome = Outcome.CANCELED if answer.ok else Outcome.REFUSED
            return ProviderReply(outcome, outcome, http_status=answer.status_code, provider_message=answer.text[:500])
        """,
        "test_redirect_is_in_doubt_and_not_followed",
        "test_success_body_with_another_http_status_is_not_canceled",
        "test_other_body_with_the_http_status_of_success_is_in_doubt",
        "test_server_error_is_in_doubt",
        "test_refused_connection_is_not_processed",
        "test_expired_lease_sends_nothing",
        "test_echoed_secret_is_masked",
    ),
}

HEAD = """
import dataclasses
import logging
import re
import requests
from django_invoice_cancel.providers import Code, LookupReply, Outcome, ProviderReply, Secret, Status
from django_invoice_cancel.providers.firekassa import FireKassa
from tests.unit.providers.conformance.test_builtin import TestFireKassaWithLookup as Suite


class Base(Suite):
    __test__ = False

    def make_provider(self, base_url, **options):
        api_token, sign_token = map(Secret, self.secrets)
        tokens = {"api_token": api_token, "sign_token": sign_token}
        return self.adapter("shop", base_url=base_url, lookup=True, **tokens, **options)
"""
CLASSES = """

class Adapter{number}(FireKassa):
    pass
{body}

class TestAdapter{number}(Base):
    __test__ = True
    adapter = Adapter{number}
"""


@pytest.mark.slow
def test_each_wrong_adapter_fails_the_tests_of_its_mistake_and_a_correct_one_passes(pytester: pytest.Pytester):
    """Runs pytest once, with only the named tests. The last adapter is correct."""
    pytester.syspathinsert(Path(__file__).parents[4])
    all_names = sorted({name for _, *names in WRONG.values() for name in names})
    adapters = [*WRONG.values(), ("", *all_names)]
    bodies = [indent(dedent(body), "    ") for body, *_ in adapters]
    pytester.makepyfile(test_wrong=HEAD + "".join(map(_classes, range(len(bodies)), bodies)))
    nodes = [f"test_wrong.py::TestAdapter{n}::{name}" for n, (_, *names) in enumerate(adapters) for name in names]

    run = pytester.inline_run("-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:django", *nodes)

    _, _, failed = run.listoutcomes()
    told = {report.nodeid.partition("[")[0] for report in failed}
    expected = {node for node in nodes if f"::TestAdapter{len(WRONG)}::" not in node}
    assert expected - told == set()
    assert told - expected == set()


def _classes(number: int, body: str) -> str:
    return CLASSES.format(number=number, body=body)
