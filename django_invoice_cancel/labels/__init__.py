"""Texts for users: one for each status, outcome, code, trigger and operation. They are translated when they are shown.

``results`` contains the texts of outcomes and codes, ``invoices`` those of one invoice, and ``operations`` those of
bulk operations. ``formatting`` formats numbers, amounts and times. Pages and commands only arrange these texts.
"""
