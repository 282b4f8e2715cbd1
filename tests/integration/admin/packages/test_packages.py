"""An admin that combines ``InvoiceAdmin`` with the admin class of another package shows the pages of both."""

import json
import subprocess
import sys

import pytest

from tests.integration.admin.packages.site import PACKAGES


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_pages_of_both_admins_are_shown(package):
    command = [sys.executable, "-m", "tests.integration.admin.packages.site", package]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert len(found) == 6
    for page, (status, missing) in found.items():
        assert status == 200, page
        assert missing == [], page
