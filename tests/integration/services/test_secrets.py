"""P10: no log, row, result, exception or error report shows a secret, also if the provider's answer repeats it."""

import json
import logging
import pickle
import pprint
import traceback
from io import StringIO

import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.test import RequestFactory
from django.utils.log import AdminEmailHandler
from django.views.debug import ExceptionReporter

from django_invoice_cancel import conf, registry
from django_invoice_cancel.domain.secrets import SecretDict
from django_invoice_cancel.exceptions import CancelError, CancelInDoubt, OutcomeNotRecorded
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.models.provider_state import ProviderState
from django_invoice_cancel.testing.sandbox import BEHAVIOURS, ProviderSandbox
from tests.support.clock import travel_forward
from tests.support.escaped_tokens import FORMS, MARKER, TOKENS
from tests.support.invoices import stored
from tests.support.logs import log_entries, status_and_log

FIREKASSA = "django_invoice_cancel.providers.firekassa.FireKassa"


@pytest.fixture(scope="module")
def marked_sandbox():
    with ProviderSandbox(**TOKENS) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(marked_sandbox, settings, caplog):
    """The sandbox with credentials that can be searched for. All log records are captured."""
    caplog.set_level(logging.DEBUG)
    marked_sandbox.reset()
    settings.INVOICE_CANCEL = {"PROVIDERS": marked_sandbox.settings(deadline=10.0)}
    yield marked_sandbox
    marked_sandbox.reset()


def package_frames(trace):
    """Yield the frames of a traceback without those of the tests, which hold the tokens themselves."""
    while trace is not None:
        if "/tests/" not in trace.tb_frame.f_code.co_filename:
            yield trace.tb_frame
        trace = trace.tb_next


def error_tracker_text(error):
    """Return all that error trackers show of an exception: its texts, its causes, the local variables of the frames."""
    seen, waiting = [], [error]
    while waiting:
        link = waiting.pop()
        seen += [repr(link), str(link), repr(link.args), repr(vars(link))]
        seen += [
            text(value)
            for frame in package_frames(link.__traceback__)
            for value in frame.f_locals.values()
            for text in (repr, pprint.pformat)
        ]
        waiting += [each for each in (link.__cause__, link.__context__) if each is not None]
    return "\n".join(seen)


def package_traceback(error):
    """Return the traceback from the first frame that is not the tests' own."""
    trace = error.__traceback__
    while trace is not None and "/tests/" in trace.tb_frame.f_code.co_filename:
        trace = trace.tb_next
    return trace


def traceback_with_locals(error):
    report = traceback.TracebackException(type(error), error, package_traceback(error), capture_locals=True)
    return "".join(report.format())


def django_error_reports(error, settings):
    """Return Django's error pages and mails, with DEBUG on and off. They print the settings too."""
    pages = []
    for debug in (True, False):
        settings.DEBUG = debug
        trace = package_traceback(error)
        reporter = ExceptionReporter(RequestFactory().get("/"), type(error), error.with_traceback(trace), trace)
        pages += [reporter.get_traceback_html(), reporter.get_traceback_text()]
        pages.append(traceback_with_locals(error))
    settings.DEBUG = False
    return "\n".join(pages)


def all_rows_text():
    return repr([list(model.objects.values()) for model in apps.get_models()])


def package_objects(roots):
    """Return the instances of the package's classes that are reachable through attributes, without those of slots."""
    seen, waiting = {}, [*roots]
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        if isinstance(each, list | tuple):
            waiting += each
        elif type(each).__module__.startswith("django_invoice_cancel.") and hasattr(each, "__dict__"):
            seen[id(each)] = each
            waiting += vars(each).values()
    return list(seen.values())


def registry_text():
    """Return the texts of the settings, the providers of the registry, and the objects that they consist of."""
    providers = [provider for provider in map(registry.last_known, registry.aliases()) if provider is not None]
    parts = package_objects([conf.get(), conf.read(), providers])
    parts += [vars(each) for each in parts]
    return "\n".join(text(part) for part in parts for text in (repr, str, pprint.pformat))


def result_or_error(call):
    """Return the result of a call, or the error that it raises."""
    try:
        return call()
    except (CancelError, ImproperlyConfigured) as error:
        return error


def assert_no_secret(outcome, caplog):
    texts = [caplog.text, all_rows_text(), registry_text(), repr(outcome), str(outcome)]
    texts.append(pickle.dumps(outcome).decode("latin-1"))
    texts += [repr(vars(record)) for record in caplog.records]
    if isinstance(outcome, Exception):
        texts.append(error_tracker_text(outcome))
    if hasattr(outcome, "result"):
        texts.append(json.dumps(outcome.result.as_dict()))
    assert_marker_in_none(texts)


def assert_marker_in_none(texts):
    for text in texts:
        assert MARKER not in text, text[max(text.find(MARKER) - 500, 0) :][:1000]


DELAYED = ("silent_after", "silent_before", "late", "drip", "slow")
"""Behaviours that wait for real time."""


@pytest.mark.django_db
@pytest.mark.parametrize("provider", ["firekassa", pytest.param("cryptocloud", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(behaviour.name, marks=[pytest.mark.slow] if behaviour.name in DELAYED else [])
        for behaviour in BEHAVIOURS
    ],
)
def test_no_outcome_shows_a_secret(sandbox, settings, caplog, provider, behaviour):
    if behaviour in DELAYED and behaviour != "slow":
        settings.INVOICE_CANCEL = {"PROVIDERS": sandbox.settings(deadline=0.8)}
    invoice = Invoice.objects.create(provider=provider, external_id=sandbox.new_id(provider, behaviour))
    outcome = result_or_error(invoice.cancel)
    assert_no_secret(outcome, caplog)
    with travel_forward(minutes=16):
        assert_no_secret(result_or_error(invoice.reconcile), caplog)
    assert log_entries(invoice)[0] == ("created", "canceling", "", "")
    assert log_entries(invoice)[-1][1] == stored(invoice).status != "canceling"
    assert sandbox.count("cancel") == 1
    assert MARKER in sandbox.requests[0].headers["authorization"]


# The sandbox closes the connection after scripted bytes. The header announces that: no later request reuses it.
PLACES = {
    "a refusal": lambda text: (
        b'HTTP/1.1 422 X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n{"message":"%s"}' % (len(text) + 14, text)
    ),
    "a server error": lambda text: (
        b"HTTP/1.1 500 X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
    ),
    "an unreadable success": lambda text: (
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n<%s" % (len(text) + 1, text)
    ),
    "a cut body": lambda text: b"HTTP/1.1 422 X\r\nContent-Length: 9999\r\n\r\n%s" % text,
    "the reason": lambda text: b"HTTP/1.1 500 %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % text,
    "headers": lambda text: (
        b"HTTP/1.1 302 X\r\nServer: %b\r\nLocation: /%b\r\nRetry-After: %b\r\nSet-Cookie: t=%b\r\nConnection: close\r\n"
        b"Content-Length: 0\r\n\r\n" % (text, text, text, text)
    ),
    "no status line": lambda text: b"%s\r\n\r\n" % text,
}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "forms",
    [
        pytest.param(["plain", "PHP's JSON", "HTML by number"], id="common encodings"),
        pytest.param([*FORMS], id="all encodings", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("place", PLACES)
def test_answer_that_repeats_a_secret_is_masked_everywhere(sandbox, caplog, place, forms):
    outcomes, encoded_tokens = [], []
    tokens = {"firekassa": ("firekassa_token", "sign_token"), "cryptocloud": ("cryptocloud_key",)}
    for dialect, names in tokens.items():
        for form in forms:
            encoded = [FORMS[form](TOKENS[name]) for name in names]
            answer = PLACES[place](f"bad headers: {encoded}".encode())
            invoice = Invoice.objects.create(provider=dialect, external_id=sandbox.new_id(dialect))
            sandbox.script(invoice.external_id, [answer])
            outcomes.append(result_or_error(invoice.cancel))
            encoded_tokens += encoded
            ProviderState.objects.update(failures=0)  # five of these answers in a row would pause the provider
    for outcome in outcomes:
        text = error_tracker_text(outcome) + repr(outcome.result)
        assert [token for token in (MARKER, *encoded_tokens) if token in text] == []
    assert_no_secret(outcomes[-1], caplog)
    assert [token for token in encoded_tokens if token in caplog.text + all_rows_text()] == []
    codes = {"a server error": "provider_error", "the reason": "provider_error", "headers": "redirected"}
    in_doubt = ("in_doubt", "in_doubt", "in_doubt", codes.get(place, "unreadable_answer"))
    changes = {(invoice.status, *log_entries(invoice)[-1][1:]) for invoice in Invoice.objects.all()}
    assert changes - {("created", "created", "refused", "provider_refused")} == {in_doubt}
    assert sandbox.count("cancel") == 2 * len(forms)


@pytest.mark.django_db
def test_provider_cannot_be_pickled(sandbox):
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(registry.get_provider("firekassa"))


TOKEN = TOKENS["firekassa_token"]
VALID_OPTIONS = {"base_url": "https://api.example.com", "api_token": TOKEN}
WRONG_OPTIONS = {
    "unknown option": VALID_OPTIONS | {"api_tokn": TOKEN},
    "missing option": {"api_token": TOKEN},
    "token of bytes": VALID_OPTIONS | {"api_token": TOKEN.encode()},
    "token in a list": VALID_OPTIONS | {"api_token": [TOKEN]},
    "token with a line break": VALID_OPTIONS | {"api_token": TOKEN + "\n"},
    "token with a space": VALID_OPTIONS | {"api_token": f"Bearer {TOKEN}"},
    "token with a letter": VALID_OPTIONS | {"api_token": TOKEN + "\u00e9"},
    "sign token of a wrong type": VALID_OPTIONS | {"sign_token": {TOKEN: 1}},
    "token in the address": VALID_OPTIONS | {"base_url": f"https://user:{TOKEN}@api.example.com"},
    "token as the address": VALID_OPTIONS | {"base_url": TOKEN},
    "token in the query": VALID_OPTIONS | {"base_url": f"https://api.example.com/?token={TOKEN}"},
    "plain http": VALID_OPTIONS | {"base_url": "http://api.example.com"},
    "token as a number": VALID_OPTIONS | {"deadline": TOKEN},
    "token as a flag": VALID_OPTIONS | {"lookup": TOKEN},
    "token as concurrency": VALID_OPTIONS | {"concurrency": TOKEN},
    "options in a list": [TOKEN],
    "options of bytes": TOKEN.encode(),
}


@pytest.mark.django_db
@pytest.mark.parametrize("options", WRONG_OPTIONS.values(), ids=WRONG_OPTIONS)
def test_error_of_wrong_settings_shows_no_secret(settings, caplog, web, options):
    caplog.set_level(logging.DEBUG)
    settings.INVOICE_CANCEL = {"PROVIDERS": {"fk": {"BACKEND": FIREKASSA, "OPTIONS": options}}}
    error = result_or_error(lambda: registry.get_provider("fk"))
    assert isinstance(error, ImproperlyConfigured)
    texts = [error_tracker_text(error), str(error), traceback_with_locals(error)]
    invoice = Invoice.objects.create(provider="fk", external_id="17")
    texts += [error_tracker_text(result_or_error(invoice.cancel)), caplog.text, repr(conf.read())]
    for deploy in (False, True):
        out, err = StringIO(), StringIO()
        try:
            call_command("check", deploy=deploy, stdout=out, stderr=err)
        except CommandError as found:
            texts += [str(found), error_tracker_text(found)]
        texts += [out.getvalue(), err.getvalue()]
    assert_marker_in_none(texts)
    assert status_and_log(invoice) == ("created", [])
    assert len(web.calls) == 0


class MailToAdmins(AdminEmailHandler):
    """Collects Django's reports, text and HTML, instead of sending them."""

    sent = ""

    def send_mail(self, subject, message, *args, html_message="", **kwargs):
        self.sent += f"{subject}\n{message}\n{html_message}"


def raise_in_doubt(invoice, monkeypatch):
    invoice.cancel()


def raise_not_recorded(invoice, monkeypatch):
    def broken(self, answers, on_recorded=None):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr("django_invoice_cancel.models.writes.answers.AnswerWriter.record", broken)
    invoice.cancel()


def raise_improperly_configured(invoice, monkeypatch):
    registry.build(conf.ProviderConfig("fk", FIREKASSA, SecretDict(VALID_OPTIONS | {"api_token": TOKEN + " "})))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("act", "kind", "status", "sent"),
    [
        (raise_in_doubt, CancelInDoubt, "in_doubt", 1),
        (raise_not_recorded, OutcomeNotRecorded, "canceling", 1),
        (raise_improperly_configured, ImproperlyConfigured, "created", 0),
    ],
    ids=["CancelInDoubt", "OutcomeNotRecorded", "ImproperlyConfigured"],
)
@pytest.mark.parametrize("provider", ["firekassa", "cryptocloud"])
def test_error_reports_and_mails_show_no_secret(
    sandbox, settings, caplog, monkeypatch, act, kind, status, sent, provider
):
    mails = MailToAdmins(include_html=True)
    invoice = Invoice.objects.create(provider=provider, external_id=sandbox.new_id(provider, "error_500_before"))
    with pytest.raises(kind) as raised:
        act(invoice, monkeypatch)
    trace = (kind, raised.value, raised.value.__traceback__)
    record = logging.LogRecord("django.request", logging.ERROR, "", 1, "Internal Server Error", (), trace)
    record.status_code, record.request = 500, RequestFactory().get("/")
    mails.emit(record)
    assert MARKER not in django_error_reports(raised.value, settings)
    assert MARKER not in error_tracker_text(raised.value)
    assert kind.__name__ in mails.sent
    assert MARKER not in mails.sent
    assert MARKER not in caplog.text
    log = {"in_doubt": ["canceling", "in_doubt"], "canceling": ["canceling"], "created": []}[status]
    assert stored(invoice).status == status
    assert [step[1] for step in log_entries(invoice)] == log
    assert sandbox.count("cancel") == sent


@pytest.mark.django_db
@pytest.mark.parametrize("provider", ["firekassa", "cryptocloud"])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_interruption_while_the_request_is_sent_shows_no_secret(
    sandbox, settings, caplog, monkeypatch, provider, interruption
):
    def interrupt(*args, **kwargs):
        raise interruption

    monkeypatch.setattr("requests.adapters.HTTPAdapter.send", interrupt)
    invoice = Invoice.objects.create(provider=provider, external_id=sandbox.new_id(provider))
    with pytest.raises(interruption) as raised:
        invoice.cancel()
    assert MARKER not in error_tracker_text(raised.value) + django_error_reports(raised.value, settings) + caplog.text
    assert stored(invoice).status == "created"
    assert sandbox.requests == []
