"""Tokens that a test can search for, and the encodings in which they may return in an answer."""

import json
from base64 import b64encode
from html import escape
from urllib.parse import quote

MARKER = "c4naryt0ken"
"""A part of each token that no encoding of FORMS but Base64 and the escapes of each character change."""
SPECIAL_CHARACTERS = '/a+b=c"d<e&f\\g'
TOKENS = {
    "firekassa_token": f"{MARKER}-firekassa{SPECIAL_CHARACTERS}",
    "cryptocloud_key": f"{MARKER}-cryptocloud{SPECIAL_CHARACTERS}",
    "sign_token": f"{MARKER}-signing{SPECIAL_CHARACTERS}",
}

FORMS = {
    "plain": lambda token: token,
    "JSON": lambda token: json.dumps(token)[1:-1],
    "PHP's JSON": lambda token: json.dumps(token)[1:-1].replace("/", "\\/"),
    "JSON in JSON": lambda token: json.dumps(json.dumps(token))[1:-1],
    "hexadecimal JSON": lambda token: "".join(c if c.isalnum() else f"\\u{ord(c):04x}" for c in token),
    "percent": lambda token: quote(token, safe=""),
    "percent, lower case": lambda token: "".join(c if c.isalnum() else f"%{ord(c):02x}" for c in token),
    "percent, with slashes": lambda token: quote(token),
    "percent, each character": lambda token: "".join(f"%{ord(c):02X}" for c in token),
    "percent, twice": lambda token: quote(quote(token, safe=""), safe=""),
    "percent in JSON": lambda token: json.dumps(quote(token, safe=""))[1:-1],
    "JSON, percent": lambda token: quote(json.dumps(token)[1:-1], safe=""),
    "JSON, each character": lambda token: "".join(f"\\u{ord(c):04X}" for c in token),
    "escape() of old browsers": lambda token: "".join(f"%u{ord(c):04x}" for c in token),
    "Python": lambda token: repr(f"'{token}")[2:-1],
    "hexadecimal escapes": lambda token: "".join(f"\\x{ord(c):02x}" for c in token),
    "HTML": escape,
    "HTML, twice": lambda token: escape(escape(token)),
    "HTML by number": lambda token: "".join(c if c.isalnum() else f"&#{ord(c)};" for c in token),
    "HTML by number, each character": lambda token: "".join(f"&#{ord(c)};" for c in token),
    "HTML by hexadecimal number": lambda token: "".join(f"&#x{ord(c):X};" for c in token),
    "HTML with leading zeros": lambda token: "".join(f"&#x{ord(c):08x};" for c in token),
    "HTML by name": lambda token: token.replace("&", "&amp;").replace("/", "&sol;").replace("+", "&plus;"),
    "HTML in JSON": lambda token: json.dumps(escape(token))[1:-1],
}


def to_base64(text: str) -> str:
    return b64encode(text.encode()).decode()
