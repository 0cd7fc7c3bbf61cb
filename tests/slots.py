"""Records the slots that a pace gives out."""

from __future__ import annotations

import time

from airflow_provider_sendoso.client.pace import Pace


def note_slots(pace: Pace) -> list[float]:
    """
    Note the slots that are given out from now on, each as its moment or one just before it.

    :param pace: who gives them out.
    :return: grows with each of them, in monotonic seconds.
    """
    reserve, slots = pace.reserve, list[float]()

    def noted(*, poll: bool) -> float:
        asked = time.monotonic()
        wait = reserve(poll=poll)
        slots.append(asked + wait)
        return wait

    pace.reserve = noted  # type: ignore[method-assign]
    return slots
