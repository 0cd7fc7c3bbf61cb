"""The operator that records a person's decision about held sends in the ledger; it replaces the CLI without a shell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, BaseOperatorLink

from airflow_provider_sendoso import DEFAULT_CONN_ID
from airflow_provider_sendoso.arguments.values import given, got, text
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.last_words import with_last_words
from airflow_provider_sendoso.links.sendoso import SendosoLink
from airflow_provider_sendoso.retries import for_this_airflow
from airflow_provider_sendoso.templates import RendersAuthorsTemplates

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class ResolveHeldOperator(RendersAuthorsTemplates, BaseOperator):
    """
    Record a person's decision about sends of unknown outcome: they were sent, or they were not sent.

    Give exactly one of ``send_keys``, ``batch_id`` and ``dedupe_scope``; a template that renders to nothing counts as
    absent. Sends that are already resolved, or whose POST may still be running, are skipped and counted.

    :param send_keys: the sends' keys, or the first eight or more digits of each: a list, or text with commas or white
        space between them (templated).
    :param batch_id: all open sends of a batch (templated).
    :param dedupe_scope: all open sends of a scope (templated).
    :param state: of a batch or scope, the sends in this state instead of the open ones: ``refused`` sends can be
        resolved as not sent once the cause of their refusal is mended (templated).
    :param reason: of a batch or scope, only the sends held for this reason, like ``http_500`` (templated).
    :param resolution: ``"sent"``: the gift was found; or ``"not_sent"``: it did not go out, and the next run that has
        the recipient among its rows sends it (templated).
    :param send_id: Sendoso's id of the gift, for a single send (templated). Without an id the send counts as sent, but
        no sensor can follow it.
    :param why: how the person knows; it is recorded, so it must not hold personal data (templated).
    :param resolved_by: who decided; by default the user who triggered the run if Airflow knows the user, otherwise the
        run (templated).
    :param sendoso_conn_id: the connection (templated).
    :return: ``resolution``, and the counts ``resolved`` and ``skipped``; of the skipped also ``changed`` and
        ``in_flight``.
    :raises SendosoConfigError: if an argument is wrong, or if there is nothing to resolve; nothing was changed.
    :raises SendosoError: if the POST of some sends may still be running; a later retry finds them settled.
    """

    template_fields: Sequence[str] = (
        "send_keys",
        "batch_id",
        "dedupe_scope",
        "state",
        "reason",
        "resolution",
        "send_id",
        "why",
        "resolved_by",
        "sendoso_conn_id",
    )
    operator_extra_links: Sequence[BaseOperatorLink] = (SendosoLink(),)
    ui_color = "#fde8d7"

    def __init__(
        self,
        *,
        send_keys: Iterable[str] | str | None = None,
        batch_id: str | None = None,
        dedupe_scope: str | None = None,
        state: str | None = None,
        reason: str | None = None,
        resolution: str,
        send_id: str | None = None,
        why: str,
        resolved_by: str | None = None,
        sendoso_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**for_this_airflow(kwargs))
        self.send_keys = send_keys
        self.batch_id = batch_id
        self.dedupe_scope = dedupe_scope
        self.state = state
        self.reason = reason
        self.resolution = resolution
        self.send_id = send_id
        self.why = why
        self.resolved_by = resolved_by
        self.sendoso_conn_id = sendoso_conn_id

    @with_last_words
    def execute(self, context: Context) -> dict[str, Any]:
        """Resolve the sends; log and push the counts before anything is raised."""
        # Imported here and not at the top, because Airflow parses a DAG file every few seconds.
        from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY

        from airflow_provider_sendoso.hooks.sendoso import SendosoHook
        from airflow_provider_sendoso.ledger import decisions
        from airflow_provider_sendoso.sending.existing import check_send_id

        decision = decisions.Decision.parse(
            text("resolution", self.resolution),
            why=given(self.why),
            resolved_by=given(self.resolved_by) or _who(context),
            send_id=text("send_id", self.send_id),
        )
        hook = SendosoHook(self.sendoso_conn_id)
        which: dict[str, Any] = {
            "send_keys": _keys(self.send_keys),
            "batch_id": text("batch_id", self.batch_id),
            "dedupe_scope": text("dedupe_scope", self.dedupe_scope),
            "reason": text("reason", self.reason),
        }
        decisions.check_selection(**which)
        state = text("state", self.state)
        which["states"] = decisions.states_named(None if state is None else [state])
        SendosoLink().push(context, hook.config.base_url)
        records = decisions.select(hook.ledger, hook.config.account, **which)
        if decision.send_id is not None and len(records) == 1:
            check_send_id(hook.session, hook.ledger, records[0], decision.send_id)
        tally = decisions.resolve(hook.ledger, records, decision)
        for line in tally.lines():
            self.log.info("%s", line)
        failure = tally.failure()
        if failure is not None:
            if self.do_xcom_push:
                context["ti"].xcom_push(key=XCOM_RETURN_KEY, value=tally.as_json())
            raise failure
        return tally.as_json()


def _keys(value: Any) -> list[str]:
    """Take the keys from a list, or from the text that a form or a template has made of a list."""
    if value is None:
        return []
    if isinstance(value, str):
        value = re.split(r"[\s,]+", value.strip("[]\n\t "))
    elif not isinstance(value, Iterable) or isinstance(value, Mapping):
        raise SendosoConfigError(f"send_keys is {got(value)}; it must be a list, or text. Nothing was changed.")
    keys = (key.strip("'\" ") if isinstance(key, str) else key for key in value)
    return [key for one in keys if (key := text("send_keys", one)) is not None]


def _who(context: Context) -> str:
    run: Any = context["dag_run"]
    # Only Airflow 3 tells a task which user triggered it; a scheduled run has none.
    return getattr(run, "triggering_user_name", None) or f"{run.dag_id}/{run.run_id}"
