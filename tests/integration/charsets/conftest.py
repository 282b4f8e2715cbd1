"""Fixtures of the tests about character sets: tables and connections that cannot represent all characters."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, models

from django_invoice_cancel.models import BulkOperation, BulkOperationItem, InvoiceTransition


def convert(model: type[models.Model], charset: str) -> None:
    with connection.cursor() as cursor:
        for field in model._meta.concrete_fields:
            if type(field) in (models.CharField, models.TextField):
                column = f"{connection.ops.quote_name(field.column)} {field.db_type(connection)}"
                cursor.execute(f"ALTER TABLE {model._meta.db_table} MODIFY {column} CHARACTER SET {charset} NOT NULL")


@pytest.fixture
def tables_in(transactional_db: None) -> Iterator[Callable[[str], None]]:
    """Return a function that converts the texts of the log and of operations to a character set."""
    models_with_texts = (InvoiceTransition, BulkOperationItem, BulkOperation)  # a key before what it refers to

    def convert_all(charset: str) -> None:
        for model in models_with_texts:
            convert(model, charset)

    yield convert_all
    for model in models_with_texts:
        model._default_manager.all()._raw_delete(connection.alias)
    convert_all("utf8mb4")


@pytest.fixture
def connection_in(transactional_db: None, monkeypatch: Any) -> Iterator[Callable[[str], None]]:
    """Return a function that connects again, in a character set."""

    def connect(charset: str) -> None:
        connection.close()
        monkeypatch.setitem(connection.settings_dict["OPTIONS"], "charset", charset)

    yield connect
    connection.close()
