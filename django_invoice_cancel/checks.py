"""System checks of the settings, the databases and the stored invoices. Ids are stable and never reused.

No check contacts a provider or shows the value of an option. A check that fails does not hide the messages of others.
Each hint is complete without other sources. It ends with a link if the documentation has an address.
"""

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig, apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, router, transaction
from django.db.models import Count, Min, Q

from . import DOCUMENTATION_URL, conf, registry
from .domain.clock import TOLERANCE, utc_now
from .domain.secrets import Secret, mask
from .models import BulkOperation, BulkOperationItem, Invoice, InvoiceTransition
from .models.dispatch import is_async
from .models.provider_state import RECONCILE_QUIET, ProviderState
from .models.values import narrow_columns
from .models.writes.rows import FREE_TEXTS
from .providers.base import Provider
from .services.eligibility import doubtful

TAG = "invoice_cancel"
TASKS_MODULE = "django_invoice_cancel.tasks"
_APPS_OF_BACKENDS = frozenset({"django_tasks_db", "django_tasks_rq"})
"""Packages of task backends that must be in INSTALLED_APPS, for their tables and commands."""

HINTS: Mapping[str, str] = MappingProxyType(
    {
        "E001": "Remove the key, or correct its spelling; the message lists the valid keys.",
        "E002": "Set the key to a value of the type that the message names, or remove it to use its default.",
        "E003": "Set BACKEND to the dotted path of a subclass of django_invoice_cancel.providers.Provider.",
        "E004": "Add the missing option to OPTIONS, or remove the unknown one. If a secret is None, set its "
        "environment variable.",
        "E005": "Correct the option that the message names. Its value is not shown, because it may be a secret.",
        "E006": "Use the https:// address: the token is sent with every request.",
        "E007": "Set INVOICE_CANCEL['CLAIM_TTL'] to more than twice the deadline, or lower the option deadline.",
        "E008": "Set PROVIDER_RESOLVER to the dotted path of a function that takes an alias, or remove it.",
        "E009": "Set DISPATCH to the dotted path of a synchronous function that takes the id of a bulk operation, "
        "or remove it. Without DISPATCH, the progress page in the admin does the work.",
        "E010": "Configure a backend 'default' with the queue 'default' in TASKS. Add its app to INSTALLED_APPS, and "
        "install its package (on Django 5.2: pip install 'django-invoice-cancel[tasks]').",
        "E011": "Set VETO to the dotted path of a synchronous function that takes an invoice and returns a reason or "
        "None, or remove it. Until then, no invoice is canceled.",
        "W001": "Set the isolation level to READ COMMITTED: OPTIONS['isolation_level'] of this database in DATABASES.",
        "W002": "Run pip check, and install the versions of urllib3 and requests that this package requires.",
        "W003": "Configure a real provider, or set DEBUG = True on a test system.",
        "W004": "Run manage.py reconcile_invoices every minute, for example with cron. If it runs, configure the "
        "provider again, or resolve its invoices in the admin.",
        "W005": "Remove AUTOCOMMIT from this database in DATABASES.",
        "W006": "Use the provider's own https:// address, or set DEBUG = True on a test system. "
        "If this is a tunnel to the provider, add 'invoice_cancel.W006' to SILENCED_SYSTEM_CHECKS.",
        "W007": "Configure a backend with workers in TASKS, such as django_tasks_db.DatabaseBackend, or remove "
        "DISPATCH.",
        "W008": "Run manage.py reconcile_invoices every minute, and find the reason in the log of these invoices. "
        "To cancel a request, call invoice.withdraw().",
        "W009": "Keep one of these aliases, and move the invoices of the others to it.",
        "W010": "Remove SEND from INVOICE_CANCEL. In an environment that must not send requests, add "
        "'invoice_cancel.W010' to SILENCED_SYSTEM_CHECKS.",
        "W011": "Convert these tables: ALTER TABLE ... CONVERT TO CHARACTER SET utf8mb4.",
        "W012": "Install psycopg 3 (pip install psycopg), or set USE_TZ = True.",
    }
)
"""The hint of each check, by the number of its id."""
_FREE_TEXTS = (
    *((InvoiceTransition._meta.db_table, column) for column in FREE_TEXTS),
    *(
        (BulkOperation._meta.db_table, column)
        for column in ("actor_label", "runner_label", "stopped_by_label", "reason", "selected_filter", "dispatch_error")
    ),
    *((BulkOperationItem._meta.db_table, column) for column in ("label", "veto_reason")),
)
"""The columns with texts that come from outside, as (table, column)."""


def _make_message(number: str, text: str) -> CheckMessage:
    kind = Error if number.startswith("E") else Warning
    return kind(text, hint=f"{HINTS[number]}{_link(number)}", id=f"{TAG}.{number}")


def _link(number: str) -> str:
    address = f"{DOCUMENTATION_URL}/reference/checks.html#invoice-cancel-{number.lower()}"
    return f" See {address}" if DOCUMENTATION_URL else ""


# -- the setting ----------------------------------------------------------------------------------------------


@register(TAG)
def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check ``INVOICE_CANCEL``: its keys, its providers, and its dotted paths."""
    settings, problems = conf.read()
    numbers = {"unknown": "E001", "PROVIDERS": "E003"}
    found = [_make_message(numbers.get(key, "E002"), text) for key, text in problems]
    built: list[Provider] = []
    for config in settings.providers.values():
        found += _check_provider(config, settings.claim_ttl, built)
    found += _check_accounts(built)
    if not settings.send:
        found.append(_make_message("W010", "INVOICE_CANCEL['SEND'] is False, so no cancel requests are sent."))
    found += _check_callable("E008", "PROVIDER_RESOLVER", settings.provider_resolver)
    found += _check_callable("E011", "VETO", settings.veto)
    found += _check_dispatch(settings.dispatch)
    return found


def _check_dispatch(path: str | None) -> list[CheckMessage]:
    """Check the dispatcher, and also the setting TASKS, which ``@task`` reads at import."""
    if path is None or not path.startswith(TASKS_MODULE):
        return list(_check_callable("E009", "DISPATCH", path))
    found = list(_check_callable("E009" if _is_importable(TASKS_MODULE) else "E010", "DISPATCH", path))
    if not found:
        backend = type(resolve_name(f"{TASKS_MODULE}.advance_bulk_operation").get_backend())
        package = backend.__module__.partition(".")[0]
        if backend.__name__ in ("ImmediateBackend", "DummyBackend"):
            text = f"DISPATCH enqueues bulk operations in TASKS, but its {backend.__name__} has no workers."
            found.append(_make_message("W007", text))
        elif package in _APPS_OF_BACKENDS and not apps.is_installed(package):
            found.append(
                _make_message("E010", f"TASKS uses {backend.__name__}, but {package!r} is not in INSTALLED_APPS.")
            )
    return found


def _check_callable(number: str, key: str, path: str | None) -> Iterator[CheckMessage]:
    if path is None:
        return
    try:
        is_callable = callable(resolve_name(path))
    except Exception as error:  # noqa: BLE001 - whatever the module raises when it is imported
        yield _make_message(number, f"INVOICE_CANCEL[{key!r}], {path!r}, cannot be imported: {_describe_error(error)}")
    else:
        if not is_callable:
            yield _make_message(number, f"INVOICE_CANCEL[{key!r}], {path!r}, is not callable.")
        elif is_async(resolve_name(path)):
            yield _make_message(
                number, f"INVOICE_CANCEL[{key!r}], {path!r}, is an async function, which nothing would await."
            )


def _is_importable(path: str) -> bool:
    try:
        resolve_name(path)
    except Exception:  # noqa: BLE001 - as above; reported there
        return False
    return True


def _describe_error(error: Exception) -> str:
    """Return the text of an error about an import or a setting, and only the class of other errors."""
    is_ours = isinstance(error, ImportError | AttributeError | ImproperlyConfigured)
    is_of_tasks = type(error).__module__ in ("django.tasks.exceptions", "django_tasks.exceptions")
    return str(error) if is_ours or is_of_tasks else f"{type(error).__name__} was raised."


# -- a provider -----------------------------------------------------------------------------------------------


def _check_provider(config: conf.ProviderConfig, claim_ttl: float, built: list[Provider]) -> Iterator[CheckMessage]:
    try:
        backend = registry.load_backend(config)
    except Exception as error:  # noqa: BLE001 - whatever the backend's module raises when it is imported
        # Without the class it is unknown which options are secrets, so all of them are masked.
        text = f"BACKEND of provider {config.alias!r} cannot be used: {_describe_error(error)}"
        yield _make_message("E003", mask(text, [Secret(v) for v in config.options.values() if isinstance(v, str)]))
        return
    yield from _check_backend(backend, config)
    yield from _check_address(config)
    wrong = [_make_message("E004", text) for text in registry.invalid_options(backend, config)]
    yield from wrong
    if not wrong and not _is_unencrypted_remote(config):
        yield from _check_built(backend, config, claim_ttl, built)


def _check_backend(backend: type[Provider], config: conf.ProviderConfig) -> Iterator[CheckMessage]:
    is_scripted = any(cls.__module__.startswith("django_invoice_cancel.testing.") for cls in backend.__mro__)
    if is_scripted and not django_settings.DEBUG:
        yield _make_message("W003", f"Provider {config.alias!r} has a scripted test backend, which sends no requests.")


def _check_address(config: conf.ProviderConfig) -> Iterator[CheckMessage]:
    if _is_unencrypted_remote(config):
        yield _make_message(
            "E006", f"Provider {config.alias!r}: option 'base_url' begins with http://, without encryption."
        )
    elif _plain_host(config) is not None and not django_settings.DEBUG:
        yield _make_message("W006", f"Provider {config.alias!r}: option 'base_url' points to this machine.")


def _is_unencrypted_remote(config: conf.ProviderConfig) -> bool:
    from .providers.http import is_loopback  # imports the HTTP library, which the start of Django does not need

    host = _plain_host(config)
    return host is not None and not is_loopback(host)


def _plain_host(config: conf.ProviderConfig) -> str | None:
    """Return the host of an unencrypted ``base_url``, or None if it is encrypted or missing."""
    try:
        parts = urlsplit(str(config.options.get("base_url")))
    except ValueError:  # not an address: the provider reports it
        return None
    return parts.hostname if parts.scheme == "http" else None


def _check_accounts(providers: Iterable[Provider]) -> Iterator[CheckMessage]:
    """Check that no two aliases have the same account, so that an invoice cannot be registered and canceled twice."""
    aliases: dict[Hashable, list[str]] = {}
    for provider in providers:
        with suppress(Exception):  # an error of an adapter's ``account`` must not hide other findings
            if provider.account is not None:
                aliases.setdefault(provider.account, []).append(repr(provider.alias))
    for names in aliases.values():
        if len(names) > 1:
            yield _make_message(
                "W009", f"Providers {' and '.join(names)} are the same account: they share address and credentials."
            )


def _check_built(
    backend: type[Provider], config: conf.ProviderConfig, claim_ttl: float, built: list[Provider]
) -> Iterator[CheckMessage]:
    try:
        provider = registry.build(config)
    except Exception as error:  # noqa: BLE001 - whatever an adapter raises for its options
        yield _make_message("E005", mask(_describe_build_error(config, error), _secrets(backend, config)))
        return
    built.append(provider)
    if provider.deadline * 2 > claim_ttl:
        yield _make_message(
            "E007",
            f"Provider {config.alias!r}: the deadline ({provider.deadline:g} s) is more than half of "
            f"CLAIM_TTL ({claim_ttl:g} s).",
        )


def _describe_build_error(config: conf.ProviderConfig, error: Exception) -> str:
    if isinstance(error, ImproperlyConfigured):
        return str(error)
    return f"Provider {config.alias!r} cannot be created from its OPTIONS: {type(error).__name__} was raised."


def _secrets(backend: type[Provider], config: conf.ProviderConfig) -> list[Secret]:
    options = config.options.items()
    return [Secret(value) for name, value in options if name in backend.secret_options and isinstance(value, str)]


# -- the transport and the databases --------------------------------------------------------------------------


@register(TAG)
def check_transport(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that the HTTP library has the hooks with which the transport detects whether a request was sent."""
    from .providers.transport import hooks_missing  # imports the HTTP library, as above

    missing = ", ".join(hooks_missing())
    if not missing:
        return []
    text = f"The HTTP library lacks {missing}. More cancellations than necessary will end in doubt; none will be wrong."
    return [_make_message("W002", text)]


@register(TAG)
def check_databases(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check the settings of the databases that may hold invoices; opens no connection."""
    found = []
    for alias in _databases_of_invoices(connections):
        connection = connections[alias]
        level = isolation_level(connection.vendor, connection.settings_dict["OPTIONS"])
        if level != "read committed":
            text = f"Database {alias!r} has the isolation level {level}, but this app expects READ COMMITTED."
            found.append(_make_message("W001", text))
        if not connection.settings_dict["AUTOCOMMIT"]:
            text = f"Database {alias!r} has AUTOCOMMIT off. A transaction is always open, so no requests are sent."
            found.append(_make_message("W005", text))
        if connection.vendor == "postgresql" and not django_settings.USE_TZ and not _has_psycopg3():
            text = f"Database {alias!r} uses psycopg2 with USE_TZ off. Times are ambiguous when clocks go back."
            found.append(_make_message("W012", text))
    return found


def _has_psycopg3() -> bool:
    from django.db.backends.postgresql.psycopg_any import is_psycopg3  # needs the driver

    return bool(is_psycopg3)


@register(TAG, Tags.database)
def check_character_sets(
    app_configs: Sequence[AppConfig] | None, databases: Iterable[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Check that the log can store every character. Runs with ``check --database default`` and before ``migrate``."""
    found = []
    for alias in _databases_of_invoices(databases or ()):
        try:
            columns = narrow_columns(alias, _FREE_TEXTS)
        except DatabaseError:  # the next connection reports it
            continue
        if columns:
            text = f"Database {alias!r} cannot store every character in {', '.join(columns)}; such texts are escaped."
            found.append(_make_message("W011", text))
    return found


_DEFAULT_ISOLATION = re.compile(r"default_transaction_isolation=['\"]?([a-z]+(?:\\? [a-z]+)?)", re.IGNORECASE)


def _databases_of_invoices(aliases: Iterable[str]) -> list[str]:
    return [alias for alias in aliases if router.allow_migrate_model(alias, Invoice)]


def isolation_level(vendor: str, options: Mapping[str, Any]) -> str:
    """Return the configured isolation level in lower case, or Django's default."""
    level = options.get("isolation_level", "read committed")
    if vendor == "mysql":
        return "of the server's configuration" if level is None else str(level).lower()
    if vendor == "postgresql" and isinstance(level, int):
        from django.db.backends.postgresql.psycopg_any import IsolationLevel  # needs the driver

        names = {int(each): each.name for each in IsolationLevel}
        return names.get(level, "read committed").lower().replace("_", " ")  # Django refuses to connect with others
    if vendor == "postgresql" and "isolation_level" not in options:  # then that of libpq's options applies
        found = _DEFAULT_ISOLATION.search(str(options.get("options", "")))
        return found[1].replace("\\", "").lower().strip() if found else "read committed"
    return "read committed"


# -- reconciling ----------------------------------------------------------------------------------------------


@register(TAG, Tags.database, deploy=True)  # so that it needs --database, as Django's checks that read a database
def check_reconciling(
    app_configs: Sequence[AppConfig] | None, databases: Iterable[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Check that invoices in doubt are reconciled and requested cancellations are carried out.

    It reads invoices, so it runs only with ``check --deploy --database default``.
    """
    found: list[CheckMessage] = []
    for alias in _databases_of_invoices(databases or ()):
        try:
            with transaction.atomic(using=alias):
                found += _check_silence(alias)
                found += _check_requests(alias)
        except DatabaseError:  # not migrated yet, or unreachable: other checks report it
            continue
    return found


def _check_silence(alias: str) -> Iterator[CheckMessage]:
    since = utc_now() - RECONCILE_QUIET
    unsettled = Invoice.objects.using(alias)
    # A time in the future was written by a clock that is ahead, so its age is not known.
    recent = Q(status_changed_at__range=(since, utc_now() + TOLERANCE))
    unsettled = unsettled.filter(doubtful()).exclude(recent)
    is_ahead = Q(last_reconcile_at__gt=utc_now() + RECONCILE_QUIET)
    silent = Q(last_reconcile_at__isnull=True) | Q(last_reconcile_at__lt=since) | is_ahead
    heard = set(ProviderState.objects.using(alias).exclude(silent).values_list("alias", flat=True))
    for provider, count in unsettled.order_by("provider").values_list("provider").annotate(Count("pk")):
        if provider not in heard:
            text = f"{provider!r} has invoices in doubt ({count} in {alias!r}), but was not reconciled for an hour."
            yield _make_message("W004", text)


def _check_requests(alias: str) -> Iterator[CheckMessage]:
    waiting = Invoice.objects.using(alias).requested_long_ago().order_by("provider").values_list("provider")
    for provider, count, oldest in waiting.annotate(Count("pk"), Min("cancel_requested_at")):
        text = (
            f"Requested cancellations at {provider!r} have waited for more than 15 minutes: {count} in {alias!r}, "
            f"the oldest since {oldest:%Y-%m-%d %H:%M} UTC."
        )
        yield _make_message("W008", text)
