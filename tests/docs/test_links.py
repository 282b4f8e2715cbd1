"""Every link from one of the project's pages to one of its files has an existing target."""

import pytest

from .pages import ROOT, anchors, links, pages


@pytest.mark.parametrize("page", pages())
def test_relative_links_resolve(page):
    broken = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        if not file.exists() or (anchor and anchor not in anchors(str(file.resolve().relative_to(ROOT)))):
            broken.append(target)
    assert broken == []


def test_every_page_is_linked_from_the_readme():
    reached, waiting = set(), {"README.md"}
    while waiting:
        page = waiting.pop()
        reached.add(page)
        for target in links(page):
            file = ((ROOT / page).parent / target.partition("#")[0]).resolve()
            if file.suffix == ".md" and file.exists():
                waiting |= {str(file.relative_to(ROOT))} - reached
    assert set(pages()) - reached == set()
