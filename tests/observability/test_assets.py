"""``sendoso://`` assets: one URI for one scope, however it is written."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat import sdk
from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector
from airflow.providers.common.compat.sdk import Asset, HookLineageCollector
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_sendoso.assets.sendoso import (
    asset_uri,
    convert_asset_to_openlineage,
    create_asset,
    openlineage_name,
    sanitize_uri,
)

SAME = {
    "sendoso://app.sendoso.com/q4": ["sendoso://app.sendoso.com/q4/", "SENDOSO://app.sendoso.com//q4"],
    "sendoso://app.sendoso.com/dag/task/run-1": ["sendoso://app.sendoso.com/dag/task/run-1/"],
    "sendoso://app.sendoso.com/Q4%20champions": ["sendoso://app.sendoso.com/Q4 champions"],
    "sendoso://EU%20team/q4": ["sendoso://EU team/q4"],
    "sendoso://127.0.0.1:8765/q4": ["sendoso://127.0.0.1:8765/q4"],
    "sendoso://app.sendoso.com/": ["sendoso://app.sendoso.com"],
}


@pytest.mark.parametrize("uri", SAME)
def test_spellings_of_one_uri_are_one_asset(uri: str) -> None:
    assert {Asset(other).uri for other in [uri, *SAME[uri]]} == {uri}


@pytest.mark.parametrize(
    "uri", ["sendoso:///q4", "sendoso://user@app.sendoso.com/q4", "sendoso://app.sendoso.com/a?b=1"]
)
def test_a_malformed_uri_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="sendoso://<account>/<dedupe_scope>"):
        sanitize_uri(urlsplit(uri))


@given(account=st.text(min_size=1, max_size=40), scope=st.text(max_size=40))
def test_the_uri_of_a_scope_is_its_own_normal_form(account: str, scope: str) -> None:
    uri = asset_uri(account, scope)
    assert sanitize_uri(urlsplit(uri)).geturl() == uri
    assert uri.isascii()


def test_characters_outside_ascii_are_encoded() -> None:
    assert sanitize_uri(urlsplit("sendoso://app.sendoso.com/銀座")).path == "/%E9%8A%80%E5%BA%A7"


def test_openlineage_names_an_asset_by_account_and_scope() -> None:
    assert openlineage_name(asset_uri("app.sendoso.com", "q4 champions")) == (
        "sendoso://app.sendoso.com",
        "q4 champions",
    )
    dataset = convert_asset_to_openlineage(create_asset(account="app.sendoso.com"), None)
    assert (dataset.namespace, dataset.name) == ("sendoso://app.sendoso.com", "sends")


def test_airflow_creates_an_asset_from_the_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    collecting = HookLineageCollector()
    monkeypatch.setattr(sdk, "get_hook_lineage_collector", lambda: collecting, raising=False)
    collector = get_hook_lineage_collector()
    of_what = {"account": "app.sendoso.com", "dedupe_scope": "q4"}
    collector.add_output_asset(context=object(), scheme="sendoso", asset_kwargs=of_what, asset_extra={"rows": 3})
    (found,) = collector.collected_assets.outputs
    assert (found.asset.uri, found.asset.extra) == ("sendoso://app.sendoso.com/q4", {"rows": 3})
