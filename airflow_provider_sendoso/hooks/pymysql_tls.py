"""A connection of PyMySQL that requires TLS; PyMySQL itself goes on unencrypted if the server offers none."""

from __future__ import annotations

from typing import Any

import pymysql  # type: ignore[import-untyped]
from pymysql.constants import CLIENT, CR  # type: ignore[import-untyped]


class TlsConnection(pymysql.connections.Connection):  # type: ignore[misc]
    """A connection that sends no password unless the required TLS is established."""

    def _request_authentication(self) -> Any:
        if self.ssl and not self.server_capabilities & CLIENT.SSL:
            raise pymysql.err.OperationalError(
                CR.CR_SSL_CONNECTION_ERROR, "the server offers no TLS, which the connection's extra asks for"
            )
        return super()._request_authentication()
