"""Normalises the names of accounts and dedupe scopes, because another spelling would send a second gift. No I/O."""

from __future__ import annotations

import unicodedata

_INVISIBLE = ("Cc", "Cf", "Zl", "Zp")


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
        if unicodedata.category(character) in _INVISIBLE:
            return f"holds a character that cannot be seen (U+{ord(character):04X})"
        if character.isspace() and character != " ":
            return f"holds a blank that is not the space bar's (U+{ord(character):04X})"
    return None
