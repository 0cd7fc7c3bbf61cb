"""
The kinds of send, one module each.

A new kind needs a module here with a :class:`~airflow_provider_sendoso.sending.kinds.base.SendKind`, its line in
:data:`KINDS`, a word in :class:`~airflow_provider_sendoso.models.kinds.Kind`, a model, and a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_sendoso.models import AnySend, Kind
from airflow_provider_sendoso.sending.kinds.base import SendKind
from airflow_provider_sendoso.sending.kinds.campaign import CampaignKind
from airflow_provider_sendoso.sending.kinds.gift import GiftKind
from airflow_provider_sendoso.sending.kinds.link import LinkKind
from airflow_provider_sendoso.sending.kinds.marketplace import MarketplaceKind
from airflow_provider_sendoso.sending.kinds.smart_send import SmartSendKind

KINDS: Mapping[Kind, SendKind[Any]] = {
    Kind.GIFT: GiftKind(),
    Kind.CAMPAIGN: CampaignKind(),
    Kind.LINK: LinkKind(),
    Kind.MARKETPLACE: MarketplaceKind(),
    Kind.SMART_SEND: SmartSendKind(),
}

BY_ARGUMENT = tuple(kind for name, kind in KINDS.items() if name is not Kind.LINK)
"""The kinds that an operator chooses from by the argument or column that is set; links have their own operator."""


def kind_of(send: AnySend) -> SendKind[Any]:
    """
    Return the kind of a send.

    :param send: of any kind.
    """
    return KINDS[send.kind]
