"""What is wrong with a row beyond its fields' own rules, found before anything is sent; in words without its values."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.models import Address, CampaignSend, Delivery, Gift, GiftSend, Item, Touch

if TYPE_CHECKING:
    from airflow_provider_sendoso.batch.catalogue import Catalogue
    from airflow_provider_sendoso.batch.spool import BatchSpool

Check = Callable[[str], str | None]

UNKNOWN_GIFT = "gift_id is not in the catalogue"
UNKNOWN_TOUCH = "touch_id is no campaign that this account can send"

_DOMESTIC = "US"


def gift_problem(gift: Gift | None, send: GiftSend) -> str | None:
    """
    Say why a gift cannot go to a recipient.

    :param gift: as the catalogue has it; ``None``, or one of which it is not known whether it goes by post, is left to
        Sendoso to judge.
    :param send: what is to be sent to whom.
    :return: ``None`` if nothing is known to be wrong.
    """
    return address_problem(send.recipient.address) if gift is not None and gift.physical else None


def address_problem(address: Address | None) -> str | None:
    """
    Say what a parcel's address lacks.

    :param address: the recipient's.
    :return: ``None`` for one that is complete.
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

    A name, an address and, outside the US, a phone number are needed (published: without the number the send fails
    silently). A recipient who is asked for an address needs the name alone.

    :param send: what is to be sent to whom.
    :return: ``None`` if nothing is known to be wrong.
    """
    recipient = send.recipient
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


def touch_problem(touch: Touch | None, now: datetime, *, links: bool = False) -> str | None:
    """
    Say why nothing can be sent of a campaign.

    :param touch: ``None`` for one that is not known.
    :param now: with its time zone; a campaign is sent between its dates only (published).
    :param links: whether eGift links are made of it.
    :return: ``None`` if nothing is known to be wrong.
    """
    if touch is None:
        return UNKNOWN_TOUCH
    if touch.start_date is not None and now < touch.start_date:
        return f"touch_id is a campaign that begins at {touch.start_date.isoformat()}"
    if touch.end_date is not None and now > touch.end_date:
        return f"touch_id is a campaign that ended at {touch.end_date.isoformat()}"
    if touch.delivery is None:
        return "touch_id is a campaign that says of itself neither mail nor email, so its sends have no known shape"
    if links and touch.delivery is not Delivery.EMAIL:
        return "touch_id is a campaign whose gifts go by post, and only eGifts have links"
    return None


def shaped(send: CampaignSend, touch: Touch | None) -> CampaignSend:
    """
    Return a single send in the shape that its campaign asks for.

    :param send: as its arguments say.
    :param touch: its campaign; ``None`` for one that is not known.
    :raises SendosoConfigError: if it cannot be sent; nothing was.
    """
    problem = touch_problem(touch, datetime.now(UTC))
    if problem is None and touch is not None and touch.delivery is Delivery.MAIL:
        problem = mail_problem(send) or _country_problem(send, touch)
    if problem is not None or touch is None:
        raise SendosoConfigError(f"The send is not valid: {problem} (campaign {send.touch_id}). Nothing was sent.")
    return send.model_copy(update={"delivery": touch.delivery})


def _country_problem(send: CampaignSend, touch: Touch) -> str | None:
    country = send.recipient.address and send.recipient.address.country
    if not country or not touch.ship_to_countries or country in map(str.upper, touch.ship_to_countries):
        return None
    return f"address_country is {country}, to which the campaign does not ship"


def strict_email_check() -> Check:
    """
    Make the check of ``strict_email``: the grammar of RFC 5321 and names that can exist, without asking the DNS.

    :return: a function of an e-mail address that says what is wrong with it.
    :raises SendosoConfigError: where the package that checks is not installed.
    """
    try:
        # What pydantic's EmailStr calls, which would also take `Ada <ada@example.com>`, and send that.
        from email_validator import EmailNotValidError, validate_email
    except ImportError:
        raise SendosoConfigError(
            "strict_email needs the package email-validator: pip install 'airflow-provider-sendoso[email]'. Nothing "
            "was sent."
        ) from None

    def check(email: str) -> str | None:
        try:
            validate_email(email, check_deliverability=False)
        except EmailNotValidError:  # its words quote the address
            return "email is not an e-mail address (strict_email)"
        return None

    return check


def check_gifts(spool: BatchSpool, catalogue: Catalogue, *, own_gift: bool) -> None:
    """
    Find the rows whose gift goes by post and whose address is incomplete.

    The catalogue is read only if there is a row without a complete address, and no further than it takes. If that was
    to its end, the rows whose gift it does not hold are known to be wrong as well.

    :param spool: filled.
    :param catalogue: of the account.
    :param own_gift: whether all rows have the batch's own gift; an unknown one is no row's fault, and the first answer
        to a send says so.
    :raises SendosoError: if the catalogue could not be read.
    """
    rejected = 0
    for gift_id in spool.gift_ids(without_address=True):
        gift = catalogue.find(gift_id)
        if gift is not None and gift.physical:
            rejected += spool.reject_unaddressed(Item(gift_id))
    if catalogue.complete and not own_gift:
        for gift_id in spool.gift_ids():
            if catalogue.find(gift_id) is None:
                rejected += spool.reject(Item(gift_id), UNKNOWN_GIFT)
    if rejected:
        spool.mark_duplicates()
