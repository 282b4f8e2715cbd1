"""The configuration of a sandbox, and the settings of a project that uses it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CREDENTIALS = frozenset({"firekassa_token", "cryptocloud_key", "sign_token"})
"""Options that can only be set at the start."""


@dataclass(frozen=True)
class SandboxConfig:
    """Options of a sandbox, which can be set at its start or while it runs."""

    firekassa_token: str = "sandbox-firekassa-token"  # noqa: S105 - invented, and public
    """The token that FireKassa accepts."""
    cryptocloud_key: str = "sandbox-cryptocloud-key"
    """The API key that CryptoCloud accepts."""
    sign_token: str | None = None
    """If set, FireKassa requires a valid ``Signature``."""
    latency: float | Mapping[str, float] = 0.0
    """Delay between execution and answer, in seconds. A mapping sets it for each dialect."""
    rate: float | None = None
    """Maximum number of requests per second for each dialect. More requests get a 429."""
    down: str = ""
    """``silent``: requests are neither answered nor executed. ``refuse``: connections are refused."""
    late_seconds: float = 3.0
    """Delay of the execution of a ``late`` cancel request, in seconds."""
    slow_seconds: float = 2.0
    """Delay of a ``slow`` answer, in seconds."""
    drip_seconds: float = 1.0
    """Interval between two bytes of a ``drip``, in seconds."""
    retry_after_seconds: int = 1
    """The Retry-After header of a 429, in seconds."""
    repeat_is_ok: bool = False
    """Whether FireKassa confirms a cancel request for a canceled invoice. Its real answer is not documented."""
    keep_requests: bool = True
    """Whether requests are stored completely, or only their times and counts."""

    def __post_init__(self) -> None:
        if self.down not in ("", "silent", "refuse"):
            raise ValueError(f"down must be '', 'silent' or 'refuse', not {self.down!r}.")

    def latency_of(self, dialect: str) -> float:
        """Return the latency of a dialect in seconds."""
        return self.latency.get(dialect, 0.0) if isinstance(self.latency, Mapping) else self.latency


def provider_settings(config: SandboxConfig, base_url: str, **options: Any) -> dict[str, dict[str, Any]]:
    """Return ``INVOICE_CANCEL["PROVIDERS"]`` for a sandbox at ``base_url``."""
    signed = {"sign_token": config.sign_token} if config.sign_token is not None else {}
    firekassa = {"base_url": base_url, "api_token": config.firekassa_token, **signed, **options}
    cryptocloud = {"base_url": base_url, "api_key": config.cryptocloud_key, **options}
    return {
        "firekassa": {"BACKEND": "django_invoice_cancel.providers.firekassa.FireKassa", "OPTIONS": firekassa},
        "cryptocloud": {"BACKEND": "django_invoice_cancel.providers.cryptocloud.CryptoCloud", "OPTIONS": cryptocloud},
    }
