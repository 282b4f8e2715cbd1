"""Update the translations of the package and of the example's shop (``messages.py renew``), or check them (``check``).

It needs Django and the gettext programs (Debian: ``gettext``). ``check`` works on a copy and changes no files.
Catalogues contain neither line numbers of the source nor the time of a run, so they change only if a text changes.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from gettext import GNUTranslations
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APPS = ("django_invoice_cancel", "example_project/shop")
COLLECT = ("-m", "django", "makemessages", "--all", "--no-location", "--no-wrap")
LACKING = {"untranslated": ("--untranslated",), "fuzzy": ("--only-fuzzy",)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("renew", "check"))
    return renew() if parser.parse_args().what == "renew" else check()


def renew() -> int:
    """Collect the texts, remove unused ones, compile, and list the missing translations."""
    for app in APPS:
        collect(ROOT / app, "--no-obsolete")
        for catalogue in catalogues(ROOT / app):
            compile_to(catalogue, catalogue.with_suffix(".mo"))
    return max(report(ROOT / app) for app in APPS)


def check() -> int:
    """Fail if a text has no translation or a fuzzy one, or if a ``.mo`` does not match its ``.po``."""
    return max(check_app(app) for app in APPS)


def check_app(app: str) -> int:
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place, app)
        shutil.copytree(ROOT / app, copy, ignore=shutil.ignore_patterns("__pycache__"))
        stale = [name for name in catalogues(copy) if is_stale(name)]
        collect(copy)
        for name in stale:
            say(f"{name.relative_to(place)}: the .mo is missing or out of date. Run `make messages`.")
        return report(copy) or bool(stale)


def collect(package: Path, *options: str) -> None:
    subprocess.run([sys.executable, *COLLECT, *options], cwd=package, check=True, stdout=subprocess.DEVNULL)
    for catalogue in catalogues(package):
        lines = catalogue.read_text(encoding="utf-8").splitlines(keepends=True)
        catalogue.write_text("".join(line for line in lines if "-Creation-Date:" not in line), encoding="utf-8")


def report(package: Path) -> int:
    """Print each entry without a translation. Return 1 if one was found."""
    found = 0
    for catalogue in catalogues(package):
        for word, options in LACKING.items():
            entries = run("msgattrib", "--no-obsolete", "--no-wrap", *options, str(catalogue))
            if entries:
                _header, _blank, lacking = entries.partition("\n\n")
                say(f"--- {word} in {catalogue.relative_to(package.parent)}\n{lacking}")
                found = 1
    return found


def is_stale(catalogue: Path) -> bool:
    compiled, made = catalogue.with_suffix(".mo"), catalogue.with_suffix(".made")
    if not compiled.is_file():
        return True
    compile_to(catalogue, made)
    return content(compiled) != content(made)


def compile_to(catalogue: Path, compiled: Path) -> None:
    run("msgfmt", "--check-format", "--output-file", str(compiled), str(catalogue))


def content(compiled: Path) -> dict[object, str]:
    with compiled.open("rb") as file:
        return GNUTranslations(file)._catalog  # type: ignore[attr-defined]


def catalogues(package: Path) -> list[Path]:
    return sorted(package.glob("locale/*/LC_MESSAGES/*.po"))


def run(*command: str) -> str:
    if shutil.which(command[0]) is None:
        sys.exit(f"{command[0]} is missing. Install gettext (Debian: apt-get install gettext).")
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8").stdout.strip()


def say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
