"""Importing the package and parsing the example DAGs: no connection, no lookup, no database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS

GUARDED = str(Path(__file__).with_name("guarded.py"))
DAGS = str(Path(__file__).parents[2] / "dags_examples")


@pytest.fixture(scope="module")
def guarded(airflow: Any) -> dict[str, list[str]]:
    done = airflow.python(GUARDED, DAGS)
    assert done.returncode == 0, done.stdout + done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    result: dict[str, list[str]] = json.loads(line.removeprefix("RESULT "))
    return result


def test_every_module_imports(guarded: dict[str, list[str]]) -> None:
    for name in ("operators", "sensors", "hooks", "triggers", "notifications"):
        assert f"airflow_provider_sendoso.{name}.sendoso" in guarded["modules"]


def test_example_dags_parse(guarded: dict[str, list[str]]) -> None:
    approved = ["approved_campaign.approve", "approved_campaign.preview", "approved_campaign.send_gifts"]
    watched = ["delivered_event.follow_up"] if AIRFLOW_V_3_0_PLUS else []
    assert guarded["tasks"] == (approved if AIRFLOW_V_3_1_PLUS else []) + [
        "campaign_results.gifts_arrived",
        "campaign_results.not_received",
        "campaign_results.send_gifts",
        "champions_campaign.gifts_arrived",
        "champions_campaign.send_gifts",
        "choose_a_gift.dearest_egift",
        "choose_a_gift.thank",
        *watched,
        "egift_links.make_links",
        "egift_links.merge",
        "gifts_in_shards.choose_recipients",
        "gifts_in_shards.send_gifts",
        "mapped_gifts.choose_gifts",
        "mapped_gifts.send",
        "marketplace_catalogue.land_products",
        "new_campaign.announce",
        "new_campaign.campaigns",
        "quarterly_budget.chair",
        "quarterly_budget.choose_recipients",
        "quarterly_budget.teams",
        "redeemed_egifts.not_redeemed",
        "redeemed_egifts.redeemed",
        "redeemed_egifts.send_egifts",
        "replace_returned.send_again",
        "replaced_gift.send_again",
        "reward_fulfilment.fulfil",
        "reward_fulfilment.mark",
        "send_attribution.attribute",
        "send_attribution.land_sends",
        "sendoso_check.check",
        "sendoso_ledger.list_open",
        "sendoso_ledger.resolve",
        "sendoso_ledger.show_budget",
        "sendoso_ledger.to_be_resolved",
        "smart_send_renewals.approved",
        "smart_send_renewals.send_gifts",
        "speaker_gifts.send_gifts",
        "speaker_gifts_arrived.arrived",
        "speaker_gifts_arrived.batches",
        "thank_you.arrived",
        "thank_you.thank",
        "weekly_campaign.send_gifts",
        "welcome_gift.make_workspace",
    ]


def test_importing_and_parsing_look_up_no_connection_and_open_no_socket(guarded: dict[str, list[str]]) -> None:
    assert guarded["noticed"] == ["lookup", "socket.getaddrinfo"]
    assert guarded["refused"] == []
