"""Cancel unpaid invoices at their payment providers, and know whether the cancel happened."""

__all__ = ["__version__"]

__version__ = "0.1.0"
DOCUMENTATION_URL = ""
"""Address of the documentation's site, without a slash at its end; empty until it is published.

The same address goes into `[project.urls]` of `pyproject.toml`, as `Documentation`, and into `README.md`.
"""
