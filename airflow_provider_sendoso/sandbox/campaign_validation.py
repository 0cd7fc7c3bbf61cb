"""What Sendoso checks before it accepts a campaign send: the fields are published, most of the refusals inferred."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from airflow_provider_sendoso.sandbox.refusal import Refusal
from airflow_provider_sendoso.sandbox.validation import check_email, check_texts, read_object

Row = Mapping[str, Any]
FindTouch = Callable[[str], Row | None]

_REQUIRED = ("touch_id", "email", "via", "via_from")
_ADDRESS = ("address", "city", "zip", "country")
_DAYS = range(2, 8)
_HOME = frozenset({"us", "usa", "united states", "united states of america"})


def read_campaign_send(raw: bytes, find_touch: FindTouch, now: datetime) -> tuple[dict[str, Any], Row]:
    """
    Read the body of ``POST /api/v3/send`` and return its ``send`` and its touch if Sendoso would accept it.

    :param raw: the request's body
    :param find_touch: the function that finds a touch by its id
    :param now: the present time, with its time zone
    :raises Refusal: 400, 404 or 422, with the reason
    """
    send = read_object(raw).get("send")
    if not isinstance(send, dict):
        raise Refusal(400, "send can't be blank")
    check_texts(send, _REQUIRED)
    touch = _touch(send, find_touch, now)
    if touch["delivery_type"] == "email":
        _check_via(send, "single_email_address")
        check_email(send["email"])
    else:
        _check_via(send, "single_person_or_company")
        _check_mail(send)
    return send, touch


def read_egift_links(raw: bytes, find_touch: FindTouch, now: datetime) -> tuple[list[dict[str, Any]], Row]:
    """
    Read the body of ``POST /api/v3/send/generate_egift_links`` and return a send for each recipient, and the touch.

    It is not published whether the request is inside ``send``: both forms are accepted (inferred).

    :param raw: the request's body
    :param find_touch: the function that finds a touch by its id
    :param now: the present time, with its time zone
    :raises Refusal: 400, 404 or 422, with the reason; no link was made
    """
    whole = read_object(raw)
    asked = whole["send"] if isinstance(whole.get("send"), dict) else whole
    check_texts(asked, ("touch_id", "via", "via_from"))
    users = asked.get("recipient_users")
    if not isinstance(users, list) or not users:
        raise Refusal(400, "recipient_users can't be blank")
    for user in users:
        check_texts(user if isinstance(user, dict) else {}, ("email",))
    touch = _touch(asked, find_touch, now)
    _check_via(asked, "generate_egift_links")
    if touch["delivery_type"] != "email":
        raise Refusal(422, "Touch has no eGift")
    for user in users:
        check_email(user["email"])
    shared = {name: value for name, value in asked.items() if name != "recipient_users"}
    return [{**user, **shared} for user in users], touch


def is_in_us(country: object) -> bool:
    """
    Return whether an address is in the United States; which names Sendoso accepts is not published.

    :param country: the country as the request has it
    """
    return str(country).replace(".", "").strip().casefold() in _HOME


def _touch(send: Row, find_touch: FindTouch, now: datetime) -> Row:
    touch = find_touch(str(send["touch_id"]))
    if touch is None or not _is_running(touch, now):
        raise Refusal(404, "Touch not found")
    return touch


def _is_running(touch: Row, now: datetime) -> bool:
    return _days_since(touch.get("start_date"), now) >= 0 >= _days_since(touch.get("end_date"), now)


def _days_since(text: str | None, now: datetime) -> int:
    """Return the days from a date until today, in the date's own time zone; 0 if there is no date."""
    if not text:
        return 0
    then = datetime.fromisoformat(text)
    return (now.astimezone(then.tzinfo or UTC).date() - then.date()).days


def _check_via(send: Row, expected: str) -> None:
    if send["via"] != expected:
        raise Refusal(422, f"via must be {expected} for this touch")


def _check_mail(send: Row) -> None:
    if send.get("no_address"):
        check_texts(send, ("name",))
        _check_asking(send)
        return
    check_texts(send, ("name", *_ADDRESS, "state") if is_in_us(send.get("country")) else ("name", *_ADDRESS))
    _check_is(send, "confirm_address", False)


def _check_asking(send: Row) -> None:
    _check_is(send, "no_address", True)
    _check_is(send, "confirm_address", True)
    if send.get("address"):
        raise Refusal(422, "address must be absent with no_address")
    if send.get("address_confirmation_via") not in ("email", "link"):
        raise Refusal(422, "address_confirmation_via must be email or link")
    if send.get("expire_after_days") not in _DAYS:
        raise Refusal(422, f"expire_after_days must be from {_DAYS[0]} to {_DAYS[-1]}")
    check_email(send["email"])


def _check_is(send: Row, name: str, expected: bool) -> None:
    if send.get(name) is not expected:
        raise Refusal(422, f"{name} must be {str(expected).lower()}")
