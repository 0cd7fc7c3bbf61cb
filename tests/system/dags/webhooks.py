"""The DAG of ``test_system_webhooks.py``: a deferred sensor that polls once an hour, unless a webhook wakes it."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG

from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor

with DAG("woken_by_webhook", schedule=None, start_date=datetime(2025, 3, 1, tzinfo=UTC)):
    SendStatusSensor(
        task_id="send",
        send_id="{{ dag_run.conf['send_id'] }}",
        deferrable=True,
        poke_interval=3600,
        sendoso_conn_id="woken_by_webhook",
    )
