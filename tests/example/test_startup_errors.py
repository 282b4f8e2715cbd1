"""Problems that stop the example: each one is reported with a remedy, without a traceback or a leftover process."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import EXAMPLE, read_addresses, start

ROOT = EXAMPLE.parent
FREE = {"--port": "0", "--sandbox-port": "0"}


def end_of(script, *arguments, var, **env):
    """Run a script of the example until it and all that it started have ended; return its exit code and stderr."""
    ended = start(script, *arguments, var=var, env=env, stderr=subprocess.PIPE)
    _output, errors = ended.communicate(timeout=60)
    return ended.returncode, errors


@pytest.mark.slow
@pytest.mark.parametrize("option", FREE)
def test_port_in_use_is_reported(tmp_path, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = [each for pair in (FREE | {option: port}).items() for each in pair]
        ended = end_of("serve.py", *arguments, var=tmp_path)
    assert ended == (
        1,
        f'Port {port} of 127.0.0.1 is in use. Choose another port, or a free one with ARGS="{option} 0".\n',
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("option", FREE)
@pytest.mark.parametrize("text", ["-1", "65536", "http", "8000.0", ""])
def test_invalid_port_is_a_usage_error(tmp_path, option, text):
    code, errors = end_of("serve.py", f"{option}={text}", var=tmp_path)
    assert code == 2
    assert (
        errors.splitlines()[-1].partition(": error: ")[2]
        == f"argument {option}: {text!r} is not a valid port. Use a number from 0 to 65535."
    )


@pytest.mark.slow
def test_sandbox_command_reports_a_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "django_invoice_cancel.testing.sandbox", "--port", port]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == (
        f"Cannot listen on port {port} of 127.0.0.1 (Address already in use). Choose another port with --port.\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:1/0", "http://127.0.0.1:1", "redis://nowhere.invalid/0", "unix:///nowhere", "127.0.0.1"]
)
def test_missing_redis_is_reported(tmp_path, url):
    if not (importlib.util.find_spec("redis") and importlib.util.find_spec("celery")):
        pytest.skip("only with the dependency group celery")
    arguments = ("--workers", "celery", "--port", "0", "--sandbox-port", "0")
    code, errors = end_of("serve.py", *arguments, var=tmp_path, EXAMPLE_REDIS_URL=url)
    assert code == 1
    assert errors.count("\n") == 1
    assert errors.startswith("Celery requires Redis (")
    assert errors.endswith("). Start it, or set EXAMPLE_REDIS_URL to another one.\n")


DATABASES = {
    "server that does not answer": ("mysql://root@127.0.0.1:1/example", "127.0.0.1"),
    "server that does not answer, PostgreSQL": ("postgres://postgres@127.0.0.1:1/example", "connection"),
    "unknown kind": ("oracle://127.0.0.1/example", "must begin with postgres:// or mysql://"),
    "no address": ("example", "must begin with postgres:// or mysql://"),
    "name of another database": ("postgres://127.0.0.1/shop", "must begin with 'example'"),
}


@pytest.mark.slow
@pytest.mark.parametrize("script", ["serve.py", "demo.py"])
@pytest.mark.parametrize(("url", "why"), DATABASES.values(), ids=DATABASES)
def test_unusable_database_is_reported(tmp_path, script, url, why):
    if not importlib.util.find_spec("MySQLdb" if url.startswith("mysql") else "psycopg"):
        pytest.skip("only with the drivers")
    arguments = [each for pair in FREE.items() for each in pair] if script == "serve.py" else []
    code, errors = end_of(script, *arguments, var=tmp_path, EXAMPLE_DATABASE_URL=url)
    assert code == 1
    assert errors.count("\n") == 1
    assert errors.startswith("The example's database cannot be used: ")
    assert why in errors


@pytest.mark.slow
@pytest.mark.parametrize("script", ["serve.py", "demo.py"])
def test_unwritable_folder_is_reported(script):
    arguments = [each for pair in FREE.items() for each in pair] if script == "serve.py" else []
    code, errors = end_of(script, *arguments, var=Path("/dev/null/var"))
    assert code == 1
    assert errors.count("\n") == 1
    assert errors.endswith(" cannot be written (Not a directory). Set EXAMPLE_VAR to another folder.\n")


@pytest.mark.slow
def test_closed_terminal_ends_the_shop_and_the_sandbox(tmp_path):
    arguments = [each for pair in FREE.items() for each in pair]
    serving = start("serve.py", *arguments, var=tmp_path, stderr=subprocess.PIPE)
    read_addresses(serving)
    serving.send_signal(signal.SIGHUP)
    serving.communicate(timeout=20)
    assert serving.returncode == 128 + signal.SIGHUP


# -- other Pythons ------------------------------------------------------------------------------------------------


def old_pythons():
    """Yield Pythons that are too old and that start: of pyenv and on PATH."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for version in ("2.7", "3.6", "3.7", "3.8", "3.9", "3.10"):
        found = shutil.which(f"python{version}")
        candidates = [*sorted(pyenv.glob(f"versions/{version}.*/bin/python")), *([Path(found)] if found else [])]
        for python in candidates:
            if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
                yield pytest.param(python, version, id=version)
                break


OLD = list(old_pythons()) or [pytest.param(None, "", marks=pytest.mark.skip("only where an old Python is installed"))]


@pytest.mark.parametrize("script", ["serve.py", "demo.py"])
@pytest.mark.parametrize(("python", "version"), OLD)
def test_old_python_is_reported(python, version, script):
    ended = subprocess.run([python, EXAMPLE / script], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert ended.stdout == ""
    needed = f"Python 3.11 or newer is required, but this is {version}. "
    assert ended.stderr == f"{needed}`make serve` and `make demo` find a newer one and use it.\n"


@pytest.mark.parametrize(("python", "version"), OLD)
def test_old_python_without_a_newer_one_cannot_set_up(python, version, tmp_path):
    command = [python, ROOT / "tools" / "bootstrap.py", "--venv", str(tmp_path / "venv")]
    env = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith(
        f"bootstrap: Python 3.11 or newer is required, but this is {version}. Install python3.11"
    )
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(("python", "version"), OLD)
def test_old_python_starts_a_newer_one(python, version, tmp_path):
    newer = tmp_path / "python3.13"
    newer.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    newer.chmod(0o755)
    script = str(ROOT / "tools" / "bootstrap.py")
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    ended = subprocess.run(
        [python, script, "--groups", "test"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 0
    assert f"python is {version}, which is too old; using {newer}" in ended.stderr
    assert (tmp_path / "calls").read_text().splitlines()[-1] == f"{script} --groups test"


def test_groups_are_read_with_those_they_include():
    bootstrap = load("bootstrap", ROOT / "tools" / "bootstrap.py")
    pinned = bootstrap.requirements_of(["test", "lint"])
    assert bootstrap.requirements_of(["dev"])[: len(pinned)] == pinned
    assert any(requirement.startswith("pytest-django") for requirement in pinned)


def test_unknown_group_is_reported(tmp_path):
    command = [sys.executable, ROOT / "tools" / "bootstrap.py", "--venv", str(tmp_path / "venv"), "--groups", "tset"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith(
        "bootstrap: There is no dependency group 'tset'. The groups are browser, celery, dev, docs, "
    )
    assert not (tmp_path / "venv").exists()


def test_python_without_django_is_reported():
    """It is the machine's own Python, not that of the virtual environment."""
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    command = [base, "-E", "-s", EXAMPLE / "demo.py"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert ended.stderr == f"No module named 'django' ({base}). `make serve` and `make demo` install it.\n"


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
def test_python_starts_in_a_path_with_non_ascii_letters(tmp_path, locale):
    place = tmp_path / "проект ü"
    package = place / "src" / "found_there"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    venv = place / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, timeout=60)
    (packages,) = venv.glob("lib/*/site-packages")
    (packages / "_editable_impl_found_there.pth").write_text(str(package.parent), encoding="utf-8")
    (packages / "plain.pth").write_text("import sys; sys.plain = 'a\\n\"b\"'\n")
    (packages / "_editable_impl_plain.pth").write_text("/nowhere\n")

    load("bootstrap", ROOT / "tools" / "bootstrap.py").write_paths_in_ascii(str(venv))

    code = "import sys, found_there; assert sys.plain == 'a\\n\"b\"'; print(ascii(found_there.__file__))"
    env = {"LC_ALL": locale, "PATH": os.environ["PATH"]}
    ended = subprocess.run(
        [venv / "bin" / "python", "-c", code], env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 0
    assert ended.stderr == ""
    assert ended.stdout.strip() == ascii(str(package / "__init__.py"))


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- make clean ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_clean_removes_only_generated_files(tmp_path):
    kept = ["Makefile", "example_project/serve.py", "docs/page.md"]
    left = [
        "example_project/var/example.sqlite3",
        "example_project/var/celerybeat.dat",
        "example_project/__pycache__/serve.pyc",
        ".venv/bin/python",
        ".venv-5.2/bin/python",
        ".hypothesis/examples/x",
        ".pytest_cache/x",
        ".cache/x",
        ".coverage.1",
        "dist/x.whl",
    ]
    for name in (*kept, *left):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    shutil.copy(ROOT / "Makefile", tmp_path)
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True, timeout=30)  # noqa: S607
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
