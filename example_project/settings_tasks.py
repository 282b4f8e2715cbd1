"""The example with database workers: Django's task framework and ``django-tasks-db``. ``make serve-tasks``.

It needs no broker. The app's own task works with ``django.tasks`` on Django 6 and with the package ``django-tasks``
on 5.2.
"""

from settings import *  # noqa: F403
from settings import INSTALLED_APPS as PLAIN_APPS
from settings import INVOICE_CANCEL as PLAIN

INSTALLED_APPS = [*PLAIN_APPS, "django_tasks_db"]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}

INVOICE_CANCEL = {**PLAIN, "DISPATCH": "django_invoice_cancel.tasks.dispatch", "DISPATCH_WORKERS": 4}
