"""What every test gets: markers that skip, or fail where a skip would hide something, and a child's environment."""

import os
from collections.abc import Callable

import pytest
from django.db import connections

REQUIRE_SERVICES = os.environ.get("INVOICE_CANCEL_REQUIRE_SERVICES") == "1"


def needed(item: pytest.Item) -> str | None:
    """Return what ``item`` needs and this run does not have."""
    vendor = connections["default"].vendor
    for marker, wanted in (("postgres", "postgresql"), ("mysql", "mysql")):
        if item.get_closest_marker(marker) and vendor != wanted:
            return f"needs {marker} as INVOICE_CANCEL_TEST_DATABASE_URL"
    for mark in item.iter_markers("needs_service"):
        variable = f"INVOICE_CANCEL_TEST_{mark.args[0].upper()}_URL"
        if not os.environ.get(variable):
            return f"needs {mark.args[0]}: set {variable}"
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    missing = needed(item)
    if missing and REQUIRE_SERVICES and item.get_closest_marker("needs_service"):
        pytest.fail(f"{missing} (INVOICE_CANCEL_REQUIRE_SERVICES=1)", pytrace=False)
    if missing:
        pytest.skip(missing)


def address(alias: str) -> str:
    settings = connections[alias].settings_dict
    if connections[alias].vendor == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    host = f"{settings['USER']}:{settings['PASSWORD']}@{settings['HOST']}"
    port = f":{settings['PORT']}" if settings["PORT"] else ""
    return f"{connections[alias].vendor}://{host}{port}/{settings['NAME']}"


@pytest.fixture
def child_env() -> Callable[..., dict[str, str]]:
    """Return a function that makes the environment by which a process of ours finds this test's databases.

    Ask for ``transactional_db`` too: a child sees only what is committed.
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
