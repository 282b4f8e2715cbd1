"""The page of an invoice that the shop forbids to cancel: no button, the reason, and no request."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry

from django_invoice_cancel.models import InvoiceTransition
from django_invoice_cancel.testing import make_invoice
from tests.support.html import element_texts, page_text, shown_messages
from tests.support.invoice_pages import invoice_url
from tests.support.invoices import stored
from tests.support.vetoes import SHIPPED, count_requests

pytestmark = pytest.mark.django_db(transaction=True)

SENTENCE = f"A rule of your shop forbids its cancellation: “{SHIPPED}”"
LONG_AGO = timedelta(days=2)


def test_page_shows_the_reason_instead_of_the_button(shop_rule, operator):
    shop_rule.forbid()
    invoice = make_invoice()
    page = operator.get(invoice_url(invoice))
    shown = page_text(page)
    assert SENTENCE in shown
    assert invoice_url(invoice, "cancel") not in shown
    shop_rule.allow()
    assert invoice_url(invoice, "cancel") in page_text(operator.get(invoice_url(invoice)))
    assert count_requests() == 0


def test_reason_of_the_shop_is_escaped(shop_rule, operator):
    shop_rule.forbid(answer="<script>alert(1)</script>")
    page = operator.get(invoice_url(make_invoice()))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.content.decode()
    assert "<script>alert(1)" not in page.content.decode()
    assert count_requests() == 0


@pytest.mark.parametrize("is_post", [False, True], ids=["get", "post"])
def test_confirmation_page_of_a_vetoed_invoice_sends_nothing(shop_rule, operator, is_post):
    shop_rule.forbid()
    invoice = make_invoice()
    rows = InvoiceTransition.objects.count()
    if is_post:
        answer = operator.post(invoice_url(invoice, "cancel"), {"reason": "unpaid"})
        assert shown_messages(answer) == [("warning", f"{invoice}: {SENTENCE}")]
        assert SENTENCE in LogEntry.objects.get().change_message
    else:
        answer = operator.get(invoice_url(invoice, "cancel"))
        assert SENTENCE in page_text(answer)
        assert 'name="reason"' not in page_text(answer)
    assert stored(invoice).status == "created"
    assert InvoiceTransition.objects.count() == rows
    assert count_requests() == 0


def test_page_of_a_vetoed_request_says_why_it_waits(shop_rule, operator):
    shop_rule.forbid()
    invoice = make_invoice("requested", age=timedelta(hours=1))
    shown = page_text(operator.get(invoice_url(invoice)))
    assert SENTENCE in shown
    assert invoice_url(invoice, "withdraw") in shown
    assert stored(invoice).cancel_requested_at is not None
    assert count_requests() == 0


def test_repeat_of_a_vetoed_invoice_is_not_offered_and_not_sent(shop_rule, operator):
    shop_rule.forbid()
    invoice = make_invoice("in_doubt", age=LONG_AGO)
    page = operator.get(invoice_url(invoice))
    assert SENTENCE in page_text(page)
    assert invoice_url(invoice, "check") not in page_text(page)
    assert invoice_url(invoice, "resolve") in page_text(page)
    [(level, message)] = shown_messages(operator.post(invoice_url(invoice, "check"), {"repeat": "1"}))
    assert level == "warning"
    assert SENTENCE in message
    assert stored(invoice).status == "in_doubt"
    assert element_texts(page, "h1")
    assert count_requests() == 0
