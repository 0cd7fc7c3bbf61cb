"""Reports the sources and outputs of sends to Airflow's assets, its hook lineage, and OpenLineage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector
from airflow.providers.common.compat.sdk import AssetAlias

from airflow_provider_sendoso.assets.sendoso import SCHEME, asset_uri, create_asset, openlineage_name
from airflow_provider_sendoso.observability import harmless
from airflow_provider_sendoso.warehouse.hooks import warehouse_hook

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseHook
    from airflow.providers.common.sql.hooks.sql import DbApiHook
    from airflow.providers.openlineage.extractors import OperatorLineage


@harmless
def report_output(hook: BaseHook, account: str, dedupe_scope: str | None = None) -> None:
    """
    Report to Airflow's collector of hook lineage that gifts were sent.

    :param hook: the hook that sent them.
    :param account: the account of the sends.
    :param dedupe_scope: the batch's scope; ``None`` for single gifts.
    """
    of_what = {"account": account, "dedupe_scope": dedupe_scope}
    collector = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
    collector.add_output_asset(context=hook, scheme=SCHEME, asset_kwargs=of_what)


@harmless
def report_query(hook: DbApiHook, sql: str, cursor: Any) -> None:
    """
    Report to Airflow's collector of hook lineage a query that did not go through the hook's own ``run``.

    :param hook: the warehouse's hook.
    :param sql: the query; its parameters, which may be personal, are not reported.
    :param cursor: the cursor after the query.
    """
    from airflow.providers.common.sql.hooks.lineage import send_sql_hook_lineage

    send_sql_hook_lineage(context=hook, sql=sql, cur=cursor)


def note_asset_events(
    context: Mapping[str, Any], outlets: Iterable[Any], account: str, dedupe_scope: str, extra: Mapping[str, Any]
) -> None:
    """
    Add a batch's summary to the task's asset events, which Airflow creates when the task succeeds.

    An outlet that is an alias becomes the asset of the batch's scope.

    :param context: the task's context.
    :param outlets: the task's outlets.
    :param account: the account of the sends.
    :param dedupe_scope: the batch's scope.
    :param extra: the counts. No personal data.
    """
    events = context.get("outlet_events")
    if events is not None:
        for outlet in outlets:
            _note_asset_event(events, outlet, account, dedupe_scope, extra)


@harmless
def _note_asset_event(events: Any, outlet: Any, account: str, dedupe_scope: str, extra: Mapping[str, Any]) -> None:
    if isinstance(outlet, AssetAlias):
        events[outlet].add(create_asset(account=account, dedupe_scope=dedupe_scope), extra=dict(extra))
    else:
        events[outlet].extra.update(extra)


@dataclass(frozen=True)
class Query:
    """
    The query that a batch was read with.

    :param sql: the query.
    :param conn_id: the warehouse's connection.
    :param hook_params: keyword arguments of the warehouse's hook.
    """

    sql: str
    conn_id: str
    hook_params: Mapping[str, Any] | None = None


@harmless
def openlineage_of(query: Query | None, account: str, dedupe_scope: str, sent: int) -> OperatorLineage[Any, Any]:
    """
    Build OpenLineage's inputs and outputs of a batch.

    :param query: the batch's query; ``None`` for a batch of ``recipients``.
    :param account: the account of the sends.
    :param dedupe_scope: the batch's scope.
    :param sent: number of gifts that this batch has sent; without any there is no output.
    """
    from airflow.providers.common.compat.openlineage.facet import OutputDataset, OutputStatisticsOutputDatasetFacet
    from airflow.providers.openlineage.extractors import OperatorLineage

    lineage = (_inputs_of(query) if query else None) or OperatorLineage()
    if sent:
        namespace, name = openlineage_name(asset_uri(account, dedupe_scope))
        statistics = OutputStatisticsOutputDatasetFacet(rowCount=sent)
        lineage.outputs = [OutputDataset(namespace, name, outputFacets={"outputStatistics": statistics})]
    return lineage


@harmless
def _inputs_of(query: Query) -> OperatorLineage[Any, Any] | None:
    from airflow.providers.common.compat.openlineage.utils.sql import get_openlineage_facets_with_sql

    hook = warehouse_hook(query.conn_id, query.hook_params)
    database = getattr(hook, "database", None)
    return get_openlineage_facets_with_sql(hook=hook, sql=query.sql, conn_id=query.conn_id, database=database)
