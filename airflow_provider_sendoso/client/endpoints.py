"""Builds requests: one pure function per call of the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.models import METADATA_KEY, CampaignSend, Delivery, GiftSend


class Auth(StrEnum):
    """How a request is authorised."""

    BEARER = "bearer"
    BASIC = "basic"
    """Client ID and client secret."""
    NONE = "none"


LARGEST_PAGE = 4 * 2**20
"""Bytes of the largest answer that is read: 100 rows of 40 KiB each. To parse it takes 5 times as many for
rows, 12 times at the most."""

LARGEST_OBJECT = 2**18
"""Bytes of the largest answer about one send or one user. To parse it takes 10 MiB at the most."""


@dataclass(frozen=True)
class Request:
    """One HTTP request; its ``repr`` shows neither body nor query, which hold personal data and secrets."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    json: Mapping[str, Any] | None = field(default=None, repr=False)
    auth: Auth = Auth.BEARER
    made_from: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The values from which parts of the body were built; like the body, they are never quoted from an answer."""
    answers_with_links: bool = False
    """Whether the answer holds eGift links, which are never quoted."""
    largest_answer: int = LARGEST_PAGE
    """Bytes of the answer beyond which it is not read."""
    has_minute_limit: bool = False
    """Whether it counts towards the limit that the marketplace and SmartSend share (published)."""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def gift_send_request(send: GiftSend, airflow_key: str | None = None) -> Request:
    """
    Build the gift send (seed); absent fields are left out, no empty strings and no nulls (inferred).

    :param send: the send.
    :param airflow_key: the ledger's mark in the metadata, by which the send can be found again (inferred).
    """
    body = send.model_dump(exclude_none=True)
    recipient = body.pop("recipient")
    metadata = body.pop("metadata") | ({METADATA_KEY: airflow_key} if airflow_key else {})
    address = recipient.pop("address", None)
    body |= recipient
    if address:
        body["address"] = address
    if metadata:
        body["metadata"] = metadata
    return Request("POST", "/api/v3/sends", json={"send": body}, largest_answer=LARGEST_OBJECT)


def campaign_send_request(send: CampaignSend, via_from: str) -> Request:
    """
    Build the campaign send in the shape that campaign and recipient require (published).

    Absent fields are left out. That Sendoso accepts a message in a send that asks for the address is inferred.

    :param send: the send, with the campaign's delivery.
    :param via_from: the calling application's name.
    """
    recipient = send.recipient
    body: dict[str, Any] = {
        "touch_id": _number_or_text(send.touch_id),
        "name": recipient.name,
        "email": recipient.email,
        "custom_message": send.message,
        "via_from": via_from,
    }
    if send.delivery is Delivery.EMAIL:
        body["via"] = "single_email_address"
    else:
        body |= {"via": "single_person_or_company", "mobile_no": recipient.mobile_no}
        body |= _asking(send) if send.asks_for_address else _addressed(send)
    return Request(
        "POST",
        "/api/v3/send",
        json={"send": _present(body)},
        made_from=recipient.model_dump(),
        largest_answer=LARGEST_OBJECT,
    )


def egift_links_request(touch_id: str, emails: Sequence[str], via_from: str) -> Request:
    """
    Build the request for eGift links (published); that its fields are inside ``send``, as in campaign sends, is
    inferred.

    :param touch_id: the campaign.
    :param emails: the recipients' e-mails, one link each.
    :param via_from: the calling application's name.
    """
    body = {
        "touch_id": _number_or_text(touch_id),
        "via": "generate_egift_links",
        "via_from": via_from,
        "recipient_users": [{"email": email} for email in emails],
    }
    return Request("POST", "/api/v3/send/generate_egift_links", json={"send": body}, answers_with_links=True)


def _number_or_text(touch_id: str) -> int | str:
    return int(touch_id) if touch_id.isdecimal() else touch_id


_DAYS = 7
"""Default for the days that a recipient has to give an address: the maximum (published)."""


def _addressed(send: CampaignSend) -> dict[str, Any]:
    address = send.recipient.address
    if address is None:
        return {}
    return {
        "address": ", ".join(line for line in (address.line1, address.line2) if line),
        "city": address.city,
        "state": address.state,
        "zip": address.postal_code,
        "country": address.country,
        "confirm_address": False,
    }


def _asking(send: CampaignSend) -> dict[str, Any]:
    return {
        "no_address": True,
        "confirm_address": True,
        "address_confirmation_via": send.address_confirmation,
        "resume_with_unconfirmed_address": False,
        "expire_after_days": _DAYS if send.expire_after_days is None else send.expire_after_days,
        "hide_product_info": bool(send.hide_product_info),
        "address_confirmation_custom_message": send.address_confirmation_message,
    }


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None and value != ""}


def get_send_request(send_id: str) -> Request:
    """
    Build the request for one send (seed).

    :param send_id: as returned by the gift send.
    """
    return Request("GET", f"/api/v3/sends/{quote(send_id, safe='')}", largest_answer=LARGEST_OBJECT)


def list_sends_request() -> Request:
    """Build the request for the account's gift sends (inferred: the seed reads one send only)."""
    return Request("GET", "/api/v3/sends")


def list_campaign_sends_request() -> Request:
    """Build the request for the Send Tracker's list of all sends (published): it has no filter."""
    return Request("GET", "/api/v3/send")


def list_gifts_request(filters: Mapping[str, Any]) -> Request:
    """
    Build the request for the catalogue (seed); the names of its parameters are inferred.

    :param filters: query parameters; ``None`` means unset.
    """
    return object_request("gifts", filters=filters)


def object_request(
    name: str,
    object_id: str | int | None = None,
    child: str | None = None,
    filters: Mapping[str, Any] = MappingProxyType({}),
) -> Request:
    """
    Build the request for ``/{object}[/{id}[/{child}]]`` (seed).

    :param name: the object's name in the path, like ``touches``; it may have several parts, like
        ``marketplace/products``.
    :param object_id: the object's id; ``None`` for all.
    :param child: the children's name in the path, like ``members``.
    :param filters: query parameters; ``None`` means unset, ``True`` is written ``true``.
    :raises SendosoConfigError: if a part is empty, is ``.`` or ``..``, or holds an ``@``, because logs show paths.
    """
    parts = [*str(name).split("/"), *(str(part) for part in (object_id, child) if part is not None)]
    if any(part.strip() in ("", ".", "..") or "@" in part for part in parts):
        raise SendosoConfigError(
            "Sendoso's objects are read by a name and an id, neither of which may be empty, '.', '..' or an e-mail "
            "address. Nothing was read."
        )
    params = {key: str(value).lower() if isinstance(value, bool) else value for key, value in filters.items()}
    return Request(
        "GET",
        "/".join(("/api/v3", *(quote(part, safe="") for part in parts))),
        params={key: value for key, value in params.items() if value is not None},
        has_minute_limit=parts[0] in ("marketplace", "smartsend"),
    )


def me_request() -> Request:
    """Build the request for the token's user and balance (published)."""
    return Request("GET", "/api/v3/me", largest_answer=LARGEST_OBJECT)
