"""Many processes make one token request, also if the one that renews is killed at any step."""

from __future__ import annotations

import collections
import signal

import pytest
from sqlalchemy import text

some_and_64 = pytest.mark.parametrize("processes", [16, pytest.param(64, marks=pytest.mark.slow)])

on_each_database = pytest.mark.parametrize(
    "ledger_connection",
    ["sqlite", "postgresql", "mysql", pytest.param("bucket", marks=pytest.mark.slow)],
    indirect=True,
)
"""With MySQL, which the other tests here leave out: they are long, and know no more of it than these."""


@pytest.fixture
def expired(make_session, make_config, make_engine, sandbox):
    """A ledger with an expired token and the refresh token that came with it, which works once."""

    def prepare(config) -> str:
        token = make_session(config).token()
        with make_engine().begin() as connection:
            connection.execute(text("UPDATE sendoso_tokens SET renew_at = 0"))
        return token

    return prepare


@some_and_64
@on_each_database
def test_processes_with_an_expired_token_make_one_request(
    crew, expired, connection, make_config, ledger_url, sandbox, token_requests, processes
):
    first = sandbox.issue_refresh_token()
    old = expired(make_config(first))
    job = {
        "job": "token",
        "connection": connection(grant_type="refresh_token", refresh_token=first),
        "ledger_url": ledger_url,
    }
    [results] = crew([job] * processes)

    assert collections.Counter(result.get("error") for result in results) == {None: processes}
    [token] = {result["token"] for result in results}
    assert token != old
    assert token_requests() == [200, 200]  # the preparation's, and one for all of them


@on_each_database
def test_many_processes_on_an_empty_ledger_make_one_request(crew, connection, ledger_url, sandbox, token_requests):
    """Nobody has made the tables yet, and the connection's refresh token is all there is."""
    seed = sandbox.issue_refresh_token()
    job = {
        "job": "token",
        "connection": connection(grant_type="refresh_token", refresh_token=seed),
        "ledger_url": ledger_url,
    }
    [results] = crew([job] * 16)

    assert collections.Counter(result.get("error") for result in results) == {None: 16}
    assert len({result["token"] for result in results}) == 1
    assert token_requests() == [200]


@pytest.mark.parametrize(("point", "requests"), [("token-claimed", [200]), ("token-stored", [200])])
def test_a_kill_before_the_request_or_after_the_store_loses_nothing(
    crew, connection, ledger_url, lapse, sandbox, token_requests, point, requests
):
    """Killed with the claim but before the request, or with the tokens stored but the claim not given back."""
    seed = sandbox.issue_refresh_token()
    job = {
        "job": "token",
        "connection": connection(grant_type="refresh_token", refresh_token=seed),
        "ledger_url": ledger_url,
    }
    [[victim]] = crew([job | {"crash_point": point}])
    lapse()
    [others] = crew([job] * 8)

    assert victim == {"exitcode": -signal.SIGKILL}
    assert [result.get("error") for result in others] == [None] * 8
    assert len({result["token"] for result in others}) == 1
    assert token_requests() == requests


def test_a_kill_between_grant_and_store_needs_a_person(
    crew, connection, make_config, make_session, ledger_url, lapse, sandbox, token_requests
):
    """
    The one hole: Sendoso has traded the refresh token, and the process died before it could commit the next one.

    The others find that out with one request between them, and say what is to be done; a new refresh token in the
    connection heals it, and is used once.
    """
    seed = sandbox.issue_refresh_token()
    job = {
        "job": "token",
        "connection": connection(grant_type="refresh_token", refresh_token=seed),
        "ledger_url": ledger_url,
    }
    fresh = sandbox.issue_refresh_token()
    healed = job | {"connection": connection(grant_type="refresh_token", refresh_token=fresh)}
    [[victim]] = crew([job | {"crash_point": "token-granted"}])
    lapse()
    [others, later, with_a_new_one, with_the_old_one] = crew([job] * 16, [job], [healed] * 8, [job])

    assert victim == {"exitcode": -signal.SIGKILL}
    assert {result["error"] for result in others + later} == {"SendosoAuthError"}
    [message] = {result["message"] for result in others + later}
    assert "airflow sendoso authorize" in message
    assert seed not in message
    assert [result.get("error") for result in with_a_new_one] == [None] * 8
    [token] = {result["token"] for result in with_a_new_one + with_the_old_one}
    # The victim's, one that finds the refresh token dead, and one for the new refresh token. No storm.
    assert token_requests() == [200, 400, 200]
    assert make_session(make_config(seed)).token() == token


# What does not depend on the database is tried on one.
@pytest.mark.parametrize("ledger_connection", ["sqlite"], indirect=True)
def test_a_kill_at_any_point_loses_nothing_of_client_credentials(crew, connection, ledger_url, lapse, token_requests):
    job = {"job": "token", "connection": connection(), "ledger_url": ledger_url}
    for point in ("token-claimed", "token-granted"):
        assert crew([job | {"crash_point": point}]) == [[{"exitcode": -signal.SIGKILL}]]
        lapse()
    [others] = crew([job] * 8)

    assert [result.get("error") for result in others] == [None] * 8
    assert len({result["token"] for result in others}) == 1
    assert token_requests() == [200, 200]
