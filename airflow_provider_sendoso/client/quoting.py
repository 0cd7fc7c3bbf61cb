"""
Quotes the words of an API without the values of the request that they repeat. No I/O.

Words and values are compared as their letters and digits alone: decoded, without accents, case, blanks and punctuation.
So a value is found however it is repeated, and what is not a value is shown as it was said.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

LONGEST_WORDS = 4000
"""Longest words that are read, in characters; the rest is not quoted."""

_ROUNDS = 3
"""How many nested encodings are undone."""
_SHORT = 3
_CERTAIN = 7
"""From so many letters and digits on, a match across a blank is no coincidence."""
_PHRASE = 4
"""From so many consecutive words on, a part of a longer text is recognised."""
_NAMES = {"name", "first_name", "last_name", "email"}
_IN_PARTS = _NAMES | {
    *("company", "title", "address", "address_line1", "address_line2", "line1", "line2", "city"),
}
"""Fields of which a single word may identify a person."""
_FIELD_WORDS = {
    *("first", "last", "name", "email", "mail", "address", "line", "city", "state", "postal", "code", "country"),
    *("company", "title", "phone"),
}
"""Words with which the API names fields; they stay, even if a value such as "Gift Company" contains them."""
_TRANSLITERATIONS = {"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "æ": "ae", "œ": "oe"}
_WITHOUT_ACCENT = str.maketrans("øłđðıħŧ", "olddiht")

_ENCODED = re.compile(
    r"(?P<bytes>(?:[%=][0-9a-f]{2}|\\x[0-9a-f]{2}|\\[0-3][0-7]{2})+)"
    r"|(?-i:\\U)(?P<long>00[0-9a-f]{6})|(?P<units>(?:\\u[0-9a-f]{4})+)|\\u\{(?P<braced>[0-9a-f]{1,6})\}"
    r"|U\+(?P<point>[0-9a-f]{4,6})|\\(?P<blank>[nrtfv0])|(?P<entity>&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z]\w{1,30});?)",
    re.I,
)
_BYTE = re.compile(r"[%=]([0-9a-f]{2})|\\x([0-9a-f]{2})|\\([0-3][0-7]{2})", re.I)
_IN_QUOTES = re.compile(r"""['"`‘“«]([^'"`‘’“”«»]{2,})(?=['"`’”»])""")
_CUT = re.compile(r"(\w{3,})(?:…|\.{2,}|\*{2,})")
_EMAIL = re.compile(r"[^\s@<>\"']{1,64}@[^\s@<>\"']{1,255}")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Letters and digits to look for, and the field that they belong to."""

    field: str
    letters: str
    alone: bool
    """Whether they match whole words only."""
    partial: bool = False
    """Whether they are a part of the field's value."""


class _View:
    """The words with some encodings undone: each character with its position in the original words."""

    def __init__(self, text: str, places: list[tuple[int, int]]) -> None:
        self.text = text
        self.places = places
        folded = [(letter, at) for at, character in enumerate(text) for letter in _fold(character)]
        self.letters = "".join(letter for letter, _ in folded)
        self._at = [at for _, at in folded]

    def decoded(self) -> _View:
        text: list[str] = []
        places: list[tuple[int, int]] = []
        done = 0
        for found in _ENCODED.finditer(self.text):
            start, end = found.span()
            meant = _decode(found)
            text += [*self.text[done:start], *meant]
            places += self.places[done:start] + [(self.places[start][0], self.places[end - 1][1])] * len(meant)
            done = end
        return _View("".join(text) + self.text[done:], places + self.places[done:])

    def find(self, wanted: _Wanted) -> Iterator[tuple[int, int]]:
        """Find letters and digits; yield their positions in the original words."""
        size, start = len(wanted.letters), self.letters.find(wanted.letters)
        while start >= 0:
            first, last = self._at[start], self._at[start + size - 1]
            within = self.text[first : last + 1]
            # Letters on both sides of a blank can make a name by chance, as in "c[an ne]ver".
            parted = size < _CERTAIN and any(not _fold(character) and not _joins(character) for character in within)
            if not (wanted.alone or parted) or self._stands_alone(first, last):
                yield self.place(first, last + 1)
            start = self.letters.find(wanted.letters, start + 1)

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Return the positions of characters in the original words, with the combining marks after the last one."""
        while end < len(self.text) and _joins(self.text[end]):
            end += 1
        return self.places[start][0], self.places[end - 1][1]

    def _stands_alone(self, first: int, last: int) -> bool:
        around = self.text[max(first - 1, 0) : first] + self.text[last + 1 : last + 2]
        return not any(map(_fold, around))


def quote_without(words: str, values: Iterable[tuple[str, str]]) -> str:
    """
    Return the words with every value replaced by ``<field>``, and with control characters escaped.

    Values are found as they are, in another case, without accents or transliterated, spaced and punctuated otherwise,
    escaped or encoded (percent, HTML, JSON, Python, octal, quoted-printable, one inside another), and in part: words
    of a name, an address or a company, the mailbox or the host of an e-mail, the end of a number, a phrase of a text,
    and whatever is quoted or cut off. Base64 and hashes are not recognised.

    :param words: somebody else's words.
    :param values: the fields and their values.
    """
    text = plain(words[:LONGEST_WORDS])
    shown: list[str] = []
    done = 0
    views = _views(text)
    known = _merged(_found(views, tuple(values)))
    whole = [(start, end) for start, end, _ in known if "@" in text[start:end]]
    # A value may be the host or the mailbox of an e-mail address alone; the rest may be another person's.
    unknown = [
        place for place in _addresses(views) if not any(place[0] < end and start < place[1] for start, end in whole)
    ]
    for start, end, field in _merged([*known, *unknown]):
        shown += [text[done:start], f"<{field}>"]
        done = end
    return escaped(_EMAIL.sub("<email>", "".join(shown) + text[done:]))


def repeats(words: str, values: Iterable[tuple[str, str]]) -> bool:
    """
    Return whether the words hold one of the values, or an e-mail address.

    :param words: somebody else's words.
    :param values: the fields and their values.
    """
    views = _views(plain(words))
    return any(_found(views, tuple(values))) or any(_addresses(views))


def plain(words: str) -> str:
    """Undo HTML's entities, and compose the characters (NFC)."""
    return unicodedata.normalize("NFC", html.unescape(words))


def escaped(words: str) -> str:
    """Escape the characters that a terminal or a log acts on: control characters, line ends, direction marks."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in words
    )


def _views(text: str) -> list[_View]:
    views = [_View(text, [(at, at + 1) for at in range(len(text))])]
    while len(views) <= _ROUNDS and _ENCODED.search(views[-1].text):
        view = views[-1].decoded()
        if view.text == views[-1].text:  # as with "&page=2" in an address, which is no entity
            break
        views.append(view)
    return views


def _addresses(views: list[_View]) -> Iterator[tuple[int, int, str]]:
    for view in views:
        for found in _EMAIL.finditer(view.text):
            yield *view.place(*found.span()), "email"


def _found(views: list[_View], values: tuple[tuple[str, str], ...]) -> Iterator[tuple[int, int, str]]:
    every = [one for field, value in values for one in _wanted(field, value)]
    wanted = sorted(every, key=lambda one: one.partial)  # of two fields, prefer the one of which this is the whole
    # value
    whole = [(field, letters) for field, value in values if (letters := _letters(value))]
    for view in views:
        for one in wanted:
            for start, end in view.find(one):
                yield start, end, one.field
        for field, value in values:
            if not _letters(value):  # punctuation or emoji
                literal = re.escape(value) if len(value) > _SHORT else rf"(?<!\w){re.escape(value)}(?!\w)"
                for found in re.finditer(literal, view.text):
                    yield *view.place(*found.span()), field
        for pattern in (_IN_QUOTES, _CUT):
            for found in pattern.finditer(view.text):
                part = _letters(found[1])
                of = [field for field, letters in whole if part and part in letters]
                if of:
                    yield *view.place(*found.span(1)), of[0]


def _merged(found: Iterable[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Join places that overlap; the longest of them names the field."""
    merged: list[tuple[int, int, str]] = []
    longest = 0
    for start, end, field in sorted(found, key=lambda place: (place[0], -place[1])):
        if not merged or start >= merged[-1][1]:
            merged.append((start, end, field))
            longest = end - start
            continue
        before = merged[-1]
        merged[-1] = (before[0], max(before[1], end), before[2] if longest >= end - start else field)
        longest = max(longest, end - start)
    return merged


@lru_cache(maxsize=256)
def _wanted(field: str, value: str) -> tuple[_Wanted, ...]:
    """List the letters and digits by which a value is found, whole and in part."""
    wanted = set()
    for form in _forms(value):
        letters = _letters(form)
        wanted.add(_Wanted(field, letters, alone=letters.isascii() and len(letters) <= _SHORT))
    digits = _letters(value)
    parts = []
    if digits.isdecimal():  # a phone number without its country's code
        parts = [(digits[cut:], False) for cut in range(1, len(digits) - _CERTAIN + 1)]
    mailbox, at, host = value.rpartition("@")
    if at and not re.search(r"\s", value):
        parts += [(_letters(mailbox), True), (_letters(host), True)]
    words = re.findall(r"\w+", mailbox if at else value)
    if len(words) > 1:
        parts.append((_letters("".join(reversed(value.split()))), True))
    if field in _IN_PARTS and len(words) > 1:
        shortest = _SHORT if field in _NAMES else _SHORT + 1
        spelt = {_letters(form) for word in words for form in _forms(word)} - _FIELD_WORDS
        parts += [(letters, True) for letters in spelt if len(letters) >= shortest]
    phrases = zip(*(words[start:] for start in range(_PHRASE)), strict=False)
    parts += [(_letters("".join(phrase)), True) for phrase in phrases]
    wanted |= {_Wanted(field, letters, alone, partial=True) for letters, alone in parts}
    return tuple(one for one in wanted if one.letters)


def _forms(value: str) -> set[str]:
    """List a value's spellings: as it is, decoded, transliterated, as UTF-8 read as Latin-1, without other letters."""
    forms = {value, _ENCODED.sub(_decode, value)}
    if not value.isascii():
        lower = unicodedata.normalize("NFC", value.lower())
        forms.add("".join(_TRANSLITERATIONS.get(character, character) for character in lower))
        forms |= {_mojibake(value), value.encode("ascii", "ignore").decode()}
    return {form for form in forms if len(_letters(form)) > 1 or form == value}


def _mojibake(value: str) -> str:
    return value.encode().decode("latin-1")


def _letters(text: str) -> str:
    return "".join(map(_fold, text))


@lru_cache(maxsize=4096)
def _fold(character: str) -> str:
    """Return the letters and digits of a character, folded; nothing for any other character."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    return "".join(letter for letter in decomposed if letter.isalnum()).translate(_WITHOUT_ACCENT)


def _joins(character: str) -> bool:
    """Return whether a character belongs to the one before: an accent, or one that cannot be seen."""
    return unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf")


def _decode(found: re.Match[str]) -> str:
    if found["bytes"]:
        octets = bytes(
            int(hexadecimal or slashed, 16) if hexadecimal or slashed else int(octal, 8)
            for hexadecimal, slashed, octal in _BYTE.findall(found["bytes"])
        )
        try:
            return octets.decode()
        except UnicodeDecodeError:
            return octets.decode("latin-1")
    if found["units"]:
        units = bytes.fromhex(found["units"].replace("\\u", "").replace("\\U", ""))
        return units.decode("utf-16-be", "replace")
    if found["entity"]:
        return html.unescape(found["entity"])
    if found["blank"]:
        return " "
    code = int(found["braced"] or found["long"] or found["point"], 16)
    return chr(code) if code <= 0x10FFFF else "\ufffd"
