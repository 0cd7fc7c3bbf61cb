"""``python -m soak``: the soak on each ledger, its figures, and a failure for every gift too many or too few."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from soak.ledgers import KINDS, ledger_database

_ROOT = Path(__file__).parent.parent
_MOST_SHOWN = 10


def main() -> None:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="of chaos, on each ledger")
    parser.add_argument("--ledger", action="append", choices=KINDS, help="give it once for each")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--json", action="store_true", help="print the figures as a line of JSON for each ledger")
    arguments = parser.parse_args()
    # Before anything imports Airflow, here and in the process that tries are forked from; nothing of the user's own
    # Airflow gets in.
    home = tempfile.mkdtemp(prefix="soak-airflow-")
    for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
        del os.environ[name]
    os.environ |= {
        "AIRFLOW_HOME": home,
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).with_name("dags")),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # Seconds after which a supervisor looks up and notices that its task has ended.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")])),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    good = True
    for kind in arguments.ledger or ["sqlite"]:
        directory = Path(tempfile.mkdtemp(prefix=f"soak-{kind}-"))
        figures, wrong = soak(kind, arguments.seconds, arguments.seed, directory)
        good &= not wrong
        _print(figures, wrong, arguments.json)
        if wrong:
            print(f"Repeat with --seed {arguments.seed}; everything that was written is in {directory}.", flush=True)
        else:
            shutil.rmtree(directory)
    shutil.rmtree(home, ignore_errors=True)
    sys.exit(0 if good else 1)


def soak(kind: str, seconds: float, seed: int, directory: Path) -> tuple[dict[str, Any], list[str]]:
    """
    Run the three phases on an empty ledger.

    :param kind: of the ledger.
    :param seconds: of chaos.
    :param seed: of everything that is left to chance, except for what the machine's own timing decides.
    :param directory: for everything that is written.
    :return: the figures, and what went wrong.
    """
    from airflow_provider_sendoso.sandbox import Sandbox
    from soak.driver import Driver
    from soak.verdict import judge

    with ledger_database(kind, directory) as database, Sandbox(step=0, rate=0) as sandbox:
        driver = Driver(sandbox, database, directory, random.Random(seed))
        try:
            driver.warm_up()
            began = time.monotonic()
            driver.chaos(seconds)
            driver.calm()
            held = sum(run.state == "failed" and run.summary.get("held", 0) > 0 for run in driver.runs)
            driver.settle()
        finally:
            driver.close()
        verdict = judge(sandbox, database, [run.batch for run in driver.runs])
    counts = driver.counts
    figures = {
        "ledger": kind,
        "seed": seed,
        "seconds": round(time.monotonic() - began),
        "batches": len(driver.runs),
        "tries": counts["tries"],
        "tries with a summary": counts["summaries"],
        "kills": counts["task kills"] + counts["supervisor kills"],
        "SIGKILL of the task": counts["task kills"],
        "of these at a crash point": counts["crash points"],
        "SIGKILL of the supervisor": counts["supervisor kills"],
        "SIGTERM": counts["terms"],
        "SIGSTOP": counts["stops"],
        "of these beyond the lease": counts["stops beyond the lease"],
        "faults": counts["faults"],
        "outages": counts["outages"],
        "batches with held sends after the calm": held,
        **verdict.counts,
        "rows that were capped": sum(run.summary.get("capped", 0) for run in driver.runs),
        "duplicates": len(verdict.duplicates),
        "limits passed": len(verdict.passed),
        "lost": len(verdict.lost) + len(driver.wrong),
    }
    unfinished = [f"{run.batch.run_id} has not ended: {run}" for run in driver.runs if not run.done]
    wrong = [f"DUPLICATE {text}" for text in verdict.duplicates]
    wrong += [f"LIMIT {text}" for text in verdict.passed]
    wrong += [f"LOST {text}" for text in verdict.lost + driver.wrong] + unfinished
    return figures, wrong


def _print(figures: dict[str, Any], wrong: list[str], as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures), flush=True)
    else:
        width = max(map(len, figures))
        print("\n".join(f"{name:<{width}}  {value}" for name, value in figures.items()), end="\n\n", flush=True)
    for text in wrong[:_MOST_SHOWN]:
        print(text, flush=True)
    if len(wrong) > _MOST_SHOWN:
        print(f"… and {len(wrong) - _MOST_SHOWN} more.", flush=True)


if __name__ == "__main__":
    main()
