"""An assumption of the other tests: a child process of a test uses the databases of that test."""

import subprocess
import sys

import pytest
from django.contrib.auth.models import Group
from django.db import connections

CHILD = """
import django
django.setup()
from django.contrib.auth.models import Group
print(Group.objects.using({alias!r}).get().name, end="")
"""


@pytest.mark.parametrize("alias", ["default", "other"])
@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_child_process_reads_what_the_test_committed(alias, child_env):
    Group.objects.using(alias).create(name=f"written to {alias}")
    seen = subprocess.check_output([sys.executable, "-c", CHILD.format(alias=alias)], env=child_env(), text=True)
    assert seen == f"written to {alias}"


@pytest.mark.django_db(databases=["default", "other"])
def test_aliases_are_two_databases():
    assert connections["default"].settings_dict["NAME"] != connections["other"].settings_dict["NAME"]
