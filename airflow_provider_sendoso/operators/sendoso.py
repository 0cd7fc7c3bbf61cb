"""Operators that send gifts, each recipient once, whatever happens to their tasks, and that land what Sendoso has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperatorLink

from airflow_provider_sendoso.arguments.gifts import GIFT_ARGUMENTS
from airflow_provider_sendoso.links.sendoso import SendosoLink, TrackingLink
from airflow_provider_sendoso.operators.base import SendOperator, absence
from airflow_provider_sendoso.operators.batch import BatchSendOperator
from airflow_provider_sendoso.operators.egift_links import EgiftLinksOperator
from airflow_provider_sendoso.operators.landing import SendosoToSqlOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

__all__ = ["BatchSendOperator", "EgiftLinksOperator", "SendGiftOperator", "SendosoToSqlOperator"]


class SendGiftOperator(SendOperator):
    """
    Send one gift to one recipient, once within ``dedupe_scope``.

    :param gift_id: of the catalogue (templated).
    :param touch_id: a campaign instead, made in Sendoso (published; templated): exactly one of the two.
    :param recipient: ``first_name``, ``last_name``, ``email``, optionally ``company``, ``title`` and ``address``
        (``line1``, ``line2``, ``city``, ``state``, ``postal_code``, ``country``), which physical gifts need (seed;
        templated). An eGift of a campaign needs the ``email`` alone; a parcel of one to outside the US also
        ``mobile_no`` (published).
    :param message: the note that goes with it (templated); optional for a campaign.
    :param variant_id: size or colour of a swag item (templated).
    :param team_id: the team that pays (templated).
    :param metadata: own keys and values, for attribution (templated).
    :param address_confirmation: ask a recipient without an address for it, by ``"email"`` or by a ``"link"``; for
        campaigns whose gifts go by post (published; templated). So are the next three.
    :param expire_after_days: days that the recipient has to answer, from 2 to 7, by default 7 (published; templated).
    :param hide_product_info: whether to ask without saying what for (templated).
    :param address_confirmation_message: what the recipient reads when asked (templated).
    :param dedupe_scope: within which the recipient's e-mail gets at most one gift (templated); by default this task
        in this run, so that retries and clears do not send again.
    :param resend_of: the id of an earlier send that failed or came back, which this one replaces (templated); there
        is at most one replacement of a send, in whatever scope.
    :param on_absent: ``"hold"`` a send of unknown outcome that Sendoso does not list, or ``"resend"`` it once two
        complete lists after ``settle_time`` are without it; the task is deferred until then (templated).
    :param settle_time: seconds or timedelta after a POST's deadline until its absence can be proven.
    :param lease: seconds or timedelta that a claim lasts without being renewed.
    :param claim_timeout: seconds or timedelta to wait while another run is on the same send.
    :param sendoso_conn_id: the connection (templated).
    :return: the send's id (``str``); for one that was sent before, the recorded id; ``None`` where a person has
        resolved it as sent without one. A campaign's is ``tracking:<code>`` until its id is known from Sendoso's list.
    :raises SendosoConfigError: for wrong arguments, or no ledger; nothing was sent.
    :raises SendosoApiError: if Sendoso refused it; nothing was sent.
    :raises SendOutcomeUnknownError: if the gift may have gone out.
    :raises SendHeldError: if that was so in an earlier try.
    """

    template_fields: Sequence[str] = (
        *GIFT_ARGUMENTS,
        "recipient",
        "dedupe_scope",
        "resend_of",
        "on_absent",
        "sendoso_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"recipient": "json", "metadata": "json"}
    operator_extra_links: Sequence[BaseOperatorLink] = (SendosoLink(), TrackingLink())
    ui_color = "#fde8d7"

    def __init__(
        self,
        *,
        gift_id: str | None = None,
        touch_id: int | str | None = None,
        recipient: Mapping[str, Any],
        message: str | None = None,
        variant_id: str | None = None,
        team_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        address_confirmation: str | None = None,
        expire_after_days: int | str | None = None,
        hide_product_info: bool | str | None = None,
        address_confirmation_message: str | None = None,
        dedupe_scope: str = "{{ dag.dag_id }}/{{ task.task_id }}/{{ run_id }}",
        resend_of: str | None = None,
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
        self.dedupe_scope = dedupe_scope
        self.resend_of = resend_of
        self.on_absent = on_absent
        self.settle_time = settle_time

    def execute(self, context: Context) -> str | None:
        """Send the gift, or find that it was sent."""
        from airflow_provider_sendoso.runs.gift import GiftPlan, GiftRun
        from airflow_provider_sendoso.runs.single_gift import OneGift

        gift = OneGift.of(self)
        plan = GiftPlan(gift=gift, dedupe_scope=self.dedupe_scope, **self._claims(), **absence(self))
        return GiftRun(plan, self._task(context)).execute()
