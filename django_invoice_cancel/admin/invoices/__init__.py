"""The admin's pages of invoices: the list, one invoice, and what is done with one."""
