"""How a send's status moves with time: a pure function of its age, so that nothing has to be scheduled."""

from __future__ import annotations

# The six statuses of the seed.
STATUSES = ("pending", "processing", "shipped", "delivered", "failed", "returned")

_PATHS = {
    "+failed": ("pending", "processing", "failed"),
    "+returned": ("pending", "processing", "shipped", "returned"),
}
_DEFAULT_PATH = ("pending", "processing", "shipped", "delivered")


def path_of(email: str) -> tuple[str, ...]:
    """
    Read a send's fate from its recipient's e-mail: ``ada+failed@…``, ``ada+returned@…``, or delivered.

    :param email: the recipient's
    """
    local_part = email.casefold().rpartition("@")[0]
    return next((path for mark, path in _PATHS.items() if mark in local_part), _DEFAULT_PATH)


def status_updates(
    email: str, accepted_at: float, step: float, now: float, finished: tuple[str, float] | None = None
) -> list[tuple[str, float]]:
    """
    List the statuses that a send has had by now, each with its time; the last one is its present status.

    :param email: the recipient's, which decides the fate
    :param accepted_at: when the send was accepted, in seconds
    :param step: seconds between two statuses; 0 ends the path as soon as the send is accepted
    :param now: the present, on the clock of ``accepted_at``
    :param finished: a status that was forced, and when; from then on nothing else happens
    """
    if finished:
        past = status_updates(email, accepted_at, step, finished[1])
        return past if past[-1][0] == finished[0] else [*past, finished]
    path = path_of(email)
    age = now - accepted_at
    if age <= 0:
        passed = 0
    elif step == 0:
        passed = len(path)
    else:
        passed = int(age / step)
    return [(status, accepted_at + index * step) for index, status in enumerate(path[: passed + 1])]
