"""Servers that belong to a test, on free ports, in a folder that is deleted. A test may kill them at any time.

They do not affect the machine's own servers, and are stopped at the end of their ``with`` block.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Redis:
    """A Redis server without persistence: queued messages are lost when it ends."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._child: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        if shutil.which("redis-server") is None:
            pytest.skip("needs redis-server")
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    def start(self) -> None:
        where = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", tempfile.gettempdir()]
        command = ["redis-server", *where, "--save", "", "--appendonly", "no", "--loglevel", "notice"]
        self._child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._child.stdout
        for line in self._child.stdout:  # the output ends if the server cannot start
            if "Ready to accept connections" in line:
                return
        raise RuntimeError(f"Redis ended with {self._child.wait()} before it listened on port {self.port}.")

    def kill(self) -> None:
        """Kill the server, as in a crash."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            if child.stdout:
                child.stdout.close()


class Postgres:
    """A PostgreSQL cluster. If this process runs as root, it runs as the user ``postgres``, because it refuses root."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"postgres://postgres@127.0.0.1:{self.port}"
        self._home = Path(tempfile.mkdtemp(prefix="faults-postgres-"))
        self._user: dict[str, Any] = {"user": "postgres"} if os.getuid() == 0 else {}

    def __enter__(self) -> Self:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not found:
            pytest.skip("needs the server's programs of PostgreSQL")
        self._bin = found[-1]
        if self._user:
            shutil.chown(self._home, "postgres")
        data = str(self._home / "data")
        self._run("initdb", "--pgdata", data, "--username", "postgres", "--auth", "trust", "--no-sync")
        self._control = ["pg_ctl", "--pgdata", data, "--log", str(self._home / "log"), "--wait", "--timeout", "60"]
        self._options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self._home} -c fsync=off -c max_connections=100"
        )
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop("immediate")
        shutil.rmtree(self._home)

    def start(self) -> None:
        self._run(*self._control, "--options", self._options, "start")

    def stop(self, mode: str) -> None:
        """``fast`` ends every connection, ``immediate`` is a crash."""
        self._run(*self._control, "--mode", mode, "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._bin / program), *arguments]
        done = subprocess.run(command, cwd=self._home, stdout=subprocess.DEVNULL, check=False, timeout=90, **self._user)
        assert done.returncode == 0, command


def end(child: "subprocess.Popen[Any]", how: int = signal.SIGTERM) -> None:
    """End a child process. It is killed after a minute, which is longer than a worker needs for its slice."""
    child.send_signal(how)
    try:
        child.wait(60)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
