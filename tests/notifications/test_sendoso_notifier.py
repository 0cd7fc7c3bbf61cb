"""SendosoNotifier: a callback sends one gift, however often Airflow calls it."""

from __future__ import annotations

import asyncio
import copy
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from airflow_provider_sendoso.exceptions import (
    SendHeldError,
    SendosoConfigError,
    SendosoUnprocessableError,
    SendOutcomeUnknownError,
)
from airflow_provider_sendoso.get_provider_info import get_provider_info
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.notifications.sendoso import SendosoNotifier
from airflow_provider_sendoso.operators.sendoso import SendGiftOperator
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sandbox.account import Account

SENDS = "/api/v3/sends"
ADA = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}


@pytest.fixture
def ledger_connection(tmp_path: Path) -> dict[str, Any]:
    return {"conn_type": "sqlite", "host": str(tmp_path / "ledger.db")}


def notifier(**changes: Any) -> SendosoNotifier:
    arguments = {"gift_id": "gift-donation-trees", "recipient": ADA, "message": "Thank you", "claim_timeout": 0}
    return SendosoNotifier(**(arguments | changes))


def of_task(task_id: str = "report", run_id: str = "run-1", map_index: Any = -1, **more: Any) -> dict[str, Any]:
    """The part of a task callback's context that the notifier uses."""
    ti = SimpleNamespace(
        dag_id="sales", task_id=task_id, run_id=run_id, map_index=map_index, xcom_push=lambda **pushed: None
    )
    return {"ti": ti, "task": ti, "dag": DAG("sales", schedule=None), "run_id": run_id, **more}


def of_run(run_id: str = "run-1", task_id: str | None = "report") -> dict[str, Any]:
    """The context of a DAG's callback, which has some task of the run, or none."""
    if task_id is not None:
        return of_task(task_id, run_id, reason="success")
    return {"dag": DAG("sales", schedule=None), "run_id": run_id, "reason": "success"}


def of_deadline(run_id: str = "run-1") -> dict[str, Any]:
    return {"dag_run": {"dag_id": "sales", "dag_run_id": run_id, "conf": {"who": "Ada"}}, "deadline": {"id": "d"}}


def scopes() -> list[str]:
    from sqlalchemy import text

    database = SendosoHook().ledger._database
    rows = database.run(lambda db: db.execute(text("SELECT dedupe_scope FROM sendoso_batches ORDER BY 1")).all())
    return [row[0] for row in rows]


@pytest.mark.usefixtures("ledger")
class TestSends:
    def test_the_notifier_sends_its_arguments(self, sendoso: Sandbox) -> None:
        notifier(gift_id="gift-mug", variant_id="mug-black", team_id=7, metadata={"deal": "42"}, recipient=PARCEL)(
            of_task()
        )
        (send,) = sendoso.sends
        assert send.body["metadata"].pop("airflow_key")
        assert send.body == {
            "gift_id": "gift-mug",
            "variant_id": "mug-black",
            "team_id": "7",
            "message": "Thank you",
            "metadata": {"deal": "42"},
            **PARCEL,
        }

    def test_a_callback_that_runs_twice_sends_once(self, sendoso: Sandbox) -> None:
        callback = notifier()
        for context in (of_task(), of_task(), of_task(map_index=3)):
            callback(context)
        assert len(sendoso.sends) == 1
        callback(of_task(run_id="run-2"))
        assert len(sendoso.sends) == 2

    def test_templates_are_rendered_for_each_call(self, sendoso: Sandbox) -> None:
        callback = notifier(recipient=ADA | {"email": "{{ ti.task_id }}@example.com"}, message="From {{ run_id }}")
        for task_id in ("one", "two"):
            callback(of_task(task_id))
        assert [send.body["email"] for send in sendoso.sends] == ["one@example.com", "two@example.com"]
        assert {send.body["message"] for send in sendoso.sends} == {"From run-1"}
        assert callback.recipient["email"] == "{{ ti.task_id }}@example.com"

    @pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow before 3.1 has no asynchronous notifiers")
    def test_the_notifier_does_not_block_a_triggerer(self, sendoso: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        went_on: list[bool] = []
        accept = Account.accept

        async def run() -> None:
            loop = asyncio.get_running_loop()

            def accept_when_it_has_gone_on(*arguments: Any) -> Any:
                beat = threading.Event()
                loop.call_soon_threadsafe(beat.set)
                went_on.append(beat.wait(30))
                return accept(*arguments)

            monkeypatch.setattr(Account, "accept", accept_when_it_has_gone_on)
            await notifier(message="{{ dag_run.conf.who }}", context=of_deadline())

        asyncio.run(run())
        assert went_on == [True]
        assert [send.body["message"] for send in sendoso.sends] == ["Ada"]

        async def again() -> None:
            await notifier(context=of_deadline())

        asyncio.run(again())
        assert len(sendoso.sends) == 1

    def test_a_task_and_its_callback_send_two_gifts(self, sendoso: Sandbox) -> None:
        callback = notifier()
        with DAG("sales", schedule=None) as dag:
            task = SendGiftOperator(
                task_id="thank", gift_id="gift-egift-coffee", recipient=ADA, message="1", on_success_callback=callback
            )
        context = of_task("thank") | {"dag": dag, "task": task}
        copied = copy.deepcopy(task)
        copied.render_template_fields(context)
        copied.execute(context)
        callback(context)
        assert [send.body["gift_id"] for send in sendoso.sends] == ["gift-egift-coffee", "gift-donation-trees"]


PRODUCTS = {
    "marketplace": {"marketplace_variant_id": "var-{{ task.task_id }}", "sender": {"first_name": "Grace"}},
    "smart_send": {"smart_send": "{{ 1 == 1 }}", "price_lte_usd": "50", "require_approval": True},
}


@pytest.mark.parametrize("kind", PRODUCTS)
def test_a_callback_sends_a_product_once_and_tells_what_it_lacks(
    sendoso: Sandbox, ledger: Any, set_connection: Callable[..., None], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    connection = {"conn_type": "sendoso", "host": sendoso.url, "login": "sandbox", "password": "sandbox"}
    set_connection("sendoso_default", connection | {"extra": {"timeout": 60}})
    callback = SendosoNotifier(recipient=ADA, message="From {{ run_id }}", claim_timeout=0, **PRODUCTS[kind])
    told = copy.copy(callback)
    told.render_template_fields(of_task("tea"))
    with pytest.raises(SendosoConfigError, match="airflow sendoso authorize --scope"):  # Airflow would log it
        told.notify(of_task("tea"))
    assert sendoso.campaign_sends() == []
    extra = {"timeout": 60, "scope": "public write marketplace smartsend"}
    set_connection("sendoso_default", connection | {"extra": extra})
    for _ in range(2):
        callback(of_task("tea"))
    (send,) = sendoso.campaign_sends()
    assert send.body["message"] == "From run-1"
    if kind == "marketplace":
        assert (send.body["variant_ids"], send.body["sender_first_name"]) == (["var-tea"], "Grace")
    else:
        assert (send.body["price_lte_usd"], send.body["require_approval"]) == (50, True)


PARCEL = ADA | {
    "address": {"line1": "12 St James's Square", "city": "London", "postal_code": "SW1Y 4JH", "country": "GB"}
}

SCOPES = {
    "a task": (of_task(), "sales/report/run-1/callback"),
    "a mapped task": (of_task(map_index=5), "sales/report/run-1/callback"),
    "a run": (of_run(), "sales/run-1/callback"),
    "a run, by another of its tasks": (of_run(task_id="load"), "sales/run-1/callback"),
    "a run without a task": (of_run(task_id=None), "sales/run-1/callback"),
    "a deadline": (of_deadline(), "sales/run-1/callback"),
}


@pytest.mark.parametrize("whose", SCOPES)
def test_the_default_scope_is_the_task_or_run_of_the_callback(sendoso: Sandbox, ledger: Any, whose: str) -> None:
    context, scope = SCOPES[whose]
    notifier().notify(dict(context))
    assert scopes() == [scope]


def test_an_own_scope_is_rendered_and_replaces_the_default(sendoso: Sandbox, ledger: Any) -> None:
    callback = notifier(dedupe_scope="quota reached by {{ dag.dag_id }}")
    for run_id in ("run-1", "run-2"):
        callback(of_task(run_id=run_id))
    assert set(scopes()) == {"quota reached by sales"}
    assert len(sendoso.sends) == 1


def test_a_scope_that_is_another_one_at_each_call_is_refused(sendoso: Sandbox, ledger: Any) -> None:
    callback = notifier(dedupe_scope="{{ macros.uuid.uuid4() }}")
    context = of_task(macros=SimpleNamespace(uuid=uuid))
    callback.render_template_fields(context)  # not called, because Airflow 2 logs a callback's error
    with pytest.raises(SendosoConfigError, match=r"is refused: it is another one in every try.*Nothing was sent"):
        callback.notify(context)
    assert sendoso.requests == []


def test_the_log_says_what_an_own_scope_means_by_what_was_written(
    sendoso: Sandbox, ledger: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    notifier(dedupe_scope="{{ run_id }}")(of_task())
    notifier()(of_task())
    said = capfd.readouterr().out, caplog.text  # on Airflow 2 it is in both
    assert "Scope 'run-1': one gift per person and run." in "".join(said)
    assert (
        max(text.count("Scope '") for text in said) == 1
    )  # the default has nothing that its author could have meant otherwise


def test_several_callbacks_of_a_task_are_separate_batches(sendoso: Sandbox, ledger: Any) -> None:
    for scope in ("one", "two"):
        notifier(dedupe_scope=scope)(of_task())
    assert (scopes(), len(sendoso.sends)) == (["one", "two"], 2)


WRONG = [
    ({"gift_id": None}, "gift_id is missing"),
    ({"recipient": {"email": "Ada-at-home"}}, "first_name is missing.*email is not an e-mail address"),
    ({"touch_id": 5}, "gift_id: not with touch_id"),
    ({"dedupe_scope": " "}, "dedupe_scope is empty"),
    ({"claim_timeout": "soon"}, "claim_timeout must be"),
]


@pytest.mark.parametrize(("changes", "words"), WRONG)
def test_a_wrong_argument_is_named_without_its_value(
    sendoso: Sandbox, ledger: Any, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(SendosoConfigError, match=words) as caught:
        notifier(**changes).notify(of_task())
    assert "Ada-at-home" not in str(caught.value)
    assert sendoso.requests == []


def test_without_a_context_the_notifier_sends_nothing(sendoso: Sandbox, ledger: Any) -> None:
    with pytest.raises(SendosoConfigError, match="without Airflow's context"):
        notifier().notify({})
    assert sendoso.requests == []


def test_without_a_ledger_the_notifier_sends_nothing(sendoso: Sandbox) -> None:
    with pytest.raises(SendosoConfigError, match="AIRFLOW_CONN_SENDOSO_LEDGER="):
        notifier().notify(of_task())
    assert sendoso.requests == []


def test_a_refusal_is_raised_for_airflow_to_log(sendoso: Sandbox, ledger: Any) -> None:
    body = {"success": False, "message": "ada@example.com is not eligible"}
    sendoso.fault("status", method="POST", path=SENDS, status=422, body=body)
    with pytest.raises(SendosoUnprocessableError, match='answered 422: "<email> is not eligible"'):
        notifier().notify(of_task())


def test_an_unknown_outcome_is_held_and_never_posted_again(sendoso: Sandbox, ledger: Any) -> None:
    sendoso.fault("drop_before", method="POST", path=SENDS)
    with pytest.raises(SendOutcomeUnknownError, match="may have gone out"):
        notifier().notify(of_task())
    with pytest.raises(SendHeldError, match="no known outcome"):
        notifier().notify(of_task())
    assert sendoso.sends == []


def test_the_notifier_logs_the_send_and_not_the_recipient(
    sendoso: Sandbox, ledger: Any, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    callback = notifier()
    callback(of_task())
    logs = "".join(capfd.readouterr()) + caplog.text
    assert f"Sent: {sendoso.sends[0].id}, in scope sales/report/run-1/callback" in logs
    for text in (logs, repr(callback)):
        assert "ada" not in text.casefold()
        assert "lovelace" not in text.casefold()


def test_constructing_a_notifier_looks_up_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("looked up")

    monkeypatch.setattr(SendosoHook, "get_connection", refuse)
    with DAG("sales", schedule=None, on_success_callback=notifier(recipient="{{ params.who }}")):
        pass


def test_the_template_fields_are_those_of_the_operator() -> None:
    assert set(SendosoNotifier.template_fields) == set(SendGiftOperator.template_fields) - {"on_absent"}


def test_the_provider_declares_the_notifier() -> None:
    assert get_provider_info()["notifications"] == [f"{SendosoNotifier.__module__}.{SendosoNotifier.__qualname__}"]
