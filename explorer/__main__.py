"""``python -m explorer``: every schedule of the small cases, then random ones of larger cases."""

from __future__ import annotations

import argparse
import sys
import time


def main() -> None:
    """Explore."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, help="of the processor; by default as many as the small cases need, and 60"
    )
    parser.add_argument("--seed", type=int, help="the first of the random schedules; without --seconds the only one")
    parser.add_argument("--large", action="store_true", help="explore larger cases to the end, too")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--exhaustive", action="store_true", help="no random schedules")
    only.add_argument("--random", action="store_true", help="random schedules alone")
    parser.add_argument("--case", help="only this small case, or this scenario")
    parser.add_argument(
        "--choices", help="with --case: exactly the schedule with these choices, as a story prints them"
    )
    parser.add_argument("--stop-at-first", action="store_true", help="end at the first broken invariant")
    parser.add_argument("--package-path", help="a directory with the package to explore, instead of the installed one")
    arguments = parser.parse_args()
    if arguments.package_path:
        sys.path.insert(0, arguments.package_path)
    from explorer.command import run

    sys.setrecursionlimit(5000)
    began = time.monotonic()
    good = run(arguments)
    print(f"{time.monotonic() - began:.0f} s in all.", flush=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
