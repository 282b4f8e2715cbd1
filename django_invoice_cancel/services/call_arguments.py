"""Checks of the arguments of public functions: actors and texts. They run before anything is written or sent."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.utils.functional import Promise

from .. import conf
from ..domain.audit import AuditContext, LoggedActor, Trigger


def build_audit_context(actor: Any, trigger: str, reason: Any = "", *, argument: str = "reason") -> AuditContext:
    """Return the audit context of a call.

    Args:
        argument: Name of the argument that is passed as ``reason``.

    Raises:
        TypeError: ``actor`` is not a user or a label, or ``reason`` is not a text.
        ValueError: ``trigger`` is not a ``Trigger``.
    """
    return AuditContext(checked_actor(actor), Trigger(trigger), checked_text(argument, reason))


def build_checked_audit_context(actor: Any, trigger: str, reason: Any) -> AuditContext:
    """Return the audit context of a cancellation. Raises ``ValueError`` also if a reason is required and missing."""
    audit = build_audit_context(actor, trigger, reason)
    settings, _ = conf.read()  # their problems are in the result of the invoice: it is misconfigured
    if settings.require_reason and not audit.reason.strip():
        raise ValueError("A reason is required, because INVOICE_CANCEL['REQUIRE_REASON'] is set.")
    return audit


def checked_text(name: str, value: Any) -> str:
    """Return a text as a plain ``str``: a lazy text is evaluated, None is empty. Other types raise ``TypeError``."""
    if value is None:
        return ""
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, str):
        return value[:]  # without its subclass, whose str() may be another text
    raise TypeError(f"{name} must be a string or None, not {type(value).__name__}.")


def checked_actor(actor: Any) -> Any:
    """Return a user, an object that behaves like one, a label, or None. Other types raise ``TypeError``."""
    if isinstance(actor, str | Promise):
        return checked_text("actor", actor)
    is_user = isinstance(actor, get_user_model()) or _behaves_like_user(actor)
    if actor is None or is_user or isinstance(actor, LoggedActor):
        return actor
    raise TypeError(f"actor must be a user, a label (string) or None, not {type(actor).__name__}.")


def checked_status_string(provider_status: Any) -> str | None:
    """Return a provider's status string. A whole number, as JSON may contain, is converted to its decimal text."""
    if isinstance(provider_status, int) and not isinstance(provider_status, bool):
        return str(provider_status)
    return None if provider_status is None else checked_text("provider_status", provider_status)


def _behaves_like_user(actor: Any) -> bool:
    return not isinstance(actor, type) and hasattr(actor, "is_authenticated")
