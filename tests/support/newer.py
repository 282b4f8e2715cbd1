"""Rows of a newer version of this app, as they remain after a rollback of the code."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection
from django.db.models import QuerySet

from django_invoice_cancel.domain.statuses import Status
from django_invoice_cancel.models import Invoice

NEWER = "refunded"
"""A status that this version does not know."""

_SESSION = {
    "sqlite": ("PRAGMA ignore_check_constraints = ON", "PRAGMA ignore_check_constraints = OFF"),
    "mysql": ("SET SESSION check_constraint_checks = OFF", "SET SESSION check_constraint_checks = ON"),
}


@contextmanager
def newer_schema() -> Iterator[None]:
    """Let the database accept any status within the block, as the migrations of a newer version would."""
    constraint = next(each for each in Invoice._meta.constraints if each.name == "invoice_cancel_status")
    statements = _SESSION.get(connection.vendor)
    if statements is None:
        with connection.schema_editor() as editor:
            editor.remove_constraint(Invoice, constraint)
    else:
        _execute(statements[0])
    try:
        yield
    finally:
        QuerySet(Invoice).exclude(status__in=list(Status)).update(status=Status.CREATED)
        if statements is None:
            with connection.schema_editor() as editor:
                editor.add_constraint(Invoice, constraint)
        else:
            _execute(statements[1])


def set_newer_status(invoice: Invoice, status: str = NEWER) -> None:
    """Give the row a status of a newer version; the instance in memory is left as it is."""
    QuerySet(Invoice).filter(pk=invoice.pk).update(status=status)


def _execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
