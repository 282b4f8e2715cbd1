"""Fixtures of the command tests: invoices and accounts as in the bulk tests, a call that returns code and output."""

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.integration.bulk.conftest import at_sandbox, clock, make, running_process, sandbox, scripted, shop

__all__ = ["at_sandbox", "clock", "make", "running_process", "sandbox", "scripted", "shop"]


@dataclass
class Ended:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


class Unread(io.StringIO):
    """A stream whose reader has exited."""

    pipe: int

    def write(self, text: str) -> int:
        raise BrokenPipeError

    def fileno(self) -> int:
        return self.pipe


@pytest.fixture
def unread() -> Iterator[Unread]:
    stream = Unread()
    ours, stream.pipe = os.pipe()
    os.close(ours)
    yield stream
    os.close(stream.pipe)


@pytest.fixture
def manage() -> Callable[..., Ended]:
    """Return a function that calls a command as a shell would, and returns its exit code and output."""

    def manage(*arguments: str, **options: Any) -> Ended:
        out, err = io.StringIO(), io.StringIO()
        code = 0
        try:
            call_command(*arguments, **{"stdout": out, "stderr": err, **options})
        except CommandError as error:
            code = error.returncode
            err.write(str(error))
        return Ended(code, out.getvalue(), err.getvalue())

    return manage
