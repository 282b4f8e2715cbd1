"""The example project as a user runs it: ``serve.py`` in its own process, with requests over HTTP.

Its database is read with ``sqlite3``, the providers' state through the controls of the sandbox. The texts of pages
are compared with both.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests

from django_invoice_cancel.testing.sandbox import BEHAVIOURS

EXAMPLE = Path(__file__).resolve().parents[2] / "example_project"
CODES = {behaviour.name: behaviour.code for behaviour in BEHAVIOURS}
COLUMNS = {"cryptocloud": "cryptocloud_uuid", "firekassa": "firekassa_invoice_id"}
CSRF = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')


def start(script: str, *arguments: str, var: Path, **options: Any) -> subprocess.Popen[str]:
    """Start a script of the example, its database in ``var``."""
    env = {**os.environ, **options.pop("env", {}), "EXAMPLE_VAR": str(var), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-W", "error", script, *arguments]
    return subprocess.Popen(command, cwd=EXAMPLE, env=env, stdout=subprocess.PIPE, text=True, **options)


def read_addresses(serving: subprocess.Popen[str]) -> dict[str, str]:
    """Read the output of ``serve.py`` until it listens. Return the address of each of its parts."""
    addresses = {}
    assert serving.stdout
    for line in serving.stdout:
        if found := re.match(r"\s+(Shop|Admin|Sandbox)\s+(http://\S+)", line):
            addresses[found[1]] = found[2].rstrip("/")
        if "Log in as" in line:
            return addresses
    raise AssertionError(f"serve.py ended with {serving.wait()} before it listened")


class Shop:
    """The running example, with two browsers: of ``demo``, who opens the admin too, and of ``customer``."""

    def __init__(self, addresses: dict[str, str], database: Path) -> None:
        self.url, self.sandbox_url = addresses["Shop"], addresses["Sandbox"]
        self.database = database
        self.browsers = {"demo": requests.Session(), "customer": requests.Session()}
        self.browser = self.browsers["demo"]
        self.taken: set[str] = set()

    # -- the pages --------------------------------------------------------------------------------------------

    def log_in(self) -> None:
        for username, browser in self.browsers.items():
            address = f"{self.url}/login/?next=/"
            token = self.csrf_token(browser.get(address).text)
            form = {"username": username, "password": "demo-password", "csrfmiddlewaretoken": token, "next": "/"}
            assert browser.post(address, data=form).url == f"{self.url}/"

    def page(self, number: str, *, language: str = "en") -> str:
        """Return the page of an order, as its customer sees it."""
        headers = {"Accept-Language": language}
        response = self.browser_of(number).get(f"{self.url}/orders/{number}/", headers=headers)
        assert response.status_code == 200
        return response.text

    def press_cancel(self, number: str, reason: str = "changed their mind") -> str:
        """Send the form of the order's button, also if the page has no button. Return the next page."""
        browser = self.browser_of(number)
        form = {"csrfmiddlewaretoken": browser.cookies["csrftoken"], "reason": reason}
        response = browser.post(f"{self.url}/orders/{number}/cancel/", data=form)
        assert response.status_code == 200
        assert response.url == f"{self.url}/orders/{number}/"
        return response.text

    def browser_of(self, number: str) -> requests.Session:
        """Return the browser of an order's customer."""
        sql = "SELECT username FROM shop_order AS o JOIN auth_user AS u ON o.customer_id = u.id WHERE number = ?"
        return self.browsers[self.rows(sql, number)[0][0]]

    def webhook(self, **body: Any) -> requests.Response:
        """Send a postback of CryptoCloud."""
        return requests.post(f"{self.url}/webhooks/cryptocloud/", timeout=10, **body)

    @staticmethod
    def csrf_token(page: str) -> str:
        found = CSRF.search(page)
        return found[1] if found else ""

    # -- stored state ---------------------------------------------------------------------------------------

    def rows(self, sql: str, *values: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(sql, values).fetchall()

    def take(self, provider: str, behaviour: str, *, status: str | None) -> tuple[str, str]:
        """Return (order number, invoice id) of a sample that no other test has; ``status`` None: not registered.

        The order has one invoice.
        """
        column = COLUMNS[provider]
        (other,) = set(COLUMNS.values()) - {column}
        sql = (
            f"SELECT number, {column}, status FROM shop_order "  # noqa: S608 - names of our own
            "LEFT JOIN invoice_cancel_invoice ON reference = number "
            f"WHERE {column} LIKE ? AND {other} = '' ORDER BY number"
        )
        for number, external_id, found in self.rows(sql, f"%{CODES[behaviour]}"):
            if found == status and number not in self.taken:
                self.taken.add(number)
                return number, external_id
        raise LookupError(f"no sample is left: {provider}, {behaviour}, {status}")

    def order_state(self, number: str) -> str:
        return str(self.rows("SELECT state FROM shop_order WHERE number = ?", number)[0][0])

    def is_refund_due(self, number: str) -> bool:
        return bool(self.rows("SELECT refund_due FROM shop_order WHERE number = ?", number)[0][0])

    def status(self, number: str) -> str:
        return str(self.rows("SELECT status FROM invoice_cancel_invoice WHERE reference = ?", number)[0][0])

    def history(self, number: str) -> list[tuple[str, str, str, str]]:
        return self.rows(
            "SELECT from_status, to_status, trigger, code FROM invoice_cancel_invoicetransition AS t "
            "JOIN invoice_cancel_invoice AS i ON t.invoice_id = i.id WHERE reference = ? ORDER BY t.id",
            number,
        )

    def truth(self, external_id: str) -> str | None:
        word: str | None = self._control("truth", id=external_id)[external_id]
        return word

    def cancels(self, external_id: str | None = None) -> int:
        """Return how many requests to cancel the invoice, or any invoice, reached the provider."""
        which = {} if external_id is None else {"id": external_id}
        return int(self._control("count", operation="cancel", **which)["count"])

    def _control(self, name: str, **query: str) -> dict[str, Any]:
        answer: dict[str, Any] = requests.get(f"{self.sandbox_url}/_sandbox/{name}", params=query, timeout=10).json()
        return answer


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    var = tmp_path_factory.mktemp("example")
    with (var / "stderr").open("w") as stderr:
        arguments = ("--port", "0", "--sandbox-port", "0", "--deadline", "0.5")
        serving = start("serve.py", *arguments, var=var, stderr=stderr)
        try:
            shop = Shop(read_addresses(serving), var / "example.sqlite3")
            shop.log_in()
            yield shop
            for browser in shop.browsers.values():
                browser.close()
        finally:
            serving.terminate()
            serving.communicate(timeout=20)


@pytest.fixture
def postback() -> Callable[..., dict[str, str]]:
    """Return a function that makes a postback of CryptoCloud, signed with the example's secret key."""

    def make(
        external_id: str, *, key: str = "sandbox-cryptocloud-secret", algorithm: str = "HS256", valid: float = 300
    ) -> dict[str, str]:
        claims = {"id": 13, "exp": int(time.time() + valid)}
        signed = f"{encoded({'alg': algorithm, 'typ': 'JWT'})}.{encoded(claims)}"
        signature = base64.urlsafe_b64encode(hmac.new(key.encode(), signed.encode(), hashlib.sha256).digest())
        return {
            "status": "success",
            "invoice_id": external_id.removeprefix("INV-"),
            "amount_crypto": "100",
            "currency": "USDT_TRC20",
            "order_id": "None",
            "token": f"{signed}.{signature.decode().rstrip('=')}",
        }

    return make


def encoded(document: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")
