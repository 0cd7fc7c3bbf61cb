"""The checks of a send before it is accepted, in the sandbox's order."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from airflow_provider_sendoso.sandbox.catalogue import Gift, find_gift
from airflow_provider_sendoso.sandbox.refusal import Refusal

_REQUIRED = ("gift_id", "first_name", "last_name", "email", "message")
_ADDRESS_REQUIRED = ("line1", "city", "postal_code", "country")
_IDS = ("gift_id", "touch_id")  # the check for text skips these: a number is an unknown gift, or the id of a touch
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


def read_object(raw: bytes) -> dict[str, Any]:
    """
    Read a JSON object.

    :param raw: a request's body
    :raises Refusal: 400 if it is anything else
    """
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise Refusal(400, "The request body is not a JSON object")
    return body


def read_gift_send(raw: bytes) -> dict[str, Any]:
    """
    Read the body of ``POST /api/v3/sends`` and return its ``send`` if Sendoso would accept it.

    The fields and the statuses are from the seed, "can't be blank" is published, other messages are invented.

    :param raw: the request's body
    :raises Refusal: 400, 404 or 422, with the reason
    """
    send = read_object(raw).get("send")
    if not isinstance(send, dict):
        raise Refusal(400, "send can't be blank")
    check_texts(send, _REQUIRED)
    _check_objects(send, ("address", "metadata"))
    gift = find_gift(str(send["gift_id"]))
    if gift is None:
        raise Refusal(404, "Gift not found")
    _check_variant(send, gift)
    address = send.get("address") or {}
    if gift.is_mailed:
        _check_address(address)
    else:
        check_email(send["email"])
    _check_country(address, gift)
    return send


def check_texts(fields: Mapping[str, Any], names: tuple[str, ...], prefix: str = "") -> None:
    """
    Check that all fields are present and are text.

    :param fields: a part of the request's body
    :param names: the names of the fields
    :param prefix: the text before a field's name in the message
    :raises Refusal: 400, with every field that is missing or wrong
    """
    faults = []
    for name in names:
        value = fields.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            faults.append(f"{prefix}{name} can't be blank")
        elif not isinstance(value, str) and name not in _IDS:
            faults.append(f"{prefix}{name} is invalid")
    if faults:
        raise Refusal(400, ", ".join(faults))


def check_email(email: str) -> None:
    """
    Check that an eGift can be delivered to an address.

    :param email: the recipient's e-mail address
    :raises Refusal: 422 (seed)
    """
    if not _EMAIL.fullmatch(email):
        raise Refusal(422, "email is invalid")


def _check_objects(fields: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if not isinstance(fields.get(name), dict | None):
            raise Refusal(400, f"{name} is invalid")


def _check_variant(send: Mapping[str, Any], gift: Gift) -> None:
    variant = send.get("variant_id")
    if variant is not None and variant not in [known.id for known in gift.variants]:
        raise Refusal(422, "Variant not found")


def _check_address(address: Mapping[str, Any]) -> None:
    in_us = str(address.get("country")).strip().upper() == "US"
    check_texts(address, (*_ADDRESS_REQUIRED, "state") if in_us else _ADDRESS_REQUIRED, prefix="address ")


def _check_country(address: Mapping[str, Any], gift: Gift) -> None:
    country = address.get("country")
    if country and str(country).strip().upper() not in gift.ship_to_countries:
        raise Refusal(422, "Gift is not eligible in the recipient's country")
