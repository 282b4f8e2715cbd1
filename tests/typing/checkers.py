"""The type checkers. Each checks files as a user's project would, and returns its report."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = """
plugins = mypy_django_plugin.main
[mypy.plugins.django-stubs]
django_settings_module = tests.settings
"""
RULES = {
    "arg-type": "reportArgumentType",
    "attr-defined": "reportAttributeAccessIssue",
    "call-arg": "reportCallIssue",
}
"""Names of pyright for codes of mypy."""


@dataclass(frozen=True)
class Report:
    """One message of a type checker; ``code`` is mypy's or pyright's name of the rule, empty for a revealed type."""

    file: str
    line: int
    code: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text} [{self.code}]"


@dataclass(frozen=True)
class Checker:
    """A type checker with its configuration; ``folder`` is for its cache."""

    name: str
    run: Callable[[Sequence[str], Path, bool], list[Report]]

    def check(self, files: Sequence[Path], folder: Path, *, is_strict: bool = True) -> list[Report]:
        """Return the report of the checker about the files. For pyright, each file sets whether it is strict."""
        reports = self.run([str(file) for file in files], folder, is_strict)
        names = {str(file): file.name for file in files}
        return [report for report in reports if Path(report.file).name in names.values()]

    def rule(self, code: str) -> str:
        """Return the checker's name of a rule of mypy."""
        return RULES[code] if self.name == "pyright" else code


def _mypy(plugin: str) -> Callable[[Sequence[str], Path, bool], list[Report]]:
    def run(files: Sequence[str], folder: Path, is_strict: bool) -> list[Report]:
        config = folder / "mypy.ini"
        untyped = "strict = true" if is_strict else "check_untyped_defs = true"
        config.write_text(f"[mypy]\n{untyped}\nfollow_imports = silent\n{plugin}")
        options = ["--config-file", str(config), "--cache-dir", str(folder), "--output", "json"]
        output = _output_of([sys.executable, "-m", "mypy", *options, *files], allowed=(0, 1))
        return list(_of_mypy(output))

    return run


def _of_mypy(output: str) -> Iterator[Report]:
    for line in output.splitlines():
        if not line.startswith("{"):  # "Success: ..."
            continue
        report: dict[str, Any] = json.loads(line)
        is_note = report["severity"] == "note"
        yield Report(report["file"], report["line"], "" if is_note else report["code"], report["message"])


def _pyright(files: Sequence[str], folder: Path, is_strict: bool) -> list[Report]:
    options = ["--pythonpath", sys.executable, "--outputjson"]
    output = _output_of([sys.executable, "-m", "pyright", *options, *files], allowed=(0, 1))
    return [
        Report(report["file"], report["range"]["start"]["line"] + 1, report.get("rule", ""), report["message"])
        for report in json.loads(output)["generalDiagnostics"]
    ]


def _output_of(command: list[str], *, allowed: Sequence[int]) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MYPYPATH": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in allowed, f"{command[2]} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


CHECKERS = [
    Checker("mypy with plugin", _mypy(PLUGIN)),
    Checker("mypy without plugin", _mypy("")),
    Checker("pyright", _pyright),
]
