"""The hook's part: which store a connection gets, and what is masked in the logs."""

from __future__ import annotations

import pytest

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.hooks import connections
from airflow_provider_sendoso.hooks.sendoso import SendosoHook


@pytest.fixture
def without_a_ledger(monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_SENDOSO_LEDGER", raising=False)


def test_a_refresh_token_without_a_ledger_is_refused(sandbox, connection, set_connection, without_a_ledger):
    seed = sandbox.issue_refresh_token()
    fields = connection(grant_type="refresh_token", refresh_token=seed)
    set_connection("sendoso_default", {"conn_type": "sendoso", **fields})
    with pytest.raises(SendosoConfigError, match="grant_type=refresh_token needs a ledger") as raised:
        SendosoHook().get_conn()
    message = str(raised.value)
    assert "AIRFLOW_CONN_SENDOSO_LEDGER='sqlite:////" in message
    assert "AIRFLOW_CONN_SENDOSO_LEDGER='postgres://" in message
    assert seed not in message
    assert SendosoHook().test_connection() == (False, message)
    assert sandbox.requests == []


def test_the_line_to_set_names_the_connection_that_was_asked_for(connection, set_connection, without_a_ledger):
    fields = connection(grant_type="refresh_token", refresh_token="any", ledger_conn_id="gifts")
    set_connection("sendoso_default", {"conn_type": "sendoso", **fields})
    with pytest.raises(SendosoConfigError, match="AIRFLOW_CONN_GIFTS='sqlite:"):
        SendosoHook().get_conn()


def test_the_line_to_set_is_a_working_connection(
    sandbox, connection, set_connection, without_a_ledger, monkeypatch, tmp_path
):
    """What the error tells to set, set word for word but for the directory."""
    seed = sandbox.issue_refresh_token()
    fields = connection(grant_type="refresh_token", refresh_token=seed)
    set_connection("sendoso_default", {"conn_type": "sendoso", **fields})
    with pytest.raises(SendosoConfigError) as raised:
        SendosoHook().get_conn()
    name, _, value = next(word for word in str(raised.value).split() if "='sqlite:" in word).partition("=")
    monkeypatch.setenv(name, value.strip("',").replace("/var/lib/airflow", str(tmp_path)))
    assert SendosoHook().get_conn().token()
    assert (tmp_path / "sendoso_ledger.db").exists()


def test_client_credentials_read_without_a_ledger(
    sandbox, connection, set_connection, without_a_ledger, token_requests
):
    set_connection("sendoso_default", {"conn_type": "sendoso", **connection()})
    assert [gift.id for gift in SendosoHook().list_gifts()]
    assert SendosoHook().test_connection()[0]
    assert token_requests() == [200]  # one for the whole process


def test_hooks_of_one_process_share_token_and_queue(sandbox, connection, set_connection, ledger, token_requests):
    set_connection("sendoso_default", {"conn_type": "sendoso", **connection()})
    first, second = SendosoHook(), SendosoHook()
    assert first.get_conn() is second.get_conn()
    assert first.get_conn().token() == second.get_conn().token()
    assert token_requests() == [200]


def test_a_new_refresh_token_in_the_connection_makes_a_new_session(sandbox, connection, set_connection, ledger):
    """A session is kept for the values of a connection, not for its name."""
    seeds = [sandbox.issue_refresh_token() for _ in range(2)]
    sessions = []
    for seed in seeds:
        fields = connection(grant_type="refresh_token", refresh_token=seed)
        set_connection("sendoso_default", {"conn_type": "sendoso", **fields})
        sessions.append(SendosoHook().get_conn())
    assert sessions[0] is not sessions[1]
    assert [session.config.refresh_token.get_secret_value() for session in sessions] == seeds


def test_every_secret_and_token_is_masked(sandbox, connection, set_connection, ledger, monkeypatch):
    masked: list[str] = []
    monkeypatch.setattr(connections, "mask_secret", masked.append)
    seed = sandbox.issue_refresh_token()
    fields = connection(grant_type="refresh_token", refresh_token=seed)
    set_connection("sendoso_default", {"conn_type": "sendoso", **fields})
    session = SendosoHook().get_conn()
    assert {seed, "sandbox"} <= set(masked)  # before the first request
    assert sandbox.requests == []
    first = session.token()
    second = session.renew(first)
    assert {first, second, session.tokens.stored().refresh_token} <= set(masked)
