"""Checks before the first send that the token has the scopes that the sends need."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.models import Kind
from airflow_provider_sendoso.sending.kinds import KINDS


def check_scopes(session: SendosoSession, kinds: Iterable[Kind]) -> None:
    """
    Refuse sends for which the token has no scope; the token is read only for kinds that need a scope of their own.

    :param session: has the token.
    :param kinds: the kinds of the sends.
    :raises SendosoConfigError: if a scope is missing; nothing was sent. Nothing is known where Sendoso does not say
        which scopes the token has: then its answer to the first send decides.
    """
    needed = {scope for kind in kinds if (scope := KINDS[kind].scope) is not None}
    if not needed:
        return
    session.token()
    granted = session.tokens.stored().scope
    missing = sorted(needed - set(granted.split())) if granted is not None else []
    if missing:
        wanted = " ".join([*str(granted).split(), *missing])
        raise SendosoConfigError(
            f"The token has the scopes {granted!r}, without {' and '.join(map(repr, missing))}, which these sends "
            f"need. Nothing was sent. Set the connection's OAuth scope to {wanted!r}. Where a person has authorised "
            f"the client, run `airflow sendoso authorize --scope '{wanted}'` again. Sendoso has to allow the client "
            "these scopes."
        )
