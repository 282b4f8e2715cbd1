"""Make a virtual environment that runs this project: ``python3 tools/bootstrap.py --groups test``.

It uses the standard library only. The syntax and the imports at the top work on Python 2.7, so that an old Python can
start a newer one, or report that it is too old. If nothing has changed since the last run, nothing is done. pip is used
with its configuration on this machine. Installed packages are upgraded only if necessary.
"""

import argparse
import hashlib
import io
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLDEST = (3, 11)
NEWER = ("python3.13", "python3.12", "python3.11", "python3.14")
"""Programs to try if the current Python is too old. The version without tests is the last one."""
INPUTS = ("pyproject.toml", "constraints.txt", "django_invoice_cancel/__init__.py", "tools/bootstrap.py")


def main():
    options = parse(sys.argv[1:])
    if sys.version_info < OLDEST:
        return start_with_newer_python()
    check_path()
    requirements = requirements_of(options.groups.split(","))
    venv = os.path.join(ROOT, options.venv)
    stamp = os.path.join(venv, ".stamps", stamp_name(options))
    mark = fingerprint(options)
    if read(stamp) == mark and starts(python_of(venv)):
        return 0
    if not is_usable(venv):
        make_venv(venv)
    install(venv, options, requirements)
    write(stamp, mark)
    return 0


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", default=".venv", help="path, relative to the project's root (default: %(default)s)")
    parser.add_argument("--groups", default="test", help="comma-separated dependency groups (default: %(default)s)")
    parser.add_argument("--django", default="", help="another Django version than in the constraints, such as 6.0")
    return parser.parse_args(arguments)


def start_with_newer_python():
    """Restart this file with the first newer Python on PATH that works. A pyenv shim may not work."""
    for name in NEWER:
        path = find_on_path(name)
        if path and starts(path):
            say("python is %s, which is too old; using %s" % (found_version(), path))
            return subprocess.call([path] + sys.argv)
    return fail(
        "Python 3.11 or newer is required, but this is %s. Install python3.11 (Debian: apt-get install python3.11 "
        "python3.11-venv), or run make PYTHON=/path/to/python3.11" % found_version()
    )


def check_path():
    """Exit if Python cannot represent the project's path, for example in the C locale without UTF-8 mode."""
    try:
        ROOT.encode("utf-8")
    except UnicodeEncodeError:
        fail("The path of this project has letters that this locale cannot represent. Set LC_ALL=C.UTF-8.")


def find_on_path(name):
    """Return the first file with this name on PATH, or None. Python 2.7 has no ``shutil.which``."""
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def found_version():
    return "%d.%d" % sys.version_info[:2]


def starts(python):
    """Return True if ``python`` exists, runs, and is new enough."""
    code = "import sys; sys.exit(sys.version_info < %r)" % (OLDEST,)
    return is_quietly_done([python, "-c", code])


def python_of(venv):
    return os.path.join(venv, "bin", "python")


def is_usable(venv):
    """Return True if ``venv`` works, has pip, and belongs to this Python and path (a moved one has wrong paths)."""
    code = "import sys, pip; sys.exit([sys.version_info[:2], sys.prefix] != [%r, %r])"
    return is_quietly_done([python_of(venv), "-c", code % (sys.version_info[:2], venv)])


def is_quietly_done(command):
    """Return True if a command runs successfully. Its output is discarded."""
    with open(os.devnull, "wb") as nothing:
        try:
            return subprocess.call(command, stdout=nothing, stderr=nothing) == 0
        except OSError:
            return False


def make_venv(venv):
    from importlib.util import find_spec

    if not all(find_spec(name) for name in ("venv", "ensurepip")):
        fail(
            "This Python (%s) cannot make virtual environments: venv or ensurepip is missing. "
            "Debian and Ubuntu: apt-get install python3-venv (or python%s-venv)" % (sys.executable, found_version())
        )
    say("creating %s with Python %s" % (os.path.basename(venv), found_version()))
    run([sys.executable, "-m", "venv", "--clear", venv], "The virtual environment could not be made.")


def install(venv, options, requirements):
    say("installing the project with %s%s" % (options.groups, options.django and ", Django " + options.django))
    # -qq: only errors, without pages of warnings about a configured index that does not exist
    command = [python_of(venv), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    command += ["--constraint", constraints(venv, options.django), "--editable", ROOT]
    command += requirements
    run(command, "pip could not install it. It was used as it is configured here: is its package index reachable?")
    write_paths_in_ascii(venv)


def requirements_of(groups):
    """Return the requirements of dependency groups of ``pyproject.toml``, because pip before 25.1 cannot read them."""
    import tomllib

    declared = tomllib.loads(read(os.path.join(ROOT, "pyproject.toml")))["dependency-groups"]
    found = []
    for group in groups:
        if group not in declared:
            fail("There is no dependency group %r. The groups are %s." % (group, ", ".join(sorted(declared))))
        for item in declared[group]:
            found += requirements_of([item["include-group"]]) if isinstance(item, dict) else [item]
    return found


def write_paths_in_ascii(venv):
    """Escape non-ASCII letters of paths in ``.pth`` files. With ``LC_ALL=C`` Python 3.11 does not start otherwise."""
    from glob import escape, glob

    for name in glob(os.path.join(escape(venv), "lib", "*", "site-packages", "*.pth")):
        lines = read(name).splitlines()
        if not all(line.isascii() for line in lines):
            plain = (line if line.isascii() else "import sys; sys.path.append(%a)" % line for line in lines)
            write(name, "".join(line + "\n" for line in plain))


def constraints(venv, django):
    """Return the constraints file; for another Django version, a copy with that version."""
    pinned = os.path.join(ROOT, "constraints.txt")
    if not django:
        return pinned
    others = [line for line in read(pinned).splitlines() if not line.lower().startswith("django==")]
    copy = os.path.join(venv, "constraints.txt")
    write(copy, "\n".join(others + ["django==%s.*" % django]) + "\n")
    return copy


def fingerprint(options):
    digest = hashlib.sha256(repr((sorted(vars(options).items()), sys.version_info[:3], ROOT)).encode())
    for name in INPUTS:
        digest.update(read(os.path.join(ROOT, name)).encode("utf-8"))
    return digest.hexdigest()


def read(name):
    """Return the text of a file, or an empty string if the file does not exist."""
    try:
        with io.open(name, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def write(name, text):
    """Write a text to a file, and create its folder."""
    if not os.path.isdir(os.path.dirname(name)):
        os.makedirs(os.path.dirname(name))
    with io.open(name, "w", encoding="utf-8") as file:
        file.write(text)


def stamp_name(options):
    return options.groups.replace(",", "-")


def run(command, complaint):
    if subprocess.call(command) != 0:
        fail(complaint)


def say(text):
    sys.stderr.write("bootstrap: " + text + "\n")
    sys.stderr.flush()


def fail(text):
    say(text)
    sys.exit(1)


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
