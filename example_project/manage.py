"""Django's commands for the example: ``python example_project/manage.py reconcile_invoices``.

It uses the database and the sandbox of ``make serve``.
"""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
    execute_from_command_line(sys.argv)
