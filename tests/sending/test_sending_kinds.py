"""A send whose kind only a newer release knows is held: neither claimed nor posted nor proven absent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update
from trying import SENDS, FakeTI, Try, batch, posts

from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import State
from airflow_provider_sendoso.ledger.schema import sends
from airflow_provider_sendoso.models import Kind
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sending.kinds import KINDS

NEWER = "bouquet"
"""A kind of send that does not exist yet."""
RESEND: dict[str, Any] = {"run_id": "run-2", "on_absent": "resend", "settle_time": 0, "on_held": "continue"}


@pytest.fixture
def rewrite(ledger: Any) -> Callable[..., None]:
    """Makes every send of the ledger what another release has left behind, long ago."""

    def write(**values: Any) -> None:
        earlier: dict[str, Any] = {name: sends.c[name] - 3600 for name in ("lease_until", "posted_at")}
        statement = update(sends).values(**earlier, posted_mark=":0.0:0.0", **values)
        SendosoHook().ledger._database.run(lambda connection: connection.execute(statement))

    return write


def test_every_kind_has_an_entry_in_the_registry() -> None:
    assert set(KINDS) == set(Kind)
    assert {kind.model.kind: kind for kind in KINDS.values()} == KINDS


@pytest.mark.parametrize("state", [state for state in State if state is not State.SENT])
@pytest.mark.parametrize("in_list", [True, False], ids=["listed", "not listed"])
def test_a_send_of_a_newer_kind_is_held_in_whatever_state(
    sendoso: Sandbox, send: Callable[..., Try], rewrite: Callable[..., None], state: State, in_list: bool
) -> None:
    assert send(2) == Try("", {"sent": 2})
    rewrite(state=state, kind=NEWER, payload_hash="another")
    if not in_list:
        sendoso.fault("status", times=20, method="GET", path=SENDS, status=200, body={"sends": []})
    assert send(2, **RESEND) == Try("", {"held": 2})
    assert send(2, **RESEND, method="execute_after_settling") == Try("", {"held": 2})
    assert posts(sendoso) == 2
    left = {record.state for record in SendosoHook().ledger.sends.records(*State)}
    assert left == {State.HELD if state in (State.POSTING, State.UNKNOWN, State.HELD) else state}


def test_a_send_of_a_newer_kind_that_went_out_is_already_sent(
    sendoso: Sandbox, send: Callable[..., Try], rewrite: Callable[..., None]
) -> None:
    assert send(2) == Try("", {"sent": 2})
    rewrite(kind=NEWER)
    assert send(2, run_id="run-2") == Try("", {"already_sent": 2})


def test_a_dry_run_counts_a_send_of_a_newer_kind_as_held(
    sendoso: Sandbox, send: Callable[..., Try], rewrite: Callable[..., None]
) -> None:
    assert send(2) == Try("", {"sent": 2})
    rewrite(state=State.READY, kind=NEWER)
    summary = batch(3, dry_run=True).execute({"ti": FakeTI("run-2")})
    assert (summary["held"], summary["would_send"]) == (2, 1)


def test_a_row_without_a_kind_is_read_as_older_releases_wrote_it(
    sendoso: Sandbox, send: Callable[..., Try], rewrite: Callable[..., None]
) -> None:
    assert send(2) == Try("", {"sent": 2})
    rewrite(kind=None, state=State.UNKNOWN, send_id=None)
    assert send(2, **RESEND) == Try("", {"already_sent": 2})
    assert posts(sendoso) == 2


@pytest.mark.parametrize(
    ("word", "of_campaign", "kind"),
    [
        (None, False, Kind.GIFT),
        (None, True, Kind.CAMPAIGN),
        ("gift", False, Kind.GIFT),
        ("campaign", True, Kind.CAMPAIGN),
        ("link", True, Kind.LINK),
        ("", False, None),
        ("LINK", True, None),
        (NEWER, False, None),
        (NEWER, True, None),
    ],
)
def test_a_stored_word_is_read_as_its_kind_or_as_unknown(
    word: str | None, of_campaign: bool, kind: Kind | None
) -> None:
    assert Kind.stored(word, of_campaign=of_campaign) is kind
