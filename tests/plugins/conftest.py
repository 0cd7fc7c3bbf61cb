"""The pages in an API server of their own: Airflow's real auth manager and database, and a real ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

if not AIRFLOW_V_3_1_PLUS:
    collect_ignore_glob = ["test_pages*"]

TEAM_DAG = "theirs"
DAG = "campaign"


@dataclass
class Somebody:
    """A client of the API server with somebody's login."""

    client: Any

    def get(self, path: str, **options: Any) -> Any:
        return self.client.get(f"/sendoso{path}", follow_redirects=False, **options)

    def post(self, path: str, headers: dict[str, str] | None = None, **body: Any) -> Any:
        ours = {"X-Sendoso-Pages": "1", "Sec-Fetch-Site": "same-origin"}
        given = ours | (headers or {})
        return self.client.post(f"/sendoso{path}", json=body, headers={k: v for k, v in given.items() if v})


@pytest.fixture(scope="session")
def airflow_database() -> Iterator[None]:
    """Airflow's own database, with two DAGs in it."""
    from airflow.models import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session

    initdb()
    with create_session() as session:
        session.add(DagBundleModel(name="bundle"))
        session.flush()
        session.add_all(
            DagModel(dag_id=dag_id, bundle_name="bundle", fileloc="dag.py", relative_fileloc="dag.py", is_paused=False)
            for dag_id in (DAG, TEAM_DAG)
        )
    yield


@pytest.fixture
def login(airflow_database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Somebody]]:
    """Makes a client with the login of a role: ``login("viewer")``; ``login(None)`` has none."""
    from airflow.api_fastapi import app as airflow_app
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.auth.middlewares.refresh_token import JWTRefreshMiddleware
    from fastapi import FastAPI
    from starlette.testclient import TestClient

    from airflow_provider_sendoso.plugins.sendoso import PREFIX, Pages

    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "0" * 64)
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "ada:admin,vic:viewer,ursula:user")
    airflow_app.purge_cached_app()
    manager = airflow_app.init_auth_manager()
    server = FastAPI()
    server.mount(PREFIX, Pages())
    server.add_middleware(JWTRefreshMiddleware)

    def make(role: str | None, *, name: str = "Ada", seconds: int = 3600) -> Somebody:
        client = TestClient(server, base_url="http://airflow.test")
        if role is not None:
            user = SimpleAuthManagerUser(username=name, role=role)
            client.cookies.set("_token", manager.generate_jwt(user, expiration_time_in_seconds=seconds))
        return Somebody(client)

    yield make
    airflow_app.purge_cached_app()


@pytest.fixture
def elapsed() -> timedelta:
    return timedelta(0)
