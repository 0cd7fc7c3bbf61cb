"""The example DAGs of the marketplace and of SmartSend, run by a real Airflow against PostgreSQL and a sandbox."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

DATE = "2026-01-05T05:00:00+00:00"
RENEWALS = [
    ("C-1", "Zoë", "Brennecke", "zoe@example.com", "GB"),
    ("C-2", "Siobhán", "O’Kinnealy", "siobhan@example.net", "IE"),
    ("C-3", "Nobody", "Anywhere", "nobody@example.com", "Germany"),
    ("C-4", "Zoë", "Again", "ZOE@Example.com", "GB"),
]


def with_scopes(here: Any) -> dict[str, str]:
    """The environment of a world whose connection asks for the scopes."""
    connection = json.loads(here.environment["AIRFLOW_CONN_SENDOSO_DEFAULT"])
    connection["extra"] |= {"scope": "public write marketplace smartsend"}
    environment: dict[str, str] = here.environment | {"AIRFLOW_CONN_SENDOSO_DEFAULT": json.dumps(connection)}
    return environment


@pytest.mark.slow
def test_the_products_are_landed_and_a_second_run_changes_nothing(airflow: Any, world: Callable[..., Any]) -> None:
    here = world()
    run = airflow.run("marketplace_catalogue", DATE, with_scopes(here))

    assert run.state == "success", run.log[-5000:]
    landed = run.xcoms["land_products"]
    assert (landed["rows"], landed["inserted"]) == (7, 7)
    dearest = here.read_warehouse("SELECT id, price, currency FROM sendoso_products ORDER BY price DESC LIMIT 2")
    assert [(name, str(price.normalize()), currency) for name, price, currency in dearest] == [
        ("var-lamp", "89.99", "USD"),
        ("var-snacks-large", "49", "USD"),
    ]
    again = airflow.run("marketplace_catalogue", "2026-01-12T05:00:00+00:00", with_scopes(here))
    assert again.xcoms["land_products"]["unchanged"] == 7


def test_renewals_wait_for_approval_and_then_go_out(airflow: Any, world: Callable[..., Any]) -> None:
    here = world(step=1000)
    here.execute("CREATE TABLE renewals (customer_id text, first_name text, last_name text, email text, country text)")
    here.execute("INSERT INTO renewals VALUES (%s, %s, %s, %s, %s)", *RENEWALS)

    def approve() -> None:
        """Once the sensor has seen that they are on hold."""
        while sum(request.path == "/api/v3/send" and request.method == "GET" for request in here.sendoso.requests) < 2:
            time.sleep(0.1)
        for send in here.sendoso.campaign_sends():
            here.sendoso.finish(send.id, "Fulfilling")

    threading.Thread(target=approve, daemon=True).start()
    run = airflow.run("smart_send_renewals", DATE, with_scopes(here))

    assert run.state == "success", run.log[-5000:]
    summary = run.xcoms["send_gifts"]
    assert (summary["sent"], summary["duplicate"], summary["invalid"]) == (2, 1, 1)
    assert summary["estimated_cost"] == 100
    bodies = [send.body for send in here.sendoso.campaign_sends()]
    assert [(body["price_lte_usd"], body["ship_to_country_code"], body["require_approval"]) for body in bodies] == [
        (50, "GB", True),
        (50, "IE", True),
    ]
    assert "2 sends are on hold at sendoso (pending approval: 2)" in run.log.casefold()
    assert "zoe@example.com" not in run.log.casefold()
