"""Exit with one sentence if this Python is too old for the example. Imported first; runs on Python 2.7 too."""

import sys

OLDEST = (3, 11)

if sys.version_info < OLDEST:
    sys.exit(
        "Python 3.11 or newer is required, but this is %d.%d. `make serve` and `make demo` find a newer one and use it."
        % sys.version_info[:2]
    )

try:
    import django

    import django_invoice_cancel
except ImportError as error:
    sys.exit("%s (%s). `make serve` and `make demo` install it." % (error, sys.executable))
except UnicodeError:
    sys.exit("The path of this project has letters that this locale cannot represent. Set LC_ALL=C.UTF-8.")

__all__ = ["django", "django_invoice_cancel"]
