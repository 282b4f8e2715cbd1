"""Read results of calls."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from django_invoice_cancel.domain.outcomes import CancelResult
from django_invoice_cancel.exceptions import CancelError


def cancel_error(call: Callable[..., Any], **kwargs: Any) -> CancelError:
    """Return the ``CancelError`` that a call raises, or fail the test."""
    try:
        call(**kwargs)
    except CancelError as error:
        return error
    raise AssertionError("Nothing was raised.")


def count_codes(results: Iterable[CancelResult]) -> dict[str, int]:
    """Return the number of results with each code."""
    return dict(Counter(result.code for result in results))
