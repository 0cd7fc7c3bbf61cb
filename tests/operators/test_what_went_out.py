"""A task that ends says what has gone out: by this try, by earlier ones, and whatever the error was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_sendoso.exceptions import (
    SendosoApiError,
    SendosoAuthError,
    SendosoConfigError,
    SendosoError,
    SendosoLedgerError,
    SendosoNotReachedError,
    SendosoRateLimitError,
)
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator, SendGiftOperator
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sending.reconciling import Reconciler

SENDS = "/api/v3/sends"
TOKEN = "/oauth/token"
Batch = Callable[..., BatchSendOperator]
Gift = Callable[..., SendGiftOperator]
Execute = Callable[..., Any]


def after_two_gifts(sendoso: Sandbox, name: str, times: int = 1, **options: Any) -> None:
    """Let two POSTs through, and then set a fault."""
    sendoso.fault("slow", times=2, method="POST", path=SENDS, delay=0)
    sendoso.fault(name, times=times, method="POST", path=SENDS, **options)


def test_a_client_secret_that_is_changed_in_the_middle_does_not_hide_what_went_out(
    sendoso: Sandbox, ledger: Any, batch: Batch, execute: Execute, people: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    SendosoHook().session.token()
    after_two_gifts(sendoso, "status", status=401)
    sendoso.fault("status", path=TOKEN, status=401, body={"error": "invalid_client"})
    with pytest.raises(SendosoAuthError) as caught:
        execute(batch(recipients=people(5), max_in_flight=1))
    said = str(caught.value)
    assert said.startswith("Sendoso did not grant a token (invalid_client).")
    assert "5 rows: sent 2 (2 posted by this try, 0 by earlier ones)" in said
    assert "not_reached 3" in said
    assert "othing was sent" not in said
    assert len(sendoso.sends) == 2


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"name": "status", "status": 403}, SendosoAuthError),
        ({"name": "status", "status": 404, "body": {"message": "Gift not found"}}, SendosoApiError),
        ({"name": "status", "status": 402, "body": {"message": "No funds"}}, SendosoApiError),
        ({"name": "throttle", "retry_after": 3600}, SendosoRateLimitError),
        ({"name": "drop_before", "times": 50}, SendosoError),
    ],
    ids=lambda given: "-".join(map(str, given.values())) if isinstance(given, dict) else "",
)
def test_every_error_that_stops_a_batch_says_what_had_gone_out(
    sendoso: Sandbox,
    ledger: Any,
    batch: Batch,
    execute: Execute,
    people: Any,
    monkeypatch: pytest.MonkeyPatch,
    fault: Any,
    error: type[SendosoError],
) -> None:
    monkeypatch.setattr("airflow_provider_sendoso.sending.posting._ATTEMPTS", 2)
    after_two_gifts(sendoso, **fault)
    with pytest.raises(error) as caught:
        execute(batch(recipients=people(9), max_in_flight=1))
    assert "9 rows: sent 2 (2 posted by this try, 0 by earlier ones)" in str(caught.value)
    assert "othing was sent" not in str(caught.value)


def test_an_error_before_the_first_send_says_what_earlier_tries_have_sent(
    sendoso: Sandbox, ledger: Any, batch: Batch, execute: Execute, people: Any
) -> None:
    execute(batch(recipients=people(2)))
    with pytest.raises(SendosoConfigError) as caught:
        execute(batch(recipients=people(2), column_map={"first_name": "nickname"}))
    assert "Earlier tries of this task have posted 2 sends, which are not made again." in str(caught.value)
    with pytest.raises(SendosoConfigError) as other:
        execute(batch(recipients=people(2), column_map={"first_name": "nickname"}), "run-2")
    assert "Earlier tries" not in str(other.value)


def test_a_finished_task_that_is_cleared_says_that_it_has_posted_nothing(
    sendoso: Sandbox, ledger: Any, batch: Batch, execute: Execute, people: Any, read_logs: Callable[[], str]
) -> None:
    execute(batch(recipients=people(3)))
    assert "3 rows: sent 3 (3 posted by this try, 0 by earlier ones)" in read_logs()
    assert execute(batch(recipients=people(3)))["sent"] == 3
    assert "3 rows: sent 3 (0 posted by this try, 3 by earlier ones)" in read_logs()
    execute(batch(recipients=people(4)))
    assert "4 rows: sent 4 (1 posted by this try, 3 by earlier ones)" in read_logs()


def test_what_an_earlier_try_has_posted_and_this_one_finds_is_that_tries(
    sendoso: Sandbox, ledger: Any, batch: Batch, execute: Execute, people: Any, read_logs: Callable[[], str]
) -> None:
    sendoso.fault("drop_after", method="POST", path=SENDS)
    sendoso.fault("error_before", times=100, method="GET")
    with pytest.raises(SendosoError):
        execute(batch(recipients=people(1)))
    sendoso.clear_faults()
    read_logs()
    execute(batch(recipients=people(1)))
    assert "1 rows: sent 1 (0 posted by this try, 1 by earlier ones)" in read_logs()


def test_one_gift_whose_task_is_cleared_was_sent_by_an_earlier_try(
    sendoso: Sandbox, ledger: Any, gift: Gift, execute: Execute, read_logs: Callable[[], str]
) -> None:
    sent = execute(gift())
    assert f"Sent: {sent}, in scope thanks." in read_logs()
    assert execute(gift()) == sent
    assert f"Sent earlier: {sent}, in scope thanks." in read_logs()
    assert execute(gift(), "run-2") == sent
    assert f"Already sent: {sent}, in scope thanks." in read_logs()


def test_one_gift_that_was_not_posted_says_so(sendoso: Sandbox, ledger: Any, gift: Gift, execute: Execute) -> None:
    sendoso.fault("status", path=TOKEN, status=401, body={"error": "invalid_client"})
    with pytest.raises(SendosoAuthError, match=r"No gift went out\.$"):
        execute(gift())


def test_one_gift_of_unknown_outcome_is_not_said_to_have_stayed(
    sendoso: Sandbox, ledger: Any, gift: Gift, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Any, **options: Any) -> Any:
        raise SendosoLedgerError("The ledger is away.")

    sendoso.fault("drop_after", method="POST", path=SENDS)
    first = Reconciler.run

    def once(self: Any, **options: Any) -> Any:
        monkeypatch.setattr(Reconciler, "run", fails)
        return first(self, **options)

    monkeypatch.setattr(Reconciler, "run", once)
    with pytest.raises(SendosoLedgerError) as caught:
        execute(gift())
    assert str(caught.value) == (
        "The ledger is away. The gift may have gone out; it is held and not sent again on a guess."
    )


def test_what_had_gone_out_outlives_the_ways_by_which_an_error_travels() -> None:
    import copy
    import pickle

    for error in (SendosoNotReachedError("Two rows."), SendosoApiError(403, "No.", "req-1")):
        error.so_far = "9 rows: sent 2."
        assert str(pickle.loads(pickle.dumps(error))) == str(copy.copy(error)) == str(error)
        assert str(error).endswith(" 9 rows: sent 2.")
