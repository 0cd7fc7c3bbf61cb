"""SendGiftOperator: one gift to one recipient, once within its scope."""

from __future__ import annotations

import copy
import json
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException
from airflow.serialization import serialized_objects

from airflow_provider_sendoso.cli.commands import main
from airflow_provider_sendoso.exceptions import (
    SendHeldError,
    SendosoAuthError,
    SendosoConfigError,
    SendosoConnectionError,
    SendosoError,
    SendosoNotFoundError,
    SendosoRowsError,
    SendosoUnprocessableError,
    SendOutcomeUnknownError,
)
from airflow_provider_sendoso.ledger.sends import SendLedger
from airflow_provider_sendoso.operators.sendoso import SendGiftOperator
from airflow_provider_sendoso.sandbox import Sandbox

SENDS = "/api/v3/sends"
Make = Callable[..., SendGiftOperator]
Execute = Callable[..., Any]


def test_the_operator_returns_the_id_of_the_send(sendoso: Sandbox, ledger: Any, gift: Make, execute: Execute) -> None:
    send_id = execute(
        gift(
            metadata={"contact_id": "42"},
            variant_id="mug-black",
            team_id=7,
            gift_id="gift-mug",
            recipient={
                "first_name": "Ada",
                "last_name": "Lovelace",
                "email": "ada@example.com",
                "company": None,
                "title": " ",
                "address": {
                    "line1": "12 St James's Square",
                    "city": "London",
                    "postal_code": "SW1Y 4JH",
                    "country": "GB",
                },
            },
        )
    )
    (send,) = sendoso.sends
    assert send_id == send.id
    assert isinstance(send_id, str)
    assert send.body["metadata"].pop("airflow_key")
    assert send.body == {
        "gift_id": "gift-mug",
        "variant_id": "mug-black",
        "team_id": "7",
        "first_name": "Ada",
        "last_name": "Lovelace",
        "email": "ada@example.com",
        "message": "Thank you",
        "address": {"line1": "12 St James's Square", "city": "London", "postal_code": "SW1Y 4JH", "country": "GB"},
        "metadata": {"contact_id": "42"},
    }


def test_a_second_execution_returns_the_recorded_id_and_posts_nothing(
    sendoso: Sandbox, ledger: Any, gift: Make, execute: Execute, people: Any
) -> None:
    first = execute(gift())
    requests = len(sendoso.requests)
    assert execute(gift()) == first
    changed = people(1)[0] | {"email": " ADA1@EXAMPLE.com", "title": "Countess"}
    assert execute(gift(recipient=changed, message="Another message"), "run-2") == first
    assert len(sendoso.requests) == requests
    assert len(sendoso.sends) == 1


def test_another_gift_in_the_same_scope_is_an_error(
    sendoso: Sandbox, ledger: Any, gift: Make, execute: Execute
) -> None:
    first = execute(gift())
    with pytest.raises(
        SendosoConfigError, match=f"already sent the gift gift-donation-trees.*{first}.*not the gift gift-donation-m"
    ):
        execute(gift(gift_id="gift-donation-meals"))
    assert execute(gift(gift_id="gift-donation-meals", dedupe_scope="another"), "run-2") != first
    assert len(sendoso.sends) == 2


def test_a_batch_and_a_single_gift_in_one_scope_send_a_recipient_one_gift(
    sendoso: Sandbox, ledger: Any, gift: Make, batch: Any, execute: Execute
) -> None:
    execute(batch(dedupe_scope="thanks"))
    assert execute(gift()) == sendoso.sends[0].id
    assert len(sendoso.sends) == 3


def test_the_default_scope_is_the_task_in_its_run(sendoso: Sandbox, ledger: Any, people: Any, execute: Execute) -> None:
    with DAG("campaign", schedule=None):
        operator = SendGiftOperator(
            task_id="thank", gift_id="gift-donation-trees", recipient=people(1)[0], message="Thank you"
        )
    for run_id in ("run-1", "run-1", "run-2"):
        fresh = copy.deepcopy(operator)
        fresh.render_template_fields({"dag": operator.dag, "task": fresh, "run_id": run_id})
        assert fresh.dedupe_scope == f"campaign/thank/{run_id}"
        execute(fresh, run_id)
    assert len(sendoso.sends) == 2


def test_a_refusal_says_why_and_is_not_posted_again_with_the_same_content(
    sendoso: Sandbox, ledger: Any, gift: Make, execute: Execute
) -> None:
    body = {"success": False, "message": "Ada1 is not eligible"}
    sendoso.fault("status", method="POST", path=SENDS, status=422, body=body)
    with pytest.raises(SendosoUnprocessableError, match='POST /api/v3/sends answered 422: "<first_name> is not elig'):
        execute(gift())
    with pytest.raises(SendosoRowsError, match=r"refused this send before \(http_422\).*No gift went out"):
        execute(gift())
    assert sendoso.sends == []
    assert execute(gift(message="Thank you so much")) == sendoso.sends[0].id


@pytest.mark.parametrize(
    ("status", "error"), [(401, SendosoAuthError), (403, SendosoAuthError), (404, SendosoNotFoundError)]
)
def test_an_error_that_is_not_the_recipients_fault_can_be_retried(
    sendoso: Sandbox, ledger: Any, gift: Make, execute: Execute, status: int, error: type[Exception]
) -> None:
    sendoso.fault("status", times=2, method="POST", path=SENDS, status=status)
    with pytest.raises(error, match=f"answered {status}"):
        execute(gift())
    sendoso.clear_faults()
    assert execute(gift()) == sendoso.sends[0].id


@pytest.mark.parametrize("fault", ["drop_after", "error_after", "garbage", "truncate"])
def test_a_send_of_unknown_outcome_that_went_out_is_found_by_its_mark(
    sendoso: Sandbox, ledger: Any, gift: Make, execute: Execute, fault: str
) -> None:
    sendoso.fault(fault, method="POST", path=SENDS)
    assert execute(gift()) == sendoso.sends[0].id
    assert execute(gift(message="Another message"), "run-2") == sendoso.sends[0].id
    assert len(sendoso.sends) == 1


@pytest.mark.parametrize("fault", ["drop_before", "error_before"])
def test_an_unknown_outcome_fails_without_retries_and_later_tries_find_the_send_held(
    sendoso: Sandbox, ledger: Any, gift: Make, execute: Execute, fault: str
) -> None:
    sendoso.fault(fault, method="POST", path=SENDS)
    with pytest.raises(SendOutcomeUnknownError, match=r"no known outcome.*may have gone out") as caught:
        execute(gift())
    assert isinstance(caught.value, AirflowFailException)
    assert "ada1" not in str(caught.value).casefold()
    for run_id in ("run-1", "run-2"):
        with pytest.raises(SendHeldError, match=r"no known outcome.*look for the recipient in Sendoso"):
            execute(gift(message="Another message"), run_id)
    assert len(sendoso.sends) == 0


@pytest.mark.parametrize("conn_id", ["sendoso_default", "emea"])
def test_the_error_of_a_held_gift_has_the_command_that_decides_about_it(
    sendoso: Sandbox, ledger: Any, gift: Make, execute: Execute, set_connection: Callable[..., None], conn_id: str
) -> None:
    login = {"conn_type": "sendoso", "host": sendoso.url, "login": "sandbox", "password": "sandbox"}
    set_connection("emea", login | {"extra": {"account": "EMEA", "requests_per_second": 500}})
    sendoso.fault("error_before", method="POST", path=SENDS)
    with pytest.raises(SendOutcomeUnknownError) as caught:
        execute(gift(sendoso_conn_id=conn_id))
    (command,) = re.findall(r"`airflow sendoso (ledger resolve .*?)`", str(caught.value))
    main([word.replace("…", "the recipient has it") for word in shlex.split(command)])
    assert execute(gift(sendoso_conn_id=conn_id), "run-2") is None
    assert sendoso.sends == []


def test_the_log_of_one_gift_says_what_its_scope_means(
    sendoso: Sandbox, ledger: Any, gift: Make, execute: Execute, read_logs: Callable[[], str]
) -> None:
    execute(gift())
    assert "Scope 'thanks': one gift per person, once and for all." in read_logs()


def test_while_sendoso_is_down_the_task_fails_with_a_retryable_error(
    sendoso: Sandbox, ledger: Any, gift: Make, execute: Execute
) -> None:
    sendoso.stop()
    with pytest.raises(SendosoConnectionError) as caught:
        execute(gift())
    assert not isinstance(caught.value, AirflowFailException)
    sendoso.start()
    assert execute(gift()) == sendoso.sends[0].id


def test_a_send_claimed_by_another_run_is_not_posted(
    sendoso: Sandbox, ledger: Any, gift: Make, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(SendLedger, "release", lambda *args: None)  # a run that was killed
        patch.setattr(SendLedger, "begin_post", lambda *args: False)
        with pytest.raises(SendosoError):
            execute(gift(claim_timeout=0))
    with pytest.raises(SendosoError, match=r"not posted \(another_run\); no gift went out. Retry"):
        execute(gift(claim_timeout=0), "run-2")
    assert sendoso.sends == []


def test_a_task_that_is_killed_before_it_starts_posts_nothing(
    sendoso: Sandbox, ledger: Any, gift: Make, execute: Execute
) -> None:
    operator = gift()
    operator.on_kill()
    with pytest.raises(SendosoError, match=r"not posted \(told to stop: its process or its worker got SIGTERM"):
        execute(operator)
    assert sendoso.sends == []


WRONG = [
    ({"gift_id": None}, "gift_id is missing"),
    ({"gift_id": ""}, "gift_id is missing"),
    ({"message": " "}, "message is missing"),
    ({"recipient": {}}, "first_name is missing; last_name is missing; email is missing"),
    ({"recipient": {"first_name": "A", "last_name": "L", "email": "Ada-at-home"}}, "email is not an e-mail address"),
    ({"recipient": {"first_name": "A", "last_name": "L", "email": "a@x.org", "phone": "0958"}}, "phone is not a field"),
    ({"recipient": "Ada-at-home"}, "recipient has a value of a wrong type"),
    ({"touch_id": 5}, "gift_id: not with touch_id"),
    ({"dedupe_scope": "None"}, "dedupe_scope is empty"),
    ({"dedupe_scope": "x" * 501}, "longer than 500"),
    ({"lease": 1}, "lease is 1 s"),
]


@pytest.mark.parametrize(("changes", "words"), WRONG)
def test_a_missing_or_wrong_argument_is_named_without_its_value(
    sendoso: Sandbox, ledger: Any, gift: Make, execute: Execute, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(SendosoConfigError, match=words) as caught:
        execute(gift(**changes))
    assert "Ada-at-home" not in str(caught.value)
    assert "0958" not in str(caught.value)
    assert sendoso.requests == []


def test_without_a_ledger_nothing_is_sent(sendoso: Sandbox, gift: Make, execute: Execute) -> None:
    with pytest.raises(SendosoConfigError, match="AIRFLOW_CONN_SENDOSO_LEDGER='sqlite:////"):
        execute(gift())
    assert sendoso.requests == []


def test_logs_name_the_send_and_not_the_recipient(
    sendoso: Sandbox, ledger: Any, gift: Make, execute: Execute, read_logs: Callable[[], str]
) -> None:
    send_id = execute(gift())
    logs = read_logs()
    assert f"Sent: {send_id}, in scope thanks" in logs
    assert "ada1" not in logs.casefold()
    assert "Lovelace" not in logs


def test_the_operator_can_be_copied_serialised_and_mapped(gift: Make, people: Any) -> None:
    assert copy.deepcopy(gift()).recipient == people(1)[0]
    with DAG("campaign", schedule=None) as dag:
        gift()
        SendGiftOperator.partial(task_id="all", gift_id="gift-mug", message="Hi").expand(recipient=people(3))
    serialise = getattr(serialized_objects, "DagSerialization", serialized_objects.SerializedDAG)
    data = serialise.to_dict(dag)
    json.dumps(data)
    assert sorted(task.task_id for task in serialise.from_dict(data).tasks) == ["all", "thank"]
