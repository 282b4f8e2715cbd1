"""The admin of invoices: the list, the page of one invoice, and the actions on one invoice."""
