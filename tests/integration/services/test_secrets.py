"""P10: no secret leaves by any known path, not even if the provider or a bug echoes it.

Each token contains letters that no escaping changes, so that all outputs can be searched for one string.
"""

import json
import logging
import pickle
import pprint
import re
import sys
import time
import traceback
from base64 import b64encode, encodebytes, urlsafe_b64encode
from html import escape
from io import StringIO
from urllib.parse import quote

import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.test import RequestFactory
from django.utils.log import AdminEmailHandler
from django.views.debug import ExceptionReporter

from django_invoice_cancel import conf, registry
from django_invoice_cancel.domain import secrets
from django_invoice_cancel.domain.secrets import MASK, Secret, SecretDict, mask
from django_invoice_cancel.exceptions import CancelError, CancelInDoubt, OutcomeNotRecorded
from django_invoice_cancel.models import Invoice
from django_invoice_cancel.models.provider_state import ProviderState
from django_invoice_cancel.testing.sandbox import BEHAVIOURS, ProviderSandbox
from tests.support.clock import travel_forward
from tests.support.invoices import stored
from tests.support.logs import log_entries, status_and_log

CORE = "c4naryt0ken"
ODD = '/a+b=c"d<e&f\\g'
TOKENS = {
    "firekassa_token": f"{CORE}-firekassa{ODD}",
    "cryptocloud_key": f"{CORE}-cryptocloud{ODD}",
    "sign_token": f"{CORE}-signing{ODD}",
}
FIREKASSA = "django_invoice_cancel.providers.firekassa.FireKassa"


@pytest.fixture(scope="module")
def marked_sandbox():
    with ProviderSandbox(**TOKENS) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(marked_sandbox, settings, caplog):
    """The sandbox whose credentials are the canaries; everything that is logged anywhere is kept."""
    caplog.set_level(logging.DEBUG)
    marked_sandbox.reset()
    settings.INVOICE_CANCEL = {"PROVIDERS": marked_sandbox.settings(deadline=10.0)}
    yield marked_sandbox
    marked_sandbox.reset()


# -- the ways out ---------------------------------------------------------------------------------------------


def frames_of(trace):
    """The frames of a traceback that are not the tests' own: those hold the canaries by right."""
    while trace is not None:
        if "/tests/" not in trace.tb_frame.f_code.co_filename:
            yield trace.tb_frame
        trace = trace.tb_next


def shown_by(error):
    """Everything that error trackers show of an exception: itself, its causes, the locals of their frames."""
    seen, waiting = [], [error]
    while waiting:
        link = waiting.pop()
        seen += [repr(link), str(link), repr(link.args), repr(vars(link))]
        seen += [
            text(value)
            for frame in frames_of(link.__traceback__)
            for value in frame.f_locals.values()
            for text in (repr, pprint.pformat)
        ]
        waiting += [each for each in (link.__cause__, link.__context__) if each is not None]
    return "\n".join(seen)


def reports_of(error, settings):
    """Django's own error pages and mails, with DEBUG on and off; they print the settings too."""
    pages = []
    for debug in (True, False):
        settings.DEBUG = debug
        trace = error.__traceback__
        while trace is not None and "/tests/" in trace.tb_frame.f_code.co_filename:
            trace = trace.tb_next
        reporter = ExceptionReporter(RequestFactory().get("/"), type(error), error.with_traceback(trace), trace)
        pages += [reporter.get_traceback_html(), reporter.get_traceback_text()]
        told = traceback.TracebackException(type(error), error, trace, capture_locals=True)
        pages.append("".join(told.format()))
    settings.DEBUG = False
    return "\n".join(pages)


def rows_of_all_tables():
    return repr([list(model.objects.values()) for model in apps.get_models()])


def shown_by_registry():
    kept = registry._cache.get().providers
    providers = [provider for _, provider in kept.values()]
    parts = [kept, conf.get(), conf.read(), [vars(provider) for provider in providers]]
    transports = [provider._transport for provider in providers if hasattr(provider, "_transport")]
    parts += [part for each in transports for part in (vars(each), vars(each._shared.get()))]
    return "\n".join(text(part) for part in parts for text in (repr, str, pprint.pformat))


def caught(call):
    """Return the result of a call, or what it raised."""
    try:
        return call()
    except (CancelError, ImproperlyConfigured) as error:
        return error


def assert_nothing_leaks(outcome, caplog):
    texts = [caplog.text, rows_of_all_tables(), shown_by_registry(), repr(outcome), str(outcome)]
    texts.append(pickle.dumps(outcome).decode("latin-1"))
    texts += [repr(vars(record)) for record in caplog.records]
    if isinstance(outcome, Exception):
        texts.append(shown_by(outcome))
    if hasattr(outcome, "result"):
        texts.append(json.dumps(outcome.result.as_dict()))
    for text in texts:
        assert CORE not in text, text[max(text.find(CORE) - 500, 0) :][:1000]


# -- every outcome --------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("provider", ["firekassa", "cryptocloud"])
@pytest.mark.parametrize("behaviour", [behaviour.name for behaviour in BEHAVIOURS])
def test_nothing_leaks_from_any_outcome(sandbox, settings, caplog, provider, behaviour):
    if behaviour in ("silent_after", "silent_before", "late", "drip"):
        settings.INVOICE_CANCEL = {"PROVIDERS": sandbox.settings(deadline=0.8)}
    invoice = Invoice.objects.create(provider=provider, external_id=sandbox.new_id(provider, behaviour))
    outcome = caught(invoice.cancel)
    assert_nothing_leaks(outcome, caplog)
    with travel_forward(minutes=16):
        assert_nothing_leaks(caught(invoice.reconcile), caplog)
    assert log_entries(invoice)[0] == ("created", "canceling", "", "")
    assert log_entries(invoice)[-1][1] == stored(invoice).status != "canceling"
    assert sandbox.count("cancel") == 1
    assert CORE in sandbox.requests[0].headers["authorization"]


FORMS = {
    "plain": lambda token: token,
    "JSON": lambda token: json.dumps(token)[1:-1],
    "PHP's JSON": lambda token: json.dumps(token)[1:-1].replace("/", "\\/"),
    "JSON in JSON": lambda token: json.dumps(json.dumps(token))[1:-1],
    "hexadecimal JSON": lambda token: "".join(c if c.isalnum() else f"\\u{ord(c):04x}" for c in token),
    "percent": lambda token: quote(token, safe=""),
    "percent, lower case": lambda token: "".join(c if c.isalnum() else f"%{ord(c):02x}" for c in token),
    "percent, with slashes": lambda token: quote(token),
    "percent, each character": lambda token: "".join(f"%{ord(c):02X}" for c in token),
    "percent, twice": lambda token: quote(quote(token, safe=""), safe=""),
    "percent in JSON": lambda token: json.dumps(quote(token, safe=""))[1:-1],
    "JSON, percent": lambda token: quote(json.dumps(token)[1:-1], safe=""),
    "JSON, each character": lambda token: "".join(f"\\u{ord(c):04X}" for c in token),
    "escape() of old browsers": lambda token: "".join(f"%u{ord(c):04x}" for c in token),
    "Python": lambda token: repr(f"'{token}")[2:-1],
    "hexadecimal escapes": lambda token: "".join(f"\\x{ord(c):02x}" for c in token),
    "HTML": escape,
    "HTML, twice": lambda token: escape(escape(token)),
    "HTML by number": lambda token: "".join(c if c.isalnum() else f"&#{ord(c)};" for c in token),
    "HTML by number, each character": lambda token: "".join(f"&#{ord(c)};" for c in token),
    "HTML by hexadecimal number": lambda token: "".join(f"&#x{ord(c):X};" for c in token),
    "HTML with leading zeros": lambda token: "".join(f"&#x{ord(c):08x};" for c in token),
    "HTML by name": lambda token: token.replace("&", "&amp;").replace("/", "&sol;").replace("+", "&plus;"),
    "HTML in JSON": lambda token: json.dumps(escape(token))[1:-1],
}


def in_base64(text: str) -> str:
    return b64encode(text.encode()).decode()


BASE64 = {
    "alone": in_base64,
    "without padding": lambda token: in_base64(token).rstrip("="),
    "one byte behind": lambda token: in_base64(f"x{token}"),
    "two bytes behind": lambda token: in_base64(f"xy{token}z"),
    "with its scheme": lambda token: in_base64(f"Bearer {token}"),
    "as a password": lambda token: in_base64(f"user:{token}"),
    "within JSON": lambda token: in_base64(f'{{"headers": {{"Authorization": "Token {token}"}}}}'),
    "for URLs": lambda token: urlsafe_b64encode(token.encode()).decode(),
    "in lines": lambda token: encodebytes(f"{'x' * 40}{token}{'y' * 100}".encode()).decode(),
    "in lines, in JSON": lambda token: json.dumps(encodebytes(f"{'x' * 40}{token}".encode()).decode())[1:-1],
    "in PHP's JSON": lambda token: in_base64(f"?{token}?").replace("/", "\\/"),
    "in a URL": lambda token: quote(in_base64(token), safe=""),
}
# The sandbox hangs up behind scripted bytes; said beforehand, the next request does not race with that.
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
@pytest.mark.parametrize("place", PLACES)
def test_nothing_leaks_that_the_provider_throws_back(sandbox, caplog, place):
    """The Authorization header as it came, and in all ways in which somebody may have escaped it."""
    outcomes = []
    secrets = {"firekassa": ("firekassa_token", "sign_token"), "cryptocloud": ("cryptocloud_key",)}
    for dialect, names in secrets.items():
        for form in FORMS.values():
            answer = PLACES[place](f"bad headers: {[form(TOKENS[name]) for name in names]}".encode())
            invoice = Invoice.objects.create(provider=dialect, external_id=sandbox.new_id(dialect))
            sandbox.script(invoice.external_id, [answer])
            outcomes.append(caught(invoice.cancel))
            ProviderState.objects.update(failures=0)  # five of these answers in a row would pause the provider
    for outcome in outcomes:
        assert CORE not in shown_by(outcome) + repr(outcome.result)
    assert_nothing_leaks(outcomes[-1], caplog)
    codes = {"a server error": "provider_error", "the reason": "provider_error", "headers": "redirected"}
    lost = ("in_doubt", "in_doubt", "in_doubt", codes.get(place, "unreadable_answer"))
    ends = {(invoice.status, *log_entries(invoice)[-1][1:]) for invoice in Invoice.objects.all()}
    assert ends - {("created", "created", "refused", "provider_refused")} == {lost}
    assert sandbox.count("cancel") == 2 * len(FORMS)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", TOKENS)
def test_mask_hides_a_secret_in_every_form(form, name):
    token = TOKENS[name]
    masked = mask(f"before {FORMS[form](token)} after", [Secret(token)])
    assert re.fullmatch(r"""before ['"\\]*\*\*\*['"\\]* after""", masked)
    assert mask("before and after", [Secret(token), Secret("")]) == "before and after"


@pytest.mark.parametrize("form", BASE64)
@pytest.mark.parametrize(
    "token", [f"{CORE}{ODD}", f"{CORE}-{'0123456789' * 12}", "0123456", "?>?>?>?>?>", "\u0444irekassa-key"], ids=ascii
)
def test_mask_hides_a_secret_in_base64(form, token):
    """With whatever stands in the same run of Base64: its characters do not end where the secret ends."""
    masked = mask(f"<before> {BASE64[form](token)} <after>", [Secret(token)])
    assert re.fullmatch(r"<before> \*\*\*(\n|\\n)? <after>", masked)


@pytest.mark.parametrize("token", ["o", "ok", "s3cr"])
def test_mask_hides_a_short_secret_in_base64_only_if_it_stands_alone(token):
    encoded = in_base64(token)
    assert mask(f"is {encoded}, {encoded.rstrip('=')}.", [Secret(token)]).count(encoded.rstrip("=")) == 0
    assert mask(f"x{encoded.rstrip('=')}x", [Secret(token)]) == f"x{encoded.rstrip('=')}x"


@pytest.mark.parametrize(
    "text",
    [
        "100 % of INV-1 & more",
        "C:\\path\\new",
        "&notanentity; &#999999999999; %zz \\u12",
        "\\",
        "%",
        "&",
        "",
        "=====",
        "-_-",
    ],
)
def test_mask_changes_nothing_else(text):
    assert mask(text, [Secret(token) for token in TOKENS.values()]) == text


@pytest.mark.parametrize(
    "token", ["%41%42%43", "&amp;&lt;&gt;", "\\u0041\\u0042", "a\\nb\\tc", "\\\\\\", "%%%%", "&&&&"]
)
@pytest.mark.parametrize("form", FORMS)
def test_mask_hides_a_secret_that_looks_escaped_itself(token, form):
    masked = mask(f"before {FORMS[form](token)} after", [Secret(token)])
    assert re.fullmatch(r"""before ['"\\]*(\*\*\*)+['"\\]* after""", masked)


def test_mask_hides_the_longer_of_two_secrets_first():
    assert mask("abcdef abc", [Secret("abc"), Secret("abcdef")]) == f"{MASK} {MASK}"


def test_mask_hides_secrets_that_overlap():
    assert mask("xabcdefx", [Secret("abcd"), Secret("cdef")]) == f"x{MASK}x"


# -- the time that masking takes --------------------------------------------------------------------------------

EVIL = {
    "backslashes": lambda size: "\\" * size,
    "backslashes and a letter": lambda size: "\\" * (size - 1) + "x",
    "slashes": lambda size: "/" * size,
    "ampersands": lambda size: "&" * size,
    "half an entity": lambda size: "&#x" + "0" * (size - 3),
    "many half entities": lambda size: "&#x0" * (size // 4),
    "percent signs": lambda size: "%" * size,
    "half an escape": lambda size: "\\u00" * (size // 4),
    "escapes": lambda size: "\\u002f" * (size // 6),
    "beginnings of the token": lambda size: "/+" * (size // 2),
    "a run of Base64": lambda size: "A" * size,
    "the token in Base64": lambda size: in_base64("//++//++tok" * (size // 15)),
    "lines": lambda size: "\n" * size,
}
EVIL_TOKENS = ["//++//++tok", "\\\\\\\\x", "&&&&&&&&x", "%%%%%%%%x", "////////", "AAAAAAAAAAAAAA", "o"]


def steps_of_masking(text, token):
    """Count the lines of our code that run; what one line costs is bounded by the test after this one."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        if not frame.f_code.co_filename.endswith("masking.py"):
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        mask(text, [Secret(token)])
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("token", EVIL_TOKENS)
@pytest.mark.parametrize("evil", EVIL)
def test_steps_of_masking_grow_in_proportion_to_the_text(evil, token):
    few, many = (steps_of_masking(EVIL[evil](size), token) for size in (500, 4000))
    assert many <= 8 * few + 500


def test_each_step_of_the_search_for_escapes_looks_at_a_bounded_piece():
    """No alternative is longer than a few characters: the search does not begin again within what it has read."""
    (_, longest) = re._parser.parse(secrets._ESCAPE.pattern).getwidth()
    assert longest <= 40


@pytest.mark.parametrize("evil", EVIL)
def test_the_longest_body_is_masked_in_seconds(evil):
    """It took 26 s when the time grew with the square of the text."""
    begin = time.process_time()
    mask(EVIL[evil](65_536), [Secret(token) for token in EVIL_TOKENS])
    assert time.process_time() - begin < 5


def test_secret_shows_itself_to_nobody():
    secret = Secret(TOKENS["sign_token"])
    shown = f"{secret} {secret!r} {secret!s} {[secret]} {SecretDict(token=TOKENS['sign_token'])}"
    assert CORE not in shown + pprint.pformat({"a": [secret, SecretDict(b=TOKENS["sign_token"])]})
    for holder in (secret, SecretDict(token="x")):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(holder)


@pytest.mark.django_db
def test_provider_is_not_pickled(sandbox):
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(registry.get_provider("firekassa"))


# -- wrong settings -------------------------------------------------------------------------------------------

TOKEN = TOKENS["firekassa_token"]
GOOD = {"base_url": "https://api.example.com", "api_token": TOKEN}
BROKEN = {
    "unknown option": GOOD | {"api_tokn": TOKEN},
    "missing option": {"api_token": TOKEN},
    "token of bytes": GOOD | {"api_token": TOKEN.encode()},
    "token in a list": GOOD | {"api_token": [TOKEN]},
    "token with a line break": GOOD | {"api_token": TOKEN + "\n"},
    "token with a space": GOOD | {"api_token": f"Bearer {TOKEN}"},
    "token with a letter": GOOD | {"api_token": TOKEN + "\u00e9"},
    "sign token of a wrong type": GOOD | {"sign_token": {TOKEN: 1}},
    "token in the address": GOOD | {"base_url": f"https://user:{TOKEN}@api.example.com"},
    "token as the address": GOOD | {"base_url": TOKEN},
    "token in the query": GOOD | {"base_url": f"https://api.example.com/?token={TOKEN}"},
    "plain http": GOOD | {"base_url": "http://api.example.com"},
    "token as a number": GOOD | {"deadline": TOKEN},
    "token as a flag": GOOD | {"lookup": TOKEN},
    "token as concurrency": GOOD | {"concurrency": TOKEN},
    "options in a list": [TOKEN],
    "options of bytes": TOKEN.encode(),
}


@pytest.mark.django_db
@pytest.mark.parametrize("options", BROKEN.values(), ids=BROKEN)
def test_nothing_leaks_from_wrong_settings(settings, caplog, web, options):
    caplog.set_level(logging.DEBUG)
    settings.INVOICE_CANCEL = {"PROVIDERS": {"fk": {"BACKEND": FIREKASSA, "OPTIONS": options}}}
    error = caught(lambda: registry.get_provider("fk"))
    assert isinstance(error, ImproperlyConfigured)
    texts = [shown_by(error), str(error), reports_without_settings(error)]
    invoice = Invoice.objects.create(provider="fk", external_id="17")
    texts += [shown_by(caught(invoice.cancel)), caplog.text, repr(conf.read())]
    for deploy in (False, True):
        out, err = StringIO(), StringIO()
        try:
            call_command("check", deploy=deploy, stdout=out, stderr=err)
        except CommandError as found:
            texts += [str(found), shown_by(found)]
        texts += [out.getvalue(), err.getvalue()]
    for text in texts:
        assert CORE not in text, text[max(text.find(CORE) - 500, 0) :][:1000]
    assert (*status_and_log(invoice), len(web.calls)) == ("created", [], 0)


def reports_without_settings(error):
    """What error trackers render of our frames; the settings are the host's and hidden by their names."""
    trace = error.__traceback__
    while trace is not None and "/tests/" in trace.tb_frame.f_code.co_filename:
        trace = trace.tb_next
    return "".join(traceback.TracebackException(type(error), error, trace, capture_locals=True).format())


# -- Django's error report ------------------------------------------------------------------------------------


class MailToAdmins(AdminEmailHandler):
    """Django's own, with both forms of the report, kept instead of sent."""

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
    registry.build(conf.ProviderConfig("fk", FIREKASSA, SecretDict(GOOD | {"api_token": TOKEN + " "})))


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
def test_nothing_leaks_into_error_reports_and_mails(
    sandbox, settings, caplog, monkeypatch, act, kind, status, sent, provider
):
    mails = MailToAdmins(include_html=True)
    invoice = Invoice.objects.create(provider=provider, external_id=sandbox.new_id(provider, "error_500_before"))
    with pytest.raises(kind) as caught_by_view:
        act(invoice, monkeypatch)
    trace = (kind, caught_by_view.value, caught_by_view.value.__traceback__)
    record = logging.LogRecord("django.request", logging.ERROR, "", 1, "Internal Server Error", (), trace)
    record.status_code, record.request = 500, RequestFactory().get("/")
    mails.emit(record)
    assert CORE not in reports_of(caught_by_view.value, settings)
    assert CORE not in shown_by(caught_by_view.value)
    assert kind.__name__ in mails.sent
    assert CORE not in mails.sent
    assert CORE not in caplog.text
    log = {"in_doubt": ["canceling", "in_doubt"], "canceling": ["canceling"], "created": []}[status]
    assert stored(invoice).status == status
    assert [step[1] for step in log_entries(invoice)] == log
    assert sandbox.count("cancel") == sent


@pytest.mark.django_db
@pytest.mark.parametrize("provider", ["firekassa", "cryptocloud"])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_nothing_leaks_from_an_interruption_while_the_request_is_sent(
    sandbox, settings, caplog, monkeypatch, provider, interruption
):
    def interrupt(*args, **kwargs):
        raise interruption

    monkeypatch.setattr("requests.adapters.HTTPAdapter.send", interrupt)
    invoice = Invoice.objects.create(provider=provider, external_id=sandbox.new_id(provider))
    with pytest.raises(interruption) as caught_by_caller:
        invoice.cancel()
    assert CORE not in shown_by(caught_by_caller.value) + reports_of(caught_by_caller.value, settings) + caplog.text
    assert stored(invoice).status == "created"
    assert sandbox.requests == []
