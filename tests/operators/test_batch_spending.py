"""Before money is spent: dry runs, fingerprints and limits, against the sandbox and a real ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoLimitError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.sandbox import Sandbox

SENDS = "/api/v3/sends"
Make = Callable[..., BatchSendOperator]
Execute = Callable[..., Any]


def posts(sandbox: Sandbox) -> int:
    return sum(request.method == "POST" and request.path == SENDS for request in sandbox.requests)


def counted(summary: dict[str, Any]) -> dict[str, Any]:
    names = ("would_send", "sent", "already_sent", "duplicate", "refused", "invalid", "held", "not_reached")
    return {name: summary[name] for name in names if summary.get(name)}


def test_a_dry_run_counts_and_prices_and_leaves_no_trace(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any
) -> None:
    execute(batch(recipients=people(1)), "run-0")
    rows = [*people(4), people(1)[0], {"first_name": "No", "last_name": "Address"}]
    summary = execute(batch(recipients=rows, dry_run="True"), "run-1")
    assert counted(summary) == {"would_send": 3, "already_sent": 1, "duplicate": 1, "invalid": 1}
    assert (summary["estimated_cost"], summary["currency"], summary["balance"]) == (45.0, "USD", 1000.0)
    assert posts(sendoso) == 1
    sends = SendosoHook().ledger.sends
    assert not sends.batch_exists(SendosoHook().config.account, summary["batch_id"])
    assert sends.states(dedupe_scope="q4") == {"SENT": 1}


def test_a_dry_run_of_a_new_scope_does_not_create_the_scope(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute
) -> None:
    assert execute(batch(dry_run=True, dedupe_scope="q5"))["would_send"] == 3
    hook = SendosoHook()
    assert not hook.ledger.sends.scope_exists(hook.config.account, "q5")


def test_a_dry_run_in_a_scope_of_another_recipient_key_is_refused(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute
) -> None:
    execute(batch())
    with pytest.raises(SendosoConfigError, match="identifies recipients by 'email'"):
        execute(batch(dry_run=True, recipient_key="last_name"))


def test_an_approved_batch_is_sent_also_over_retries(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any
) -> None:
    approved = execute(batch(recipients=people(5), dry_run=True), "run-1")["fingerprint"]
    backwards = people(5)[::-1]
    sendoso.fault("status", method="POST", path=SENDS, status=403)
    operator = batch(recipients=backwards, approved_fingerprint=approved, max_in_flight=1)
    sendoso.clear_faults()
    sendoso.fault("slow", method="POST", path=SENDS, delay=0)
    sendoso.fault("status", times=9, method="POST", path=SENDS, status=403)
    with pytest.raises(Exception, match="403"):
        execute(operator, "run-1")
    sendoso.clear_faults()
    assert len(sendoso.sends) == 1
    summary = execute(batch(recipients=backwards, approved_fingerprint=approved), "run-1")
    assert counted(summary) == {"sent": 5}
    assert summary["fingerprint"] == approved


@pytest.mark.parametrize(
    "change",
    [
        {"message": "Something else"},
        {"recipients": 6},
        {"recipients": 4},
        {"gift_id": "gift-egift-coffee"},
        {"metadata": {"campaign": "other"}},
    ],
)
def test_a_batch_that_differs_from_what_was_approved_is_refused(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any, change: dict[str, Any]
) -> None:
    approved = execute(batch(recipients=people(5), dry_run=True))["fingerprint"]
    arguments = {"recipients": 5, "approved_fingerprint": approved, **change}
    arguments["recipients"] = people(arguments["recipients"])
    with pytest.raises(SendosoLimitError, match="something else than was approved") as caught:
        execute(batch(**arguments))
    assert isinstance(caught.value, AirflowFailException)
    assert posts(sendoso) == 0


def test_the_rows_that_are_new_gone_changed_or_sent_since_are_counted_and_named(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any
) -> None:
    """In one scope of a hundred, by the ledger's keys, a sketch cannot tell them apart; so there are three."""
    rows = [row | {"customer_id": f"c-{number}"} for number, row in enumerate(people(9), 1)]
    now = [rows[0], *(row | {"title": "Countess"} for row in rows[1:3]), *rows[3:7], rows[8]]
    for scope in ("q1", "q2", "q3"):
        approved = execute(batch(recipients=rows[:8], row_ref="customer_id", dry_run=True, dedupe_scope=scope))[
            "fingerprint"
        ]
        execute(batch(recipients=rows[:1], dedupe_scope=scope), f"another-run-{scope}")
        with pytest.raises(SendosoLimitError) as caught:
            execute(batch(recipients=now, row_ref="customer_id", approved_fingerprint=approved, dedupe_scope=scope))
        said = str(caught.value)
        if "too many differ to name" not in said:
            break
    assert "Approved were 8 rows, now there are 7: 1 new (row 8 (c-9)); 2 changed (row " in said
    assert "row 2 (c-2)" in said
    assert "row 3 (c-3)" in said
    assert "1 sent or held since, or not to be sent any more (row 1 (c-1)); 1 gone." in said
    assert "example.com" not in said
    assert approved not in said


def test_the_hash_alone_still_approves(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any
) -> None:
    approved = execute(batch(recipients=people(3), dry_run=True))["fingerprint"].partition(":")[0]
    with pytest.raises(SendosoLimitError, match="Which rows differ is not known"):
        execute(batch(recipients=people(4), approved_fingerprint=approved))
    assert counted(execute(batch(recipients=people(3), approved_fingerprint=approved))) == {"sent": 3}


def test_an_approval_of_another_list_altogether_names_no_rows(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any
) -> None:
    approved = execute(batch(recipients=people(90), dry_run=True))["fingerprint"]
    with pytest.raises(SendosoLimitError, match="Approved were 90 rows, now there are 90; too many differ to name"):
        execute(batch(recipients=people(90), message="Another", approved_fingerprint=approved))


def test_a_gift_sent_since_the_dry_run_invalidates_the_approval(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any
) -> None:
    approved = execute(batch(recipients=people(5), dry_run=True))["fingerprint"]
    execute(batch(recipients=people(1)), "another-run")
    with pytest.raises(SendosoLimitError, match="something else than was approved"):
        execute(batch(recipients=people(5), approved_fingerprint=approved))


@pytest.mark.parametrize(
    ("limits", "refusal"),
    [
        ({"max_sends": 2}, "It would make 3 sends, more than max_sends=2"),
        ({"max_sends": "2"}, "It would make 3 sends, more than max_sends=2"),
        ({"max_sends": 0}, "It would make 3 sends, more than max_sends=0"),
        ({"max_cost": 44.99}, "It would cost an estimated 45.0 USD, more than max_cost=44.99"),
        ({"max_cost": "44.99"}, "It would cost an estimated 45.0 USD, more than max_cost=44.99"),
        ({"max_cost": 1000, "gift_id": "gift-mug"}, "shipping of gift-mug is not known: set shipping_estimate"),
        (
            {"max_cost": 100, "gift_id": "gift-mug", "shipping_estimate": 10},
            "It would cost an estimated 129.0 USD, more than max_cost=100",
        ),
    ],
)
def test_a_batch_over_a_limit_sends_nothing(
    sendoso: Sandbox, ledger: Any, batch: Make, ti: Any, people: Any, limits: dict[str, Any], refusal: str
) -> None:
    address = {"line1": "1 Main St", "city": "London", "postal_code": "E1 6AN", "country": "GB"}
    rows = [row | {"address": address} for row in people(3)]
    task = ti("run-1")
    with pytest.raises(SendosoLimitError, match=r"Nothing was sent by this try") as caught:
        batch(recipients=rows, **limits).execute({"ti": task})
    assert refusal in str(caught.value)
    assert counted(task.xcom["return_value"]) == {"not_reached": 3}
    assert posts(sendoso) == 0


def test_a_batch_at_its_limits_is_sent_also_on_a_retry(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute
) -> None:
    for _ in range(2):
        summary = execute(batch(max_sends=3, max_cost="45"))
        assert counted(summary) == {"sent": 3}
        assert (summary["estimated_cost"], summary["currency"]) == (45.0, "USD")


@pytest.mark.parametrize("limit", ["max_sends", "max_cost"])
def test_a_limit_that_has_rendered_to_nothing_is_warned_about(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, limit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(batch(**{limit: "None"}))
    assert f"{limit} has rendered to nothing: this batch has no such limit." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argument", "error"),
    [
        ({"max_sends": -1}, "max_sends is -1; use a whole number from 0"),
        ({"approved_fingerprint": ""}, "approved_fingerprint has rendered to nothing, so nothing is approved"),
        ({"approved_fingerprint": " None"}, "approved_fingerprint has rendered to nothing"),
        ({"max_sends": "many"}, "max_sends is 'many'"),
        ({"max_cost": "free"}, "max_cost is 'free'; use an amount from 0"),
        ({"max_cost": float("nan")}, "max_cost is nan"),
        ({"shipping_estimate": -5}, "shipping_estimate is -5"),
        ({"dry_run": "perhaps"}, "dry_run is 'perhaps', neither true nor false"),
    ],
)
def test_a_limit_that_is_not_an_amount_or_a_count_is_refused(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, argument: dict[str, Any], error: str
) -> None:
    with pytest.raises(SendosoConfigError, match=error):
        execute(batch(**argument))
    assert posts(sendoso) == 0


def test_without_a_catalogue_a_batch_is_sent_and_has_no_cost_estimate(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute
) -> None:
    sendoso.fault("status", times=100, method="GET", path="/api/v3/gifts", status=403)
    summary = execute(batch())
    assert counted(summary) == {"sent": 3}
    assert summary["estimated_cost"] is None


@pytest.mark.parametrize("limit", [{"max_sends": 0}, {"max_cost": 0}, {"max_cost": 0.0}])
def test_a_limit_of_zero_allows_no_send(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, limit: dict[str, float]
) -> None:
    with pytest.raises(SendosoLimitError):
        execute(batch(**limit))


@pytest.mark.parametrize("dry_run", ["", "None"])
def test_a_dry_run_that_a_template_rendered_to_nothing_is_refused(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, dry_run: str
) -> None:
    with pytest.raises(SendosoConfigError):
        execute(batch(dry_run=dry_run))
