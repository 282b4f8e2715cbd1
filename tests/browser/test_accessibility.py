"""axe-core finds no violation in our parts of the admin pages: in light and in dark colors, and 400 px wide.

A violation is ours if its element is in one of our containers, or if Django's own pages do not violate the same rule.
Violations in the elements of Django are printed, and recorded in the report of the test run.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.urls import URLPattern, reverse

from django_invoice_cancel.admin import InvoiceAdmin
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.models import BulkOperation, Invoice, ProviderState
from django_invoice_cancel.models.operation_item import BulkOperationItem
from django_invoice_cancel.testing import make_invoice
from django_invoice_cancel.testing.factories import SCENARIOS
from django_invoice_cancel.testing.sandbox import invoice_id
from tests.browser.window import Window, expect

CONTAINERS = (
    ".bulk-operation, #bo-live, .ic-attention, .ic-summary, .ic-ask, .ic-dates, .ic-status, .errornote, "
    ".ic-shortcuts, .field-request_actions"
)
LOOKS: dict[str, tuple[Any, int]] = {"light": ("light", 1200), "dark": ("dark", 1200), "narrow": ("light", 400)}
"""(color scheme, width)"""
STOCK_PAGES = ("auth_user_changelist", "auth_user_add", "auth_user_change", "auth_user_history", "auth_user_delete")
NOT_A_PAGE = {
    "invoice_cancel_bulkoperation_run": "redirects",
    "invoice_cancel_bulkoperation_stop": "redirects",
    "invoice_cancel_bulkoperation_continue": "redirects",
    "invoice_cancel_bulkoperation_end": "redirects",
    "invoice_cancel_bulkoperation_release": "has no content",
    "invoice_cancel_bulkoperation_again": "redirects",
    "invoice_cancel_bulkoperation_csv": "a file",
    "invoice_cancel_bulkoperation_add": "never permitted",
    "invoice_cancel_bulkoperation_delete": "never permitted",
    "invoice_cancel_bulkoperation_change": "redirects",
}
AXE = """async (ours) => {
    await new Promise(requestAnimationFrame);  // Django fades from one color to the other
    document.getAnimations().forEach((each) => each.finish());
    document.querySelectorAll("details").forEach((each) => { each.open = true; });
    const {violations} = await axe.run(document, {
        resultTypes: ["violations"], elementRef: true, rules: {"target-size": {enabled: true}},
    });
    return violations.flatMap(({id, nodes}) => nodes.map((node) => ({
        rule: id,
        target: node.target.flat().join(" "),
        summary: node.failureSummary,
        isOurs: Boolean(node.element && node.element.closest(ours)),
    })));
}"""


# -- the visits ---------------------------------------------------------------------------------------------------


@dataclass
class Site:
    """The browser window, and the rows that the visited pages need."""

    window: Window
    clerk: User
    made: int = 0

    def goto(self, name: str, *args: Any, query: str = "") -> None:
        """Open a page, and check that it is one."""
        url = reverse(f"admin:{name}", args=args)
        response = self.window.page.goto(f"{self.window.url}{url}{query}")
        assert response is not None
        assert response.status == 200
        expect(self.window.page.locator("#content")).to_be_visible()

    def invoice(self, status: str = "created", provider: str = "cryptocloud", **fields: Any) -> Invoice:
        self.made += 1
        values = {"reference": f"order-{self.made}", "amount": "100.00", "currency": "USD"} | fields
        return make_invoice(status, provider=provider, external_id=invoice_id(provider, self.made), **values)

    def open_invoice(self, page: str, status: str = "created", provider: str = "cryptocloud", **fields: Any) -> None:
        self.goto(f"invoice_cancel_invoice_{page}", self.invoice(status, provider, **fields).pk)

    def draft(
        self,
        count: int,
        kind: str = "cancel",
        status: str = "created",
        aliases: Sequence[str] = ("cryptocloud", "firekassa"),
        **fields: Any,
    ) -> BulkOperation:
        """Store a draft on new invoices at these providers."""
        keys = [self.invoice(status, aliases[number % len(aliases)]).pk for number in range(count)]
        values = {"operation": kind, "actor": self.clerk} | fields
        return BulkOperation.objects.draft(Invoice.objects.filter(pk__in=keys), **values)

    def running(self, count: int = 4) -> BulkOperation:
        """Store a running operation that no page processes, half of whose invoices are done."""
        operation = self.draft(count)
        operation.confirm(reason="unpaid for a week")
        done = list(operation.items.values_list("pk", flat=True)[: count // 2])
        items = QuerySet(BulkOperationItem).filter(pk__in=done)
        items.update(outcome="refused", code="has_payment", done_at=utc_now())
        return operation

    def open_operation(self, operation: BulkOperation, query: str = "", page: str = "operation") -> None:
        self.goto(f"invoice_cancel_bulkoperation_{page}", operation.pk, query=query)

    def pause(self, *aliases: str, **options: Any) -> None:
        for alias in aliases:
            Invoice.objects.all()._writer.pause(alias, "bad_credentials", 300, **options)

    def end_pauses(self) -> None:
        ProviderState.objects.all().delete()


def interrupt(operation: BulkOperation) -> None:
    """Make the last activity of an operation an hour old."""
    BulkOperation.objects.filter(pk=operation.pk).update(worked_at=utc_now() - timedelta(hours=1))


def visit_empty_list(site: Site) -> None:
    site.goto("invoice_cancel_invoice_changelist")


def visit_list_with_all_notices(site: Site) -> None:
    for status in SCENARIOS:
        site.invoice(status, age=timedelta(hours=3))
    interrupt(site.running())
    site.pause("firekassa")
    site.pause("cryptocloud", retry_after=200)
    site.goto("invoice_cancel_invoice_changelist")
    expect(site.window.page.locator(".ic-attention .ic-amber").first).to_be_visible()


def visit_filtered_list(site: Site) -> None:
    site.invoice("in_doubt")
    site.goto(
        "invoice_cancel_invoice_changelist", query="?attention=in_doubt&status__exact=in_doubt&provider=firekassa"
    )


def visit_list_of_requested_cancellations(site: Site) -> None:
    site.invoice("requested")
    site.goto("invoice_cancel_invoice_changelist", query="?attention=requested")
    expect(site.window.page.locator(".field-request_actions a").first).to_be_visible()


def visit_list_with_a_wrong_date(site: Site) -> None:
    site.goto("invoice_cancel_invoice_changelist", query="?issued_at__from=tomorrow")


def visit_invoice(status: str, provider: str) -> Callable[[Site], None]:
    return lambda site: site.open_invoice("change", status, provider, age=timedelta(hours=2))


def visit_contradicted_invoice(site: Site) -> None:
    invoice = site.invoice("canceled")
    QuerySet(Invoice).filter(pk=invoice.pk).update(contradicted_at=utc_now())
    site.goto("invoice_cancel_invoice_change", invoice.pk)


def visit_invoice_of_a_paused_provider(site: Site) -> None:
    site.pause("cryptocloud")
    site.open_invoice("change")


def visit_cancel_at_a_paused_provider(site: Site) -> None:
    site.pause("cryptocloud", retry_after=200)
    site.open_invoice("cancel")


def visit_rejected_answer(page: str, status: str) -> Callable[[Site], None]:
    def visit(site: Site) -> None:
        site.open_invoice(page, status)
        site.window.answer()
        expect(site.window.page.locator(".ic-field.errors").first).to_be_visible()

    return visit


def visit_deletion(site: Site) -> None:
    invoice = Invoice(provider="cryptocloud", external_id=invoice_id("cryptocloud", 900))
    invoice.save()
    site.goto("invoice_cancel_invoice_delete", invoice.pk)


def visit_resume(**options: Any) -> Callable[[Site], None]:
    def visit(site: Site) -> None:
        site.pause("firekassa", **options)
        site.goto("invoice_cancel_invoice_resume", "firekassa")

    return visit


def visit_confirmation(count: int, kind: str, status: str = "created", **fields: Any) -> Callable[[Site], None]:
    return lambda site: site.open_operation(site.draft(count, kind, status, **fields))


def visit_confirmation_without_open_invoices(site: Site) -> None:
    site.open_operation(site.draft(3, "cancel", "in_doubt"))


def visit_confirmation_at_a_paused_provider(site: Site) -> None:
    site.pause("firekassa")
    site.open_operation(site.draft(30))


def visit_rejected_confirmation(site: Site) -> None:
    site.open_operation(site.draft(21, "resolve", "in_doubt", ("firekassa",)))
    site.window.confirm(decision="canceled", reason="seen in the dashboard", typed_count="20")
    expect(site.window.page.locator(".bo-field.errors").first).to_be_visible()


def visit_page_that_processes(site: Site) -> None:
    site.pause("firekassa", "cryptocloud")  # so that the page stays as it is
    site.open_operation(site.draft(4))
    site.window.confirm(reason="unpaid for a week")
    site.window.expect_state("running drive")


def visit_operation_of_another_page(site: Site) -> None:
    site.open_operation(site.running())
    site.window.expect_state("running watch")


def visit_paused_operation(site: Site) -> None:
    site.pause("firekassa", "cryptocloud")
    site.open_operation(site.running())
    expect(site.window.page.locator("#bo-sentence.bo-amber")).to_be_visible()


def visit_resume_of_an_operation(site: Site) -> None:
    site.pause("firekassa", "cryptocloud")
    site.open_operation(site.running(), query="?provider=firekassa", page="resume")


def visit_interrupted_operation(site: Site) -> None:
    operation = site.running()
    interrupt(operation)
    site.open_operation(operation)
    expect(site.window.page.locator("#bo-sentence.bo-amber")).to_be_visible()


def visit_stopped_operation(site: Site) -> None:
    operation = site.running()
    operation.stop("a colleague")
    site.open_operation(operation)
    expect(site.window.button("continue")).to_be_visible()


def visit_report(query: str = "") -> Callable[[Site], None]:
    def visit(site: Site) -> None:
        operation = site.draft(6, kind="cancel", reason="unpaid")
        later = site.draft(2)
        outcomes = [("canceled", "canceled"), ("in_doubt", "no_answer"), ("refused", "has_payment")]
        outcomes += [("not_processed", "rate_limited"), ("skipped", "not_permitted")]
        for pk, (outcome, code) in zip(operation.items.values_list("pk", flat=True), outcomes, strict=False):
            QuerySet(BulkOperationItem).filter(pk=pk).update(outcome=outcome, code=code, done_at=utc_now())
        operation.add_unmatched(f"order {number} without an invoice" for number in range(120))
        operation.confirm()
        operation.end("a colleague")
        BulkOperation.objects.filter(pk=later.pk).update(continues=operation)
        later.confirm()
        site.open_operation(operation, query)
        expect(site.window.page.locator(".bo-groups form").first).to_be_visible()

    return visit


def visit_operations(query: str = "") -> Callable[[Site], None]:
    def visit(site: Site) -> None:
        interrupt(site.running())
        site.goto("invoice_cancel_bulkoperation_changelist", query=query)

    return visit


VISITS: dict[str, dict[str, Callable[[Site], None]]] = {
    "invoice_cancel_invoice_changelist": {
        "empty": visit_empty_list,
        "with all notices": visit_list_with_all_notices,
        "filtered": visit_filtered_list,
        "requested cancellations": visit_list_of_requested_cancellations,
        "with a wrong date": visit_list_with_a_wrong_date,
    },
    "invoice_cancel_invoice_change": {
        **{status: visit_invoice(status, "cryptocloud") for status in SCENARIOS},
        "in doubt, no lookup": visit_invoice("in_doubt", "firekassa"),
        "contradicted": visit_contradicted_invoice,
        "provider paused": visit_invoice_of_a_paused_provider,
    },
    "invoice_cancel_invoice_add": {"": lambda site: site.goto("invoice_cancel_invoice_add")},
    "invoice_cancel_invoice_history": {"": lambda site: site.open_invoice("history", "paid_after_cancel")},
    "invoice_cancel_invoice_delete": {"": visit_deletion},
    "invoice_cancel_invoice_cancel": {
        "possible": lambda site: site.open_invoice("cancel"),
        "not possible": lambda site: site.open_invoice("cancel", "paid"),
        "provider paused": visit_cancel_at_a_paused_provider,
    },
    "invoice_cancel_invoice_check": {
        "lookup": lambda site: site.open_invoice("check", "in_doubt"),
        "repeat": lambda site: site.open_invoice("check", "in_doubt", "firekassa", age=timedelta(hours=2)),
    },
    "invoice_cancel_invoice_resolve": {
        "early": lambda site: site.open_invoice("resolve", "in_doubt"),
        "refused": lambda site: site.open_invoice("resolve", "refused", "firekassa"),
        "rejected": visit_rejected_answer("resolve", "in_doubt"),
    },
    "invoice_cancel_invoice_handled": {"rejected": visit_rejected_answer("handled", "paid_after_cancel")},
    "invoice_cancel_invoice_withdraw": {"": lambda site: site.open_invoice("withdraw", "requested")},
    "invoice_cancel_invoice_resume": {
        "paused": visit_resume(),
        "asked to wait": visit_resume(retry_after=200),
    },
    "invoice_cancel_bulkoperation_changelist": {
        "all": visit_operations(),
        "interrupted": visit_operations("?attention=interrupted"),
    },
    "invoice_cancel_bulkoperation_history": {"": lambda site: site.open_operation(site.running(), page="history")},
    "invoice_cancel_bulkoperation_operation": {
        "confirm a cancellation": visit_confirmation(30, "cancel"),
        "confirm a check": visit_confirmation(4, "check", "in_doubt"),
        "choose the provider of a decision": visit_confirmation(21, "resolve", "in_doubt"),
        "confirm decisions": visit_confirmation(21, "resolve", "in_doubt", aliases=("cryptocloud",)),
        "confirm, none is open": visit_confirmation_without_open_invoices,
        "confirm, provider paused": visit_confirmation_at_a_paused_provider,
        "draft of a colleague": visit_confirmation(2, "cancel", actor="a colleague"),
        "processed here": visit_page_that_processes,
        "processed elsewhere": visit_operation_of_another_page,
        "paused": visit_paused_operation,
        "interrupted": visit_interrupted_operation,
        "stopped": visit_stopped_operation,
        "report": visit_report(),
        "filtered report": visit_report("?outcome=skipped&page=2"),
    },
    "invoice_cancel_bulkoperation_resume": {"": visit_resume_of_an_operation},
    "invoice_cancel_bulkoperation_confirm": {"rejected": visit_rejected_confirmation},
}
"""How to reach each page in each of its situations, by the name of its URL."""


# -- the tests ----------------------------------------------------------------------------------------------------


def test_every_page_of_our_admin_classes_has_a_visit():
    ours = [admin.site.get_model_admin(model) for model in (Invoice, BulkOperation)]
    urls = [url for model_admin in ours for url in model_admin.get_urls()]
    names = {url.name for url in urls if isinstance(url, URLPattern) and url.name}
    assert names == VISITS.keys() | NOT_A_PAGE.keys()


@pytest.mark.browser
def test_axe_finds_no_violation_in_our_elements(open_window, clerk, sandbox, monkeypatch, record_property):
    from axe_playwright_python.base import AXE_SCRIPT

    for option in ("search_help_text", "show_full_result_count"):  # Django's list shows them as that of the invoices
        monkeypatch.setattr(UserAdmin, option, getattr(InvoiceAdmin, option))
    window = open_window(locale="en-US", bypass_csp=True)  # axe-core sets styles inline
    site = Site(window, clerk)
    djangos: dict[str, dict[str, list[str]]] = {}
    for name in STOCK_PAGES:
        site.goto(name, *([clerk.pk] if name.rpartition("_")[2] in ("change", "history", "delete") else []))
        for look, found in examine(window, AXE_SCRIPT):
            djangos.setdefault(f"{look}: {found['rule']}", {}).setdefault(name, []).append(found["target"])
    known = set(djangos)

    ours: list[str] = []
    for name, situations in VISITS.items():
        for situation, visit in situations.items():
            visit(site)
            for look, found in examine(window, AXE_SCRIPT):
                rule, page = f"{look}: {found['rule']}", f"{name} ({situation})"
                if found["isOurs"] or rule not in known:
                    ours.append(f"{page}, {rule}: {found['target']}: {found['summary']}")
                else:
                    djangos[rule].setdefault(page, []).append(found["target"])
            site.end_pauses()

    record_property("violations_in_elements_of_django", json.dumps(djangos))
    for rule, pages in sorted(djangos.items()):
        print(f"Django, {rule}: {len(pages)} pages, such as {next(iter(pages.items()))}")  # noqa: T201
    if ours:
        pytest.fail("\n".join(ours))
    assert sandbox.summary()["totals"] == {}


def examine(window: Window, axe_script: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the violations on the page that is open, with the look in which each was found."""
    page = window.page
    page.evaluate(axe_script)
    violations = []
    for look, (scheme, width) in LOOKS.items():
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size({"width": width, "height": 800})
        violations += [(look, found) for found in page.evaluate(AXE, CONTAINERS)]
    return violations
