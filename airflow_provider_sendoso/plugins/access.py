"""Who asks, and what Airflow lets them see and decide. All questions to Airflow's own database are here."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import ConnectionDetails
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.configuration import conf
from airflow.models import Connection, DagModel, TaskInstance
from airflow.models.taskinstancehistory import TaskInstanceHistory
from airflow.utils.session import create_session
from fastapi import HTTPException

from airflow_provider_sendoso.ledger.overview import Ran, Readable

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

READS_DAGS = requires_access_dag("GET")
"""What every route depends on: a login, and the right to see DAGs; that DAG, if the address names a ``dag_id``."""


@dataclass(frozen=True)
class Try:
    """
    One try of a task instance.

    :param number: from 1.
    :param state: Airflow's word; ``None`` if it has not begun.
    """

    number: int
    state: str | None


@dataclass
class Viewer:
    """
    Who asks, and what Airflow lets them do. It asks Airflow each thing once, so it lives as long as one request.

    :param user: as Airflow's auth manager knows them.
    :param since: when they asked, on the monotonic clock.
    """

    user: BaseUser
    since: float = field(default_factory=time.monotonic)
    _connections: dict[tuple[str, str], bool] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name that a decision is recorded with."""
        return str(self.user.get_name())

    @cached_property
    def readable_dags(self) -> frozenset[str]:
        """The DAGs that they may see."""
        return frozenset(get_auth_manager().get_authorized_dag_ids(user=self.user, method="GET"))

    @cached_property
    def editable_dags(self) -> frozenset[str]:
        """The DAGs that they may edit, about whose sends they may decide."""
        return frozenset(get_auth_manager().get_authorized_dag_ids(user=self.user, method="PUT"))

    @cached_property
    def _all_dags(self) -> frozenset[str]:
        with create_session() as session:
            return frozenset(str(dag_id) for (dag_id,) in session.query(DagModel.dag_id))

    def may(self, method: Literal["GET", "POST", "PUT"], conn_id: str) -> bool:
        """
        Return whether Airflow lets them do something with a connection.

        :param method: ``GET`` to see it, ``POST`` to test it, ``PUT`` to change it.
        :param conn_id: the connection.
        """
        if (method, conn_id) not in self._connections:
            details = ConnectionDetails(conn_id=conn_id, team_name=team_of(conn_id))
            self._connections[method, conn_id] = get_auth_manager().is_authorized_connection(
                method=method, details=details, user=self.user
            )
        return self._connections[method, conn_id]

    def readable(self, conn_id: str) -> Readable | None:
        """
        Return the DAGs whose sends through a connection they may see.

        Who may see the connection sees the sends of DAGs, too, that Airflow does not have any more.

        :param conn_id: the connection.
        :return: ``None`` if the connection is another team's, so that they may see nothing of it.
        """
        if self.may("GET", conn_id):
            return Readable(hidden=self._all_dags - self.readable_dags)
        return None if team_of(conn_id) is not None else Readable(dag_ids=self.readable_dags)

    def may_decide(self, dag_id: str, conn_id: str) -> bool:
        """
        Return whether they may decide about the sends of a DAG.

        :param dag_id: the DAG.
        :param conn_id: the connection that it sent through, which decides if Airflow does not have the DAG any more.
        """
        return dag_id in self.editable_dags or (dag_id not in self._all_dags and self.may("PUT", conn_id))


def viewer(user: GetUserDep) -> Viewer:
    """
    Return who asks.

    :param user: found by Airflow's own dependency.
    :raises HTTPException: 401 without a login.
    """
    return Viewer(user)


def team_of(conn_id: str) -> str | None:
    """
    Return the team that a connection belongs to; ``None`` if it belongs to none, or there are no teams.

    :param conn_id: the connection.
    """
    get_team_name: Any = getattr(Connection, "get_team_name", None)  # since Airflow 3.2
    return get_team_name(conn_id) if get_team_name is not None else None


def may_test_connections() -> bool:
    """Return whether ``[core] test_connection`` is enabled."""
    return bool(conf.get("core", "test_connection", fallback="Disabled").strip().lower() == "enabled")


def sendoso_connections() -> list[str]:
    """Return the ids of the connections of type ``sendoso`` in Airflow's database."""
    with create_session() as session:
        found = session.query(Connection.conn_id).filter(Connection.conn_type == "sendoso")
        return sorted(str(conn_id) for (conn_id,) in found)


def tries_of(batches: Iterable[Ran]) -> dict[str, list[Try]]:
    """
    Read the tries of some batches' task instances.

    :param batches: a page of them.
    :return: by batch id, in order; none of a task instance that Airflow does not have any more.
    """
    found: dict[str, list[Try]] = {}
    with create_session() as session:
        for ran in batches:
            tries: dict[int, str | None] = {}
            # The history has the tries that have ended, the other table the present one.
            for table in (TaskInstanceHistory, TaskInstance):
                rows = session.query(table.try_number, table.state).filter(
                    table.dag_id == ran.dag_id,
                    table.task_id == ran.task_id,
                    table.run_id == ran.run_id,
                    table.map_index == ran.map_index,
                )
                tries |= {number: None if state is None else str(state) for number, state in rows if number}
            found[ran.batch_id] = [Try(number, tries[number]) for number in sorted(tries)]
    return found


def refuse(why: str) -> HTTPException:
    """
    Make the error of somebody who may not do something.

    :param why: in a sentence.
    """
    return HTTPException(403, why)
