"""Computes the status of a send from its age, so that nothing has to be scheduled."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow_provider_sendoso.models import SendStatus

# The six statuses (seed).
STATUSES = ("pending", "processing", "shipped", "delivered", "failed", "returned")

_PATHS = {
    "+failed": ("pending", "processing", "failed"),
    "+returned": ("pending", "processing", "shipped", "returned"),
    "+suspicious": ("suspicious email",),
}
_DEFAULT_PATH = ("pending", "processing", "shipped", "delivered")

# The Send Tracker's words (published); their order is inferred.
_CAMPAIGN_PATHS = {
    "mail": {
        "": ("Order Received", "Fulfilling", "Shipped", "Delivered"),
        "+failed": ("Order Received", "Fulfilling", "Failed"),
        "+returned": ("Order Received", "Fulfilling", "Shipped", "Returned"),
        "+suspicious": ("Suspicious Email",),
    },
    "email": {
        "": ("Initiated", "Sent", "Opened", "Redeemed"),
        "+failed": ("Initiated", "Failed"),
        "+returned": ("Initiated", "Sent", "Expired"),
        "+suspicious": ("Suspicious Email",),
    },
}


def path_of(email: str) -> tuple[str, ...]:
    """
    Return a send's statuses: failed for ``ada+failed@…``, returned for ``ada+returned@…``, or delivered.

    A send to ``ada+suspicious@…`` stays on hold.

    :param email: the recipient's
    """
    return _PATHS.get(_fate(email), _DEFAULT_PATH)


def campaign_path(email: str, delivery_type: str, asked: bool = False) -> tuple[str, ...]:
    """
    Return the statuses that a campaign send will have, like :func:`path_of`, in the Send Tracker's words.

    :param email: the recipient's e-mail address
    :param delivery_type: the delivery type of the touch, ``mail`` or ``email``
    :param asked: whether the recipient is first asked for the address
    """
    path = _CAMPAIGN_PATHS[delivery_type][_fate(email)]
    return ("Confirming Address", *path) if asked else path


def product_path(email: str, held: bool) -> tuple[str, ...]:
    """
    Return the statuses of a send of the marketplace or of SmartSend, whose recipient is asked for the address.

    :param email: the recipient's e-mail address
    :param held: whether a manager has to approve it first, which nobody does here by himself
    """
    return ("Pending Approval",) if held else campaign_path(email, "mail", asked=True)


def status_updates(
    email: str, accepted_at: float, step: float, now: float, finished: tuple[str, float] | None = None
) -> list[tuple[str, float]]:
    """
    List the statuses that a gift send has had by now, each with its time; the last one is its present status.

    :param email: the recipient's e-mail address, which decides the last status
    :param accepted_at: when the send was accepted, in seconds
    :param step: seconds between two statuses; 0 ends the path as soon as the send is accepted
    :param now: the present, on the clock of ``accepted_at``
    :param finished: a status that was forced, and the time when it was; after it the status does not change
    """
    return updates_along(path_of(email), accepted_at, step, now, finished)


def updates_along(
    path: tuple[str, ...], accepted_at: float, step: float, now: float, finished: tuple[str, float] | None = None
) -> list[tuple[str, float]]:
    """
    List the statuses of a path that have been passed by now, each with its time.

    :param path: the statuses, in their order
    :param accepted_at: as for :func:`status_updates`, with the other three
    """
    if finished:
        past = updates_along(path, accepted_at, step, finished[1])
        return past if past[-1][0] == finished[0] else [*past, finished]
    age = now - accepted_at
    if age <= 0:
        passed = 0
    elif step == 0:
        passed = len(path)
    else:
        passed = int(age / step)
    return [(status, accepted_at + index * step) for index, status in enumerate(path[: passed + 1])]


def status_of(word: str) -> str:
    """
    Return which of the six a word counts as; an unknown one as ``processing``.

    :param word: of the Send Tracker
    """
    return (SendStatus.from_word(word) or SendStatus.PROCESSING).value


def iso(epoch: float) -> str:
    """
    Format a time as the API does.

    :param epoch: seconds since 1970
    """
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fate(email: str) -> str:
    local_part = email.casefold().rpartition("@")[0]
    return next((mark for mark in _PATHS if mark in local_part), "")
