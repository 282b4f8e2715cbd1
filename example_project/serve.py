"""``make serve``: the example shop, the admin and the sandbox on 127.0.0.1, until Ctrl-C.

The code is in ``serving.py``. An old Python cannot parse that file, but it can parse this one.
"""

import sys

import prelude  # noqa: F401 - exits if this Python is too old for the example

if __name__ == "__main__":
    from serving import main

    sys.exit(main())
