"""Exit with one sentence if this Python is too old for the example. Imported first; runs on Python 2.7 too."""

import sys

OLDEST = (3, 11)

if sys.version_info < OLDEST:
    sys.exit(
        "Python 3.11 or newer is needed, and this is %d.%d: `make serve` and `make demo` find one and set it up."
        % sys.version_info[:2]
    )

try:
    import django

    import django_invoice_cancel
except ImportError as error:
    sys.exit("%s, for %s: `make serve` and `make demo` install it." % (error, sys.executable))
except UnicodeError:
    sys.exit("The path of this project has letters that this locale cannot represent: set LC_ALL=C.UTF-8.")

__all__ = ["django", "django_invoice_cancel"]
