"""The Python code of README.md and docs/ is type-checked: its calls exist and accept these arguments."""

import re

import pytest

from tests.docs.pages import pages, python_blocks

pytestmark = pytest.mark.types

IMPORT_OF_SHOP = re.compile(r"^from shop\.\w+ import (\w+)$", re.MULTILINE)


@pytest.fixture(scope="session")
def blocks(tmp_path_factory):
    """Write each block to a file with the line numbers of its page."""
    folder = tmp_path_factory.mktemp("blocks")
    files = []
    for page in pages():
        for block in python_blocks(page):
            file = folder / f"{page.replace('/', '_').removesuffix('.md').lower()}_{block.line}.py"
            code = IMPORT_OF_SHOP.sub(r"from tests.typing.prelude import \1", block.code)
            file.write_text("from tests.typing.prelude import *" + "\n" * (block.line - 1) + code)
            files.append(file)
    return files


def test_blocks_of_pages_are_accepted(checker, cache, blocks):
    assert len(blocks) > 20
    reports = [
        report
        for report in checker.check(blocks, cache, is_strict=False)
        if 'for class "_User"'
        not in report.text  # the stubs' stand-in for the user model, which pyright cannot look up
    ]
    assert not reports, "\n".join(map(str, reports))
