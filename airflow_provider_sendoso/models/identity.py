"""Names that money hangs on (accounts, dedupe scopes): one spelling each. No I/O."""

from __future__ import annotations

import unicodedata

_INVISIBLE = ("Cc", "Cf", "Zl", "Zp")


def same_name(value: str) -> str:
    """
    Return the spelling under which a name is known: trimmed and NFC.

    :param value: as somebody has typed it, or a template has rendered it.
    """
    return unicodedata.normalize("NFC", value.strip())


def name_problem(name: str) -> str | None:
    """
    Say why two people could read a name as the same and a computer as two.

    :param name: of :func:`same_name`.
    :return: ``None`` for a name that can be told apart by its look.
    """
    for character in name:
        if unicodedata.category(character) in _INVISIBLE:
            return f"holds a character that cannot be seen (U+{ord(character):04X})"
        if character.isspace() and character != " ":
            return f"holds a blank that is not the space bar's (U+{ord(character):04X})"
    return None
