"""BatchSendOperator: its arguments, its result, its failures, and the personal data that it never shows."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowException,
    AirflowFailException,
    AirflowTaskTimeout,
    TriggerRule,
)
from airflow.serialization import serialized_objects

from airflow_provider_sendoso.exceptions import (
    SendHeldError,
    SendosoConfigError,
    SendosoError,
    SendosoNotFoundError,
    SendosoRowsError,
)
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.sends import SendLedger
from airflow_provider_sendoso.models import RowOutcome
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.sandbox import Sandbox

SENDS = "/api/v3/sends"
Make = Callable[..., BatchSendOperator]
Execute = Callable[..., Any]


def counts(summary: dict[str, Any]) -> dict[str, int]:
    assert sum(summary[outcome] for outcome in RowOutcome) == summary["rows"]
    return {outcome.value: summary[outcome] for outcome in RowOutcome if summary[outcome]}


# -- sending, and the result ------------------------------------------------------------------------------------------


def test_a_batch_sends_each_recipient_one_gift_and_returns_a_summary(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute
) -> None:
    summary = execute(batch())
    assert counts(summary) == {"sent": 3}
    assert json.loads(json.dumps(summary)) == summary
    assert set(summary) == {
        *("batch_id", "dedupe_scope", "rows", "estimated_cost", "currency", "fingerprint"),
        *(outcome.value for outcome in RowOutcome),
    }
    assert summary["dedupe_scope"] == "q4"
    assert sorted(send.body["email"] for send in sendoso.sends) == [f"ada{n}@example.com" for n in (1, 2, 3)]
    assert sendoso.sends[0].body | {"metadata": None} == {
        "gift_id": "gift-donation-trees",
        "first_name": "Ada1",
        "last_name": "Lovelace1",
        "email": "ada1@example.com",
        "message": "Thank you",
        "metadata": None,
    }


def test_a_second_try_counts_sends_of_the_first_as_sent_and_another_run_as_already_sent(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any
) -> None:
    first, again = execute(batch()), execute(batch())
    assert first == again
    other = execute(batch(recipients=people(4)), "run-2")
    assert counts(other) == {"already_sent": 3, "sent": 1}
    assert other["batch_id"] != first["batch_id"]
    assert len(sendoso.sends) == 4


def test_another_scope_is_another_gift(sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute) -> None:
    execute(batch())
    assert counts(execute(batch(dedupe_scope="q1"), "run-2")) == {"sent": 3}
    assert len(sendoso.sends) == 6


def test_mapped_tasks_are_batches_of_their_own(sendoso: Sandbox, ledger: Any, batch: Make, ti: Any) -> None:
    ids = [batch(recipients=[]).execute({"ti": ti("run-1", index)})["batch_id"] for index in (-1, None, 0, 1)]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_a_key_that_is_repeated_in_the_input_is_sent_once(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any
) -> None:
    rows = [*people(2), people(1)[0] | {"email": " ADA1@Example.COM ", "last_name": "King"}]
    assert counts(execute(batch(recipients=rows))) == {"sent": 2, "duplicate": 1}
    assert sorted(send.body["last_name"] for send in sendoso.sends) == ["Lovelace1", "Lovelace2"]


def test_recipients_may_nest_address_and_metadata(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any
) -> None:
    address = {"line1": "12 St James's Square", "city": "London", "postal_code": "SW1Y 4JH", "country": "GB"}
    row = people(1)[0] | {"address": address, "metadata": {"contact_id": 42}}
    execute(batch(recipients=[row], gift_id="gift-mug", metadata={"campaign": "q4"}))
    body = sendoso.sends[0].body
    assert body["address"] == address
    assert body["metadata"].pop("airflow_key")
    assert body["metadata"] == {"contact_id": 42, "campaign": "q4"}


def test_the_message_is_filled_in_from_the_row_and_an_empty_column_makes_it_invalid(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any, read_logs: Callable[[], str]
) -> None:
    rows = [row | {"team": team} for row, team in zip(people(2), ("Analysis", " "), strict=True)]
    summary = execute(batch(recipients=rows, message="Thank you, {first_name} of {Team}. {{braces}}"))
    assert counts(summary) == {"sent": 1, "invalid": 1}
    assert sendoso.sends[0].body["message"] == "Thank you, Ada1 of Analysis. {braces}"
    assert "Invalid row 2: Team, named in the message, is missing" in read_logs()


def test_the_recipient_key_may_be_any_column_and_the_row_ref_names_a_row_in_the_log(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any, read_logs: Callable[[], str]
) -> None:
    rows = [row | {"customer_id": number} for row, number in zip(people(3), (7, 7.0, None), strict=True)]
    operator = batch(recipients=rows, recipient_key="customer_id", row_ref="last_name")
    assert counts(execute(operator)) == {"sent": 1, "duplicate": 1, "invalid": 1}
    assert "Invalid row 3 (Lovelace3): the recipient key (customer_id) is missing" in read_logs()


@pytest.mark.parametrize("rows", [[], None], ids=["list", "query"])
def test_a_batch_without_rows_succeeds(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, set_connection: Any, tmp_path: Path, rows: Any
) -> None:
    set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})
    sql = "SELECT 1 AS email, 2 AS first_name, 3 AS last_name WHERE 0"
    source = {"recipients": rows} if rows is not None else {"sql": sql, "conn_id": "warehouse"}
    summary = execute(batch(**source))
    assert summary["rows"] == 0
    assert counts(summary) == {}
    assert sendoso.requests == []


# -- arguments that are refused, with nothing sent ---------------------------------------------------------------------

REFUSED_ARGUMENTS = [
    ({"touch_id": 123}, "gift_id: not with touch_id"),
    ({"dry_run": "perhaps"}, "dry_run is 'perhaps', neither true nor false"),
    ({"results_table": "results"}, "results_table needs conn_id"),
    ({"on_absent": "ignore"}, "on_absent is 'ignore'; use one of 'hold', 'resend'"),
    ({"max_in_flight": 0}, "max_in_flight is 0; use a number from 1 to 16"),
    ({"max_in_flight": "17"}, "max_in_flight is '17'; use a number from 1 to 16"),
    ({"max_in_flight": True}, "max_in_flight is True; use a number from 1 to 16"),
    ({"settle_time": "soon"}, "settle_time must be a timedelta or a number"),
    ({"touch_id": 1, "recipients": None}, "gift_id: not with touch_id"),
    ({"lease": 5}, "lease is 5 s; give it at least 10 s"),
    ({"lease": -1}, "lease must be"),
    ({"on_invalid": "ignore"}, "on_invalid is 'ignore'; use one of 'skip', 'fail'"),
    ({"on_held": "resend"}, "on_held is 'resend'; use one of 'fail', 'continue'"),
    ({"max_invalid": -1}, "max_invalid is -1; use a count like 10 or a share like 0.1"),
    ({"max_invalid": 1.5}, "max_invalid is 1.5"),
    ({"max_invalid": "a few"}, "max_invalid is 'a few'"),
    ({"dedupe_scope": ""}, "dedupe_scope is empty"),
    ({"dedupe_scope": "  "}, "dedupe_scope is empty"),
    ({"dedupe_scope": "None"}, "dedupe_scope is empty"),
    ({"dedupe_scope": None}, "dedupe_scope is empty"),
    ({"dedupe_scope": "x" * 501}, "dedupe_scope is longer than 500"),
    ({"sql": "SELECT 1", "recipients": []}, "either sql and conn_id, or recipients"),
    ({"recipients": None}, "either sql and conn_id, or recipients"),
    ({"sql": "SELECT 1"}, "sql needs conn_id"),
    ({"recipients": "{{ a template without a value }}"}, "recipients is text of 32 characters that looks like a dict"),
    ({"recipients": [1]}, "recipients must be a list of dicts, but number 1 is a int"),
    ({"gift_id": None}, "No column for gift_id. Columns of the result: first_name, last_name, email"),
    ({"message": None}, "No column for message"),
    ({"message": "Dear {nickname}"}, "message names the column 'nickname', which the result does not have"),
    ({"message": "Dear {first_name!r}"}, "only {column} is filled in"),
    ({"message": "Dear {first_name"}, "unbalanced brace"),
    ({"recipient_key": "customer_id"}, "recipient_key names the column 'customer_id'"),
    ({"row_ref": "customer_id"}, "row_ref names the column 'customer_id'"),
    ({"column_map": {"first_name": "given_name"}}, r"column_map\['first_name'\] names the column 'given_name'"),
    ({"column_map": {"forename": "first_name"}}, "column_map names fields that no send has: forename"),
    ({"metadata": {"airflow_key": "mine"}}, "metadata may not hold 'airflow_key'"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED_ARGUMENTS, ids=[str(case[0])[:50] for case in REFUSED_ARGUMENTS])
def test_wrong_arguments_are_refused_with_a_clear_error_and_nothing_sent(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(SendosoConfigError, match=words.replace("{", r"\{")) as caught:
        execute(batch(**changes))
    assert isinstance(caught.value, AirflowFailException)
    assert sendoso.requests == []


def test_without_a_ledger_nothing_is_sent_and_the_error_has_the_line_to_set(
    sendoso: Sandbox, batch: Make, execute: Execute
) -> None:
    with pytest.raises(SendosoConfigError) as caught:
        execute(batch())
    assert "AIRFLOW_CONN_SENDOSO_LEDGER='sqlite:////var/lib/airflow/sendoso_ledger.db'" in str(caught.value)
    assert "AIRFLOW_CONN_SENDOSO_LEDGER='postgres://" in str(caught.value)
    assert "Nothing was sent" in str(caught.value)
    assert sendoso.requests == []


def test_a_scope_with_another_recipient_key_is_refused(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute
) -> None:
    execute(batch())
    with pytest.raises(SendosoConfigError, match="'q4' identifies recipients by 'email', this task by 'last_name'"):
        execute(batch(recipient_key="last_name"), "run-2")
    assert len(sendoso.sends) == 3


def test_a_connection_that_does_not_exist_or_runs_no_sql_is_refused(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute
) -> None:
    with pytest.raises(SendosoConfigError, match="The connection 'nowhere' does not exist"):
        execute(batch(sql="SELECT 1", conn_id="nowhere"))
    with pytest.raises(SendosoConfigError, match="The connection 'nobody' does not exist"):
        execute(batch(sendoso_conn_id="nobody"))
    with pytest.raises(SendosoConfigError, match="'sendoso_default' has a SendosoHook, which does not run SQL"):
        execute(batch(sql="SELECT 1", conn_id="sendoso_default"))
    assert sendoso.requests == []


# -- when it fails -----------------------------------------------------------------------------------------------------


def test_invalid_rows_are_skipped_counted_and_named_without_their_values(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any, read_logs: Callable[[], str]
) -> None:
    rows = people(5)
    rows[1]["email"] = "not an e-mail"
    rows[2]["first_name"] = None
    rows[3]["email"] = ""
    assert counts(execute(batch(recipients=rows))) == {"sent": 2, "invalid": 3}
    logs = read_logs()
    assert "Invalid row 2: email is not an e-mail address" in logs
    assert "Invalid row 3: first_name is missing" in logs
    assert "Invalid row 4: the recipient key (email) is missing" in logs
    assert "not an e-mail " not in logs.replace("not an e-mail address", "")


MAX_INVALID = [
    # of five rows two are invalid
    (None, True),
    (2, True),
    (1, False),
    (0, False),
    ("2", True),
    ("1", False),
    (0.4, True),
    (0.39, False),
    ("0.4", True),
    ("0.3", False),
    (1.0, True),
    (0.0, False),
    ("None", True),
    ("", True),
]


@pytest.mark.parametrize(("max_invalid", "sent"), MAX_INVALID)
def test_more_invalid_rows_than_allowed_fail_before_the_first_send(
    sendoso: Sandbox, ledger: Any, batch: Make, people: Any, ti: Any, max_invalid: Any, sent: bool
) -> None:
    rows = [row | {"email": "" if number < 2 else row["email"]} for number, row in enumerate(people(5))]
    task = ti("run-1")
    operator = batch(recipients=rows, max_invalid=max_invalid)
    if sent:
        assert counts(operator.execute({"ti": task})) == {"sent": 3, "invalid": 2}
        return
    with pytest.raises(
        SendosoRowsError, match=r"2 of 5 rows are invalid.*the recipient key \(email\) is missing \(2\)"
    ):
        operator.execute({"ti": task})
    assert counts(task.xcom["return_value"]) == {"invalid": 2, "not_reached": 3}
    assert sendoso.requests == []


def test_on_invalid_fail_sends_nothing_if_one_row_is_invalid(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any
) -> None:
    rows = people(3)
    rows[2]["last_name"] = " "
    with pytest.raises(SendosoRowsError, match=r'1 rows are invalid and on_invalid="fail".*last_name is missing'):
        execute(batch(recipients=rows, on_invalid="fail"))
    assert sendoso.requests == []
    assert counts(execute(batch(recipients=rows[:2], on_invalid="fail"))) == {"sent": 2}


@pytest.mark.parametrize("outcome", ["invalid", "refused"])
def test_a_batch_that_reached_nobody_fails(
    sendoso: Sandbox, ledger: Any, batch: Make, people: Any, ti: Any, outcome: str
) -> None:
    rows = [row | ({"email": "x"} if outcome == "invalid" else {}) for row in people(3)]
    sendoso.fault("status", times=3, method="POST", path=SENDS, status=422)
    task = ti("run-1")
    with pytest.raises(SendosoRowsError, match=r"Nobody was sent a gift.*Reasons: "):
        batch(recipients=rows).execute({"ti": task})
    assert counts(task.xcom["return_value"]) == {outcome: 3}
    assert sendoso.sends == []


def test_held_sends_fail_without_retries_and_are_named(
    sendoso: Sandbox, ledger: Any, batch: Make, ti: Any, people: Any
) -> None:
    rows = [row | {"crm_id": f"C-{number}"} for number, row in enumerate(people(3), 1)]
    sendoso.fault("error_before", method="POST", path=SENDS)
    task = ti("run-1")
    with pytest.raises(SendHeldError) as caught:
        batch(recipients=rows, row_ref="crm_id", max_in_flight=1).execute({"ti": task})
    assert isinstance(caught.value, AirflowFailException)
    assert "1 sends are held: row 1 (C-1), posted at 20" in str(caught.value)
    assert "http_500" in str(caught.value)
    assert counts(task.xcom["return_value"]) == {"sent": 2, "held": 1}


def test_on_held_continue_succeeds_and_counts_the_held_sends(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute
) -> None:
    sendoso.fault("error_before", method="POST", path=SENDS)
    assert counts(execute(batch(on_held="continue"))) == {"sent": 2, "held": 1}
    assert counts(execute(batch(on_held="continue"))) == {"sent": 2, "held": 1}
    assert len(sendoso.sends) == 2


def test_rows_claimed_by_another_run_are_not_reached_and_the_task_can_be_retried(
    sendoso: Sandbox, ledger: Any, batch: Make, ti: Any, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(SendLedger, "release", lambda *args: None)  # a run that was killed
        sendoso.fault("status", method="POST", path=SENDS, status=403)
        with pytest.raises(SendosoError):
            execute(batch(max_in_flight=1), "run-0")
    task = ti("run-1")
    with pytest.raises(SendosoError, match=r"2 rows were not reached.*Retry the task") as caught:
        batch(claim_timeout=0).execute({"ti": task})
    assert not isinstance(caught.value, AirflowFailException)
    assert counts(task.xcom["return_value"]) == {"sent": 1, "not_reached": 2}


def test_a_batch_that_pushes_no_xcom_fails_with_the_same_error(
    sendoso: Sandbox, ledger: Any, batch: Make, ti: Any
) -> None:
    task = ti("run-1")
    with pytest.raises(SendosoNotFoundError):
        batch(gift_id="no-such-gift", do_xcom_push=False).execute({"ti": task})
    assert task.xcom == {"sendoso_link": sendoso.url}


def test_on_kill_claims_nothing_more_and_the_next_try_goes_on(
    sendoso: Sandbox, ledger: Any, batch: Make, ti: Any, execute: Execute, people: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator, task = batch(recipients=people(120), max_in_flight=1), ti("run-1")
    finish = SendLedger.finish

    def kill_after_three(*args: Any, **kwargs: Any) -> bool:
        if len(sendoso.sends) == 3:
            operator.on_kill()
        return finish(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(SendLedger, "finish", kill_after_three)
        with pytest.raises(SendosoError, match="117 rows were not reached"):
            operator.execute({"ti": task})
    assert counts(task.xcom["return_value"]) == {"sent": 3, "not_reached": 117}
    assert SendosoHook().ledger.sends.states(dedupe_scope="q4") == {"SENT": 3, "READY": 47}
    assert counts(execute(batch(recipients=people(5)))) == {"sent": 5}
    assert len(sendoso.sends) == 5


# -- personal data is never shown
# -----------------------------------------------------------------------------------------------


def test_no_recipient_and_no_secret_is_in_logs_xcom_errors_or_the_ledger(
    sendoso: Sandbox,
    ledger: dict[str, Any],
    batch: Make,
    ti: Any,
    people: Any,
    read_logs: Callable[[], str],
    set_connection: Any,
    tmp_path: Path,
) -> None:
    rows = [*people(7), *people(1)]
    rows[5]["email"] = "Lovelace6 has no e-mail"
    rows[6]["metadata"] = {"phone": "+44 20 7946 0958"}
    words = "ada1@example.com is blocked, dear Ada1 LOVELACE1, cc other.person@example.com"
    sendoso.fault("status", method="POST", path=SENDS, status=422, body={"success": False, "message": words})
    sendoso.fault("error_before", method="POST", path=SENDS)
    sendoso.fault("status", method="POST", path=SENDS, status=400, body={"error": "Ada3 at +44 20 7946 0958"})
    task = ti("run-1")
    with pytest.raises(SendHeldError) as caught:
        batch(recipients=rows, message="For {first_name}: a secret word", max_in_flight=1).execute({"ti": task})
    assert counts(task.xcom["return_value"]) == {
        "sent": 3,
        "duplicate": 1,
        "refused": 2,
        "invalid": 1,
        "held": 1,
    }
    at_rest = b"".join(path.read_bytes() for path in tmp_path.glob("ledger.db*")).decode(errors="replace")
    token = SendosoHook().session.token()
    seen = {"logs": read_logs(), "xcom": json.dumps(task.xcom), "error": str(caught.value), "ledger": at_rest}
    seen["report"] = " ".join(" ".join(caught.value.report).split())
    assert "<email> is blocked, dear <first_name> <last_name>, cc <email>" in seen["report"]
    for place, text in seen.items():
        for secret in ("@example.com", "Lovelace", "LOVELACE", "secret word", token, "'sandbox'"):
            assert secret not in text, f"{secret} in {place}"


# -- templates, DAGs, serialisation ------------------------------------------------------------------------------------


def test_arguments_are_templates_and_their_rendered_text_is_parsed(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any
) -> None:
    operator = batch(
        recipients=[row | {"company": "{{ params.company }}"} for row in people(1)],
        gift_id="{{ params.gift }}",
        message="{{ params.greeting }}, {first_name}",
        dedupe_scope="{{ params.campaign }}-{{ ds }}",
        dry_run="{{ params.dry_run }}",
        max_sends="{{ params.nothing }}",
        max_invalid="{{ params.share }}",
        metadata={"campaign": "{{ params.campaign }}"},
        sendoso_conn_id="{{ params.connection }}",
    )
    params = {
        "company": "Analytical Engines",
        "gift": "gift-donation-meals",
        "greeting": "Hello",
        "campaign": "q4",
        "dry_run": False,
        "nothing": None,
        "share": 0.5,
        "connection": "sendoso_default",
    }
    operator.render_template_fields({"params": params, "ds": "2026-11-21"})
    summary = execute(operator)
    assert counts(summary) == {"sent": 1}
    assert summary["dedupe_scope"] == "q4-2026-11-21"
    body = sendoso.sends[0].body
    assert (body["gift_id"], body["message"], body["company"]) == (
        "gift-donation-meals",
        "Hello, Ada1",
        "Analytical Engines",
    )
    assert body["metadata"]["campaign"] == "q4"


def test_the_operator_can_be_copied(batch: Make) -> None:
    operator = batch(metadata={"a": 1}, lease=timedelta(minutes=2))
    twin = copy.deepcopy(operator)
    assert twin is not operator
    for name in (*BatchSendOperator.template_fields, "lease", "settle_time", "max_in_flight"):
        assert getattr(twin, name) == getattr(operator, name)


def a_dag(**arguments: Any) -> DAG:
    with DAG("campaign", schedule=None) as dag:
        BatchSendOperator(task_id="gifts", dedupe_scope="{{ params.campaign }}", gift_id="gift-mug", **arguments)
    return dag


def test_a_dag_with_the_operator_can_be_serialised(people: Any) -> None:
    serialise = getattr(serialized_objects, "DagSerialization", serialized_objects.SerializedDAG)
    data = serialise.to_dict(a_dag(recipients=people(2), max_invalid=0.1, trigger_rule=TriggerRule.ALL_DONE))
    json.dumps(data)
    (task,) = serialise.from_dict(data).tasks
    assert task.task_type == "BatchSendOperator"
    assert task.template_ext == [".sql"]
    assert task.dedupe_scope == "{{ params.campaign }}"


def test_a_mapped_operator_can_be_serialised() -> None:
    with DAG("campaign", schedule=None) as dag:
        BatchSendOperator.partial(task_id="gifts", gift_id="gift-mug", conn_id="warehouse", message="Hi").expand_kwargs(
            [{"sql": "SELECT 1", "dedupe_scope": "a"}, {"sql": "SELECT 2", "dedupe_scope": "b"}]
        )
    serialise = getattr(serialized_objects, "DagSerialization", serialized_objects.SerializedDAG)
    data = serialise.to_dict(dag)
    json.dumps(data)
    assert "MappedOperator" in type(serialise.from_dict(data).get_task("gifts")).__name__


def test_constructing_the_operator_looks_up_no_connection(monkeypatch: pytest.MonkeyPatch, people: Any) -> None:
    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a connection was looked up while a DAG was parsed")

    monkeypatch.setattr(SendosoHook, "get_connection", never)
    assert a_dag(recipients=people(1), sendoso_conn_id="nobody").task_ids == ["gifts"]


def test_every_error_of_the_provider_is_an_airflow_exception() -> None:
    assert issubclass(SendosoError, AirflowException)


def test_a_task_that_airflow_times_out_has_pushed_the_counts_of_what_it_sent(
    sendoso: Sandbox, ledger: Any, batch: Make, ti: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def time_out_after_two(log: Any) -> None:
        if len(sendoso.sends) == 2:
            raise AirflowTaskTimeout

    monkeypatch.setattr("airflow_provider_sendoso.runs.base.ProgressLog.__call__", time_out_after_two)
    task = ti("run-1")
    with pytest.raises(AirflowTaskTimeout):
        batch(max_in_flight=1).execute({"ti": task})
    assert task.xcom["return_value"]["sent"] == 2


@pytest.mark.parametrize(
    ("scope", "level", "said"),
    [
        ("q4", "INFO", "Scope 'q4': one gift per person, once and for all."),
        ("{{ run_id }}", "INFO", "Scope 'run-1': one gift per person and run."),
        ("{{ now().year }}", "WARNING", "Scope '2026': one gift per person and period of the clock"),
    ],
)
def test_a_batch_says_what_its_scope_means_for_other_runs(
    sendoso: Sandbox,
    ledger: Any,
    batch: Make,
    execute: Execute,
    read_logs: Callable[[], str],
    scope: str,
    level: str,
    said: str,
) -> None:
    with DAG("campaign", schedule=None):
        operator = batch(dedupe_scope=scope)
    operator.render_template_fields({"run_id": "run-1", "now": lambda: SimpleNamespace(year=2026)})
    execute(operator)
    lines = [line for line in read_logs().splitlines() if said in line]
    assert lines
    assert [line for line in lines if level not in line.upper()] == []
