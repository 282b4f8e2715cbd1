"""From alias to provider: one instance for each account and process, and errors with a remedy."""

import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_invoice_cancel import registry
from django_invoice_cancel.exceptions import CancelNotPossible
from django_invoice_cancel.models import Invoice
from tests.support.logs import status_and_log
from tests.support.results import cancel_error

FIREKASSA = "django_invoice_cancel.providers.firekassa.FireKassa"
VALID = {"base_url": "http://127.0.0.1:9", "api_token": "invented"}
ACCOUNTS = {}


def resolve(alias):
    """Return the account of an alias, as from a table of a shop with many accounts."""
    if alias == "broken":
        raise LookupError("the table is locked")
    return ACCOUNTS.get(alias)


@pytest.fixture
def configure(settings):
    def configure(options=None, *, backend=FIREKASSA, **more):
        entry = {"BACKEND": backend, "OPTIONS": VALID if options is None else options}
        settings.INVOICE_CANCEL = {"PROVIDERS": {"fk": entry}, **more}

    return configure


INVALID = [
    (FIREKASSA, {"base_url": "http://127.0.0.1:9"}, "OPTIONS of provider 'fk': 'api_token' is missing."),
    (
        FIREKASSA,
        VALID | {"api_tokn": "x"},
        "OPTIONS of provider 'fk': 'api_tokn' is unknown. The valid options are api_token, base_url, concurrency, "
        "connect_timeout, dashboard_url, deadline, lookup, rate, reuse_connections, sign_token.",
    ),
    (FIREKASSA, VALID | {"api_token": 7}, "OPTIONS of provider 'fk': 'api_token' must be a string."),
    (FIREKASSA, VALID | {"api_token": None}, "OPTIONS of provider 'fk': 'api_token' must be a string."),
    (FIREKASSA, VALID | {"api_token": ""}, "Provider 'fk': option 'api_token' is invalid"),
    (FIREKASSA, VALID | {"api_token": "with space"}, "Provider 'fk': option 'api_token' is invalid"),
    (FIREKASSA, VALID | {"base_url": "ftp://x"}, "Provider 'fk': option 'base_url' must be an address"),
    (
        FIREKASSA,
        VALID | {"base_url": "http://example.com"},
        "Provider 'fk': option 'base_url' must begin with https://",
    ),
    (
        FIREKASSA,
        VALID | {"deadline": 0},
        "Provider 'fk': option 'deadline' must be a number of seconds greater than",
    ),
    (
        FIREKASSA,
        VALID | {"concurrency": 1.5},
        "Provider 'fk': option 'concurrency' must be a whole number from 1 to",
    ),
    (FIREKASSA, VALID | {"lookup": "yes"}, "Provider 'fk': option 'lookup' must be True or False."),
    (
        "nowhere.Provider",
        VALID,
        "'nowhere.Provider' in INVOICE_CANCEL cannot be imported: No module named 'nowhere'",
    ),
    (
        "datetime.datetime",
        VALID,
        "BACKEND of 'fk', 'datetime.datetime', is not a subclass of django_invoice_cancel.providers.Provider.",
    ),
    ("not a path", VALID, "'not a path' in INVOICE_CANCEL cannot be imported"),
]


@pytest.mark.parametrize(("backend", "options", "message"), INVALID, ids=map(str, range(len(INVALID))))
def test_error_names_the_wrong_option(configure, backend, options, message):
    configure(options, backend=backend)
    with pytest.raises(ImproperlyConfigured) as caught:
        registry.get_provider("fk")
    assert message in str(caught.value)


def test_unknown_alias_names_the_known_ones(configure):
    configure()
    with pytest.raises(ImproperlyConfigured, match=r"Provider 'fx' is not configured \(configured: fk\)\. Add it to"):
        registry.get_provider("fx")
    assert registry.aliases() == ["fk"]


@pytest.mark.django_db
def test_invalid_setting_makes_every_invoice_misconfigured(configure, web):
    configure(CLAIM_TTL=-1)
    invoice = Invoice.objects.create(provider="fk", external_id="17")
    error = cancel_error(invoice.cancel)
    assert type(error) is CancelNotPossible
    assert error.result.code == "misconfigured"
    assert "INVOICE_CANCEL['CLAIM_TTL'] must be a number of seconds" in str(error)
    assert status_and_log(invoice) == ("created", [])
    assert len(web.calls) == 0


def test_instance_is_made_once(configure):
    configure()
    assert registry.get_provider("fk") is registry.get_provider("fk")


def test_override_of_settings_makes_a_new_instance(configure):
    configure()
    first = registry.get_provider("fk")
    other = {"PROVIDERS": {"fk": {"BACKEND": FIREKASSA, "OPTIONS": VALID | {"deadline": 3.0}}}}
    with override_settings(INVOICE_CANCEL=other):
        assert registry.get_provider("fk").deadline == 3.0
    assert registry.get_provider("fk").deadline == first.deadline == 15.0


@pytest.fixture
def resolver(configure, monkeypatch):
    configure(PROVIDER_RESOLVER=f"{__name__}.resolve")
    monkeypatch.setitem(ACCOUNTS, "shop-1", {"BACKEND": FIREKASSA, "OPTIONS": VALID})
    monkeypatch.setitem(ACCOUNTS, "shop-2", {"BACKEND": FIREKASSA, "OPTIONS": VALID | {"api_token": "another"}})
    return monkeypatch


def test_resolver_gives_each_alias_its_account(resolver):
    one, two = registry.get_provider("shop-1"), registry.get_provider("shop-2")
    assert one.alias == "shop-1"
    assert two.alias == "shop-2"
    assert registry.get_provider("fk").alias == "fk"
    assert one is not two
    assert one is registry.get_provider("shop-1")


def test_changed_options_make_a_new_instance(resolver):
    first = registry.get_provider("shop-1")
    resolver.setitem(ACCOUNTS, "shop-1", {"BACKEND": FIREKASSA, "OPTIONS": VALID | {"api_token": "rotated"}})
    second = registry.get_provider("shop-1")
    assert second is not first
    assert [secret.reveal() for secret in second.secrets] == ["rotated"]


def test_least_recently_used_instance_is_dropped(resolver):
    resolver.setattr(registry, "MAX_CACHED", 2)
    first, fk = registry.get_provider("shop-1"), registry.get_provider("fk")
    registry.get_provider("shop-2")
    assert registry.get_provider("fk") is fk
    assert registry.get_provider("shop-1") is not first


@pytest.mark.parametrize(
    ("alias", "answer", "message"),
    [
        ("shop-9", None, "Provider 'shop-9' is not configured"),
        ("shop-9", "a string", "is invalid for 'shop-9': it must be a dict with \"BACKEND\""),
        ("shop-9", {"BACKEND": FIREKASSA, "OPTIONS": {}}, "OPTIONS of provider 'shop-9': 'base_url' is missing."),
        ("broken", None, "failed for 'broken': LookupError."),
    ],
)
@pytest.mark.django_db
def test_error_of_a_resolver_names_the_alias(resolver, web, alias, answer, message):
    resolver.setitem(ACCOUNTS, alias, answer)
    with pytest.raises(ImproperlyConfigured) as caught:
        registry.get_provider(alias)
    assert message in str(caught.value)
    invoice = Invoice.objects.create(provider=alias, external_id="17")
    error = cancel_error(invoice.cancel)
    assert type(error) is CancelNotPossible
    assert error.result.code == ("configuration_unavailable" if alias == "broken" else "misconfigured")
    assert message in str(error)
    assert status_and_log(invoice) == ("created", [])
    assert len(web.calls) == 0


FORK = """
import os, django
django.setup()
from django_invoice_cancel import registry
parents = registry.get_provider("firekassa")
child = os.fork()
if child == 0:
    own = registry.get_provider("firekassa")
    os._exit(0 if own is not parents and own is registry.get_provider("firekassa") else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), registry.get_provider("firekassa") is parents)
"""


@pytest.mark.slow
def test_forked_child_makes_its_own_instance(child_env):
    output = subprocess.check_output([sys.executable, "-c", FORK], env=child_env(), text=True, timeout=60)
    assert output.split() == ["0", "True"]


FORK_WHILE_LOCKED = """
import os, django, threading
from django.conf import settings
settings.INVOICE_CANCEL = {"PROVIDERS": {"shop": {"BACKEND": "__main__.SlowProvider"}}}
django.setup()
from django_invoice_cancel import registry
from django_invoice_cancel.testing import ScriptedProvider
is_locked, go_on = threading.Event(), threading.Event()

class SlowProvider(ScriptedProvider):
    def __init__(self, alias, **options):
        if threading.current_thread() is thread:
            is_locked.set()
            go_on.wait(30)
        super().__init__(alias, **options)

thread = threading.Thread(target=registry.get_provider, args=["shop"])
thread.start()
is_locked.wait(30)
child = os.fork()
if child == 0:
    registry.get_provider("shop")
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
go_on.set()
thread.join()
"""


@pytest.mark.slow
def test_child_forked_while_another_thread_makes_a_provider_does_not_hang(child_env):
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK_WHILE_LOCKED]
    assert subprocess.check_output(command, env=child_env(), text=True, timeout=60).strip() == "7"
