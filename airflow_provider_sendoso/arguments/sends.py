"""Builds a send from the arguments of the hook, an operator or a notifier."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import ValidationError

from airflow_provider_sendoso.arguments.values import given
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.models import METADATA_KEY, CampaignSend, EgiftLinkSend, GiftSend, field_errors
from airflow_provider_sendoso.models.suspects import placeholder

_S = TypeVar("_S", GiftSend, CampaignSend, EgiftLinkSend)


def make_send(
    *,
    gift_id: str | None,
    touch_id: int | str | None = None,
    recipient: Mapping[str, Any] | None,
    message: str | None,
    variant_id: str | None = None,
    team_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    asking: Mapping[str, Any] = MappingProxyType({}),
) -> GiftSend | CampaignSend:
    """
    Build and validate a gift send or a campaign send from its arguments.

    :param asking: the fields of ``CampaignSend`` that say how the recipient is asked for an address.
    :raises SendosoConfigError: if a field is missing or wrong; names the fields and none of their values.
    """
    asking = {name: value for name, value in asking.items() if value is not None}
    recipient, metadata = rendered(recipient), rendered(metadata)
    left = placeholder(message)
    if left is not None:
        raise SendosoConfigError(
            f"message holds the placeholder {left}, which nothing fills in: only the message of a BatchSendOperator "
            "takes the columns of its rows. Nothing was sent."
        )
    if touch_id is not None:
        extra = {"gift_id": gift_id, "variant_id": variant_id, "team_id": team_id, "metadata": metadata}
        refuse_with_campaign([name for name, value in extra.items() if value is not None])
        fields = {"touch_id": touch_id, "recipient": recipient, "message": message, **asking}
        return validated(CampaignSend, fields)
    refuse_without_campaign(asking)
    if metadata is not None and (not isinstance(metadata, Mapping) or METADATA_KEY in metadata):
        raise SendosoConfigError(
            f"metadata must be a dict, without the key {METADATA_KEY!r}, by which the ledger marks its sends. Nothing "
            "was sent."
        )
    fields = {
        "gift_id": gift_id,
        "recipient": recipient,
        "message": message,
        "variant_id": variant_id,
        "team_id": team_id,
        "metadata": metadata or {},
    }
    return validated(GiftSend, fields)


def rendered(value: Any) -> Any:
    """
    Remove from a mapping, at every depth, the values that a template has rendered to nothing.

    :param value: an argument as Airflow has rendered it; the text ``None`` in it stands for an absent value.
    """
    if isinstance(value, Mapping):
        inner = {name: rendered(one) for name, one in value.items()}
        return {name: one for name, one in inner.items() if one is not None}
    return given(value)


def refuse_with_campaign(names: Collection[str]) -> None:
    """
    Refuse arguments for which a campaign send has no field; ignoring them would look as if they had been sent.

    :param names: the names of such arguments that were given.
    :raises SendosoConfigError: if ``names`` is not empty.
    """
    if names:
        raise SendosoConfigError(
            f"{', '.join(names)}: not with touch_id, for a campaign send has no such field. Nothing was sent."
        )


def refuse_without_campaign(names: Collection[str]) -> None:
    """
    Refuse arguments for which only a campaign send has a field.

    :param names: the names of such arguments that were given.
    :raises SendosoConfigError: if ``names`` is not empty.
    """
    if names:
        raise SendosoConfigError(
            f"{', '.join(names)}: only with touch_id, for only a campaign asks for addresses. Nothing was sent."
        )


def validated(model: type[_S], fields: Mapping[str, Any]) -> _S:
    """
    Validate a send.

    :param model: the model of the send's kind.
    :param fields: the send's fields.
    :raises SendosoConfigError: if a field is missing or wrong; names the fields and none of their values.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        problems = "; ".join(f"{name} {reason}" for name, reason in field_errors(error))
        raise SendosoConfigError(f"The send is not valid: {problems}. Nothing was sent.") from None
