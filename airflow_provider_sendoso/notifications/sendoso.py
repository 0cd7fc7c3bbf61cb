"""A gift as a callback: sent when a task or a run succeeds, fails, or misses its deadline."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.notifier import BaseNotifier

from airflow_provider_sendoso import DEFAULT_CONN_ID
from airflow_provider_sendoso.arguments.gifts import GIFT_ARGUMENTS
from airflow_provider_sendoso.arguments.values import seconds
from airflow_provider_sendoso.exceptions import SendosoConfigError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_sendoso.hooks.sendoso import SendosoHook

_LEASE = 60.0
"""Seconds that the claim on the send lasts without being renewed."""


class SendosoNotifier(BaseNotifier):
    """
    Send one gift to one recipient from a callback, once within ``dedupe_scope``.

    It goes through the ledger like any other send, so a callback that Airflow runs twice sends once. Airflow logs what
    a callback raises, and changes no task's or run's state for it. For ``on_success_callback`` and its kin of tasks
    and DAGs, and for deadline alerts (Airflow 3.1 and newer), synchronous or in the triggerer.

    Airflow ends a task's callbacks 20 seconds after the task, at ``[core] task_success_overtime``. What is being
    posted then has an unknown outcome: it is held and never sent again on a guess.

    :param gift_id: of the catalogue (templated).
    :param touch_id: a campaign instead, made in Sendoso (published; templated): exactly one of the two.
    :param recipient: ``first_name``, ``last_name``, ``email``, optionally ``company``, ``title`` and ``address``
        (``line1``, ``line2``, ``city``, ``state``, ``postal_code``, ``country``), which physical gifts need (seed;
        templated).
    :param message: the note that goes with it (templated).
    :param variant_id: size or colour of a swag item (templated).
    :param team_id: the team that pays (templated).
    :param metadata: own keys and values, for attribution (templated).
    :param address_confirmation: ask a recipient without an address for it, by ``"email"`` or by a ``"link"``; for
        campaigns whose gifts go by post (published; templated). So are the next three.
    :param expire_after_days: days that the recipient has to answer, from 2 to 7, by default 7 (published; templated).
    :param hide_product_info: whether to ask without saying what for (templated).
    :param address_confirmation_message: what the recipient reads when asked (templated).
    :param dedupe_scope: within which the recipient's e-mail gets at most one gift (templated). By default the task in
        its run, ``<dag_id>/<task_id>/<run_id>/callback``, whatever the map index and whichever the callback; for a
        DAG's own callback and a deadline the run, ``<dag_id>/<run_id>/callback``.
    :param resend_of: the id of an earlier send that failed or came back, which this one replaces (templated).
    :param claim_timeout: seconds or timedelta to wait while another run is on the same send.
    :param sendoso_conn_id: the connection (templated).
    :param kwargs: Airflow's own: ``context``, which a deadline alert gives.
    """

    template_fields: Sequence[str] = (
        *GIFT_ARGUMENTS,
        "recipient",
        "dedupe_scope",
        "resend_of",
        "sendoso_conn_id",
    )

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
        dedupe_scope: str | None = None,
        resend_of: str | None = None,
        claim_timeout: float | timedelta = 5,
        sendoso_conn_id: str = DEFAULT_CONN_ID,
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
        self.claim_timeout = claim_timeout
        self.sendoso_conn_id = sendoso_conn_id

    def __call__(self, *args: Any) -> None:
        """Render the templates and send, as Airflow calls a callback."""
        # A copy, because rendering is in place: one object may be the callback of many tasks of a process.
        BaseNotifier.__call__(copy.copy(self), *args)

    def notify(self, context: Context) -> None:
        """
        Send the gift, or find that it was sent.

        :param context: of the task or of the run.
        :raises SendosoConfigError: for wrong arguments, or no ledger; nothing was sent.
        :raises SendosoApiError: if Sendoso refused it; nothing was sent.
        :raises SendOutcomeUnknownError: if the gift may have gone out.
        :raises SendHeldError: if that was so in an earlier run of the callback.
        """
        from airflow_provider_sendoso.hooks.sendoso import SendosoHook

        self._send(SendosoHook(self.sendoso_conn_id), context)

    async def async_notify(self, context: Context) -> None:
        """
        Send the gift, or find that it was sent, without blocking the triggerer.

        :param context: of the deadline.
        :raises SendosoError: as :meth:`notify`.
        """
        from airflow_provider_sendoso.hooks.sendoso import SendosoHook

        hook = SendosoHook(self.sendoso_conn_id)
        await hook.aprepare()
        await asyncio.to_thread(self._send, hook, context)

    def _send(self, hook: SendosoHook, context: Mapping[str, Any]) -> None:
        # As everywhere: what only a run needs is not imported by a DAG file's parser.
        from airflow_provider_sendoso.observability.metrics import SendMetrics
        from airflow_provider_sendoso.runs.base import make_batch
        from airflow_provider_sendoso.runs.single_gift import RECIPIENT_KEY, OneGift
        from airflow_provider_sendoso.sending import Sender

        gift = OneGift.of(self)
        caller = _Caller.of(context)
        scope = caller.scope if self.dedupe_scope is None else self.dedupe_scope
        ids = (caller.dag_id, caller.task_id, caller.run_id, caller.map_index)
        # The task itself may be a batch, and have several callbacks.
        batch = make_batch(hook.config, scope, RECIPIENT_KEY, *ids, "callback", str(scope))
        sender = Sender(
            hook.session,
            hook.ledger,
            batch,
            own_gift=True,
            lease=_LEASE,
            claim_timeout=seconds("claim_timeout", self.claim_timeout),
            conn_id=self.sendoso_conn_id,
        )
        metrics = SendMetrics(self.sendoso_conn_id, type(self).__name__, batch)
        gift.conclude(gift.go(hook, sender, metrics, self.log), metrics, self.log)


@dataclass(frozen=True)
class _Caller:
    """Whose callback it is; without a task for a DAG's own and for a deadline's."""

    dag_id: str
    run_id: str
    task_id: str = ""
    map_index: int = -1

    @classmethod
    def of(cls, context: Mapping[str, Any]) -> _Caller:
        ti, run = context.get("ti"), context.get("dag_run")
        # Airflow hands some task of the run to a DAG's own callback, not the same each time, with the run's reason.
        if ti is not None and "reason" not in context:
            map_index = ti.map_index if isinstance(ti.map_index, int) else -1
            return cls(ti.dag_id, ti.run_id, ti.task_id, map_index)
        if isinstance(run, Mapping):  # a deadline's: the run as the REST API shows it
            return cls(str(run["dag_id"]), str(run["dag_run_id"]))
        if "dag" in context and "run_id" in context:
            return cls(context["dag"].dag_id, str(context["run_id"]))
        raise SendosoConfigError(
            "SendosoNotifier was called without Airflow's context, so it does not know whose callback it is; nothing "
            "was sent."
        )

    @property
    def scope(self) -> str:
        return "/".join(part for part in (self.dag_id, self.task_id, self.run_id, "callback") if part)
