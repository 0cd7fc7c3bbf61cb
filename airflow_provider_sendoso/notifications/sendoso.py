"""A notifier that sends a gift as a callback, when a task or a run succeeds, fails, or misses its deadline."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.notifier import BaseNotifier
from jinja2 import StrictUndefined

from airflow_provider_sendoso import DEFAULT_CONN_ID
from airflow_provider_sendoso.arguments.gifts import GIFT_ARGUMENTS
from airflow_provider_sendoso.arguments.limits import LIMIT_ARGUMENTS, spending_limits
from airflow_provider_sendoso.arguments.values import amount, seconds
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.templates import SaysWhatIsUndefined

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_sendoso.hooks.sendoso import SendosoHook

_LEASE = 60.0
"""Seconds until the claim on the send expires unless it is renewed."""


class SendosoNotifier(SaysWhatIsUndefined, BaseNotifier):
    """
    Send one gift to one recipient from a callback, at most once within ``dedupe_scope``.

    The send goes through the ledger like any other, so a callback that Airflow runs twice sends one gift. The notifier
    works as ``on_success_callback`` and the other callbacks of tasks and DAGs, and for deadline alerts (Airflow 3.1 and
    newer), synchronous or in the triggerer. Airflow logs an error of a callback; the error does not change the state of
    the task or run.

    Airflow ends a task's callbacks 20 seconds after the task, at ``[core] task_success_overtime``. A POST that is in
    flight then has an unknown outcome: the send is held and never sent again on a guess.

    :param gift_id: a gift of the catalogue (templated); exactly one of ``gift_id`` and ``touch_id``.
    :param touch_id: a campaign instead of a gift (published; templated).
    :param marketplace_variant_id: a variant of a product of Sendoso's marketplace instead of a gift (published;
        templated). Sendoso asks the recipient for the address. One variant: of several Sendoso sends only the first.
    :param smart_send: ``True``: Sendoso picks a gift for the recipient, instead of a gift (published; templated).
    :param recipient: ``first_name``, ``last_name``, ``email``, optionally ``company``, ``title`` and ``address``
        (``line1``, ``line2``, ``city``, ``state``, ``postal_code``, ``country``), which physical gifts need (seed;
        templated).
    :param message: the note that accompanies the gift (templated).
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
    :param dedupe_scope: the recipient's e-mail gets at most one gift within this scope (templated). The default for a
        task's callbacks is ``<dag_id>/<task_id>/<run_id>/callback``, the same for every map index and every callback;
        for a DAG's callbacks and for deadlines it is ``<dag_id>/<run_id>/callback``.
    :param resend_of: the id of an earlier send that failed or came back, which this send replaces (templated).
    :param scope_max_sends: the most sends of the scope, by all tasks and runs together; what fits is sent (templated).
    :param scope_max_cost: the highest estimated cost of the scope, likewise; a send of unknown price is refused
        (templated).
    :param min_days_between_gifts: send nothing to a recipient who was sent anything of this account, in any scope,
        within so many days (templated). By default the connection's.
    :param shipping_estimate: estimated cost of shipping a physical gift, in the catalogue's currency (templated);
        needed for a physical gift where a cost is limited.
    :param claim_timeout: seconds or timedelta to wait while another run has claimed the same send.
    :param sendoso_conn_id: the connection (templated).
    :param kwargs: Airflow's own arguments, such as ``context``, which a deadline alert passes.
    """

    template_fields: Sequence[str] = (
        *GIFT_ARGUMENTS,
        "recipient",
        "dedupe_scope",
        "resend_of",
        *LIMIT_ARGUMENTS,
        "shipping_estimate",
        "sendoso_conn_id",
    )

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
        dedupe_scope: str | None = None,
        resend_of: str | None = None,
        scope_max_sends: int | str | None = None,
        scope_max_cost: float | str | None = None,
        min_days_between_gifts: float | str | None = None,
        shipping_estimate: float | str | None = None,
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
        self.marketplace_variant_id = marketplace_variant_id
        self.smart_send = smart_send
        self.price_lte_usd = price_lte_usd
        self.gift_exchange_enabled = gift_exchange_enabled
        self.meeting_url = meeting_url
        self.require_approval = require_approval
        self.sender = sender
        self.dedupe_scope = self._written_scope = dedupe_scope
        self.resend_of = resend_of
        self.scope_max_sends = scope_max_sends
        self.scope_max_cost = scope_max_cost
        self.min_days_between_gifts = min_days_between_gifts
        self.shipping_estimate = shipping_estimate
        self.claim_timeout = claim_timeout
        self.sendoso_conn_id = sendoso_conn_id

    def __call__(self, *args: Any) -> None:
        """Render the templates and send the gift; Airflow calls this as the callback."""
        # On a copy, because rendering is in place, and one notifier may be the callback of many tasks of a process.
        BaseNotifier.__call__(copy.copy(self), *args)

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        """Render, and let no name be undefined without an error; in a deadline's callback Airflow renders it as ""."""
        if context.get("dag") is None:
            jinja_env = jinja_env.overlay(undefined=StrictUndefined)
        if parent is self:
            self._written_scope = self.dedupe_scope
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)

    def notify(self, context: Context) -> None:
        """
        Send the gift, unless it was sent before.

        :param context: Airflow's context of the task or of the run.
        :raises SendosoConfigError: if an argument is wrong, the scope is another one in every try, or there is no
            ledger; nothing was sent.
        :raises SendosoLimitError: if the send does not fit in a limit; nothing was sent.
        :raises SendosoApiError: if Sendoso refused the send; nothing was sent.
        :raises SendOutcomeUnknownError: if the gift may have gone out.
        :raises SendHeldError: if the gift may have gone out in an earlier run of the callback.
        """
        from airflow_provider_sendoso.hooks.sendoso import SendosoHook

        self._send(SendosoHook(self.sendoso_conn_id), context)

    async def async_notify(self, context: Context) -> None:
        """
        Send the gift, unless it was sent before, without blocking the triggerer.

        :param context: Airflow's context of the deadline.
        :raises SendosoError: as :meth:`notify` does.
        """
        from airflow_provider_sendoso.hooks.sendoso import SendosoHook

        hook = SendosoHook(self.sendoso_conn_id)
        await hook.aprepare()
        await asyncio.to_thread(self._send, hook, context)

    def _send(self, hook: SendosoHook, context: Mapping[str, Any]) -> None:
        # Imported here and not at the top, because Airflow parses a DAG file every few seconds.
        from airflow_provider_sendoso.observability.metrics import SendMetrics
        from airflow_provider_sendoso.runs.base import make_batch
        from airflow_provider_sendoso.runs.limits import RunLimits
        from airflow_provider_sendoso.runs.single_gift import RECIPIENT_KEY, OneGift
        from airflow_provider_sendoso.scopes import say_what_it_means
        from airflow_provider_sendoso.sending import Sender

        if self.dedupe_scope is not None:
            say_what_it_means(self._written_scope, self.dedupe_scope, self.log)
        gift, limits = OneGift.of(self), RunLimits(hook, spending_limits(self), self.log)
        prices = gift.prices(hook, amount("shipping_estimate", self.shipping_estimate))
        caller = _Caller.of(context)
        scope = caller.scope if self.dedupe_scope is None else self.dedupe_scope
        ids = (caller.dag_id, caller.task_id, caller.run_id, caller.map_index)
        # Distinct from the task's own batch, and from those of its callbacks in other scopes.
        batch = make_batch(hook.config, scope, RECIPIENT_KEY, *ids, "callback", str(scope))
        sender = Sender(
            hook.session,
            hook.ledger,
            batch,
            own_gift=True,
            lease=_LEASE,
            claim_timeout=seconds("claim_timeout", self.claim_timeout),
            conn_id=self.sendoso_conn_id,
            limits=limits,
            price_of=prices.of,
        )
        limits.price_earlier(batch, prices)
        metrics = SendMetrics(self.sendoso_conn_id, type(self).__name__, batch)
        gift.conclude(gift.go(hook, sender, metrics, self.log, limits()), metrics, self.log)


@dataclass(frozen=True)
class _Caller:
    """The task or run that a callback belongs to; callbacks of a DAG and of a deadline have no task."""

    dag_id: str
    run_id: str
    task_id: str = ""
    map_index: int = -1

    @classmethod
    def of(cls, context: Mapping[str, Any]) -> _Caller:
        ti, run = context.get("ti"), context.get("dag_run")
        # To a DAG's callback Airflow passes an arbitrary task of the run; only such a context holds a "reason".
        if ti is not None and "reason" not in context:
            map_index = ti.map_index if isinstance(ti.map_index, int) else -1
            return cls(ti.dag_id, ti.run_id, ti.task_id, map_index)
        if isinstance(run, Mapping):  # a deadline's callback: the run as the REST API represents it
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
