"""Parses the arguments that say what is sent, which the sending operators, the notifier and the hook share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_sendoso.arguments.values import count, given, mapping, one, one_of, text, truth
from airflow_provider_sendoso.exceptions import SendosoConfigError

if TYPE_CHECKING:
    from airflow_provider_sendoso.sending.kinds.base import SendKind

_CONTENT = ("gift_id", "touch_id", "marketplace_variant_id", "message", "variant_id", "team_id", "meeting_url")
_TRUTHS = ("smart_send", "gift_exchange_enabled", "require_approval")
_SENDER = ("first_name", "last_name", "email", "organization_name")

GIFT_ARGUMENTS = (
    *_CONTENT,
    *_TRUTHS,
    "price_lte_usd",
    "sender",
    "metadata",
    "address_confirmation",
    "expire_after_days",
    "hide_product_info",
    "address_confirmation_message",
)
"""The names of these arguments; all of them are templated."""


@dataclass(frozen=True)
class GiftArguments:
    """
    The given arguments that say what is sent, without the recipient.

    :param content: what is sent and how, as far as it is given: fields of the models of sends. Those of ``sender``
        begin with ``sender_``.
    :param metadata: your own keys and values.
    :param asking: the fields of ``CampaignSend`` that say how the recipient is asked for an address.
    """

    content: Mapping[str, Any] = field(repr=False)
    metadata: Mapping[str, Any] | None = field(repr=False)
    asking: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, source: Any) -> GiftArguments:
        """
        Read the arguments of an operator or a notifier.

        :param source: an object with the rendered arguments as attributes.
        :raises SendosoConfigError: as :meth:`parse` does.
        """
        return cls.parse({name: getattr(source, name) for name in GIFT_ARGUMENTS})

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> GiftArguments:
        """
        Read the arguments.

        :param values: the arguments by the names of :data:`GIFT_ARGUMENTS`, as DAG authors and templates give them.
        :raises SendosoConfigError: if a value is invalid, or if arguments contradict each other.
        """
        values = {name: value for name, value in values.items() if given(value) is not None}
        content = {name: values[name] for name in _CONTENT if name in values}
        for name in content.keys() - {"message"}:
            one(name, content[name])
        # Imported here, because a DAG file imports this module, and the models take long.
        from airflow_provider_sendoso.models.suspects import several_problem

        problem = several_problem(str(content.get("marketplace_variant_id", "")).strip())
        if problem is not None:
            raise SendosoConfigError(
                f"marketplace_variant_id {problem}. Of several variants Sendoso would send the first alone. Nothing "
                "was sent."
            )
        content |= _of_products(values)
        metadata = mapping("metadata", values.get("metadata"))
        gift = cls(content, metadata, _asking(values))
        for kind in gift.kinds:
            gift.refuse_strangers(kind)
        return gift

    @property
    def kinds(self) -> list[SendKind[Any]]:
        """The kinds of send that the arguments name; none if the columns have to name it."""
        from airflow_provider_sendoso.sending.kinds import BY_ARGUMENT

        return [kind for kind in reversed(BY_ARGUMENT) if kind.named_by in self.content]

    def refuse_strangers(self, kind: SendKind[Any]) -> None:
        """
        Refuse arguments for which a kind of send has no field; ignoring them would look as if they had been sent.

        :param kind: the send's kind.
        :raises SendosoConfigError: if there are any; the error names them.
        """
        given = (*self.content, *(() if self.metadata is None else ("metadata",)), *self.asking)
        strangers = [name for name in given if name not in kind.model.model_fields]
        if strangers:
            raise kind.no_field_for(", ".join(strangers))


def _of_products(values: Mapping[str, Any]) -> dict[str, Any]:
    """Read the arguments that only the marketplace and SmartSend have."""
    found: dict[str, Any] = {name: truth(name, values[name]) for name in _TRUTHS if name in values}
    if not found.get("smart_send", True):
        del found["smart_send"]  # a template may decide whether Sendoso picks
    most = count("price_lte_usd", values.get("price_lte_usd"))
    if most is not None:
        found["price_lte_usd"] = most
    sender = {name: value for name, value in (mapping("sender", values.get("sender")) or {}).items() if given(value)}
    if strangers := sorted(str(name) for name in sender.keys() - set(_SENDER)):
        raise SendosoConfigError(
            f"sender has fields that no sender has: {', '.join(strangers)}. Fields: {', '.join(_SENDER)}. Nothing was "
            "sent."
        )
    return found | {f"sender_{name}": value for name, value in sender.items()}


def _asking(values: Mapping[str, Any]) -> dict[str, Any]:
    asking = {name: values[name] for name in ("address_confirmation", "address_confirmation_message") if name in values}
    if "address_confirmation" in asking:
        one_of("address_confirmation", text("address_confirmation", asking["address_confirmation"]), ("email", "link"))
    days = count("expire_after_days", values.get("expire_after_days"))
    if days is not None:
        if not 2 <= days <= 7:
            raise SendosoConfigError(f"expire_after_days is {days}; use a number from 2 to 7. Nothing was sent.")
        asking["expire_after_days"] = days
    if "hide_product_info" in values:
        asking["hide_product_info"] = truth("hide_product_info", values["hide_product_info"])
    return asking
