"""Finds the connection to which a webhook is addressed, and remembers it for a while.

Anybody can call the receiver, as often as they like. So a connection is looked up once in half a minute, an id that
names none costs a limited number of look-ups, and the ledger is opened only for a webhook whose signature was right.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import SecretStr

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.webhooks.signatures import make_checks

if TYPE_CHECKING:
    from standardwebhooks import Webhook

log = logging.getLogger(__name__)

FRESH = 30.0
"""Seconds for which a connection is not looked up again: so long a new secret takes to be known."""

_MOST_REMEMBERED = 1000
"""Ids that are remembered; a stranger who makes up more of them pushes out those that name no connection."""

_STRANGE_LOOKUPS = 20
"""Look-ups of ids that nobody has asked for before, in :data:`FRESH` seconds. Each may be a request to a secrets
backend; beyond them an id that is not remembered counts as unknown, and Sendoso sends its webhook again later."""

_MOST_WAITING = 100
"""Requests that wait for a look-up; others are answered from what is remembered, however old."""


@dataclass(frozen=True)
class Endpoint:
    """
    What may receive webhooks: a connection with a webhook secret, or a stand-in that accepts none.

    :param conn_id: the connection's id; empty for the stand-in, so that no log has a text of a stranger's.
    :param checks: of the secrets.
    :param note: writes a wake-up into the ledger: a message's id, and the send's; blocks.
    """

    conn_id: str
    checks: tuple[Webhook, ...] = field(repr=False)
    note: Callable[[str, str], None] = field(repr=False)


class Endpoints:
    """
    The connections that receive webhooks.

    :param look_up: returns the endpoint of a connection, or ``None``; blocks.
    :param clock: monotonic seconds.
    """

    def __init__(
        self, look_up: Callable[[str], Endpoint | None] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look_up = look_up or look_up_connection
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, Endpoint | None]] = OrderedDict()
        self._strange: list[float] = []
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._nobody: Endpoint | None = None

    async def find(self, conn_id: str) -> Endpoint:
        """
        Return what has to check a webhook; the look-up, if one is due, is made in a thread.

        :param conn_id: the last part of the path that was called.
        :return: for an id that receives no webhooks, a stand-in whose secret nobody has: then the work, the time and
            the answer are the same as with a wrong signature.
        :raises SendosoConfigError: if the library that checks signatures is not installed.
        """
        if not self._is_fresh(conn_id) and self._waiting < _MOST_WAITING:
            self._waiting += 1
            try:
                async with self._turn:  # one at a time: look-ups are never a reason for the API server to be busy
                    if not self._is_fresh(conn_id) and self._may_look_up(conn_id):
                        self._remember(conn_id, await self._looked_up(conn_id))
            finally:
                self._waiting -= 1
        return self._known.get(conn_id, (0.0, None))[1] or self._stand_in()

    async def _looked_up(self, conn_id: str) -> Endpoint | None:
        try:
            return await asyncio.to_thread(self._look_up, conn_id)
        except SendosoConfigError:
            raise
        except Exception as error:
            # Of Airflow's database, or of a secrets backend, which may raise anything for an id that it cannot have.
            log.warning("A connection could not be looked up for a webhook: %s", type(error).__name__)
            return self._known.get(conn_id, (0.0, None))[1]

    def _is_fresh(self, conn_id: str) -> bool:
        return self._clock() < self._known.get(conn_id, (0.0, None))[0]

    def _may_look_up(self, conn_id: str) -> bool:
        if self._known.get(conn_id, (0.0, None))[1] is not None:
            return True  # it has received webhooks before, and no stranger can push it out
        now = self._clock()
        self._strange = [at for at in self._strange if at > now - FRESH]
        if len(self._strange) >= _STRANGE_LOOKUPS:
            return False
        self._strange.append(now)
        return True

    def _remember(self, conn_id: str, endpoint: Endpoint | None) -> None:
        self._known[conn_id] = (self._clock() + FRESH, endpoint)
        self._known.move_to_end(conn_id)
        while len(self._known) > _MOST_REMEMBERED:
            unknown = next((name for name, (_, known) in self._known.items() if known is None), None)
            if unknown is None:
                return
            del self._known[unknown]

    def _stand_in(self) -> Endpoint:
        if self._nobody is None:
            made_up = SecretStr(f"whsec_{secrets.token_hex(24)}")
            self._nobody = Endpoint("", make_checks([made_up]), _refuse)
        return self._nobody


def look_up_connection(conn_id: str) -> Endpoint | None:
    """
    Read an Airflow connection.

    :param conn_id: its id, as a stranger has given it.
    :return: ``None`` if there is no such connection, if it is none of Sendoso's, or if it has no webhook secret.
    :raises SendosoConfigError: if the library that checks signatures is not installed.
    """
    # Imported here, because every start of the API server imports what the plugin imports.
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    from airflow_provider_sendoso.hooks.connections import check_connection, mask_webhook_secrets, read_config
    from airflow_provider_sendoso.hooks.sendoso import SendosoHook

    hook = SendosoHook(conn_id)
    try:
        connection = hook.get_connection(conn_id)
        if connection.conn_type not in (None, "", hook.conn_type):
            return None
        check_connection(conn_id, connection)
        config = hook.config = read_config(conn_id, connection, connection.extra_dejson)
    except AirflowNotFoundException:
        return None
    except SendosoConfigError as error:
        log.warning("Webhooks for a connection that cannot be used are refused: %s", error)
        return None
    if not config.webhook_secret:
        return None
    mask_webhook_secrets(config)

    def note(svix_id: str, send_gid: str) -> None:
        hook.ledger.wakeups.note(config.account, svix_id, send_gid)

    return Endpoint(hook.sendoso_conn_id, make_checks(config.webhook_secret), note)


def _refuse(svix_id: str, send_gid: str) -> None:
    raise AssertionError("A webhook was accepted whose secret nobody has.")
