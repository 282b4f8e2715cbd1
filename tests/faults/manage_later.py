"""Run ``manage.py`` with a later clock: ``python manage_later.py 7200 reconcile_invoices``. No other clock is moved.

The monotonic clock is not moved, so waiting times do not change.
"""

import sys
import time

import time_machine
from django.core.management import execute_from_command_line

if __name__ == "__main__":
    with time_machine.travel(time.time() + float(sys.argv[1]), tick=True):
        execute_from_command_line(["manage.py", *sys.argv[2:]])
