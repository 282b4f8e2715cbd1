"""The adapter in the documentation passes the conformance tests, configured as its page shows."""

import re
import sys
from pathlib import Path
from types import ModuleType

PAGE = Path(__file__).parents[4] / "docs" / "howto" / "add-provider.md"


def module_of(code: str, name: str) -> ModuleType:
    """Return a module with this code."""
    module = ModuleType(name)
    exec(compile(code, str(PAGE), "exec"), vars(module))  # noqa: S102 - our own page
    return module


def documented_suite() -> type:
    """Return the test class of the page, which imports the adapter of the page."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    modules = {"shop": ModuleType("shop"), "shop.examplepay": module_of(blocks[0], "shop.examplepay")}
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        suite: type = module_of(blocks[-1], "test_examplepay").TestExamplepay
        return suite
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


TestExamplepay = documented_suite()
