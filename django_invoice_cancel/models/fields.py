"""Fields that several models have: text that tells ``INV-a`` from ``INV-A`` on every database, and who did it."""

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models

if TYPE_CHECKING:
    _CharField = models.CharField[Any, str]
else:  # generic for the type checker alone
    _CharField = models.CharField


class ExactCharField(_CharField):
    """A ``CharField`` whose comparisons and unique keys respect case on MySQL and MariaDB too.

    Their default collation does not: two of a provider's ids that differ by case would be one invoice.
    """

    def db_parameters(self, connection: Any) -> dict[str, Any]:
        parameters: dict[str, Any] = dict(super().db_parameters(connection))
        if connection.vendor == "mysql":
            parameters["collation"] = "utf8mb4_bin"
        return parameters


def acting_user(verbose_name: Any, **options: Any) -> "models.ForeignKey[Any, Any]":
    """Return a key of the user who did it, if it was one.

    No constraint: users may live in another database, and what they did outlives them.
    """
    return models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        db_constraint=False,
        related_name="+",
        verbose_name=verbose_name,
        **options,
    )
