"""A try that names another scope than an earlier try of its task: it would send everybody a second gift."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoLimitError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.sandbox import Sandbox

Execute = Callable[..., Any]
Make = Callable[..., Any]

COMPUTED: dict[str, Callable[[], str]] = {
    "now to the second": lambda: f"campaign-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}",
    "uuid4": lambda: f"campaign-{uuid.uuid4()}",
    "part of uuid4": lambda: uuid.uuid4().hex[:8],
    "epoch": lambda: f"campaign {time.time_ns()}",
}


@pytest.mark.parametrize("scope", COMPUTED.values(), ids=COMPUTED)
def test_a_retry_whose_dag_file_computes_another_scope_sends_nobody_a_second_gift(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, scope: Callable[[], str]
) -> None:
    first = scope()
    execute(batch(dedupe_scope=first))
    with pytest.raises(SendosoConfigError, match=r"has 3 sends in the scope .* Nothing was sent by this try") as error:
        execute(batch(dedupe_scope=scope()))
    assert f"set dedupe_scope to {first!r} and clear the task" in str(error.value)
    assert len(sendoso.sends) == 3
    assert execute(batch(dedupe_scope=first))["sent"] == 3  # what the error says to do
    assert len(sendoso.sends) == 3


def test_the_dry_run_says_so_too(sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute) -> None:
    execute(batch(dedupe_scope="one"))
    with pytest.raises(SendosoConfigError, match="An earlier try of this task has 3 sends in the scope 'one'"):
        execute(batch(dedupe_scope="two", dry_run=True))


def test_a_single_gift_in_another_scope_is_not_sent(
    sendoso: Sandbox, ledger: Any, gift: Make, execute: Execute
) -> None:
    execute(gift(dedupe_scope="one"))
    with pytest.raises(SendosoConfigError, match="An earlier try of this task has 1 sends in the scope 'one'"):
        execute(gift(dedupe_scope="two"))
    assert len(sendoso.sends) == 1
    assert SendosoHook().ledger.sends.scopes(SendosoHook().config.account) == ["one"]


def test_a_try_that_has_sent_nothing_binds_no_later_one(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute
) -> None:
    with pytest.raises(SendosoLimitError):
        execute(batch(dedupe_scope="mistyped", max_sends=1))
    assert execute(batch(dedupe_scope="right"))["sent"] == 3


def test_another_run_may_use_another_scope(sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute) -> None:
    execute(batch(dedupe_scope="one"), "run-1")
    assert execute(batch(dedupe_scope="two"), "run-2")["sent"] == 3
    assert len(sendoso.sends) == 6


@pytest.mark.parametrize("dry_run", [False, True], ids=["run", "dry run"])
def test_another_gift_in_a_scope_is_said_and_sent_to_nobody(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, read_logs: Callable[[], str], dry_run: bool
) -> None:
    execute(batch(), "run-1")
    read_logs()
    assert execute(batch(gift_id="gift-egift-books", dry_run=dry_run), "run-2")["already_sent"] == 3
    log = read_logs()
    assert "Sent another gift in this scope before, and not sent this one:" in log
    assert "3  the gift gift-donation-trees" in log
    assert "1. For another gift to the 3 recipients" in log
    assert len(sendoso.sends) == 3
