"""The words in which events are asked for; light enough to be checked while a DAG file is parsed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from airflow_provider_sendoso.exceptions import SendosoConfigError


class EventKind(StrEnum):
    """What can happen to a row of a list."""

    CREATED = "created"
    """It is in the list, and was not."""
    STATUS_CHANGED = "status_changed"
    """A send has another status than when it was last looked at."""


OBJECTS: Mapping[str, str] = {
    "touches": "touches",
    "groups": "groups",
    "return-addresses": "return-addresses",
    "users": "users",
    "sends": "sends",
    "campaign_sends": "send",
}
"""What can be polled, with the list's name in the API: the first three as the Cloud Elements element offers (seed)."""

SENDS = ("sends", "campaign_sends")

STATUSES = ("pending", "processing", "shipped", "delivered", "failed", "returned")


def listed(words: str | Iterable[str] | None) -> tuple[str, ...]:
    """
    Return words as a tuple.

    :param words: some, or one, or ``None``.
    """
    return (words,) if isinstance(words, str) else tuple(str(word) for word in words or ())


def check_words(object_name: str, events: Sequence[str], statuses: Sequence[str]) -> None:
    """
    Refuse words that are none, or do not go together.

    :param object_name: one of :data:`OBJECTS`.
    :param events: some of :class:`EventKind`.
    :param statuses: some of :data:`STATUSES`, or none.
    :raises SendosoConfigError: naming the argument and what it may be.
    """
    for name, words, known in (
        ("object", (object_name,), tuple(OBJECTS)),
        ("events", events, tuple(EventKind)),
        ("statuses", statuses, STATUSES),
    ):
        for word in words:
            if word not in known:
                raise SendosoConfigError(f"{name} holds {word!r}; it takes {', '.join(known)}.")
    if not events:
        raise SendosoConfigError("events is empty: name 'created', 'status_changed' or both.")
    follows = EventKind.STATUS_CHANGED in events
    if follows and object_name not in SENDS:
        raise SendosoConfigError(f"events holds 'status_changed', but only {' and '.join(SENDS)} have a status.")
    if statuses and not follows:
        raise SendosoConfigError("statuses is given, but events is without 'status_changed': nothing would use it.")
