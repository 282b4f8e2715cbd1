"""The shop in a real browser: an order is canceled on each kind of screen, and every text can be read.

Each window is of the customer ``customer`` of ``make serve``.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

LEAST_CONTRAST = 4.5
"""The minimum of WCAG 2, level AA, for text of an ordinary size."""
CONTRASTS = r"""() => {
    const channels = (color) => { const found = color.match(/[\d.]+/g).map(Number); return [...found, 1].slice(0, 4); };
    const linear = (value) => value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4;
    const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const background = (element) => {
        for (; element; element = element.parentElement) {
            const color = channels(getComputedStyle(element).backgroundColor);
            if (color[3] > 0) return color;
        }
        return [255, 255, 255, 1];
    };
    const elements = [...document.querySelectorAll("body *")].filter((element) =>
        element.matches("input:not([type=hidden])")
        || [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim()));
    return Object.fromEntries(elements.map((element) => {
        const pair = [channels(getComputedStyle(element).color), background(element)];
        const [dark, light] = pair.map(luminance).sort((one, other) => one - other);
        return [pair.map((color) => `rgb(${color.slice(0, 3)})`).join(" on "), (light + 0.05) / (dark + 0.05)];
    }));
}"""
SCREENS = {
    "wide": {"viewport": {"width": 1200, "height": 800}},
    "phone": {"viewport": {"width": 400, "height": 800}},
    "phone, dark": {"viewport": {"width": 400, "height": 800}, "color_scheme": "dark"},
    "wide, dark": {"viewport": {"width": 1200, "height": 800}, "color_scheme": "dark"},
}
CANCELED = {"en-US": "Canceled", "ru-RU": "Отменён"}


@pytest.fixture
def open_page(chromium: "Browser", shop: Any) -> "Iterator[Callable[..., Page]]":
    """Return a function that opens a window and logs in as ``customer``. The browser must report no errors."""
    contexts, complaints = [], []

    def opened(**options: Any) -> "Page":
        contexts.append(chromium.new_context(**options))
        contexts[-1].on("console", lambda message: complaints.append(message.text))
        contexts[-1].on("weberror", lambda error: complaints.append(str(error.error)))
        page = contexts[-1].new_page()
        page.goto(f"{shop.url}/")
        page.locator("#id_username").fill("customer")
        page.locator("#id_password").fill("demo-password")
        page.locator("main form button").click()
        page.wait_for_url(f"{shop.url}/")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.parametrize("locale", CANCELED)
def test_customer_cancels_an_order_with_the_keyboard(shop, open_page, locale):
    ((number, external_id),) = shop.rows(
        "SELECT number, cryptocloud_uuid FROM shop_order LEFT JOIN invoice_cancel_invoice ON reference = number "
        "WHERE number IN ('501', '502') AND status IS NULL ORDER BY number LIMIT 1"
    )
    page = open_page(locale=locale, **SCREENS["phone"])
    page.locator(f"a[href='/orders/{number}/']").click()

    page.locator("#reason").fill("ordered twice")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator(".notice[data-state=canceled]").wait_for()

    assert page.url == f"{shop.url}/orders/{number}/"
    assert page.locator(".notice h2").inner_text() == CANCELED[locale]
    assert page.title().startswith(page.locator("h1").inner_text().partition(":")[0])
    assert shop.order_state(number) == "canceled"
    assert shop.cancels(external_id) == 1


def test_chosen_language_stays(shop, open_page):
    page = open_page(locale="en-US")
    page.locator("button[name=language][value=ru]").click()
    page.locator("html[lang=ru]").wait_for()

    page.goto(f"{shop.url}/orders/513/")

    assert page.locator("html").get_attribute("lang") == "ru"
    assert page.locator(".notice h2").inner_text() == "Отменён, нужен возврат"


@pytest.mark.parametrize("screen", SCREENS)
def test_texts_have_enough_contrast_and_fit_the_screen(shop, open_page, screen):
    cancels = shop.cancels()
    page = open_page(locale="ru-RU", **SCREENS[screen])
    numbers = [row[0] for row in shop.rows("SELECT number FROM shop_order WHERE length(number) = 3")]
    too_weak, too_wide = {}, []
    for path in ("/", *(f"/orders/{number}/" for number in numbers)):
        page.goto(shop.url + path)
        too_weak |= {pair: ratio for pair, ratio in page.evaluate(CONTRASTS).items() if ratio < LEAST_CONTRAST}
        width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        too_wide += [path] if width > 0 else []
    page.locator(".plain button:not([name])").click()
    page.locator("#id_username").fill("customer")
    page.locator("#id_password").fill("wrong")
    page.locator("main form button").click()
    page.locator(".errorlist").wait_for()
    too_weak |= {pair: ratio for pair, ratio in page.evaluate(CONTRASTS).items() if ratio < LEAST_CONTRAST}

    assert too_weak == {}
    assert too_wide == []
    assert shop.cancels() == cancels
