"""A module that cannot be imported, and whose error tells what it should not."""

raise ZeroDivisionError("invented-token-5521")
