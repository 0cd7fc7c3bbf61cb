"""The operator that writes a person's decision about held sends into the ledger, where there is no shell for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, BaseOperatorLink

from airflow_provider_sendoso import DEFAULT_CONN_ID
from airflow_provider_sendoso.arguments.values import given
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.links.sendoso import SendosoLink
from airflow_provider_sendoso.retries import for_this_airflow

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class ResolveHeldOperator(BaseOperator):
    """
    Record what was found out about sends whose outcome is not known: they were sent, or they were not.

    Give ``send_keys``, or ``batch_id``, or ``dedupe_scope``; a template that renders to nothing is not given. What is
    not open, or may still be being posted, is skipped and counted.

    :param send_keys: the sends' keys, or the first eight or more digits of each: a list, or text with commas or white
        space between them (templated).
    :param batch_id: all open sends of a batch (templated).
    :param dedupe_scope: all open sends of a scope (templated).
    :param reason: of a batch or scope, only those with this reason, like ``http_500`` (templated).
    :param resolution: ``"sent"``: the gift was found; or ``"not_sent"``: it did not go out, and the next run that has
        the recipient among its rows sends it (templated).
    :param send_id: Sendoso's id of the one gift that was found (templated). Without it the send counts as sent and no
        sensor can follow it.
    :param why: how it is known; recorded, so it must name nobody (templated).
    :param resolved_by: who decided; by default who triggered the run, where Airflow knows, else the run (templated).
    :param sendoso_conn_id: the connection (templated).
    :return: counts: ``resolution``, ``resolved``, ``skipped``, and of those ``changed`` and ``in_flight``.
    :raises SendosoConfigError: for wrong arguments, or if there was nothing to resolve; nothing was changed.
    :raises SendosoError: if some may still be being posted, which a retry will find settled.
    """

    template_fields: Sequence[str] = (
        "send_keys",
        "batch_id",
        "dedupe_scope",
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
        self.reason = reason
        self.resolution = resolution
        self.send_id = send_id
        self.why = why
        self.resolved_by = resolved_by
        self.sendoso_conn_id = sendoso_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Resolve the sends; log and push the counts before anything is raised."""
        # What only a run needs is imported by a run: a DAG file is parsed every few seconds.
        from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY

        from airflow_provider_sendoso.hooks.sendoso import SendosoHook
        from airflow_provider_sendoso.ledger import decisions

        decision = decisions.Decision.parse(
            given(self.resolution),
            why=given(self.why),
            resolved_by=given(self.resolved_by) or _who(context),
            send_id=given(self.send_id),
        )
        hook = SendosoHook(self.sendoso_conn_id)
        which: dict[str, Any] = {
            "send_keys": _keys(self.send_keys),
            "batch_id": given(self.batch_id),
            "dedupe_scope": given(self.dedupe_scope),
            "reason": given(self.reason),
        }
        decisions.check_selection(**which)
        SendosoLink().push(context, hook.config.base_url)
        records = decisions.select(hook.ledger, hook.config.account, **which)
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
    """Take the keys from a list, or from what a form or a rendered list has made of one."""
    if value is None:
        return []
    if isinstance(value, str):
        value = re.split(r"[\s,]+", value.strip("[]\n\t "))
    elif not isinstance(value, Iterable):
        raise SendosoConfigError("send_keys must be a list, or text. Nothing was changed.")
    keys = [str(key).strip("'\" ") for key in value]
    return [key for key in keys if given(key) is not None]


def _who(context: Context) -> str:
    run: Any = context["dag_run"]
    # Only Airflow 3 tells a task who triggered it; a run of the scheduler's has nobody.
    return getattr(run, "triggering_user_name", None) or f"{run.dag_id}/{run.run_id}"
