"""A module that cannot be imported, and whose exception contains a secret."""

raise ZeroDivisionError("invented-token-5521")
