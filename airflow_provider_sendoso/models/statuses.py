"""The six statuses of a send, Sendoso's own words for them, and what one of its answers reports of a send."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import islice


class SendStatus(StrEnum):
    """A send's status: the seed's six words, in the order in which a send passes through them."""

    PENDING = "pending"
    PROCESSING = "processing"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    FAILED = "failed"
    RETURNED = "returned"

    @property
    def terminal(self) -> bool:
        """Whether this status is final."""
        return self in (SendStatus.DELIVERED, SendStatus.FAILED, SendStatus.RETURNED)

    def reached(self, targets: Iterable[SendStatus]) -> bool:
        """
        Return whether this status is one of the targets, or beyond one of them on the way to ``delivered``.

        :param targets: the statuses waited for.
        """
        return any(
            self is target or (self in _ON_THE_WAY and target in _ON_THE_WAY[: _ON_THE_WAY.index(self)])
            for target in targets
        )

    @classmethod
    def from_word(cls, word: str) -> SendStatus | None:
        """
        Map a word of the API to a status; ``None`` for an unknown word.

        The six are the seed's. The other words are those of three published lists: of the sends endpoint, of the
        webhook events and of the Send Tracker's help page. Their mapping is inferred.

        :param word: compared without case, spaces, ``_``, ``-`` and ``/``, in British and American spelling.
        """
        return _STATUSES.get(_folded(word))


_ON_THE_WAY = (SendStatus.PENDING, SendStatus.PROCESSING, SendStatus.SHIPPED, SendStatus.DELIVERED)

STATUS_WORDS = {
    SendStatus.PENDING: (
        *("pending", "initiated", "pending approval", "pending sendoso approval", "confirming address"),
        *("collecting recipient info", "offer sent", "order received", "paused"),
        *("insufficient funds", "suspicious email"),
    ),
    SendStatus.PROCESSING: (
        *("processing", "fulfilling", "amazon fulfilling", "fulfillment issue", "out of stock", "packed"),
    ),
    SendStatus.SHIPPED: ("shipped", "amazon shipped", "sent"),
    SendStatus.DELIVERED: ("delivered", "opened", "clicked", "redeemed", "used", "used/redeemed"),
    SendStatus.FAILED: (
        *("failed", "blocked", "bounced", "bounced and credited", "canceled", "confirmation canceled"),
        *("address confirmation - canceled", "email blacklist", "invalid email format"),
    ),
    SendStatus.RETURNED: ("returned", "undeliverable", "refunded", "expired", "expired and credited"),
}
"""Sendoso's words by the status that they map to."""

_ON_HOLD = ("insufficient funds", "suspicious email", "pending approval")
"""A manager approves or cancels such a send in the Send Tracker, and an approved one goes out (help centre;
published for ``require_approval``)."""

_DETOURS = (*_ON_HOLD, "paused", "fulfillment issue", "out of stock")
"""Words that a send need not have had, although its status is beyond theirs."""

_IMPLIED = {
    "clicked": ("opened",),
    "redeemed": ("opened", "clicked"),
    "bounced and credited": ("bounced",),
    "expired and credited": ("expired",),
}
"""Words that a send has had before another one, whether an answer lists them or not (inferred)."""

_ALIASES = {"used": "redeemed", "used/redeemed": "redeemed"}


def _folded(word: str) -> str:
    letters = re.sub(r"[\s_/-]+", "", word).casefold()
    return letters.replace("cancell", "cancel").replace("fulfilm", "fulfillm")


_STATUSES = {_folded(word): status for status, words in STATUS_WORDS.items() for word in words}
_SPELLED = {_folded(word): word for words in STATUS_WORDS.values() for word in words}


@lru_cache(maxsize=1000)
def known_word(word: str) -> str | None:
    """
    Return a word of Sendoso's as :data:`STATUS_WORDS` spells it; ``None`` for an unknown word.

    :param word: in any spelling. ``used`` and ``used/redeemed`` are ``redeemed``.
    """
    spelled = _SPELLED.get(_folded(word))
    return None if spelled is None else _ALIASES.get(spelled, spelled)


MOST_NAMED = 20
"""Sends that a warning names before it only counts."""


def on_hold_warning(words: Mapping[str, int], send_ids: Sequence[str]) -> str:
    """
    Say that Sendoso holds sends, and what to do.

    :param words: how many sends it holds, by its word for why.
    :param send_ids: the sends' ids, of which the first twenty are named.
    """
    total = sum(words.values())
    why = ", ".join(f"{word}: {count}" for word, count in words.items())
    named = ", ".join(send_ids[:MOST_NAMED]) + (", …" if total > MOST_NAMED else "")
    return (
        f"{total} {'send is' if total == 1 else 'sends are'} on hold at Sendoso ({why}): {named}. A manager approves "
        "or cancels such a send in Sendoso's Send Tracker. Once approved it goes out, so do not send it again."
    )


_STORABLE = re.compile(r"[A-Za-z]+(?:(?: ?[/-] ?|[ _])[A-Za-z]+)*")
LONGEST_WORD = 64
"""Characters of a word that a :class:`StatusReport` has."""

_MOST_WORDS = 200
"""Different words of a send's history that are read; Sendoso has 45, and an answer may hold 65,000."""

LONGEST_STATUS_WORDS = 500
"""Characters of all words of a report, as the ledger stores them."""

_SEPARATOR = ", "


@dataclass(frozen=True, slots=True)
class StatusReport:
    """
    What an answer of Sendoso's reports of a send's status.

    :param status: one of the six.
    :param words: the words that the send is known to have had, each once, in Sendoso's spelling; the last one is the
        present one. Only letters and single separators, so that none holds an address or a secret.
    """

    status: SendStatus
    words: tuple[str, ...] = ()

    @classmethod
    def of(cls, status: str, word: str | None = None, past: Iterable[str] = ()) -> StatusReport:
        """
        Make a report of what an answer says.

        :param status: one of the six.
        :param word: the status in Sendoso's own word; ``None``, or a word that cannot be stored: the same as
            ``status``.
        :param past: words that the send has had before; unknown words among them are left out.
        """
        short = (past_word for past_word in past if len(past_word) <= LONGEST_WORD)
        different = islice(dict.fromkeys(short), _MOST_WORDS)
        words = {_folded(past_word): past_word for past_word in map(storable_word, different) if past_word}
        words = {folded: past_word for folded, past_word in words.items() if folded in _STATUSES}
        # A word that cannot be stored does not take the send's history with it.
        present = (None if word is None else storable_word(word)) or str(status)
        words.pop(_folded(present), None)
        words[_folded(present)] = present
        return cls(SendStatus(status), tuple(words.values()))

    @classmethod
    def stored(cls, status: str | None, words: str | None) -> StatusReport | None:
        """
        Read a report from the ledger.

        Without words it was written by a release that did not store them. To such a release a send on hold had failed,
        so its ``failed`` says nothing: the send may be on hold, and has to be looked up again.

        :param status: the column ``status``.
        :param words: the column ``status_words``; they count only where the last one still belongs to ``status``, which
            an older release may have written since.
        """
        if status is None:
            return None
        read = tuple(words.split(_SEPARATOR)) if words else ()
        if read and (SendStatus.from_word(read[-1]) or SendStatus.PROCESSING) != status:
            read = ()
        if not read and status == SendStatus.FAILED:
            return None
        return cls(SendStatus(status), read)

    @property
    def stored_words(self) -> str | None:
        """The words as the ledger stores them; the oldest are left out where they are too many."""
        words = self.words
        while words and len(text := _SEPARATOR.join(words)) > LONGEST_STATUS_WORDS:
            words = words[1:]
        return text if words else None

    @property
    def word(self) -> str | None:
        """The status in Sendoso's own word, if that is known."""
        return self.words[-1] if self.words else None

    @property
    def on_hold(self) -> bool:
        """Whether Sendoso holds the send until a manager approves or cancels it (help centre)."""
        return self.word is not None and known_word(self.word) in _ON_HOLD

    def after(self, earlier: StatusReport | None) -> StatusReport:
        """
        Return this report with the words of an earlier one as its past.

        :param earlier: what was known of the same send before.
        """
        if earlier is None:
            return self
        return StatusReport.of(self.status, self.word, (*earlier.words, *self.words[:-1]))

    def reached(self, target: SendStatus | str) -> bool:
        """
        Return whether the send has reached what is waited for.

        :param target: a status, or a word as :func:`known_word` returns it. A send whose status is beyond the word's
            has reached the word too, unless the word names a detour, like ``out of stock``.
        """
        if isinstance(target, SendStatus):
            return self.status.reached((target,))
        beyond = _STATUSES[_folded(target)]
        passed = target not in _DETOURS and self.status is not beyond and self.status.reached((beyond,))
        return passed or any(_is(word, target) for word in self.words)

    def is_at(self, target: SendStatus | str) -> bool:
        """
        Return whether the send is, at present, where a target says.

        :param target: a status, or a word as :func:`known_word` returns it.
        """
        if isinstance(target, SendStatus):
            return self.status is target
        return self.word is not None and _is(self.word, target)


def _is(word: str, target: str) -> bool:
    known = known_word(word)
    return known is not None and (known == target or target in _IMPLIED.get(known, ()))


def storable_word(word: str) -> str | None:
    """
    Return a word that may be stored and logged: as Sendoso spells it, or else in its known spelling.

    :param word: Sendoso's word.
    :return: ``None`` for an unknown word that is not of letters, or too long: it may hold an address or a secret.
    """
    word = " ".join(word.split())
    if len(word) <= LONGEST_WORD and _STORABLE.fullmatch(word):
        return word
    return _SPELLED.get(_folded(word))
