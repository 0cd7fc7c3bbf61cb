"""The arguments of the operator that sends a batch; its logic is in ``runs.batch``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_sendoso.arguments.gifts import GIFT_ARGUMENTS, GiftArguments
from airflow_provider_sendoso.arguments.values import amount
from airflow_provider_sendoso.last_words import with_last_words
from airflow_provider_sendoso.operators.base import absence
from airflow_provider_sendoso.operators.rows import RowsOperator
from airflow_provider_sendoso.personal import PersonalArgument

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class BatchSendOperator(RowsOperator):
    """
    Send a gift for each row of a query or list; at most one per recipient within ``dedupe_scope``.

    :param sql: the query, or a ``.sql`` file (templated).
    :param conn_id: connection of any ``DbApiHook`` (templated).
    :param parameters: parameters of the query (templated).
    :param hook_params: keyword arguments of the connection's hook (templated).
    :param recipients: a list of dicts instead of a query; ``address`` and ``metadata`` may be nested (templated).
    :param gift_id: a gift of the catalogue (templated). If set, it overrides the column of the same name; so do the
        next five parameters.
    :param touch_id: a campaign instead of a gift (published; templated).
    :param marketplace_variant_id: a variant of a product of Sendoso's marketplace instead of a gift (published;
        templated). Sendoso asks the recipient for the address. One variant: of several Sendoso sends only the first.
    :param smart_send: ``True``: Sendoso picks a gift for the recipient, instead of a gift (published; templated).
    :param message: the note, with ``{column}`` for values of the row (templated).
    :param variant_id: size or colour of a swag item (templated).
    :param team_id: the team that pays (templated).
    :param metadata: your own keys and values, added to the row's ``metadata_*`` columns (templated).
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
    :param column_map: column by field, for columns whose name differs from the field's; case is ignored (templated).
    :param recipient_key: the field or column that identifies a recipient within the scope (templated).
    :param row_ref: a column that you declare not personal; logs and errors show its values (templated).
    :param dedupe_scope: a recipient gets at most one gift within this scope, across runs (templated).
    :param on_invalid: ``"skip"`` invalid rows, or ``"fail"`` and send nothing if a row is invalid (templated).
    :param max_invalid: fail before the first send if more rows than this are invalid: an ``int`` is a count, a
        ``float`` a share from 0 to 1 (templated).
    :param strict_email: also refuse e-mail addresses that have the right shape and cannot exist, such as one with two
        dots in a row; needs the extra ``[email]`` (templated).
    :param on_held: ``"fail"`` if a send's outcome is not known, or ``"continue"`` (templated).
    :param on_absent: ``"hold"`` a send of unknown outcome that Sendoso does not list, or ``"resend"`` it once two
        complete lists read after ``settle_time`` do not hold it; the task is deferred until then (templated).
    :param dry_run: validate, price and count; send nothing and write nothing to the ledger (templated).
    :param approved_fingerprint: the fingerprint that a dry run returned; refuse to send anything else (templated).
    :param max_sends: refuse before the first send if this batch, its earlier tries included, would make more sends
        (templated).
    :param max_cost: refuse before the first send if the batch's estimated cost, in the catalogue's currency, would be
        higher, or if a price is not known (templated).
    :param scope_max_sends: the most sends of the scope, by all tasks and runs together; what fits is sent (templated).
    :param scope_max_cost: the highest estimated cost of the scope, likewise; a send of unknown price is refused
        (templated).
    :param min_days_between_gifts: leave out a recipient who was sent anything of this account, in any scope, within so
        many days; such a row is ``capped`` (templated). By default the connection's.
    :param shipping_estimate: estimated cost of shipping one physical gift, in the catalogue's currency, because the API
        does not say (templated). Without it, the cost of a physical gift is not known.
    :param max_in_flight: concurrent POSTs, from 1 to 16 (templated); by default as many as rate and latency need. A
        kill or an outage may leave each of them with an unknown outcome.
    :param lease: seconds or timedelta until a claim expires unless it is renewed.
    :param settle_time: seconds or timedelta after a POST's deadline from which the send's absence can be proven.
    :param results_table: a table that holds one row per input row after every try; it is written through ``conn_id``,
        also for ``recipients``, and created if it is missing (templated).
    :param claim_timeout: seconds or timedelta to wait, without progress, for rows that another run has claimed.
    :param sendoso_conn_id: the connection (templated).
    :return: the summary: ``batch_id``, ``dedupe_scope``, ``rows``, the eight counts, ``estimated_cost`` and
        ``currency`` of the gifts sent, and ``fingerprint``; of a dry run also ``would_send`` and ``balance``. No
        personal data.
    :raises SendosoConfigError: if an argument, a column or a connection is wrong; nothing was sent.
    :raises SendosoRowsError: if too many rows are invalid, or if nobody could be sent a gift.
    :raises SendosoLimitError: if the batch exceeds a limit or differs from the approved one; nothing was sent, or, at a
        limit of the scope or of the account, what fits in it.
    :raises SendHeldError: if sends are held; Airflow does not retry this error.
    :raises SendosoError: if a retry may finish the batch; rows that were sent are not sent again.
    """

    template_fields: Sequence[str] = (
        *RowsOperator.template_fields,
        *(name for name in GIFT_ARGUMENTS if name not in RowsOperator.template_fields),
        "on_absent",
        "shipping_estimate",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = RowsOperator.template_fields_renderers | {"metadata": "json"}
    message = PersonalArgument(rendered=True)
    metadata = PersonalArgument(rendered=True)
    address_confirmation_message = PersonalArgument(rendered=True)
    sender = PersonalArgument()
    meeting_url = PersonalArgument()

    def __init__(
        self,
        *,
        sql: str | None = None,
        conn_id: str | None = None,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        hook_params: Mapping[str, Any] | None = None,
        recipients: Iterable[Mapping[str, Any]] | None = None,
        gift_id: str | None = None,
        touch_id: int | str | None = None,
        marketplace_variant_id: str | None = None,
        smart_send: bool | str | None = None,
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
        column_map: Mapping[str, str] | None = None,
        recipient_key: str = "email",
        row_ref: str | None = None,
        dedupe_scope: str,
        on_invalid: str = "skip",
        max_invalid: float | str | None = None,
        strict_email: bool | str = False,
        on_held: str = "fail",
        on_absent: str = "hold",
        dry_run: bool | str = False,
        approved_fingerprint: str | None = None,
        max_sends: int | str | None = None,
        max_cost: float | str | None = None,
        shipping_estimate: float | str | None = None,
        max_in_flight: int | str | None = None,
        settle_time: float | timedelta = 900,
        results_table: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            sql=sql,
            conn_id=conn_id,
            parameters=parameters,
            hook_params=hook_params,
            recipients=recipients,
            touch_id=touch_id,
            column_map=column_map,
            recipient_key=recipient_key,
            row_ref=row_ref,
            dedupe_scope=dedupe_scope,
            on_invalid=on_invalid,
            max_invalid=max_invalid,
            strict_email=strict_email,
            on_held=on_held,
            dry_run=dry_run,
            approved_fingerprint=approved_fingerprint,
            max_sends=max_sends,
            max_cost=max_cost,
            max_in_flight=max_in_flight,
            results_table=results_table,
            **kwargs,
        )
        self.gift_id = gift_id
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
        self.on_absent = on_absent
        self.shipping_estimate = shipping_estimate
        self.settle_time = settle_time

    @with_last_words
    def execute(self, context: Context) -> dict[str, Any]:
        """Read, validate and send the rows; log and push the summary before anything is raised."""
        from airflow_provider_sendoso.batch.row_reader import Layout
        from airflow_provider_sendoso.runs.batch import BatchRun
        from airflow_provider_sendoso.runs.batch_plan import BatchPlan

        gift = GiftArguments.of(self)
        plan = BatchPlan(
            layout=Layout(gift.content, gift.metadata or {}, asking=gift.asking, **self._layout()),
            shipping_estimate=amount("shipping_estimate", self.shipping_estimate),
            **self._rows(),
            **absence(self),
        )
        return self._run(BatchRun(plan, self._task(context)))
