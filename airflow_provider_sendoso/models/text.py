"""Validates and normalises the text of a row's cell or of an answer's field."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from enum import Enum
from numbers import Integral, Real
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from airflow_provider_sendoso.models.countries import COUNTRIES
from airflow_provider_sendoso.models.mailbox import address_problem, read_key
from airflow_provider_sendoso.models.suspects import FIRST_OF_SUSPECTS, placeholder, suspect

LONGEST_CELL = 8000
"""Longest cell that is processed, in characters; no field may be that long."""

_MISSING = ("NAType", "NaTType")
"""Types of pandas' missing values; pandas need not be installed."""
_PLACE_IN_MEMORY: tuple[Any, Any] = (object.__str__, object.__repr__)
"""What prints an object as <… object at 0x…>."""
_EMOJI_TAGS = frozenset(map(chr, range(0xE0020, 0xE0080)))


def normalise_text(value: Any) -> str | None:
    """
    Turn a cell of a row into text: stripped, NFC, integral numbers as integers; NULL, NaN and blank are absent.

    :param value: a value from a database or a DAG author.
    :raises TypeError: for bytes and containers (arrays, JSON), which no field of the API holds.
    :raises ValueError: for text that is not valid UTF-8 or longer than any field, and for a signalling NaN.
    """
    if value is None:
        return None
    if type(value) is str and value.isascii() and value.isprintable():
        return value.strip() or None  # plain text needs no further steps
    if type(value) is int:
        return str(value)
    if isinstance(value, Enum):
        return normalise_text(value.value)
    if type(value).__name__ in _MISSING or (type(value).__name__ == "datetime64" and str(value) == "NaT"):
        return None
    if type(value) is bool:
        return str(value)
    if isinstance(value, Integral):  # numpy's, too
        return str(int(value))
    if isinstance(value, Real | Decimal):
        value = value if isinstance(value, Decimal) else float(value)
        if not math.isfinite(value):
            return None
        value = int(value) if value == int(value) else value
    elif _is_no_text(value):
        raise TypeError(f"{type(value).__name__} is not text")
    text = str(value)
    if len(text) > LONGEST_CELL:  # before NFC, which takes a second for each 30,000 combining marks
        raise ValueError(f"longer than {LONGEST_CELL} characters")
    text = unicodedata.normalize("NFC", text)
    text.encode()  # raises a ValueError for half of a surrogate pair
    return _stripped(text) or None


def _is_no_text(value: Any) -> bool:
    """Whether a value is bytes, an array of any kind, JSON, or prints as its place in memory."""
    if isinstance(value, Iterable):
        return not isinstance(value, str)
    return callable(value) or (type(value).__str__, type(value).__repr__) == _PLACE_IN_MEMORY


def _stripped(text: str) -> str:
    """Strip white space and invisible characters; with a byte-order mark, the same recipient would count as another."""
    first, last = 0, len(text)
    while first < last and _invisible(text[first]):
        first += 1
    while first < last and _invisible(text[last - 1]):
        last -= 1
    return text[first:last]


def _invisible(character: str) -> bool:
    if character in _EMOJI_TAGS:
        return False  # the last part of an emoji flag, like England's
    return character.isspace() or unicodedata.category(character) in ("Cc", "Cf")


def normalise_key(value: Any) -> str | None:
    """
    Normalise a recipient key, so that equal recipients have equal keys; an e-mail address becomes its mailbox key.

    :param value: the recipient key's cell.
    """
    text = normalise_text(value)
    return read_key(text)[0] if text is not None and "@" in text else text


def _text(value: Any) -> str | None:
    if type(value) is str and value.isascii() and value.isprintable():
        text = value.strip()  # a shortcut for most cells of a million rows
        if text and text[0] not in FIRST_OF_SUSPECTS:
            return text
    elif isinstance(value, str) and len(value) > LONGEST_CELL:
        raise PydanticCustomError("too_long", f"is longer than {LONGEST_CELL} characters")
    else:
        try:
            text = normalise_text(value) or ""
        except (TypeError, ValueError):
            raise PydanticCustomError("not_text", "is not text") from None
    if not text:
        return None
    problem = suspect(text) if text[0] in FIRST_OF_SUSPECTS else None
    if problem is not None:
        raise PydanticCustomError("suspect", "{problem}", {"problem": problem})
    return text


def _present(text: str | None) -> str:
    if text is None:
        raise PydanticCustomError("absent", "is missing")
    return text


def _required_text(value: Any) -> str:
    return _present(_text(value))


def _printed(value: Any) -> str | None:
    text = _text(value)
    if text is not None and "{" in text and placeholder(text) is not None:
        problem = "holds a placeholder, like {{ x }} or {x}, that nothing fills in"
        raise PydanticCustomError("suspect", "{problem}", {"problem": problem})
    return text


def _required_printed(value: Any) -> str:
    return _present(_printed(value))


def _email(value: Any) -> str:
    text = _required_text(value)
    problem = address_problem(text)
    if problem is not None:
        raise PydanticCustomError("email", "{problem}", {"problem": problem})
    return text


def _country(value: Any) -> str | None:
    text = _text(value)
    code = text.upper() if text else None
    if code is not None and code not in COUNTRIES:
        raise PydanticCustomError("country", "is not a two-letter code of ISO 3166, like GB or US")
    return code


LONGEST_ID = 190
"""Longest id, in characters: the length of the ledger's columns."""

LONGEST_TEXT = 255
"""Longest name, address line and similar text, in characters (inferred from usual column lengths)."""

LONGEST_MESSAGE = 2000
"""Longest message, in characters (inferred; it detects a wrong column, and Sendoso may allow less)."""

LONGEST_LINK = 2000
"""Longest eGift link, in characters (inferred)."""

LONGEST_VALUE = 1000
"""Longest metadata value, in characters (inferred)."""

# The length is declared before the validator that makes text of a cell, so that pydantic's core checks it, not Python.
Id = Annotated[str, Field(max_length=LONGEST_ID, pattern=r"^[^\x00]*$"), BeforeValidator(_required_text)]
Text = Annotated[str, Field(max_length=LONGEST_TEXT), BeforeValidator(_required_printed)]
OptionalText = Annotated[Annotated[str, Field(max_length=LONGEST_TEXT)] | None, BeforeValidator(_printed)]
Message = Annotated[str, Field(max_length=LONGEST_MESSAGE), BeforeValidator(_required_text)]
OptionalMessage = Annotated[Annotated[str, Field(max_length=LONGEST_MESSAGE)] | None, BeforeValidator(_text)]
Email = Annotated[str, Field(max_length=LONGEST_TEXT), BeforeValidator(_email)]
OptionalEmail = Annotated[str | None, BeforeValidator(lambda value: None if _text(value) is None else _email(value))]
Country = Annotated[str | None, BeforeValidator(_country)]


def _web_address(value: Any) -> str | None:
    text = _printed(value)
    if text is not None and (not text.startswith("https://") or any(map(str.isspace, text))):
        problem = "is not an address that begins with https://"
        raise PydanticCustomError("suspect", "{problem}", {"problem": problem})
    return text


WebAddress = Annotated[Annotated[str, Field(max_length=LONGEST_LINK)] | None, BeforeValidator(_web_address)]

_TRUTHS = {"true": True, "1": True, "yes": True, "t": True, "false": False, "0": False, "no": False, "f": False}


def read_truth(value: Any) -> bool | None:
    """
    Read a cell that is true or false; blank and NULL are absent.

    :raises PydanticCustomError: for any other value.
    """
    text = _text(value)
    if text is not None and text.casefold() not in _TRUTHS:
        raise PydanticCustomError("suspect", "{problem}", {"problem": "is neither true nor false"})
    return None if text is None else _TRUTHS[text.casefold()]


Truth = Annotated[bool | None, BeforeValidator(read_truth)]

_HIGHEST_PRICE = 10**6


def _whole_usd(value: Any) -> int | None:
    text = _text(value)
    if text is None:
        return None
    if isinstance(value, bool) or not text.isascii() or not text.isdecimal() or not 0 < int(text[:9]) <= _HIGHEST_PRICE:
        problem = "is not a whole number of USD from 1, as Sendoso takes it"
        raise PydanticCustomError("suspect", "{problem}", {"problem": problem})
    return int(text)


WholeUSD = Annotated[int | None, BeforeValidator(_whole_usd)]


def _metadata_value(value: Any) -> str | int | float | bool:
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, str):
        text = _required_text(value)
        if len(text) > LONGEST_VALUE:
            raise PydanticCustomError("too_long", f"is longer than {LONGEST_VALUE} characters")
        return text
    raise PydanticCustomError("not_plain", "must be text, a number or true or false")


MetadataValue = Annotated[Any, BeforeValidator(_metadata_value)]


_LARGEST_NUMBER = 2**63
"""What the whole numbers of a database hold; a larger number in an answer is no id."""
_IN_NO_ID = frozenset("/\\?#%")
"""What would change a path, were the id not quoted in it."""


def _id(value: Any) -> str:
    """Read an id of an answer: a short printable word, or a whole number."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST_NUMBER:
        value = str(int(value)) if value == int(value) else ""
    text = value.strip(" ") if isinstance(value, str) and len(value) <= LONGEST_CELL else ""
    if not text or not text.isprintable() or text.strip(".") == "" or not _IN_NO_ID.isdisjoint(text):
        raise PydanticCustomError("no_id", "is no id")
    return unicodedata.normalize("NFC", text)


AnswerId = Annotated[str, BeforeValidator(_id), Field(max_length=LONGEST_ID)]
