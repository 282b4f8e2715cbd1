"""``make serve``: the example shop and the admin on 127.0.0.1, the sandbox beside them, until Ctrl-C.

Everything is in ``serving.py``. An old Python cannot read that file, but can read this one.
"""

import sys

import prelude  # noqa: F401 - stops if this Python cannot run the example

if __name__ == "__main__":
    from serving import main

    sys.exit(main())
