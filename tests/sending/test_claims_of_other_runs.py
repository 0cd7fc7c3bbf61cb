"""What is free is posted first; while other runs have claimed the rest, the worker's slot is given back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS
from sqlalchemy import update
from trying import FakeTI, batch, people

from airflow_provider_sendoso.exceptions import SendosoNotReachedError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import Batch, Wanted
from airflow_provider_sendoso.ledger.schema import sends
from airflow_provider_sendoso.models import Item, Kind
from airflow_provider_sendoso.operators.sendoso import SendGiftOperator
from airflow_provider_sendoso.sandbox import Sandbox

pytestmark = pytest.mark.skipif(
    not AIRFLOW_V_3_3_PLUS, reason="Before 3.3 Airflow starts a task that asks to be rescheduled again at once"
)


class Store:
    """What Airflow 3.3 keeps for the tries of a task."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return self.kept.get(key, default)

    def set(self, key: str, value: Any, retention: Any = None) -> None:
        self.kept[key] = value


@pytest.fixture(autouse=True)
def sits_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_sendoso.runs.slots._SITS", 0.2)


@pytest.fixture
def claimed(sendoso: Sandbox, ledger: Any) -> None:
    """Another run has claimed the first three of five people, and has died."""
    hook = SendosoHook()
    other = Batch("other", hook.config.account, "q4", "email", "dag", "gifts", "run-0", -1)
    hook.ledger.sends.open_batch(other)
    keys = [hook.ledger.send_key(other.account, "q4", f"ada{n}@example.com") for n in range(3)]
    wanted = [Wanted(key, "payload", Item("gift-mug"), None, kind=Kind.GIFT) for key in keys]
    hook.ledger.sends.claim(other, "dead", 60, wanted)


def lapse() -> None:
    SendosoHook().ledger._database.run(lambda connection: connection.execute(update(sends).values(lease_until=0.0)))


def rescheduled(operator: Any, store: Store) -> float:
    """Run a try that is rescheduled; return for how many seconds."""
    from airflow.sdk.exceptions import AirflowRescheduleException

    ti = FakeTI("run-1")
    with pytest.raises(AirflowRescheduleException) as caught:
        operator.execute({"ti": ti, "task_state_store": store})
    assert "return_value" not in ti.xcom
    assert operator.on_failure_callback in (None, (), [])
    return float(caught.value.reschedule_date.timestamp() - time.time())


def test_a_batch_posts_what_is_free_and_gives_its_slot_back_until_the_claims_have_lapsed(
    sendoso: Sandbox, claimed: None
) -> None:
    store = Store()
    seconds = rescheduled(batch(5, claim_timeout=600), store)
    assert 40 < seconds < 62
    assert sorted(send.body["email"] for send in sendoso.sends) == ["ada3@example.com", "ada4@example.com"]
    lapse()
    summary = batch(5).execute({"ti": FakeTI("run-1"), "task_state_store": store})
    assert (summary["sent"], len(sendoso.sends)) == (5, 5)


def test_a_single_gift_gives_its_slot_back_as_well(sendoso: Sandbox, claimed: None) -> None:
    operator = SendGiftOperator(
        task_id="gifts", gift_id="gift-donation-trees", recipient=people(1)[0], message="Hi", dedupe_scope="q4"
    )
    assert rescheduled(operator, Store()) > 40
    assert sendoso.sends == []


def test_claim_timeout_is_over_after_as_long_as_ever_without_progress(sendoso: Sandbox, claimed: None) -> None:
    store = Store()
    assert rescheduled(batch(5, claim_timeout=30), store) <= 30
    [waits] = [value for key, value in store.kept.items() if "claims" in key]
    waits["since"] -= 20
    assert rescheduled(batch(5, claim_timeout=30), store) <= 10
    waits = next(value for key, value in store.kept.items() if "claims" in key)
    waits["since"] -= 10
    with pytest.raises(SendosoNotReachedError, match="3 rows were not reached"):
        batch(5, claim_timeout=30).execute({"ti": FakeTI("run-1"), "task_state_store": store})


def test_progress_lets_claim_timeout_begin_anew(sendoso: Sandbox, claimed: None) -> None:
    store = Store()
    rescheduled(batch(5, claim_timeout=30), store)
    waits = next(value for key, value in store.kept.items() if "claims" in key)
    waits |= {"since": waits["since"] - 3600, "rows": 4}
    assert rescheduled(batch(5, claim_timeout=30), store) > 20


def test_a_task_that_was_told_to_stop_is_not_rescheduled(
    sendoso: Sandbox, claimed: None, until: Callable[..., None]
) -> None:
    operator = batch(5, claim_timeout=600)
    operator.on_kill()
    with pytest.raises(SendosoNotReachedError, match="told to stop"):
        operator.execute({"ti": FakeTI("run-1"), "task_state_store": Store()})


def test_without_a_task_state_store_it_waits_in_its_slot(sendoso: Sandbox, claimed: None) -> None:
    with pytest.raises(SendosoNotReachedError, match="3 rows were not reached"):
        batch(5, claim_timeout=0.5).execute({"ti": FakeTI("run-1")})
