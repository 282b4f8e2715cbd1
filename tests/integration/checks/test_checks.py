"""Every mistake that a check detects, with the id of the check. No check shows a secret."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import time_machine
from django.core.checks import Tags, run_checks
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.db import OperationalError, connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_invoice_cancel import checks
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.domain.outcomes import LookupReply
from django_invoice_cancel.models.provider_state import ProviderState
from django_invoice_cancel.providers.base import Provider
from django_invoice_cancel.providers.firekassa import FireKassa
from django_invoice_cancel.testing import ScriptedProvider, make_invoice

TOKEN = "invented-token-5521"
FIREKASSA = "django_invoice_cancel.providers.firekassa.FireKassa"
SCRIPTED = "django_invoice_cancel.testing.ScriptedProvider"
HTTPS = "https://api.example.com"
DOCS = Path(__file__).parents[3] / "docs" / "reference" / "checks.md"


def firekassa(backend: str = FIREKASSA, **options: Any) -> dict[str, Any]:
    return {"BACKEND": backend, "OPTIONS": {"base_url": HTTPS, "api_token": TOKEN} | options}


def setting(*, providers: Any = None, **rest: Any) -> dict[str, Any]:
    return {"PROVIDERS": {"good": firekassa()} if providers is None else providers, **rest}


def ids(**kwargs: Any) -> list[str]:
    return [message.id for message in run_checks(tags=[checks.TAG], **kwargs)]


class Unbuildable(FireKassa):
    """An adapter whose author shows the token in an exception."""

    def __init__(self, alias: str, *, api_token: Any, **common: Any) -> None:
        raise self.misconfigured("api_token", f"does not look right: {api_token.reveal()}")


class Raising(FireKassa):
    def __init__(self, alias: str, *, api_token: Any, **common: Any) -> None:
        raise ZeroDivisionError(api_token.reveal())


def not_callable_here() -> None:
    """Something that can be called."""


async def async_dispatch(operation_id: str) -> None:
    """A dispatcher that would never run."""


class AsyncCallable:
    async def __call__(self, operation_id: str) -> None:
        """Would never run either."""


async_callable = AsyncCallable()
OF_TASKS = {"E010", "W007"}
"""They are found by the tests of the workers, which set TASKS."""
OF_CHARACTER_SETS = {"W011"}
"""It is found by the tests of character sets, which convert tables."""
MISTAKES = [
    pytest.param("E001", setting(DOUBT_PERIODS=900), id="unknown-key"),
    pytest.param("E001", setting(**{"DOUBT PERIOD": 900}), id="unknown-key-with-a-space"),
    pytest.param("E002", [TOKEN], id="no-dict"),
    pytest.param("E002", setting(CLAIM_TTL="300"), id="seconds-as-text"),
    pytest.param("E002", setting(CLAIM_TTL=0), id="no-seconds"),
    pytest.param("E002", setting(REQUIRE_REASON=1), id="flag-as-number"),
    pytest.param("E002", setting(DISPATCH=not_callable_here), id="path-as-function"),
    pytest.param("E003", setting(providers=[TOKEN]), id="providers-as-list"),
    pytest.param("E003", setting(providers={"": firekassa()}), id="empty-alias"),
    pytest.param("E003", setting(providers={"a": TOKEN}), id="entry-as-text"),
    pytest.param("E003", setting(providers={"a": {"OPTIONS": {"api_token": TOKEN}}}), id="backend-missing"),
    pytest.param("E003", setting(providers={"a": firekassa() | {"TOKEN": TOKEN}}), id="unknown-key-of-entry"),
    pytest.param("E003", setting(providers={"a": firekassa("no.such.module")}), id="module-missing"),
    pytest.param(
        "E003",
        setting(providers={"a": firekassa("tests.integration.checks.raises_on_import.Provider")}),
        id="module-raises-an-error",
    ),
    pytest.param("E003", setting(providers={"a": firekassa("django.db.models.Model")}), id="not-a-provider"),
    pytest.param("E004", setting(providers={"a": firekassa(token=TOKEN)}), id="option-unknown"),
    pytest.param("E004", setting(providers={"a": {"BACKEND": FIREKASSA}}), id="options-missing"),
    pytest.param("E004", setting(providers={"a": firekassa(api_token=[TOKEN])}), id="secret-not-a-string"),
    pytest.param("E005", setting(providers={"a": firekassa(deadline=0)}), id="wrong-value"),
    pytest.param("E005", setting(providers={"a": firekassa(deadline=10**400)}), id="deadline-beyond-floats"),
    pytest.param("E005", setting(providers={"a": firekassa(connect_timeout=10**400)}), id="time-out-beyond-floats"),
    pytest.param("E005", setting(providers={"a": firekassa(concurrency=1e300)}), id="concurrency-without-bound"),
    pytest.param("E005", setting(providers={"a": firekassa(rate=1e-6)}), id="rate-too-low"),
    pytest.param("E005", setting(providers={"a": firekassa(rate=10**400)}), id="rate-beyond-floats"),
    pytest.param("E005", setting(providers={"a": firekassa(base_url="https://user:" + TOKEN + "@h")}), id="user-info"),
    pytest.param("E005", setting(providers={"a": firekassa(base_url=None)}), id="no-address"),
    pytest.param("E005", setting(providers={"a": firekassa(base_url="http://[" + TOKEN)}), id="address-unparsable"),
    pytest.param("E005", setting(providers={"a": firekassa(api_token=TOKEN + " ")}), id="secret-unusable"),
    pytest.param("E005", setting(providers={"a": firekassa(f"{__name__}.Unbuildable")}), id="adapter-tells"),
    pytest.param("E005", setting(providers={"a": firekassa(f"{__name__}.Raising")}), id="adapter-raises-an-error"),
    pytest.param("E006", setting(providers={"a": firekassa(base_url="http://api.example.com")}), id="http"),
    pytest.param("E006", setting(providers={"a": firekassa(base_url="HTTP://192.168.0.1")}), id="http-in-the-house"),
    pytest.param("E007", setting(providers={"a": firekassa(deadline=150.5)}), id="deadline-too-long"),
    pytest.param("E007", setting(CLAIM_TTL=29), id="claim-too-short"),
    pytest.param("E008", setting(PROVIDER_RESOLVER="no.such.function"), id="resolver-missing"),
    pytest.param("E008", setting(PROVIDER_RESOLVER=f"{__name__}.MISTAKES"), id="resolver-not-callable"),
    pytest.param("E009", setting(DISPATCH="tests.integration.checks.no_such_function"), id="dispatch-missing"),
    pytest.param(
        "E009", setting(DISPATCH="tests.integration.checks.raises_on_import.dispatch"), id="dispatch-raises-an-error"
    ),
    pytest.param("E009", setting(DISPATCH="tests.integration.checks"), id="dispatch-a-module"),
    pytest.param("E002", setting(SEND="False"), id="send-as-text"),
    pytest.param("E009", setting(DISPATCH=f"{__name__}.async_dispatch"), id="dispatch-async"),
    pytest.param("E009", setting(DISPATCH=f"{__name__}.async_callable"), id="dispatch-async-callable"),
    pytest.param("E002", setting(VETO=not_callable_here), id="veto-as-function"),
    pytest.param("E011", setting(VETO="no.such.function"), id="veto-missing"),
    pytest.param("E011", setting(VETO="tests.integration.checks.raises_on_import.veto"), id="veto-raises-an-error"),
    pytest.param("E011", setting(VETO=f"{__name__}.MISTAKES"), id="veto-not-callable"),
    pytest.param("E011", setting(VETO=f"{__name__}.async_dispatch"), id="veto-async"),
    pytest.param("W010", setting(SEND=False), id="sending-disabled"),
    pytest.param("W003", setting(providers={"a": {"BACKEND": SCRIPTED}}), id="scripted"),
    pytest.param("W006", setting(providers={"a": firekassa(base_url="http://127.0.0.1:8000")}), id="loopback"),
    pytest.param("W006", setting(providers={"a": firekassa(base_url="http://[::1]")}), id="loopback-v6"),
    pytest.param("W006", setting(providers={"a": firekassa(base_url="http://localhost")}), id="localhost"),
]


@pytest.mark.parametrize(("number", "value"), MISTAKES)
def test_mistake_is_reported_by_its_id_without_secrets(number, value):
    with override_settings(INVOICE_CANCEL=value):
        found = run_checks(tags=[checks.TAG])
    assert {message.id for message in found} == {f"invoice_cancel.{number}"}
    assert TOKEN not in "".join(map(str, found))


class OwnName(FireKassa):
    """The same adapter under another name."""


class WithoutHTTP(ScriptedProvider):
    """An adapter of the site's own that uses no HTTP."""

    secret_options = frozenset({"password"})

    def __init__(self, alias: str, *, password: Any, **common: Any) -> None:
        super().__init__(alias, **common)


class Merchants(FireKassa):
    """An adapter whose accounts share a token."""

    def __init__(self, alias: str, *, merchant: str, **common: Any) -> None:
        super().__init__(alias, **common)
        self.merchant = merchant

    @property
    def account(self) -> Any:
        return super().account, self.merchant


CRYPTOCLOUD = "django_invoice_cancel.providers.cryptocloud.CryptoCloud"


def cryptocloud(**options: Any) -> dict[str, Any]:
    return {"BACKEND": CRYPTOCLOUD, "OPTIONS": {"api_key": TOKEN} | options}


def without_http(**options: Any) -> dict[str, Any]:
    return {"BACKEND": f"{__name__}.WithoutHTTP", "OPTIONS": {"password": TOKEN} | options}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param((firekassa(), firekassa()), id="equal"),
        pytest.param((firekassa(), firekassa(base_url="https://API.example.com:443/")), id="address-written-otherwise"),
        pytest.param((firekassa(), firekassa(deadline=3, rate=2, concurrency=1, lookup=True)), id="other-options"),
        pytest.param((firekassa(), firekassa(sign_token="another-invented-one")), id="signed-and-unsigned"),
        pytest.param((firekassa(), firekassa(f"{__name__}.OwnName")), id="subclass"),
        pytest.param((cryptocloud(), cryptocloud(base_url="https://api.cryptocloud.plus/")), id="address-by-default"),
        pytest.param((without_http(), without_http(rate=3)), id="without-http"),
    ],
)
def test_aliases_of_one_account_are_reported_without_secrets(other):
    first, second = other
    value = setting(providers={"shop": first, "third": firekassa(api_token="third-token-9917"), "kiosk": second})
    with override_settings(INVOICE_CANCEL=value, DEBUG=True):
        (found,) = run_checks(tags=[checks.TAG])
    assert found.id == "invoice_cancel.W009"
    assert found.msg == "Providers 'shop' and 'kiosk' are the same account: they share address and credentials."
    assert TOKEN not in str(found)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param((firekassa(), firekassa(api_token=TOKEN + "1")), id="token"),
        pytest.param((firekassa(), firekassa(base_url="https://api2.example.com")), id="host"),
        pytest.param((firekassa(), firekassa(base_url=HTTPS + ":8443")), id="port"),
        pytest.param((firekassa(), firekassa(base_url=HTTPS + "/shop")), id="path"),
        pytest.param((firekassa(), cryptocloud()), id="provider"),
        pytest.param(({"BACKEND": SCRIPTED}, {"BACKEND": SCRIPTED}), id="no-credentials"),
        pytest.param(
            (firekassa(f"{__name__}.Merchants", merchant="1"), firekassa(f"{__name__}.Merchants", merchant="2")),
            id="the-adapter-distinguishes-them",
        ),
    ],
)
def test_aliases_of_different_accounts_have_no_findings(other):
    first, second = other
    with override_settings(INVOICE_CANCEL=setting(providers={"shop": first, "kiosk": second}), DEBUG=True):
        assert ids() == []


def test_good_settings_have_no_findings():
    with override_settings(INVOICE_CANCEL=setting(CLAIM_TTL=30, DISPATCH=f"{__name__}.not_callable_here")):
        assert ids() == []


def test_missing_setting_has_no_findings():
    with override_settings():
        from django.conf import settings

        del settings.INVOICE_CANCEL
        assert ids() == []


@pytest.mark.parametrize(
    "entry",
    [{"BACKEND": SCRIPTED}, firekassa(base_url="http://127.0.0.1:8000")],
    ids=["scripted", "loopback"],
)
def test_test_backends_are_allowed_in_debug(entry):
    with override_settings(INVOICE_CANCEL=setting(providers={"a": entry}), DEBUG=True):
        assert ids() == []


def test_wrong_provider_does_not_hide_another():
    """Each of five broken providers is reported, and so is the key beside them."""
    providers = {
        "one": TOKEN,
        "two": firekassa("no.such.module"),
        "three": firekassa(f"{__name__}.Raising"),
        "four": firekassa(token=TOKEN),
        "five": firekassa(deadline=-1),
    }
    with override_settings(INVOICE_CANCEL=setting(providers=providers, CLAIM_TTL=None)):
        found = run_checks(tags=[checks.TAG])
    assert len(found) == 6
    assert all(any(repr(alias) in message.msg for message in found) for alias in providers)


def test_all_wrong_options_of_a_provider_are_reported_together():
    entry = {"BACKEND": FIREKASSA, "OPTIONS": {"tokens": TOKEN}}
    with override_settings(INVOICE_CANCEL=setting(providers={"a": entry})):
        assert ids() == ["invoice_cancel.E004"] * 3


def test_checks_contact_no_provider(monkeypatch):
    """No request is sent to a provider, and no connection of any kind is opened."""
    contacted = []
    monkeypatch.setattr("socket.socket.connect", lambda *args: contacted.append(args))
    monkeypatch.setattr("socket.getaddrinfo", lambda *args, **kwargs: contacted.append(args))
    monkeypatch.setattr(Provider, "lookup", lambda *args: contacted.append(args))
    with override_settings(INVOICE_CANCEL=setting()):
        assert ids() == []
    assert contacted == []


def test_an_error_stops_the_check_command():
    with (
        override_settings(INVOICE_CANCEL=setting(CLAIM_TTLS=1)),
        pytest.raises(SystemCheckError, match=r"invoice_cancel\.E001"),
    ):
        call_command("check")


# -- the transport and the databases ------------------------------------------------------------------------------


def test_missing_hook_is_a_warning_that_names_it(monkeypatch):
    monkeypatch.setattr("django_invoice_cancel.providers.transport.hooks_missing", lambda: ["HTTPConnection.send"])
    (found,) = checks.check_transport(None)
    assert found.id == "invoice_cancel.W002"
    assert "HTTPConnection.send" in found.msg


def database(vendor: str, *, autocommit: bool = True, **options: Any) -> SimpleNamespace:
    return SimpleNamespace(vendor=vendor, settings_dict={"OPTIONS": options, "AUTOCOMMIT": autocommit})


@pytest.mark.parametrize(
    ("connection", "expected"),
    [
        pytest.param(database("sqlite"), [], id="sqlite"),
        pytest.param(database("postgresql"), [], id="postgresql"),
        pytest.param(database("postgresql", isolation_level=2), [], id="postgresql-read-committed"),
        pytest.param(database("postgresql", isolation_level=3), ["W001"], id="postgresql-repeatable-read"),
        pytest.param(database("postgresql", isolation_level=4), ["W001"], id="postgresql-serializable"),
        pytest.param(database("postgresql", isolation_level=1), ["W001"], id="postgresql-read-uncommitted"),
        pytest.param(database("postgresql", isolation_level=99), [], id="postgresql-nonsense"),
        pytest.param(
            database("postgresql", options="-c default_transaction_isolation=repeatable\\ read -c x=1"),
            ["W001"],
            id="postgresql-options-repeatable-read",
        ),
        pytest.param(
            database("postgresql", options="-c default_transaction_isolation=read\\ committed"),
            [],
            id="postgresql-options-read-committed",
        ),
        pytest.param(
            database("postgresql", options="-c DEFAULT_TRANSACTION_ISOLATION=serializable"),
            ["W001"],
            id="postgresql-options-serializable",
        ),
        pytest.param(database("mysql"), [], id="mysql"),
        pytest.param(database("mysql", isolation_level="READ COMMITTED"), [], id="mysql-read-committed"),
        pytest.param(database("mysql", isolation_level="read uncommitted"), ["W001"], id="mysql-read-uncommitted"),
        pytest.param(database("mysql", isolation_level="repeatable read"), ["W001"], id="mysql-repeatable-read"),
        pytest.param(database("mysql", isolation_level="Serializable"), ["W001"], id="mysql-serializable"),
        pytest.param(database("mysql", isolation_level=None), ["W001"], id="mysql-as-the-server-says"),
        pytest.param(database("sqlite", autocommit=False), ["W005"], id="autocommit-off"),
    ],
)
def test_settings_of_a_database(monkeypatch, connection, expected):
    if connection.vendor == "postgresql":
        pytest.importorskip("psycopg", reason="needs psycopg")
    monkeypatch.setattr(checks, "connections", {"default": connection})
    assert [message.id for message in checks.check_databases(None)] == [f"invoice_cancel.{n}" for n in expected]


@pytest.mark.parametrize(
    ("use_tz", "is_psycopg3", "expected"),
    [(False, False, ["invoice_cancel.W012"]), (True, False, []), (False, True, []), (True, True, [])],
)
def test_psycopg2_needs_time_zones(monkeypatch, settings, use_tz, is_psycopg3, expected):
    psycopg_any = pytest.importorskip("django.db.backends.postgresql.psycopg_any", exc_type=ImportError)
    settings.USE_TZ = use_tz
    monkeypatch.setattr(checks, "connections", {"default": database("postgresql")})
    monkeypatch.setattr(psycopg_any, "is_psycopg3", is_psycopg3)
    assert [message.id for message in checks.check_databases(None)] == expected


class NotInOther:
    def allow_migrate(self, db, app_label, **hints):
        return db != "other"


@override_settings(DATABASE_ROUTERS=[NotInOther()])
def test_database_without_invoices_is_not_queried(monkeypatch):
    both = {"default": database("sqlite"), "other": database("sqlite", autocommit=False)}
    monkeypatch.setattr(checks, "connections", both)
    assert checks.check_databases(None) == []


# -- reconciling --------------------------------------------------------------------------------------------------

HOUR = timedelta(hours=1)
deployed = {"include_deployment_checks": True, "databases": ["default"]}


def beat(alias: str, ago: timedelta) -> None:
    ProviderState.objects.create(alias=alias, last_reconcile_at=utc_now() - ago)


@pytest.fixture
def https():
    with override_settings(
        INVOICE_CANCEL=setting(
            providers={"firekassa": firekassa(), "other": firekassa(base_url="https://b.example.com")}
        )
    ):
        yield


@pytest.mark.django_db
@pytest.mark.usefixtures("https")
@pytest.mark.parametrize(
    ("status", "age", "last_run", "expected"),
    [
        pytest.param("in_doubt", 2 * HOUR, None, ["invoice_cancel.W004"], id="never-ran"),
        pytest.param("in_doubt", 2 * HOUR, 2 * HOUR, ["invoice_cancel.W004"], id="ran-long-ago"),
        pytest.param("in_doubt", 2 * HOUR, HOUR / 2, [], id="ran"),
        pytest.param("in_doubt", HOUR / 2, 2 * HOUR, [], id="nothing-to-do-until-now"),
        pytest.param("abandoned", 2 * HOUR, None, ["invoice_cancel.W004"], id="abandoned"),
        pytest.param("created", 2 * HOUR, None, [], id="nothing-in-doubt"),
    ],
)
def test_missing_reconcile_runs_are_a_warning(status, age, last_run, expected):
    make_invoice(status, provider="firekassa", age=age)
    if last_run is not None:
        beat("firekassa", ago=last_run)
    assert ids(**deployed) == expected


@pytest.mark.django_db
@pytest.mark.usefixtures("https")
def test_missing_reconcile_runs_are_reported_once_per_provider():
    make_invoice("in_doubt", provider="firekassa", age=2 * HOUR)
    make_invoice("in_doubt", provider="firekassa", age=3 * HOUR)
    make_invoice("in_doubt", provider="other", age=2 * HOUR)
    beat("other", ago=HOUR / 2)
    (found,) = run_checks(tags=[checks.TAG], **deployed)
    assert found.msg == "'firekassa' has invoices in doubt (2 in 'default'), but was not reconciled for an hour."


@pytest.mark.django_db(databases="__all__")
@pytest.mark.usefixtures("https")
@pytest.mark.parametrize(("minutes", "expected"), [(14, []), (16, ["invoice_cancel.W008"])])
def test_requested_cancellation_that_waits_for_15_minutes_is_a_warning(minutes, expected):
    make_invoice("requested", provider="firekassa", age=timedelta(minutes=minutes))
    assert ids(**deployed) == expected
    assert ids() == []


@pytest.mark.django_db
@pytest.mark.usefixtures("https")
def test_requested_cancellations_that_wait_are_counted_for_each_provider():
    now = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
    with time_machine.travel(now.timestamp(), tick=False):
        make_invoice("requested", provider="firekassa", age=HOUR)
        make_invoice("requested", provider="firekassa", age=timedelta(minutes=20))
        make_invoice("requested", provider="other", age=HOUR)
        make_invoice("canceled", provider="firekassa", age=HOUR)
        found = [message.msg for message in run_checks(tags=[checks.TAG], **deployed)]
    waiting = "have waited for more than 15 minutes"
    assert found == [
        f"Requested cancellations at 'firekassa' {waiting}: 2 in 'default', the oldest since 2026-11-22 11:30 UTC.",
        f"Requested cancellations at 'other' {waiting}: 1 in 'default', the oldest since 2026-11-22 11:30 UTC.",
    ]


def account(alias: str) -> dict[str, str]:
    """A resolver that knows every account."""
    return {"BACKEND": SCRIPTED}


@pytest.mark.django_db
@override_settings(INVOICE_CANCEL=setting(providers={}, PROVIDER_RESOLVER=f"{__name__}.account"))
def test_reconcile_run_of_a_resolved_alias_is_recognised():
    ScriptedProvider.of("kiosk").all_lookups(LookupReply(None, "no_answer", is_answer=False))
    make_invoice("in_doubt", provider="kiosk", age=2 * HOUR)
    assert ids(**deployed) == ["invoice_cancel.W004"]
    with pytest.raises(CommandError, match="In doubt: 1"):
        call_command("reconcile_invoices", verbosity=0)
    assert ids(**deployed) == []


@pytest.mark.django_db
@pytest.mark.usefixtures("https")
@pytest.mark.parametrize(
    "kwargs",
    [
        pytest.param({}, id="plain"),
        pytest.param({"include_deployment_checks": True}, id="without-a-database"),
        pytest.param({"tags": [checks.TAG], "databases": ["default"]}, id="not-deployed"),
    ],
)
def test_invoices_are_read_only_in_the_given_databases(kwargs):
    make_invoice("in_doubt", provider="firekassa", age=2 * HOUR)
    with CaptureQueriesContext(connections["default"]) as queries:
        found = run_checks(**kwargs)
    assert [each["sql"] for each in queries if "FROM information_schema" not in each["sql"]] == []
    assert "invoice_cancel.W004" not in [message.id for message in found]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("https")
def test_missing_tables_are_ignored():
    with connections["default"].schema_editor() as editor:
        editor.alter_db_table(ProviderState, "invoice_cancel_providerstate", "out_of_the_way")
    try:
        assert ids(**deployed) == []
    finally:
        with connections["default"].schema_editor() as editor:
            editor.alter_db_table(ProviderState, "out_of_the_way", "invoice_cancel_providerstate")


@pytest.mark.django_db
@pytest.mark.usefixtures("https")
def test_unreachable_database_is_ignored():
    failed = []

    def refuse(execute, sql, params, many, context):
        failed.append(sql)
        raise OperationalError("no route to host")

    with connections["default"].execute_wrapper(refuse):
        assert ids(**deployed) == []
    assert failed


# -- the documentation --------------------------------------------------------------------------------------------


def test_every_id_has_a_section_in_the_docs():
    text = DOCS.read_text(encoding="utf-8")
    sections = re.findall(r"\(invoice-cancel-([a-z]\d{3})\)=\n### invoice_cancel\.([A-Z]\d{3}): ", text)
    assert [anchor.upper() for anchor, _ in sections] == list(checks.HINTS)
    assert [title for _, title in sections] == list(checks.HINTS)


@pytest.mark.parametrize("hint", checks.HINTS.values(), ids=list(checks.HINTS))
def test_hint_is_complete_without_the_documentation(hint):
    assert re.match("[A-Z][a-z]+ ", hint)
    assert hint.endswith(".")
    assert re.search(r"docs/|\.md|://[a-z]|\bSee\b", hint) is None


@pytest.mark.parametrize(
    ("address", "link"),
    [
        ("", ""),
        ("https://docs.example.com", " See https://docs.example.com/reference/checks.html#invoice-cancel-e001"),
    ],
    ids=["no address", "address"],
)
@override_settings(INVOICE_CANCEL=setting(CLAIM_TTLS=1))
def test_hint_links_to_its_section_if_the_documentation_has_an_address(monkeypatch, address, link):
    monkeypatch.setattr(checks, "DOCUMENTATION_URL", address)
    (found,) = run_checks(tags=[checks.TAG])
    assert found.hint == checks.HINTS["E001"] + link


def test_every_id_has_a_test():
    by_settings = {mistake.values[0] for mistake in MISTAKES}
    assert by_settings | {"W001", "W002", "W004", "W005", "W008", "W009", "W012", *OF_TASKS, *OF_CHARACTER_SETS} == set(
        checks.HINTS
    )


def test_only_the_checks_that_query_need_a_database():
    names = ("check_settings", "check_databases", "check_character_sets", "check_reconciling")
    tags = {name: getattr(checks, name).tags for name in names}
    needing = [name for name, of_check in tags.items() if Tags.database in of_check]
    assert needing == ["check_character_sets", "check_reconciling"]
