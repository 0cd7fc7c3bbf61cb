"""The pages in an API server of their own: Airflow's real auth manager and database, and a real ledger."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS
from buckets import SQLITE_OR_BUCKET, small_ledger

sys.path.insert(0, str(Path(__file__).parent))
from pages_airflow import DAG, TEAM, THEIR_DAG

if not AIRFLOW_V_3_1_PLUS:
    collect_ignore_glob = ["test_pages*"]


@dataclass
class Somebody:
    """A client of the API server with somebody's login."""

    client: Any
    root: str = ""

    def get(self, path: str, **options: Any) -> Any:
        return self.client.get(f"{self.root}/sendoso{path}", follow_redirects=False, **options)

    def post(self, path: str, headers: dict[str, str | None] | None = None, **body: Any) -> Any:
        """Post what a page would post; a header that is ``None`` is left out."""
        given: dict[str, str | None] = {"X-Sendoso-Pages": "1", "Sec-Fetch-Site": "same-origin"}
        given |= headers or {}
        sent = {name: value for name, value in given.items() if value is not None}
        return self.client.post(f"{self.root}/sendoso{path}", json=body, headers=sent)


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """Airflow's own database, with a DAG that all may see and one of a team."""
    from airflow.models import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.team import Team
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session

    initdb()
    with create_session() as session:
        team = Team(name=TEAM)
        theirs = DagBundleModel(name="theirs")
        theirs.teams.append(team)
        session.add_all([team, theirs, DagBundleModel(name="ours")])
        session.flush()
        for dag_id, bundle in ((DAG, "ours"), (THEIR_DAG, "theirs")):
            of_file = {"fileloc": "dag.py", "relative_fileloc": "dag.py"}
            session.add(DagModel(dag_id=dag_id, bundle_name=bundle, is_paused=False, **of_file))


@pytest.fixture
def login(airflow_database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Somebody]]:
    """Makes a client with the login of a role: ``login("viewer")``; ``login(None)`` has none."""
    from airflow.api_fastapi import app as airflow_app
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.auth.middlewares.refresh_token import JWTRefreshMiddleware
    from fastapi import FastAPI
    from starlette.testclient import TestClient

    from airflow_provider_sendoso.plugins.sendoso import PREFIX, pages

    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "0" * 64)
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "ada:admin,vic:viewer,ursula:user")
    airflow_app.purge_cached_app()
    manager = airflow_app.init_auth_manager()
    app = pages()

    def make(role: str | None, *, seconds: int = 3600, teams: tuple[str, ...] = (), path: str = "") -> Somebody:
        server = FastAPI(root_path=path)
        server.mount(PREFIX, app)
        server.add_middleware(JWTRefreshMiddleware)
        client = TestClient(server, base_url="http://airflow.test")
        if role is not None:
            user = SimpleAuthManagerUser(username="Ada", role=role, teams=list(teams))
            client.cookies.set("_token", manager.generate_jwt(user, expiration_time_in_seconds=seconds))
        return Somebody(client, path)

    yield make
    airflow_app.purge_cached_app()


@pytest.fixture
def theirs(airflow_database: None) -> Iterator[None]:
    """The default connection is a team's."""
    from airflow.models import Connection
    from airflow.utils.session import create_session

    with create_session() as session:
        session.add(Connection(conn_id="sendoso_default", conn_type="sendoso", team_name=TEAM))
    yield
    with create_session() as session:
        session.query(Connection).filter(Connection.conn_id == "sendoso_default").delete()


@pytest.fixture(params=SQLITE_OR_BUCKET)
def ledger_connection(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The rights and the words are the same on each database; what is read is tried in ``tests/ledger``."""
    return small_ledger(request.param, tmp_path)
