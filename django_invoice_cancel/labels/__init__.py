"""Texts for people: one for each status, outcome, code, trigger and operation. Translated when they are shown.

``results`` has the texts of outcomes and codes, ``invoices`` those of one invoice, ``operations`` those of bulk
operations, and ``formatting`` writes numbers, amounts and times. Pages and commands only arrange these texts.
"""
