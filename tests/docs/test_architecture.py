"""docs/discussions/architecture.md matches the package: its layers, folders, files and names exist."""

import inspect
import re
import tomllib
from importlib import import_module

import pytest

from .pages import ROOT, text_of

PAGE = "docs/discussions/architecture.md"
PACKAGE = ROOT / "django_invoice_cancel"
_DIAGRAM = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"`([\w/]+(?:\.py|\.html|/))`")
_CALL = re.compile(r"(\w+)\(\) +([\w/]+\.py)")
_ROW = re.compile(r"^\| ([^|]+\?) \| `([\w/]+\.py)` \| `([\w.]+)` \|$", re.MULTILINE)

TEXT = text_of(PAGE)
LAYERS, *ROUTES = _DIAGRAM.findall(TEXT)
CALLS = [call for route in ROUTES for call in _CALL.findall(route)]


def module_at(path):
    return import_module(
        f"django_invoice_cancel.{path.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}"
    )


def test_diagram_of_layers_is_that_of_the_contract():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(each for each in config["tool"]["importlinter"]["contracts"] if len(each["layers"]) > 8)
    layers = [set(re.findall(r"\w+", layer)) for layer in contract["layers"]]
    drawn = [set(re.findall(r"\w+", line[16:])) for line in LAYERS.split("\n\n")[0].splitlines()]
    assert drawn == [layer for layer in layers if layer not in ({"testing"}, {"migrations"})]


def test_every_folder_and_module_of_the_package_is_described():
    folders = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py") if path.parent.name != "migrations"}
    modules = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py", "apps.py"}
    table = TEXT[TEXT.index("| folder or module |") : TEXT.index("Rules that hold")]
    described = set(_PATH.findall(table))
    assert folders | modules <= described


@pytest.mark.parametrize("folder", ["models/writes", "providers/transport"])
def test_every_module_of_a_folder_is_described(folder):
    table = TEXT[TEXT.index(f"| `{folder}/` | contents |") :].partition("\n\n")[0]
    assert sorted(_PATH.findall(table)[1:]) == sorted(
        f"{folder}/{path.name}" for path in (PACKAGE / folder).glob("*.py") if path.name != "__init__.py"
    )


def test_named_files_exist():
    named = _PATH.findall(TEXT)
    missing = [name for name in named if not (PACKAGE / name).exists() and not (ROOT / name).exists()]
    assert len(named) > 50
    assert missing == []


@pytest.mark.parametrize(("name", "path"), CALLS, ids=[f"{path}:{name}" for name, path in CALLS])
def test_route_names_functions_of_their_files(name, path):
    module = module_at(path)
    owners = [module, *(each for each in vars(module).values() if inspect.isclass(each))]
    defined = [vars(owner)[name] for owner in owners if name in vars(owner)]
    assert any(inspect.unwrap(each).__module__ == module.__name__ for each in defined if callable(each))


@pytest.mark.parametrize(("question", "path", "name"), _ROW.findall(TEXT))
def test_answer_names_a_part_of_its_file(question, path, name):
    module = module_at(path)
    value = module
    for part in name.split("."):
        value = getattr(value, part)
    assert getattr(value, "__module__", module.__name__) == module.__name__


def test_each_question_is_answered_once():
    questions = re.findall(r"^\| [^|]+\? \|", TEXT, re.MULTILINE)
    assert len(questions) == len(set(questions)) >= 20
