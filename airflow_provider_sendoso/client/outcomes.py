"""Decides the outcome of a send's POST by its phase and its answer, in one pure function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

from airflow_provider_sendoso.client.answers import Exchange, Phase, api_words, names_another, read_send, tracking_url
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.models import Send, StatusReport

LONGEST_RETRY_AFTER = 120.0
"""Longest ``Retry-After``, in seconds, that a run waits for; beyond it the claim is released and the task retried."""

_MAYBE_SENT = {408, 409}
"""4xx that do not mean "not sent" (inferred): a timeout of the server, a conflict with a request in progress."""

_OF_THE_ROW = {400, 404, 410, 413, 422}
"""4xx that concern what was sent (400, 404, 422: seed; the others inferred), where they come from Sendoso itself."""

_OF_THE_ACCOUNT = {402, 403, 407, 421, 425, 426, 428, 431, 451}
"""4xx that concern every send alike (inferred): the account, its money or its rights, a proxy, the way to Sendoso."""


class Verdict(StrEnum):
    """The outcome of a POST."""

    SENT = "sent"
    RETRY = "retry"
    """Not sent; try again within bounds."""
    RENEW = "renew"
    """Not sent; try once more with a renewed token."""
    STOP = "stop"
    """Not sent, and not this row's fault: stop the batch."""
    NOT_SENT = "not_sent"
    """Not sent, and not known to be this row's fault: the row is left for the next try."""
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class PostOutcome:
    """
    A verdict with the relevant values of the answer, without personal data.

    :param verdict: the outcome.
    :param reason: a short code, like ``http_422`` or ``lost``.
    :param words: the API's words, with the request's own values replaced.
    :param send_id: an accepted send's id; ``None`` also for a campaign send without a tracking code.
    :param report: an accepted send's status, if the answer holds it.
    :param retry_after: seconds that the API asked to wait.
    :param tracking_url: reads the address of an accepted send's tracking page, if the answer holds it; a batch needs
        none, and to check that it holds no name takes longer than to read the rest of the answer.
    """

    verdict: Verdict
    reason: str
    words: str = ""
    send_id: str | None = None
    report: StatusReport | None = None
    retry_after: float | None = None
    tracking_url: Callable[[], str | None] = field(default=lambda: None, repr=False)


def classify(
    request: Request,
    exchange: Exchange,
    *,
    renewed: bool,
    own_gift: bool,
    read: Callable[[Any], Send | None] = read_send,
) -> PostOutcome:
    """
    Decide the outcome of a send's POST.

    A 4xx other than 408 and 409 means *not sent* (inferred); after a 5xx, 503 included, the outcome is unknown. A
    refusal counts against the row only if its status concerns what was sent and its body is JSON, as Sendoso's is: a
    page of a proxy says nothing about the row.

    :param request: the POST.
    :param exchange: the result of the POST.
    :param renewed: whether the token was renewed already for this send.
    :param own_gift: whether the gift or campaign is the batch's own, so that a 404 concerns every row.
    :param read: reads the answer to such a send; ``None`` if it does not say that it was accepted.
    """
    if exchange.phase is Phase.NOT_CONNECTED:
        return PostOutcome(Verdict.RETRY, "not_connected", exchange.error)
    answer = exchange.answer
    if answer is None:
        return PostOutcome(Verdict.UNKNOWN, "lost", exchange.error)
    words = api_words(request, answer) if answer.status >= 300 else ""
    code = f"http_{answer.status}"
    match answer.status:
        case status if 200 <= status < 300:
            send = read(answer.json)
            if send is None:
                return PostOutcome(Verdict.UNKNOWN, "unreadable", api_words(request, answer))
            if names_another(request, answer.json):
                return PostOutcome(Verdict.UNKNOWN, "another_send", "the answer names another send")
            url = partial(tracking_url, request, send)
            return PostOutcome(Verdict.SENT, "accepted", send_id=send.known_id, report=send.report, tracking_url=url)
        case 429:
            patient = (answer.retry_after or 0) <= LONGEST_RETRY_AFTER
            verdict = Verdict.RETRY if patient else Verdict.STOP
            return PostOutcome(verdict, code, words, retry_after=answer.retry_after)
        case 401:
            return PostOutcome(Verdict.STOP if renewed else Verdict.RENEW, code, words)
        case status if status in _OF_THE_ACCOUNT or (status == 404 and own_gift):
            return PostOutcome(Verdict.STOP, code, words)
        case status if status in _OF_THE_ROW and isinstance(answer.json, Mapping):
            return PostOutcome(Verdict.REFUSED, code, words)
        case status if 400 <= status < 500 and status not in _MAYBE_SENT:
            return PostOutcome(Verdict.NOT_SENT, code, words)
        case _:
            return PostOutcome(Verdict.UNKNOWN, code, words)
