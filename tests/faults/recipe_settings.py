"""Settings of the processes that the fault tests start: a recipe of the example, with the providers of a test.

``FAULT_TEST_RECIPE`` names the example's settings. ``FAULT_TEST_INVOICE_CANCEL`` (JSON) is merged over its
INVOICE_CANCEL. The working directory is the example project.
"""

import json
import os
from importlib import import_module

_recipe = import_module(os.environ["FAULT_TEST_RECIPE"])
globals().update({name: getattr(_recipe, name) for name in dir(_recipe) if name.isupper()})

DEBUG = False
INVOICE_CANCEL = {**_recipe.INVOICE_CANCEL, **json.loads(os.environ["FAULT_TEST_INVOICE_CANCEL"])}
