"""``python -m cluster``: the cluster, what is done to it, a table, and a failure for every invariant that broke."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from mutants.guards import GUARDS
from mutants.trees import tree_without

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # for the servers that the tests run

_MOST_SHOWN = 20


def main() -> None:
    """Run the cluster."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="of harm")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--json", action="store_true", help="print the figures as a line of JSON")
    parser.add_argument("--keep", action="store_true", help="keep everything that was written, whatever came of it")
    parser.add_argument(
        "--without",
        choices=[guard.name for guard in GUARDS],
        metavar="GUARD",
        help="take out a guard: it must fail then",
    )
    arguments = parser.parse_args()
    guard = next((one for one in GUARDS if one.name == arguments.without), None)
    directory = Path(tempfile.mkdtemp(prefix="cluster-"))
    directory.chmod(0o755)  # PostgreSQL is run by a user of its own
    # Before anything imports Airflow: this process is none of the cluster's, and not of the user's Airflow either.
    os.environ["AIRFLOW_HOME"] = str(directory / "home")
    from cluster.run import Cluster
    from cluster.services import ServiceError

    cluster = Cluster(directory, arguments.seed)
    try:
        with tree_without(guard) if guard else nullcontext() as tree:
            if tree:
                os.environ["PYTHONPATH"] = str(tree)  # of the machines; this process keeps the package whole
            cluster.run(arguments.seconds)
    except ServiceError as error:
        sys.exit(str(error))
    if arguments.json:
        print(json.dumps(cluster.figures))
    else:
        width = max(map(len, cluster.figures))
        print("", *(f"{name:<{width}}  {value}" for name, value in cluster.figures.items()), sep="\n", flush=True)
    for text in cluster.wrong[:_MOST_SHOWN]:
        print(text, flush=True)
    if cluster.wrong or arguments.keep:
        print(f"{len(cluster.wrong)} wrong. Repeat with --seed {arguments.seed}; all that was written: {directory}")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    sys.exit(1 if cluster.wrong else 0)


if __name__ == "__main__":
    main()
