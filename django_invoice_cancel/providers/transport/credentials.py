"""The token on its way into the ``Authorization`` header: validated once, shown by nothing, pickled by nothing.

An ``AuthBase``, not a header: requests overwrites headers from ~/.netrc and shows header values in its errors.
"""

from typing import Any, Never

from requests import PreparedRequest
from requests.auth import AuthBase

from ...masking import MASK, Secret


class HiddenValue(str):
    """A header's value that ``repr`` does not show and that is not pickled."""

    __slots__ = ()

    def __repr__(self) -> str:
        return MASK

    def __reduce_ex__(self, protocol: Any) -> Never:
        raise TypeError("Credentials are not pickled.")


class TokenAuth(AuthBase):
    """Sets ``Authorization: <scheme> <token>``."""

    def __init__(self, scheme: str, token: Secret) -> None:
        _check(scheme, "scheme")
        _check(token.reveal(), "token")
        self._value = HiddenValue(f"{scheme} {token.reveal()}")

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = self._value
        return request

    def __repr__(self) -> str:
        return f"<TokenAuth {MASK}>"

    def __reduce_ex__(self, protocol: Any) -> Never:
        raise TypeError("Credentials are not pickled.")


def _check(value: str, what: str) -> None:
    """Refuse what requests and http.client would refuse with the value in the message, or send garbled."""
    if not value or not all("!" <= character <= "~" for character in value):
        raise ValueError(f"The {what} must be printable ASCII without spaces, and not empty.")
