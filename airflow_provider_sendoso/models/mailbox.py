"""E-mail addresses as identities: which two spellings are one mailbox, and which are no plain address. No I/O.

Within a dedupe scope a recipient is usually known by the e-mail address. Two spellings of one mailbox would be two
recipients and two gifts; two mailboxes that count as one would leave a recipient without a gift. So an address that
carries decoration (quotes, ``mailto:``, a display name) is refused rather than repaired, and the key folds case and
nothing else.
"""

from __future__ import annotations

import re
import unicodedata

import idna

# Nearly every address of a warehouse: plain ASCII, nothing around it, a dot in the domain.
_LABEL = r"[A-Za-z0-9-]+"
_PLAIN = re.compile(rf"[A-Za-z0-9_+-][A-Za-z0-9_+.-]*@{_LABEL}(?:\.{_LABEL})+")

_QUOTES = "\"'`´‘’‚‛“”„‟«»‹›′″"
_BRACKETS = "()[]{}<>"
_SCHEME = re.compile(r"(mailto|smtp|e-?mail|to|cc|bcc|sip|xmpp|im)\s*[:=]", re.IGNORECASE)
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")
_ENTITY = re.compile(r"&(#\d+|#x[0-9a-f]+|[a-z]+);", re.IGNORECASE)
_LOCAL_PUNCTUATION = frozenset("!#$%&'*+-/=?^_{|}~.")
"""ASCII punctuation that a local part may hold without quotes (RFC 5322, 3.2.3)."""

NOT_AN_ADDRESS = "is not an e-mail address"


def address_problem(text: str) -> str | None:
    """
    Say why a text is no plain e-mail address.

    :param text: stripped of white space, NFC.
    :return: the problem, without a word of the address; ``None`` for a plain address.
    """
    if _PLAIN.fullmatch(text):
        return None
    decorated = decoration(text)
    if decorated is not None:
        return decorated
    local, _, domain = text.partition("@")
    if not local or not _is_local(local) or not _is_domain(domain):
        return NOT_AN_ADDRESS
    return None


def decoration(text: str) -> str | None:
    """
    Say what decorates an address; a decorated one would be another recipient than the plain one.

    :param text: stripped of white space, NFC.
    :return: the problem, without a word of the address; ``None`` where nothing decorates it, or it is no address.
    """
    kind = None if _PLAIN.fullmatch(text) else _decoration(text)
    if kind is None:
        return None
    return f"is not an e-mail address alone: it has {kind}; write it like ada@example.com"


def read_key(text: str) -> tuple[str, str | None]:
    """
    Read what identifies a recipient and holds an ``@``.

    :param text: stripped of white space, NFC.
    :return: the key, which is the mailbox's for an e-mail address; and what decorates the address, if anything does.
    """
    if _PLAIN.fullmatch(text):
        return mailbox_key(text), None
    decorated = decoration(text)
    return (text if decorated or address_problem(text) else mailbox_key(text)), decorated


def mailbox_key(address: str) -> str:
    """
    Return the form in which two spellings of one mailbox are equal.

    Case is folded letter by letter, and an internationalised domain is written as its ``xn--`` form. No letter is
    expanded: ``straße@…`` and ``strasse@…`` are two mailboxes. What stands before ``@`` is otherwise kept, because
    only its own mail server knows whether ``a.da`` or ``ada+news`` is ``ada``.

    :param address: for which :func:`address_problem` is ``None``.
    """
    lower = address.lower()
    if address.isascii() and "xn--" not in lower:
        return lower
    local, _, domain = unicodedata.normalize("NFC", fold_case(address)).rpartition("@")
    return f"{local}@{_ascii_domain(domain)}"


def fold_case(text: str) -> str:
    """
    Fold case without expanding letters (Unicode's *simple* case folding, which Python does not offer).

    :param text: in any case.
    """
    return text.lower() if text.isascii() else "".join(map(_fold, text))


def _fold(character: str) -> str:
    for folded in (character.casefold(), character.lower()):
        if len(folded) == 1:
            return folded
    return character  # folding it would make several letters of one


def _ascii_domain(domain: str) -> str:
    try:
        return idna.encode(domain, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        return domain


def _decoration(text: str) -> str | None:
    """Name what stands around an address or was done to it."""
    if any(unicodedata.decomposition(character).startswith(("<wide>", "<narrow>")) for character in text):
        return "full-width characters"
    if any(unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") for character in text):
        return "characters that cannot be seen"
    if "@" not in text and not _ENTITY.search(text) and "%40" not in text:
        return None
    if _SCHEME.match(text.lstrip(_QUOTES + _BRACKETS)):
        return "a prefix such as mailto:"
    if _ENTITY.search(text):
        return "an HTML entity such as &lt;"
    if _PERCENT.search(text):
        return "a percent-encoded character such as %20"
    if text.count("@") > 1:
        return "more than one @"
    if "<" in text or ">" in text:
        return "angle brackets, perhaps around it after a display name"
    if any(bracket in text for bracket in "()[]") or text[0] == "{" or text[-1] == "}":
        return "brackets"
    local, _, domain = text.partition("@")
    # O'Brien has an apostrophe of his own.
    if local.startswith("'") or any(quote in local.replace("'", "") + domain for quote in _QUOTES):
        return "quotation marks"
    if any(character.isspace() for character in text):
        return "white space"
    if "," in text or ";" in text:
        return "a comma or a semicolon"
    if "?" in domain or "#" in domain or "/" in domain:
        return "more after it, such as ?subject="
    if text[-1] in ".:!*_-=~|\\":
        return "a punctuation mark after it"
    if local and (local[0] in ".*=" or not _is_local(local[0])):
        return "a punctuation mark before it"
    return None


def _is_local(local: str) -> bool:
    """Say whether a local part holds no punctuation but what RFC 5322 allows without quotes; symbols are letters."""
    return all(
        character.isalnum() or character in _LOCAL_PUNCTUATION or unicodedata.category(character)[0] in "MS"
        for character in local
    )


def _is_domain(domain: str) -> bool:
    labels = domain.split(".")
    return len(labels) > 1 and all(map(_is_label, labels))


def _is_label(label: str) -> bool:
    whole = all(character.isalnum() or character == "-" or _is_mark(character) for character in label)
    return bool(label) and whole


def _is_mark(character: str) -> bool:
    """Say whether a character is part of a letter before it, as a vowel sign of Hindi is."""
    return unicodedata.category(character).startswith("M")
