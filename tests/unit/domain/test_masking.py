"""Masking hides a secret in every encoding, changes no other text, and takes time in proportion to the text."""

import json
import pickle
import pprint
import re
import sys
import time
from base64 import encodebytes, urlsafe_b64encode
from urllib.parse import quote

import pytest

from django_invoice_cancel.domain import secrets
from django_invoice_cancel.domain.secrets import MASK, Secret, SecretDict, mask
from tests.support.escaped_tokens import FORMS, MARKER, SPECIAL_CHARACTERS, TOKENS, to_base64

BASE64_FORMS = {
    "only the token": to_base64,
    "without padding": lambda token: to_base64(token).rstrip("="),
    "one byte behind": lambda token: to_base64(f"x{token}"),
    "two bytes behind": lambda token: to_base64(f"xy{token}z"),
    "with its scheme": lambda token: to_base64(f"Bearer {token}"),
    "as a password": lambda token: to_base64(f"user:{token}"),
    "within JSON": lambda token: to_base64(f'{{"headers": {{"Authorization": "Token {token}"}}}}'),
    "for URLs": lambda token: urlsafe_b64encode(token.encode()).decode(),
    "in lines": lambda token: encodebytes(f"{'x' * 40}{token}{'y' * 100}".encode()).decode(),
    "in lines, in JSON": lambda token: json.dumps(encodebytes(f"{'x' * 40}{token}".encode()).decode())[1:-1],
    "in PHP's JSON": lambda token: to_base64(f"?{token}?").replace("/", "\\/"),
    "in a URL": lambda token: quote(to_base64(token), safe=""),
}
BASE64_TOKENS = [
    f"{MARKER}{SPECIAL_CHARACTERS}",
    f"{MARKER}-{'0123456789' * 12}",
    "0123456",
    "?>?>?>?>?>",
    "\u0444irekassa-key",
]
TOKENS_THAT_LOOK_ESCAPED = [
    "%41%42%43", "&amp;&lt;&gt;", "\\u0041\\u0042", "a\\nb\\tc", "\\\\\\", "%%%%", "&&&&",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tokens", [[*TOKENS.values()], TOKENS_THAT_LOOK_ESCAPED], ids=["usual", "look escaped"])
def test_secret_is_masked_in_every_encoding(form, tokens):
    for token in tokens:
        masked = mask(f"before {FORMS[form](token)} after", [Secret(token)])
        assert re.fullmatch(r"""before ['"\\]*(\*\*\*)+['"\\]* after""", masked), token


def test_usual_secret_is_replaced_by_one_mask():
    for token in TOKENS.values():
        masked = [mask(f"before {form(token)} after", [Secret(token)]) for form in FORMS.values()]
        assert [text.count(MASK) for text in masked] == [1] * len(FORMS)


@pytest.mark.parametrize("form", BASE64_FORMS)
def test_secret_is_masked_with_all_of_its_base64_text(form):
    """The other bytes of the text share characters with the secret: they cannot be kept."""
    for token in BASE64_TOKENS:
        masked = mask(f"<before> {BASE64_FORMS[form](token)} <after>", [Secret(token)])
        assert re.fullmatch(r"<before> \*\*\*(\n|\\n)? <after>", masked), token


@pytest.mark.parametrize("token", ["o", "ok", "s3cr"])
def test_short_secret_in_base64_is_masked_only_as_a_separate_token(token):
    encoded = to_base64(token)
    assert mask(f"is {encoded}, {encoded.rstrip('=')}.", [Secret(token)]).count(encoded.rstrip("=")) == 0
    assert mask(f"x{encoded.rstrip('=')}x", [Secret(token)]) == f"x{encoded.rstrip('=')}x"


@pytest.mark.parametrize(
    "text",
    [
        "before and after",
        "100 % of INV-1 & more",
        "C:\\path\\new",
        "&notanentity; &#999999999999; %zz \\u12",
        "\\",
        "%",
        "&",
        "",
        "=====",
        "-_-",
    ],
)
def test_text_without_a_secret_is_not_changed(text):
    assert mask(text, [Secret(token) for token in (*TOKENS.values(), "")]) == text


def test_longer_of_two_secrets_is_masked_first():
    assert mask("abcdef abc", [Secret("abc"), Secret("abcdef")]) == f"{MASK} {MASK}"


def test_overlapping_secrets_are_masked_together():
    assert mask("xabcdefx", [Secret("abcd"), Secret("cdef")]) == f"x{MASK}x"


WORST_CASES = {
    "backslashes": lambda size: "\\" * size,
    "backslashes and a letter": lambda size: "\\" * (size - 1) + "x",
    "slashes": lambda size: "/" * size,
    "ampersands": lambda size: "&" * size,
    "half an entity": lambda size: "&#x" + "0" * (size - 3),
    "many half entities": lambda size: "&#x0" * (size // 4),
    "percent signs": lambda size: "%" * size,
    "half an escape": lambda size: "\\u00" * (size // 4),
    "escapes": lambda size: "\\u002f" * (size // 6),
    "beginnings of the token": lambda size: "/+" * (size // 2),
    "a run of Base64": lambda size: "A" * size,
    "the token in Base64": lambda size: to_base64("//++//++tok" * (size // 15)),
    "lines": lambda size: "\n" * size,
}
WORST_CASE_TOKENS = ["//++//++tok", "\\\\\\\\x", "&&&&&&&&x", "%%%%%%%%x", "////////", "AAAAAAAAAAAAAA", "o"]


def count_lines_run(text, token):
    """Count the lines of the module that run. The tests below bound the time of one line."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        if frame.f_code.co_filename != secrets.__file__:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        mask(text, [Secret(token)])
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("text", WORST_CASES)
def test_steps_of_masking_grow_in_proportion_to_the_text(text):
    for token in WORST_CASE_TOKENS:
        few, many = (count_lines_run(WORST_CASES[text](size), token) for size in (500, 4000))
        assert few > 0, token
        assert many <= 8 * few + 500, token


def test_search_for_escapes_reads_a_bounded_text_at_each_position():
    (_, longest) = re._parser.parse(secrets._ESCAPE.pattern).getwidth()
    assert longest <= 40


@pytest.mark.parametrize("text", WORST_CASES)
def test_longest_body_is_masked_in_seconds(text):
    """26 s if the time grows with the square of the length."""
    begin = time.process_time()
    mask(WORST_CASES[text](65_536), [Secret(token) for token in WORST_CASE_TOKENS])
    assert time.process_time() - begin < 5


def test_secret_is_hidden_in_its_representations_and_cannot_be_pickled():
    secret = Secret(TOKENS["sign_token"])
    shown = f"{secret} {secret!r} {secret!s} {[secret]} {SecretDict(token=TOKENS['sign_token'])}"
    assert MARKER not in shown + pprint.pformat({"a": [secret, SecretDict(b=TOKENS["sign_token"])]})
    for holder in (secret, SecretDict(token="x")):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(holder)
