"""The admin of bulk operations: the actions that create them, their confirmation, progress and report."""
