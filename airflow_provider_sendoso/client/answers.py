"""Parses answers: bodies in every shape that is published or inferred, and errors with the API's own words."""

from __future__ import annotations

import json
import logging
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any

from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.quoting import quote_without, repeats
from airflow_provider_sendoso.exceptions import (
    SendosoApiError,
    SendosoAuthError,
    SendosoBadRequestError,
    SendosoConnectionError,
    SendosoNotFoundError,
    SendosoRateLimitError,
    SendosoServerError,
    SendosoUnprocessableError,
)
from airflow_provider_sendoso.models import (
    LONGEST_LINK,
    LONGEST_TEXT,
    METADATA_KEY,
    TRACKING,
    EgiftLink,
    Send,
    SendStatus,
    normalise_key,
    storable_word,
)
from airflow_provider_sendoso.moments import moment_or_none

log = logging.getLogger(__name__)

# These identifiers are not personal data, and an error that names the gift is more useful than one with <gift_id>.
_QUOTED_AS_THEY_ARE = {"gift_id", "touch_id", "variant_id", "team_id", "grant_type", "country"}
_LONGEST_QUOTE = 300
_A_DAY = 86_400.0
_FIRST_EPOCH = 1e9
"""From here on, a number is a moment since 1970 (this one is in 2001), and no wait."""
_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)
_LINK_IN_TEXT = re.compile(r"\S*[\w-]://\S*|\S*[\w-]\.[\w-]+[/?]\S*|\bwww\.\S*", re.I)


class Phase(StrEnum):
    """How far a request got."""

    NOT_CONNECTED = "not_connected"
    """The request failed before its first byte was sent: Sendoso received nothing."""
    LOST = "lost"
    """The request failed after its first byte was sent: whether Sendoso received it is not known."""
    ANSWERED = "answered"


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; its ``repr`` shows no body, which holds personal data."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """Names in lower case."""
    body: bytes = field(repr=False)

    @cached_property
    def json(self) -> Any:
        """The body as JSON; ``None`` if it is not JSON, or holds more values than are parsed."""
        if self.is_crowded:
            return None
        try:
            # NaN and Infinity are no JSON, though Python reads them.
            value = json.loads(self.body, object_pairs_hook=_unambiguous, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            return None
        return None if _deeper_than(_DEEPEST, value) else value

    @property
    def is_crowded(self) -> bool:
        """Whether the body holds more values than are parsed, counted by what begins or separates them."""
        count = self.body.count
        return count(b"{") + count(b"[") > _MOST_OBJECTS or count(b",") > _MOST_VALUES

    @property
    def request_id(self) -> str | None:
        """The answer's request id, which Sendoso's support can look up."""
        return self.headers.get("x-request-id")

    @property
    def retry_after(self) -> float | None:
        """
        Seconds to wait, at most a day: the longer of ``Retry-After`` and ``X-Rate-Limit-Reset``.

        ``Retry-After`` is in seconds or an HTTP date. ``None`` if neither is there.
        """
        text = self.headers.get("retry-after", "").strip()
        asked = float(text) if _NUMBER.fullmatch(text) else self._until(_http_date(text))
        waits = [wait for wait in (asked, self.rate_limit_reset) if wait is not None]
        return min(max(waits), _A_DAY) if waits else None

    @property
    def rate_limit_reset(self) -> float | None:
        """
        Seconds until ``X-Rate-Limit-Reset``, which the marketplace's 429 has (published); 0 if that is past.

        Its form is not published: a number is a moment in seconds or milliseconds since 1970 if it is that large, and
        otherwise seconds; text is an HTTP date or one of ISO 8601. ``None`` for anything else.
        """
        text = self.headers.get("x-rate-limit-reset", "").strip()
        if not _NUMBER.fullmatch(text):
            return self._until(_http_date(text) or moment_or_none(text))
        number = float(text)
        if number < _FIRST_EPOCH:
            return min(number, _A_DAY)
        number /= 1000 if number >= _FIRST_EPOCH * 100 else 1
        return min(max(0.0, number - self._now.timestamp()), _A_DAY)

    @property
    def _now(self) -> datetime:
        return _http_date(self.headers.get("date", "")) or datetime.now(UTC)

    def _until(self, moment: datetime | None) -> float | None:
        return None if moment is None else min(max(0.0, (moment - self._now).total_seconds()), _A_DAY)


@dataclass(frozen=True)
class Exchange:
    """
    The result of one request.

    :param phase: how far the request got.
    :param answer: the answer, if there is one.
    :param error: the name of the error's class, if there is no answer.
    """

    phase: Phase
    answer: Answer | None = None
    error: str = ""

    @property
    def status(self) -> int | None:
        """The answer's HTTP status; ``None`` without an answer."""
        return self.answer.status if self.answer else None


_DEEPEST = 50
"""The deepest nesting of an answer that is read: Sendoso's have six levels at most, and Python cannot serialise
1000."""


_MOST_OBJECTS = 2**16
"""Objects and lists of an answer, 650 to each of 100 rows. A body of nothing else would be parsed to 43 times its size.
And lists are parsed without letting another thread run, 4 MiB of them for seconds."""

_MOST_VALUES = 2**18
"""Values of an answer, 2,600 to each of 100 rows."""


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object; refuse two values under one name, because parsers differ in which of them they keep."""
    made = dict(pairs)
    if len(made) < len(pairs) and any(made[name] != value for name, value in pairs):
        raise ValueError("two values under one name")
    return made


def _deeper_than(levels: int, value: Any) -> bool:
    inner = [value]
    for _ in range(levels):
        inner = [
            child
            for outer in inner
            if isinstance(outer, dict | list)
            for child in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(child, dict | list)
        ]
        if not inner:
            return False
    return True


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def read_send(body: Any) -> Send | None:
    """
    Find the send in an answer: ``id`` at the top level or inside ``send`` (inferred: the seed prints no shape).

    :param body: the answer's JSON.
    :return: the send; ``None`` if there is no id, or if the body says ``success: false``.
    """
    if not isinstance(body, Mapping) or body.get("success") is False:
        return None
    inner = body.get("send")
    fields = {**body, **inner} if isinstance(inner, Mapping) else dict(body)
    fields.pop("send", None)
    word = fields.get("status")
    if isinstance(word, str):
        fields |= {"status": read_status(word)}
    try:
        return Send.model_validate(fields | {"status_word": _word(word)})
    except ValueError:  # a ValidationError, or an error over half of a surrogate pair in a name
        return None


def _word(word: Any) -> str | None:
    """Return Sendoso's status word; ``None`` if it is not text that a database can store."""
    text = " ".join(word.split()) if isinstance(word, str) else ""
    return text if 0 < len(text) <= LONGEST_TEXT and text.isprintable() else None


def read_status(word: str) -> SendStatus:
    """
    Map a word of the API onto a status.

    :param word: an unknown word is logged and counts as ``processing`` (inferred), so that it never ends a wait.
    """
    status = SendStatus.from_word(word)
    if status is None:
        _say_unknown(storable_word(word))
    return status or SendStatus.PROCESSING


@lru_cache(maxsize=100)
def _say_unknown(word: str | None) -> None:
    """Log an unknown status word once per process, because every poll returns it."""
    shown = "which is not of letters alone and so not shown" if word is None else repr(word)
    log.warning("Sendoso has a status that is not known here, %s; it counts as processing.", shown)


def read_campaign_send(body: Any) -> Send | None:
    """
    Read the answer to a campaign send: ``success`` and a ``tracking_code``, and no id (published).

    :param body: the answer's JSON.
    :return: the send with the id ``tracking:<code>``, or just ``tracking:`` if it was accepted without a code; ``None``
        if the answer does not say that it was accepted.
    """
    if not isinstance(body, Mapping) or body.get("success") is False:
        return None
    code = body.get("tracking_code")
    code = str(code).strip(" ") if isinstance(code, str | int) and not isinstance(code, bool) else ""
    if not code and body.get("success") is not True:
        return None
    return read_send({"id": TRACKING + code, "tracking_url": body.get("tracking_url")})


def read_egift_links(body: Any) -> list[EgiftLink]:
    """
    Read the links in the answer to the request for them (published), also inside ``send`` (inferred).

    :param body: the answer's JSON.
    :return: the links that can be parsed, in the answer's order; empty if the body says ``success: false``.
    """
    if not isinstance(body, Mapping) or body.get("success") is False:
        return []
    inner = body.get("send")
    listed = body.get("egift_links") or (inner.get("egift_links") if isinstance(inner, Mapping) else None)
    rows = [row for row in listed if isinstance(row, Mapping)] if isinstance(listed, list) else []
    links = []
    for row in rows:
        link, email = row.get("egift_link"), row.get("recipient_email_or_phone_number")
        if isinstance(link, str) and 0 < len(link.strip()) <= LONGEST_LINK and link.strip().isprintable():
            links.append(EgiftLink(email if isinstance(email, str) else None, link.strip()))
    return links


def read_egift_link(body: Any, email: str) -> EgiftLink | None:
    """
    Read the answer to the request for one link.

    :param body: the answer's JSON.
    :param email: the e-mail for which the link was requested.
    :return: the link; ``None`` if there is none, or if several links do not show which one is meant.
    """
    links = read_egift_links(body)
    # One link was requested, so a single link is the one, even if Sendoso spells the address in another way.
    mine = links if len(links) == 1 else [link for link in links if normalise_key(link.email) == normalise_key(email)]
    return mine[0] if len(mine) == 1 else None


def names_another(request: Request, body: Any) -> bool:
    """
    Return whether an answer names another recipient, gift, campaign or mark than its request.

    That an answer repeats any of these is inferred. A value that the answer lacks is no contradiction.

    :param request: the POST of a send.
    :param body: the answer's JSON.
    """
    asked, told = _named((request.json or {}).get("send")), _named(body)
    return any(told[name] != asked[name] for name in asked.keys() & told.keys())


def _named(body: Any) -> dict[str, str]:
    """Return what identifies a send, in a body or in its ``send``, ``recipient`` and ``touch``, by the field's name."""
    if not isinstance(body, Mapping):
        return {}
    fields = dict(body)
    for name in ("send", "recipient"):
        inner = fields.get(name)
        fields |= inner if isinstance(inner, Mapping) else {}
    touch, metadata = fields.get("touch"), fields.get("metadata")
    named = {
        "email": fields.get("email"),
        "gift_id": fields.get("gift_id"),
        "touch_id": fields.get("touch_id", touch.get("id") if isinstance(touch, Mapping) else None),
        "mark": metadata.get(METADATA_KEY) if isinstance(metadata, Mapping) else None,
    }
    texts = {name: str(value).strip().casefold() for name, value in named.items() if isinstance(value, str | int)}
    return {name: text for name, text in texts.items() if text}


def read_send_answer(send_id: str, body: Any) -> Send:
    """
    Read the answer to the request for one send.

    :param send_id: the requested id.
    :param body: the answer's JSON.
    :raises SendosoServerError: if the answer is not a send.
    """
    send = read_send(body)
    if send is None:
        raise SendosoServerError(200, f"Sendoso answered without a send when asked for {send_id!r}.")
    return send


def answer_or_raise(request: Request, exchange: Exchange) -> Answer:
    """
    Return a 2xx answer with a JSON body; raise an error for anything else.

    :param request: the request; the error names it, and replaces its values in the API's words.
    :param exchange: the request's result.
    :raises SendosoConnectionError: if there is no answer.
    :raises SendosoApiError: if the answer is an error, or not the API's.
    """
    answer = success_or_raise(request, exchange)
    if answer.json is None:
        raise SendosoServerError(
            answer.status, f"{request} answered {answer.status} with {_kind(answer)}.", answer.request_id
        )
    return answer


def success_or_raise(request: Request, exchange: Exchange) -> Answer:
    """
    Return a 2xx answer with any body; raise an error for anything else.

    :param request: the request; the error names it, and replaces its values in the API's words.
    :param exchange: the request's result.
    :raises SendosoConnectionError: if there is no answer.
    :raises SendosoApiError: if the answer is an error.
    """
    answer = exchange.answer
    if answer is None:
        raise SendosoConnectionError(f"{request} got no answer from Sendoso ({exchange.error}).")
    if not 200 <= answer.status < 300:
        raise api_error(request, answer)
    return answer


def api_error(request: Request, answer: Answer) -> SendosoApiError:
    """
    Build the error for an answer.

    :param request: the request.
    :param answer: an answer outside 2xx.
    """
    message = f"{request} answered {answer.status}: {api_words(request, answer)}"
    asked_for = _asked_for(request) if answer.status == 404 else None
    message += f" ({asked_for})" if asked_for else ""
    if answer.status == 429:
        return SendosoRateLimitError(answer.status, message, answer.request_id, answer.retry_after)
    by_status: dict[int, type[SendosoApiError]] = {
        400: SendosoBadRequestError,
        401: SendosoAuthError,
        403: SendosoAuthError,
        404: SendosoNotFoundError,
        422: SendosoUnprocessableError,
    }
    kind = by_status.get(answer.status)
    if kind is None:
        kind = SendosoServerError if answer.status >= 500 or answer.status < 400 else SendosoApiError
    return kind(answer.status, message, answer.request_id)


def api_words(request: Request, answer: Answer) -> str:
    """
    Quote what the API said, with the request's own values replaced by ``<field>``.

    :param request: the request.
    :param answer: the answer; an HTML page of a proxy is described, not quoted.
    """
    body = answer.json
    if not isinstance(body, Mapping):
        return _kind(answer)
    links = request.answers_with_links
    if links and answer.status < 300:
        return "no link that can be read"  # the API's words may hold a link
    for name in ("message", "error_description", "description", "error"):
        words = body.get(name)
        if isinstance(words, str) and words.strip():
            words = quote_without(words.strip(), _values(request))
            return f'"{(_LINK_IN_TEXT.sub("<link>", words) if links else words)[:_LONGEST_QUOTE]}"'
    return "no message"


def _asked_for(request: Request) -> str | None:
    """Name the gift or campaign that the POST of a send asks for."""
    body = request.json or {}
    asked = body.get("send", body)
    return next((f"{name} {asked[name]!r}" for name in ("gift_id", "touch_id") if asked.get(name)), None)


def tracking_url(request: Request, send: Send) -> str | None:
    """
    Return the address of a send's tracking page; ``None`` also if the address holds a value of the request.

    The address is shown to everybody who may view the task, so it must not hold a name or an e-mail.

    :param request: the POST of the send.
    :param send: the send in the answer.
    """
    if send.tracking_url is None or repeats(send.tracking_url, _values(request)):
        return None
    return send.tracking_url


def _kind(answer: Answer) -> str:
    if not answer.body.strip():
        return "an empty body"
    if b"<html" in answer.body[:2048].lower():
        return "an HTML page, perhaps of a proxy"
    if answer.json is not None:
        return "a body without a message"
    return "a body of too many values" if answer.is_crowded else "a body that is not JSON"


def _values(request: Request) -> list[tuple[str, str]]:
    """List the values that the request has told the API, with the names of their fields."""
    parts = (request.params, request.json or {}, request.made_from)
    return [leaf for part in parts for leaf in _leaves("", part)]


def _leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in _QUOTED_AS_THEY_ARE:
                yield from _leaves(str(key), inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(name, inner)
    elif value is not None and str(value).strip():
        yield name, unicodedata.normalize("NFC", str(value).strip())
