"""Take the screenshots of the admin for the docs: ``make screenshots``.

It starts the example, opens its pages in Debian's Chromium, and reports pages that are wider than their window. Times
and ids in the screenshots differ in each run, so commit them only if a page has changed.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]
LARGEST_BYTES = 150_000
SHOWN_HEIGHTS = {1200: 780, 400: 1000}
"""Maximum height of a screenshot by its width. Below it, the pages repeat themselves."""

VARIANTS = {
    "": {"viewport": {"width": 1200, "height": 600}},
    "-dark": {"viewport": {"width": 1200, "height": 600}, "color_scheme": "dark"},
    "-narrow": {"viewport": {"width": 400, "height": 600}},
}
KEPT = {"-dark": ("list", "report"), "-narrow": ("list", "confirm", "progress", "report", "invoice")}
"""The screenshots of variants that the docs show. ``--all`` takes the others too, for review."""


def main() -> int:
    options = parse()
    options.to.mkdir(parents=True, exist_ok=True)
    faults: list[str] = []
    with example() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, chromium_sandbox=False)
        for suffix, variant in VARIANTS.items():
            names = PICTURES if options.all else KEPT.get(suffix, PICTURES)
            faults += take_all(log_in(browser, url, **variant), url, names, options.to / f"%s{suffix}.png")
        browser.close()
    print("\n".join(faults))
    return bool(faults)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Take the docs' pictures of the admin anew.")
    parser.add_argument("--to", type=Path, default=IMAGES, help="folder of the screenshots (default: docs/images)")
    parser.add_argument(
        "--all", action="store_true", help="take each page in each variant, also those that the docs do not show"
    )
    return parser.parse_args()


@contextmanager
def example() -> Iterator[str]:
    """Run the example on free ports. Yield its address."""
    with tempfile.TemporaryDirectory() as var:
        command = [sys.executable, "serve.py", "--port", "0", "--sandbox-port", "0"]
        environment = {**os.environ, "EXAMPLE_VAR": var, "EXAMPLE_LOG_LEVEL": "ERROR", "PYTHONUNBUFFERED": "1"}
        serving = subprocess.Popen(
            command,
            cwd=ROOT / "example_project",
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            yield address_of(serving)
        finally:
            serving.terminate()
            serving.wait()


def address_of(serving: subprocess.Popen[str]) -> str:
    url = ""
    for line in serving.stdout or ():
        if found := re.search(r"Shop\s+(http://\S+?)/\s", line):
            url = found[1]
        if "Log in as" in line:
            return url
    raise RuntimeError(f"The example ended with {serving.wait()}.")


def log_in(browser: Browser, url: str, **variant: object) -> Page:
    context = browser.new_context(locale="en-US", reduced_motion="reduce", **variant)  # type: ignore[arg-type]
    # If the list of all models is closed, our pages have more space.
    context.add_init_script("localStorage.setItem('django.admin.navSidebarIsOpen', 'false')")
    page = context.new_page()
    page.goto(f"{url}/admin/login/?next=/admin/")
    page.locator("#id_username").fill("demo")
    page.locator("#id_password").fill("demo-password")
    page.locator("input[type=submit]").click()
    expect(page.locator("#user-tools")).to_be_attached()
    return page


def take_all(page: Page, url: str, names: Iterable[str], files: Path) -> Iterator[str]:
    """Take these screenshots into ``files``. Yield a description of each problem."""
    for name in names:
        PICTURES[name](page, f"{url}/admin/invoice_cancel")
        file = Path(str(files) % name)
        take(page, file)
        print(f"{file.name:30} {file.stat().st_size // 1000:4} kB")
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            yield f"{file.name}: the page is {wide} px wider than its window"
        if file.stat().st_size > LARGEST_BYTES:
            yield f"{file.name}: has {file.stat().st_size} bytes, more than {LARGEST_BYTES}"


def take(page: Page, file: Path) -> None:
    page.mouse.move(0, 0)
    width = page.viewport_size["width"]  # type: ignore[index]
    height = min(page.evaluate("document.documentElement.scrollHeight"), SHOWN_HEIGHTS[width])
    page.screenshot(path=file, full_page=True, clip={"x": 0, "y": 0, "width": width, "height": height})


# -- the pages ----------------------------------------------------------------------------------------------------


def change_list(page: Page, root: str) -> None:
    page.goto(f"{root}/invoice/")


def confirm(page: Page, root: str) -> None:
    page.goto(f"{root}/invoice/")
    act(page, "cancel_selected_invoices")


def progress(page: Page, root: str) -> None:
    """Show an operation that waits for a paused provider, because it does not change while the screenshot is taken.

    Its page processes it, after a click on Continue, and sends nothing before the pause ends.
    """
    open_operation(page, root, "running", with_text="30")
    page.locator("#bulk-operation form[action$='/continue/'] button").click()
    expect(page.locator("#bulk-operation[data-mode=drive] #bo-sentence.bo-amber")).to_be_visible()
    page.evaluate("document.activeElement.blur()")


def report(page: Page, root: str) -> None:
    open_operation(page, root, "finished", with_text="56")


def operations(page: Page, root: str) -> None:
    page.goto(f"{root}/bulkoperation/")


def invoice_in_doubt(page: Page, root: str) -> None:
    page.goto(f"{root}/invoice/?attention=in_doubt")
    page.locator("#result_list tbody th a").first.click()


def resolve(page: Page, root: str) -> None:
    page.goto(f"{root}/invoice/?attention=in_doubt&provider=firekassa")
    act(page, "resolve_selected_invoices")


def late_money(page: Page, root: str) -> None:
    page.goto(f"{root}/invoice/?attention=paid_after_cancel")
    page.locator("#result_list tbody th a").first.click()


def handled(page: Page, root: str) -> None:
    late_money(page, root)
    page.locator(".ic-summary a[href*='/handled/']").click()


def act(page: Page, action: str) -> None:
    """Select all results of the list, and run an action."""
    page.locator("#action-toggle").check()
    across = page.locator(".actions .question a")
    if across.is_visible():
        across.click()
    page.locator("select[name=action]").select_option(action)
    page.locator(".actions button[type=submit]").click()
    expect(page.locator(".bulk-operation")).to_be_visible()


def open_operation(page: Page, root: str, progress: str, *, with_text: str) -> None:
    page.goto(f"{root}/bulkoperation/?progress__exact={progress}")
    page.locator("#result_list tbody tr", has_text=with_text).last.locator("a").click()
    expect(page.locator(".bulk-operation")).to_be_visible()


PICTURES: dict[str, Callable[[Page, str], None]] = {
    "operations": operations,  # before the others create drafts
    "list": change_list,
    "confirm": confirm,
    "progress": progress,
    "report": report,
    "invoice": invoice_in_doubt,
    "resolve": resolve,
    "late-money": late_money,
    "handled": handled,
}
"""The function that opens each page, by the name of its screenshot."""


if __name__ == "__main__":
    sys.exit(main())
