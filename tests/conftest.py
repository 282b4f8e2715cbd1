"""Fixtures of all tests: requirements or the reason for a skip, the environment of child processes, thread cleanup.

Invariant: with ``INVOICE_CANCEL_REQUIRE_SERVICES=1``, as in CI, a skip whose reason begins with "needs" is a failure.
"""

import os
import shutil
import signal
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections

from tests.support.clock import CLOCK_CHANGES

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest_plugins = ["django_invoice_cancel.testing.pytest_plugin"]

REQUIRE_SERVICES = os.environ.get("INVOICE_CANCEL_REQUIRE_SERVICES") == "1"
VENDORS = {"postgres": "postgresql", "mysql": "mysql"}
DATABASE_FIXTURES = {"db", "transactional_db", "django_db_setup", "live_server", "admin_client", "admin_user"}
CHROMIUM = "/usr/bin/chromium"
CHROMIUM_OPTIONS = [
    *("--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def pytest_configure() -> None:
    """Let the processes that tests start receive SIGHUP, also if the suite itself runs under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use a database, so that a run on another database can select them: ``-m database``."""
    for item in items:
        if item.get_closest_marker("django_db") or DATABASE_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("database")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, vendor in VENDORS.items():
        if item.get_closest_marker(marker) and connections["default"].vendor != vendor:
            pytest.skip(f"only on {vendor}")
    for mark in item.iter_markers("needs_service"):
        variable = f"INVOICE_CANCEL_TEST_{mark.args[0].upper()}_URL"
        if not os.environ.get(variable):
            pytest.skip(f"needs {mark.args[0]}: set {variable}")
    if item.get_closest_marker("browser") and not (shutil.which("chromium") and find_spec("playwright")):
        pytest.skip("needs chromium and the dependency group browser")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return refuse_skip((yield))


def refuse_skip(report: Any) -> Any:
    reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
    if REQUIRE_SERVICES and reason.startswith("Skipped: needs"):
        report.outcome = "failed"
        report.longrepr = f"{reason} (a failure here: INVOICE_CANCEL_REQUIRE_SERVICES=1)"
    return report


def address(alias: str) -> str:
    settings = connections[alias].settings_dict
    if connections[alias].vendor == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    host = f"{settings['USER']}:{settings['PASSWORD']}@{settings['HOST']}"
    port = f":{settings['PORT']}" if settings["PORT"] else ""
    return f"{connections[alias].vendor}://{host}{port}/{settings['NAME']}"


@pytest.fixture
def child_env() -> Callable[..., dict[str, str]]:
    """Return a function that makes the environment with which a child process uses this test's databases.

    Also use ``transactional_db``, because a child sees committed rows only.
    """

    def make(**extra: str) -> dict[str, str]:
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "INVOICE_CANCEL_TEST_DATABASE_URL": address("default"),
            "INVOICE_CANCEL_TEST_OTHER_DATABASE_URL": address("other"),
            **extra,
        }

    return make


@pytest.fixture
def in_thread() -> Iterator[Callable[..., "Future[Any]"]]:
    """Return a function that runs another one in a thread with its own connections. All threads are joined."""
    with ThreadPoolExecutor(max_workers=32) as pool:

        def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> "Future[Any]":
            def body() -> Any:
                try:
                    return function(*args, **kwargs)
                finally:
                    connections.close_all()

            return pool.submit(body)

        yield run


@pytest.fixture(params=CLOCK_CHANGES)
def clock_change(request: pytest.FixtureRequest, settings: Any) -> datetime:
    """Set the time zone and return the instant at which its daylight saving time begins or ends."""
    settings.TIME_ZONE, instant = CLOCK_CHANGES[request.param]
    return instant


@pytest.fixture(params=[True, False], ids=["USE_TZ", "no USE_TZ"])
def use_tz(request: pytest.FixtureRequest, settings: Any) -> bool:
    """Run the test with time zones on and off, whatever the settings of the suite are."""
    settings.USE_TZ = request.param
    return bool(request.param)


@pytest.fixture(scope="session")
def chromium() -> "Iterator[Browser]":
    """The browser of all browser tests. A process can have only one event loop of Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS, chromium_sandbox=False)
        yield browser
        browser.close()
