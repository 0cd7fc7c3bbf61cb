"""The campaigns of a batch: reads each once, and finds the rows that cannot be sent before the first send."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property

from airflow_provider_sendoso.batch.spool import BatchSpool
from airflow_provider_sendoso.client.reads import Reads, active_touches
from airflow_provider_sendoso.models import Delivery, Item, Touch
from airflow_provider_sendoso.models.checks import touch_problem, unknown_touch


class Campaigns:
    """
    Finds campaigns by their ids, and reads each once.

    :param reads: the account, of which the hook reads.
    """

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._touches: dict[str, Touch | None] = {}

    def find(self, touch_id: str) -> Touch | None:
        """
        Look a campaign up.

        :param touch_id: the campaign's id, as in a send.
        :return: the campaign; ``None`` if this account does not have it.
        :raises SendosoError: if the campaign could not be read; the next call reads it again.
        """
        if touch_id not in self._touches:
            self._touches[touch_id] = self._reads.find_touch(touch_id)
        return self._touches[touch_id]

    def missing(self, touch_id: str) -> str:
        """Say of a campaign that was not found that there is none, and which ones have a similar id or name."""
        return unknown_touch(touch_id, self._active)

    @cached_property
    def _active(self) -> list[Touch]:
        return active_touches(self._reads)


def check_campaigns(spool: BatchSpool, campaigns: Campaigns, *, own_touch: bool, links: bool = False) -> str | None:
    """
    Find the rows that cannot be sent: a campaign outside its dates, an incomplete address, a country not shipped to.

    :param spool: the filled spool, into which the campaigns' delivery is written.
    :param campaigns: the account's campaigns.
    :param own_touch: whether all rows have the batch's own campaign, whose problem then concerns the batch, not a row.
    :param links: whether eGift links are to be created.
    :return: the problem with the batch's own campaign, if there is one.
    :raises SendosoError: if a campaign could not be read; nothing was sent.
    """
    rejected = 0
    now = datetime.now(UTC)
    for touch_id in spool.touch_ids():
        item, touch = Item(touch_id=touch_id), campaigns.find(touch_id)
        problem = touch_problem(touch, now, links=links) if touch else campaigns.missing(touch_id)
        if problem is not None or touch is None:
            if own_touch:
                return problem
            rejected += spool.reject(item, str(problem))
            continue
        if touch.delivery is not None:
            spool.note_delivery(touch_id, touch.delivery)
        if touch.delivery is Delivery.MAIL:
            rejected += spool.reject_unaddressed(item)
            if touch.ship_to_countries:
                rejected += spool.reject_countries(item, touch.ship_to_countries)
    if rejected:
        spool.mark_duplicates()
    return None
