"""Make a virtual environment that runs this project: ``python3 tools/bootstrap.py --extras test``.

Standard library only, and no syntax newer than Python 3.6's: an old Python must get far enough to say that it is
too old. Does nothing when nothing has changed since the last time. Uses pip as it is configured here, and upgrades
nothing that need not be.
"""

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
NEWER = ("python3.13", "python3.12", "python3.11", "python3.14")
"""Where to look when the Python that runs this is too old; the one not tested comes last."""
INPUTS = ("pyproject.toml", "constraints.txt", "django_invoice_cancel/__init__.py", "tools/bootstrap.py")


def main():
    options = parse(sys.argv[1:])
    if sys.version_info < OLDEST:
        return start_with_newer_python()
    venv = ROOT / options.venv
    stamp = venv / ".stamps" / stamp_name(options)
    mark = fingerprint(options)
    if stamp.is_file() and stamp.read_text() == mark and starts(python_of(venv)):
        return 0
    if not is_usable(venv):
        make_venv(venv)
    install(venv, options)
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(mark)
    return 0


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", default=".venv", help="where, from the project's root (default: %(default)s)")
    parser.add_argument("--extras", default="test", help="extras of pyproject.toml, with commas (default: %(default)s)")
    parser.add_argument("--django", default="", help="a Django other than the constraints', such as 6.0")
    return parser.parse_args(arguments)


def start_with_newer_python():
    """Run this file again with the first newer Python on PATH that really starts (a pyenv shim may not)."""
    for name in NEWER:
        path = shutil.which(name)
        if path and starts(path):
            say("python is %s, which is too old; using %s" % (found_version(), path))
            return subprocess.call([path, *sys.argv])
    return fail(
        "Python 3.11 or newer is needed; found %s: install python3.11 (Debian: apt-get install python3.11 "
        "python3.11-venv), or name one: make PYTHON=/path/to/python3.11" % found_version()
    )


def found_version():
    return "%d.%d" % sys.version_info[:2]


def starts(python):
    """Whether ``python`` is there, runs, and is new enough."""
    code = "import sys; sys.exit(sys.version_info < %r)" % (OLDEST,)
    try:
        return subprocess.call([str(python), "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def python_of(venv):
    return venv / "bin" / "python"


def is_usable(venv):
    """Whether ``venv`` starts, has pip, and is of this very Python and place (a moved one has wrong paths in it)."""
    code = "import sys, pip; sys.exit([sys.version_info[:2], sys.prefix] != [%r, %r])"
    command = [str(python_of(venv)), "-c", code % (sys.version_info[:2], str(venv))]
    try:
        return subprocess.call(command, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def make_venv(venv):
    if not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        fail(
            "This Python (%s) cannot make virtual environments: venv or ensurepip is missing. "
            "Debian and Ubuntu: apt-get install python3-venv (or python%s-venv)" % (sys.executable, found_version())
        )
    say("making %s with Python %s" % (venv.name, found_version()))
    run([sys.executable, "-m", "venv", "--clear", str(venv)], "The virtual environment could not be made.")


def install(venv, options):
    target = "%s[%s]" % (ROOT, options.extras)
    say("installing the project with [%s]%s" % (options.extras, options.django and ", Django " + options.django))
    # -qq: errors, and no page of warnings about an index that is configured and not there
    command = [str(python_of(venv)), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    command += ["--constraint", str(constraints(venv, options.django)), "--editable", target]
    run(command, "pip could not install it. It was used as it is configured here: is its package index reachable?")


def constraints(venv, django):
    """Return the constraints file; for another Django than its own, a copy that pins that one instead."""
    pinned = ROOT / "constraints.txt"
    if not django:
        return pinned
    others = [line for line in pinned.read_text().splitlines() if not line.lower().startswith("django==")]
    copy = venv / "constraints.txt"
    copy.write_text("\n".join([*others, "django==%s.*" % django]) + "\n")
    return copy


def fingerprint(options):
    digest = hashlib.sha256(repr((sorted(vars(options).items()), sys.version_info[:3], str(ROOT))).encode())
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def stamp_name(options):
    return options.extras.replace(",", "-")


def run(command, complaint):
    if subprocess.call(command) != 0:
        fail(complaint)


def say(text):
    print("bootstrap: " + text, file=sys.stderr)
    sys.stderr.flush()


def fail(text):
    say(text)
    sys.exit(1)


if __name__ == "__main__":
    os.chdir(str(ROOT))
    sys.exit(main())
