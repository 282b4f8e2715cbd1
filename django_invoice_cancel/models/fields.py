"""A text field that tells ``INV-a`` from ``INV-A`` on every database."""

from typing import TYPE_CHECKING, Any

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
