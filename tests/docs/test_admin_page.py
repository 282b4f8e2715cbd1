"""The admin classes on the pages about the admin pass Django's checks."""

import re

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin import AdminSite, sites

from django_invoice_cancel.admin import BulkOperationAdmin, CancelInvoicesAction
from django_invoice_cancel.models import BulkOperation, BulkOperationItem

from .pages import ROOT, python_blocks, text_of

BLOCKS = [*python_blocks("docs/howto/permissions.md"), *python_blocks("docs/howto/customize-admin.md")]


@pytest.fixture
def site(monkeypatch):
    """A default site that the page may change."""
    site = AdminSite()
    site.register(BulkOperation, BulkOperationAdmin)
    for module in (admin, sites):
        monkeypatch.setattr(module, "site", site)
    return site


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block_registers_an_admin_with_the_three_actions(block, site, rf, admin_user):
    # An item of an operation plays the order: it has a foreign key to an invoice that may be missing.
    namespace = block.run({"Order": BulkOperationItem})

    site = namespace.get("backoffice", site)
    request = rf.get("/")
    request.user = admin_user
    (changed,) = [one for one in site._registry.values() if isinstance(one, CancelInvoicesAction)]
    assert site.check(apps.get_app_configs()) == []
    assert set(CancelInvoicesAction.actions) <= set(changed.get_actions(request))


def test_buttons_named_by_the_russian_page_exist():
    page = text_of("docs/howto/admin-ru.md")
    catalogue = (ROOT / "django_invoice_cancel/locale/ru/LC_MESSAGES/django.po").read_text(encoding="utf-8")
    named = set(re.findall("«([^»]+)»", page))
    assert [name for name in sorted(named) if f'msgstr "{name}' not in catalogue] == []
    assert len(named) > 5
