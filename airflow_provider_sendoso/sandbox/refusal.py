"""The one exception of the sandbox: a request that is answered with an error."""

from __future__ import annotations

from collections.abc import Mapping


class Refusal(Exception):
    """
    Answer a request with an error instead of doing what it asks.

    :param status: the HTTP status to answer
    :param body: the JSON body, or a text that becomes Sendoso's usual one,
        ``{"success": false, "message": "..."}`` (published)
    :param headers: further response headers
    """

    def __init__(self, status: int, body: Mapping[str, object] | str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = {"success": False, "message": body} if isinstance(body, str) else dict(body)
        self.headers = dict(headers or {})
