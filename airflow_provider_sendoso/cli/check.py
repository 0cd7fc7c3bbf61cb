"""The command that says whether a connection can send: one line for each thing that it needs."""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_sendoso.client.oauth import SENDING_SCOPE
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoError
from airflow_provider_sendoso.hooks.bucket_settings import bad_settings
from airflow_provider_sendoso.hooks.ledger_bucket import BUCKET_TYPES
from airflow_provider_sendoso.hooks.sendoso import SendosoHook

Say = Callable[[str], None]


def check(conn_id: str, say: Say = print) -> None:
    """
    Look at everything that a send needs, and send nothing.

    :param conn_id: the Sendoso connection.
    :param say: shows a line.
    :raises SendosoConfigError: if something is missing or wrong.
    """
    hook = SendosoHook(conn_id)
    # Each needs those before it in its list; what needs nothing that has failed is still checked.
    checks: dict[str, tuple[Callable[[SendosoHook], str], tuple[str, ...]]] = {
        "connection": (_connection, ()),
        "ledger": (_ledger, ("connection",)),
        "token": (_token, ("connection",)),
        "scopes": (_scopes, ("connection", "token")),
        "account": (_account, ("connection", "token")),
        "rate": (_rate, ("connection",)),
    }
    failed = list[str]()
    for name, (of, needs) in checks.items():
        if not set(needs).isdisjoint(failed):
            say(f"--    {name:<12}not checked")
            continue
        try:
            say(f"ok    {name:<12}{of(hook)}")
        except SendosoError as error:
            failed.append(name)
            say(f"FAIL  {name:<12}{error}")
    if failed:
        raise SendosoConfigError(f"Nothing can be sent through {conn_id!r}: see {', '.join(failed)} above.")
    say(f"Sends can be made through {conn_id!r}.")


def _connection(hook: SendosoHook) -> str:
    return f"{hook.sendoso_conn_id!r} leads to {hook.config.base_url}, with {hook.config.grant_type}"


def _ledger(hook: SendosoHook) -> str:
    found = f"{hook.config.ledger_conn_id!r} answers, and is {hook.ledger.identity.ledger_uuid}"
    connection = hook.get_connection(hook.config.ledger_conn_id)
    settings = bad_settings(hook.config.ledger_conn_id, connection) if connection.conn_type in BUCKET_TYPES else []
    return " ".join([found, *(f"Its bucket: {sentence}" for sentence in settings)])


def _token(hook: SendosoHook) -> str:
    hook.session.tokens.get()
    return "Sendoso has granted one"


def _scopes(hook: SendosoHook) -> str:
    scope = hook.session.tokens.stored().scope
    if scope is None:
        return "Sendoso does not say which ones the token has"
    if SENDING_SCOPE not in scope.split():
        raise SendosoConfigError(
            f"The token has the scopes {scope!r}, without {SENDING_SCOPE!r}, which sending needs. Set the connection's "
            "OAuth scope, or let Sendoso give the client that scope, and authorise again."
        )
    return scope


def _account(hook: SendosoHook) -> str:
    return f"{hook.config.account!r}{hook.whose_token()}"


def _rate(hook: SendosoHook) -> str:
    return f"{hook.config.requests_per_second:g} requests a second, shared by all that use the ledger"
