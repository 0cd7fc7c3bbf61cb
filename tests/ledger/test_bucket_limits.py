"""Limits over a ledger in a bucket: nobody waits for a lock, and who is overtaken decides again on what is new."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from shaky_bucket import ShakyBucket, open_replica
from sqlalchemy.engine import Connection

from airflow_provider_sendoso.exceptions import SendosoLimitError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch, Claim, Wanted
from airflow_provider_sendoso.ledger.spending import Capped, Fit
from airflow_provider_sendoso.models import Item, Kind
from airflow_provider_sendoso.models.spending import SpendingLimits


@pytest.fixture
def claim() -> Callable[[Ledger, str], Claim]:
    """Claims a send to one person, in a scope of its own or in the same."""

    def make(ledger: Ledger, key: str) -> Claim:
        batch = Batch(f"batch of {key}", "account", "q4", "email", "dag", "task", key, -1)
        wanted = Wanted(key, "payload", Item("gift"), None, email_hash="ada", kind=Kind.GIFT)
        (claim,) = ledger.sends.claim(batch, key, 60, [wanted]).values()
        assert isinstance(claim, Claim)
        return claim

    return make


@pytest.mark.parametrize(
    "limits", [{"min_days_between_gifts": 90}, {"scope_max_sends": 1}], ids=lambda one: next(iter(one))
)
def test_a_send_that_is_overtaken_while_it_is_decided_is_decided_again(
    claim: Callable[[Ledger, str], Claim], limits: dict[str, Any]
) -> None:
    bucket = ShakyBucket()
    one, two = (open_replica(bucket)[0] for _ in range(2))
    first, second = claim(one, "first"), claim(two, "second")
    fit, decisions = Fit(SpendingLimits(**limits), "no cost is limited", {}), []

    def decide(connection: Connection) -> bool:
        decisions.append("begun")
        posted = two.sends.begin_post(second, 60, connection, fit)
        decisions.append("posting")
        if len(decisions) == 2:
            assert one.sends.begin_post(first, 60, fit=fit)
        return posted

    with pytest.raises((Capped, SendosoLimitError)):
        two._database.run(decide)
    assert decisions == ["begun", "posting", "begun"]
