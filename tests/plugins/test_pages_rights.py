"""Who may see and decide what: every route, without a login, with too little of one, and from another site."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pages_airflow import DAG, TEAM, THEIR_DAG
from sqlalchemy import update

from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import State
from airflow_provider_sendoso.ledger.schema import batches

ADDRESSES = {
    "/": "/",
    "/campaigns": "/campaigns",
    "/campaign": "/campaign?scope=q4",
    "/campaign/chart": "/campaign/chart?scope=q4",
    "/run": f"/run?dag_id={DAG}&run_id=run-1",
    "/held": "/held",
    "/person": "/person",
    "/account": "/account",
    "/static/{name}": "/static/ui.css",
}
"""Where each page is, for somebody who asks for it."""


def routes() -> Iterator[tuple[str, str]]:
    """Every route that the pages have."""
    from airflow_provider_sendoso.plugins.app import make_app

    for route in make_app().routes:
        for method in sorted(route.methods - {"HEAD"}):  # type: ignore[attr-defined]
            yield method, route.path  # type: ignore[attr-defined]


def body(key: str, **other: Any) -> dict[str, Any]:
    sends = [{"key": key, "state": "UNKNOWN", "attempt": 1}]
    decision = {"conn": "sendoso_default", "resolution": "not_sent", "why": "looked", "sends": sends}
    return decision | other


def state(key: str) -> State:
    return SendosoHook().ledger.sends.read([key])[key].state


def sent_by(batch_id: str, dag_id: str) -> None:
    """Let a batch be another DAG's."""
    statement = update(batches).where(batches.c.batch_id == batch_id).values(dag_id=dag_id)
    SendosoHook().ledger._database.run(lambda connection: connection.execute(statement))


def test_the_list_of_addresses_has_every_page() -> None:
    found = list(routes())
    assert {path for method, path in found if method == "GET"} == ADDRESSES.keys()
    assert {path for method, path in found if method == "POST"} == {"/held", "/person", "/account/check"}
    assert {method for method, _ in found} == {"GET", "POST"}


@pytest.mark.parametrize("login_of", ["nobody", "an expired one", "a forged one"])
def test_no_route_answers_without_a_login(
    login: Callable[..., Any], make_open: Callable[..., list[str]], login_of: str
) -> None:
    (key,) = make_open("ada@example.com")
    who = login("admin", seconds=-10) if login_of == "an expired one" else login(None)
    if login_of == "a forged one":
        who.client.cookies.set("_token", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEiLCJyb2xlIjoiYWRtaW4ifQ.")
    for method, path in routes():
        answer = who.get(ADDRESSES[path]) if method == "GET" else who.post(path, **body(key))
        assert answer.status_code in (401, 403), (method, path)
        assert key not in answer.text
        assert "q4" not in answer.text
    assert state(key) is State.UNKNOWN


def test_an_expired_login_is_told_where_to_log_in(login: Callable[..., Any], ledger: Any, sendoso: Any) -> None:
    page = login("admin", seconds=-10).get("/campaigns").text
    assert "Your login has ended" in page
    assert '<a data-airflow href="/">Log in to Airflow</a>' in page


def test_somebody_without_any_right_sees_nothing(login: Callable[..., Any], make_open: Callable[..., Any]) -> None:
    make_open("ada@example.com")
    who = login("")
    assert {who.get(address).status_code for address in ADDRESSES.values()} == {403}


def test_a_viewer_sees_the_pages_without_a_button(login: Callable[..., Any], make_open: Callable[..., Any]) -> None:
    (key,) = make_open("ada@example.com")
    who = login("viewer")
    statuses = {path: who.get(address).status_code for path, address in ADDRESSES.items()}
    assert statuses == dict.fromkeys(ADDRESSES, 200) | {"/": 303, "/run": 303, "/account": 403}
    held = who.get("/held").text
    assert key in held
    assert "<button" not in held
    assert "checkbox" not in held
    assert "not decide about them" in held
    assert "/account" not in held


def test_a_viewers_decision_is_refused(login: Callable[..., Any], make_open: Callable[..., Any]) -> None:
    (key,) = make_open("ada@example.com")
    answer = login("viewer").post("/held", **body(key))
    assert answer.status_code == 403
    assert "does not let you edit the DAG 'campaign'" in answer.json()["detail"]
    assert state(key) is State.UNKNOWN
    assert SendosoHook().ledger.resolutions.history(key) == []


def test_a_viewer_sees_what_was_decided_and_takes_nothing_back(
    login: Callable[..., Any], make_open: Callable[..., Any]
) -> None:
    (key,) = make_open("ada@example.com")
    assert login("user").post("/held", **body(key)).status_code == 200
    who = login("viewer")
    held = who.get("/held").text
    assert "Said not to have gone out" in held
    assert key in held
    assert "<button" not in held
    assert "checkbox" not in held
    undo = {"resolution": "sent", "sends": [{"key": key, "state": "READY", "attempt": 1}]}
    answer = who.post("/held", **body(key, **undo))
    assert answer.status_code == 403
    assert login(None).post("/held", **body(key, **undo)).status_code in (401, 403)
    forged = login("user").post("/held", headers={"Sec-Fetch-Site": "cross-site"}, **body(key, **undo))
    assert forged.status_code == 403
    assert state(key) is State.READY
    assert len(SendosoHook().ledger.resolutions.history(key)) == 1


def test_a_viewer_may_not_test_a_connection(login: Callable[..., Any], make_open: Callable[..., Any]) -> None:
    make_open("ada@example.com")
    assert login("viewer").post("/account/check", conn="sendoso_default").status_code == 403
    assert login("user").post("/account/check", conn="sendoso_default").status_code == 403


def test_an_administrator_may_where_airflow_allows_it(
    login: Callable[..., Any], make_open: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_open("ada@example.com")
    refused = login("admin").post("/account/check", conn="sendoso_default")
    assert (refused.status_code, "disabled" in refused.json()["detail"]) == (403, True)
    monkeypatch.setenv("AIRFLOW__CORE__TEST_CONNECTION", "Enabled")
    assert "Works" in login("admin").post("/account/check", conn="sendoso_default").text


def test_who_may_edit_the_dag_decides(login: Callable[..., Any], make_open: Callable[..., Any]) -> None:
    (key,) = make_open("ada@example.com")
    assert login("user").post("/held", **body(key)).status_code == 200
    (recorded,) = SendosoHook().ledger.resolutions.history(key)
    assert (recorded.to_state, recorded.resolved_by, recorded.why) == (State.READY, "Ada", "looked")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Sendoso-Pages": None},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": None, "Origin": "http://evil.test"},
        {"Sec-Fetch-Site": None, "Origin": "null"},
        {"Sec-Fetch-Site": None},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
    ],
)
def test_another_sites_page_decides_nothing(
    login: Callable[..., Any], make_open: Callable[..., Any], headers: dict[str, str | None]
) -> None:
    (key,) = make_open("ada@example.com")
    answer = login("admin").post("/held", headers=headers, **body(key))
    assert answer.status_code in (403, 422)
    assert "Nothing was changed" in answer.json()["detail"]
    assert state(key) is State.UNKNOWN


@pytest.mark.parametrize("origin", ["http://airflow.test", "https://airflow.example.com"])
def test_without_https_the_origin_says_that_it_is_our_page(
    login: Callable[..., Any], make_open: Callable[..., Any], origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/path")  # behind a proxy
    (key,) = make_open("ada@example.com")
    headers = {"Sec-Fetch-Site": None, "Origin": origin}
    assert login("admin").post("/held", headers=headers, **body(key)).status_code == 200


def test_another_teams_account_is_not_there(
    login: Callable[..., Any], make_open: Callable[..., Any], theirs: None
) -> None:
    (key,) = make_open("ada@example.com")
    for role in ("viewer", "user", "op"):
        who = login(role)
        for path in ("/campaigns", "/campaign?scope=q4", "/held", "/person", "/account", "/held?conn=sendoso_default"):
            answer = who.get(path)
            assert answer.status_code == 404, path
            assert "sendoso_default" not in answer.text
        assert who.post("/held", **body(key)).status_code == 404
        assert who.post("/person", conn="sendoso_default", email="ada@example.com").status_code == 404
        assert "q4" not in who.get(f"/run?dag_id={DAG}&run_id=run-1").text
    assert login("op", teams=(TEAM,)).get("/campaigns").status_code == 200


def test_campaigns_of_dags_that_one_may_not_see_are_not_there(
    login: Callable[..., Any], make_open: Callable[..., Any]
) -> None:
    make_open("ada@example.com", scope="ours")
    (key,) = make_open("bob@example.com", scope="secret", batch_id="batch-2")
    sent_by("batch-2", THEIR_DAG)
    for role in ("viewer", "op"):
        who = login(role)
        for path in ("/campaigns", "/campaigns?sort=name", "/held", "/campaigns?state=held", "/campaigns?q=s"):
            assert "secret" not in who.get(path).text, path
        assert who.get("/campaign?scope=secret").status_code == 404
        assert who.get("/campaign/chart?scope=secret").status_code == 404
        assert who.get(f"/run?dag_id={THEIR_DAG}&run_id=run-1").status_code == 403
        assert who.post("/held", **body(key)).status_code == 404
        assert "Nothing:" in who.post("/person", conn="sendoso_default", email="bob@example.com").text
    assert state(key) is State.UNKNOWN
    whole = login("admin").get("/campaigns").text
    assert "secret" in whole
    assert "ours" in whole


def test_a_dag_that_airflow_has_no_more_is_seen_and_decided_by_who_has_the_connection(
    login: Callable[..., Any], make_open: Callable[..., Any]
) -> None:
    (key,) = make_open("bob@example.com", scope="old", batch_id="batch-1")
    sent_by("batch-1", "deleted")
    assert login("user").get("/campaign?scope=old").status_code == 404
    assert login("op").get("/campaign?scope=old").status_code == 200
    assert login("op").post("/held", **body(key)).status_code == 200


def test_every_answer_has_the_headers(login: Callable[..., Any], make_open: Callable[..., Any]) -> None:
    make_open("ada@example.com")
    for who in (login("admin"), login(None)):
        for address in (*ADDRESSES.values(), "/nowhere"):
            headers = who.get(address).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'self'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] in ("no-store", "private, max-age=3600")


def test_no_page_has_a_script_or_a_style_of_its_own(login: Callable[..., Any], make_open: Callable[..., Any]) -> None:
    import re

    make_open("ada@example.com")
    for address in ADDRESSES.values():
        page = login("admin").get(address)
        if "html" in page.headers.get("content-type", ""):
            assert re.findall(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|javascript:", page.text) == []
            assert {url[0] for url in re.findall(r'(?:src|href)="([^"]+)"', page.text)} <= {"/", "#", "h"}
