"""A browser window with the admin. Elements of its pages are found by structure, never by the texts of a language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django_invoice_cancel.models import BulkOperation

try:
    from playwright.sync_api import expect
except ImportError:  # every test here is skipped then
    expect = None

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ConsoleMessage, Locator

TELL_OF_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => {
    console.error(`${event.violatedDirective} refuses ${event.blockedURI} ${event.sample}`);
});
"""
PATIENCE_MS = 30_000
"""Maximum wait in milliseconds. Only a loaded machine needs it."""
if expect:
    expect.set_options(timeout=PATIENCE_MS)


class Window:
    """One window with its own cookies, and one page in it unless a test opens more."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context, self.url = context, url
        self.complaints: list[str] = []
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(TELL_OF_VIOLATIONS)
        context.on("console", self._listen)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        self.page = context.new_page()

    def _listen(self, message: ConsoleMessage) -> None:
        # The browser requests it by itself.
        is_favicon = message.location["url"].endswith("/favicon.ico")
        if message.type in ("error", "warning") and not is_favicon:
            self.complaints.append(message.text)

    def new_tab(self) -> Tab:
        """Return a second page with the same cookies."""
        return Tab(self)

    def close(self) -> None:
        self.context.close()

    def log_in(self, username: str, password: str) -> None:
        self.page.goto(f"{self.url}/admin/login/?next=/admin/")
        self.page.locator("#id_username").fill(username)
        self.page.locator("#id_password").fill(password)
        self.page.locator("input[type=submit]").click()
        expect(self.page.locator("#user-tools")).to_be_visible()

    # -- the list ---------------------------------------------------------------------------------------------

    def open_list(self, query: str = "") -> None:
        self.page.goto(f"{self.url}/admin/invoice_cancel/invoice/{query}")

    def select_page(self) -> None:
        self.page.locator("#action-toggle").check()

    def select_everything(self) -> None:
        """Select the rows of the page, and then, by Django's link, all rows of the list."""
        self.select_page()
        self.page.locator(".actions .question a").click()
        expect(self.page.locator("input[name=select_across]").first).to_have_value("1")

    def act(self, action: str) -> None:
        self.page.locator("select[name=action]").select_option(action)
        self.page.locator(".actions button[type=submit]").click()
        expect(self.page.locator(".bulk-operation")).to_be_visible()

    # -- an operation -----------------------------------------------------------------------------------------

    def confirm(self, **fields: str) -> None:
        """Fill in the confirmation page and confirm."""
        _submit(self.page.locator("form.bo-confirm"), fields)

    @property
    def operation(self) -> BulkOperation:
        """The operation whose page is shown."""
        return BulkOperation.objects.get(pk=self.page.url.split("/bulkoperation/")[1].split("/")[0])

    def button(self, name: str) -> Locator:
        """Return the button of an operation: run, stop, continue."""
        return self.page.locator(f"#bulk-operation form[action$='/{name}/'] button")

    def expect_state(self, progress: str) -> None:
        expect(self.page.locator(f"#bulk-operation[data-state^='{progress}']")).to_be_visible()

    def counts(self) -> dict[str, str]:
        """Return the counts by outcome on the report page."""
        rows: list[Any] = self.page.locator("#bo-counts li").all()
        return {str(row.get_attribute("class")).removeprefix("bo-"): row.locator("b").inner_text() for row in rows}

    def group(self, outcome: str, provider: str) -> Locator:
        """Return the line of the report about an outcome at a provider that has a next step."""
        about = self.page.locator(f"input[name=provider][value={provider}]")
        return self.page.locator(f".bo-groups li.bo-{outcome}").filter(has=about)

    # -- an invoice -------------------------------------------------------------------------------------------

    def open_invoice(self, pk: Any) -> None:
        self.page.goto(f"{self.url}/admin/invoice_cancel/invoice/{pk}/change/")

    def offer(self, name: str) -> Locator:
        """Return a button of an invoice's page: cancel, check, resolve, handled."""
        return self.page.locator(f".ic-summary a[href*='/{name}/'], .ic-summary form[action*='/{name}/'] button")

    def answer(self, **fields: str) -> None:
        """Fill in the confirmation page and confirm."""
        _submit(self.page.locator(".ic-ask form:not(.ic-first)"), fields)

    def expect_status(self, status: str) -> None:
        expect(self.page.locator(f".ic-summary .ic-state.ic-{status}")).to_be_visible()


class Tab(Window):
    """A second page of a window."""

    def __init__(self, window: Window) -> None:
        self.context, self.url, self.complaints = window.context, window.url, window.complaints
        self.page = window.context.new_page()


def _submit(form: Locator, fields: Mapping[str, str]) -> None:
    for name, value in fields.items():
        if name == "decision":
            form.locator(f"[name=decision][value={value}]").check()
        else:
            form.locator(f"[name={name}]").fill(value)
    form.locator("input[type=submit]").click()
