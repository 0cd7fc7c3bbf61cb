"""The operators' reports of sends: each send counts once over all tries, and no report can cost a send."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat import sdk
from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector
from airflow.providers.common.compat.sdk import Asset, AssetAlias, HookLineageCollector, TaskDeferred
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from airflow_provider_sendoso import observability as observing
from airflow_provider_sendoso.exceptions import SendHeldError, SendosoError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.notifications.sendoso import SendosoNotifier
from airflow_provider_sendoso.observability import harmless, lineage, metrics
from airflow_provider_sendoso.observability.spans import span
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator, SendGiftOperator
from airflow_provider_sendoso.sandbox import Sandbox

try:
    from airflow.sdk.execution_time.context import OutletEventAccessors
except ImportError:  # Airflow 2
    from airflow.utils.context import OutletEventAccessors

SENDS = "/api/v3/sends"
PEOPLE = [{"first_name": "Ada", "last_name": f"L{n}", "email": f"ada{n}@example.com"} for n in range(3)]


class FakeTI:
    dag_id, task_id, map_index = "dag", "gifts", -1

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id

    def xcom_push(self, key: str, value: Any) -> None:
        pass


def context(run_id: str = "run-1", **more: Any) -> dict[str, Any]:
    return {"ti": FakeTI(run_id), "run_id": run_id, **more}


def batch(**changes: Any) -> BatchSendOperator:
    arguments = {"gift_id": "gift-donation-trees", "message": "Thank you", "recipients": PEOPLE, "dedupe_scope": "q4"}
    return BatchSendOperator(task_id="gifts", claim_timeout=1, **(arguments | changes))


def gift(**changes: Any) -> SendGiftOperator:
    arguments = {"gift_id": "gift-donation-trees", "message": "Thank you", "recipient": PEOPLE[0], "dedupe_scope": "q4"}
    return SendGiftOperator(task_id="thank", claim_timeout=1, **(arguments | changes))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What was counted under each name."""
    totals: Counter[str] = Counter()

    def incr(name: str, count: int = 1, *, tags: Any = None) -> None:
        totals[name.removeprefix("sendoso.sends.")] += count

    monkeypatch.setattr(metrics.Stats, "incr", incr)
    return totals


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> HookLineageCollector:
    """The collector that Airflow has when somebody reads hook lineage."""
    collecting = HookLineageCollector()
    monkeypatch.setattr(sdk, "get_hook_lineage_collector", lambda: collecting, raising=False)
    return get_hook_lineage_collector()


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


@pytest.mark.usefixtures("ledger")
class TestMetrics:
    def test_a_gift_is_counted_once_over_all_tries(self, sendoso: Sandbox, counted: Counter[str]) -> None:
        sendoso.fault("status", times=2, method="POST", path=SENDS, status=403)
        for _ in range(2):
            with pytest.raises(SendosoError):
                batch(max_in_flight=1).execute(context())
        assert counted == {"not_reached": 6}
        for _ in range(2):
            batch().execute(context())
        assert counted == {"not_reached": 6, "sent": 3}
        batch().execute(context("run-2"))
        assert counted == {"not_reached": 6, "sent": 3, "already_sent": 3}

    def test_an_unknown_send_that_is_found_is_counted_as_sent(self, sendoso: Sandbox, counted: Counter[str]) -> None:
        sendoso.fault("drop_after", method="POST", path=SENDS)
        batch().execute(context())
        assert counted == {"sent": 3}

    def test_a_send_that_stays_unknown_is_counted_as_held(self, sendoso: Sandbox, counted: Counter[str]) -> None:
        sendoso.fault("drop_before", method="POST", path=SENDS)
        with pytest.raises(SendHeldError):
            batch().execute(context())
        assert counted == {"sent": 2, "held": 1}

    @pytest.mark.parametrize("make", [lambda **changes: batch(**changes), lambda **changes: gift(**changes)])
    def test_a_deferred_task_is_counted_when_it_has_ended(
        self, sendoso: Sandbox, counted: Counter[str], make: Callable[..., Any]
    ) -> None:
        sendoso.fault("drop_before", method="POST", path=SENDS)
        operator = make(on_absent="resend", settle_time=0)
        with pytest.raises(TaskDeferred):
            operator.execute(context())
        assert "held" not in counted
        sent = counted["sent"]
        with suppress(SendHeldError):  # if the deadline of its POST is not over yet
            operator.execute_after_settling(context())
        assert counted["held"] + counted["sent"] - sent == 1

    def test_a_refusal_is_counted_by_the_try_that_got_it(self, sendoso: Sandbox, counted: Counter[str]) -> None:
        sendoso.fault("status", method="POST", path=SENDS, status=422)
        for _ in range(2):
            batch().execute(context())
        assert counted == {"sent": 2, "refused": 1}

    def test_a_dry_run_counts_nothing(self, sendoso: Sandbox, counted: Counter[str]) -> None:
        batch(dry_run=True).execute(context())
        assert counted == {}

    def test_a_single_gift_is_counted_for_operator_and_notifier(self, sendoso: Sandbox, counted: Counter[str]) -> None:
        gift().execute(context())
        gift().execute(context("run-2"))
        SendosoNotifier(gift_id="gift-donation-trees", recipient=PEOPLE[1], message="!").notify(context())
        assert counted == {"sent": 2, "already_sent": 1}

    def test_a_gift_that_was_not_reached_is_counted(self, sendoso: Sandbox, counted: Counter[str]) -> None:
        sendoso.fault("status", method="POST", path=SENDS, status=403)
        with pytest.raises(SendosoError):
            gift().execute(context())
        assert counted == {"not_reached": 1}


PRODUCTS = {
    "marketplace": {"gift_id": None, "marketplace_variant_id": "var-tea"},
    "smart_send": {"gift_id": None, "smart_send": True, "price_lte_usd": 50},
}


@pytest.mark.parametrize("kind", PRODUCTS)
def test_products_count_and_have_their_lineage_like_gifts(
    sendoso: Sandbox,
    ledger: Any,
    set_connection: Callable[..., None],
    counted: Counter[str],
    collector: HookLineageCollector,
    kind: str,
) -> None:
    extra = {"requests_per_second": 500, "timeout": 60, "scope": "public write marketplace smartsend"}
    connection = {"conn_type": "sendoso", "host": sendoso.url, "login": "sandbox", "password": "sandbox"}
    set_connection("sendoso_default", connection | {"extra": extra})
    events = OutletEventAccessors()
    batch(**PRODUCTS[kind], outlets=OUTLETS).execute(context(outlet_events=events))
    batch(**PRODUCTS[kind]).execute(context("run-2"))
    gift(**PRODUCTS[kind]).execute(context("run-3"))
    assert counted == {"sent": 3, "already_sent": 4}
    assert set(outputs(collector)) == {"sendoso://127.0.0.1/q4"}
    assert (events[OUTLETS[0]].extra["sent"], events_of_alias(events)[0][0]) == (3, "sendoso://127.0.0.1/q4")
    SendosoHook().send_gift(recipient=PEOPLE[0], **{name: value for name, value in PRODUCTS[kind].items() if value})
    assert "sendoso://127.0.0.1/" in outputs(collector)


OUTLETS = [Asset("sendoso://app.sendoso.com/q4"), Asset("q4_gifts"), AssetAlias("campaigns")]


def events_of_alias(events: OutletEventAccessors) -> list[tuple[str, Any]]:
    of_alias = events[OUTLETS[2]]
    if hasattr(of_alias, "asset_alias_events"):
        return [(event.dest_asset_key.uri, event.extra) for event in of_alias.asset_alias_events]
    return [(event["dest_dataset_uri"], event["extra"]) for event in of_alias.dataset_alias_events]


@pytest.mark.usefixtures("ledger")
class TestAssetEvents:
    def test_asset_events_carry_the_counts_and_an_alias_becomes_the_scope(self, sendoso: Sandbox) -> None:
        events = OutletEventAccessors()
        summary = batch(outlets=OUTLETS).execute(context(outlet_events=events))
        told = summary | {"dry_run": False}
        assert (told["sent"], told["dedupe_scope"]) == (3, "q4")
        for asset in OUTLETS[:2]:
            assert events[asset].extra == told
        assert events_of_alias(events) == [("sendoso://127.0.0.1/q4", told)]
        assert "ada" not in json.dumps(told).casefold()

    def test_the_asset_event_of_a_dry_run_says_so(self, sendoso: Sandbox) -> None:
        events = OutletEventAccessors()
        batch(outlets=OUTLETS[:1], dry_run=True).execute(context(outlet_events=events))
        extra = events[OUTLETS[0]].extra
        assert (extra["dry_run"], extra["sent"], extra["would_send"]) == (True, 0, 3)

    def test_extra_of_the_author_is_kept_in_an_asset_event(self, sendoso: Sandbox) -> None:
        events = OutletEventAccessors()
        events[OUTLETS[0]].extra["season"] = "winter"
        batch(outlets=OUTLETS[:1]).execute(context(outlet_events=events))
        assert events[OUTLETS[0]].extra["season"] == "winter"

    def test_an_outlet_that_is_no_asset_is_ignored(self, sendoso: Sandbox) -> None:
        events = OutletEventAccessors()
        operator = batch()
        operator.outlets = [object(), OUTLETS[0]]
        operator.execute(context(outlet_events=events))
        assert events[OUTLETS[0]].extra["sent"] == 3


@pytest.mark.usefixtures("ledger")
class TestHookLineage:
    def test_the_lineage_of_a_batch_is_its_scope(self, sendoso: Sandbox, collector: HookLineageCollector) -> None:
        batch().execute(context())
        assert outputs(collector) == ["sendoso://127.0.0.1/q4"]

    def test_a_dry_run_has_no_lineage(self, sendoso: Sandbox, collector: HookLineageCollector) -> None:
        batch(dry_run=True).execute(context())
        assert outputs(collector) == []
        for dry_run in (False, True):  # the same task again: its gifts are out, and the dry run has not sent them
            batch(dry_run=dry_run).execute(context())
        assert len(outputs(collector)) == 1

    def test_the_lineage_of_a_single_gift_is_the_account(
        self, sendoso: Sandbox, collector: HookLineageCollector
    ) -> None:
        gift().execute(context())
        assert outputs(collector) == ["sendoso://127.0.0.1/"]

    def test_the_lineage_of_a_gift_of_the_hook_is_the_account(
        self, sendoso: Sandbox, collector: HookLineageCollector
    ) -> None:
        SendosoHook().send_gift(gift_id="gift-donation-trees", recipient=PEOPLE[0], message="Thank you")
        assert outputs(collector) == ["sendoso://127.0.0.1/"]


def outputs(collector: HookLineageCollector) -> list[str]:
    return [found.asset.uri for found in collector.collected_assets.outputs]


def test_a_query_behind_a_named_cursor_is_reported_once(
    sendoso: Sandbox, ledger: Any, postgres_database: Any, set_connection: Any, collector: HookLineageCollector
) -> None:
    """Psycopg's rows stay in the server, so the hook's own ``run``, which would tell, does not run the query."""
    set_connection("warehouse", postgres_database().connection)
    sql = "SELECT 'Ada' AS first_name, 'L' AS last_name, email FROM (VALUES (%s::text)) AS people (email)"
    batch(recipients=None, sql=sql, conn_id="warehouse", parameters=["ada@example.com"]).execute(context())
    assert [found.value["sql"] for found in collector.collected_assets.extra] == [sql]


class TestSpans:
    def test_spans_nest_and_have_their_attributes(self, spans: InMemorySpanExporter) -> None:
        with span("outer", {"rows": 3, "nothing": None}) as describe:
            with span("inner"):
                pass
            describe({"sent": 2})
        inner, outer = spans.get_finished_spans()
        assert (inner.name, outer.name, inner.parent.span_id) == (
            "sendoso.inner",
            "sendoso.outer",
            outer.context.span_id,
        )
        assert dict(outer.attributes) == {"sendoso.rows": 3, "sendoso.sent": 2}

    def test_an_error_is_raised_and_its_words_are_not_in_the_span(self, spans: InMemorySpanExporter) -> None:
        with pytest.raises(ValueError, match="ada@"), span("batch"):
            raise ValueError("ada@example.com")
        (ended,) = spans.get_finished_spans()
        assert (ended.status.status_code, ended.status.description) == (trace.StatusCode.ERROR, "ValueError")
        assert "ada@example.com" not in ended.to_json()

    def test_a_deferral_is_no_error(self, spans: InMemorySpanExporter) -> None:
        from airflow.providers.common.compat.standard.triggers import TimeDeltaTrigger

        deferred = TaskDeferred(trigger=TimeDeltaTrigger(timedelta(1)), method_name="x")
        with pytest.raises(TaskDeferred), span("batch"):
            raise deferred
        assert spans.get_finished_spans()[0].status.is_ok

    def test_without_opentelemetry_nothing_is_traced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "opentelemetry", None)
        with span("batch", {"rows": 3}) as describe:
            describe({"sent": 1})


class BrokenError(Exception):
    pass


def break_it(*args: Any, **kwargs: Any) -> None:
    raise BrokenError("ada0@example.com")


BREAK = {
    "metrics": (metrics.Stats, "incr"),
    "spans": (trace, "get_tracer"),
    "hook lineage": (lineage, "get_hook_lineage_collector"),
    "asset events": (OutletEventAccessors, "__getitem__"),
}


@pytest.fixture
def forget_complaints() -> Iterator[None]:
    observing._complained.clear()
    yield
    observing._complained.clear()


@pytest.mark.parametrize("what", BREAK)
@pytest.mark.usefixtures("ledger", "forget_complaints")
def test_a_report_that_breaks_costs_no_send_and_is_logged_once_without_its_words(
    sendoso: Sandbox, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    said: list[str] = []
    monkeypatch.setattr(observing.log, "warning", lambda text, *args: said.append(text % args))
    monkeypatch.setattr(*BREAK[what], break_it)
    summary = batch(outlets=OUTLETS).execute(context(outlet_events=OutletEventAccessors()))
    assert summary["sent"] == len(sendoso.sends) == 3
    (words,) = said
    assert words.endswith("failed (BrokenError); sends are not affected.")


def test_a_span_that_breaks_hides_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "set_span_in_context", break_it)
    with pytest.raises(KeyError), span("batch"):
        raise KeyError


def test_a_broken_report_in_a_task_that_cannot_log_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_supervisor(*args: Any) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(observing.log, "warning", no_supervisor)
    assert harmless(break_it)() is None


def test_an_interrupt_is_not_swallowed_by_a_report() -> None:
    @harmless
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()


@pytest.mark.usefixtures("ledger")
class TestOpenLineage:
    """With the real package; a real task with its listener is in ``test_observed_task.py``."""

    def test_a_batch_of_recipients_has_an_output_alone(self, sendoso: Sandbox) -> None:
        operator = batch()
        operator.execute(context())
        told = operator.get_openlineage_facets_on_complete(None)
        assert told.inputs == []
        (output,) = told.outputs
        assert (output.namespace, output.name) == ("sendoso://127.0.0.1", "q4")
        assert output.outputFacets["outputStatistics"].rowCount == 3

    def test_a_dry_run_has_no_output(self, sendoso: Sandbox) -> None:
        operator = batch(dry_run=True)
        operator.execute(context())
        assert operator.get_openlineage_facets_on_complete(None).outputs == []

    def test_a_try_that_did_not_begin_to_send_has_no_facets(self) -> None:
        assert batch().get_openlineage_facets_on_complete(None) is None

    def test_a_facet_that_raises_leaves_the_other_facets(
        self, sendoso: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "airflow.providers.common.compat.openlineage.utils.sql.get_openlineage_facets_with_sql", break_it
        )
        operator = batch()
        operator.execute(context())
        operator.sql, operator.conn_id = "SELECT 1", "no_such_connection"
        assert len(operator.get_openlineage_facets_on_complete(None).outputs) == 1

    def test_without_openlineage_installed_there_are_no_facets(
        self, sendoso: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "airflow.providers.openlineage.extractors", None)
        operator = batch()
        operator.execute(context())
        assert operator.get_openlineage_facets_on_complete(None) is None
