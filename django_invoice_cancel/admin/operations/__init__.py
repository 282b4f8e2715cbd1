"""The admin's pages of bulk operations, from the confirmation to the report."""
