"""Limits on what a scope, a day, a month and a person get, as a DAG's author and the connection's owner meet them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from sqlalchemy import create_engine, text

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoLimitError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger import spending
from airflow_provider_sendoso.ledger.sends import SendLedger
from airflow_provider_sendoso.notifications.sendoso import SendosoNotifier
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator, EgiftLinksOperator, SendGiftOperator
from airflow_provider_sendoso.runs import limits as run_limits
from airflow_provider_sendoso.sandbox import Sandbox, app, catalogue
from airflow_provider_sendoso.sending import posting

Make = Callable[..., BatchSendOperator]
MakeGift = Callable[..., SendGiftOperator]
Execute = Callable[..., Any]
Owner = Callable[..., None]
Stopped = Callable[..., tuple[str, dict[str, Any]]]

SENDS = "/api/v3/sends"
COFFEE, MUG = "gift-egift-coffee", "gift-mug"
EGIFT = 102
"""A campaign of the sandbox whose gifts are eGifts."""


@pytest.fixture
def owner(sendoso: Sandbox, set_connection: Callable[..., None]) -> Owner:
    """Sets the connection's limits, as its owner does."""

    def set_them(**limits: Any) -> None:
        connection = {"conn_type": "sendoso", "host": sendoso.url, "login": "sandbox", "password": "sandbox"}
        set_connection("sendoso_default", connection | {"extra": {"requests_per_second": 500} | limits})

    return set_them


@pytest.fixture
def stopped(ti: Any) -> Stopped:
    """Runs a batch into a limit; returns the error, and the summary that was pushed before it was raised."""

    def run(operator: Any, run_id: str = "run-1") -> tuple[str, dict[str, Any]]:
        instance = ti(run_id)
        with pytest.raises(SendosoLimitError) as error:
            operator.execute({"ti": instance})
        assert isinstance(error.value, AirflowFailException)
        return str(error.value), instance.xcom["return_value"]

    return run


def recipients(sandbox: Sandbox) -> list[str]:
    return [send.body["email"] for send in sandbox.sends]


def counted(summary: dict[str, Any]) -> dict[str, int]:
    names = ("would_send", "sent", "already_sent", "duplicate", "refused", "invalid", "held", "capped", "not_reached")
    assert sum(summary.get(name, 0) for name in names) == summary["rows"]
    return {name: summary[name] for name in names if summary.get(name)}


# -- a scope -----------------------------------------------------------------------------------------------------------


def test_a_batch_sends_what_fits_in_the_order_of_its_rows_and_then_fails(
    sendoso: Sandbox, ledger: Any, batch: Make, stopped: Stopped, people: Any, read_logs: Callable[[], str]
) -> None:
    sendoso.fault("slow", times=5, method="POST", path=SENDS, delay=0.2)
    error, summary = stopped(batch(recipients=people(20), scope_max_sends="7", max_in_flight=4))
    assert "The next send does not fit in scope_max_sends=7 of the scope 'q4': spent" in error
    assert "left 0. 20 rows: sent 7" in error
    assert counted(summary) == {"sent": 7, "not_reached": 13}
    assert sorted(recipients(sendoso)) == sorted(row["email"] for row in people(7))
    logs = read_logs()
    assert logs.count("scope_max_sends=7 of the scope 'q4' is nearly reached: ") == 1


def test_a_row_that_is_slow_to_begin_keeps_its_place_in_a_limit(
    sendoso: Sandbox, ledger: Any, batch: Make, stopped: Stopped, people: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, begun = posting._Attempt.begin, []

    def slow_in_the_fifth_row(self: Any) -> None:
        begun.append(self)
        if len(begun) == 5:
            time.sleep(0.5)
        begin(self)

    monkeypatch.setattr(posting._Attempt, "begin", slow_in_the_fifth_row)
    sendoso.fault("slow", times=20, method="POST", path=SENDS, delay=0.1)
    stopped(batch(recipients=people(20), scope_max_sends=7, max_in_flight=8))
    assert sorted(recipients(sendoso)) == sorted(row["email"] for row in people(7))


def test_rows_far_from_a_limit_are_decided_at_the_same_time(
    sendoso: Sandbox, ledger: Any, batch: Make, people: Any, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, begun, together = posting._Attempt.begin, [], threading.Barrier(4, timeout=30)

    def wait_for_three_others(self: Any) -> None:
        begun.append(self)
        if 2 <= len(begun) <= 5:  # the first goes alone
            together.wait()
        begin(self)

    monkeypatch.setattr(posting._Attempt, "begin", wait_for_three_others)
    limits = {"scope_max_sends": 100, "scope_max_cost": 2000}
    assert counted(execute(batch(recipients=people(8), max_in_flight=4, **limits))) == {"sent": 8}


def test_a_row_that_was_slow_to_begin_far_from_a_limit_keeps_its_place_in_it(
    sendoso: Sandbox, ledger: Any, batch: Make, stopped: Stopped, people: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, begun = posting._Attempt.begin, []

    def slow_in_the_fifth_row(self: Any) -> None:
        begun.append(self)
        if len(begun) == 5:
            time.sleep(2.0)
        begin(self)

    monkeypatch.setattr(posting._Attempt, "begin", slow_in_the_fifth_row)
    stopped(batch(recipients=people(50), scope_max_sends=40, max_in_flight=8))
    assert sorted(recipients(sendoso)) == sorted(row["email"] for row in people(40))


def test_ten_mapped_shards_together_keep_the_limits_of_their_scope(
    sendoso: Sandbox, ledger: Any, batch: Make, stopped: Stopped, people: Any, execute: Execute
) -> None:
    everybody = people(50)
    for shard in range(10):
        operator = batch(recipients=everybody[shard::10], gift_id=COFFEE, scope_max_cost=123)
        if shard < 2:
            assert counted(execute(operator, f"run-{shard}")) == {"sent": 5}
        elif shard == 2:
            error, summary = stopped(operator, f"run-{shard}")
            assert "scope_max_cost=123.00 of the scope 'q4': spent 120.00 USD, reserved 0.00, left 3.00." in error
            assert counted(summary) == {"sent": 2, "not_reached": 3}
        else:
            assert counted(stopped(operator, f"run-{shard}")[1]) == {"not_reached": 5}
    assert len(sendoso.sends) == 12


def test_a_batch_goes_on_when_its_limit_was_raised(
    sendoso: Sandbox, ledger: Any, batch: Make, stopped: Stopped, people: Any, execute: Execute
) -> None:
    stopped(batch(recipients=people(5), scope_max_sends=2))
    assert counted(execute(batch(recipients=people(5), scope_max_sends=5))) == {"sent": 5}
    assert len(sendoso.sends) == 5


def test_who_was_sent_a_gift_needs_no_room_in_a_limit(
    sendoso: Sandbox, ledger: Any, batch: Make, people: Any, execute: Execute
) -> None:
    execute(batch(recipients=people(3)))
    assert counted(execute(batch(recipients=people(3), scope_max_sends=0), "run-2")) == {"already_sent": 3}


def test_refused_sends_use_nothing(sendoso: Sandbox, ledger: Any, batch: Make, people: Any, stopped: Stopped) -> None:
    sendoso.fault("status", times=8, method="POST", path=SENDS, status=422)
    _, summary = stopped(batch(recipients=people(15), scope_max_sends=3))
    assert counted(summary) == {"sent": 3, "refused": 8, "not_reached": 4}


def test_a_send_of_unknown_price_is_refused_before_the_first_send(
    sendoso: Sandbox, ledger: Any, batch: Make, people: Any, stopped: Stopped, gift: MakeGift, execute: Execute
) -> None:
    address = {"line1": "1 High Street", "city": "London", "postal_code": "N1 9GU", "country": "GB"}
    rows = [row | {"address": address} for row in people(2)]
    error, _ = stopped(batch(recipients=rows, gift_id=MUG, scope_max_cost=1000))
    assert "so scope_max_cost cannot be kept: shipping of gift-mug is not known: set shipping_estimate" in error
    with pytest.raises(SendosoLimitError, match="shipping of gift-mug is not known: set shipping_estimate"):
        execute(gift(recipient=rows[0], gift_id=MUG, scope_max_cost=1000))
    assert sendoso.sends == []
    execute(gift(recipient=rows[0], gift_id=MUG, scope_max_cost=40, shipping_estimate="7"))
    assert len(sendoso.sends) == 1


def test_earlier_sends_without_a_price_are_priced_when_a_cost_is_first_limited(
    sendoso: Sandbox, ledger: Any, batch: Make, people: Any, stopped: Stopped, execute: Execute
) -> None:
    execute(batch(recipients=people(3), gift_id=COFFEE))
    error, summary = stopped(batch(recipients=people(6), gift_id=COFFEE, scope_max_cost=45), "run-2")
    assert "spent 40.00 USD" in error
    assert counted(summary) == {"already_sent": 3, "sent": 1, "not_reached": 2}


def test_a_dry_run_says_that_a_run_would_stop_at_a_limit(
    sendoso: Sandbox, ledger: Any, batch: Make, people: Any, execute: Execute, read_logs: Callable[[], str]
) -> None:
    execute(batch(recipients=people(2)))
    summary = execute(batch(recipients=people(6), scope_max_sends=4, scope_max_cost=45, dry_run=True), "run-2")
    assert counted(summary) == {"already_sent": 2, "would_send": 4}
    logs = read_logs()
    assert "A run would stop when it reaches scope_max_sends=4 of the scope 'q4': spent 2 sends" in logs
    assert "A run would stop when it reaches scope_max_cost=45.00 of the scope 'q4': spent 0.00 USD" in logs


def test_a_price_that_changes_between_preview_and_send_counts_as_it_is_now(
    sendoso: Sandbox,
    ledger: Any,
    batch: Make,
    people: Any,
    execute: Execute,
    stopped: Stopped,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = {"recipients": people(4), "gift_id": COFFEE, "scope_max_cost": 45}
    seen = execute(batch(dry_run=True, **arguments), "run-0")
    assert (seen["would_send"], seen["estimated_cost"]) == (4, 40.0)
    dearer = tuple(replace(gift, price=20.0) if gift.id == COFFEE else gift for gift in catalogue.CATALOGUE)
    for module in (app, catalogue):
        monkeypatch.setattr(module, "CATALOGUE", dearer)
    error, summary = stopped(batch(approved_fingerprint=seen["fingerprint"], **arguments))
    assert "scope_max_cost=45.00 of the scope 'q4': spent 40.00 USD, reserved 0.00, left 5.00." in error
    assert counted(summary) == {"sent": 2, "not_reached": 2}


def test_a_month_that_ends_in_the_middle_of_a_batch_ends_its_limits(
    sendoso: Sandbox,
    ledger: Any,
    owner: Owner,
    batch: Make,
    people: Any,
    stopped: Stopped,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lock, midnight = spending._lock, datetime(2026, 12, 1, tzinfo=UTC).timestamp()

    def on_the_last_day(*args: Any) -> Any:
        held = lock(*args)
        held.now = midnight + (1 if len(sendoso.sends) >= 3 else -1)
        return held

    monkeypatch.setattr(spending, "_lock", on_the_last_day)
    owner(max_sends_per_day=3, max_cost_per_month=45)
    error, summary = stopped(batch(recipients=people(9), gift_id=COFFEE, max_in_flight=1))
    assert "max_sends_per_day=3 of 2026-12-01 (UTC): spent 3 sends" in error
    assert counted(summary) == {"sent": 6, "not_reached": 3}


def test_an_amount_larger_than_the_ledger_can_store_is_a_limit_that_is_never_reached(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute
) -> None:
    assert counted(execute(batch(scope_max_sends=10**12, scope_max_cost="1e30"))) == {"sent": 3}


@pytest.mark.parametrize("name", ["scope_max_sends", "scope_max_cost", "min_days_between_gifts"])
@pytest.mark.parametrize("value", ["-1", "nan", "inf", "many", "5 USD", "1,000", True, [5], -0.5], ids=repr)
def test_a_limit_that_is_no_number_is_an_error_and_nothing_is_sent(
    sendoso: Sandbox, ledger: Any, batch: Make, gift: MakeGift, execute: Execute, name: str, value: Any
) -> None:
    for operator in (batch(**{name: value}), gift(**{name: value})):
        with pytest.raises(SendosoConfigError, match=rf"{name} is .*Nothing was sent"):
            execute(operator)
    assert sendoso.sends == []


# -- the account -------------------------------------------------------------------------------------------------------


def links_of(tmp_path: Path, rows: list[dict[str, Any]], **changes: Any) -> EgiftLinksOperator:
    arguments = {"task_id": "links", "recipients": rows, "touch_id": EGIFT, "conn_id": "warehouse"}
    return EgiftLinksOperator(**(arguments | {"links_table": "links", "dedupe_scope": "links"} | changes))


def test_the_connections_limit_holds_for_batches_gifts_links_and_the_notifier(
    sendoso: Sandbox,
    ledger: Any,
    owner: Owner,
    batch: Make,
    gift: MakeGift,
    people: Any,
    stopped: Stopped,
    execute: Execute,
    set_connection: Callable[..., None],
    tmp_path: Path,
) -> None:
    set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})
    everybody = people(9)
    owner(max_sends_per_day=4)

    def notify(person: dict[str, Any]) -> None:
        instance = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, xcom_push=lambda **pushed: None)
        notifier = SendosoNotifier(gift_id=COFFEE, recipient=person, message="Thank you", dedupe_scope="notes")
        # Not called, because Airflow 2 logs a callback's error.
        notifier.notify({"ti": instance, "task": instance, "dag": None, "run_id": "r"})

    execute(batch(recipients=everybody[:1]))
    execute(gift(recipient=everybody[1]), "run-of-gift")
    execute(links_of(tmp_path, everybody[2:3]), "run-of-links")
    notify(everybody[3])
    for attempt in (
        lambda: execute(batch(recipients=everybody[4:5]), "run-2"),
        lambda: execute(gift(recipient=everybody[5]), "run-2"),
        lambda: execute(links_of(tmp_path, everybody[6:7]), "run-2"),
        lambda: notify(everybody[7]),
    ):
        with pytest.raises(SendosoLimitError, match=r"max_sends_per_day=4 of .* \(UTC\): spent 4 sends, .*left 0"):
            attempt()
    with pytest.raises(SendosoLimitError, match="does not go through the ledger"):
        SendosoHook().send_gift(gift_id=COFFEE, recipient=everybody[8], message="Thank you")
    with pytest.raises(SendosoLimitError, match="does not go through the ledger"):
        SendosoHook().generate_egift_links(touch_id=EGIFT, emails=[everybody[8]["email"]])
    assert len(sendoso.sends) == 3
    assert len([request for request in sendoso.requests if request.path.endswith("generate_egift_links")]) == 1


def test_a_month_has_one_budget_for_all_scopes(
    sendoso: Sandbox, ledger: Any, owner: Owner, batch: Make, people: Any, stopped: Stopped, execute: Execute
) -> None:
    owner(max_cost_per_month="35")
    execute(batch(recipients=people(2), gift_id=COFFEE, dedupe_scope="one"))
    error, summary = stopped(batch(recipients=people(2), gift_id=COFFEE, dedupe_scope="two"), "run-2")
    assert "max_cost_per_month=35.00 of" in error
    assert counted(summary) == {"sent": 1, "not_reached": 1}


@pytest.mark.parametrize("limit", [{"max_sends_per_day": 0}, {"max_cost_per_month": 0}], ids=repr)
def test_a_connection_whose_limit_is_0_sends_nothing(
    sendoso: Sandbox, ledger: Any, owner: Owner, batch: Make, stopped: Stopped, limit: dict[str, Any]
) -> None:
    owner(**limit)
    _, summary = stopped(batch())
    assert counted(summary) == {"not_reached": 3}
    assert sendoso.sends == []


@pytest.mark.parametrize("name", ["max_sends_per_day", "max_cost_per_month", "min_days_between_gifts"])
@pytest.mark.parametrize("value", [-1, "nan", "inf", "many", "1,000", True, [5]], ids=repr)
def test_a_connection_with_a_limit_that_is_no_number_is_refused(
    sendoso: Sandbox, ledger: Any, owner: Owner, batch: Make, execute: Execute, name: str, value: Any
) -> None:
    owner(**{name: value})
    with pytest.raises(SendosoConfigError, match=name):
        execute(batch())


def test_a_limit_that_the_owner_sets_while_a_batch_runs_stops_it(
    sendoso: Sandbox,
    ledger: Any,
    owner: Owner,
    batch: Make,
    people: Any,
    stopped: Stopped,
    monkeypatch: pytest.MonkeyPatch,
    read_logs: Callable[[], str],
) -> None:
    monkeypatch.setattr(run_limits, "_LOOK_AGAIN", -1.0)
    finish = SendLedger.finish

    def finish_and_lower(self: SendLedger, *args: Any, **more: Any) -> bool:
        if len(sendoso.sends) == 30:
            owner(max_sends_per_day=20)
        return finish(self, *args, **more)

    monkeypatch.setattr(SendLedger, "finish", finish_and_lower)
    _, summary = stopped(batch(recipients=people(120), max_in_flight=1))
    assert counted(summary) == {"sent": 50, "not_reached": 70}  # the first fifty rows were claimed before
    assert "The limits of the connection 'sendoso_default' have changed" in read_logs()


# -- one gift per person and so many days ------------------------------------------------------------------------------


def test_who_was_sent_a_gift_in_another_scope_is_capped_and_the_task_succeeds(
    sendoso: Sandbox, ledger: Any, batch: Make, gift: MakeGift, people: Any, execute: Execute, read_logs: Any
) -> None:
    execute(gift(recipient=people(1)[0]), "run-0")
    summary = execute(batch(min_days_between_gifts="90"))
    assert counted(summary) == {"sent": 2, "capped": 1}
    assert "1  capped" in read_logs()
    assert len(sendoso.sends) == 3
    assert counted(execute(batch())) == {"sent": 3}  # without the cap, the row is sent


def test_the_connections_days_are_a_default_that_a_task_may_replace(
    sendoso: Sandbox, ledger: Any, owner: Owner, batch: Make, people: Any, execute: Execute
) -> None:
    execute(batch(dedupe_scope="before"), "run-0")
    owner(min_days_between_gifts=90)
    assert counted(execute(batch(), "run-2")) == {"capped": 3}
    assert counted(execute(batch(min_days_between_gifts=0), "run-2")) == {"sent": 3}


def test_a_single_gift_to_a_capped_person_is_skipped_and_leaves_no_claim(
    sendoso: Sandbox, ledger: Any, batch: Make, gift: MakeGift, people: Any, execute: Execute
) -> None:
    execute(batch())
    with pytest.raises(AirflowSkipException, match="less than 90 days ago; another may be sent after"):
        execute(gift(recipient=people(1)[0], min_days_between_gifts=90), "run-2")
    assert len(sendoso.sends) == 3
    hook = SendosoHook()
    assert hook.ledger.sends.states(dedupe_scope="thanks") == {}


def test_two_rows_of_a_person_under_different_keys_are_one_gift(
    sendoso: Sandbox, ledger: Any, batch: Make, people: Any, execute: Execute
) -> None:
    rows = [people(1)[0] | {"crm_id": number} for number in range(4)]
    summary = execute(batch(recipients=rows, recipient_key="crm_id", min_days_between_gifts=90))
    assert counted(summary) == {"sent": 1, "capped": 3}
    assert len(sendoso.sends) == 1


def test_a_replacement_is_not_capped(
    sendoso: Sandbox, ledger: Any, gift: MakeGift, people: Any, execute: Execute
) -> None:
    old = execute(gift())
    sendoso.finish(old, "returned")
    assert execute(gift(resend_of=old, min_days_between_gifts=90), "run-2") not in (None, old)
    assert len(sendoso.sends) == 2


def test_a_dry_run_counts_capped_rows_and_its_approval_holds(
    sendoso: Sandbox, ledger: Any, batch: Make, gift: MakeGift, people: Any, execute: Execute
) -> None:
    execute(gift(recipient=people(1)[0]), "run-0")
    seen = execute(batch(min_days_between_gifts=90, dry_run=True, max_sends=2))
    assert counted(seen) == {"would_send": 2, "capped": 1}
    approved = batch(min_days_between_gifts=90, max_sends=2, approved_fingerprint=seen["fingerprint"])
    assert counted(execute(approved)) == {"sent": 2, "capped": 1}


def test_capped_rows_are_in_the_results_table(
    sendoso: Sandbox,
    ledger: Any,
    batch: Make,
    gift: MakeGift,
    people: Any,
    execute: Execute,
    set_connection: Callable[..., None],
    tmp_path: Path,
) -> None:
    set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})
    execute(gift(recipient=people(1)[0]), "run-0")
    execute(batch(min_days_between_gifts=90, results_table="results", conn_id="warehouse"))
    with create_engine(f"sqlite:///{tmp_path}/warehouse.db").begin() as connection:
        rows = connection.execute(text("SELECT outcome, reason FROM results ORDER BY row_number")).fetchall()
    assert [row[0] for row in rows] == ["capped", "sent", "sent"]
    assert rows[0][1].startswith("min_days_between_gifts: this person was sent a gift less than 90 days ago")


def test_a_batch_of_invalid_and_capped_rows_is_no_failure(
    sendoso: Sandbox, ledger: Any, batch: Make, people: Any, execute: Execute
) -> None:
    execute(batch(dedupe_scope="before"), "run-0")
    rows = [*people(3), {"first_name": "No", "last_name": "Address"}]
    assert counted(execute(batch(recipients=rows, min_days_between_gifts=90), "run-2")) == {"capped": 3, "invalid": 1}
