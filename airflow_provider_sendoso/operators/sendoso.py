"""Operators that send gifts, at most one per recipient even if tasks are killed, and that load Sendoso's data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperatorLink

from airflow_provider_sendoso.arguments.gifts import GIFT_ARGUMENTS
from airflow_provider_sendoso.arguments.limits import LIMIT_ARGUMENTS
from airflow_provider_sendoso.arguments.values import amount
from airflow_provider_sendoso.last_words import with_last_words
from airflow_provider_sendoso.links.sendoso import SendosoLink, TrackingLink
from airflow_provider_sendoso.operators.base import SendOperator, absence
from airflow_provider_sendoso.operators.batch import BatchSendOperator
from airflow_provider_sendoso.operators.egift_links import EgiftLinksOperator
from airflow_provider_sendoso.operators.landing import SendosoToSqlOperator
from airflow_provider_sendoso.personal import PersonalArgument

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

__all__ = ["BatchSendOperator", "EgiftLinksOperator", "SendGiftOperator", "SendosoToSqlOperator"]


class SendGiftOperator(SendOperator):
    """
    Send one gift to one recipient, at most once within ``dedupe_scope``.

    :param gift_id: a gift of the catalogue (templated); exactly one of ``gift_id`` and ``touch_id``.
    :param touch_id: a campaign instead of a gift (published; templated).
    :param marketplace_variant_id: a variant of a product of Sendoso's marketplace instead of a gift (published;
        templated). Sendoso asks the recipient for the address. One variant: of several Sendoso sends only the first.
    :param smart_send: ``True``: Sendoso picks a gift for the recipient, instead of a gift (published; templated).
    :param recipient: ``first_name``, ``last_name``, ``email``, optionally ``company``, ``title`` and ``address``
        (``line1``, ``line2``, ``city``, ``state``, ``postal_code``, ``country``), which physical gifts need (seed;
        templated). A campaign's eGift needs only the ``email``; a campaign's parcel to an address outside the US also
        needs ``mobile_no`` (published).
    :param message: the note that accompanies the gift (templated); optional for a campaign.
    :param variant_id: size or colour of a swag item (templated).
    :param team_id: the team that pays (templated).
    :param metadata: your own keys and values, for attribution (templated).
    :param address_confirmation: ask a recipient without an address for it, by ``"email"`` or by a ``"link"``
        (templated). This and the next three parameters apply to campaigns whose gifts go by post (published).
    :param expire_after_days: days that the recipient has to answer, from 2 to 7, by default 7 (published; templated).
    :param hide_product_info: whether to hide from the recipient which gift the address is for (templated).
    :param address_confirmation_message: the text that the recipient reads when asked for the address (templated).
    :param price_lte_usd: for ``smart_send``: the most that the gift may cost, in whole USD (published; templated).
        Every limit on costs needs it.
    :param gift_exchange_enabled: for ``marketplace_variant_id`` and ``smart_send``, as the next two: whether the
        recipient may exchange the gift for another one (published; templated).
    :param meeting_url: where the recipient can arrange a meeting, beginning with ``https://`` (published; templated).
    :param require_approval: whether the send waits at Sendoso until a manager approves it in the Send Tracker
        (published; templated).
    :param sender: for ``marketplace_variant_id``: ``first_name``, ``last_name``, ``email`` and ``organization_name`` of
        who sends the gift (published; templated).
    :param dedupe_scope: the recipient's e-mail gets at most one gift within this scope (templated); by default this
        task in this run, so that retries and clears do not send again.
    :param resend_of: the id of an earlier send that failed or came back, which this send replaces (templated). A send
        is replaced at most once, across all scopes.
    :param scope_max_sends: the most sends of the scope, by all tasks and runs together; what fits is sent (templated).
    :param scope_max_cost: the highest estimated cost of the scope, likewise; a send of unknown price is refused
        (templated).
    :param min_days_between_gifts: leave out a recipient who was sent anything of this account, in any scope, within so
        many days; such a row is ``capped`` (templated). By default the connection's.
    :param shipping_estimate: estimated cost of shipping a physical gift, in the catalogue's currency, because the API
        does not say (templated). Needed for a physical gift where a cost is limited.
    :param on_absent: ``"hold"`` a send of unknown outcome that Sendoso does not list, or ``"resend"`` it once two
        complete lists read after ``settle_time`` do not hold it; the task is deferred until then (templated).
    :param settle_time: seconds or timedelta after a POST's deadline from which the send's absence can be proven.
    :param lease: seconds or timedelta until a claim expires unless it is renewed.
    :param claim_timeout: seconds or timedelta to wait while another run has claimed the same send.
    :param sendoso_conn_id: the connection (templated).
    :return: the send's id (``str``); if the gift was sent before, the recorded id; ``None`` if a person has resolved
        the send as sent without an id. A campaign's send has the id ``tracking:<code>`` until Sendoso's list shows its
        own.
    :raises SendosoConfigError: if an argument is wrong or there is no ledger; nothing was sent.
    :raises SendosoLimitError: if the send does not fit in a limit; nothing was sent.
    :raises AirflowSkipException: if the recipient is ``capped``; nothing was sent.
    :raises SendosoApiError: if Sendoso refused the send; nothing was sent.
    :raises SendOutcomeUnknownError: if the gift may have gone out.
    :raises SendHeldError: if the gift may have gone out in an earlier try.
    """

    template_fields: Sequence[str] = (
        *GIFT_ARGUMENTS,
        "recipient",
        "dedupe_scope",
        "resend_of",
        *LIMIT_ARGUMENTS,
        "shipping_estimate",
        "on_absent",
        "sendoso_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"recipient": "json", "metadata": "json"}
    operator_extra_links: Sequence[BaseOperatorLink] = (SendosoLink(), TrackingLink())
    ui_color = "#fde8d7"
    recipient = PersonalArgument()
    message = PersonalArgument()
    metadata = PersonalArgument()
    address_confirmation_message = PersonalArgument()
    sender = PersonalArgument()
    meeting_url = PersonalArgument()

    def __init__(
        self,
        *,
        gift_id: str | None = None,
        touch_id: int | str | None = None,
        marketplace_variant_id: str | None = None,
        smart_send: bool | str | None = None,
        recipient: Mapping[str, Any],
        message: str | None = None,
        variant_id: str | None = None,
        team_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        address_confirmation: str | None = None,
        expire_after_days: int | str | None = None,
        hide_product_info: bool | str | None = None,
        address_confirmation_message: str | None = None,
        price_lte_usd: int | str | None = None,
        gift_exchange_enabled: bool | str | None = None,
        meeting_url: str | None = None,
        require_approval: bool | str | None = None,
        sender: Mapping[str, Any] | None = None,
        dedupe_scope: str = "{{ dag.dag_id }}/{{ task.task_id }}/{{ run_id }}",
        resend_of: str | None = None,
        shipping_estimate: float | str | None = None,
        on_absent: str = "hold",
        settle_time: float | timedelta = 900,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.gift_id = gift_id
        self.touch_id = touch_id
        self.recipient = recipient
        self.message = message
        self.variant_id = variant_id
        self.team_id = team_id
        self.metadata = metadata
        self.address_confirmation = address_confirmation
        self.expire_after_days = expire_after_days
        self.hide_product_info = hide_product_info
        self.address_confirmation_message = address_confirmation_message
        self.marketplace_variant_id = marketplace_variant_id
        self.smart_send = smart_send
        self.price_lte_usd = price_lte_usd
        self.gift_exchange_enabled = gift_exchange_enabled
        self.meeting_url = meeting_url
        self.require_approval = require_approval
        self.sender = sender
        self.dedupe_scope = dedupe_scope
        self.resend_of = resend_of
        self.shipping_estimate = shipping_estimate
        self.on_absent = on_absent
        self.settle_time = settle_time

    @with_last_words
    def execute(self, context: Context) -> str | None:
        """Send the gift, or return the recorded id if it was sent before."""
        from airflow_provider_sendoso.runs.gift import GiftPlan, GiftRun
        from airflow_provider_sendoso.runs.single_gift import OneGift

        self._say_scope()
        gift = OneGift.of(self)
        plan = GiftPlan(
            gift=gift,
            dedupe_scope=self.dedupe_scope,
            shipping_estimate=amount("shipping_estimate", self.shipping_estimate),
            **self._common(),
            **absence(self),
        )
        return GiftRun(plan, self._task(context)).execute()
