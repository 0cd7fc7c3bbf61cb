"""The protocol of a send over a ledger in S3: real HTTP, and a front that answers as S3 does on a bad day."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from multiprocessing.context import ForkServerContext
from typing import Any

import pytest
import s3_server
from s3_server import CONFLICT, EXPIRED, FORBIDDEN, INTERNAL, SLOW_DOWN, Front
from trying import Try, die, people, sendoso_connection

from airflow_provider_sendoso.exceptions import SendosoLedgerError
from airflow_provider_sendoso.hooks import connections, ledger_bucket
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.bucket import log as logs
from airflow_provider_sendoso.ledger.bucket import snapshots
from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.sandbox import Sandbox

ALL_SENT = Try("", {"sent": 5})
AGAIN = Try("", {"already_sent": 5})
PUT = ("PUT", "/log/")


@pytest.fixture(scope="module")
def s3() -> Iterator[int]:
    with s3_server.running() as port:
        yield port


@pytest.fixture
def address_and_front(s3: int) -> Iterator[tuple[str, Front]]:
    s3_server.empty(s3)
    with s3_server.front_of(s3) as both:
        yield both


@pytest.fixture
def front(address_and_front: tuple[str, Front]) -> Front:
    return address_and_front[1]


@pytest.fixture
def ledger_connection(address_and_front: tuple[str, Front]) -> dict[str, Any]:
    return s3_server.connection(address_and_front[0])


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are a tenth as long."""
    monkeypatch.setattr(logs, "_PAUSE", 0.02)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request times out after a second and a half."""
    options = ledger_bucket._client_options

    def hurried(*arguments: Any) -> dict[str, Any]:
        return dict(options(*arguments), timeout="1500ms")

    monkeypatch.setattr(ledger_bucket, "_client_options", hurried)


def test_a_batch_is_sent_once_over_s3(front: Front, send: Callable[..., Try], sendoso: Sandbox) -> None:
    assert send() == ALL_SENT
    assert send(run_id="run-2") == AGAIN
    assert len(sendoso.sends) == 5
    assert all(f"/{s3_server.PREFIX}/" in entry for entry in front.log if entry.startswith("PUT"))
    puts = [
        entry.split()[1] for entry in front.log if entry.startswith(f"PUT /{s3_server.BUCKET}/{s3_server.PREFIX}/log/")
    ]
    assert 0 < len(puts) == len(set(puts)), "one process has nobody to compete with"


BAD_DAY: dict[str, dict[str, Any]] = {
    "409": {"answer": CONFLICT},
    "409-after-the-write": {"answer": CONFLICT, "after": True},
    "412-of-nothing": {"answer": (412, "PreconditionFailed")},
    "503": {"answer": SLOW_DOWN, "times": 2},
    "503-for-long": {"answer": SLOW_DOWN, "times": 8},
    "503-after-the-write": {"answer": SLOW_DOWN, "after": True},
    "500-after-the-write": {"answer": INTERNAL, "after": True},
    "dropped": {"drop": True},
    "dropped-after-the-write": {"drop": True, "after": True},
    "late": {"delay": 2.5},
    "answered-late": {"delay": 2.5, "after": True},
}


@pytest.mark.parametrize("skip", [pytest.param(3, marks=pytest.mark.slow), 6, pytest.param(9, marks=pytest.mark.slow)])
@pytest.mark.parametrize("fault", BAD_DAY)
def test_whatever_s3_answers_to_a_write_everybody_is_sent_one_gift(
    front: Front,
    send: Callable[..., Try],
    sendoso: Sandbox,
    states: Callable[[], dict[str, int]],
    fault: str,
    request: pytest.FixtureRequest,
    skip: int,
) -> None:
    if "delay" in BAD_DAY[fault]:
        request.getfixturevalue("impatient")
    front.fault(*PUT, skip=skip, **BAD_DAY[fault])
    assert send() == ALL_SENT
    assert not front.faults, "it has not happened"
    assert send(run_id="run-2") == AGAIN
    assert len(sendoso.sends) == 5
    connections._ledgers.clear()  # as another process, which reads the log from its beginning
    assert states() == {"SENT": 5}


@pytest.mark.parametrize(
    "fault", [{"answer": SLOW_DOWN}, {"drop": True}, {"answer": INTERNAL}], ids=["503", "dropped", "500"]
)
def test_a_lost_answer_is_looked_up_however_long_reading_takes(
    front: Front, send: Callable[..., Try], sendoso: Sandbox, fault: dict[str, Any]
) -> None:
    front.fault(*PUT, skip=6, drop=True, after=True)
    front.fault("GET", "/log/", times=4, skip=4, **fault)
    assert send() == ALL_SENT
    assert not front.faults
    assert len(sendoso.sends) == 5


def test_a_client_that_repeats_its_own_write_does_not_take_it_for_anothers(
    front: Front, send: Callable[..., Try], sendoso: Sandbox
) -> None:
    """The client repeats a write that was answered by 503, and is told 412, because the first one was done."""
    front.fault(*PUT, skip=5, answer=SLOW_DOWN, after=True)
    assert send() == ALL_SENT
    assert 412 in front.statuses(*PUT)
    assert len(sendoso.sends) == 5


def test_a_stale_list_costs_time_only(
    front: Front, send: Callable[..., Try], sendoso: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "EVERY", 5)
    assert send() == ALL_SENT
    for stale in (False, True, True):
        connections._ledgers.clear()
        front.stale = stale
        assert send(people(6)[:5], run_id=f"run-{len(front.log)}") == AGAIN
    assert front.statuses("PUT", "/snapshots/").count(200) >= 2
    front.stale = True
    connections._ledgers.clear()
    assert send(people(6), run_id="last") == Try("", {"already_sent": 5, "sent": 1})
    assert len(sendoso.sends) == 6


@pytest.mark.parametrize("at", ["posting-committed:3", "posted:3", "outcome-committed:3"])
def test_a_try_that_is_killed_is_finished_by_the_next(
    front: Front,
    send: Callable[..., Try],
    sendoso: Sandbox,
    ledger: dict[str, Any],
    an_hour_later: Callable[[], None],
    forkserver: ForkServerContext,
    at: str,
) -> None:
    sendoso_default = sendoso_connection(sendoso, requests_per_second=1000, timeout=60)
    connections_there = {"sendoso_default": sendoso_default, "sendoso_ledger": ledger}
    process = forkserver.Process(target=die, args=(connections_there, at, {"max_in_flight": 1}, 0))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    an_hour_later()
    assert send().counts in ({"sent": 5}, {"sent": 4, "held": 1})
    an_hour_later()
    assert send(on_absent="resend", settle_time=0) == ALL_SENT
    assert len(sendoso.sends) == 5


# -- credentials that expire -------------------------------------------------------------------------------------------


@pytest.fixture
def of_a_role(
    front: Front, ledger: dict[str, Any], set_connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Airflow's connection assumes a role, whose keys S3 accepts for a second and a half.

    They are said to last for five minutes, and botocore renews what lasts no longer whenever it is asked. So whoever
    asks in time has new ones.
    """
    role = {
        "role_arn": "arn:aws:iam::123456789012:role/ledger",
        "service_config": {"sts": {"endpoint_url": ledger["extra"]["endpoint_url"]}},
    }
    set_connection("sendoso_ledger", ledger | {"extra": ledger["extra"] | role})
    monkeypatch.setattr(ledger_bucket, "_TAKEN_FOR_VALID", timedelta(minutes=5))  # so that it is asked each time
    connections._ledgers.clear()
    front.key_lasts = 1.5


@pytest.mark.parametrize("answer", [EXPIRED, (403, "ExpiredToken")], ids=["400", "403"])
def test_a_batch_goes_on_with_new_credentials_when_the_first_expire(
    front: Front, send: Callable[..., Try], sendoso: Sandbox, of_a_role: None, answer: tuple[int, str]
) -> None:
    front.expired = answer
    for skip in (5, 8, 11):
        front.fault(*PUT, skip=skip, delay=1.0)
    assert send() == ALL_SENT
    assert send(run_id="run-2") == AGAIN
    assert len(sendoso.sends) == 5
    first, last = min(front.keys.values()), max(front.keys.values())
    assert last - first > 2 * front.key_lasts, "the first would have lasted"
    assert "access" not in front.keys, "not the role's"


def test_a_batch_whose_credentials_cannot_be_renewed_says_so_and_the_next_try_sends_to_nobody_twice(
    front: Front,
    send: Callable[..., Try],
    sendoso: Sandbox,
    of_a_role: None,
    an_hour_later: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    front.role_is_lost = lambda: len(sendoso.sends) >= 2
    front.fault(*PUT, times=10**6, delay=0.15)  # for a tenth of a second after it was given keys, nobody asks again
    with monkeypatch.context() as impatient:
        for function in (Database.run, Database.run_together):
            impatient.setattr(function, "__defaults__", (0.2, None))
        impatient.setattr("airflow_provider_sendoso.ledger.sends.OUTCOME_PATIENCE", 0.2)
        ended = send(max_in_flight=1)  # or all POSTs begin with one commit, before the role is lost
    said = str(ended.raised)
    assert "gives no credentials that are valid now" in said
    assert "AccessDenied" in said
    assert "its role may be assumed" in said
    assert ended.counts in ({"sent": 1, "held": 1, "not_reached": 3}, {"sent": 2, "not_reached": 3})
    assert len(sendoso.sends) == 2
    front.role_is_lost = lambda: False
    an_hour_later()
    assert send(on_absent="resend", settle_time=0) == ALL_SENT
    assert len(sendoso.sends) == 5


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_a_bucket_that_is_missing_is_an_error_that_says_so(
    send: Callable[..., Try], sendoso: Sandbox, ledger: dict[str, Any], set_connection: Callable[..., None]
) -> None:
    address = ledger["extra"]["endpoint_url"]
    set_connection("sendoso_ledger", s3_server.connection(address, "another"))
    with pytest.raises(SendosoLedgerError, match="s3://another/team/ledger: there is no such bucket"):
        _ = SendosoHook().ledger
    assert sendoso.sends == []


def test_a_bucket_that_is_deleted_under_a_process_stops_it(
    front: Front, s3: int, send: Callable[..., Try], sendoso: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_sendoso.ledger.database import Database

    assert send() == ALL_SENT
    ledger = SendosoHook().ledger
    s3_server.empty(s3)
    s3_server.client(s3).delete_bucket(Bucket=s3_server.BUCKET)
    monkeypatch.setattr(Database.run, "__defaults__", (0.2, None))
    monkeypatch.setattr("airflow_provider_sendoso.ledger.database.PATIENCE", 0.2)
    # What is not there is not taken for what nobody has written yet.
    with pytest.raises(SendosoLedgerError, match="there is no such bucket"):
        ledger.sends.states(dedupe_scope="q4")


def test_a_role_that_may_not_write_sends_nothing_and_is_told_so(
    front: Front, send: Callable[..., Try], sendoso: Sandbox
) -> None:
    front.fault("PUT", times=100, answer=FORBIDDEN)
    with pytest.raises(SendosoLedgerError, match="refuses the connection's credentials") as raised:
        _ = SendosoHook().ledger
    assert "secret" not in str(raised.value)
    assert sendoso.sends == []
    front.faults.clear()
    assert send() == ALL_SENT
