"""Cells of the CSV report: a spreadsheet never interprets a text of others as a formula."""

import pytest

from django_invoice_cancel.admin.operations.report import escape_formula


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_sign_of_a_formula_is_escaped_at_the_start_of_each_line(sign):
    assert escape_formula(f"{sign}1") == f"'{sign}1"
    assert escape_formula(f"a\n{sign}1") == f"a\n'{sign}1"
    assert escape_formula(f"a\r\n{sign}1\nb\r{sign}2") == f"a\r\n'{sign}1\nb\r'{sign}2"


@pytest.mark.parametrize("start", ["\r", "\n", "\r\n"])
def test_line_break_at_the_start_is_escaped(start):
    assert escape_formula(f"{start}=1") == f"'{start}'=1"


@pytest.mark.parametrize("cell", ["", "order-17", "a=1", "1\n2", "INV-89UX09KA\r\nx@y"])
def test_other_texts_are_not_changed(cell):
    assert escape_formula(cell) == cell
