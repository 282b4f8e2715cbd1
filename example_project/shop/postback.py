"""The signature of CryptoCloud's postback: a JWT, HS256 with the project's secret key, valid for five minutes.

It proves that CryptoCloud sent *a* postback in the last minutes. No documented claim contains the invoice, so it does
not prove which invoice was paid. Look the invoice up (``invoice.reconcile()``) before you deliver valuable goods.
"""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

VALID_SECONDS = 300
LEEWAY_SECONDS = 30
"""Maximum difference between the provider's clock and ours, in seconds."""


class BadToken(ValueError):
    """The token does not come from CryptoCloud, or has expired."""


def check_token(token: str, secret: str) -> None:
    """Raise ``BadToken`` unless the token was signed with ``secret`` and is still valid."""
    try:
        head, claims, signature = token.split(".")
        algorithm, expires_at = _document(head)["alg"], float(_document(claims)["exp"])
        signed_with_ours = hmac.new(secret.encode(), f"{head}.{claims}".encode(), hashlib.sha256).digest()
        is_ours = hmac.compare_digest(signed_with_ours, _decoded(signature))
    except (ValueError, KeyError, TypeError) as error:
        raise BadToken("The token is not a JWT.") from error
    # Do not accept an algorithm from the token: it could be "none".
    if algorithm != "HS256" or not is_ours:
        raise BadToken("The token is not signed with our secret key.")
    if not -LEEWAY_SECONDS < expires_at - time.time() <= VALID_SECONDS + LEEWAY_SECONDS:
        raise BadToken("The token has expired.")


def _document(part: str) -> dict[str, Any]:
    document = json.loads(_decoded(part))
    if not isinstance(document, dict):
        raise TypeError("not an object")
    return document


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
