"""The commands, described once: ``python -m airflow_provider_sendoso …``, and ``airflow sendoso …`` where Airflow can.

Imported by every start of Airflow's own command line, so nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.cli.cli_config import CLICommand

DEFAULT_REDIRECT_URI = "http://127.0.0.1:8766/callback"


@dataclass(frozen=True)
class _Option:
    flag: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class _Command:
    name: str
    help: str
    run: Callable[[argparse.Namespace], None]
    options: tuple[_Option, ...]


def _authorize(arguments: argparse.Namespace) -> None:
    from airflow_provider_sendoso.cli.authorize import authorize

    authorize(
        arguments.conn_id,
        scope=arguments.scope,
        redirect_uri=arguments.redirect_uri,
        paste=arguments.paste,
        store=not arguments.no_store,
        timeout=arguments.timeout,
    )


def _revoke(arguments: argparse.Namespace) -> None:
    from airflow_provider_sendoso.hooks.sendoso import SendosoHook

    revoked = SendosoHook(arguments.conn_id).revoke_tokens()
    print(f"{revoked} tokens revoked and forgotten." if revoked else "There was no token to revoke.")


_CONN_ID = _Option("--conn-id", {"default": "sendoso_default", "help": "the Sendoso connection (%(default)s)"})

COMMANDS = (
    _Command(
        "authorize",
        "let a person authorise the connection, and store the refresh token that comes of it",
        _authorize,
        (
            _CONN_ID,
            _Option("--scope", {"help": "OAuth scopes, space-separated (the connection's, or 'public write')"}),
            _Option(
                "--redirect-uri",
                {"default": DEFAULT_REDIRECT_URI, "help": "as registered with Sendoso (%(default)s)"},
            ),
            _Option("--paste", {"action": "store_true", "help": "paste the code instead of listening for it"}),
            _Option(
                "--no-store",
                {"action": "store_true", "help": "need no ledger: print the connection as JSON, secrets included"},
            ),
            _Option("--timeout", {"type": float, "default": 300.0, "help": "seconds to wait (%(default)s)"}),
        ),
    ),
    _Command("revoke", "revoke the stored tokens, and forget them", _revoke, (_CONN_ID,)),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run a command.

    :param arguments: the command line, without the program's name.
    """
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_sendoso", description="Commands of the Sendoso provider for Apache Airflow."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in COMMANDS:
        sub = commands.add_parser(command.name, help=command.help, description=command.help)
        for option in command.options:
            sub.add_argument(option.flag, **option.settings)
        sub.set_defaults(run=command.run)
    parsed = parser.parse_args(arguments)
    _run(parsed.run, parsed)


def get_cli_commands() -> list[CLICommand]:
    """Return the commands for Airflow's own command line."""
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

    return [
        GroupCommand(
            name="sendoso",
            help="Authorise the Sendoso provider",
            subcommands=[
                ActionCommand(
                    name=command.name,
                    help=command.help,
                    func=lambda parsed, run=command.run: _run(run, parsed),
                    args=tuple(
                        Arg((option.flag,), **option.settings)  # type: ignore[no-untyped-call]
                        for option in command.options
                    ),
                )
                for command in COMMANDS
            ],
        )
    ]


def _run(run: Callable[[argparse.Namespace], None], parsed: argparse.Namespace) -> None:
    from airflow.providers.common.compat.sdk import AirflowException

    try:
        run(parsed)
    except AirflowException as error:
        sys.exit(f"{type(error).__name__}: {error}")
