"""The setting ``INVOICE_CANCEL``: its keys, types, defaults and limits. No other module reads it.

It is read at the first call and cached until it changes. Neither ``repr`` nor error messages show values of options.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from .domain.numbers import CLAIM_SECONDS, DOUBT_SECONDS, WORKERS, NumberRange
from .domain.secrets import SecretDict

SETTING = "INVOICE_CANCEL"


@dataclass(frozen=True)
class ProviderConfig:
    """One entry of ``PROVIDERS``, or the return value of ``PROVIDER_RESOLVER``."""

    alias: str
    backend: str
    options: SecretDict = field(hash=False)


@dataclass(frozen=True)
class Settings:
    """``INVOICE_CANCEL`` with its defaults."""

    providers: Mapping[str, ProviderConfig]
    provider_resolver: str | None = None
    claim_ttl: float = 300
    """Seconds for which a claim is valid."""
    doubt_period: float = 900
    """Seconds for which a provider may still carry out a lost request."""
    require_reason: bool = False
    send: bool = True
    """False: requests that change something at a provider are not sent. Lookups are always sent."""
    veto: str | None = None
    """Path of a function that may forbid the cancellation of an invoice."""
    dispatch: str | None = None
    dispatch_workers: int = 1
    """Number of workers of one operation, and of calls of ``dispatch``."""


def get() -> Settings:
    """Return the settings; raise ``ImproperlyConfigured`` with all problems."""
    settings, problems = read()
    if problems:
        raise ImproperlyConfigured(" ".join(text for _, text in problems))
    return settings


@cache
def read() -> tuple[Settings, list[tuple[str, str]]]:
    """Return the settings and their problems, as (key, sentence). Keys with a problem have their default."""
    raw = getattr(django_settings, SETTING, {})
    if not isinstance(raw, Mapping):
        return Settings(providers={}), [("", f"{SETTING} must be a dict.")]
    problems = list(_unknown_keys(raw))
    providers, wrong = _providers(raw.get("PROVIDERS", {}))
    problems += [("PROVIDERS", f"{SETTING}['PROVIDERS'] {text}") for text in wrong]
    values: dict[str, Any] = {"providers": providers}
    for key, reader in _READERS.items():
        if key in raw:
            try:
                values[key.lower()] = reader(raw[key])
            except ValueError as error:
                problems.append((key, f"{SETTING}[{key!r}] {error}"))
    return Settings(**values), problems


def provider_config(alias: str, raw: object) -> ProviderConfig | str:
    """Return the entry of one alias, or a sentence about its problem.

    It does not raise, because the frames of an exception would put secret values into an error report.
    """
    if not isinstance(raw, Mapping) or not isinstance(raw.get("BACKEND"), str):
        return f'is invalid for {alias!r}: it must be a dict with "BACKEND", the dotted path of the provider\'s class.'
    options = raw.get("OPTIONS", {})
    if not isinstance(options, Mapping) or not all(isinstance(key, str) for key in options):
        return f'is invalid for {alias!r}: "OPTIONS" must be a dict with strings as keys.'
    unknown = sorted(map(str, set(raw) - {"BACKEND", "OPTIONS"}))
    if unknown:
        return f'is invalid for {alias!r}: unknown key {unknown[0]!r}. The valid keys are "BACKEND" and "OPTIONS".'
    return ProviderConfig(alias, raw["BACKEND"], SecretDict(options))


def _unknown_keys(raw: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    known = {"PROVIDERS", *_READERS}
    for key in raw:
        if key not in known:
            yield "unknown", f"{SETTING} has an unknown key {key!r}. The valid keys are {', '.join(sorted(known))}."


def _providers(raw: object) -> tuple[dict[str, ProviderConfig], list[str]]:
    """Return the valid entries and the problems of the others."""
    if not isinstance(raw, Mapping):
        return {}, ["must be a dict with aliases as keys."]
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


def _number(range_: NumberRange, raw: Any) -> Any:
    if raw not in range_:
        raise ValueError(f"must be {range_}.")
    return raw


def _flag(raw: object) -> bool:
    if not isinstance(raw, bool):
        raise ValueError("must be True or False.")
    return raw


def _path(raw: object) -> str | None:
    if raw is not None and not isinstance(raw, str):
        raise ValueError("must be a dotted path or None.")
    return raw


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "CLAIM_TTL": partial(_number, CLAIM_SECONDS),
    "DOUBT_PERIOD": partial(_number, DOUBT_SECONDS),
    "REQUIRE_REASON": _flag,
    "SEND": _flag,
    "PROVIDER_RESOLVER": _path,
    "VETO": _path,
    "DISPATCH": _path,
    "DISPATCH_WORKERS": partial(_number, WORKERS),
}


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == SETTING:
        read.cache_clear()


setting_changed.connect(_forget, dispatch_uid="invoice_cancel.conf")
