"""The connection's ``max_sends_per_batch`` holds for all that sends: a single gift is a batch of one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, TaskDeferred
from trying import SCOPE, FakeTI, one_try, people, sendoso_connection

from airflow_provider_sendoso.exceptions import (
    SendHeldError,
    SendosoLimitError,
    SendosoNotReachedError,
    SendOutcomeUnknownError,
)
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import State
from airflow_provider_sendoso.notifications.sendoso import SendosoNotifier
from airflow_provider_sendoso.operators.sendoso import SendGiftOperator
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sending.reconciling import Reconciler

EGIFT = 102
GIFT = {"gift_id": "gift-donation-trees", "message": "Thank you"}
Ceiling = Callable[[int | str | None], None]


@pytest.fixture
def ceiling(sendoso: Sandbox, ledger: Any, set_connection: Any, tmp_path: Path) -> Ceiling:
    """Sets the connection's ceiling; the links have a database of their own."""
    set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})

    def set_to(limit: int | str | None) -> None:
        extra = {"max_sends_per_batch": limit, "requests_per_second": 1000, "timeout": 60}
        set_connection("sendoso_default", sendoso_connection(sendoso, **extra))

    return set_to


def context(run_id: str = "run-1") -> dict[str, Any]:
    return {"ti": FakeTI(run_id), "dag": DAG("dag", schedule=None), "run_id": run_id}


def gift(run_id: str = "run-1", **changes: Any) -> Any:
    arguments = {**GIFT, "recipient": people(1)[0], "dedupe_scope": SCOPE, **changes}
    return SendGiftOperator(task_id="gifts", **arguments).execute(context(run_id))


def campaign() -> Any:
    return gift(gift_id=None, touch_id=EGIFT, message=None)


def notify() -> Any:
    return SendosoNotifier(**GIFT, recipient=people(1)[0], dedupe_scope=SCOPE).notify(context())


def batch() -> Any:
    return checked(one_try(1))


def links() -> Any:
    return checked(one_try(1, touch_id=EGIFT, links_table="links", conn_id="warehouse"))


def checked(tried: Any) -> Any:
    if tried.raised:
        raise tried.raised
    return tried.counts


def raw_gift() -> Any:
    return SendosoHook().send_gift(**GIFT, recipient=people(1)[0])


def raw_campaign() -> Any:
    return SendosoHook().send_gift(touch_id=EGIFT, recipient=people(1)[0])


def raw_link() -> Any:
    return raw_links(1)


def raw_links(count: int) -> Any:
    emails = [person["email"] for person in people(count)]
    return SendosoHook().generate_egift_links(touch_id=EGIFT, emails=emails)


def posted(sandbox: Sandbox) -> int:
    return sum(request.method == "POST" and request.path != "/oauth/token" for request in sandbox.requests)


def lose(sandbox: Sandbox, ceiling: Ceiling, send: Callable[[], Any]) -> None:
    """Post a gift whose answer is lost, and then allow no more of them."""
    ceiling(1)
    sandbox.fault("drop_before", times=1, method="POST", path="/api/v3/sends")
    with pytest.raises((SendOutcomeUnknownError, SendHeldError)):
        send()
    ceiling(0)


RECORDED = [gift, campaign, notify, batch, links]
WAYS = [*RECORDED, raw_gift, raw_campaign, raw_link]


@pytest.mark.parametrize("way", WAYS)
def test_a_ceiling_of_0_sends_nothing_and_a_ceiling_of_1_sends_one_gift(
    sendoso: Sandbox, ceiling: Ceiling, way: Callable[[], Any]
) -> None:
    ceiling(0)
    with pytest.raises(SendosoLimitError) as caught:
        way()
    assert str(caught.value).startswith(
        "It would make 1 send, more than the connection's max_sends_per_batch=0. Nothing was sent by this try."
    )
    assert isinstance(caught.value, AirflowFailException), "Airflow would try it again"
    assert posted(sendoso) == 0
    assert not list(SendosoHook().ledger.sends.records(*State)), "a claim was left"
    ceiling("1")
    way()
    assert posted(sendoso) == 1


@pytest.mark.parametrize("way", RECORDED)
def test_a_send_made_earlier_is_returned_whatever_the_ceiling(
    sendoso: Sandbox, ceiling: Ceiling, way: Callable[[], Any]
) -> None:
    ceiling(None)
    before = way()
    ceiling(0)
    assert way() == before
    assert posted(sendoso) == 1


@pytest.mark.parametrize(
    ("limit", "way"),
    [
        (2, lambda: checked(one_try(3))),
        (2, lambda: checked(one_try(3, touch_id=EGIFT, links_table="links", conn_id="warehouse"))),
        (2, lambda: raw_links(3)),
        (1, lambda: raw_links(2)),
    ],
)
def test_a_batch_above_the_ceiling_sends_nothing(
    sendoso: Sandbox, ceiling: Ceiling, limit: int, way: Callable[[], Any]
) -> None:
    ceiling(limit)
    with pytest.raises(
        SendosoLimitError, match=f"make {limit + 1} sends, more than the connection's max_sends_per_batch={limit}"
    ):
        way()
    assert posted(sendoso) == 0
    ceiling(limit + 1)
    way()
    assert posted(sendoso) > 0


def test_a_task_that_is_cleared_for_somebody_else_counts_what_it_has_sent(sendoso: Sandbox, ceiling: Ceiling) -> None:
    ceiling(1)
    ada, grace = people(2)
    gift(recipient=ada)
    with pytest.raises(SendosoLimitError, match="It would make 2 sends"):
        gift(recipient=grace)
    gift("run-2", recipient=grace)
    assert posted(sendoso) == 2


@pytest.mark.parametrize("held", [lambda: gift(), lambda: checked(one_try(1, gift_id=GIFT["gift_id"]))])
def test_a_held_gift_is_looked_for_and_not_sent_again(
    sendoso: Sandbox, ceiling: Ceiling, an_hour_later: Callable[[], None], held: Callable[[], Any]
) -> None:
    lose(sendoso, ceiling, held)
    with pytest.raises(SendHeldError):
        held()
    an_hour_later()
    for resend in (lambda: gift(on_absent="resend"), lambda: checked(one_try(1, on_absent="resend"))):
        with pytest.raises(SendosoLimitError, match="max_sends_per_batch=0"):
            resend()
    assert posted(sendoso) == 1, "more than the one that was lost on its way"
    ceiling(1)
    with pytest.raises(TaskDeferred):  # until its absence can be proven
        gift(on_absent="resend")


@pytest.mark.parametrize("held", [lambda: gift(), lambda: checked(one_try(1))])
def test_a_held_gift_that_becomes_free_after_the_check_is_not_posted(
    sendoso: Sandbox,
    ceiling: Ceiling,
    monkeypatch: pytest.MonkeyPatch,
    an_hour_later: Callable[[], None],
    held: Callable[[], Any],
) -> None:
    lose(sendoso, ceiling, held)
    an_hour_later()

    def resolved_meanwhile(self: Reconciler, **more: Any) -> dict[str, Any]:
        ledger = SendosoHook().ledger
        for record in ledger.sends.records(State.UNKNOWN, State.HELD):
            ledger.resolutions.resolve(record, State.READY, resolved_by="Ada", why="it is not there")
        return {}

    monkeypatch.setattr(Reconciler, "run", resolved_meanwhile)
    with pytest.raises(SendosoNotReachedError, match=r"not posted|not reached"):
        held()
    assert posted(sendoso) == 1
