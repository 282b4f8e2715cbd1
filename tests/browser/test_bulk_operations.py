"""An operator's workflow with many invoices in a real browser: from the selection to the report and the next steps.

Elements are found by structure, so the tests work in every language. Every test ends with the requests that reached
the providers.
"""

import csv
import re
from pathlib import Path

import pytest

from django_invoice_cancel.admin.operations import admin
from django_invoice_cancel.models import BulkOperation, Invoice
from tests.browser.window import expect

pytestmark = pytest.mark.browser

LANGUAGES = {"English": ("en-US", "Stop", "Download as CSV"), "Russian": ("ru-RU", "Остановить", "Скачать CSV")}


@pytest.mark.parametrize(("locale", "stop", "download"), LANGUAGES.values(), ids=LANGUAGES)
def test_operator_cancels_1200_invoices_and_resolves_those_in_doubt(
    open_window, sandbox, invoices, locale, stop, download
):
    for _ in range(10):  # mixed: answers that fail in a row would pause the provider
        for provider, lost in (("cryptocloud", 2), ("firekassa", 3)):
            invoices(lost, provider, "reset_after")
            invoices(60 - lost, provider)
    every_id = set(Invoice.objects.values_list("external_id", flat=True))
    sandbox.configure(latency=0.2)  # long enough to press Stop, on any machine
    window = open_window(locale=locale)
    page = window.page
    expect(page.locator(f"html[lang^={locale[:2]}]")).to_be_attached()

    # Select all by one link. No request is sent before the confirmation.
    window.open_list()
    window.select_everything()
    window.act("cancel_selected_invoices")
    expect(page.locator(".bo-shares tbody tr")).to_have_count(2)
    assert sandbox.count("cancel") == 0
    window.confirm(reason="unpaid for a week")

    # The progress bar is updated. Stop and Continue work.
    expect(page.locator("#bo-bar:not([value='0'])")).to_be_visible()
    expect(page).to_have_title(re.compile(r"^[1-9]\d?% · "))
    expect(window.button("stop")).to_have_text(stop)
    window.button("stop").click()
    window.expect_state("stopped")
    assert Invoice.objects.filter(status="created").exists()
    sandbox.configure(latency=0.0)
    window.button("continue").click()
    window.expect_state("finished")
    canceled = window.page.url

    # The report: how many, why, which; as a page and as a file.
    assert window.counts() == {"canceled": shown(1150, locale), "in_doubt": "50"}
    page.locator(".bo-filters a[href$='?outcome=in_doubt']").click()
    expect(page.locator(".bo-scroll tbody tr")).to_have_count(50)
    expect(page.locator(".bo-filters a[href*='report.csv']")).to_have_text(download)
    assert len(rows_of(window)) == 50
    page.locator(".bo-filters a[href$='/?']").click()
    assert {row[1] for row in rows_of(window)} == every_id

    # CryptoCloud has a lookup, so there is no confirmation, and no cancel request is repeated.
    window.group("in_doubt", "cryptocloud").get_by_role("button").click()
    window.expect_state("finished")
    assert window.counts() == {"already_canceled": "20"}

    # FireKassa has no lookup, so the operator resolves its invoices.
    window.open_list("?status__exact=in_doubt")
    window.select_page()
    window.act("resolve_selected_invoices")
    window.confirm(decision="canceled", reason="seen in the dashboard", typed_count="29")
    expect(page.locator(".bo-field.errors")).to_be_visible()
    window.confirm(typed_count="30")
    window.expect_state("finished")
    assert window.counts() == {"already_canceled": "30"}

    assert set(Invoice.objects.values_list("status", flat=True)) == {"canceled"}
    assert BulkOperation.objects.count() == 3
    assert sandbox.summary()["counts"]["cancel"] == dict.fromkeys(every_id, 1)
    page.goto(canceled)
    assert window.counts() == {"canceled": shown(1150, locale), "in_doubt": "50"}


def test_without_javascript_each_click_executes_a_slice(open_window, sandbox, invoices, monkeypatch):
    monkeypatch.setattr(admin, "ITEM_BATCH_SIZE", 5)
    made = invoices(6, "cryptocloud") + invoices(6, "firekassa")
    window = open_window(java_script_enabled=False)
    window.open_list()
    for box in window.page.locator("input.action-select").all():
        box.check()
    window.act("cancel_selected_invoices")
    window.confirm(reason="unpaid for a week")

    for left in (12, 7, 2):
        window.expect_state("running")
        assert int(window.page.locator("#bo-bar").get_attribute("value")) == 12 - left
        window.button("run").click()

    window.expect_state("finished")
    assert window.counts() == {"canceled": "12"}
    assert sandbox.summary()["counts"]["cancel"] == {invoice.external_id: 1 for invoice in made}


def start(window, reason="unpaid for a week"):
    """Cancel all invoices of the list; the page then processes them."""
    window.open_list()
    window.select_everything()
    window.act("cancel_selected_invoices")
    window.confirm(reason=reason)
    window.expect_state("running drive")


def test_second_tab_and_reload_send_nothing_before_continue(open_window, sandbox, invoices):
    made = invoices(150, "cryptocloud") + invoices(150, "firekassa")
    sandbox.configure(latency=0.5)
    window = open_window()
    start(window)

    other = window.new_tab()
    other.page.goto(window.page.url)
    other.expect_state("running watch stop,continue,end")
    window.page.reload()
    window.expect_state("running watch continue,end")
    expect(window.page.locator("#bo-sentence")).to_contain_text("Interrupted")
    sent = sandbox.count("cancel")
    other.expect_state("running watch continue,end")
    assert sandbox.count("cancel") == sent < 300

    sandbox.configure(latency=0.0)
    other.button("continue").click()
    other.expect_state("finished")
    window.expect_state("finished")
    assert window.counts() == {"canceled": "300"}
    assert sandbox.summary()["counts"]["cancel"] == {invoice.external_id: 1 for invoice in made}


def test_stop_and_continue_replace_the_content_and_move_the_focus(open_window, sandbox, invoices):
    invoices(150, "cryptocloud")
    invoices(150, "firekassa")
    sandbox.configure(latency=0.5)
    window = open_window()
    start(window)
    window.page.evaluate("window.isSamePage = true")

    window.button("stop").click()
    window.expect_state("stopped idle")
    expect(window.page.locator("#bo-headline")).to_be_focused()
    expect(window.page.locator("#bo-live")).to_contain_text("Stopped by clerk.")
    stopped = sandbox.count("cancel")
    sandbox.configure(latency=0.0)
    window.button("continue").click()
    expect(window.page.locator("#bo-headline")).to_be_focused()
    window.expect_state("finished")
    expect(window.page.locator("#bo-live")).to_contain_text("300")
    assert window.page.evaluate("window.isSamePage")
    assert 0 < stopped < 300
    assert sandbox.count("cancel") == 300


def test_stopped_page_shows_who_continued_and_ended_it_elsewhere(open_window, sandbox, invoices, colleague):
    invoices(150, "cryptocloud")
    invoices(150, "firekassa")
    sandbox.configure(latency=0.5)
    window, other = open_window(), open_window(username=colleague)
    start(window)
    other.page.goto(window.page.url)
    other.button("stop").click()
    window.expect_state("stopped idle")
    expect(window.page.locator("#bo-sentence")).to_contain_text(f"Stopped by {colleague}.")

    other.button("continue").click()
    window.expect_state("running watch")
    expect(window.page.locator("#bo-sentence")).to_contain_text(f"Another page, opened by {colleague}")
    window.page.locator("#bulk-operation form[action$='/end/'] button").click()
    window.expect_state("finished")
    other.expect_state("finished")
    expect(other.page.locator("#bo-headline")).to_contain_text("Stopped for good by clerk.")
    assert sandbox.count("cancel") < 300


def test_lost_session_ends_the_work_at_the_login(open_window, sandbox, invoices):
    invoices(150, "cryptocloud")
    invoices(150, "firekassa")
    sandbox.configure(latency=0.5)
    window = open_window()
    start(window)
    window.context.clear_cookies(name="sessionid")
    expect(window.page.locator("#login-form")).to_be_visible()
    window.log_in("clerk", "invented-password")
    address = f"{window.url}/admin/invoice_cancel/bulkoperation/{BulkOperation.objects.get().pk}/"
    leased = BulkOperation.objects.get().items.left().filter(token__isnull=False)
    for _visit in range(1000):
        if not leased.exists():  # the slice that was running is over
            break
        window.page.goto(address)
    sent = sandbox.count("cancel")
    window.page.goto(address)
    window.expect_state("running watch stop,continue,end")
    window.page.reload()
    window.expect_state("running watch stop,continue,end")
    assert sandbox.count("cancel") == sent < 300


# -- reading ------------------------------------------------------------------------------------------------------


def rows_of(window):
    """Download the report as a file; return its rows, without the head."""
    with window.page.expect_download() as waiting:
        window.page.locator(".bo-filters a[href*='report.csv']").click()
    with Path(waiting.value.path()).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))[1:]


def shown(number, locale):
    """Return a number in the format of the locale."""
    return f"{number:,}".replace(",", "\N{NO-BREAK SPACE}" if locale == "ru-RU" else ",")
