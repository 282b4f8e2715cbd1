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
for alias in ("default", "other"):
    print(Group.objects.using(alias).get().name)
"""


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_child_process_reads_the_committed_rows_of_the_test(child_env):
    for alias in ("default", "other"):
        Group.objects.using(alias).create(name=f"written to {alias}")
    names = subprocess.check_output([sys.executable, "-c", CHILD], env=child_env(), text=True)
    assert names.splitlines() == ["written to default", "written to other"]


@pytest.mark.django_db(databases=["default", "other"])
def test_aliases_are_two_databases():
    assert connections["default"].settings_dict["NAME"] != connections["other"].settings_dict["NAME"]
