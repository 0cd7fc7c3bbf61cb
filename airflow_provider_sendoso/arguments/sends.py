"""Builds a send from the arguments of the hook, an operator or a notifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from airflow_provider_sendoso.arguments.gifts import GiftArguments
from airflow_provider_sendoso.arguments.values import given
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.models import (
    METADATA_KEY,
    AnySend,
    field_errors,
    parse_send,
)
from airflow_provider_sendoso.models.sends import SendModel
from airflow_provider_sendoso.models.suspects import placeholder

_S = TypeVar("_S", bound=SendModel)


def make_send(gift: GiftArguments, recipient: Mapping[str, Any] | None) -> AnySend:
    """
    Build and validate a send.

    :param gift: the arguments that say what is sent.
    :param recipient: the recipient's fields, as DAG authors and templates give them.
    :raises SendosoConfigError: if a field is missing or wrong; names the fields and none of their values.
    """
    recipient, metadata = rendered(recipient), rendered(gift.metadata)
    left = placeholder(gift.content.get("message"))
    if left is not None:
        raise SendosoConfigError(
            f"message holds the placeholder {left}, which nothing fills in: only the message of a BatchSendOperator "
            "takes the columns of its rows. Nothing was sent."
        )
    from airflow_provider_sendoso.sending.kinds import BY_ARGUMENT

    kind = (gift.kinds or BY_ARGUMENT)[0]
    gift.refuse_strangers(kind)
    if metadata is not None and METADATA_KEY in metadata:
        raise SendosoConfigError(
            f"metadata must be a dict, without the key {METADATA_KEY!r}, by which the ledger marks its sends. Nothing "
            "was sent."
        )
    fields = {**gift.content, **gift.asking} | ({} if metadata is None else {"metadata": metadata})
    send: AnySend = validated(kind.model, {**fields, "recipient": recipient})
    return send


def rendered(value: Any) -> Any:
    """
    Remove from a mapping, at every depth, the values that a template has rendered to nothing.

    :param value: an argument as Airflow has rendered it; the text ``None`` in it stands for an absent value.
    """
    if isinstance(value, Mapping):
        inner = {name: rendered(one) for name, one in value.items()}
        return {name: one for name, one in inner.items() if one is not None}
    return given(value)


def validated(model: type[_S], fields: Mapping[str, Any]) -> _S:
    """
    Validate a send.

    :param model: the model of the send's kind.
    :param fields: the send's fields.
    :raises SendosoConfigError: if a field is missing or wrong; names the fields and none of their values.
    """
    try:
        return parse_send(model, fields)
    except ValidationError as error:
        problems = "; ".join(f"{name} {reason}" for name, reason in field_errors(error))
        raise SendosoConfigError(f"The send is not valid: {problems}. Nothing was sent.") from None
