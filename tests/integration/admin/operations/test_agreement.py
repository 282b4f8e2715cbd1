"""Pages, dry run, single call and bulk run make the same decision about each invoice.

The cases are the product of the invoice's state, the kind of provider account, the form of the stored id and the
action. ``TABLE`` contains the expected code for each case: the reason why the action is not done, or ``""`` if it is
done.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
import responses
from django.contrib.admin import site
from django.contrib.auth.models import User
from django.db.models import QuerySet
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
from django_invoice_cancel.labels.results import CODE_COUNTS, CODE_TEXTS, describe_count
from django_invoice_cancel.models import BulkOperation, Invoice, InvoiceTransition
from django_invoice_cancel.operations import advance
from django_invoice_cancel.testing import ScriptedProvider, make_invoice
from tests.support.html import page_text
from tests.support.invoices import set_columns
from tests.support.newer import newer_schema, set_newer_status
from tests.support.operations import advance_slice

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
    "cancel": ("cancel", ("Cancel", "Cancel now")),
    "repeat": ("check", ("Check with provider",)),
    "resolve": ("resolve", ("Resolve…", "Record what the provider shows…")),
    "handled": ("handled", ("Mark as handled",)),
}
"""The page of an invoice that does it, and the labels of its button."""


def read_table() -> Iterator[tuple[str, str, str, str]]:
    """Yield the action, the state, the account and the expected code of each entry of the table."""
    heads, *lines = (line.split() for line in TABLE.splitlines() if line.strip())
    for wanted, state, *codes in lines:
        for alias, code in zip(heads[2:], codes, strict=True):
            yield wanted, state, alias, "" if code == "-" else code


@dataclass
class Case:
    """An invoice of the table; ``other`` is a second one like it, because a call and a run change their invoice."""

    name: str
    state: str
    code: str
    """The expected code: why the action is not done, or ``""`` if it is done."""
    invoice: Invoice
    other: Invoice


_numbers = count(1)
_INTENT = AuditContext("ada")


def _repeat_without_success(invoice: Invoice) -> None:
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
    "repeated": ("in_doubt", LONG_AGO, _repeat_without_success),
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
def newer_statuses(transactional_db: None) -> Iterator[None]:
    """Let rows have a status of a newer version."""
    with newer_schema():
        yield


@pytest.fixture
def superuser_request(rf: RequestFactory) -> Any:
    request = rf.get("/")
    request.user = User.objects.create_superuser("superuser")
    return request


def make_in_state(state: str) -> Invoice:
    """Return an invoice in a state of the table."""
    kind, age, afterwards = STATES.get(state, (state, timedelta(), None))
    invoice = make_invoice(kind, age=age, provider="looks_up")
    if afterwards is not None:
        afterwards(invoice)
    return Invoice.objects.get(pk=invoice.pk)


def make_cases(wanted: str, alias: str) -> list[Case]:
    """Store the invoices of one action and account: each state, with a well stored id and with a misstored one."""
    entries = [(state, code) for each, state, name, code in read_table() if (each, name) == (wanted, alias)]
    found = []
    for state, code in entries:
        original = make_in_state(state)
        for id_form, pattern in (("good id", "inv-{}"), ("misstored id", "inv {}")):
            copies = [copy_of(original, alias, pattern.format(next(_numbers))) for _each in range(2)]
            needs_provider = not code and wanted in ASKS_A_PROVIDER
            expected = "misconfigured" if needs_provider and id_form == "misstored id" else code
            found.append(Case(f"{state}, {id_form}", state, expected, *copies))
        QuerySet(InvoiceTransition).filter(invoice=original).delete()
        QuerySet(Invoice).filter(pk=original.pk).delete()
    return found


def copy_of(original: Invoice, alias: str, external_id: str) -> Invoice:
    """Store a copy of an invoice and of its log, past everything that guards them."""
    log = InvoiceTransition.objects.filter(invoice=original).order_by("pk")
    fields = [field.attname for field in Invoice._meta.concrete_fields if not field.primary_key]
    values = {name: getattr(original, name) for name in fields}
    QuerySet(Invoice).bulk_create([Invoice(**values | {"provider": alias, "external_id": external_id})])
    copy = Invoice.objects.get(external_id=external_id)
    columns = [field.attname for field in InvoiceTransition._meta.concrete_fields if not field.primary_key]
    rows = [{name: getattr(row, name) for name in columns} | {"invoice_id": copy.pk} for row in log]
    QuerySet(InvoiceTransition).bulk_create([InvoiceTransition(**row) for row in rows])
    return copy


def asked(external_id: str = "") -> tuple[int, int]:
    """Return the number of cancel requests and of lookups; with an id, of the lookups that contain it."""
    providers = [ScriptedProvider.of(alias) for alias in ACCOUNTS]
    if not external_id:
        return sum(each.cancel_count for each in providers), sum(each.lookup_count for each in providers)
    lookups = [ids for each in providers for ids in each.lookups]
    return sum(each.cancels.count(external_id) for each in providers), sum(ids.count(external_id) for ids in lookups)


def scope_of(operation: BulkOperation, request: Any) -> OperationScope:
    return OperationScope(InvoiceScope.of(site, request), operation)


def draft_of(invoices: list[Invoice], wanted: str, request: Any, **fields: Any) -> BulkOperation:
    return BulkOperation.objects.draft(
        select(invoices), operation=STORED[wanted], actor=request.user, reason="old", **fields
    )


def select(invoices: list[Invoice]) -> Any:
    return Invoice.objects.filter(pk__in=[invoice.pk for invoice in invoices])


# -- what each place answers ----------------------------------------------------------------------------------------


def by_page(preview: Preview) -> dict[str, str]:
    """Return why the confirmation page leaves an invoice out, by external id; empty if it would be done."""
    groups = list(preview.left_out_groups())
    assert len(preview.sample.examples) == preview.count
    assert sum(len(group.examples) for group in groups) == preview.left_out_count
    codes = {item.invoice.external_id: "" for item in preview.sample.examples}
    for group in groups:
        size = len(group.examples)
        (code,) = [code for code in preview.left_out_codes if str(describe_count(code, size)) == str(group.text)]
        codes |= {item.invoice.external_id: code for item in group.examples}
    return codes


def by_dry_run(invoices: list[Invoice], wanted: str) -> dict[str, str]:
    results = preview_selection(make_readers(select(invoices)), wanted=wanted)
    return {result.external_id: "" if result.code == "dry_run" else result.code for result in results}


def by_single_call(invoice: Invoice, wanted: str) -> str:
    """Do it; return the code of why it was not done."""
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
    return code if asked(invoice.external_id) == (0, 0) else ""


def by_run(invoices: list[Invoice], wanted: str, operation: BulkOperation | None) -> dict[str, str]:
    """Do it in bulk; return the code of why it was not done, by external id."""
    if operation is None:
        codes = {result.external_id: result.code for result in reconcile_invoices(select(invoices))}
    else:
        operation.confirm()
        advance_slice(operation.pk)
        codes = dict(operation.items.values_list("invoice__external_id", "code"))
    if wanted == "resolve":
        return {external_id: "" if code == "resolved" else code for external_id, code in codes.items()}
    return {external_id: code if asked(external_id) == (0, 0) else "" for external_id, code in codes.items()}


def check_follow_up(scope: OperationScope, step: Any, items: Any) -> None:
    """Check that the page of a follow-up would process the items for which alone it would be offered."""
    feasible = {item.invoice_id for item in items if follow_up.is_feasible(items.filter(pk=item.pk), step)}
    preview = Preview(scope_of(follow_up.create_draft(scope, step, items), scope.invoice_scope.request))
    assert {item.invoice_id for item in preview.sample.examples} == feasible, f"{step} of {list(items)}"
    assert preview.count == len(feasible) > 0


def check_report(operation: BulkOperation, request: Any) -> None:
    """Check the pages to which the buttons of an operation's report lead."""
    scope = scope_of(operation, request)
    for group in report.build_groups(scope, lambda step: True):
        if group.step is not None:
            items = follow_up.select_items(scope, group.outcome, group.code, group.provider)
            check_follow_up(scope, group.step, items)


# -- the table ------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize("wanted", ["cancel", "check", "repeat", "resolve", "handled"])
def test_pages_dry_run_call_and_run_agree(
    wanted: str, alias: str, newer_statuses: None, superuser_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_invoice_cancel.admin.operations.preview.SAMPLE_SIZE", 1000)
    cases = make_cases(wanted, alias)
    others = [case.other for case in cases]
    names = {invoice.external_id: case.name for case in cases for invoice in (case.invoice, case.other)}
    draft = None
    answers: dict[str, dict[str, str]] = {}
    if wanted in STORED:
        draft = draft_of(others, wanted, superuser_request, decision="expired" if wanted == "resolve" else "")
        preview = Preview(scope_of(draft, superuser_request))
        answers["page"] = by_page(preview)
        step = follow_up.find_check_step(preview)
        if step is not None:
            check_follow_up(preview.scope, step, follow_up.select_items(preview.scope, "", "in_doubt", ""))
    if wanted in ASKS_A_PROVIDER:
        answers["dry run"] = by_dry_run(others, wanted)
    if wanted in BUTTONS:
        page, labels = BUTTONS[wanted]
        for case in cases:
            available = AvailableActions(site.get_model_admin(Invoice), superuser_request, case.invoice)
            assert bool(available.explain_obstacle(page)) == bool(case.code), case.name
            assert any(button.label in labels for button in available.buttons()) == (not case.code), case.name
    assert asked() == (0, 0)
    for case in cases:
        assert Invoice.objects.get(pk=case.other.pk).status == case.other.status, case.name

    calls = {case.name: by_single_call(case.invoice, wanted) for case in cases}
    if wanted != "handled":
        answers["run"] = by_run(others, wanted, draft)
    if draft is not None:
        check_report(draft, superuser_request)

    expected = {case.name: case.code for case in cases}
    assert calls == expected
    for place, codes in answers.items():
        assert {names[external_id]: code for external_id, code in codes.items()} == expected, place
    is_repeat = wanted == "repeat" and alias == "repeats"
    for case in cases:
        once = (0, 0)
        if wanted in ASKS_A_PROVIDER and not case.code:
            once = (1, 0) if wanted == "cancel" or is_repeat else (0, 1)
        assert asked(case.invoice.external_id) == once, case.name
        assert asked(case.other.external_id) == (once if wanted != "handled" else (0, 0)), case.name
        check_rows(case, wanted, alias, is_repeat=is_repeat, is_stored_operation=draft is not None)


def check_rows(case: Case, wanted: str, alias: str, *, is_repeat: bool, is_stored_operation: bool) -> None:
    status = case.other.status
    rows = {Invoice.objects.get(pk=invoice.pk).status for invoice in (case.invoice, case.other)}
    if case.code:
        # A check leaves an abandoned claim in doubt; a draft leaves a misstored id out, and its invoice as it is.
        is_moved = case.state.startswith("abandoned") and wanted in ("check", "repeat")
        is_left_out = is_stored_operation and case.code == "misconfigured" and alias != "unknown"
        expected = ({"in_doubt"} if is_moved else set()) | ({status} if is_left_out or not is_moved else set())
        assert rows == expected, case.name
    elif wanted == "cancel" or is_repeat:
        assert rows == {"canceled"}, case.name
    elif wanted == "resolve":
        assert rows == {"expired"}, case.name


def test_each_reason_has_a_label() -> None:
    codes = {code for _wanted, _state, _alias, code in read_table()} | {"sending_disabled", "provider_paused"}
    assert codes - {""} <= {*CODE_TEXTS, "handled"}
    counted = {code for wanted, _state, _alias, code in read_table() if wanted in STORED} | {"sending_disabled"}
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
def test_run_reports_what_changed_after_the_page(superuser_request: Any, columns: dict[str, str], code: str) -> None:
    invoice = make_invoice("created", provider="looks_up")
    draft = draft_of([invoice], "cancel", superuser_request)
    assert Preview(scope_of(draft, superuser_request)).count == 1
    set_columns(invoice, **columns)
    draft.confirm()
    advance(draft.pk)
    assert draft.items.get().code == code
    assert asked() == (0, 0)
    assert Invoice.objects.get().status == columns.get("status", "created")


def test_pause_excludes_no_invoice_and_the_page_shows_its_end(superuser_request: Any) -> None:
    invoice = make_invoice("created", provider="looks_up")
    invoice._writer.pause("looks_up", "rate_limited", 600)
    preview = Preview(scope_of(draft_of([invoice], "cancel", superuser_request), superuser_request))
    assert preview.count == 1
    assert preview.left_out_count == 0
    assert "is paused until" in preview.warnings[0]
    assert by_dry_run([invoice], "cancel") == {invoice.external_id: ""}
    assert services.cancel_invoice(invoice).code == "provider_paused"
    available = AvailableActions(site.get_model_admin(Invoice), superuser_request, invoice)
    assert "is paused until" in available.cancel_obstacle
    preview.draft.confirm()
    assert advance(preview.draft.pk).wait_seconds > 500
    assert preview.draft.items.get().outcome == ""
    assert asked() == (0, 0)
    assert Invoice.objects.get().status == "created"


def momentary(alias: str) -> dict[str, Any]:
    raise TimeoutError


def test_configuration_that_cannot_be_read_now_leaves_no_invoice_out(settings: Any, superuser_request: Any) -> None:
    invoice = make_invoice("created", provider="looks_up")
    settings.INVOICE_CANCEL = {"PROVIDERS": {}, "PROVIDER_RESOLVER": f"{__name__}.momentary"}
    preview = Preview(scope_of(draft_of([invoice], "cancel", superuser_request), superuser_request))
    assert preview.count == 1
    assert preview.left_out_count == 0
    assert "could not be read" in preview.warnings[0]
    assert by_dry_run([invoice], "cancel") == {invoice.external_id: "configuration_unavailable"}
    assert services.cancel_invoice(invoice).code == "configuration_unavailable"
    preview.draft.confirm()
    assert advance(preview.draft.pk).has_more
    assert preview.draft.items.get().outcome == ""
    assert Invoice.objects.get().status == "created"


# -- ids ------------------------------------------------------------------------------------------------------------


@responses.activate
def test_page_excludes_an_invalid_id_of_cryptocloud(settings: Any, admin_client: Client) -> None:
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


def test_invoice_without_permission_is_reported_as_such_with_any_id(superuser_request: Any) -> None:
    invoice = make_in_state("created")
    set_columns(invoice, external_id="inv 1")
    draft = draft_of([invoice], "cancel", superuser_request, not_permitted=[invoice.pk])
    assert draft.items.get().code == "not_permitted"
    assert asked() == (0, 0)
    assert Invoice.objects.get().status == "created"
