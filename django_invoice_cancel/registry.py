"""The provider of an alias: one instance for each account and process, created at its first use.

An instance is cached until its configuration changes; after a fork the child creates its own. Errors name the alias and
the option, never a value.
"""

import inspect
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence, Set
from pkgutil import resolve_name
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.crypto import salted_hmac

from . import conf
from .domain.interruptions import is_interruption
from .domain.processes import PerProcess
from .domain.secrets import Secret, SecretDict, mask
from .domain.secrets import sanitize as sanitize_text
from .exceptions import ProviderMisconfigured
from .providers.base import Provider

logger = logging.getLogger("django_invoice_cancel")

DIGEST_LENGTH = 32
"""Number of hexadecimal digits of a digest of options."""
MAX_CACHED = 1000
"""Maximum number of cached instances, for a resolver with many accounts."""


class ConfigurationUnavailable(ImproperlyConfigured):
    """The configuration of a provider could not be read now; a later try may succeed."""


_PERMANENT_ERRORS = (
    ImproperlyConfigured,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    NameError,
    ImportError,
    SyntaxError,
    NotImplementedError,
)
"""Exceptions of an adapter that the same configuration would raise again: invalid options, or a bug."""


def _is_temporary(error: Exception) -> bool:
    """Return whether a later try may succeed after this exception of an adapter.

    True for each OSError (files, DNS, connections, ``requests``), also if it is a ValueError too (a certificate), and
    for unknown exceptions, such as those of a database or of the client library of a secret store.
    """
    return isinstance(error, OSError) or not isinstance(error, _PERMANENT_ERRORS)


class _Cache:
    """The providers of one process, by alias, with their configuration."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # an adapter may use others
        self.providers: OrderedDict[str, tuple[conf.ProviderConfig, Provider]] = OrderedDict()


_cache = PerProcess(_Cache)


def aliases() -> list[str]:
    """Return the aliases in the settings. Those of a resolver are not known."""
    return list(conf.get().providers)


def is_configured(alias: str) -> bool:
    """Return whether the alias has a provider."""
    try:
        get_provider(alias)
    except ImproperlyConfigured:
        return False
    return True


def can_look_up(alias: str) -> bool:
    """Return whether the provider supports lookups; True if the alias is not configured."""
    return not is_configured(alias) or get_provider(alias).supports_lookup


def get_provider(alias: str) -> Provider:
    """Return the provider of an alias. Raises ``ImproperlyConfigured`` if it is not configured or cannot be made."""
    config = _find_config(alias)
    own = _cache.get()
    with own.lock:
        kept = own.providers.get(alias)
        if kept is None or kept[0] != config:
            kept = own.providers[alias] = (config, build(config))
        own.providers.move_to_end(alias)
        while len(own.providers) > MAX_CACHED:
            own.providers.popitem(last=False)
        return kept[1]


def last_known(alias: str) -> Provider | None:
    """Return the cached provider of this process, without reading the configuration."""
    kept = _cache.get().providers.get(alias)
    return None if kept is None else kept[1]


def mask_secrets(text: str) -> str:
    """Return a text with the secrets of all cached providers replaced by ``***``."""
    return mask(text, _cached_secrets())


def sanitize(text: str) -> str:
    """Return a text of the project as it is stored, as ``Provider.sanitize`` does for the text of one provider."""
    return sanitize_text(text, _cached_secrets())


def _cached_secrets() -> list[Secret]:
    own = _cache.get()
    with own.lock:
        return [secret for _config, provider in own.providers.values() for secret in provider.secrets]


def build(config: conf.ProviderConfig) -> Provider:
    """Make a provider from its configuration; raise ``ImproperlyConfigured`` if that fails."""
    backend = load_backend(config)
    for problem in invalid_options(backend, config):
        raise ImproperlyConfigured(problem)
    options = SecretDict(
        (name, Secret(value) if name in backend.secret_options and value is not None else value)
        for name, value in config.options.items()
    )
    provider = _make(backend, config.alias, options)
    if isinstance(provider, ImproperlyConfigured):
        raise provider
    provider.options_digest = _digest(config)
    return provider


def options_digest(alias: str) -> str:
    """Return the digest of the account's options as they are configured now; empty if they cannot be read."""
    try:
        return get_provider(alias).options_digest
    except ImproperlyConfigured:
        return ""


def _digest(config: conf.ProviderConfig) -> str:
    """Return a keyed hash of a configuration, by which a change of the options is recognized; empty without a key.

    The key is derived from ``SECRET_KEY``, so the options cannot be guessed from the hash. It is the same for the same
    options in any order.
    """
    value = json.dumps([config.alias, config.backend, _canonical(config.options)])
    try:
        return salted_hmac("django_invoice_cancel.options", value, algorithm="sha256").hexdigest()[:DIGEST_LENGTH]
    except ImproperlyConfigured:  # SECRET_KEY is empty
        return ""


def _canonical(value: object) -> list[Any]:
    """Return a value as nested lists of strings that are equal for equal values, in each process."""
    if isinstance(value, Secret):
        return _canonical(value.reveal())
    if isinstance(value, Mapping):
        pairs = ([_canonical(key), _canonical(each)] for key, each in value.items())
        return ["mapping", *sorted(pairs, key=json.dumps)]
    if isinstance(value, Set):
        return ["set", *sorted(map(_canonical, value), key=json.dumps)]
    if isinstance(value, str):
        return ["str", str(value)]
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return ["sequence", *map(_canonical, value)]
    text = repr(value)
    return [type(value).__qualname__, "" if " at 0x" in text else text]  # an address differs between processes


def _make(backend: type[Provider], alias: str, options: SecretDict) -> Provider | ImproperlyConfigured:
    """Return the provider, or an error without the frames and causes of the adapter's, which may contain secrets.

    All secret options are added to the adapter's ``secrets``, so that they are masked also if it does not list them.
    """
    secrets = [value for value in options.values() if isinstance(value, Secret)]
    try:
        provider = backend(alias, **options)
    except ProviderMisconfigured as error:
        return ImproperlyConfigured(str(error))
    except Exception as error:
        if is_interruption(error):
            raise
        kind = ConfigurationUnavailable if _is_temporary(error) else ImproperlyConfigured
        return kind(f"Provider {alias!r} cannot be created: {type(error).__name__}: {mask(str(error), secrets)}")
    provider.secrets = [*provider.secrets, *(secret for secret in secrets if secret not in provider.secrets)]
    return provider


def load_backend(config: conf.ProviderConfig) -> type[Provider]:
    """Return the class that a configuration names; raise ``ImproperlyConfigured`` if it is not a provider."""
    backend = resolve(config.backend)
    if not (isinstance(backend, type) and issubclass(backend, Provider)):
        raise ImproperlyConfigured(
            f"BACKEND of {config.alias!r}, {config.backend!r}, "
            "is not a subclass of django_invoice_cancel.providers.Provider."
        )
    return backend


def invalid_options(backend: type[Provider], config: conf.ProviderConfig) -> Iterator[str]:
    """Yield a sentence for each option that is missing, unknown, or secret and not a string."""
    accepted = _accepted_options(backend)
    where = f"OPTIONS of provider {config.alias!r}"
    for name, parameter in accepted.items():
        if parameter.default is parameter.empty and name not in config.options:
            yield f"{where}: {name!r} is missing."
    for name in config.options:
        if name not in accepted:
            yield f"{where}: {name!r} is unknown. The valid options are {', '.join(sorted(accepted))}."
        elif name in backend.secret_options and not _is_allowed(config.options[name], accepted[name]):
            yield f"{where}: {name!r} must be a string."


def _is_allowed(secret: object, parameter: inspect.Parameter) -> bool:
    """Return whether a value is valid for a secret option: a string, or None if it is optional."""
    return isinstance(secret, str) or (secret is None and parameter.default is None)


def _find_config(alias: str) -> conf.ProviderConfig:
    settings = _read_settings()
    if alias in settings.providers:
        return settings.providers[alias]
    if settings.provider_resolver:
        config = _call_resolver(settings.provider_resolver, alias)
        if isinstance(config, str):
            raise ImproperlyConfigured(config)
        if config is not None:
            return config
    known = ", ".join(sorted(settings.providers)) or "none"
    raise ImproperlyConfigured(
        f"Provider {alias!r} is not configured (configured: {known}). Add it to INVOICE_CANCEL['PROVIDERS']."
    )


def _read_settings() -> conf.Settings:
    try:
        return conf.get()
    except ImproperlyConfigured:
        raise
    except Exception as error:
        if is_interruption(error):
            raise
        raise ConfigurationUnavailable(f"INVOICE_CANCEL cannot be read: {type(error).__name__}.") from None


def _call_resolver(resolver: str, alias: str) -> conf.ProviderConfig | str | None:
    """Return the configuration from the resolver, a sentence about its problem, or None for an unknown alias.

    Raises ``ConfigurationUnavailable`` if the resolver raises anything but ``ImproperlyConfigured``. Its exceptions are
    logged and not chained, because their frames may contain secrets.
    """
    ask = resolve(resolver)
    try:
        raw = ask(alias)
    except Exception as error:
        if is_interruption(error):
            raise
        logger.exception("PROVIDER_RESOLVER failed for %r.", alias)
        text = f"{resolver} failed for {alias!r}: {type(error).__name__}."
        if isinstance(error, ImproperlyConfigured):
            return text
    else:
        config = None if raw is None else conf.provider_config(alias, raw)
        return f"The return value of {resolver} {config}" if isinstance(config, str) else config
    raise ConfigurationUnavailable(text)


def resolve(path: str) -> Any:
    """Import the object of a dotted path in the settings.

    Raises ``ImproperlyConfigured``, or its subclass ``ConfigurationUnavailable`` if a later import may succeed: a
    module may read a file or query a server when it is imported.
    """
    try:
        return resolve_name(path)
    except Exception as error:  # an import runs code of the project
        if is_interruption(error):
            raise
        if _is_temporary(error):
            raise ConfigurationUnavailable(f"{path!r} cannot be imported: {type(error).__name__}.") from None
        raise ImproperlyConfigured(f"{path!r} in INVOICE_CANCEL cannot be imported: {error}") from error


def _accepted_options(backend: type[Provider]) -> dict[str, inspect.Parameter]:
    """Return the keyword options of a class: those of its ``__init__``, and with ``**`` also those of its bases."""
    accepted: dict[str, inspect.Parameter] = {}
    for cls in backend.__mro__:
        if "__init__" not in vars(cls):
            continue
        parameters = inspect.signature(vars(cls)["__init__"]).parameters.values()
        for parameter in parameters:
            if parameter.kind is parameter.KEYWORD_ONLY:
                accepted.setdefault(parameter.name, parameter)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return accepted


def _clear_cache(*, setting: str = conf.SETTING, **kwargs: object) -> None:
    global _cache
    if setting == conf.SETTING:
        _cache = PerProcess(_Cache)


setting_changed.connect(_clear_cache, dispatch_uid="invoice_cancel.registry")
