"""What the README says is what works: its DAGs parse, and its connections are understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from airflow_provider_sendoso.hooks.sendoso import SendosoHook

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
DAGS = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
EXPORTS = re.findall(r"^export (AIRFLOW_CONN_\w+=.*)$", README, re.M)


def test_there_is_something_to_test():
    assert (len(DAGS), len(EXPORTS)) == (3, 5)


@pytest.mark.parametrize("source", DAGS)
def test_a_dag_parses_and_has_its_tasks(source: str):
    # The DAG's name is not kept in the block; its context manager is.
    names: dict[str, object] = {}
    exec(compile(source.replace("):\n", ") as dag:\n", 1), "README.md", "exec"), names)
    assert {"gifts", "arrived"} & set(names["dag"].task_ids) or "thank" in names["dag"].task_ids


@pytest.mark.parametrize("line", EXPORTS)
def test_a_connection_is_understood(line: str, monkeypatch: pytest.MonkeyPatch):
    name, value = shlex.split(line)[0].split("=", 1)
    monkeypatch.setenv(name, value)
    conn_id = name.removeprefix("AIRFLOW_CONN_").lower()
    if conn_id == "sendoso_default":
        config = SendosoHook(conn_id).config
        assert (config.base_url, config.client_id) == ("https://app.sendoso.com", "CLIENT_ID")
    else:
        assert SendosoHook.get_connection(conn_id).conn_type in ("postgres", "mysql", "sqlite")
