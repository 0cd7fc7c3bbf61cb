"""
What it costs to parse a DAG that uses this provider, against the same DAG with empty operators.

Twice: as Airflow 3's DAG processor does it, every ``min_file_process_interval`` for every file (a fork of a process
that has Airflow loaded reads the file and serialises its DAG), and as a process of its own, like ``python dag.py``,
where Airflow's own imports are most of it.

Run it with ``python benchmarks/parse.py``; ``--runs`` says how many of each, taken in turns. What is counted is CPU
time, which holds on a machine that has other work to do.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

EMPTY = """
from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator

with DAG("empty", schedule=None):
    EmptyOperator(task_id="gifts") >> EmptyOperator(task_id="arrived")
"""

GIFTS = """
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor

with DAG("gifts", schedule=None):
    gifts = BatchSendOperator(
        task_id="gifts",
        sql="SELECT * FROM champions",
        conn_id="warehouse",
        gift_id="gift-mug",
        message="Thank you, {first_name}.",
        dedupe_scope="q4",
    )
    arrived = SendStatusSensor(task_id="arrived", dedupe_scope="q4", deferrable=True)
    gifts >> arrived
"""


def in_the_dag_processor(path: Path) -> float:
    """Fork a child that parses the file as the DAG processor's does; return its CPU seconds."""
    from airflow.dag_processing import processor

    log = logging.getLogger(__name__)
    # The processor imports what a file wants of Airflow before it forks; this provider is not part of that.
    processor._pre_import_airflow_modules(str(path), log)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        request = processor.DagFileParseRequest(file=str(path), bundle_path=path.parent, bundle_name="benchmark")
        start = time.process_time()
        result = processor._parse_file(request, log)
        taken = time.process_time() - start
        done = result is not None and len(result.serialized_dags) == 1 and not result.import_errors
        os.write(writing, f"{taken if done else -1}".encode())
        os._exit(0)
    os.close(writing)
    taken = float(os.read(reading, 100))
    os.close(reading)
    os.waitpid(child, 0)
    assert taken > 0, f"{path} does not parse"
    return taken


def in_its_own_process(path: Path) -> float:
    """Run the file with a Python of its own; return its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-W", "ignore", str(path)], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare(what: str, parse: Callable[[Path], float], empty: Path, gifts: Path, runs: int) -> None:
    parse(empty), parse(gifts)  # compiles, and warms the file cache
    taken: dict[Path, list[float]] = {empty: [], gifts: []}
    for _ in range(runs):
        for path, seconds in taken.items():
            seconds.append(parse(path))
    cells = [what]
    for of in (min, statistics.median):
        base, ours = (1000 * of(seconds) for seconds in taken.values())
        cells += [f"{base:.0f}", f"{ours:.0f}", f"{ours / base:.2f}"]
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30, help="of each file (30)")
    runs = parser.parse_args().runs
    home = tempfile.mkdtemp(prefix="parse-")
    os.environ |= {"AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    empty, gifts = Path(home, "empty_dag.py"), Path(home, "gifts_dag.py")
    empty.write_text(EMPTY)
    gifts.write_text(GIFTS)
    print("| | empty, least ms | ours | ratio | empty, median ms | ours | ratio |")
    print("|---|---|---|---|---|---|---|")
    compare("the DAG processor", in_the_dag_processor, empty, gifts, runs)
    compare("a process of its own", in_its_own_process, empty, gifts, max(3, runs // 5))


if __name__ == "__main__":
    main()
