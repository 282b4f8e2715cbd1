"""A manager for rows that steer work: read where they are written.

A worker that asks a replica may not find its operation yet, or finds no items left of one that has just begun.
"""

from typing import Any, TypeVar

from django.db import models, router

Row = TypeVar("Row", bound=models.Model)


class PrimaryManager(models.Manager[Row]):
    """Asks the router for the writable database, also to read."""

    @property
    def db(self) -> str:
        """The alias of the database that is worked on."""
        return self._db or router.db_for_write(self.model, **self._hints)  # type: ignore[attr-defined]

    def get_queryset(self) -> "models.QuerySet[Row]":
        """Return all rows, of the writable database."""
        rows: Any = super().get_queryset()
        rows._for_write = True  # as QuerySet.update does
        return rows  # type: ignore[no-any-return]
