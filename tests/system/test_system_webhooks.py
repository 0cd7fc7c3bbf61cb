"""Webhooks in a real Airflow: its API server receives them, its triggerer wakes, and a flood of forged ones fails."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
import requests
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sandbox.webhooks import SECRET, Message

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not AIRFLOW_V_3_3_PLUS, reason="A whole Airflow is driven by the REST API and the commands of Airflow 3.3"
    ),
]

DAG_ID = "woken_by_webhook"
OTHER = "whsec_" + base64.b64encode(b"a secret of somebody else").decode()
A_SECOND = 500
"""Forged webhooks a second."""
SECONDS = 6


@pytest.fixture(scope="module")
def here(stage: Callable[..., Any]) -> Any:
    stage = stage(DAG_ID)
    stage.sandbox = Sandbox(step=10**6, rate=0, webhook_retries=(0, 1, 2))
    with stage as here:
        address = f"connections/{DAG_ID}"
        login = {"conn_type": "sendoso", "host": here.sandbox.url, "login": "sandbox", "password": "sandbox"}
        extra = json.dumps(here._extra | {"webhook_secret": SECRET})
        here.airflow.api("PATCH", address, connection_id=DAG_ID, extra=extra, **login)
        here.sandbox.subscribe(f"{here.airflow.url}/sendoso/webhooks/{DAG_ID}")
        yield here


def send(sandbox: Sandbox) -> str:
    """As somebody else does it."""
    credentials = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox"}
    token = requests.post(f"{sandbox.url}/oauth/token", json=credentials, timeout=60).json()["access_token"]
    body = {"first_name": "Ada", "last_name": "L", "email": "ada@example.com", "message": "Hi"}
    answer = requests.post(
        f"{sandbox.url}/api/v3/sends",
        json={"send": body | {"gift_id": "gift-donation-trees"}},
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
    ).json()
    return str(answer.get("id") or answer["send"]["id"])


def test_a_webhook_wakes_a_deferred_sensor_within_ten_seconds(here: Any) -> None:
    sandbox, api = here.sandbox, here.airflow.api
    send_id = send(sandbox)

    def reads() -> list[float]:
        return [r.received_at for r in sandbox.requests if r.method == "GET" and r.path.endswith(send_id)]

    run = api("POST", f"dags/{DAG_ID}/dagRuns", logical_date=None, conf={"send_id": send_id})["dag_run_id"]
    # The sensor reads it, its trigger, to learn by which id webhooks name it, and perhaps once more, because the
    # webhook of its first status came less than half a minute before.
    here.wait_until(lambda: len(reads()) >= 2, "the trigger waits")
    here.wait_until(lambda: time.monotonic() - reads()[-1] > 12, "nothing happens")
    before = len(reads())
    assert before <= 3, "without a webhook it is read once an hour"
    changed_at = time.monotonic()
    sandbox.finish(send_id, "delivered")
    here.wait_until(lambda: len(reads()) > before, "the trigger has read it")
    woken = reads()[before] - changed_at
    assert woken < 10
    assert here.wait_for_end(run) == "success"
    print(f"\nFrom the change at Sendoso to the read {woken:.1f} s, to the end of the run", end=" ")
    print(f"{time.monotonic() - changed_at:.1f} s.")
    print([(round(attempt.at - sandbox.webhooks[0].at, 1), attempt.status) for attempt in sandbox.webhooks])
    # The first one makes the API server import what it takes, and on a busy machine Sendoso may have to send it again.
    assert [attempt.status for attempt in sandbox.webhooks if attempt.status is not None] == [204, 204]
    told = here.ask_ledger("SELECT account, send_gid FROM sendoso_wakeups")
    assert told == [("127.0.0.1", f"sandbox-{send_id}")] * 2
    logs = here.airflow.logs()
    assert SECRET not in logs
    assert SECRET.removeprefix("whsec_") not in logs


def test_the_plugin_is_listed_and_the_receiver_is_the_only_route_without_a_login(here: Any) -> None:
    plugins = {one["name"]: one for one in here.airflow.api("GET", "plugins")["plugins"]}
    (app,) = plugins["sendoso_webhooks"]["fastapi_apps"]
    assert (app["name"], app["url_prefix"]) == ("Sendoso webhooks", "/sendoso/webhooks")
    base = f"{here.airflow.url}/sendoso/webhooks"
    assert requests.get(f"{base}/{DAG_ID}", timeout=60).status_code == 405
    assert requests.post(base, timeout=60).status_code in (404, 405)


def test_five_hundred_forged_webhooks_a_second_leave_api_server_and_ledger_alone(here: Any) -> None:
    """Half of them are for a connection whose ledger nobody has opened: whoever asks it makes its tables."""
    fresh = here.make_ledger()
    extra = json.dumps({"webhook_secret": SECRET, "ledger_conn_id": "flooded_ledger", "account": "flooded"})
    here._connect("flooded", conn_type="sendoso", login="a", password="b", extra=extra)
    here._connect("flooded_ledger", **fresh.connection)
    try:
        statuses, seconds, waits = asyncio.run(flood(here.airflow.url))
    finally:
        for conn_id in ("flooded", "flooded_ledger"):
            here.airflow.delete(f"connections/{conn_id}")
    # On a machine of two cores for API server, scheduler and the flood itself, Airflow's own layers around the receiver
    # take longer than the receiver, so that they are the ones who say how many a second there are.
    rate = sum(statuses.values()) / seconds
    waits.sort()
    median, longest = waits[len(waits) // 2], waits[-1]
    print(f"\n{rate:.0f} forged ones a second; the API meanwhile: median {median:.2f} s, longest {longest:.2f} s.")
    assert set(statuses) == {401}
    assert rate > 100
    assert median < 1
    assert longest < 5
    here.ledger, ours = fresh, here.ledger
    try:
        assert here.ask_ledger("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'") == []
    finally:
        here.ledger = ours


async def flood(url: str) -> tuple[Counter[int], float, list[float]]:
    """Post forged webhooks at a steady rate, and ask the API for its version meanwhile."""
    statuses, waits = Counter[int](), list[float]()
    connector = aiohttp.TCPConnector(limit=100)
    async with aiohttp.ClientSession(connector=connector) as http, aiohttp.ClientSession() as user:

        async def forge(number: int) -> None:
            message = Message(f"gid-{number}", time.time())
            conn_id = "flooded" if number % 2 else f"made_up_{number}"
            headers = message.headers(OTHER, time.time())
            async with http.post(f"{url}/sendoso/webhooks/{conn_id}", data=message.body, headers=headers) as answer:
                statuses[answer.status] += 1

        async def use() -> None:
            while True:
                began = time.monotonic()
                async with user.get(f"{url}/api/v2/version") as answer:
                    await answer.read()
                waits.append(time.monotonic() - began)
                await asyncio.sleep(0.1)

        using, began = asyncio.create_task(use()), time.monotonic()
        tasks = []
        for number in range(A_SECOND * SECONDS):
            tasks.append(asyncio.create_task(forge(number)))
            await asyncio.sleep(max(0.0, began + number / A_SECOND - time.monotonic()))
        await asyncio.gather(*tasks)
        seconds = time.monotonic() - began
        using.cancel()
    return statuses, seconds, waits
