"""Every text has a Russian translation with the same placeholders, and the compiled catalogue is up to date."""

import re
from datetime import datetime
from pathlib import Path

import django
import pytest
from django.utils.translation import ngettext, override
from django.utils.translation.trans_real import DjangoTranslation

import django_invoice_cancel
from django_invoice_cancel.domain.audit import Trigger
from django_invoice_cancel.domain.outcomes import Code, Outcome
from django_invoice_cancel.domain.statuses import REPORTABLE_STATUSES, Status
from django_invoice_cancel.labels.formatting import format_milliseconds, format_time
from django_invoice_cancel.labels.invoices import DECISIONS, SITUATIONS, STATUS_LABELS, TRIGGER_LABELS, Situation
from django_invoice_cancel.labels.operations import outcome_label
from django_invoice_cancel.labels.results import describe_invalid_id, describe_result
from django_invoice_cancel.models.operation import Operation, Progress
from django_invoice_cancel.providers.base import Provider
from django_invoice_cancel.providers.cryptocloud import CryptoCloud
from django_invoice_cancel.providers.firekassa import FireKassa
from tests.integration.locale.catalogue import Entry, as_compiled, compiled, entries

PO = Path(django_invoice_cancel.__file__).parent / "locale/ru/LC_MESSAGES/django.po"
HEADER, *TEXTS = entries(PO)
NAMED = re.compile(r"%\((\w+)\)[sd]")
BRACED = re.compile(r"{(\w+)}")
CYRILLIC = re.compile("[\u0400-\u04ff]")


def blanks(text: str) -> set[str]:
    return {found[0] for pattern in (NAMED, BRACED) for found in pattern.finditer(text)}


def russian_and_english(lazy: object) -> tuple[str, str]:
    with override("ru"):
        russian = str(lazy)
    with override("en"):
        return russian, str(lazy)


# -- the catalogue --------------------------------------------------------------------------------------------


def test_catalogue_was_read():
    """The other tests would be content with nothing."""
    assert len(TEXTS) > 300
    assert {"In doubt", "{provider} confirmed the cancellation."} <= {entry.text for entry in TEXTS}
    assert "nplurals=3;" in HEADER.forms[0]


def is_translated(entry: Entry) -> bool:
    wanted = 1 if entry.plural is None else 3
    if entry.key.startswith("date format\x04"):
        return entry.forms != [""]
    return len(entry.forms) == wanted and all(form == "API" or CYRILLIC.search(form) for form in entry.forms)


def test_every_text_is_translated():
    assert [entry.key for entry in TEXTS if not is_translated(entry)] == []
    assert [entry.key for entry in TEXTS if entry.is_fuzzy] == []


def test_translations_fill_in_the_same_values():
    assert [
        form
        for entry in TEXTS
        for form in (entry.plural or entry.text, *entry.forms)
        if blanks(form) != blanks(entry.text)
    ] == []


def test_translations_can_be_filled_in():
    """A stray % or brace would break the page, not the catalogue."""
    for entry in TEXTS:
        for form in entry.forms:
            filled = form
            if NAMED.search(entry.text):
                filled = form % dict.fromkeys(NAMED.findall(entry.text), 7)
            elif BRACED.search(entry.text):
                filled = form.format(**dict.fromkeys(BRACED.findall(entry.text), "x"))
            assert "%(" not in filled
            assert "{" not in filled


def test_compiled_catalogue_matches_the_source():
    assert compiled(PO.with_suffix(".mo")) == as_compiled([HEADER, *TEXTS])


def test_texts_of_django_are_not_translated_here():
    """The catalogues of all apps are merged: ours must not change texts of Django's admin on other pages."""
    own = compiled(PO.with_suffix(".mo"))
    changed = {}
    for path in sorted(Path(django.__file__).parent.glob("**/locale/ru/LC_MESSAGES/django.mo")):
        theirs = compiled(path)
        changed |= {text: own[text] for text in own.keys() & theirs.keys() - {""} if own[text] != theirs[text]}
    assert changed == {}


def test_header_contains_no_time_and_no_path():
    """It would change with each run, or reveal the path of the checkout."""
    names = {line.partition(":")[0] for line in HEADER.forms[0].splitlines()}
    assert not {"POT-Creation-Date", "PO-Revision-Date", "Last-Translator"} & names
    assert "Language" in names


# -- the texts of the app -------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", Code)
def test_each_code_has_a_russian_sentence(code: Code):
    russian, english = russian_and_english(describe_result(Outcome.SKIPPED, code, provider="ACME", detail="why"))
    assert CYRILLIC.search(russian)
    assert not CYRILLIC.search(english)
    assert ("ACME" in russian) == ("ACME" in english)
    assert ("why" in russian) == ("why" in english)


@pytest.mark.parametrize("outcome", Outcome)
def test_each_outcome_has_a_russian_sentence_for_codes_of_an_adapter(outcome: Outcome):
    russian, english = russian_and_english(describe_result(outcome, "a_word_of_its_own", provider="ACME"))
    assert CYRILLIC.search(russian)
    assert not CYRILLIC.search(english)


@pytest.mark.parametrize("provider", [FireKassa, CryptoCloud])
def test_format_of_each_providers_ids_is_described_in_russian(provider: type[Provider]):
    russian, english = russian_and_english(describe_invalid_id("", provider.id_form))
    assert provider.id_form in english
    assert re.findall(r"[a-z]{2,}", russian.replace("FireKassa", "")) == []


@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("outcome", [*Outcome, ""], ids=[*Outcome, "untried"])
def test_each_outcome_has_a_russian_label(operation: Operation, outcome: str):
    with override("ru"):
        assert CYRILLIC.match(outcome_label(operation, outcome))


@pytest.mark.parametrize("status", Status)
def test_each_status_has_a_russian_label(status: Status):
    russian, english = russian_and_english(STATUS_LABELS[status])
    assert CYRILLIC.match(russian)
    assert not CYRILLIC.search(english)


@pytest.mark.parametrize("status", REPORTABLE_STATUSES)
def test_each_status_that_a_person_can_decide_has_a_russian_label(status: Status):
    russian, english = russian_and_english(DECISIONS[status])
    assert CYRILLIC.match(russian)
    assert not CYRILLIC.search(english)


@pytest.mark.parametrize("situation", Situation)
def test_each_situation_of_an_invoice_has_a_russian_text(situation: Situation):
    russian, english = russian_and_english(SITUATIONS[situation])
    assert CYRILLIC.match(russian)
    assert not CYRILLIC.search(english)


@pytest.mark.parametrize("trigger", Trigger)
def test_each_trigger_has_a_label(trigger: Trigger):
    russian, english = russian_and_english(TRIGGER_LABELS[trigger])
    assert russian
    assert not CYRILLIC.search(english)


@pytest.mark.parametrize("choice", [*Operation, *Progress])
def test_each_choice_has_a_russian_label(choice: Operation | Progress):
    russian, english = russian_and_english(choice.label)
    assert CYRILLIC.match(russian)
    assert not CYRILLIC.search(english)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "Отменить 1 счёт?"),
        (2, "Отменить 2 счёта?"),
        (5, "Отменить 5 счетов?"),
        (11, "Отменить 11 счетов?"),
        (21, "Отменить 21 счёт?"),
        (104, "Отменить 104 счёта?"),
        (1014, "Отменить 1014 счетов?"),
    ],
)
def test_counts_use_russian_plural_forms(count: int, said: str):
    with override("ru"):
        text = ngettext("Cancel %(count)s invoice?", "Cancel %(count)s invoices?", count)
    assert text % {"count": count} == said


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [(0, "1 мс"), (40, "40 мс"), (120, "0,1 с"), (9_960, "10,0 с"), (14_960, "15 с")],  # noqa: RUF001 - Russian
)
def test_numbers_have_the_russian_comma(milliseconds: int, said: str):
    with override("ru"):
        assert format_milliseconds(milliseconds) == said


def test_dates_have_the_russian_genitive():
    with override("ru"):
        assert format_time(datetime(2026, 11, 21, 12, 41)) == "21 ноября 2026 г., 12:41"  # noqa: DTZ001, RUF001


def test_english_user_of_a_russian_site_gets_english(settings):
    """English has no catalogue: nothing may fall back to the site's own language instead."""
    settings.LANGUAGE_CODE = "ru"
    russian, english = DjangoTranslation("ru"), DjangoTranslation("en")
    assert russian.gettext("In doubt") == "Под вопросом"
    assert english.gettext("In doubt") == "In doubt"
    assert english.ngettext("%(count)s with a payment", "%(count)s with payments", 2) == "%(count)s with payments"
