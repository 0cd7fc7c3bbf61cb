"""Detects words for missing values, and numbers that a spreadsheet or data frame has changed. Pure: no I/O.

Such a value would be printed on a parcel as it is, so its row is invalid; the value is not repaired by guessing.
"""

from __future__ import annotations

import re
from typing import Any

_STAND_INS = frozenset(
    {
        *("n/a", "N/A", "n.a.", "N.A.", "N/a", "#N/A", "#NV", "#REF!", "#VALUE!", "#NAME?", "#NULL!", "#DIV/0!"),
        *("#NUM!", "#SPILL!", "#CALC!", "nan", "NaN", "NAN", "-nan", "None", "none", "NaT", "<NA>", "<na>", "null"),
        *("NULL", "(null)", "[null]", "<null>", "<NULL>", "(none)", "<none>", "<nil>", "\\N", "undefined"),
        *("(blank)", "(empty)", "[object Object]", "{}", "[]", "''", '""', "inf", "-inf"),
        *("-", "--", "---", "–", "—", "?", "."),
    }
)
"""Words of databases, data frames and spreadsheets for a missing value. Case matters: Nan is a first name."""
_SHORTENED = re.compile(r"[+-]?\d([.,]\d+)?[eE]\+?\d+")
_DISGUISED = re.compile(r"""'[+-]?\d[\d ()./-]*|="[^"]*"|#{3,}""")
"""How spreadsheets keep a number as text, and what they show where a column is too narrow."""
_SEVERAL = re.compile(r"[\s,;|\[\](){}]")
_FLOAT = re.compile(r"\d+[.,]0+")
_JINJA = (("{{", "}}"), ("{%", "%}"), ("{#", "#}"))
_PLACEHOLDER = re.compile(r"\{\s{0,9}[A-Za-z_]\w{0,99}\s{0,9}([.:!\[][^{}]{0,99})?\}")
_LONGEST_STAND_IN = max(map(len, _STAND_INS))


FIRST_OF_SUSPECTS = frozenset({one[0] for one in _STAND_INS} | set("+-0123456789'=#"))
"""First characters of suspects: a check for them spares most values of a million rows the full test."""


def suspect(text: str) -> str | None:
    """
    Say why a text cannot be intended.

    :param text: the normalised text.
    :return: the problem; ``None`` for a text that may be intended.
    """
    if len(text) <= _LONGEST_STAND_IN and text in _STAND_INS:
        return f"is {text!r}, which stands for a missing value; use NULL"
    if text[0] in "+-0123456789" and _SHORTENED.fullmatch(text):
        return "is a number in scientific notation, as spreadsheets shorten long ones; give all of its digits as text"
    if text[0] in "'=#" and _DISGUISED.fullmatch(text):
        return "is written as a spreadsheet shows or guards it; give the value alone, as text"
    return None


def several_problem(variant_id: str) -> str | None:
    """
    Say why a text is not one variant of the marketplace: of several, Sendoso would send the first alone (published).

    :param variant_id: the normalised text.
    :return: the problem; ``None`` if it may be one id.
    """
    return "is more than one id: give one variant for each send" if _SEVERAL.search(variant_id) else None


def float_problem(text: str | None) -> str | None:
    """
    Say why a phone number or a postal code was a number on its way here.

    :param text: as it would be printed.
    :return: the problem; ``None`` if there is none.
    """
    if text is None or not _FLOAT.fullmatch(text):
        return None
    return "ends in a decimal point and a zero: a column of numbers was made text; give it as text from the start"


def placeholder(text: Any) -> str | None:
    """
    Return the first placeholder in a text that is to be printed; ``None`` if there is none.

    :param text: a card's text; a value of another type holds none.
    """
    if not isinstance(text, str) or "{" not in text:
        return None
    for opening, closing in _JINJA:  # not by a pattern, which takes a second for thousands of opening braces
        start = text.find(opening)
        end = text.find(closing, start + 2)
        if 0 <= start < end:
            return text[start : end + 2]
    found = _PLACEHOLDER.search(text)
    return found[0] if found else None


_DIGITS = {
    country: digits
    for digits, countries in {
        3: "FO GN IS LS MG OM PG",
        4: ("AF AL AR AT AU AZ BD BE BG CH CV CY DK ET GE GW HM HT HU LR LU MD MK MZ NE NO NZ PH PY SI SJ TN VE ZA"),
        5: (
            "BA BT CU CZ DE DO DZ EE EG EH ES FI FR GR GT HN HR ID IQ IT JO KE KR KW LA LK LT MA MM MN MU MV MX MY NA "
            "NI NP PE PK SA SD SE SK SN TH TR UA US UY ZM AS FM GU MH MP PR PW UM VI"
        ),
        6: "BY CN CO EC IN KG KZ NG RO RU SG TJ TM UZ",
        7: "CL JP",
        8: "BR",
        10: "IR",
    }.items()
    for country in countries.split()
}
"""Number of digits of a country's postal codes, for countries in which all codes have the same length and some begin
with a zero (Google's address data), and for territories with US ZIP codes."""


_WITH_ZIP_4 = frozenset({"US", "AS", "FM", "GU", "MH", "MP", "PR", "PW", "UM", "VI"})
"""Countries whose codes may have four more digits after a hyphen."""


def postal_code_problem(country: str | None, postal_code: str | None) -> str | None:
    """
    Say why a postal code of digits has lost its leading zeros.

    :param country: ISO 3166 alpha-2.
    :param postal_code: the code as it would be printed.
    :return: the problem; ``None`` if there is none.
    """
    if problem := float_problem(postal_code):
        return problem
    needed = _DIGITS.get(country or "")
    digits = (postal_code or "").replace("-", "").replace(" ", "")
    if needed is None or not digits.isdecimal():
        return None
    if country in _WITH_ZIP_4 and "-" in (postal_code or ""):
        needed = 9
    if len(digits) >= needed:
        return None
    return (
        f"has {len(digits)} digits and codes of {country} have {needed}: a column of numbers loses leading zeros; "
        "give it as text"
    )
