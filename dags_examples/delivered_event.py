"""
A DAG that starts when gifts have been delivered, whoever has sent them; on Airflow 3.

It has no schedule of its own: the triggerer asks Sendoso every five minutes which sends have been delivered, and each
time there are some, the DAG runs and knows their ids. What was delivered before starts nothing.

Set the connection ``sendoso_default`` (client ID and client secret), and before Airflow 3.3 also ``sendoso_ledger`` (a
PostgreSQL or MySQL database, or a SQLite file for a single machine); unpause the DAG. On Airflow 2.11, which has no
watchers, there is none: use a sensor, as ``new_campaign.py`` does.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

try:
    from airflow.sdk import Asset, AssetWatcher
except ImportError:  # Airflow 2 has no watchers
    AssetWatcher = None  # type: ignore[assignment, misc]

SECONDS = float(os.environ.get("SENDOSO_POKE_INTERVAL", "300"))

if AssetWatcher is not None:
    # Not from ``triggers.sendoso``, which brings what only the triggerer needs.
    from airflow_provider_sendoso.triggers.events import SendosoEventTrigger

    delivered = SendosoEventTrigger(
        object="sends", events=["status_changed"], statuses=["delivered"], poke_interval=SECONDS
    )

    with DAG(
        dag_id="delivered_event",
        schedule=[Asset("gifts_delivered", watchers=[AssetWatcher(name="delivered", trigger=delivered)])],
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        tags=["sendoso"],
        doc_md=__doc__,
    ):

        @task
        def follow_up(**context: Any) -> list[str]:
            """Do what should follow: write to the sender, set a reminder in the CRM, …"""
            happened = [event for events in context["triggering_asset_events"].values() for event in events]
            # At least once: after a restart of the triggerer the same send may be named again.
            ids = {event["id"] for each in happened for event in each.extra["payload"]["events"]}
            logging.getLogger(__name__).info("%d gifts were delivered.", len(ids))
            return sorted(ids)

        follow_up()
