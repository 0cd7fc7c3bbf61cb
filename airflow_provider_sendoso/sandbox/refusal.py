"""The exception for a request that the sandbox answers with an error."""

from __future__ import annotations

from collections.abc import Mapping


class Refusal(Exception):
    """
    The request is answered with an error, and nothing is done.

    :param status: the HTTP status of the answer
    :param body: the JSON body, or a text that becomes Sendoso's usual one,
        ``{"success": false, "message": "..."}`` (published)
    :param headers: further response headers
    """

    def __init__(self, status: int, body: Mapping[str, object] | str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = {"success": False, "message": body} if isinstance(body, str) else dict(body)
        self.headers = dict(headers or {})
