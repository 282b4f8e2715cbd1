"""The sandbox's controls over HTTP: JSON under ``/_sandbox/``, for tests and benchmarks in other processes.

Translates requests into calls of ``ProviderSandbox`` and nothing else. A control request is no request to the
provider: it is not logged, counted or delayed.
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

Question = Mapping[str, Any]


def answer(sandbox: "ProviderSandbox", request: Request) -> Reply:
    """Do what a control request asks for and return its answer."""
    action = _ACTIONS.get((request.method, request.path.removeprefix(PREFIX)))
    if action is None:
        there_are = ", ".join(f"{method} {PREFIX}{name}" for method, name in _ACTIONS)
        return reply_json(404, {"error": f"There are {there_are}."})
    try:
        question = json.loads(request.body or b"{}") if request.method == "POST" else dict(parse_qsl(request.query))
        return reply_json(200, action(sandbox, question))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return reply_json(400, {"error": f"{type(error).__name__}: {error}"})


def requests(sandbox: "ProviderSandbox", question: Question) -> object:
    """Return all counts; with ``totals`` in the query only those of the operations."""
    summary = sandbox.summary()
    return summary["totals"] if "totals" in question else summary


def count(sandbox: "ProviderSandbox", question: Question) -> object:
    """Return the count of an operation, of one invoice where ``id`` names it, and how often it was executed."""
    external_id = question.get("id")
    executed = sandbox.executed(external_id) if external_id else None
    return {"count": sandbox.count(question.get("operation", CANCEL), external_id), "executed": executed}


def truth(sandbox: "ProviderSandbox", question: Question) -> object:
    """Return the status of one invoice (``id``) or of all that were ever asked for."""
    return {question["id"]: sandbox.truth(question["id"])} if "id" in question else sandbox.truths()


def timeline(sandbox: "ProviderSandbox", question: Question) -> object:
    """Return [monotonic time, operation, first id] of every request."""
    return sandbox.timeline()


def knobs(sandbox: "ProviderSandbox", question: Question) -> object:
    """Return what is set now."""
    return asdict(sandbox.knobs)


def control(sandbox: "ProviderSandbox", question: Question) -> object:
    """Apply ``configure``, ``script``, ``set_status`` and ``pay``, in this order."""
    unknown = question.keys() - {"configure", "script", "set_status", "pay"}
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    sandbox.configure(**question.get("configure", {}))
    for script in question.get("script", []):
        steps = [_step(step) for step in script["steps"]]
        forever = script.get("forever", False)
        operation = script.get("operation", CANCEL)
        sandbox.script(script["id"], itertools.cycle(steps) if forever else steps, operation=operation)
    for external_id, word in question.get("set_status", {}).items():
        sandbox.set_status(external_id, word)
    for external_id in question.get("pay", []):
        sandbox.pay(external_id)
    return {}


def reset(sandbox: "ProviderSandbox", question: Question) -> object:
    """Start anew."""
    sandbox.reset()
    return {}


def _step(step: str | Mapping[str, str]) -> Step:
    return step if isinstance(step, str) else step["raw"].encode("latin-1")


_ACTIONS: Mapping[tuple[str, str], Callable[["ProviderSandbox", Question], object]] = {
    ("GET", "requests"): requests,
    ("GET", "count"): count,
    ("GET", "truth"): truth,
    ("GET", "timeline"): timeline,
    ("GET", "knobs"): knobs,
    ("POST", "control"): control,
    ("POST", "reset"): reset,
}
