"""A real task reports to a real statsd, a collector of traces, and OpenLineage; none of them can make it fail."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from airflow_provider_sendoso.sandbox import Sandbox

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not AIRFLOW_V_3_3_PLUS, reason="A task is run by itself as the supervisor of Airflow 3.3 runs it"
    ),
]

RunTask = Callable[..., Any]
SENDS = "/api/v3/sends"
PERSONAL = ("ada@example", "grace@example", "lovelace", "hopper")


def nothing_personal(text: str) -> bool:
    return not any(word in text.casefold() for word in PERSONAL)


@contextmanager
def statsd() -> Iterator[tuple[dict[str, str], Callable[[], list[str]]]]:
    """A statsd on a real UDP socket: the settings that lead to it, and what it has received."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        listening.settimeout(0.2)

        def received() -> list[str]:
            found = []
            while True:
                try:
                    found += listening.recv(65536).decode().splitlines()
                except TimeoutError:
                    return found

        yield (
            {
                "AIRFLOW__METRICS__STATSD_ON": "True",
                "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
                "AIRFLOW__METRICS__STATSD_PORT": str(listening.getsockname()[1]),
                "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
            },
            received,
        )


def ours(lines: list[str]) -> Counter[str]:
    """Our counters with their tags, added up."""
    totals: Counter[str] = Counter()
    for line in lines:
        if match := re.fullmatch(r"airflow\.(sendoso\.[^:]+):(\d+)\|c", line):
            totals[match[1]] += int(match[2])
    return totals


def test_statsd_gets_the_counts_of_a_batch_and_of_a_gift(run_task: RunTask) -> None:
    with statsd() as (settings, received):
        assert run_task("gifts", **settings).state == "success"
        tags = "conn_id=sendoso_default,operator_name=BatchSendOperator,dag_id=observed,task_id=gifts"
        assert ours(received()) == {
            f"sendoso.sends.sent,{tags}": 2,
            f"sendoso.sends.duplicate,{tags}": 1,
            f"sendoso.sends.invalid,{tags}": 1,
        }
        assert run_task("gifts", "run-2", **settings).state == "success"
        assert ours(received()) == {
            f"sendoso.sends.already_sent,{tags}": 2,
            f"sendoso.sends.duplicate,{tags}": 1,
            f"sendoso.sends.invalid,{tags}": 1,
        }
        assert run_task("thank", **settings).state == "success"
        tags = "conn_id=sendoso_default,operator_name=SendGiftOperator,dag_id=observed,task_id=thank"
        assert ours(received()) == {f"sendoso.sends.sent,{tags}": 1}


@pytest.mark.parametrize(
    "settings",
    [
        {"AIRFLOW__METRICS__STATSD_HOST": "no-such-host.invalid"},
        {"AIRFLOW__METRICS__STATSD_CUSTOM_CLIENT_PATH": "tests.observability.broken.BrokenStatsClient"},
    ],
    ids=["not there", "raises"],
)
def test_a_broken_statsd_costs_no_send(run_task: RunTask, sendoso: Sandbox, settings: dict[str, str]) -> None:
    tried = run_task("gifts", AIRFLOW__METRICS__STATSD_ON="True", **settings)
    assert tried.state == "success", tried.log
    assert len(sendoso.sends) == 2
    raises = "AIRFLOW__METRICS__STATSD_CUSTOM_CLIENT_PATH" in settings
    assert tried.log.count("SendMetrics._count failed (ConnectionRefusedError); sends are not affected") == raises
    assert nothing_personal(tried.log)


@contextmanager
def collector() -> Iterator[tuple[dict[str, str], list[Any]]]:
    """A collector of traces that listens on HTTP: the settings that lead to it, and the spans it has received."""
    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            export = ExportTraceServiceRequest.FromString(body)
            spans.extend(
                span for resource in export.resource_spans for scope in resource.scope_spans for span in scope.spans
            )
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    settings = {
        "AIRFLOW__TRACES__OTEL_ON": "True",
        "OTEL_TRACES_EXPORTER": "otlp_proto_http",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
    }
    try:
        yield settings, spans
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def attributes(span: Any) -> dict[str, Any]:
    values = {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}
    return {name: value for name, value in values.items() if name.startswith("sendoso.")}


def test_traces_get_the_parts_of_a_batch_below_the_tasks_span(run_task: RunTask) -> None:
    with collector() as (settings, spans):
        tried = run_task("gifts", **settings)
    assert tried.state == "success", tried.log
    by_name = {span.name: span for span in spans}
    parents = {span.name: parent.name for span in spans for parent in spans if span.parent_span_id == parent.span_id}
    assert parents["sendoso.batch"] == "worker.gifts"
    assert parents["sendoso.read"] == parents["sendoso.send"] == "sendoso.batch"
    assert attributes(by_name["sendoso.batch"]) == {
        "sendoso.batch_id": tried.xcom["batch_id"],
        "sendoso.conn_id": "sendoso_default",
        "sendoso.rows": 4,
        "sendoso.sent": 2,
        "sendoso.duplicate": 1,
        "sendoso.invalid": 1,
        **dict.fromkeys(
            [f"sendoso.{name}" for name in ("already_sent", "refused", "held", "capped", "not_reached")], 0
        ),
    }
    assert nothing_personal(str([span for span in spans if span.name.startswith("sendoso.")]))


def test_the_span_of_a_failed_part_has_the_class_of_the_error_and_nothing_else(
    run_task: RunTask, sendoso: Sandbox
) -> None:
    sendoso.fault("status", times=10**6, method="POST", path=SENDS, status=403, body={"message": "ada@example.com"})
    with collector() as (settings, spans):
        assert run_task("gifts", **settings).state == "failed"
    status = {span.name: (span.status.code, span.status.message) for span in spans}
    assert status["sendoso.send"] == (2, "SendosoAuthError")
    assert nothing_personal(str([span for span in spans if span.name.startswith("sendoso.")]))


def openlineage(log: Path) -> dict[str, str]:
    transport = {"type": "file", "log_file_path": str(log), "append": True}
    return {"AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport), "AIRFLOW__OPENLINEAGE__NAMESPACE": "tests"}


def events(log: Path) -> list[dict[str, Any]]:
    """The task's last events; those of its single queries have jobs of their own."""
    read = [json.loads(line) for line in log.read_text().splitlines()]
    return [event for event in read if event["job"]["name"] == "observed.gifts"]


def test_openlineage_gets_the_table_that_was_read_and_where_the_gifts_went(run_task: RunTask, tmp_path: Path) -> None:
    log = tmp_path / "lineage.jsonl"
    tried = run_task("gifts", **openlineage(log))
    assert tried.state == "success", tried.log
    complete = next(event for event in events(log) if event["eventType"] == "COMPLETE")
    (source,) = complete["inputs"]
    assert source["name"].endswith("public.champions")
    assert source["namespace"].startswith("postgres://")
    (target,) = complete["outputs"]
    assert (target["namespace"], target["name"]) == ("sendoso://127.0.0.1", "q4 champions")
    assert target["outputFacets"]["outputStatistics"]["rowCount"] == 2
    assert complete["job"]["facets"]["sql"]["query"] == "SELECT * FROM champions"
    assert nothing_personal(log.read_text())


TASKS = {"asked", "listed", "thank", "links", "arrived", "new", "resolve", "land"}


@pytest.mark.parametrize("settings", [{}, {"AIRFLOW__OPENLINEAGE__INCLUDE_FULL_TASK_INFO": "True"}], ids=["", "full"])
def test_no_event_of_any_task_has_personal_data(
    run_task: RunTask, sendoso: Sandbox, tmp_path: Path, settings: dict[str, str]
) -> None:
    log = tmp_path / "lineage.jsonl"
    for task_id in sorted(TASKS):
        run_task(task_id, **openlineage(log), **settings)
    sendoso.fault("drop_before", times=9, method="POST", path=SENDS)
    assert run_task("thank", "run-2", **openlineage(log), **settings).state == "failed"
    seen: dict[str, set[str]] = {}
    for event in map(json.loads, log.read_text().splitlines()):
        seen.setdefault(event["job"]["name"].removeprefix("observed."), set()).add(event["eventType"])
    assert {task for task, kinds in seen.items() if "START" in kinds and len(kinds) > 1} >= TASKS
    assert {"START", "COMPLETE", "FAIL"} == seen["thank"]
    assert [line for line in log.read_text().splitlines() if not nothing_personal(line)] == []


def test_openlineage_gets_what_a_failed_try_has_sent(run_task: RunTask, sendoso: Sandbox, tmp_path: Path) -> None:
    sendoso.fault("drop_before", method="POST", path=SENDS)
    log = tmp_path / "lineage.jsonl"
    assert run_task("gifts", **openlineage(log)).state == "failed"
    failed = next(event for event in events(log) if event["eventType"] == "FAIL")
    assert [output["outputFacets"]["outputStatistics"]["rowCount"] for output in failed["outputs"]] == [1]


def test_an_openlineage_that_cannot_be_reached_costs_no_send(run_task: RunTask, sendoso: Sandbox) -> None:
    transport = {"type": "http", "url": "http://127.0.0.1:9", "timeout": 1, "retry": {"total": 0}}
    tried = run_task("gifts", AIRFLOW__OPENLINEAGE__TRANSPORT=json.dumps(transport))
    assert tried.state == "success", tried.log
    assert len(sendoso.sends) == 2
