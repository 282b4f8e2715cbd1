"""Texts that others wrote, inside a sentence: escaped controls, isolated right-to-left letters, all else unchanged."""

import json

import pytest

from django_invoice_cancel.domain.bidi import escape_controls, escape_overrides, isolate

CONTROLS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
HEBREW, ARABIC = "\u05d0\u05d1", "\u0627\u0628"


@pytest.mark.parametrize("text", ["", "order-17", "заказ 17", "注文", "é\u0301", "😀"])
def test_text_from_left_to_right_is_unchanged(text):
    assert isolate(text) == text
    assert escape_controls(text) == text
    assert escape_overrides(text) == text


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
def test_control_is_escaped(control):
    escaped = f"\\u{ord(control):04x}"
    assert isolate(f"a{control}b") == f"a{escaped}b"
    assert escape_controls(f"a{control}b") == f"a{escaped}b"


@pytest.mark.parametrize("text", [HEBREW, ARABIC, f"17 {HEBREW}", "a\u200fb", "a\u061cb", "\u0661"], ids=ascii)
def test_right_to_left_text_is_isolated(text):
    assert isolate(text) == f"\u2068{text}\u2069"


def test_text_cannot_end_its_isolate():
    assert isolate(f"{HEBREW}\u2069\u202e") == f"\u2068{HEBREW}\\u2069\\u202e\u2069"


def test_output_of_a_command_keeps_isolates_and_the_meaning_of_json():
    assert escape_overrides(isolate(HEBREW)) == isolate(HEBREW)
    line = json.dumps({"reference": CONTROLS}, ensure_ascii=False)
    assert escape_overrides(line) != line
    assert json.loads(escape_overrides(line)) == {"reference": CONTROLS}
