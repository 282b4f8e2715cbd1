"""A server that forks in C, such as uWSGI, runs no hooks. The child still has its own providers and connections."""

import os
import subprocess
import sys

import pytest

from tests.integration.providers.transport.fault_server import FaultServer, Peer, answer

CHILD = """
import ctypes, os, sys
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_invoice_cancel"],
    INVOICE_CANCEL={"PROVIDERS": {"shop": {
        "BACKEND": "django_invoice_cancel.providers.firekassa.FireKassa",
        "OPTIONS": {"base_url": sys.argv[1], "api_token": "invented-token", "deadline": 5.0},
    }}},
)
django.setup()
from django_invoice_cancel.registry import get_provider

def cancel(who, external_id):
    reply = get_provider("shop").cancel(external_id, lease=lambda seconds_left: True)
    print(who, external_id, reply.outcome, flush=True)

inherited = get_provider("shop")
cancel("parent", "1")
fork = {"os.fork": os.fork, "fork in C": ctypes.PyDLL(None).fork}[sys.argv[2]]
child = fork()
if not child:
    print("child has its own:", get_provider("shop") is not inherited, flush=True)
    for number in range(3):
        cancel("child", f"refused-{number}")
    reply = inherited.cancel("refused-4", lease=lambda seconds_left: True)
    print("child by the inherited one", reply.outcome, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print("parent keeps its own:", get_provider("shop") is inherited, flush=True)
cancel("parent", "2")
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["os.fork", "fork in C"])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="only if processes can fork")
def test_forked_child_creates_its_own_providers(how):
    def behave(peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            is_refused = "refused" in request.path
            peer.send(answer(b'{"message": "no"}', "422 No") if is_refused else answer())

    with FaultServer(behave) as server:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", CHILD, server.url, how],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )

    assert done.stdout.splitlines() == [
        "parent 1 canceled",
        "child has its own: True",
        "child refused-0 refused",
        "child refused-1 refused",
        "child refused-2 refused",
        "child by the inherited one refused",
        "parent keeps its own: True",
        "parent 2 canceled",
    ]
    assert server.executed == 6
    assert server.connections == 3  # the parent's, the child's, and that of the inherited instance
    assert [request.connection for request in server.requests] == [1, 2, 2, 2, 3, 1]
