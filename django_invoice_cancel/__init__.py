"""Cancel unpaid invoices at their payment providers, and record whether the cancellation happened."""

__all__ = ["__version__"]

__version__ = "0.1.0"
DOCUMENTATION_URL = ""
"""Address of the published documentation, without a slash at the end; empty until there is one.

It must be the same in `[project.urls]` of `pyproject.toml`, as `Documentation`, and in `README.md`.
"""
