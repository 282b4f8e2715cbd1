"""Runs in a child process: a management command against a sandbox. Arguments: its address, then those of the command.

``INVOICE_CANCEL_TEST_SETTINGS`` (JSON) is merged into INVOICE_CANCEL, ``INVOICE_CANCEL_TEST_OPTIONS`` into the OPTIONS.
"""

import json
import os
import sys

from tests import settings as test_settings


def main(base_url: str, *arguments: str) -> None:
    from django_invoice_cancel.testing.sandbox.config import SandboxConfig, provider_settings

    test_settings.INVOICE_CANCEL.update(json.loads(os.environ.get("INVOICE_CANCEL_TEST_SETTINGS", "{}")))
    options = json.loads(os.environ.get("INVOICE_CANCEL_TEST_OPTIONS", "{}"))
    test_settings.SILENCED_SYSTEM_CHECKS = ["invoice_cancel.W006"]  # the sandbox is an address of this machine
    test_settings.INVOICE_CANCEL["PROVIDERS"] = provider_settings(SandboxConfig(), base_url, **options)
    from django.core.management import execute_from_command_line

    execute_from_command_line(["manage.py", *arguments])


if __name__ == "__main__":
    main(*sys.argv[1:])
