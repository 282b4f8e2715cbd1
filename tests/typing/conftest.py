"""Runs the type checkers one after the other. A checker that is not installed is skipped."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from .checkers import CHECKERS, Checker

HINT = "needs type checkers: install them by `python3 tools/bootstrap.py --groups dev`"


@pytest.fixture(scope="session")
def are_installed() -> None:
    if not all(find_spec(name) for name in ("mypy", "mypy_django_plugin", "pyright")):
        pytest.skip(HINT)
    # It also needs a Node.js, and downloads one if there is none.
    command = [sys.executable, "-m", "pyright", "--version"]
    if subprocess.run(command, capture_output=True, timeout=300, check=False).returncode:
        pytest.skip(f"{HINT}, and Node.js for pyright")


@pytest.fixture(scope="session", params=CHECKERS, ids=lambda checker: checker.name)
def checker(request: pytest.FixtureRequest, are_installed: None) -> Checker:
    found: Any = request.param
    assert isinstance(found, Checker)
    return found


@pytest.fixture(scope="session")
def cache(checker: Checker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")
