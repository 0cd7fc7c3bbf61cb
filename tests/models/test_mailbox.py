"""One mailbox is one recipient in every spelling; an error names the decoration of an address, never the address."""

from __future__ import annotations

import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_sendoso.models.mailbox import address_problem, fold_case, mailbox_key

DECORATED = {
    "quotation marks": [
        '"ada@example.com"',
        "'ada@example.com'",
        "“ada@example.com”",
        "«ada@example.com»",
        "ada@example.com'",
        '"ada"@example.com',
        "`ada@example.com`",
        "‘ada@example.com’",
    ],
    "a prefix such as mailto:": [
        "mailto:ada@example.com",
        "MAILTO: ada@example.com",
        "<mailto:ada@example.com>",
        "smtp:ada@example.com",
        "SMTP:ada@example.com",
        "E-Mail: ada@example.com",
        "email=ada@example.com",
    ],
    "angle brackets": [
        "<ada@example.com>",
        "Ada Lovelace <ada@example.com>",
        "ada@example.com>",
        "Ada<ada@example.com>",
    ],
    "brackets": [
        "(ada@example.com)",
        "ada@example.com)",
        "[ada@example.com]",
        "ada@example.com (Ada)",
        "{ada@example.com}",
    ],
    "a comma or a semicolon": ["ada@example.com,", "ada@example.com;", ",ada@example.com"],
    "full-width characters": ["ａｄａ@example.com", "ada＠example.com", "ada@example．com", "ada@example.com，"],
    "characters that cannot be seen": [
        *("ada\u200b@example.com", "ada@exam\u00adple.com", "a\u200dda@example.com", "ada\u3164@example.com"),
        *("a\ufe0fda@example.com", "a\u034fda@example.com", "ada@example.com\u2800", "\U000e0101ada@example.com"),
    ],
    "an HTML entity": ["&lt;ada@example.com&gt;", "ada&#64;example.com", "ada@example.com&nbsp;"],
    "a percent-encoded character": ["ada%40example.com", "%20ada@example.com", "ada%2Bnews@example.com"],
    "a punctuation mark after it": ["ada@example.com.", "ada@example.com:", "ada@example.com!", "ada@example.com*"],
    "a punctuation mark before it": [
        *("•ada@example.com", "=ada@example.com", "*ada@example.com", ".ada@example.com", "#ada@example.com"),
        *("~ada@example.com", "→ada@example.com", "/ada@example.com"),
    ],
    "more after it": ["ada@example.com?subject=Hi", "ada@example.com/", "ada@example.com#x"],
    "white space": ["Ada ada@example.com", "ada@example.com Ada", "ada @example.com"],
    "more than one @": ["ada@@example.com", "ada@example.com@example.com", "@ada@example.com"],
}


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in DECORATED.items() for text in texts])
def test_a_decorated_address_is_refused_by_the_kind_of_its_decoration(kind: str, text: str) -> None:
    problem = address_problem(text)
    assert problem is not None
    assert kind in problem
    assert text not in problem


@pytest.mark.parametrize(
    "text",
    [
        "ada@example.com",
        "Ada.Lovelace@Example.co.uk",
        "ada+news@example.com",
        "_ada@example.com",
        "o'brien@example.com",
        "ada-@example.com",
        "ada/uk=x@example.com",
        "d{a}ta@example.com",
        "straße@example.com",
        "josé@exämple.com",
        "अनुराग@डाटामेल.भारत",
        "a@b.co",
        "1@2.example",
        "ada@xn--bcher-kva.example",
    ],
)
def test_a_plain_address_has_no_problem(text: str) -> None:
    assert address_problem(unicodedata.normalize("NFC", text)) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ada",
        "ada@",
        "@example.com",
        "ada@localhost",
        "ada@example..com",
        "n/a",
        "ada.example.com",
    ],
)
def test_text_that_is_no_address_is_reported_as_such(text: str) -> None:
    problem = address_problem(text)
    assert problem is not None
    assert "e-mail address" in problem


@pytest.mark.parametrize(
    "spellings",
    [
        ("ada@example.com", "ADA@EXAMPLE.COM", "Ada@Example.Com"),
        ("ada@bücher.example", "ADA@BÜCHER.EXAMPLE", "ada@xn--bcher-kva.example", "ada@XN--BCHER-KVA.example"),
        ("οδος@example.com", "ΟΔΟΣ@example.com", "οδοσ@example.com"),
        ("straße@example.com", "STRAẞE@example.com"),
        ("é@example.com", "E\u0301@example.com"),
    ],
)
def test_one_mailbox_has_one_key(spellings: tuple[str, ...]) -> None:
    assert len({mailbox_key(unicodedata.normalize("NFC", spelling)) for spelling in spellings}) == 1


@pytest.mark.parametrize(
    "mailboxes",
    [
        ("straße@example.com", "strasse@example.com"),
        ("ﬁn@example.com", "fin@example.com"),
        ("ada@faß.example", "ada@fass.example"),
        ("ŉada@example.com", "ʼnada@example.com"),
        ("a.da@example.com", "ada@example.com", "ada+news@example.com"),
        ("josé@example.com", "jose@example.com"),
        ("i@example.com", "ı@example.com"),
    ],
)
def test_different_mailboxes_have_different_keys(mailboxes: tuple[str, ...]) -> None:
    assert len({mailbox_key(mailbox) for mailbox in mailboxes}) == len(mailboxes)


@given(st.text(max_size=40))
def test_folding_case_keeps_the_number_of_letters_and_is_idempotent(text: str) -> None:
    folded = fold_case(text)
    assert len(folded) == len(text)
    assert fold_case(folded) == folded


@given(
    local=st.text(string.ascii_letters + string.digits + "äßéñΣςſ", min_size=1, max_size=12),
    domain=st.sampled_from(["example.com", "Bücher.example", "xn--bcher-kva.example"]),
)
def test_the_key_of_a_key_is_the_key(local: str, domain: str) -> None:
    key = mailbox_key(unicodedata.normalize("NFC", f"{local}@{domain}"))
    assert mailbox_key(key) == key


@given(st.text(max_size=60), st.sampled_from(["ada@example.com", "grace@example.org"]), st.text(max_size=60))
def test_no_problem_quotes_the_address(before: str, address: str, after: str) -> None:
    problem = address_problem((before + address + after).strip()) or ""
    assert address not in problem.replace("like ada@example.com", "")
