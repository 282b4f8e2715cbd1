"""The package ``testing`` as a whole: its public names, and the dependencies of each part."""

import subprocess
import sys

import pytest

from django_invoice_cancel import testing


@pytest.mark.parametrize("name", testing.__all__)
def test_public_name_can_be_imported(name):
    assert getattr(testing, name).__name__ == name


def test_unknown_name_raises_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Scripted'"):
        testing.Scripted  # noqa: B018


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("from django_invoice_cancel.testing import ProviderSandbox", ["django", "pytest", "requests"]),
        ("from django_invoice_cancel.testing import ScriptedProvider", ["pytest", "requests"]),
        ("from django_invoice_cancel.testing import ProviderConformance", ["django.db"]),
    ],
    ids=["sandbox", "scripted", "conformance"],
)
def test_import_loads_only_required_packages(statement, absent):
    code = f"{statement}\nimport sys\nprint(*sorted(set({absent!r}) & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == []
