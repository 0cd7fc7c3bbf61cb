"""Run the sandbox from a shell: ``python -m airflow_provider_sendoso.sandbox``."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from airflow_provider_sendoso.sandbox.connection import export_line
from airflow_provider_sendoso.sandbox.server import Sandbox
from airflow_provider_sendoso.sandbox.webhooks import SECRET


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Serve until SIGINT or SIGTERM.

    :param arguments: the command line, without the program's name
    """
    options = vars(_parser().parse_args(arguments))
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with Sandbox(**options) as sandbox:
            print(f"Sendoso sandbox on {sandbox.url}")
            print(
                export_line(sandbox.url, options["client_id"], options["client_secret"]),
                flush=True,
            )
            stop.wait()
    except (OSError, ValueError) as error:
        sys.exit(f"The sandbox cannot start: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_sendoso.sandbox",
        description="A local stand-in for Sendoso's API, to try DAGs against. Nothing is sent to anyone.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="interface to listen on")
    parser.add_argument("--port", type=int, default=8765, help="0 takes any that is free")
    parser.add_argument("--step", type=_duration, default=5.0, help="seconds from one status to the next")
    parser.add_argument("--rate", type=_count, default=10, help="requests a second per client, 0 for no limit")
    parser.add_argument(
        "--marketplace-rate",
        type=_count,
        default=100,
        help="requests a minute per client to the marketplace and SmartSend, 0 for no limit",
    )
    parser.add_argument(
        "--state", type=Path, metavar="FILE", default=argparse.SUPPRESS, help="remember the sends in this file"
    )
    parser.add_argument("--client-id", default="sandbox", help="the connection's login")
    parser.add_argument("--client-secret", default="sandbox", help="the connection's password")
    parser.add_argument("--token-lifetime", type=_duration, default=7200.0, help="seconds a token is valid")
    parser.add_argument(
        "--webhook-url", default=argparse.SUPPRESS, metavar="URL", help="post a webhook there when a send changes"
    )
    parser.add_argument("--webhook-secret", default=SECRET, help="what webhooks are signed with")
    return parser


def _duration(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds from 0")
    return seconds


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0")
    return number


if __name__ == "__main__":
    main()
