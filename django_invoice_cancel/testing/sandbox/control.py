"""The HTTP interface of a sandbox: JSON under ``/_sandbox/``, for tests and benchmarks in other processes.

Control requests call methods of ``ProviderSandbox``. They are not logged, counted or delayed.
"""

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from .faults import Step
from .store import CANCEL, reply_json
from .wire import Reply, Request

if TYPE_CHECKING:
    from .sandbox import ProviderSandbox

PREFIX = "/_sandbox/"

Parameters = Mapping[str, Any]


def answer(sandbox: "ProviderSandbox", request: Request) -> Reply:
    """Execute a control request and return its answer."""
    action = _ACTIONS.get((request.method, request.path.removeprefix(PREFIX)))
    if action is None:
        known = ", ".join(f"{method} {PREFIX}{name}" for method, name in _ACTIONS)
        return reply_json(404, {"error": f"Unknown request. Supported: {known}."})
    try:
        parameters = json.loads(request.body or b"{}") if request.method == "POST" else dict(parse_qsl(request.query))
        return reply_json(200, action(sandbox, parameters))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return reply_json(400, {"error": f"{type(error).__name__}: {error}"})


def requests(sandbox: "ProviderSandbox", parameters: Parameters) -> object:
    """Return all counts; with ``totals`` in the query, only the counts by operation."""
    summary = sandbox.summary()
    return summary["totals"] if "totals" in parameters else summary


def count(sandbox: "ProviderSandbox", parameters: Parameters) -> object:
    """Return the number of requests for an operation. With ``id``: for this invoice, and how often it was executed."""
    external_id = parameters.get("id")
    executed = sandbox.executed(external_id) if external_id else None
    return {"count": sandbox.count(parameters.get("operation", CANCEL), external_id), "executed": executed}


def truth(sandbox: "ProviderSandbox", parameters: Parameters) -> object:
    """Return the status of one invoice (``id``) or of all known invoices."""
    return {parameters["id"]: sandbox.truth(parameters["id"])} if "id" in parameters else sandbox.truths()


def timeline(sandbox: "ProviderSandbox", parameters: Parameters) -> object:
    """Return [monotonic time, operation, first id] of every request."""
    return sandbox.timeline()


def config(sandbox: "ProviderSandbox", parameters: Parameters) -> object:
    """Return the current configuration."""
    return asdict(sandbox.config)


def control(sandbox: "ProviderSandbox", parameters: Parameters) -> object:
    """Apply ``configure``, ``script``, ``set_status`` and ``pay``, in this order."""
    unknown = parameters.keys() - {"configure", "script", "set_status", "pay"}
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    sandbox.configure(**parameters.get("configure", {}))
    for script in parameters.get("script", []):
        steps = [_step(step) for step in script["steps"]]
        forever = script.get("forever", False)
        operation = script.get("operation", CANCEL)
        sandbox.script(script["id"], itertools.cycle(steps) if forever else steps, operation=operation)
    for external_id, word in parameters.get("set_status", {}).items():
        sandbox.set_status(external_id, word)
    for external_id in parameters.get("pay", []):
        sandbox.pay(external_id)
    return {}


def reset(sandbox: "ProviderSandbox", parameters: Parameters) -> object:
    """Restore the initial state."""
    sandbox.reset()
    return {}


def _step(step: str | Mapping[str, str]) -> Step:
    return step if isinstance(step, str) else step["raw"].encode("latin-1")


_ACTIONS: Mapping[tuple[str, str], Callable[["ProviderSandbox", Parameters], object]] = {
    ("GET", "requests"): requests,
    ("GET", "count"): count,
    ("GET", "truth"): truth,
    ("GET", "timeline"): timeline,
    ("GET", "config"): config,
    ("POST", "control"): control,
    ("POST", "reset"): reset,
}
