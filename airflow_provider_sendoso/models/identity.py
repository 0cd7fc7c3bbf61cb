"""Normalises the names of accounts and dedupe scopes, because another spelling would send a second gift. No I/O."""

from __future__ import annotations

import unicodedata

_INVISIBLE = ("Cc", "Cf", "Zl", "Zp")
_BLANKS = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2065\u2800\u3164\uffa0"
"""Letters, marks and symbols that are drawn as nothing (Unicode's *default ignorable*, and the blank of Braille)."""
_SELECTORS = ("\ufe00", "\ufe0f"), ("\U000e0000", "\U000e0fff")
"""First and last of the characters that choose the shape of the one before, and are nothing by themselves."""


def is_invisible(character: str) -> bool:
    """
    Say whether a character is drawn as nothing, so that two names which look the same may differ by it.

    :param character: a white space is drawn, unless it is a line's or paragraph's end.
    """
    return (
        character in _BLANKS
        or unicodedata.category(character) in _INVISIBLE
        or any(first <= character <= last for first, last in _SELECTORS)
    )


def likeness(name: str) -> str:
    """
    Return what is equal for two names that people take for one: of other case, width, blanks or dashes.

    :param name: the result of :func:`same_name`.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join("".join("-" if unicodedata.category(one) == "Pd" else one for one in folded).split())


def same_name(value: str) -> str:
    """
    Normalise a name: trimmed and NFC.

    :param value: the name as a person has typed it, or a template has rendered it.
    """
    return unicodedata.normalize("NFC", value.strip())


def name_problem(name: str) -> str | None:
    """
    Say why a name could look the same as another one that differs.

    :param name: the result of :func:`same_name`.
    :return: the problem; ``None`` if the name is unambiguous.
    """
    for character in name:
        if is_invisible(character):
            return f"holds a character that cannot be seen (U+{ord(character):04X})"
        if character.isspace() and character != " ":
            return f"holds a blank that is not the space bar's (U+{ord(character):04X})"
    return None
