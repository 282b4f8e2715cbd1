"""From a selection to the report, as a person sees it."""

import pytest

from tests.admin_operations.conftest import page

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_selection_is_confirmed_run_and_reported(scripted_provider, browser, invoices, choose):
    chosen = invoices(3)
    draft = choose(browser, chosen)
    shown = browser.get(page(draft)).content.decode()
    assert "Cancel 3 invoices?" in shown
    assert "30.00 USD" in shown
    assert scripted_provider.cancel_count == 0
    browser.post(page(draft, "confirm"), {"reason": "too old"})
    answer = browser.post(page(draft, "run"), follow=True)
    assert "3 of 3 canceled." in answer.content.decode()
    assert scripted_provider.cancel_count == 3
