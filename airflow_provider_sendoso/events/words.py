"""Validates the words of an event question; imports little, because it runs while a DAG file is parsed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from airflow_provider_sendoso.arguments.values import got, listing
from airflow_provider_sendoso.exceptions import SendosoConfigError


class EventKind(StrEnum):
    """The kinds of events."""

    CREATED = "created"
    """A row is new in the list."""
    STATUS_CHANGED = "status_changed"
    """A send has another status than at the last poll."""


OBJECTS: Mapping[str, str] = {
    "touches": "touches",
    "groups": "groups",
    "return-addresses": "return-addresses",
    "users": "users",
    "sends": "sends",
    "campaign_sends": "send",
}
"""The list's name in the API by object that can be polled; the first three are those of Cloud Elements (seed)."""

SENDS = ("sends", "campaign_sends")
"""The objects whose changes Sendoso's webhooks tell of (published)."""

STATUSES = ("pending", "processing", "shipped", "delivered", "failed", "returned")


def listed(name: str, words: str | Iterable[str] | None) -> tuple[str, ...]:
    """
    Return words as a tuple.

    :param name: the argument's name.
    :param words: one word, several words, or ``None``.
    """
    return (words,) if isinstance(words, str) else tuple(listing(name, words) or ())


def check_words(object_name: str, events: Sequence[str], statuses: Sequence[str]) -> None:
    """
    Refuse unknown words, and words that contradict each other.

    :param object_name: one of :data:`OBJECTS`.
    :param events: some of :class:`EventKind`.
    :param statuses: some of :data:`STATUSES`; may be empty.
    :raises SendosoConfigError: names the argument and its allowed values.
    """
    for name, words, known in (
        ("object", (object_name,), tuple(OBJECTS)),
        ("events", events, tuple(EventKind)),
        ("statuses", statuses, STATUSES),
    ):
        for word in words:
            if word not in known:
                raise SendosoConfigError(f"{name} holds {got(word)}; it takes {', '.join(known)}.")
    if not events:
        raise SendosoConfigError("events is empty: name 'created', 'status_changed' or both.")
    follows = EventKind.STATUS_CHANGED in events
    if follows and object_name not in SENDS:
        raise SendosoConfigError(f"events holds 'status_changed', but only {' and '.join(SENDS)} have a status.")
    if statuses and not follows:
        raise SendosoConfigError("statuses is given, but events is without 'status_changed': nothing would use it.")
