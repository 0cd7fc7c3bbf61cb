"""Checks of a send beyond the rules of its single fields; the messages hold no values. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from airflow_provider_sendoso.models.objects import Touch
from airflow_provider_sendoso.models.sends import Address, CampaignSend
from airflow_provider_sendoso.models.words import Delivery
from airflow_provider_sendoso.near_names import meant

_DOMESTIC = "US"


def address_problem(address: Address | None) -> str | None:
    """
    Say what a parcel's address lacks.

    :param address: the recipient's.
    :return: the problem; ``None`` if the address is complete.
    """
    if address is None:
        return "there is no address, and the gift goes by post"
    missing = address.missing()
    if not missing:
        return None
    names = ", ".join(f"address_{name}" for name in missing)
    return f"{names} {'is' if len(missing) == 1 else 'are'} missing, and the gift goes by post"


def mail_problem(send: CampaignSend) -> str | None:
    """
    Say why the gift of a campaign that goes by post cannot go to a recipient.

    The send needs a name, an address and, outside the US, a phone number (published: without the number the send fails
    silently). If the recipient is asked for the address, it needs only the name.

    :param send: the send.
    :return: the problem; ``None`` if there is none.
    """
    recipient = send.recipient
    if send.left_out is not None:
        return send.left_out
    if recipient.name is None:
        return "first_name and last_name are missing, and the gift goes by post"
    if send.asks_for_address:
        return None
    if recipient.address is None:
        return "there is no address, the gift goes by post, and address_confirmation is not set"
    problem = address_problem(recipient.address)
    if problem is None and recipient.mobile_no is None and recipient.address.country != _DOMESTIC:
        return f"mobile_no is missing, without which Sendoso drops what goes outside the {_DOMESTIC}"
    return problem


def unknown_touch(touch_id: str, active: Iterable[Touch]) -> str:
    """
    Say that there is no such campaign, and which ones have a similar id or name.

    :param touch_id: the id that Sendoso does not know.
    :param active: the account's campaigns.
    """
    known = {word: touch.id for touch in active for word in (touch.name, touch.id) if word}
    return f"touch_id is no campaign that this account can send{meant(touch_id, known)}"


def touch_problem(touch: Touch, now: datetime, *, links: bool = False) -> str | None:
    """
    Say why a campaign cannot be sent.

    :param touch: the campaign.
    :param now: the time, with its time zone; a campaign can be sent between its dates only (published).
    :param links: whether eGift links are to be created.
    :return: the problem; ``None`` if there is none.
    """
    if touch.start_date is not None and now < touch.start_date:
        return f"touch_id is a campaign that begins at {touch.start_date.isoformat()}"
    if touch.end_date is not None and now > touch.end_date:
        return f"touch_id is a campaign that ended at {touch.end_date.isoformat()}"
    if touch.delivery is None:
        return "touch_id is a campaign that says of itself neither mail nor email, so its sends have no known shape"
    if links and touch.delivery is not Delivery.EMAIL:
        return "touch_id is a campaign whose gifts go by post, and only eGifts have links"
    return None


def campaign_problem(send: CampaignSend, touch: Touch, now: datetime) -> str | None:
    """
    Say why one send of a campaign cannot go out.

    :param send: the send.
    :param touch: its campaign.
    :param now: the time, with its time zone.
    :return: the problem; ``None`` if there is none.
    """
    problem = touch_problem(touch, now)
    if problem is None and touch.delivery is Delivery.MAIL:
        return mail_problem(send) or _country_problem(send, touch)
    return problem


def _country_problem(send: CampaignSend, touch: Touch) -> str | None:
    country = send.recipient.address and send.recipient.address.country
    if not country or not touch.ship_to_countries or country in map(str.upper, touch.ship_to_countries):
        return None
    return f"address_country is {country}, to which the campaign does not ship"
