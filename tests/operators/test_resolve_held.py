"""ResolveHeldOperator: a person's decision, filled into a form."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException
from sqlalchemy import update

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.schema import sends
from airflow_provider_sendoso.operators.ledger import ResolveHeldOperator

ADA, BOB = "ada@example.com", "bob@example.com"


@pytest.fixture
def execute(ti):
    """Runs the operator, with as much of a context as it uses; a failed one's XCom is in ``pushed``."""

    def run(pushed: dict[str, Any] | None = None, user: str | None = "grace", **arguments: Any) -> dict[str, Any]:
        instance = ti("run-1")
        if pushed is not None:
            instance.xcom = pushed
        run = SimpleNamespace(dag_id="desk", run_id="run-1", triggering_user_name=user)
        operator = ResolveHeldOperator(task_id="resolve", **{"resolution": "sent", "why": "looked"} | arguments)
        return operator.execute({"ti": instance, "dag_run": run})

    return run


def states(*keys: str) -> list[str]:
    return [SendosoHook().ledger.sends.read([key])[key].state.value for key in keys]


def history(key: str) -> list[Any]:
    return SendosoHook().ledger.resolutions.history(key)


@pytest.mark.parametrize(
    "spell",
    [
        list,
        tuple,
        ", ".join,
        "\n".join,
        str,
        json.dumps,
        lambda keys: [*keys, "", "None"],
        lambda keys: [key[:8] for key in keys],
    ],
    ids=["list", "tuple", "commas", "lines", "rendered", "json", "blanks", "prefixes"],
)
def test_send_keys_are_read_from_a_list_and_from_text_of_every_form(make_open, execute, spell):
    keys = make_open(ADA, BOB)
    assert execute(send_keys=spell(keys), batch_id="", dedupe_scope="None", reason=" ") == {
        "resolution": "sent",
        "resolved": 2,
        "skipped": 0,
        "changed": 0,
        "in_flight": 0,
    }
    assert states(*keys) == ["SENT", "SENT"]


@pytest.mark.parametrize("which", [{"batch_id": "batch-1"}, {"dedupe_scope": "q4"}])
def test_a_batch_or_a_scope_is_resolved_in_bulk(make_open, execute, which):
    keys = make_open(ADA) + make_open(BOB, reason="read_timeout") + make_open(ADA, scope="q5", batch_id="batch-2")
    assert execute(resolution="not_sent", reason="http_500", **which)["resolved"] == 1
    assert states(*keys) == ["READY", "UNKNOWN", "UNKNOWN"]


def test_a_send_is_resolved_with_its_id_once_sendoso_knows_the_id(make_open, execute):
    (key,) = make_open(ADA)
    recipient = {"first_name": "Ada", "last_name": "L", "email": ADA}
    found = SendosoHook().send_gift(gift_id="gift-donation-trees", recipient=recipient, message="Thank you")
    with pytest.raises(SendosoConfigError, match=r"does not know the send id '48151623'.*Nothing was changed"):
        execute(send_keys=[key], send_id=48151623)
    execute(send_keys=[key], send_id=found.id)
    assert SendosoHook().recorded_send_ids(batch_id="batch-1") == [found.id]


def test_refused_sends_are_reopened_when_their_state_is_given(make_open, execute):
    keys = make_open(ADA, BOB)
    refused = update(sends).where(sends.c.send_key == keys[0]).values(state="REFUSED")
    SendosoHook().ledger._database.run(lambda connection: connection.execute(refused))
    assert execute(batch_id="batch-1", state=" Refused ", resolution="not_sent")["resolved"] == 1
    assert states(*keys) == ["READY", "UNKNOWN"]


@pytest.mark.parametrize(
    ("given", "user", "recorded"),
    [
        (None, "grace", "grace"),
        (None, None, "desk/run-1"),
        ("None", None, "desk/run-1"),
        ("support desk", "grace", "support desk"),
    ],
)
def test_the_decision_records_resolved_by_or_the_user_or_the_run(make_open, execute, given, user, recorded):
    (key,) = make_open(ADA)
    execute(send_keys=[key], resolved_by=given, user=user)
    assert [written.resolved_by for written in history(key)] == [recorded]


def test_without_a_user_of_airflow_the_decision_records_the_run(make_open, ti):
    (key,) = make_open(ADA)
    operator = ResolveHeldOperator(task_id="resolve", send_keys=[key], resolution="sent", why="looked")
    operator.execute({"ti": ti("run-1"), "dag_run": SimpleNamespace(dag_id="desk", run_id="run-1")})
    assert [written.resolved_by for written in history(key)] == ["desk/run-1"]


def test_sends_that_may_still_be_posted_fail_the_task_with_a_retryable_error(make_open, execute):
    keys = make_open(ADA) + make_open(BOB, lapsed=False)
    pushed: dict[str, Any] = {}
    with pytest.raises(SendosoError, match="may still be posting them: 1 send") as caught:
        execute(pushed, batch_id="batch-1", resolution="not_sent")
    assert not isinstance(caught.value, AirflowFailException)
    assert pushed["return_value"] == {
        "resolution": "not_sent",
        "resolved": 1,
        "skipped": 1,
        "changed": 0,
        "in_flight": 1,
    }
    assert states(*keys) == ["READY", "UNKNOWN"]


def test_sends_that_are_not_open_are_counted(make_open, execute):
    keys = make_open(ADA, BOB)
    execute(send_keys=keys[:1])
    counts = execute(send_keys=keys, resolution="not_sent")
    assert (counts["resolved"], counts["changed"]) == (1, 1)
    with pytest.raises(SendosoConfigError, match=r"Resolved as sent: 0 sends\. Skipped, not open"):
        execute(send_keys=keys[:1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "exactly one of these"),
        ({"send_keys": "None", "batch_id": "None", "dedupe_scope": "None"}, "exactly one of these"),
        ({"send_keys": [], "batch_id": ""}, "exactly one of these"),
        ({"dedupe_scope": "q4", "batch_id": "batch-1"}, "exactly one of these"),
        ({"send_keys": "KEY", "reason": "http_500"}, "reason narrows"),
        ({"send_keys": 7}, "must be a list, or text"),
        ({"send_keys": [ADA]}, "64 hexadecimal digits"),
        ({"send_keys": "KEY", "resolution": "lost"}, "'lost'; use 'sent' or 'not_sent'"),
        ({"send_keys": "KEY", "resolution": "None"}, "use 'sent' or 'not_sent'"),
        ({"batch_id": "batch-1", "state": "lost"}, "state takes one or more of ready"),
        ({"send_keys": "KEY", "why": "None"}, "recorded with its reason"),
        ({"send_keys": "KEY", "resolution": "not_sent", "send_id": "1"}, "has no send id"),
        ({"batch_id": "batch-1", "send_id": "1"}, "one gift's, and 2 sends are meant"),
        ({"batch_id": "batch-9"}, "knows no batch_id=batch-9"),
        ({"batch_id": "batch-1", "reason": "other"}, "there is nothing to decide"),
    ],
)
def test_wrong_arguments_change_nothing(make_open, execute, arguments, words):
    keys = make_open(ADA, BOB)
    given = {name: keys[0] if value == "KEY" else value for name, value in arguments.items()}
    with pytest.raises(SendosoConfigError, match=words) as caught:
        execute(**given)
    assert "example.com" not in str(caught.value)
    assert "Nothing was changed." in str(caught.value)
    assert states(*keys) == ["UNKNOWN", "UNKNOWN"]


def test_the_log_has_no_personal_data(make_open, execute, read_logs):
    keys = make_open(ADA)
    execute(send_keys=keys)
    logs = read_logs()
    assert "Resolved as sent: 1 send." in logs
    assert "example.com" not in logs


def test_every_argument_is_a_template():
    fields = ResolveHeldOperator.template_fields
    with DAG("desk", schedule=None):
        operator = ResolveHeldOperator(task_id="resolve", **dict.fromkeys(fields, "{{ params.x }}"))
    operator.render_template_fields({"params": {"x": "rendered"}})
    assert [getattr(operator, name) for name in fields] == ["rendered"] * len(fields)
