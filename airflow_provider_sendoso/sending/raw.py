"""
POSTs without the ledger's protection, for a hook's raw calls: a second call sends a second gift.

A POST is never repeated once Sendoso may have received it. It is repeated once, with a new token, after a 401.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from airflow_provider_sendoso.client.answers import Exchange, api_error, read_egift_links
from airflow_provider_sendoso.client.endpoints import Request, egift_links_request
from airflow_provider_sendoso.client.outcomes import PostOutcome, Verdict, classify
from airflow_provider_sendoso.client.reads import Reads
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.exceptions import SendosoConnectionError, SendosoError, SendOutcomeUnknownError
from airflow_provider_sendoso.models import AnySend, EgiftLink, EgiftLinkSend, Send
from airflow_provider_sendoso.sending.ceiling import check_uncounted
from airflow_provider_sendoso.sending.kinds import kind_of
from airflow_provider_sendoso.sending.scopes import check_scopes


def send_raw(reads: Reads, send: AnySend) -> Send:
    """
    Send one gift.

    :param reads: the account, and the session with it.
    :param send: the send.
    :raises SendosoConfigError: if the send is not valid; nothing was sent.
    :raises SendosoLimitError: if nothing may be sent through the connection, or only what the ledger counts.
    :raises SendosoConnectionError: if Sendoso could not be reached; nothing was sent.
    :raises SendosoApiError: if Sendoso refused it; nothing was sent.
    :raises SendOutcomeUnknownError: if the gift may have gone out.
    """
    session = reads.session
    check_uncounted(session.config, 1)
    check_scopes(session, [send.kind])
    kind = kind_of(send)
    send = kind.shaped(send, reads)
    request = kind.request(send, airflow_key=None, via_from=session.config.via_from)
    read = partial(kind.read, send)
    exchange, outcome = _post(session, request, read)
    sent = read(exchange.answer.json) if exchange.answer else None
    if outcome.verdict is Verdict.SENT and sent is not None:
        return sent
    if outcome.verdict is Verdict.UNKNOWN:
        raise SendOutcomeUnknownError(
            f"The outcome of {request} for the {send.item} is not known ({outcome.reason}): it may have gone out. "
            "Look in Sendoso before sending it again."
        )
    raise _not_sent(session, request, exchange)


def make_links_raw(session: SendosoSession, sends: Sequence[EgiftLinkSend]) -> list[EgiftLink]:
    """
    Make eGift links in one POST.

    :param session: calls Sendoso.
    :param sends: the sends, at least one, all of one campaign.
    :return: the links that Sendoso has answered with.
    :raises SendosoLimitError: if there are more sends than the connection allows, or if it allows only what the ledger
        counts; nothing was made.
    :raises SendosoConnectionError: if Sendoso could not be reached; nothing was made.
    :raises SendosoApiError: if Sendoso refused it; nothing was made.
    :raises SendOutcomeUnknownError: if the links may have been made.
    """
    check_uncounted(session.config, len(sends))
    request = egift_links_request(sends[0].touch_id, [send.email for send in sends], session.config.via_from)
    exchange, outcome = _post(session, request, lambda body: Send.without_id() if read_egift_links(body) else None)
    if outcome.verdict is Verdict.SENT and exchange.answer is not None:
        return read_egift_links(exchange.answer.json)
    if outcome.verdict is Verdict.UNKNOWN:
        raise SendOutcomeUnknownError(
            f"The outcome of {request} for the {sends[0].item} is not known ({outcome.reason}): links may have been "
            "made. Look in Sendoso before making them again."
        )
    raise _not_sent(session, request, exchange)


def _post(
    session: SendosoSession, request: Request, read: Callable[[Any], Send | None]
) -> tuple[Exchange, PostOutcome]:
    """POST once, and a second time only with a new token."""
    token = session.token()
    exchange = session.paced(request, token)
    outcome = classify(request, exchange, renewed=False, own_gift=True, read=read)
    if outcome.verdict is Verdict.RENEW:
        exchange = session.paced(request, session.renew(token))
        outcome = classify(request, exchange, renewed=True, own_gift=True, read=read)
    return exchange, outcome


def _not_sent(session: SendosoSession, request: Request, exchange: Exchange) -> SendosoError:
    if exchange.answer is None:
        return SendosoConnectionError(
            f"Sendoso ({session.config.base_url}) could not be reached ({exchange.error}); no gift went out."
        )
    return api_error(request, exchange.answer)
