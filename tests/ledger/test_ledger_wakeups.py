"""Wake-ups on each database: stored once, read by time and account, pruned, and matched with the ledger's sends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger import wakeups as rules
from airflow_provider_sendoso.ledger.records import State
from airflow_provider_sendoso.ledger.schema import sends, wakeups

HOUR = 3600.0


def ids(book: Ledger, seconds: float = HOUR, account: str | None = None) -> list[str]:
    return [wakeup.svix_id for wakeup in book.wakeups.recent(seconds, account)]


def age(book: Ledger, seconds: float, svix_id: str) -> None:
    older = update(wakeups).values(received_at=wakeups.c.received_at - seconds).where(wakeups.c.svix_id == svix_id)
    book._database.run(lambda connection: connection.execute(older))


def record(book: Ledger, *rows: dict[str, Any]) -> None:
    plain = {"account": "acme", "dedupe_scope": "q4", "state": State.SENT, "attempt": 1, "lease_until": 0.0}
    plain |= {"batch_id": "b", "payload_hash": "p", "created_at": time.time(), "bound_id": None}
    every = [plain | {"send_key": f"key-{number}"} | row for number, row in enumerate(rows)]
    book._database.run(lambda connection: connection.execute(insert(sends), every))


def test_a_wake_up_is_read_with_its_age_by_all_or_by_its_account(opened: Ledger) -> None:
    opened.wakeups.note("acme", "msg_1", "gid-1")
    opened.wakeups.note("other", "msg_2", "gid-2")
    assert sorted(ids(opened)) == ["msg_1", "msg_2"]
    (wakeup,) = opened.wakeups.recent(HOUR, "acme")
    assert (wakeup.account, wakeup.svix_id, wakeup.send_gid, wakeup.names) == ("acme", "msg_1", "gid-1", ("gid-1",))
    assert 0 <= wakeup.ago < 60


def test_the_newest_come_first_and_older_ones_are_left_out(opened: Ledger) -> None:
    for number, seconds in ((1, 50), (2, 10), (3, 200)):
        opened.wakeups.note("acme", f"msg_{number}", "gid")
        age(opened, seconds, f"msg_{number}")
    assert ids(opened, 100) == ["msg_2", "msg_1"]


def test_a_message_is_stored_once_and_keeps_its_moment(opened: Ledger) -> None:
    opened.wakeups.note("acme", "msg_1", "gid")
    age(opened, 5 * 86_400, "msg_1")
    for _ in range(3):
        opened.wakeups.note("acme", "msg_1", "gid")
    assert ids(opened) == []
    assert ids(opened, 6 * 86_400) == ["msg_1"]
    opened.wakeups.note("other", "msg_1", "gid")  # another account's is another message
    assert ids(opened) == ["msg_1"]


def test_messages_whose_ids_differ_in_case_alone_are_two(opened: Ledger) -> None:
    opened.wakeups.note("acme", "msg_a", "gid")
    opened.wakeups.note("acme", "msg_A", "gid")
    assert sorted(ids(opened)) == ["msg_A", "msg_a"]


def test_what_is_older_than_a_month_is_deleted_at_most_once_an_hour(
    opened: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stored() -> int:
        return len(opened._database.run(lambda connection: connection.execute(select(wakeups.c.svix_id)).fetchall()))

    for number, days in ((1, 31), (2, 29)):
        opened.wakeups.note("acme", f"msg_{number}", "gid")
        age(opened, days * 86_400, f"msg_{number}")
    opened.wakeups.note("acme", "msg_3", "gid")
    assert stored() == 3
    opened.wakeups._prune_at = 0.0  # an hour later
    opened.wakeups.note("acme", "msg_4", "gid")
    assert stored() == 3
    assert sorted(ids(opened, 60 * 86_400)) == ["msg_2", "msg_3", "msg_4"]


def test_one_look_reads_the_newest_if_they_are_too_many(opened: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        opened.wakeups.note("acme", f"msg_{number}", "gid")
        age(opened, 100 - number, f"msg_{number}")
    monkeypatch.setattr(rules, "_MOST", 2)
    assert ids(opened) == ["msg_4", "msg_3"]


def test_a_wake_up_names_the_send_that_an_answer_has_shown_under_this_id(opened: Ledger) -> None:
    record(
        opened,
        {"send_id": "send-1"},
        {"send_id": "tracking:ABC", "bound_id": "77"},
        {"send_id": "send-1", "account": "other"},
    )
    opened.wakeups.note_gids("acme", {"send-1": "gid-1", "77": "gid-77", "not-ours": "gid-9"})
    for number, gid in enumerate(("gid-1", "gid-77", "gid-9")):
        opened.wakeups.note("acme", f"msg_{number}", gid)
    opened.wakeups.note("other", "msg_9", "gid-1")
    names = {(wakeup.account, wakeup.send_gid): wakeup.names for wakeup in opened.wakeups.recent(HOUR)}
    assert names == {
        ("acme", "gid-1"): ("gid-1", "send-1"),
        ("acme", "gid-77"): ("gid-77", "tracking:ABC", "77"),
        ("acme", "gid-9"): ("gid-9",),
        ("other", "gid-1"): ("gid-1",),
    }


def test_the_ids_for_webhooks_are_read_by_either_id_of_a_send(opened: Ledger) -> None:
    record(opened, {"send_id": "send-1"}, {"send_id": "tracking:ABC", "bound_id": "77"}, {"send_id": "send-2"})
    opened.wakeups.note_gids("acme", {"send-1": "gid-1", "77": "gid-77"})
    asked = ["send-1", "send-2", "tracking:ABC", "nobody"]
    assert opened.wakeups.gids("acme", asked) == {"send-1": "gid-1", "tracking:ABC": "gid-77"}
    assert opened.wakeups.gids("acme", ["77"]) == {"77": "gid-77"}
    assert opened.wakeups.gids("other", asked) == {}


def test_the_id_of_a_send_for_webhooks_is_stored_once(opened: Ledger) -> None:
    record(opened, {"send_id": "send-1"})
    opened.wakeups.note_gids("acme", {"send-1": "gid-1"})
    opened.wakeups.note_gids("acme", {"send-1": "gid-2"})
    gid = opened._database.run(lambda connection: connection.execute(select(sends.c.send_gid)).scalar())
    assert gid == "gid-1"


def test_many_ids_for_webhooks_are_stored_in_groups(opened: Ledger) -> None:
    record(opened, *({"send_id": f"send-{number}"} for number in range(1200)))
    opened.wakeups.note_gids("acme", {f"send-{number}": f"gid-{number}" for number in range(1200)})
    query = select(sends.c.send_id, sends.c.send_gid)
    rows = opened._database.run(lambda connection: connection.execute(query).fetchall())
    assert {(send_id, gid.replace("gid", "send")) for send_id, gid in rows} == {(s, s) for s, _ in rows}


@pytest.mark.parametrize("ledger_connection", ["postgresql"], indirect=True)
def test_a_look_reads_no_more_than_the_wake_ups_of_its_time(opened: Ledger) -> None:
    many = [
        {"account": "acme", "svix_id": f"m{number}", "send_gid": f"g{number}", "received_at": time.time() - 10 - number}
        for number in range(20_000)
    ]
    seen: list[str] = []

    def work(connection: Any) -> None:
        connection.execute(insert(wakeups), many)
        connection.exec_driver_sql("ANALYZE sendoso_wakeups")
        rows = connection.exec_driver_sql(
            "EXPLAIN SELECT * FROM sendoso_wakeups WHERE received_at > "
            f"{time.time() - 35} ORDER BY received_at DESC LIMIT 20000"
        )
        seen.extend(row[0] for row in rows)

    opened._database.run(work)
    assert "sendoso_wakeups_received" in "\n".join(seen)
    assert len(ids(opened, 35)) in range(20, 30)


def test_processes_that_receive_the_same_message_at_once_store_it_once(
    url: str, opened: Ledger, at_once: Callable[..., list[Any]]
) -> None:
    import ledger_workers

    at_once(ledger_workers.note_wakeups, [(url, 20)] * 4)
    assert sorted(ids(opened)) == sorted(f"msg_{number}" for number in range(20))
