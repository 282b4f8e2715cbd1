"""The strict Content-Security-Policy of the tested pages: no inline code, no resources from other hosts."""

from collections.abc import Callable

import django
from django.http import HttpRequest, HttpResponse

DIRECTIVES = {
    "default-src": ["'self'"],
    "base-uri": ["'none'"],
    "object-src": ["'none'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'none'"],
}
"""No ``'unsafe-inline'``, no nonce: a script, a style or a handler in a page is refused."""


class StrictPolicy:
    """Send the policy with each page: for Django 5.2, which has no middleware of its own for it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        header = "; ".join(f"{name} {' '.join(sources)}" for name, sources in DIRECTIVES.items())
        response.headers["Content-Security-Policy"] = header
        return response


MIDDLEWARE = (
    "django.middleware.csp.ContentSecurityPolicyMiddleware"
    if django.VERSION >= (6, 0)
    else f"{StrictPolicy.__module__}.{StrictPolicy.__qualname__}"
)
