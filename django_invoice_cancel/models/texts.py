"""Text from outside, made acceptable to every database."""


def storable(text: str, length: int | None = None) -> str:
    """Return the text without NUL (PostgreSQL) and lone surrogates, cut to ``length`` characters.

    Unusual text in an answer must not lose the answer.
    """
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")[:length]
