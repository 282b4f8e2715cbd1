"""Cancel unpaid invoices at their payment providers, and know whether the cancel happened."""

__version__ = "0.1.0"
