"""Which accounts there are to look at: the connections of type ``sendoso`` that this API server can find."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_sendoso import DEFAULT_CONN_ID
from airflow_provider_sendoso.connection_ids import IN_ENVIRONMENT
from airflow_provider_sendoso.exceptions import SendosoError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger import Ledger

_REMEMBERED = 15.0
"""Seconds for which connections are remembered, because a page that is live asks every few seconds."""


@dataclass(frozen=True)
class Account:
    """
    A connection that leads to a ledger.

    :param conn_id: its id.
    :param hook: its hook, whose configuration has been read.
    """

    conn_id: str
    hook: SendosoHook

    @property
    def name(self) -> str:
        """The name under which its sends are in the ledger."""
        return self.hook.config.account

    @property
    def ledger(self) -> Ledger:
        """
        The ledger.

        :raises SendosoError: if there is none, or if it does not answer.
        """
        return self.hook.ledger


@dataclass(frozen=True)
class Found:
    """
    The connections that were found.

    :param accounts: those that can be read, in the order of their ids.
    :param broken: what is wrong with the others, by id.
    """

    accounts: tuple[Account, ...]
    broken: dict[str, str]


class Accounts:
    """
    Finds the accounts, and remembers them for some seconds.

    :param in_database: lists the connections of type ``sendoso`` in Airflow's database.
    """

    def __init__(self, in_database: Callable[[], list[str]]) -> None:
        self._in_database = in_database
        self._found = Found((), {})
        self._until = 0.0
        self._lock = threading.Lock()

    def find(self) -> Found:
        """Return the connections of Airflow's database and of the environment, and the default one wherever it is."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._found = self._look()
                self._until = time.monotonic() + _REMEMBERED
            return self._found

    def _look(self) -> Found:
        given = (name.removeprefix(IN_ENVIRONMENT).lower() for name in os.environ if name.startswith(IN_ENVIRONMENT))
        listed = set(self._in_database())
        accounts: list[Account] = []
        broken: dict[str, str] = {}
        for conn_id in sorted({*listed, *given, DEFAULT_CONN_ID}):
            hook = SendosoHook(conn_id)
            try:
                if conn_id not in listed and hook.get_connection(conn_id).conn_type != hook.conn_type:
                    continue
                _ = hook.config
            except SendosoError as error:
                broken[conn_id] = str(error)
            except Exception:  # noqa: S112 - of the default one: there is none, or another connection cannot be read
                continue
            else:
                accounts.append(Account(conn_id, hook))
        return Found(tuple(accounts), broken)
