"""Reads the ledger for people who look at it: campaigns, a campaign, what is open, a person, an account.

Every read takes one page of rows, and is answered from an index however many sends there are. None of them changes a
send: a POSTING whose process is gone is told as open, and becomes UNKNOWN when somebody decides about it.
"""

from __future__ import annotations

from airflow_provider_sendoso.ledger.overview.account import AccountFigures, Versions
from airflow_provider_sendoso.ledger.overview.campaigns import SORTS, Campaign, Campaigns, position
from airflow_provider_sendoso.ledger.overview.details import Details, Timeline
from airflow_provider_sendoso.ledger.overview.rows import EVERYTHING, LOOKED_AT, Ran, Readable
from airflow_provider_sendoso.ledger.overview.sends import Decided, Open, SeenSends


class Overview(Campaigns, Details, SeenSends, AccountFigures):
    """What the pages in Airflow's UI show; each part of it has a module."""


__all__ = [
    "EVERYTHING",
    "LOOKED_AT",
    "SORTS",
    "Campaign",
    "Decided",
    "Open",
    "Overview",
    "Ran",
    "Readable",
    "Timeline",
    "Versions",
    "position",
]
