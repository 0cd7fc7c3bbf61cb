"""What came of it: the soak's verdict about every recipient, and what must hold beside it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow_provider_sendoso.models import RowOutcome
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sandbox.pace import peak
from cluster.settings import RATE, SHARDS
from soak.ledgers import LedgerDatabase
from soak.recipients import Batch
from soak.verdict import judge

_OPEN = (RowOutcome.HELD, RowOutcome.NOT_REACHED)


def about_recipients(sandbox: Sandbox, url: str, batches: Iterable[Batch]) -> tuple[dict[str, int], list[str]]:
    """
    Compare server and ledger for every recipient.

    :param sandbox: the server.
    :param url: the ledger's.
    :param batches: all DAG runs.
    :return: the counts, and what is wrong.
    """
    verdict = judge(sandbox, LedgerDatabase({}, url), batches)
    wrong = [f"DUPLICATE {text}" for text in verdict.duplicates] + [f"LOST {text}" for text in verdict.lost]
    if verdict.counts["held"]:
        wrong.append(f"LEFT OPEN {verdict.counts['held']} sends are not decided")
    return verdict.counts | {"duplicates": len(verdict.duplicates), "lost": len(verdict.lost)}, wrong


def about_results(batch: Batch, results: Iterable[tuple[dict[str, Any], dict[str, Any] | None]]) -> list[str]:
    """
    Check what the mapped tasks of a DAG run have returned: a green one has counted every row of its own, once.

    :param batch: whom the run has invited.
    :param results: its tasks, with the summary of each.
    """
    wrong = []
    for task, summary in results:
        name = f"RESULT {batch.run_id}[{task['map_index']}], {task['state']} in try {task['try_number']}"
        rows = len(batch.emails[task["map_index"] :: SHARDS])
        if summary is None:
            wrong += [f"{name}: has no summary"] if task["state"] == "success" else []
        elif not sum(summary[outcome] for outcome in RowOutcome) == summary["rows"] == rows:
            wrong.append(f"{name}: {rows} rows, but {summary}")
        elif task["state"] == "success" and any(summary[outcome] for outcome in _OPEN):
            wrong.append(f"{name}: green, but {summary}")
    return wrong


def about_traffic(sandbox: Sandbox, revocations: int) -> tuple[dict[str, int], list[str]]:
    """
    Check the rate and the tokens.

    The rate is checked over ten seconds. Server, Airflow and everything else share the processors of one machine, and
    what is kept from them for a twentieth of a second puts an eleventh request into one: that is shown, not judged.

    :param sandbox: the server.
    :param revocations: how often it has made all tokens invalid.
    :return: the counts, and what is wrong.
    """
    requests = sandbox.requests
    in_ten_seconds = peak(request.received_at / 10 for request in requests)
    granted = sum(request.path == "/oauth/token" and request.status == 200 for request in requests)
    counts = {
        "requests": len(requests),
        "of these list reads": sum(request.method == "GET" and request.path == "/api/v3/sends" for request in requests),
        "most in ten sliding seconds": in_ten_seconds,
        "most in a sliding second": peak(request.received_at for request in requests),
        "tokens issued": granted,
        "tokens revoked by a fault": revocations,
    }
    wrong = []
    if in_ten_seconds > 10 * RATE:
        wrong.append(f"RATE {in_ten_seconds} requests in ten seconds; {RATE} are allowed in each")
    if granted > 1 + revocations:
        wrong.append(f"TOKENS {granted} were issued; one, and one after each of {revocations} revocations, would do")
    return counts, wrong
