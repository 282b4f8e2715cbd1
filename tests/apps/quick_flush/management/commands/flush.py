"""Empty the tables after a transactional test without recreating content types and permissions.

Django's own ``flush`` truncates every table and then emits ``post_migrate``, which takes longer than most tests. This
command deletes the rows of non-empty tables, and keeps the rows that ``migrate`` created.
"""

from typing import Any

from django.core.management.commands import flush
from django.db import connections, transaction

MADE_BY_MIGRATE = {"django_content_type", "auth_permission"}


class Command(flush.Command):
    def handle(self, **options: Any) -> None:
        if options["interactive"] or options["reset_sequences"]:
            super().handle(**options)
            return
        connection = connections[options["database"]]
        tables = set(connection.introspection.django_table_names(only_existing=True)) - MADE_BY_MIGRATE
        with connection.cursor() as cursor:
            filled = [table for table in sorted(tables) if has_rows(cursor, connection.ops.quote_name(table))]
        emptied = transaction.atomic(using=connection.alias)
        with connection.constraint_checks_disabled(), emptied, connection.cursor() as cursor:
            for table in filled:
                cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")  # noqa: S608 # names of our models


def has_rows(cursor: Any, table: str) -> bool:
    cursor.execute(f"SELECT 1 FROM {table} LIMIT 1")  # noqa: S608 # names of our models
    return cursor.fetchone() is not None
