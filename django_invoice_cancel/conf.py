"""The one reader of ``settings.INVOICE_CANCEL``: types, defaults and limits on one screen.

Read at call time, cached until the setting changes. Values of options are never shown: not by ``repr``, not in
an error's message.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from .domain.secrets import SecretDict

SETTING = "INVOICE_CANCEL"
_KEYS = frozenset(
    {
        *("PROVIDERS", "PROVIDER_RESOLVER", "CLAIM_TTL", "DOUBT_PERIOD", "REQUIRE_REASON", "SEND"),
        *("DISPATCH", "DISPATCH_WORKERS"),
    }
)

LONGEST_CLAIM = 86_400
"""The upper bound of CLAIM_TTL, a day: a crashed process leaves its claims for as long."""
LONGEST_DOUBT = 2_592_000
"""The upper bound of DOUBT_PERIOD, 30 days."""


@dataclass(frozen=True)
class ProviderConfig:
    """One entry of ``PROVIDERS``, or what ``PROVIDER_RESOLVER`` returned."""

    alias: str
    backend: str
    options: SecretDict = field(hash=False)


@dataclass(frozen=True)
class Settings:
    """``INVOICE_CANCEL`` with its defaults."""

    providers: Mapping[str, ProviderConfig]
    provider_resolver: str | None = None
    claim_ttl: float = 300
    """Seconds by which a claimed request is over."""
    doubt_period: float = 900
    """Seconds in which a provider may still carry out a lost request."""
    require_reason: bool = False
    send: bool = True
    """Whether requests that change something at a provider are sent. Lookups are sent in any case."""
    dispatch: str | None = None
    dispatch_workers: int = 1
    """How often ``dispatch`` is called for one operation: how many workers are wanted on it."""


def get() -> Settings:
    """Return the settings, or raise ``ImproperlyConfigured`` with all that is wrong."""
    settings, problems = read()
    if problems:
        raise ImproperlyConfigured(" ".join(text for _, text in problems))
    return settings


@cache
def read() -> tuple[Settings, list[tuple[str, str]]]:
    """Return the settings and what is wrong with them, as (key, sentence); wrong parts have their default."""
    raw = getattr(django_settings, SETTING, {})
    if not isinstance(raw, Mapping):
        return Settings(providers={}), [("", f"{SETTING} must be a dict.")]
    problems = list(_unknown_keys(raw))
    providers, wrong = _providers(raw.get("PROVIDERS", {}))
    problems += [("PROVIDERS", f"{SETTING}['PROVIDERS'] {text}") for text in wrong]
    values: dict[str, Any] = {"providers": providers}
    for key, reader in (("CLAIM_TTL", partial(_seconds, LONGEST_CLAIM)),
                        ("DOUBT_PERIOD", partial(_seconds, LONGEST_DOUBT)), ("REQUIRE_REASON", _flag), ("SEND", _flag),
                        ("PROVIDER_RESOLVER", _path), ("DISPATCH", _path), ("DISPATCH_WORKERS", _count)):  # fmt: skip
        if key in raw:
            try:
                values[key.lower()] = reader(raw[key])
            except ValueError as error:
                problems.append((key, f"{SETTING}[{key!r}] {error}"))
    return Settings(**values), problems


def provider_config(alias: str, raw: object) -> ProviderConfig | str:
    """Return the entry of one alias, or what is wrong with it.

    It does not raise: an exception's frames would carry the values into an error report.
    """
    if not isinstance(raw, Mapping) or not isinstance(raw.get("BACKEND"), str):
        return f'needs for {alias!r} a dict with "BACKEND", the dotted path of the provider\'s class.'
    options = raw.get("OPTIONS", {})
    if not isinstance(options, Mapping) or not all(isinstance(key, str) for key in options):
        return f'needs for {alias!r} "OPTIONS" to be a dict with strings as keys.'
    unknown = sorted(map(str, set(raw) - {"BACKEND", "OPTIONS"}))
    if unknown:
        return f'has for {alias!r} an unknown key {unknown[0]!r}: only "BACKEND" and "OPTIONS" belong there.'
    return ProviderConfig(alias, raw["BACKEND"], SecretDict(options))


def _unknown_keys(raw: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    for key in raw:
        if key not in _KEYS:
            yield "unknown", f"{SETTING} has an unknown key {key!r}: the known ones are {', '.join(sorted(_KEYS))}."


def _providers(raw: object) -> tuple[dict[str, ProviderConfig], list[str]]:
    """Return the usable entries and what is wrong with the others: one that is broken hides no other."""
    if not isinstance(raw, Mapping):
        return {}, ["must be a dict of aliases."]
    configs, wrong = {}, []
    for alias in raw:
        if not isinstance(alias, str) or not 0 < len(alias) <= 64:
            wrong.append("has an alias that is not a string of 1 to 64 characters.")
            continue
        config = provider_config(alias, raw[alias])
        if isinstance(config, str):
            wrong.append(config)
        else:
            configs[alias] = config
    return configs, wrong


def _seconds(most: float, raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not 0 < raw <= most:
        raise ValueError(f"must be a number of seconds greater than 0 and at most {most:,}.")
    return raw


def _count(raw: object) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int) or not 0 < raw <= 1000:
        raise ValueError("must be a whole number from 1 to 1000.")
    return raw


def _flag(raw: object) -> bool:
    if not isinstance(raw, bool):
        raise ValueError("must be True or False.")
    return raw


def _path(raw: object) -> str | None:
    if raw is not None and not isinstance(raw, str):
        raise ValueError("must be a dotted path or None.")
    return raw


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == SETTING:
        read.cache_clear()


setting_changed.connect(_forget, dispatch_uid="invoice_cancel.conf")
