"""The recipes on the workers' page match those of the example, which runs them."""

import re
import runpy
import sys

import pytest

from .pages import ROOT, text_of

PAGE = "docs/howto/workers.md"
EXAMPLE = ROOT / "example_project"
SETTINGS = re.compile(r"```text\n([A-Z_]+ = .*?)```", re.DOTALL)


def settings_of_page(number):
    """Return the settings of a recipe; an ellipsis stands for existing entries of the project."""
    block = [each for each in SETTINGS.findall(text_of(PAGE)) if "INVOICE_CANCEL =" in each][number]
    namespace = {}
    exec(block.replace("{..., ", "{"), namespace)  # noqa: S102 - our own page
    return {name: value for name, value in namespace.items() if name.isupper()}


@pytest.fixture
def settings_of_example(monkeypatch):
    """Return a function that runs a settings module of the example."""

    def run(name):
        monkeypatch.syspath_prepend(EXAMPLE)
        for module in ("settings", "databases"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        try:
            return runpy.run_path(str(EXAMPLE / f"{name}.py"))
        finally:
            for module in ("settings", "databases"):
                sys.modules.pop(module, None)

    return run


@pytest.mark.parametrize(("number", "module"), [(0, "settings_celery"), (1, "settings_tasks")])
def test_recipe_has_the_settings_of_the_example(settings_of_example, number, module):
    plain, example, page = settings_of_example("settings"), settings_of_example(module), settings_of_page(number)
    added = {name: value for name, value in example["INVOICE_CANCEL"].items() if name not in plain["INVOICE_CANCEL"]}
    assert page["INVOICE_CANCEL"] == added
    assert page.get("TASKS") == example.get("TASKS")
    apps = set(example["INSTALLED_APPS"]) - set(plain["INSTALLED_APPS"])
    assert set(page.get("INSTALLED_APPS", [])) - {..., "django_invoice_cancel"} == apps
