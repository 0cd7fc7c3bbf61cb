"""docs/howto/: what its pages say is done is done here."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS

from airflow_provider_sendoso.exceptions import SendHeldError, SendosoLimitError

HOWTO = Path(__file__).parents[2] / "docs" / "howto"


def blocks(page: str, language: str) -> list[str]:
    text = (HOWTO / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


@pytest.mark.slow
@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="the page shows the import of Airflow 3.1 and newer")
def test_the_job_of_the_page_on_ci_passes_as_it_is(tmp_path: Path) -> None:
    dag, test = blocks("ci", "python")
    (job,) = blocks("ci", "shell")
    for name, text in (("dags/q4_gifts.py", dag), ("tests/test_q4_gifts.py", test)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTEST"))}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-e"], input=job, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    (shown,) = blocks("ci", "text")
    lines = [re.escape(line.strip("= ")).replace("…", ".*") for line in shown.splitlines() if line]
    assert re.search(".*".join(lines), done.stdout, re.S), done.stdout[-3000:]


def test_slack_is_told_of_what_is_held_and_of_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks("slack", "python")
    if not AIRFLOW_V_3_0_PLUS:
        code = code.replace("from airflow.sdk import", "from airflow.providers.common.compat.sdk import")
    page: dict[str, Any] = {}
    exec(compile(code, "slack.md", "exec"), page)
    told: list[tuple[str, str]] = []
    answer = SimpleNamespace(raise_for_status=lambda: None)
    monkeypatch.setattr("requests.post", lambda url, json, timeout: told.append((url, json["text"])) or answer)
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_WEBHOOK", '{"conn_type": "http", "password": "https://hooks.example/T1"}')
    ti = SimpleNamespace(dag_id="q4_gifts", task_id="send_gifts", run_id="manual__1", log_url="https://airflow/log")
    page["tell_slack"]({"ti": ti, "exception": SendosoLimitError("max_sends is 3.")})
    assert told == []
    page["tell_slack"]({"ti": ti, "exception": SendHeldError("1 send is held.")})
    text = "q4_gifts.send_gifts of manual__1: 1 send is held.\nhttps://airflow/log"
    assert told == [("https://hooks.example/T1", text)]


def test_the_queries_say_who_got_what_and_who_got_nothing() -> None:
    got, without = blocks("who_got_what", "sql")
    with sqlite3.connect(":memory:") as warehouse:
        warehouse.execute("CREATE TABLE champions (customer_id, email)")
        people = [("C-1", "ada@example.com"), ("C-2", "grace@example.com"), ("C-3", "hina"), ("C-4", "new@example.com")]
        warehouse.executemany("INSERT INTO champions VALUES (?, ?)", people)
        columns = "dedupe_scope, run_id, row_ref, gift_id, outcome, field, reason, sent_at, status"
        warehouse.execute(f"CREATE TABLE sendoso_results ({columns})")
        rows = [
            ("q4-champions", "1", "C-1", "gift-mug", "sent", None, None, "2026-11-02", "delivered"),
            ("q4-champions", "1", "C-3", "gift-mug", "invalid", "email", "is malformed", None, None),
            ("q4-champions", "2", "C-1", "gift-mug", "already_sent", None, None, "2026-11-02", "delivered"),
            ("q4-champions", "2", "C-2", "gift-mug", "sent", None, None, "2026-11-09", "pending"),
            ("q4-champions", "2", "C-3", "gift-mug", "invalid", "email", "is malformed", None, None),
            ("spring", "3", "C-1", "gift-book", "sent", None, None, "2026-03-01", "returned"),
        ]
        warehouse.executemany(f"INSERT INTO sendoso_results VALUES ({', '.join('?' * 9)})", rows)
        assert warehouse.execute(got).fetchall() == [
            ("spring", "gift-book", "2026-03-01", "returned"),
            ("q4-champions", "gift-mug", "2026-11-02", "delivered"),
        ]
        assert warehouse.execute(without).fetchall() == [
            ("C-3", "invalid", "email", "is malformed"),
            ("C-4", None, None, None),
        ]
