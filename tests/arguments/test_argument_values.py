"""Arguments in every form that a DAG or a template gives: read, or refused by name without the value."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum
from typing import Any

import pendulum
import pytest

from airflow_provider_sendoso.arguments.gifts import GIFT_ARGUMENTS, GiftArguments
from airflow_provider_sendoso.arguments.values import (
    amount,
    count,
    listing,
    mapping,
    moment,
    query,
    seconds,
    share_or_count,
    text,
    truth,
)
from airflow_provider_sendoso.client.tracker import created_at
from airflow_provider_sendoso.events.differences import Question
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.landing.cells import read_moment as read_cell
from airflow_provider_sendoso.models import Touch
from airflow_provider_sendoso.operators.ledger import ResolveHeldOperator
from airflow_provider_sendoso.operators.sendoso import (
    BatchSendOperator,
    EgiftLinksOperator,
    SendGiftOperator,
    SendosoToSqlOperator,
)
from airflow_provider_sendoso.sensors.sendoso import SendosoEventSensor, SendStatusSensor
from airflow_provider_sendoso.triggers.events import SendosoEventTrigger

DAY = datetime(2026, 1, 5, tzinfo=UTC)
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
SUMMARY = {"batch_id": "b" * 32, "dedupe_scope": "q4", "rows": 3, "who": "ada@example.com"}


class Names(str, Enum):  # noqa: UP042  # as people write it
    MUG = "gift-mug"


MOMENTS = [
    *((20260105, DAY), ("20260105", DAY), (" 2026-01-05 ", DAY), (date(2026, 1, 5), DAY), (20260105.0, DAY)),
    *(("20260105T000000", DAY), ("20260105T000000+0000", DAY), (20260105120000, NOON), ("20260105120000", NOON)),
    *((DAY.timestamp(), DAY), (str(int(DAY.timestamp())), DAY), (int(DAY.timestamp() * 1000), DAY)),
    *(("2026-01-05T12:00:00Z", NOON), ("2026-01-05 12:00:00 UTC", NOON), ("2026-01-05T13:00:00+01:00", NOON)),
    *((datetime(2026, 1, 5), DAY), (datetime(2026, 1, 5, 13, tzinfo=timezone(timedelta(hours=1))), NOON)),
    (pendulum.datetime(2026, 1, 5, 7, tz="America/New_York"), NOON),
    *((915148800, datetime(1999, 1, 1, tzinfo=UTC)), (0, datetime(1970, 1, 1, tzinfo=UTC))),
    (1767614400.5, NOON + timedelta(seconds=0.5)),
]

NO_MOMENTS = [
    *(20261305, "20260230", 99999999, 2026, 202601, "260105", 12345678901, 1767571200000000, 10**400, "9" * 400),
    *(-1767571200, True, float("nan"), float("inf"), 1e30, "yesterday", "05/01/2026", "10000-01-01", [2026], {"a": 1}),
    "0001-01-01T00:00:00+14:00",
]


@pytest.mark.parametrize(("given", "meant"), MOMENTS, ids=repr)
def test_a_moment_is_read_alike_in_every_argument_and_answer(given: Any, meant: datetime) -> None:
    assert moment("since", given) == meant
    assert Question.parse("sends", "created", since=given).since == meant.timestamp()
    assert Touch.model_validate({"id": "1", "start_date": given}).start_date == meant
    assert read_cell(given) == meant
    assert created_at({"created_at": given}) == meant.timestamp()


@pytest.mark.parametrize("given", NO_MOMENTS, ids=lambda given: repr(given)[:30])
def test_a_moment_that_is_ambiguous_or_unreadable_is_refused(given: Any) -> None:
    with pytest.raises(SendosoConfigError, match=r"^since is "):
        moment("since", given)
    with pytest.raises(SendosoConfigError, match=r"^since is "):
        SendosoEventTrigger(object="sends", since=given)
    assert Touch.model_validate({"id": "1", "start_date": given}).start_date is None
    assert created_at({"created_at": given}) is None


@pytest.mark.parametrize("given", [None, "", " ", "None"])
def test_an_empty_moment_is_unset(given: Any) -> None:
    assert moment("since", given) is None


COLLECTIONS = [
    SUMMARY,
    str(SUMMARY),
    [SUMMARY],
    "['a', 'b']",
    ["b"],
    ("b",),
    b"b",
    True,
    1.5,
    "a\nb",
    "x" * 2000,
    10**30,
]


@pytest.mark.parametrize("given", COLLECTIONS, ids=lambda given: repr(given)[:20])
def test_a_collection_given_for_a_single_name_is_refused_without_showing_its_values(given: Any) -> None:
    with pytest.raises(SendosoConfigError, match=r"^batch_id is .*give one id or name") as caught:
        text("batch_id", given)
    assert "ada@" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("given", "read"),
    [(" b-1 ", "b-1"), (17, "17"), (17.0, "17"), (Names.MUG, "gift-mug"), ("None", None), ("[a] b", "[a] b")],
)
def test_a_single_name_is_read_as_text(given: Any, read: str | None) -> None:
    assert text("batch_id", given) == read


def test_a_batch_summary_given_for_an_id_is_refused_with_the_key_to_pass() -> None:
    with pytest.raises(SendosoConfigError, match=r"a dict of 4 entries.*pass its \['batch_id'\]"):
        text("batch_id", SUMMARY)


@pytest.mark.parametrize(
    ("read", "given"),
    [
        *(
            (read, given)
            for read in (count, amount, share_or_count)
            for given in (True, [1], {"a": 1}, "x", 10**400, "9" * 5000)
        ),
        *((amount, given) for given in ("NaN", "-1", float("inf"))),
        *((truth, given) for given in ([True], {"a": True}, "maybe", None, 2)),
        *((seconds, given) for given in (float("nan"), float("inf"), "60", True, -1)),
        *((mapping, given) for given in ("{'a': 'b'}", ["a"], 5)),
        *((listing, given) for given in ("['a']", {"a": 1}, 5, b"a")),
    ],
    ids=lambda given: getattr(given, "__name__", repr(given)[:20]),
)
def test_a_value_of_another_type_is_an_error_that_names_the_argument(read: Any, given: Any) -> None:
    with pytest.raises(SendosoConfigError, match=r"^the_argument (is|must)"):
        read("the_argument", given)


def test_a_list_of_queries_is_refused_as_sql() -> None:
    with pytest.raises(SendosoConfigError, match=r"^sql is a list of 2 entries"):
        query(["SELECT 1", "SELECT 2"])


BATCH = {"task_id": "t", "dedupe_scope": "q4", "recipients": [], "gift_id": "gift-mug", "message": "Thanks."}
LINKS = {"task_id": "t", "dedupe_scope": "q4", "recipients": [], "touch_id": 1, "links_table": "links", "conn_id": "w"}
ADA = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}
GIFT = {"task_id": "t", "gift_id": "gift-mug", "recipient": ADA, "message": "Thanks.", "dedupe_scope": "q4"}
LANDING = {"task_id": "t", "object": "sends", "table": "sends", "conn_id": "w"}
HELD = {"task_id": "t", "resolution": "sent", "why": "seen", "resolved_by": "me", "batch_id": "b"}
EVENTS = {"task_id": "t", "object": "sends", "deferrable": False}
ROWS = (
    "conn_id",
    "sql",
    "row_ref",
    "recipient_key",
    "column_map",
    "hook_params",
    "approved_fingerprint",
    "results_table",
)

WRONG = [
    *((BatchSendOperator, BATCH, name) for name in (*ROWS, "gift_id", "variant_id", "team_id", "metadata", "dry_run")),
    *((BatchSendOperator, BATCH, name) for name in ("max_sends", "max_cost", "max_invalid", "on_held", "dedupe_scope")),
    *((EgiftLinksOperator, LINKS, name) for name in (*ROWS, "links_table", "touch_id", "max_in_flight", "recipients")),
    *((SendGiftOperator, GIFT, name) for name in ("gift_id", "resend_of", "metadata", "dedupe_scope", "on_absent")),
    *((SendGiftOperator, GIFT, name) for name in ("hide_product_info", "expire_after_days", "address_confirmation")),
    *(
        (SendosoToSqlOperator, LANDING, name)
        for name in ("table", "conn_id", "status_table", "batch_id", "hook_params", "full")
    ),
    *((SendStatusSensor, {"task_id": "t"}, name) for name in ("send_id", "batch_id", "dedupe_scope")),
    *(
        (SendStatusSensor, {"task_id": "t", "send_id": "s"}, name)
        for name in ("results_table", "conn_id", "min_delivered")
    ),
    *((SendosoEventSensor, EVENTS, name) for name in ("object", "events", "statuses", "since", "cursor_name")),
    *(
        (ResolveHeldOperator, HELD, name)
        for name in ("batch_id", "dedupe_scope", "reason", "state", "send_id", "resolution")
    ),
]


@pytest.mark.parametrize(
    ("operator", "arguments", "name"),
    WRONG,
    ids=lambda value: getattr(value, "__name__", value if isinstance(value, str) else ""),
)
@pytest.mark.parametrize("shape", [str(SUMMARY), [SUMMARY, str(SUMMARY)]], ids=["text", "list"])
def test_every_argument_is_refused_before_any_connection_is_looked_up(
    operator: Any, arguments: dict[str, Any], name: str, shape: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "recipients" and isinstance(shape, list):
        pytest.skip("a list of dicts is what recipients are")
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a request was made"))
    monkeypatch.setattr(
        "airflow_provider_sendoso.hooks.sendoso.SendosoHook.ledger",
        property(lambda _: pytest.fail("the ledger was read")),
    )
    task = operator(**arguments | {name: shape})
    context: Any = {"ti": _TaskInstance(), "dag_run": None}
    monkeypatch.setattr("airflow_provider_sendoso.links.sendoso.SendosoLink.push", lambda *_: None)
    monkeypatch.setenv("AIRFLOW_CONN_SENDOSO_DEFAULT", "sendoso://id:secret@127.0.0.1:1")
    with pytest.raises(SendosoConfigError) as caught:
        task.execute(context)
    assert name in str(caught.value)
    assert "ada@" not in str(caught.value)


class _TaskInstance:
    dag_id, task_id, run_id, map_index = "d", "t", "r", -1


def test_every_templated_argument_of_a_gift_is_validated() -> None:
    for name in set(GIFT_ARGUMENTS) - {"message", "address_confirmation_message"}:
        with pytest.raises(SendosoConfigError, match=name):
            GiftArguments.parse({name: [str(SUMMARY)]})
