"""Sends of unknown outcome: looked for in Sendoso's list, and found, held, or proven absent and sent again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from airflow.providers.common.compat.sdk import TaskDeferred
from sqlalchemy import update
from trying import SENDS, FakeTI, Try, batch, people, posts

from airflow_provider_sendoso.batch.spool import BatchSpool
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import State
from airflow_provider_sendoso.ledger.resolutions import Resolution
from airflow_provider_sendoso.ledger.schema import sends
from airflow_provider_sendoso.models import METADATA_KEY
from airflow_provider_sendoso.operators.sendoso import SendGiftOperator
from airflow_provider_sendoso.sandbox import Sandbox

RESEND: dict[str, Any] = {"on_absent": "resend", "settle_time": 0}
AFTER_SETTLING = "execute_after_settling"


@pytest.fixture(autouse=True)
def _nothing_personal_is_logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    caplog.set_level(logging.DEBUG, "airflow_provider_sendoso")
    yield
    # Airflow's own loggers write to the terminal.
    logged = "\n".join([*(record.getMessage() for record in caplog.get_records("call")), *capfd.readouterr()])
    assert "@example.com" not in logged
    assert "Ada" not in logged


@pytest.fixture
def lose_one(sendoso: Sandbox, send: Callable[..., Try], states: Callable[[], dict[str, int]]) -> Callable[..., None]:
    """Leaves one of five sends unknown, not looked for yet; Sendoso has accepted it, or has not."""

    def lose(*, accepted: bool, count: int = 5) -> None:
        sendoso.fault("drop_after" if accepted else "drop_before", method="POST", path=SENDS)
        sendoso.fault("error_before", times=100, method="GET", path=SENDS)
        counts = {name: n for name, n in {"sent": count - 1, "held": 1}.items() if n}
        assert send(count) == Try("SendHeldError", counts)
        sendoso.clear_faults()
        assert states()["UNKNOWN"] == 1

    return lose


def lists(sandbox: Sandbox) -> int:
    """How many pages of the list of sends were asked for."""
    return sum(request.method == "GET" and request.path == SENDS for request in sandbox.requests)


def listed(sandbox: Sandbox) -> list[dict[str, Any]]:
    """The sends as the list of sends shows them."""
    return list(sandbox.state()["sends"])


def answer_lists_with(sandbox: Sandbox, items: list[dict[str, Any]], times: int = 20, pages: bool = True) -> None:
    """Show another list of sends; with an empty page after it, or the same again and again."""
    for _ in range(times):
        for page in (items, []) if pages else (items,):
            sandbox.fault("status", method="GET", path=SENDS, status=200, body={"sends": page})


def decided() -> list[Resolution]:
    """All recorded resolutions, by searches and by people, in any order."""
    ledger = SendosoHook().ledger
    return [one for record in ledger.sends.records(*State) for one in ledger.resolutions.history(record.send_key)]


# -- found -------------------------------------------------------------------------------------------------------------


def test_a_send_is_found_among_many_others_over_several_pages(
    sendoso: Sandbox, send: Callable[..., Try], lose_one: Callable[..., None]
) -> None:
    hook = SendosoHook()

    def others(first: int, count: int) -> None:
        for person in people(first + count)[first:]:
            hook.send_gift(gift_id="gift-donation-trees", recipient=person, message="Thank you")

    others(100, 30)
    lose_one(accepted=True, count=1)
    others(200, 220)
    before = lists(sendoso)
    assert send(1) == Try("", {"sent": 1})
    # 251 sends fill three pages, and the send is on the last; a search reads only as far as it has to.
    assert lists(sendoso) - before == 3
    (found,) = decided()
    (sent,) = SendosoHook().ledger.sends.records(State.SENT)
    assert (found.from_state, found.to_state, found.resolved_by) == (State.UNKNOWN, State.SENT, "reconcile")
    assert found.send_id == sent.send_id == sendoso.sends[30].id
    assert (sent.status, posts(sendoso)) == (listed(sendoso)[220]["status"], 251)


def test_an_unknown_send_of_another_batch_in_the_scope_is_found_for_both_batches(
    sendoso: Sandbox, send: Callable[..., Try], states: Callable[[], dict[str, int]], lose_one: Callable[..., None]
) -> None:
    lose_one(accepted=True)
    assert send(run_id="run-2") == Try("", {"already_sent": 5})
    assert states() == {"SENT": 5}
    assert send() == Try("", {"sent": 5})
    assert posts(sendoso) == 5


def test_a_held_send_that_turns_up_later_is_found_by_a_later_run(
    sendoso: Sandbox, send: Callable[..., Try], states: Callable[[], dict[str, int]], lose_one: Callable[..., None]
) -> None:
    lose_one(accepted=True)
    answer_lists_with(sendoso, [])
    assert send(run_id="run-2") == Try("SendHeldError", {"already_sent": 4, "held": 1})
    assert states() == {"SENT": 4, "HELD": 1}
    assert decided() == []
    sendoso.clear_faults()
    assert send(run_id="run-3") == Try("", {"already_sent": 5})
    assert [(one.from_state, one.to_state) for one in decided()] == [(State.HELD, State.SENT)]
    assert posts(sendoso) == 5


def test_a_scope_without_unknown_sends_costs_no_request(sendoso: Sandbox, send: Callable[..., Try]) -> None:
    assert send(**RESEND) == Try("", {"sent": 5})
    assert lists(sendoso) == 0


# -- not found ---------------------------------------------------------------------------------------------------------


def test_without_a_list_of_sends_the_unknown_send_is_held_and_one_line_is_logged(
    sendoso: Sandbox,
    send: Callable[..., Try],
    states: Callable[[], dict[str, int]],
    lose_one: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    lose_one(accepted=True)
    sendoso.fault("status", times=100, method="GET", path=SENDS, status=404)
    caplog.clear()
    sendoso.fault("drop_before", method="POST", path=SENDS)
    assert send(4, run_id="run-2") == Try("SendHeldError", {"already_sent": 3, "held": 1})
    assert states() == {"SENT": 4, "HELD": 1}
    ours = [record for record in caplog.records if record.name.startswith("airflow_provider_sendoso")]
    warned = [record.getMessage() for record in ours if record.levelno >= logging.WARNING]
    assert [line for line in warned if "list" in line] == [
        "This Sendoso has no list of gift sends; 1 are held for a person."
    ] * 2  # once when the batch starts, once when it ends
    assert len(warned) == 2


BROKEN_LISTS = [
    ("error_before", {"status": 500}),
    ("error_before", {"status": 503}),
    ("drop_before", {}),
    ("garbage", {}),
    ("status", {"status": 403}),
    ("status", {"status": 200, "body": {"unexpected": []}}),
    ("status", {"status": 200, "body": {"success": False}}),
]


@pytest.mark.parametrize(("fault", "options"), BROKEN_LISTS)
def test_a_broken_list_decides_nothing_and_does_not_fail_the_batch(
    sendoso: Sandbox,
    send: Callable[..., Try],
    states: Callable[[], dict[str, int]],
    an_hour_later: Callable[[], None],
    lose_one: Callable[..., None],
    fault: str,
    options: dict[str, Any],
) -> None:
    lose_one(accepted=True)
    an_hour_later()
    sendoso.fault(fault, times=100, method="GET", path=SENDS, **options)
    assert send(6, on_held="continue", method=AFTER_SETTLING, **RESEND) == Try("", {"sent": 5, "held": 1})
    assert states() == {"SENT": 5, "UNKNOWN": 1}
    assert decided() == []
    sendoso.clear_faults()
    assert send(6) == Try("", {"sent": 6})
    assert posts(sendoso) == 6


# -- absent ------------------------------------------------------------------------------------------------------------


def test_a_send_that_never_arrived_is_sent_again_exactly_once(
    sendoso: Sandbox,
    send: Callable[..., Try],
    states: Callable[[], dict[str, int]],
    an_hour_later: Callable[[], None],
    lose_one: Callable[..., None],
) -> None:
    lose_one(accepted=False)
    an_hour_later()
    assert send() == Try("SendHeldError", {"sent": 4, "held": 1})  # unless it was asked for
    before = lists(sendoso)
    assert send(run_id="run-2", **RESEND) == Try("", {"already_sent": 4, "sent": 1})
    assert lists(sendoso) - before == 2 * 2  # each to its empty end
    assert states() == {"SENT": 5}
    assert [(one.from_state, one.to_state, one.resolved_by) for one in decided()] == [
        (State.HELD, State.READY, "reconcile")
    ]
    assert send(**RESEND) == Try("", {"sent": 4, "already_sent": 1})
    assert posts(sendoso) == 6
    assert len(sendoso.sends) == 5


def test_a_send_that_arrives_between_the_two_lists_is_found_and_not_sent_again(
    sendoso: Sandbox, send: Callable[..., Try], an_hour_later: Callable[[], None], lose_one: Callable[..., None]
) -> None:
    lose_one(accepted=True)
    an_hour_later()
    (lost,) = SendosoHook().ledger.sends.records(State.UNKNOWN)
    mark = SendosoHook().ledger.airflow_key(lost.send_key)
    answer_lists_with(sendoso, [item for item in listed(sendoso) if item["metadata"][METADATA_KEY] != mark], times=1)
    assert send(**RESEND) == Try("", {"sent": 5})
    assert [one.to_state for one in decided()] == [State.SENT]
    assert posts(sendoso) == 5


def test_a_list_in_pages_shorter_than_asked_for_is_read_to_its_empty_page(
    sendoso: Sandbox,
    send: Callable[..., Try],
    an_hour_later: Callable[[], None],
    lose_one: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lose_one(accepted=True)
    an_hour_later()

    def two_of(name: str, items: Any, query: Any, show: Callable[[Any], Any], **_: Any) -> web.Response:
        first = 2 * (int(query.get("page", 1)) - 1)
        return web.json_response({name: [show(item) for item in items[first : first + 2]]})

    monkeypatch.setattr("airflow_provider_sendoso.sandbox.app.page_of", two_of)
    assert send(**RESEND) == Try("", {"sent": 5})
    assert posts(sendoso) == 5


NO_PROOFS: list[Any] = [
    # the part of the expected sends that each of the two lists shows
    pytest.param(lambda items, mark: [], id="an empty list"),
    pytest.param(lambda items, mark: [item | {"metadata": {}} for item in items], id="no metadata"),
    pytest.param(
        lambda items, mark: [{name: item[name] for name in item if name != "metadata"} for item in items],
        id="metadata left out",
    ),
    pytest.param(
        lambda items, mark: [*items, {"status": "pending", "metadata": {METADATA_KEY: mark}}],
        id="an item with the mark that cannot be read",
    ),
    pytest.param(
        lambda items, mark: [*items, *({"id": f"id-{n}", "metadata": {METADATA_KEY: mark}} for n in range(2))],
        id="the mark twice",
    ),
]


@pytest.mark.parametrize("show", NO_PROOFS)
def test_an_empty_incomplete_or_unreadable_list_proves_no_absence(
    sendoso: Sandbox,
    send: Callable[..., Try],
    states: Callable[[], dict[str, int]],
    an_hour_later: Callable[[], None],
    lose_one: Callable[..., None],
    show: Callable[[list[dict[str, Any]], str], list[dict[str, Any]]],
) -> None:
    lose_one(accepted=False)
    an_hour_later()
    (lost,) = SendosoHook().ledger.sends.records(State.UNKNOWN)
    answer_lists_with(sendoso, show(listed(sendoso), SendosoHook().ledger.airflow_key(lost.send_key)))
    assert send(method=AFTER_SETTLING, **RESEND) == Try("SendHeldError", {"sent": 4, "held": 1})
    assert states() == {"SENT": 4, "HELD": 1}
    assert posts(sendoso) == 5


@pytest.mark.parametrize("count", [25, 100])
def test_a_list_without_paging_proves_no_absence(
    sendoso: Sandbox,
    send: Callable[..., Try],
    an_hour_later: Callable[[], None],
    lose_one: Callable[..., None],
    count: int,
) -> None:
    lose_one(accepted=False)
    an_hour_later()
    newest = [{"id": f"id-{n}", "metadata": {METADATA_KEY: "another"}} for n in range(count)]
    answer_lists_with(sendoso, newest, pages=False)
    assert send(method=AFTER_SETTLING, **RESEND) == Try("SendHeldError", {"sent": 4, "held": 1})
    assert posts(sendoso) == 5


def test_a_second_list_that_breaks_proves_no_absence(
    sendoso: Sandbox,
    send: Callable[..., Try],
    an_hour_later: Callable[[], None],
    lose_one: Callable[..., None],
) -> None:
    lose_one(accepted=False)
    an_hour_later()
    sendoso.fault("slow", times=2, method="GET", path=SENDS, delay=0)
    sendoso.fault("error_before", times=100, method="GET", path=SENDS)
    assert send(method=AFTER_SETTLING, **RESEND) == Try("SendHeldError", {"sent": 4, "held": 1})
    assert decided() == []
    assert posts(sendoso) == 5


def test_a_list_too_long_to_be_read_proves_no_absence(
    sendoso: Sandbox,
    send: Callable[..., Try],
    an_hour_later: Callable[[], None],
    lose_one: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lose_one(accepted=False)
    an_hour_later()
    monkeypatch.setattr("airflow_provider_sendoso.sending.reconciling.LONGEST_SCAN", 0)
    assert send(method=AFTER_SETTLING, **RESEND) == Try("SendHeldError", {"sent": 4, "held": 1})
    assert decided() == []
    assert posts(sendoso) == 5


def test_without_a_list_nothing_is_absent(
    sendoso: Sandbox, send: Callable[..., Try], an_hour_later: Callable[[], None], lose_one: Callable[..., None]
) -> None:
    lose_one(accepted=False)
    an_hour_later()
    sendoso.fault("status", times=100, method="GET", path=SENDS, status=404)
    assert send(method=AFTER_SETTLING, **RESEND) == Try("SendHeldError", {"sent": 4, "held": 1})
    assert decided() == []
    assert posts(sendoso) == 5


def test_a_send_that_is_not_settled_is_not_absent_because_another_one_is(
    sendoso: Sandbox, send: Callable[..., Try], an_hour_later: Callable[[], None], lose_one: Callable[..., None]
) -> None:
    lose_one(accepted=False)
    an_hour_later()
    sendoso.fault("drop_before", method="POST", path=SENDS)
    sendoso.fault("error_before", times=100, method="GET", path=SENDS)
    assert send(6, run_id="run-2", on_held="continue") == Try("", {"already_sent": 4, "held": 2})
    sendoso.clear_faults()
    SendosoHook().ledger._database.run(lambda connection: connection.execute(update(sends).values(lease_until=0.0)))
    resend = RESEND | {"settle_time": 900, "on_held": "continue", "method": AFTER_SETTLING}
    assert send(6, **resend) == Try("", {"sent": 5, "held": 1})
    assert posts(sendoso) == 7


def test_a_list_of_the_newest_sends_only_proves_no_absence(
    sendoso: Sandbox, send: Callable[..., Try], an_hour_later: Callable[[], None], lose_one: Callable[..., None]
) -> None:
    lose_one(accepted=False)
    an_hour_later()
    newest = listed(sendoso)
    for _ in range(10):
        for page in (newest, []):
            body = {"sends": page, "total_count": len(newest) + 1}
            sendoso.fault("status", method="GET", path=SENDS, status=200, body=body)
    assert send(method=AFTER_SETTLING, **RESEND) == Try("SendHeldError", {"sent": 4, "held": 1})
    assert decided() == []
    assert posts(sendoso) == 5


def test_a_send_that_may_still_be_posted_is_never_sent_again(
    sendoso: Sandbox, send: Callable[..., Try], an_hour_later: Callable[[], None], lose_one: Callable[..., None]
) -> None:
    lose_one(accepted=False)
    # By the clock the POST ended long ago, but the lease says that its process may be posting for another minute.
    SendosoHook().ledger._database.run(lambda connection: connection.execute(update(sends).values(posted_at=1.0)))
    assert send(method=AFTER_SETTLING, **RESEND) == Try("SendHeldError", {"sent": 4, "held": 1})
    assert posts(sendoso) == 5
    an_hour_later()
    assert send(**RESEND) == Try("", {"sent": 5})
    assert posts(sendoso) == 6


def test_a_proof_does_not_hold_for_an_attempt_that_was_made_after_it(
    sendoso: Sandbox,
    send: Callable[..., Try],
    an_hour_later: Callable[[], None],
    lose_one: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lose_one(accepted=False)
    an_hour_later()
    jobs = BatchSpool.jobs

    def much_later(spool: BatchSpool) -> Iterator[Any]:
        """After this batch's proof and before its rows, another run sends again, and loses the answer."""
        monkeypatch.setattr(BatchSpool, "jobs", jobs)
        sendoso.fault("drop_after", method="POST", path=SENDS)
        # It can read the list twice before, and not after.
        sendoso.fault("slow", times=2 * 2, method="GET", path=SENDS, delay=0)
        sendoso.fault("error_before", times=100, method="GET", path=SENDS)
        run_2 = send(run_id="run-2", method=AFTER_SETTLING, **RESEND)
        assert run_2 == Try("SendHeldError", {"already_sent": 4, "held": 1})
        sendoso.clear_faults()
        an_hour_later()
        yield from jobs(spool)

    monkeypatch.setattr(BatchSpool, "jobs", much_later)
    assert send(**RESEND) == Try("", {"sent": 4, "already_sent": 1})
    assert len(sendoso.sends) == 5


# -- waiting for the settle time ---------------------------------------------------------------------------------------


def test_the_batch_is_deferred_until_the_settle_time_is_over_and_then_sends_again(
    sendoso: Sandbox,
    send: Callable[..., Try],
    states: Callable[[], dict[str, int]],
    an_hour_later: Callable[[], None],
    lose_one: Callable[..., None],
) -> None:
    lose_one(accepted=False)
    resend: dict[str, Any] = {"on_absent": "resend", "settle_time": timedelta(minutes=10)}
    ti = FakeTI("run-1")
    with pytest.raises(TaskDeferred) as deferred:
        batch(**resend).execute({"ti": ti})
    assert deferred.value.method_name == AFTER_SETTLING
    wait = deferred.value.trigger.moment - datetime.now(UTC)
    # Counted from the moment at which a POST has certainly ended, however late it began: 15 s and twice the time-out.
    assert timedelta(minutes=11, seconds=45) < wait < timedelta(minutes=12, seconds=18)
    assert (ti.xcom["return_value"]["sent"], ti.xcom["return_value"]["held"]) == (4, 1)
    assert states() == {"SENT": 4, "HELD": 1}
    # A resume that comes too early, by a person's hand, holds, and does not wait for ever.
    assert send(method=AFTER_SETTLING, **resend) == Try("SendHeldError", {"sent": 4, "held": 1})
    assert posts(sendoso) == 5
    an_hour_later()
    assert send(method=AFTER_SETTLING, **resend) == Try("", {"sent": 5})
    assert posts(sendoso) == 6


def test_the_deferral_outlasts_the_lease_of_what_is_held(lose_one: Callable[..., None]) -> None:
    lose_one(accepted=False)
    before = datetime.now(UTC)
    lease_left = max(record.lease_left for record in SendosoHook().ledger.sends.records(State.UNKNOWN))
    with pytest.raises(TaskDeferred) as deferred:
        batch(**RESEND).execute({"ti": FakeTI("run-1")})
    assert deferred.value.trigger.moment - before > timedelta(seconds=lease_left - 1)


def test_a_batch_with_on_held_continue_still_waits_for_the_settle_time(
    send: Callable[..., Try], an_hour_later: Callable[[], None], lose_one: Callable[..., None]
) -> None:
    lose_one(accepted=False)
    with pytest.raises(TaskDeferred):
        send(on_held="continue", **RESEND)
    an_hour_later()
    assert send(on_held="continue", method=AFTER_SETTLING, **RESEND) == Try("", {"sent": 5})


def test_a_batch_that_finds_everything_is_not_deferred(send: Callable[..., Try], lose_one: Callable[..., None]) -> None:
    lose_one(accepted=True)
    assert send(**RESEND) == Try("", {"sent": 5})


def test_a_send_gift_task_is_deferred_until_the_settle_time(
    sendoso: Sandbox, send: Callable[..., Try], an_hour_later: Callable[[], None]
) -> None:
    thank = SendGiftOperator(
        task_id="thank",
        gift_id="gift-donation-trees",
        recipient=people(1)[0],
        message="Thank you",
        dedupe_scope="q4",
        **RESEND,
    )
    sendoso.fault("drop_before", method="POST", path=SENDS)
    with pytest.raises(TaskDeferred) as deferred:
        thank.execute({"ti": FakeTI("run-1")})
    assert deferred.value.method_name == AFTER_SETTLING
    an_hour_later()
    # A second send in the list, so that it is seen to show marks.
    assert send(people(2)[1:]) == Try("", {"sent": 1})
    assert thank.execute_after_settling({"ti": FakeTI("run-1")}) == sendoso.sends[-1].id
    assert len(sendoso.sends) == 2


def test_a_send_that_is_found_on_hold_is_said(
    sendoso: Sandbox, lose_one: Callable[..., None], send: Callable[..., Try], caplog: pytest.LogCaptureFixture
) -> None:
    """The sensor says only what it is the first to see."""
    lose_one(accepted=True)
    [lost] = [one.id for one in sendoso.sends if one.id not in {r.send_id for r in records_of(State.SENT)}]
    sendoso.finish(lost, "suspicious email")
    assert send(5) == Try("", {"sent": 5})
    assert f"1 send is on hold at Sendoso (suspicious email: 1): {lost}." in caplog.text


def records_of(*states: State) -> list[Any]:
    return list(SendosoHook().ledger.sends.records(*states))
