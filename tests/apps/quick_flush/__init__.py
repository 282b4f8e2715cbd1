"""An app that replaces Django's ``flush`` in the tests, see its command."""
