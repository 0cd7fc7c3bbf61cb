"""An error never quotes a value of a request, in whatever spelling the answer repeats it; other words are quoted."""

from __future__ import annotations

import html
import json
import quopri
import re
import unicodedata
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_sendoso.client.answers import Answer, api_words
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.quoting import escaped, quote_without, repeats


def _spelt(pattern: str) -> Callable[[str], str]:
    """Write each UTF-16 unit or code point of a text by a pattern."""
    return lambda text: "".join(pattern.format(ord(character)) for character in text)


TRANSFORMATIONS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "upper case": str.upper,
    "lower case": str.lower,
    "title case": str.title,
    "casefold": str.casefold,
    "NFD": lambda text: unicodedata.normalize("NFD", text),
    "NFKD without marks": lambda text: re.sub(r"[\u0300-\u036f]", "", unicodedata.normalize("NFKD", text)),
    "full width": lambda text: re.sub("[!-~]", lambda one: chr(ord(one[0]) + 0xFEE0), text),
    "percent": quote,
    "percent, every byte": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "percent, Latin-1": lambda text: quote(text, encoding="latin-1", errors="xmlcharrefreplace"),
    "percent, twice": lambda text: quote(quote(text, safe=""), safe=""),
    "plus": quote_plus,
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON, twice": lambda text: json.dumps(json.dumps(text))[1:-1],
    "JSON, every character": lambda text: re.sub("....", r"\\u\g<0>", text.encode("utf-16-be").hex()),
    "JavaScript": _spelt(r"\u{{{:x}}}"),
    "Python": lambda text: text.encode("unicode_escape").decode(),
    "Python, bytes": lambda text: repr(text.encode())[2:-1],
    "Python, long": _spelt("\\U{:08x}"),
    "octal": lambda text: "".join(f"\\{byte:03o}" for byte in text.encode()),
    "code points": _spelt("U+{:04X} "),
    "HTML": html.escape,
    "HTML, decimal": _spelt("&#{};"),
    "HTML, hexadecimal": _spelt("&#x{:X};"),
    "HTML, twice": lambda text: html.escape(html.escape(text)),
    "HTML in percent": lambda text: quote(html.escape(text)),
    "quoted-printable": lambda text: quopri.encodestring(text.encode()).decode(),
    "without blanks": lambda text: re.sub(r"\s", "", text),
    "without punctuation": lambda text: re.sub(r"[^\w\s@]", "", text),
    "hyphens": lambda text: re.sub(r"\s+", "-", text),
    "underscores": lambda text: re.sub(r"\W+", "_", text),
    "more blanks": lambda text: re.sub(r"\s+", "  \t", text),
    "spread": " ".join,
    "zero width": "\u200b".join,
    "soft hyphens": "\u00ad".join,
    "UTF-8 as Latin-1": lambda text: text.encode().decode("latin-1"),
    "words turned round": lambda text: " ".join(reversed(text.split())),
    "quoted": "'{}'".format,
}

PEOPLE = [
    {
        "first_name": "Zoë",
        "last_name": "Großmann-Özdemir",
        "email": "zoe.grossmann+gifts@kranich-bau.example",
        "company": "Kranich & Söhne KG",
        "title": "Geschäftsführerin",
        "address_line1": "Lindenstraße 12b",
        "city": "Würzburg",
        "postal_code": "97070",
        "mobile_no": "+49 931 5550 1234",
    },
    {
        "first_name": "Siobhán",
        "last_name": "O'Sullivan",
        "email": "SIOBHAN_OS@quayside.example",
        "company": "Quayside (Cork) <Holdings>",
        "title": "VP, R&D",
        "address_line1": 'The "Old" Mill, Unit 7',
        "city": "Cill Airne",
        "postal_code": "OX1 2AB",
        "mobile_no": "(021) 555-0199",
    },
    {
        "first_name": "Łukasz",
        "last_name": "Żółć",
        "email": "lukasz@zolc.example",
        "company": "Øresund Kaffeøl",
        "title": "Główny księgowy",
        "address_line1": "ul. Świętokrzyska 3/14",
        "city": "Łódź",
        "postal_code": "90-001",
        "mobile_no": "0048425550188",
    },
    {
        "first_name": "小龍",
        "last_name": "歐陽",
        "email": "xiaolong@dojo.example",
        "company": "功夫工作室",
        "title": "武術家",
        "address_line1": "彌敦道 41",
        "city": "九龍",
        "postal_code": "999077",
        "mobile_no": "+852 2555 0143",
    },
]


def _letters(text: str) -> str:
    """The letters and digits of a text, without case, by which a reader would recognise it."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", text).casefold()))


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("person", PEOPLE, ids=lambda person: person["email"])
def test_every_field_is_replaced_in_every_transformation(person: dict[str, str], transformation: str) -> None:
    spell = TRANSFORMATIONS[transformation]
    if transformation == "words turned round":
        person = {field: value for field, value in person.items() if field not in ("mobile_no", "postal_code")}
    for field, value in person.items():
        said = spell(value)
        words = quote_without(f"We could not use {said} today.", person.items())
        assert re.fullmatch("We could not use .*<[a-z_0-9]+>.* today[.]", words), (field, words)
        rest = re.sub("<[a-z_0-9]+>", " ", words.removeprefix("We could not use ").removesuffix(" today."))
        for mark in (*(spell(mark) for mark in value if not mark.isalnum()), "\u200b", "\u00ad", "\t", "\n"):
            rest = rest.replace(escaped(mark).strip() or " ", " ").replace(html.unescape(mark), " ")
        rest = re.sub(r"\\x[89][0-9a-f]", "", rest)  # control characters of UTF-8 as Latin-1
        assert _letters(rest) == "", (field, said, words)


PARTS = [
    ("name", "Ada Lovelace", "Lovelace, Ada", "<name>"),
    ("name", "Ada Lovelace", "A. LOVELACE", "A. <name>"),
    ("last_name", "Müller", "Mueller", "<last_name>"),
    ("last_name", "Müller", "MULLER", "<last_name>"),
    ("last_name", "Müller", "M?ller", "<last_name>"),
    ("last_name", "Straße", "STRASSE", "<last_name>"),
    ("last_name", "Fitzgerald", "Fitzg...", "<last_name>..."),
    ("email", "grace.hopper@navy.example", "mailbox grace.hopper", "mailbox <email>"),
    ("email", "grace.hopper@navy.example", "GRACE_HOPPER", "<email>"),
    ("email", "grace.hopper@navy.example", "Hopper", "<email>"),
    ("email", "grace.hopper@navy.example", "host navy.example", "host <email>"),
    ("email", "grace.hopper@navy.example", "grace.hopper%40navy.example", "<email>"),
    ("mobile_no", "+44 20 7946 0958", "020-7946-0958", "0<mobile_no>"),
    ("mobile_no", "+44 20 7946 0958", "(0044) 20 79.46.09.58", "(00<mobile_no>"),
    ("mobile_no", "0171 5550123", "+49171/5550123", "+49<mobile_no>"),
    ("company", "Analytical Engines Ltd", "ENGINES", "<company>"),
    (
        "address_line1",
        "12 St James's Square",
        "12, Saint James's Square",
        "12, Saint <address_line1>'s <address_line1>",
    ),
    ("message", "Get well soon after the operation", "soon after the op", "soon after the op"),
    ("message", "Get well soon after the operation", "well soon, after the", "<message>"),
]


@pytest.mark.parametrize(("field", "value", "said", "wanted"), PARTS)
def test_a_part_or_another_spelling_of_a_value_is_replaced(field: str, value: str, said: str, wanted: str) -> None:
    assert quote_without(f"No: {said}", [(field, value)]) == f"No: {wanted}"


@pytest.mark.parametrize(
    "said",
    [
        "Email is invalid. Postal code is required for country US.",
        "touch_id 4711 can't be blank",
        "The first name and the company of the address are too long (maximum is 30 characters).",
        "Can never find it, 100% of 1,250 gifts are out of stock; code=E4021, https://api.example/errors#3",
    ],
)
def test_words_that_are_no_value_are_quoted_unchanged(said: str) -> None:
    person = PEOPLE[1] | {"first_name": "Anne", "last_name": "Ed", "company": "The Company Name", "state": "NV"}
    assert quote_without(said, person.items()) == said


OBEYED = [
    "\x1b[2J\x1b]0;owned\x07",
    "a\r\n[2026-01-01] INFO - fine",
    "\u202ereversed",
    "\u2028",
    "\x9b31m",
    "\x00",
    "\u2066x",
]


@pytest.mark.parametrize("said", OBEYED, ids=ascii)
def test_control_sequences_of_a_terminal_are_escaped(said: str) -> None:
    request = Request("POST", "/api/v3/sends", json={"send": {"first_name": "Ada"}})
    for spelt in (said, "".join(f"&#{ord(one)};" for one in said)):
        body = json.dumps({"message": f"No {spelt} for Ada"}).encode()
        words = api_words(request, Answer(422, {}, body))
        assert words.endswith('for <first_name>"')
        assert words.isprintable()
    assert escaped("Zoë 李 'x'") == "Zoë 李 'x'"


@given(st.text(min_size=1, max_size=60).filter(str.strip), st.sampled_from(sorted(TRANSFORMATIONS)))
def test_any_text_is_quoted_without_an_error(value: str, transformation: str) -> None:
    try:
        said = TRANSFORMATIONS[transformation](value)
    except UnicodeEncodeError:
        return
    assert quote_without(said, [("note", value)]).isprintable()


@pytest.mark.parametrize("said", ["zoe.grossmann", "Z%6F%C3%AB", "gro%C3%9Fmann", "a%40b.example"])
def test_a_url_that_repeats_a_value_is_recognised(said: str) -> None:
    assert repeats(f"https://track.example/s/{said}", PEOPLE[0].items())
    assert not repeats("https://track.example/s/8f2e77", PEOPLE[0].items())
