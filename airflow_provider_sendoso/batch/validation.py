"""Checks of rows beyond the rules of their fields, made before the first send; the messages hold no values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoError
from airflow_provider_sendoso.models import Item

if TYPE_CHECKING:
    from airflow_provider_sendoso.batch.catalogue import Catalogue
    from airflow_provider_sendoso.batch.spool import BatchSpool
    from airflow_provider_sendoso.models import Gift

Check = Callable[[str], str | None]


def strict_email_check() -> Check:
    """
    Make the check of ``strict_email``: the grammar of RFC 5321 and host names that can exist, without DNS queries.

    :return: a function that returns the problem of an e-mail address.
    :raises SendosoConfigError: if the package ``email-validator`` is not installed.
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


def check_gifts(
    spool: BatchSpool, catalogue: Catalogue[Gift], *, own_gift: bool, all_gifts: bool = False
) -> str | None:
    """
    Find the rows whose gift or variant there is not, and those whose gift goes by post and whose address is incomplete.

    The catalogue is read only if a row has no complete address, or if all gifts are to be looked up, and only as far as
    necessary. If it was read to its end, rows whose gift it does not hold are invalid. What only a parcel needs and is
    wrong makes a row invalid unless the catalogue says that its gift goes by e-mail.

    :param spool: the filled spool.
    :param catalogue: the account's catalogue.
    :param own_gift: whether all rows have the batch's own gift; if that one is unknown, no row is invalid.
    :param all_gifts: whether to look up every gift, as a dry run does, and the batch that sends what was approved.
    :return: the problem with the batch's own gift, if there is one.
    :raises SendosoError: if the catalogue could not be read.
    """
    rejected = 0
    problem = None
    for gift_id in spool.gift_ids() if all_gifts else ():
        for variant_id in spool.variant_ids(gift_id):
            wrong = catalogue.missing_variant(gift_id, variant_id)
            if wrong is not None and own_gift:
                problem = f"variant_id {variant_id!r} {wrong}"
            elif wrong is not None:
                rejected += spool.reject_variant(gift_id, variant_id, f"variant_id {wrong}")
        catalogue.find(gift_id)
    try:
        for gift_id in spool.gift_ids(without_address=True):
            gift = catalogue.find(gift_id)
            by_post = None if gift is None else gift.physical
            if by_post:
                rejected += spool.reject_unaddressed(Item(gift_id))
            elif by_post is None:
                rejected += spool.reject_left_out(Item(gift_id))
    except SendosoError:
        if spool.reject_left_out():
            spool.mark_duplicates()
        raise
    if catalogue.complete:
        for gift_id in spool.gift_ids():
            missing = catalogue.missing(gift_id)
            if missing is not None and own_gift:
                problem = f"gift_id {gift_id!r} {missing}"
            elif missing is not None:
                rejected += spool.reject(Item(gift_id), f"gift_id {missing}")
    if rejected:
        spool.mark_duplicates()
    return problem
