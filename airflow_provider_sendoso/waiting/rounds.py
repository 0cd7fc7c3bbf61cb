"""The requests of one round of a wait, the same for the sensor's pokes and for the trigger.

:func:`look` is a generator that yields requests and is sent their answers, so that the session over ``requests`` and
the one over ``aiohttp`` can both make them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence

from airflow_provider_sendoso.client.answers import Answer, read_send, read_send_answer
from airflow_provider_sendoso.client.endpoints import Request, get_send_request, list_sends_request
from airflow_provider_sendoso.client.pages import Pages
from airflow_provider_sendoso.client.tracker import Tracked, Tracker
from airflow_provider_sendoso.exceptions import (
    TRANSIENT_ERRORS,
    SendosoApiError,
    SendosoError,
    SendosoNotFoundError,
)
from airflow_provider_sendoso.models import tracking_code
from airflow_provider_sendoso.waiting.watch import ALL_NOT_FOUND, Watch, walk_pause

FEW = 10
"""Sends that are asked one by one: for more, the list is tried, a hundred to a page."""

_DAY = 24 * 3600.0
_FAILURES_IN_A_ROW = 5


def look(watch: Watch, due: Sequence[str], clock: Callable[[], float] = time.time) -> Generator[Request, Answer, None]:
    """
    Check sends: a generator that yields requests, and is sent their answers or thrown the session's errors.

    Many sends are first looked for in the list, and those that it does not show are checked one by one. Campaign sends
    are looked for in one walk through the Send Tracker's list; so are ids that no gift send has.

    :param watch: the state of the wait, which records the answers.
    :param due: ids of the sends to check, in this order.
    :param clock: returns epoch seconds.
    :raises SendosoError: an error that was thrown in and is not transient.
    """
    before, failed = watch.answers, list[str]()
    watch.round_from = before
    error: SendosoError | None = None
    seen = set[str]()
    unknown: dict[str, SendosoNotFoundError] = {}
    of_campaigns = [send_id for send_id in due if send_id in watch.tracked]
    if of_campaigns:
        try:
            yield from _track(watch, [watch.tracked[send_id] for send_id in of_campaigns], clock)
        except TRANSIENT_ERRORS as transient:
            error = transient
            failed += of_campaigns
            for send_id in of_campaigns:
                watch.note_failure(send_id, clock())
    due = [send_id for send_id in due if send_id not in watch.tracked]
    seen = yield from _walk(watch, [send_id for send_id in due if tracking_code(send_id) is None], clock)
    in_a_row = 0
    for send_id in due:
        if send_id in seen:
            continue
        if tracking_code(send_id) is not None:
            lost = SendosoNotFoundError(404, f"The ledger knows no send {send_id!r}; only it knows whose code that is.")
            watch.note_not_found(send_id, lost, clock())
            continue
        try:
            answer = yield get_send_request(send_id)
            send = read_send_answer(send_id, answer.json)
        except SendosoNotFoundError as not_found:
            watch.answers += 1
            unknown[send_id] = not_found
            if len(unknown) >= ALL_NOT_FOUND and all(send.status is None for send in watch.sends.values()):
                break  # perhaps all of them are campaign sends, or the connection is wrong
        except TRANSIENT_ERRORS as transient:
            error = transient
            failed.append(send_id)
            watch.note_failure(send_id, clock())
            in_a_row += 1
            if in_a_row >= _FAILURES_IN_A_ROW:
                break  # Sendoso itself is down; the other sends stay due for the next round
        else:
            watch.answers += 1
            watch.note(send_id, send.report, clock())
            watch.learn(send_id, send.gid)
            in_a_row = 0
    yield from _track_unknown(watch, unknown, clock)
    watch.end_round(before, failed, error)


def _track(watch: Watch, tracked: Sequence[Tracked], clock: Callable[[], float]) -> Generator[Request, Answer, None]:
    """Look for all campaign sends that are due in one walk through the Send Tracker's list."""
    tracker = Tracker(tracked, watch.digest)
    try:
        yield from tracker.walk()
    finally:
        watch.answers += tracker.answers
        watch.walk_at = clock() + walk_pause(tracker.answers)
    for send in tracked:
        found = tracker.seen.get(send.name)
        watch.note(send.name, None if found is None else found.report, clock())
        watch.learn(send.name, None if found is None else found.gid)
        (watch.not_listed.add if found is None and send.bound_id else watch.not_listed.discard)(send.name)
    if tracker.candidates:
        watch.walked.append(tracker)


def _track_unknown(
    watch: Watch, unknown: Mapping[str, SendosoNotFoundError], clock: Callable[[], float]
) -> Generator[Request, Answer, None]:
    """Look in the Send Tracker's list for ids that no gift send has, because they may be campaign sends."""
    if not unknown:
        return
    tracked = [Tracked(send_id, "", "", 0.0, send_id) for send_id in unknown]
    tracker = Tracker(tracked, watch.digest)
    try:
        yield from tracker.walk()
    except TRANSIENT_ERRORS:
        for send_id in unknown:
            watch.note_failure(send_id, clock())
        return
    except SendosoApiError:
        pass  # this Sendoso has no such list
    finally:
        watch.answers += tracker.answers
    for send in tracked:
        found = tracker.seen.get(send.name)
        if found is None:
            watch.note_not_found(send.name, unknown[send.name], clock())
        else:
            watch.tracked[send.name] = send
            watch.note(send.name, found.report, clock())
            watch.learn(send.name, found.gid)


def _walk(watch: Watch, due: Sequence[str], clock: Callable[[], float]) -> Generator[Request, Answer, set[str]]:
    """
    Look for many sends in the list (inferred; a page may repeat a row, or miss one that has moved), newest first.

    A page costs one request, like a single send. So the walk ends when it has found all sends, or has made half as many
    requests as checking them one by one. A send that was not found is not looked for in the list again for a day,
    because it may be too old for the walk, or not a gift send.

    :return: the ids of the sends that were found.
    """
    seen = set[str]()
    now = clock()
    wanted = {send_id for send_id in due if watch.sends[send_id].unlisted_until <= now}
    if watch.no_list or len(wanted) <= FEW:
        return seen
    longest = len(wanted) // 2
    pages = Pages(list_sends_request(), "sends")
    try:
        while wanted and not pages.done and pages.page <= longest:
            answer = yield pages.next_request()
            items = pages.read(answer.json)
            watch.answers += 1
            for item in items:
                # The id is compared before the item is parsed, because most items may be other sends of the account.
                send_id = str(item.get("id"))
                send = read_send(item) if send_id in wanted else None
                if send is not None and send.status is not None:
                    watch.note(send_id, send.report, clock())
                    watch.learn(send_id, send.gid)
                    wanted.remove(send_id)
                    seen.add(send_id)
    except TRANSIENT_ERRORS:
        return seen  # the list may answer in the next round; checking one by one shows whether Sendoso is down
    except SendosoApiError:
        watch.no_list = True
    for send_id in wanted:
        watch.sends[send_id].unlisted_until = now + _DAY
    return seen
