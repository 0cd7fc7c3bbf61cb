"""E-mail addresses as identities: normalises spellings of one mailbox, and refuses decorated addresses. No I/O.

Within a dedupe scope, the e-mail address usually identifies a recipient. If two spellings of one mailbox counted as
two, the recipient would get two gifts; if two mailboxes counted as one, a recipient would get none. So a decorated
address (quotes, ``mailto:``, a display name) is refused rather than repaired, and the key folds only case.
"""

from __future__ import annotations

import re
import unicodedata

import idna

from airflow_provider_sendoso.models.identity import is_invisible

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
    Say why a text is not a plain e-mail address.

    :param text: stripped of white space, NFC.
    :return: the problem, without any part of the address; ``None`` for a plain address.
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
    Say what decorates an address; a decorated address would count as another recipient than the plain one.

    :param text: stripped of white space, NFC.
    :return: the problem, without any part of the address; ``None`` if it is not decorated, or not an address.
    """
    kind = None if _PLAIN.fullmatch(text) else _decoration(text)
    if kind is None:
        return None
    return f"is not an e-mail address alone: it has {kind}; write it like ada@example.com"


def read_key(text: str) -> tuple[str, str | None]:
    """
    Normalise a recipient key that holds an ``@``.

    :param text: stripped of white space, NFC.
    :return: the key, which for an e-mail address is its mailbox key; and the address's decoration, if it has any.
    """
    if _PLAIN.fullmatch(text):
        return mailbox_key(text), None
    decorated = decoration(text)
    return (text if decorated or address_problem(text) else mailbox_key(text)), decorated


def mailbox_key(address: str) -> str:
    """
    Return the form in which two spellings of one mailbox are equal.

    Case is folded letter by letter, and an internationalised domain is converted to its ``xn--`` form. No letter is
    expanded: ``straße@…`` and ``strasse@…`` are two mailboxes. The part before the ``@`` is otherwise kept, because
    only its mail server knows whether ``a.da`` or ``ada+news`` is ``ada``.

    :param address: an address for which :func:`address_problem` is ``None``.
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
    return character  # its case folding has several letters


def _ascii_domain(domain: str) -> str:
    try:
        return idna.encode(domain, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        return domain


def _decoration(text: str) -> str | None:
    """Name the decoration or encoding of an address."""
    if any(unicodedata.decomposition(character).startswith(("<wide>", "<narrow>")) for character in text):
        return "full-width characters"
    if any(map(is_invisible, text)):
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
    # An apostrophe inside the local part, as in o'brien@…, is allowed.
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
    # RFC 5322 allows some of these; as bullets and arrows of lists they are common, and as mailboxes unknown.
    if local and (local[0] in ".*#/^=~|→⇒" or not _is_local(local[0])):
        return "a punctuation mark before it"
    return None


def _is_local(local: str) -> bool:
    """Return whether a local part holds only punctuation that RFC 5322 allows without quotes; symbols are allowed."""
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
    """Return whether a character combines with the letter before it, like a vowel sign of Hindi."""
    return unicodedata.category(character).startswith("M")
