"""Pages, dry run, single call and bulk run make the same decision about each invoice.

The cases are the product of the invoice's state, the kind of provider account, the form of the stored id and the
action. ``TABLE`` contains the expected code for each case: the reason why the action is not done, or ``""`` if it is
done.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
import responses
from django.contrib.admin import site
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.urls import reverse

from django_invoice_cancel import services
from django_invoice_cancel.admin.invoices.available_actions import AvailableActions
from django_invoice_cancel.admin.operations import follow_up, report
from django_invoice_cancel.admin.operations.preview import Preview
from django_invoice_cancel.admin.scope import InvoiceScope, OperationScope
from django_invoice_cancel.bulk import reconcile_invoices
from django_invoice_cancel.bulk.start import make_readers, preview_selection
from django_invoice_cancel.domain.audit import AuditContext
from django_invoice_cancel.domain.claims import Answer
from django_invoice_cancel.domain.clock import utc_now
from django_invoice_cancel.domain.outcomes import Code, Outcome, ProviderReply
from django_invoice_cancel.domain.statuses import Status
from django_invoice_cancel.exceptions import ResolveNotPossible
from django_invoice_cancel.labels.results import CODE_COUNTS, CODE_TEXTS
from django_invoice_cancel.models import BulkOperation, Invoice
from django_invoice_cancel.operations import advance
from django_invoice_cancel.testing import ScriptedProvider, make_invoice
from tests.support.html import page_text
from tests.support.invoices import set_columns
from tests.support.newer import newer_schema, set_newer_status

pytestmark = pytest.mark.django_db

BACKEND = "django_invoice_cancel.testing.ScriptedProvider"
ACCOUNTS: dict[str, dict[str, Any]] = {
    "looks_up": {},
    "repeats": {"supports_lookup": False, "is_repeat_harmless": True},
    "neither": {"supports_lookup": False},
}
"""``unknown`` is the fourth account: an alias that is not configured."""
ALIASES = (*ACCOUNTS, "unknown")
LONG_AGO = timedelta(days=2)

TABLE = """
wanted   state          looks_up              repeats               neither               unknown
cancel   created        -                     -                     -                     misconfigured
cancel   refused        -                     -                     -                     misconfigured
cancel   requested      -                     -                     -                     misconfigured
cancel   canceling      in_progress           in_progress           in_progress           in_progress
cancel   abandoned      in_doubt              in_doubt              in_doubt              in_doubt
cancel   abandoned_old  in_doubt              in_doubt              in_doubt              in_doubt
cancel   in_doubt       in_doubt              in_doubt              in_doubt              in_doubt
cancel   in_doubt_old   in_doubt              in_doubt              in_doubt              in_doubt
cancel   withdrawn      in_doubt              in_doubt              in_doubt              in_doubt
cancel   repeated       in_doubt              in_doubt              in_doubt              in_doubt
cancel   canceled       already_canceled      already_canceled      already_canceled      already_canceled
cancel   contradicted   already_canceled      already_canceled      already_canceled      already_canceled
cancel   partially_paid has_payment           has_payment           has_payment           has_payment
cancel   paid           has_payment           has_payment           has_payment           has_payment
cancel   overpaid       has_payment           has_payment           has_payment           has_payment
cancel   expired        closed                closed                closed                closed
cancel   failed         closed                closed                closed                closed
cancel   newer          newer_status          newer_status          newer_status          newer_status
cancel   late_money     has_payment           has_payment           has_payment           has_payment
cancel   handled        has_payment           has_payment           has_payment           has_payment

check    created        -                     no_lookup             no_lookup             misconfigured
check    refused        -                     no_lookup             no_lookup             misconfigured
check    requested      -                     no_lookup             no_lookup             misconfigured
check    canceling      in_progress           in_progress           in_progress           in_progress
check    abandoned      -                     no_lookup             no_lookup             misconfigured
check    abandoned_old  -                     no_lookup             no_lookup             misconfigured
check    in_doubt       -                     no_lookup             no_lookup             misconfigured
check    in_doubt_old   -                     no_lookup             no_lookup             misconfigured
check    withdrawn      -                     no_lookup             no_lookup             misconfigured
check    repeated       -                     no_lookup             no_lookup             misconfigured
check    canceled       -                     already_canceled      already_canceled      misconfigured
check    contradicted   -                     contradictory_answer  contradictory_answer  misconfigured
check    partially_paid -                     has_payment           has_payment           misconfigured
check    paid           -                     has_payment           has_payment           misconfigured
check    overpaid       -                     has_payment           has_payment           misconfigured
check    expired        -                     closed                closed                misconfigured
check    failed         -                     closed                closed                misconfigured
check    newer          newer_status          newer_status          newer_status          newer_status
check    late_money     -                     has_payment           has_payment           misconfigured
check    handled        -                     has_payment           has_payment           misconfigured

repeat   created        -                     no_lookup             no_lookup             misconfigured
repeat   refused        -                     no_lookup             no_lookup             misconfigured
repeat   requested      -                     no_lookup             no_lookup             misconfigured
repeat   canceling      in_progress           in_progress           in_progress           in_progress
repeat   abandoned      -                     doubt_period          no_lookup             misconfigured
repeat   abandoned_old  -                     -                     no_lookup             misconfigured
repeat   in_doubt       -                     doubt_period          no_lookup             misconfigured
repeat   in_doubt_old   -                     -                     no_lookup             misconfigured
repeat   withdrawn      -                     withdrawn             no_lookup             misconfigured
repeat   repeated       -                     too_many_repeats      no_lookup             misconfigured
repeat   canceled       -                     already_canceled      already_canceled      misconfigured
repeat   contradicted   -                     contradictory_answer  contradictory_answer  misconfigured
repeat   partially_paid -                     has_payment           has_payment           misconfigured
repeat   paid           -                     has_payment           has_payment           misconfigured
repeat   overpaid       -                     has_payment           has_payment           misconfigured
repeat   expired        -                     closed                closed                misconfigured
repeat   failed         -                     closed                closed                misconfigured
repeat   newer          newer_status          newer_status          newer_status          newer_status
repeat   late_money     -                     has_payment           has_payment           misconfigured
repeat   handled        -                     has_payment           has_payment           misconfigured

resolve  created        not_in_doubt          not_in_doubt          not_in_doubt          not_in_doubt
resolve  refused        not_in_doubt          -                     -                     not_in_doubt
resolve  requested      not_in_doubt          not_in_doubt          not_in_doubt          not_in_doubt
resolve  canceling      not_in_doubt          not_in_doubt          not_in_doubt          not_in_doubt
resolve  abandoned      -                     -                     -                     -
resolve  abandoned_old  -                     -                     -                     -
resolve  in_doubt       -                     -                     -                     -
resolve  in_doubt_old   -                     -                     -                     -
resolve  withdrawn      -                     -                     -                     -
resolve  repeated       -                     -                     -                     -
resolve  canceled       not_in_doubt          not_in_doubt          not_in_doubt          not_in_doubt
resolve  contradicted   -                     -                     -                     -
resolve  partially_paid not_in_doubt          not_in_doubt          not_in_doubt          not_in_doubt
resolve  paid           not_in_doubt          not_in_doubt          not_in_doubt          not_in_doubt
resolve  overpaid       not_in_doubt          not_in_doubt          not_in_doubt          not_in_doubt
resolve  expired        not_in_doubt          not_in_doubt          not_in_doubt          not_in_doubt
resolve  failed         not_in_doubt          not_in_doubt          not_in_doubt          not_in_doubt
resolve  newer          newer_status          newer_status          newer_status          newer_status
resolve  late_money     not_in_doubt          not_in_doubt          not_in_doubt          not_in_doubt
resolve  handled        not_in_doubt          not_in_doubt          not_in_doubt          not_in_doubt

handled  created        no_late_money         no_late_money         no_late_money         no_late_money
handled  refused        no_late_money         no_late_money         no_late_money         no_late_money
handled  requested      no_late_money         no_late_money         no_late_money         no_late_money
handled  canceling      no_late_money         no_late_money         no_late_money         no_late_money
handled  abandoned      no_late_money         no_late_money         no_late_money         no_late_money
handled  abandoned_old  no_late_money         no_late_money         no_late_money         no_late_money
handled  in_doubt       no_late_money         no_late_money         no_late_money         no_late_money
handled  in_doubt_old   no_late_money         no_late_money         no_late_money         no_late_money
handled  withdrawn      no_late_money         no_late_money         no_late_money         no_late_money
handled  repeated       no_late_money         no_late_money         no_late_money         no_late_money
handled  canceled       no_late_money         no_late_money         no_late_money         no_late_money
handled  contradicted   no_late_money         no_late_money         no_late_money         no_late_money
handled  partially_paid no_late_money         no_late_money         no_late_money         no_late_money
handled  paid           no_late_money         no_late_money         no_late_money         no_late_money
handled  overpaid       no_late_money         no_late_money         no_late_money         no_late_money
handled  expired        no_late_money         no_late_money         no_late_money         no_late_money
handled  failed         no_late_money         no_late_money         no_late_money         no_late_money
handled  newer          newer_status          newer_status          newer_status          newer_status
handled  late_money     -                     -                     -                     -
handled  handled        handled               handled               handled               handled
"""
ASKS_A_PROVIDER = ("cancel", "check", "repeat")
STORED = {"cancel": "cancel", "repeat": "check", "resolve": "resolve"}
"""The stored operation that does it. A stored check repeats the cancel request at accounts without lookup."""
BUTTONS = {
    "cancel": ("cancel", "Cancel"),
    "repeat": ("check", "Check with provider"),
    "resolve": ("resolve", "Resolve …"),
    "handled": ("handled", "Mark as handled"),
}
"""The page of an invoice that does it, and the label of its button."""


def cells() -> Iterator[Any]:
    """Yield each cell with its expected code: wanted, state, account, whether the id is stored well."""
    heads, *lines = (line.split() for line in TABLE.splitlines() if line.strip())
    for wanted, state, *codes in lines:
        for alias, found in zip(heads[2:], codes, strict=True):
            code = "" if found == "-" else found
            marks = pytest.mark.django_db(transaction=True) if state == "newer" else ()
            yield pytest.param(wanted, state, alias, True, code, id=f"{wanted}-{state}-{alias}-good id", marks=marks)
            if not code and wanted in ASKS_A_PROVIDER:
                code = "misconfigured"
            name = f"{wanted}-{state}-{alias}-misstored id"
            yield pytest.param(wanted, state, alias, False, code, id=name, marks=marks)


_numbers = count(1)
_INTENT = AuditContext("ada")


def _repeat_in_vain(invoice: Invoice) -> None:
    for _time in range(3):
        claim = invoice._writer.claim([invoice], _INTENT, before=Status.IN_DOUBT, unless_paused=False)
        invoice._writer.record([Answer(claim, invoice, ProviderReply(Outcome.IN_DOUBT, Code.NO_ANSWER), 1)])
    set_columns(invoice, claim_expires_at=utc_now() - LONG_AGO)


def _withdraw(invoice: Invoice) -> None:
    set_columns(invoice, cancel_requested_at=utc_now())
    invoice.refresh_from_db()
    invoice.withdraw(actor="ada")


def _contradict(invoice: Invoice) -> None:
    set_columns(invoice, contradicted_at=utc_now())


def _handle(invoice: Invoice) -> None:
    invoice.mark_handled(actor="ada", note="paid back")


STATES: dict[str, tuple[str, timedelta, Any]] = {
    "abandoned_old": ("abandoned", LONG_AGO, None),
    "in_doubt_old": ("in_doubt", LONG_AGO, None),
    "withdrawn": ("in_doubt", LONG_AGO, _withdraw),
    "repeated": ("in_doubt", LONG_AGO, _repeat_in_vain),
    "contradicted": ("canceled", LONG_AGO, _contradict),
    "newer": ("created", timedelta(), set_newer_status),
    "late_money": ("paid_after_cancel", timedelta(), None),
    "handled": ("paid_after_cancel", timedelta(), _handle),
}
"""How an invoice gets into a state that is not the name of one for ``make_invoice``."""


@pytest.fixture(autouse=True)
def accounts(settings: Any) -> None:
    options = {alias: {"BACKEND": BACKEND, "OPTIONS": given} for alias, given in ACCOUNTS.items()}
    settings.INVOICE_CANCEL = {**settings.INVOICE_CANCEL, "PROVIDERS": options}


@pytest.fixture
def database_of(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Let rows have a status of a newer version, in the cells that need it."""
    with ExitStack() as stack:
        yield lambda state: stack.enter_context(newer_schema()) if state == "newer" else None


@pytest.fixture
def request_of_boss(rf: RequestFactory) -> Any:
    request = rf.get("/")
    request.user = User.objects.create_superuser("boss")
    return request


def made(state: str, alias: str, is_normalized_id: bool) -> Invoice:
    """Return an invoice of the table."""
    kind, age, afterwards = STATES.get(state, (state, timedelta(), None))
    invoice = make_invoice(kind, age=age, provider="looks_up")
    if afterwards is not None:
        afterwards(invoice)
    set_columns(invoice, provider=alias, **({} if is_normalized_id else {"external_id": f"inv {next(_numbers)}"}))
    return Invoice.objects.get(pk=invoice.pk)


def asked() -> tuple[int, int]:
    """Return how many cancel requests and lookups reached the providers."""
    providers = [ScriptedProvider.of(alias) for alias in ACCOUNTS]
    return sum(each.cancel_count for each in providers), sum(each.lookup_count for each in providers)


def scope_of(operation: BulkOperation, request: Any) -> OperationScope:
    return OperationScope(InvoiceScope.of(site, request), operation)


def draft_of(invoice: Invoice, wanted: str, request: Any, **fields: Any) -> BulkOperation:
    chosen = Invoice.objects.filter(pk=invoice.pk)
    return BulkOperation.objects.draft(chosen, operation=STORED[wanted], actor=request.user, reason="old", **fields)


# -- what each place answers ----------------------------------------------------------------------------------------


def by_page(preview: Preview) -> str:
    """Return why the confirmation page leaves the one invoice out; empty if it would be done."""
    assert preview.count + preview.left_out_count == 1
    assert len(preview.sample.examples) == preview.count
    assert [len(each.examples) for each in preview.left_out_groups()] == [1] * preview.left_out_count
    return "" if preview.count else preview.left_out_codes.pop()


def by_dry_run(invoice: Invoice, wanted: str) -> str:
    readers = make_readers(Invoice.objects.filter(pk=invoice.pk))
    (result,) = preview_selection(readers, wanted=wanted)
    return "" if result.code == "dry_run" else result.code


def by_single_call(invoice: Invoice, wanted: str) -> str:
    """Do it; return the code of why it was not done."""
    before = asked()
    try:
        if wanted == "cancel":
            code = services.cancel_invoice(invoice).code
        elif wanted in ("check", "repeat"):
            code = services.reconcile_invoice(invoice, resubmit=wanted == "repeat").code
        elif wanted == "resolve":
            invoice.resolve("expired", actor="ada", reason="seen")
            return ""
        else:
            return "" if invoice.mark_handled(actor="ada", note="seen") else "handled"
    except ResolveNotPossible as error:
        return error.code
    return code if asked() == before else ""


def by_run(invoice: Invoice, wanted: str, operation: BulkOperation | None) -> str:
    """Do it in bulk; return the code of why it was not done."""
    before = asked()
    if operation is None:
        (result,) = reconcile_invoices(Invoice.objects.filter(pk=invoice.pk))
        code = result.code
    else:
        operation.confirm()
        advance(operation.pk)
        code = operation.items.get().code
    is_done = code == "resolved" if wanted == "resolve" else asked() != before
    return "" if is_done else code


def follow_ups(operation: BulkOperation, request: Any) -> list[Preview]:
    """Return the confirmation pages to which the buttons of an operation's report lead."""
    scope = scope_of(operation, request)
    found = []
    for group in report.build_groups(scope, lambda step: True):
        if group.step is not None:
            items = follow_up.select_items(scope, group.outcome, group.code, group.provider)
            found.append(Preview(scope_of(follow_up.create_draft(scope, group.step, items), request)))
    return found


# -- the cells ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wanted", "state", "alias", "is_normalized_id", "code"), list(cells()))
def test_pages_dry_run_call_and_run_agree(
    wanted: str, state: str, alias: str, is_normalized_id: bool, code: str, database_of: Any, request_of_boss: Any
) -> None:
    database_of(state)
    one, other = made(state, alias, is_normalized_id), made(state, alias, is_normalized_id)
    status = other.status
    draft = (
        draft_of(other, wanted, request_of_boss, decision="expired" if wanted == "resolve" else "")
        if (wanted in STORED)
        else None
    )
    answers: dict[str, str] = {}
    if draft is not None:
        preview = Preview(scope_of(draft, request_of_boss))
        answers["page"] = by_page(preview)
        if follow_up.find_check_step(preview) is not None:
            items = follow_up.select_items(preview.scope, "", "in_doubt", "")
            doubtful = follow_up.create_draft(preview.scope, follow_up.find_check_step(preview), items)
            assert Preview(scope_of(doubtful, request_of_boss)).count == 1
    if wanted in ASKS_A_PROVIDER:
        answers["dry run"] = by_dry_run(other, wanted)
    if wanted in BUTTONS:
        page, label = BUTTONS[wanted]
        available = AvailableActions(site.get_model_admin(Invoice), request_of_boss, one)
        assert bool(available.find_obstacle(page)) == bool(code)
        assert (label in [button.label for button in available.buttons()]) == (not code)
    assert asked() == (0, 0)
    assert Invoice.objects.get(pk=other.pk).status == status

    answers["call"] = by_single_call(one, wanted)
    of_call = asked()
    if wanted != "handled":
        answers["run"] = by_run(other, wanted, draft)
    of_both = asked()
    if draft is not None:
        assert all(preview.count == 1 for preview in follow_ups(draft, request_of_boss))

    assert answers == dict.fromkeys(answers, code)
    is_repeat = wanted == "repeat" and alias == "repeats"
    once = (0, 0)
    if wanted in ASKS_A_PROVIDER and not code:
        once = (1, 0) if wanted == "cancel" or is_repeat else (0, 1)
    assert of_call == once
    assert of_both == (2 * once[0], 2 * once[1])
    assert asked() == of_both
    rows = {Invoice.objects.get(pk=invoice.pk).status for invoice in (one, other)}
    if code:
        # A check leaves an abandoned claim in doubt; a draft leaves a misstored id out, and its invoice as it is.
        is_moved = state.startswith("abandoned") and wanted in ("check", "repeat")
        is_left_out = draft is not None and code == "misconfigured" and alias != "unknown"
        assert rows == ({"in_doubt"} if is_moved else set()) | ({status} if is_left_out or not is_moved else set())
    elif wanted == "cancel" or is_repeat:
        assert rows == {"canceled"}
    elif wanted == "resolve":
        assert rows == {"expired"}


def test_each_reason_has_a_label() -> None:
    codes = {code.values[4] for code in cells()} | {"sending_disabled", "provider_paused"}
    assert codes - {""} <= {*CODE_TEXTS, "handled"}
    counted = {code.values[4] for code in cells() if code.values[0] in STORED} | {"sending_disabled"}
    assert counted - {""} <= set(CODE_COUNTS)
    assert asked() == (0, 0)
    assert Invoice.objects.count() == 0


# -- rows that change in between ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"status": "paid"}, "has_payment"),
        ({"status": "in_doubt"}, "in_doubt"),
        ({"status": "canceled"}, "already_canceled"),
        ({"external_id": "inv aaaa"}, "misconfigured"),
        ({"provider": "repeats"}, "changed"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value,
)
def test_run_reports_what_changed_after_the_page(request_of_boss: Any, columns: dict[str, str], code: str) -> None:
    invoice = make_invoice("created", provider="looks_up")
    draft = draft_of(invoice, "cancel", request_of_boss)
    assert Preview(scope_of(draft, request_of_boss)).count == 1
    set_columns(invoice, **columns)
    draft.confirm()
    advance(draft.pk)
    assert draft.items.get().code == code
    assert asked() == (0, 0)
    assert Invoice.objects.get().status == columns.get("status", "created")


def test_pause_leaves_no_invoice_out_and_the_page_says_until_when(request_of_boss: Any) -> None:
    invoice = make_invoice("created", provider="looks_up")
    invoice._writer.pause("looks_up", "rate_limited", 600)
    preview = Preview(scope_of(draft_of(invoice, "cancel", request_of_boss), request_of_boss))
    assert preview.count == 1
    assert preview.left_out_count == 0
    assert "is paused until" in preview.warnings[0]
    assert by_dry_run(invoice, "cancel") == ""
    assert services.cancel_invoice(invoice).code == "provider_paused"
    available = AvailableActions(site.get_model_admin(Invoice), request_of_boss, invoice)
    assert "is paused until" in available.cancel_obstacle
    preview.draft.confirm()
    assert advance(preview.draft.pk).wait_seconds > 500
    assert preview.draft.items.get().outcome == ""
    assert asked() == (0, 0)
    assert Invoice.objects.get().status == "created"


def momentary(alias: str) -> dict[str, Any]:
    raise TimeoutError


def test_configuration_that_cannot_be_read_now_leaves_no_invoice_out(settings: Any, request_of_boss: Any) -> None:
    invoice = make_invoice("created", provider="looks_up")
    settings.INVOICE_CANCEL = {"PROVIDERS": {}, "PROVIDER_RESOLVER": f"{__name__}.momentary"}
    preview = Preview(scope_of(draft_of(invoice, "cancel", request_of_boss), request_of_boss))
    assert preview.count == 1
    assert preview.left_out_count == 0
    assert "could not be read" in preview.warnings[0]
    assert by_dry_run(invoice, "cancel") == "configuration_unavailable"
    assert services.cancel_invoice(invoice).code == "configuration_unavailable"
    preview.draft.confirm()
    assert advance(preview.draft.pk).has_more
    assert preview.draft.items.get().outcome == ""
    assert Invoice.objects.get().status == "created"


# -- ids ------------------------------------------------------------------------------------------------------------


@responses.activate
def test_page_leaves_out_an_id_that_cryptocloud_would_not_be_asked_about(settings: Any, admin_client: Client) -> None:
    backend = "django_invoice_cancel.providers.cryptocloud.CryptoCloud"
    settings.INVOICE_CANCEL = {"PROVIDERS": {"cryptocloud": {"BACKEND": backend, "OPTIONS": {"api_key": "invented"}}}}
    url = "https://api.cryptocloud.plus/v2/invoice/merchant/canceled"
    responses.post(url, json={"status": "success", "result": ["ok"]})
    ids = ("INV-89UX09KA", "inv aaaa", "inv-89ux09kb")
    rows = Invoice.objects.bulk_create(Invoice(provider="cryptocloud", external_id=each) for each in ids)
    data = {"action": "cancel_selected_invoices", "_selected_action": [row.pk for row in rows]}
    address = admin_client.post(reverse("admin:invoice_cancel_invoice_changelist"), data)["Location"]
    shown = page_text(admin_client.get(address))
    assert "<h1>Cancel 1 invoice?</h1>" in shown
    assert "2 with providers that are not configured, or with invalid ids" in shown
    admin_client.post(f"{address}confirm/", {"reason": ""})
    operation = BulkOperation.objects.get()
    advance(operation.pk)
    codes = dict(operation.items.values_list("invoice__external_id", "code"))
    assert codes == {ids[0]: "canceled", ids[1]: "misconfigured", ids[2]: "misconfigured"}
    assert len(responses.calls) == 1
    assert dict(Invoice.objects.values_list("external_id", "status")) == {
        ids[0]: "canceled",
        ids[1]: "created",
        ids[2]: "created",
    }


def test_invoice_that_may_not_be_touched_is_reported_so_whatever_its_id_is(request_of_boss: Any) -> None:
    invoice = made("created", "looks_up", False)
    draft = draft_of(invoice, "cancel", request_of_boss, not_permitted=[invoice.pk])
    assert draft.items.get().code == "not_permitted"
    assert asked() == (0, 0)
    assert Invoice.objects.get().status == "created"
