"""A text field that tells ``INV-a`` from ``INV-A`` on every database."""

from typing import Any

from django.db import models


class ExactCharField(models.CharField):
    """A ``CharField`` whose comparisons and unique keys respect case on MySQL and MariaDB too.

    Their default collation does not: two of a provider's ids that differ by case would be one invoice.
    """

    def db_parameters(self, connection: Any) -> dict[str, Any]:
        parameters: dict[str, Any] = dict(super().db_parameters(connection))
        if connection.vendor == "mysql":
            parameters["collation"] = "utf8mb4_bin"
        return parameters
