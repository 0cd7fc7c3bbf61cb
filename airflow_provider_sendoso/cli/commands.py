"""The commands of ``python -m airflow_provider_sendoso …`` and, on Airflow 3, ``airflow sendoso …``, defined once.

Every start of Airflow's command line imports this module, so it imports nothing heavy before a command runs.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_sendoso import DEFAULT_CONN_ID

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


@dataclass(frozen=True)
class _Group:
    name: str
    help: str
    commands: tuple[_Command | _Group, ...]


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
    from airflow_provider_sendoso.cli.authorize import revoke

    revoke(arguments.conn_id)


def _list(arguments: argparse.Namespace) -> None:
    from airflow_provider_sendoso.cli.ledger import list_sends

    list_sends(
        arguments.conn_id,
        dedupe_scope=arguments.scope,
        batch_id=arguments.batch,
        states=arguments.state,
        reason=arguments.reason,
        limit=arguments.limit,
        as_json=arguments.json,
    )


def _show(arguments: argparse.Namespace) -> None:
    from airflow_provider_sendoso.cli.ledger import show

    show(
        arguments.conn_id,
        send_key=arguments.send_key,
        send_id=arguments.send_id,
        recipient=arguments.recipient,
        dedupe_scope=arguments.scope,
        as_json=arguments.json,
    )


def _resolve(arguments: argparse.Namespace) -> None:
    from airflow_provider_sendoso.cli.ledger import resolve

    resolve(
        arguments.conn_id,
        send_keys=arguments.send_key or (),
        recipients=arguments.recipient or (),
        batch_id=arguments.batch,
        dedupe_scope=arguments.scope,
        reason=arguments.reason,
        states=arguments.state,
        sent=arguments.sent,
        not_sent=arguments.not_sent,
        send_id=arguments.send_id,
        why=arguments.why,
        by=arguments.by,
        yes=arguments.yes,
    )


def _scopes(arguments: argparse.Namespace) -> None:
    from airflow_provider_sendoso.cli.ledger import list_scopes

    list_scopes(arguments.conn_id, as_json=arguments.json)


def _budget(arguments: argparse.Namespace) -> None:
    from airflow_provider_sendoso.cli.ledger import budget

    budget(arguments.conn_id, dedupe_scope=arguments.scope, as_json=arguments.json)


def _check(arguments: argparse.Namespace) -> None:
    from airflow_provider_sendoso.cli.check import check

    check(arguments.conn_id)


def _examples(arguments: argparse.Namespace) -> None:
    from airflow_provider_sendoso.cli.examples import examples

    examples(arguments.copy_to, arguments.only, overwrite=arguments.overwrite)


def _webhooks(arguments: argparse.Namespace) -> None:
    from airflow_provider_sendoso.webhooks.server import serve

    serve(arguments.host, arguments.port, partial(print, flush=True))


def _copy(arguments: argparse.Namespace) -> None:
    from airflow_provider_sendoso.cli.ledger import copy

    copy(arguments.source, arguments.target)


def _ddl(arguments: argparse.Namespace) -> None:
    from airflow_provider_sendoso.cli.ledger import print_ddl

    # Airflow's options have no ``const``: an option given without a value is None here, and one not given is "".
    role = "sendoso" if arguments.grants is None else arguments.grants
    print_ddl(arguments.dialect, role or None)


_CONN_ID = _Option("--conn-id", {"default": DEFAULT_CONN_ID, "help": "the Sendoso connection (%(default)s)"})
_JSON = _Option("--json", {"action": "store_true", "help": "print JSON, for a program to read"})

COMMANDS: tuple[_Command | _Group, ...] = (
    _Command(
        "check",
        "say whether a connection can send: its ledger, token, scopes, account and rate; sends nothing",
        _check,
        (_CONN_ID,),
    ),
    _Command(
        "examples",
        "list the example DAGs, or copy them into a folder",
        _examples,
        (
            _Option("--copy-to", {"metavar": "FOLDER", "help": "where Airflow finds DAGs; without it they are listed"}),
            _Option("--only", {"nargs": "+", "metavar": "NAME", "help": "these alone"}),
            _Option("--overwrite", {"action": "store_true", "help": "replace files that you have changed"}),
        ),
    ),
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
    _Command(
        "webhooks",
        "receive Sendoso's webhooks, where Airflow's API server does not",
        _webhooks,
        (
            _Option("--host", {"default": "127.0.0.1", "help": "the interface to listen on (%(default)s)"}),
            _Option("--port", {"type": int, "default": 8767, "help": "the port; 0 takes any (%(default)s)"}),
        ),
    ),
    _Command("revoke", "revoke the stored tokens, and forget them", _revoke, (_CONN_ID,)),
    _Group(
        "ledger",
        "look at sends whose outcome is not known, and decide about them",
        (
            _Command(
                "list",
                "list the sends whose outcome is not known, or those in other states",
                _list,
                (
                    _CONN_ID,
                    _Option("--scope", {"help": "only those of a dedupe_scope"}),
                    _Option("--batch", {"help": "only those of a batch_id"}),
                    _Option("--state", {"nargs": "+", "help": "the states, like sent or refused (unknown held)"}),
                    _Option("--reason", {"help": "only those with this reason, like http_500"}),
                    _Option("--limit", {"type": int, "default": 100, "help": "how many to show (%(default)s)"}),
                    _JSON,
                ),
            ),
            _Command(
                "scopes",
                "list the dedupe_scopes of the account, and how many sends of each are in which state",
                _scopes,
                (_CONN_ID, _JSON),
            ),
            _Command(
                "budget",
                "show what was spent and reserved of the limits on sends and cost, and what is left",
                _budget,
                (_CONN_ID, _Option("--scope", {"help": "only this dedupe_scope, whether it is limited or not"}), _JSON),
            ),
            _Command(
                "show",
                "show all that is known of a send, and what was decided about it",
                _show,
                (
                    _CONN_ID,
                    _Option("--send-key", {"help": "its key, or the first 8 or more digits of it"}),
                    _Option("--send-id", {"help": "its id at Sendoso"}),
                    _Option("--recipient", {"help": "who it is for, as in the rows (an e-mail, say); is only hashed"}),
                    _Option("--scope", {"help": "the recipient's dedupe_scope (all of the account)"}),
                    _JSON,
                ),
            ),
            _Command(
                "resolve",
                "record what you have found out about sends: they were sent, or they were not and are sent again",
                _resolve,
                (
                    _CONN_ID,
                    _Option("--send-key", {"action": "append", "help": "a send; may be given several times"}),
                    _Option(
                        "--recipient", {"action": "append", "help": "a send of --scope; may be given several times"}
                    ),
                    _Option("--batch", {"help": "all that is open in a batch_id"}),
                    _Option("--scope", {"help": "all that is open in a dedupe_scope, or the --recipient's"}),
                    _Option("--reason", {"help": "of a batch or a scope only those with this reason"}),
                    _Option("--state", {"nargs": "+", "help": "of a batch or a scope those that are, say, refused"}),
                    _Option("--sent", {"action": "store_true", "help": "the gift is there"}),
                    _Option("--not-sent", {"action": "store_true", "help": "it is not: the next run sends it again"}),
                    _Option("--send-id", {"help": "Sendoso's id of the one gift that is there"}),
                    _Option("--why", {"required": True, "help": "how you know; is recorded, so name nobody"}),
                    _Option("--by", {"help": "who you are; is recorded (the user of the operating system)"}),
                    _Option("--yes", {"action": "store_true", "help": "do not ask before a whole batch or scope"}),
                ),
            ),
            _Command(
                "copy",
                "move a ledger to another database or bucket; nothing may be sending meanwhile",
                _copy,
                (
                    _Option("--from", {"dest": "source", "required": True, "help": "the ledger's connection now"}),
                    _Option("--to", {"dest": "target", "required": True, "help": "the connection of its new place"}),
                ),
            ),
            _Command(
                "ddl",
                "print the statements that make a ledger, or the rights that it needs, for a DBA",
                _ddl,
                (
                    _Option("--dialect", {"required": True, "help": "postgresql, mysql or sqlite"}),
                    _Option(
                        "--grants",
                        {
                            "nargs": "?",
                            "default": "",
                            "metavar": "ROLE",
                            "help": "print the rights instead: of the role that runs DAGs (sendoso), of one that "
                            "makes the tables, and of one that reads",
                        },
                    ),
                ),
            ),
        ),
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run a command.

    :param arguments: the command line, without the program's name.
    """
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_sendoso", description="Commands of the Sendoso provider for Apache Airflow."
    )
    _add(parser, COMMANDS)
    parsed = parser.parse_args(arguments)
    _run(parsed.run, parsed)


def get_cli_commands() -> list[CLICommand]:
    """Return the commands for Airflow's own command line."""
    return [_for_airflow(_Group("sendoso", "Authorise the Sendoso provider, and look after its ledger", COMMANDS))]


def _add(parser: argparse.ArgumentParser, commands: Sequence[_Command | _Group]) -> None:
    parsers = parser.add_subparsers(required=True, metavar="command")
    for command in commands:
        sub = parsers.add_parser(command.name, help=command.help, description=command.help)
        if isinstance(command, _Group):
            _add(sub, command.commands)
            continue
        for option in command.options:
            sub.add_argument(option.flag, **option.settings)
        sub.set_defaults(run=command.run)


def _for_airflow(command: _Command | _Group) -> CLICommand:
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

    if isinstance(command, _Group):
        return GroupCommand(command.name, command.help, [_for_airflow(sub) for sub in command.commands])
    return ActionCommand(
        name=command.name,
        help=command.help,
        func=lambda parsed: _run(command.run, parsed),
        args=tuple(
            Arg((option.flag,), **option.settings)  # type: ignore[no-untyped-call]
            for option in command.options
        ),
    )


def _run(run: Callable[[argparse.Namespace], None], parsed: argparse.Namespace) -> None:
    from airflow.providers.common.compat.sdk import AirflowException

    # As Airflow's own commands do: without this, Airflow 3 looks for connections in the environment only, and not in
    # the metadata database.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    try:
        with _log_on_stderr(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Airflow's own warnings about how it reads a connection
            run(parsed)
    except AirflowException as error:
        sys.exit(f"{type(error).__name__}: {error}")


class _OnStderr(logging.StreamHandler):  # type: ignore[type-arg]
    """A log handler that writes to stderr."""

    def __init__(self, replaced: logging.Handler) -> None:
        logging.Handler.__init__(self, replaced.level)
        self.formatter, self.filters = replaced.formatter, replaced.filters

    @property
    def stream(self) -> Any:
        """The current ``sys.stderr``, looked up for each record, as Airflow 2's handler looks up stdout."""
        return sys.stderr


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Redirect Airflow's log from stdout to stderr, because a program may read the command's answer from stdout."""
    # Airflow 2 logs every connection lookup.
    logging.getLogger("airflow.hooks").setLevel(logging.WARNING)
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers[:] = [
        _OnStderr(handler) if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout else handler
        for handler in before
    ]
    try:
        yield
    finally:
        root.handlers[:] = before
