"""The scenarios, and which of them are explored to the end."""

from __future__ import annotations

from dataclasses import dataclass, replace

from airflow_provider_sendoso.models import Kind
from explorer.ledger import RESTARTS
from explorer.scenarios import SETTLE_TIME, Scenario

ONE = Scenario("one run", runs=1)
TWO = Scenario("two runs")
TWO_PEOPLE = Scenario("two runs, two people", people=2)
RESEND = Scenario("resend", people=2, resend_absent=True)
RESEND_ONE = Scenario("one run, resend", runs=1, people=2, resend_absent=True, max_in_flight=1)
CAMPAIGN = Scenario("campaign", kinds=(Kind.CAMPAIGN,))
CAMPAIGN_RESEND = Scenario("campaign, resend", kinds=(Kind.CAMPAIGN,), resend_absent=True)
MARKETPLACE = Scenario("marketplace and SmartSend", kinds=(Kind.MARKETPLACE, Kind.SMART_SEND), tries=1)
MARKETPLACE_RESEND = Scenario(
    "marketplace, resend", kinds=(Kind.MARKETPLACE,), runs=1, people=2, resend_absent=True, max_in_flight=1
)
TOKENS = Scenario("tokens", tokens_only=True, runs=2, refresh_token=True)
THREE = Scenario("three runs", runs=3, people=2, refresh_token=True)
LIMITED = Scenario("limit", runs=2, people=2, max_sends=1)
SCOPE_LIMITED = Scenario("scope limit", people=2, scope_max_sends=1)
_LATE = ("frozen", "frozen for long", "frozen at the first byte", "accepted late", "answer lost", "request lost")
LATE = Scenario(
    "scope limit, late POSTs", people=3, scope_max_sends=2, max_in_flight=1, resend_absent=True, faults=_LATE
)
LATE_AT_ONCE = Scenario(
    "limits of sends and cost, late POSTs", people=4, scope_max_sends=3, scope_max_cost=39, resend_absent=True
)
CAPPED = Scenario("days between gifts", kinds=(Kind.GIFT, Kind.MARKETPLACE), tries=1, min_days=30.0)
CAPPED_LATE = replace(
    CAPPED, name="days between gifts, late POSTs", people=2, tries=2, resend_absent=True, faults=_LATE
)
_RESTARTS = ("acknowledgement lost", *RESTARTS)
GROUP = Scenario("group commit", runs=1, people=5, max_in_flight=4, rate=50.0, transaction=0.05, answers_every=0.5)
GROUP_RESTARTS = replace(GROUP, name="group commit, restarts", faults=_RESTARTS)
OUTCOMES_RESTARTS = replace(
    GROUP_RESTARTS, name="group commit of outcomes, restarts", people=4, max_in_flight=3, transaction=0.025
)
GROUP_LIMITED = replace(
    GROUP, name="group commit, scope limit", runs=2, people=4, scope_max_sends=3, resend_absent=True
)
WOKEN = Scenario("a wait that webhooks wake", people=2, max_in_flight=1, waits=1)
WOKEN_TWO = replace(WOKEN, name="two waits that webhooks wake", waits=2)
WOKEN_UNKNOWN = replace(
    WOKEN,
    name="a wait that webhooks wake, lost answers",
    faults=("answer lost", "killed after acceptance", "webhook lost", "webhook twice", "frozen"),
)
WOKEN_CAMPAIGN = replace(WOKEN_UNKNOWN, name="a wait for campaign sends", kinds=(Kind.CAMPAIGN,), people=1)
SHORT_TOKENS = Scenario("short tokens", people=2, refresh_token=True, lifetime=60.0)
RATE = Scenario("rate", people=4, max_in_flight=3)
CLOCK = Scenario(
    "a worker's clock",
    people=2,
    resend_absent=True,
    max_in_flight=1,
    faults=("accepted late", "clock set an hour ahead"),
)
DATABASES_CLOCK = replace(
    CLOCK, name="the database's clock", runs=1, faults=("accepted late", "database's clock set an hour ahead")
)
LAST_MOMENT = Scenario(
    "accepted at the last moment",
    runs=1,
    people=2,
    resend_absent=True,
    max_in_flight=1,
    late=SETTLE_TIME - 1.0,
    faults=("listed late", "machine asleep for a moment"),
)
BUCKET = Scenario("bucket", runs=1, bucket=True)
BUCKET_TWO = Scenario("bucket, two runs", bucket=True)
BUCKET_TOKENS = Scenario("bucket, tokens", tokens_only=True, runs=2, refresh_token=True, bucket=True)
BUCKET_THREE = Scenario("bucket, three runs", runs=3, people=2, refresh_token=True, bucket=True)
BUCKET_LIMITED = Scenario("bucket, scope limit", people=2, scope_max_sends=1, bucket=True)

SCENARIOS = [
    ONE,
    TWO,
    TWO_PEOPLE,
    RESEND,
    RESEND_ONE,
    CAMPAIGN,
    CAMPAIGN_RESEND,
    MARKETPLACE,
    MARKETPLACE_RESEND,
    TOKENS,
    THREE,
    LIMITED,
    SCOPE_LIMITED,
    LATE,
    LATE_AT_ONCE,
    CAPPED,
    CAPPED_LATE,
    GROUP,
    GROUP_RESTARTS,
    OUTCOMES_RESTARTS,
    GROUP_LIMITED,
    WOKEN,
    WOKEN_UNKNOWN,
    WOKEN_TWO,
    WOKEN_CAMPAIGN,
    SHORT_TOKENS,
    RATE,
    CLOCK,
    DATABASES_CLOCK,
    LAST_MOMENT,
    BUCKET,
    BUCKET_TWO,
    BUCKET_TOKENS,
    BUCKET_THREE,
    BUCKET_LIMITED,
]


@dataclass(frozen=True)
class Case:
    """A scenario that is explored to the end, within these bounds."""

    scenario: Scenario
    switches: int
    faults: int


CASES = [
    Case(TOKENS, 2, 0),
    Case(TOKENS, 0, 1),
    Case(ONE, 0, 1),
    Case(TWO, 1, 0),
    Case(RATE, 1, 0),
    Case(OUTCOMES_RESTARTS, 0, 1),
    Case(SCOPE_LIMITED, 1, 0),
    Case(GROUP_RESTARTS, 0, 1),
    Case(CAPPED, 1, 0),
    Case(LATE_AT_ONCE, 1, 0),
    Case(LAST_MOMENT, 0, 2),
    Case(RESEND_ONE, 0, 1),
    Case(CAPPED_LATE, 0, 1),
    Case(LATE, 0, 1),
    Case(WOKEN_CAMPAIGN, 0, 1),
    Case(WOKEN_UNKNOWN, 0, 1),
    Case(WOKEN, 1, 0),
    Case(DATABASES_CLOCK, 0, 2),
    Case(TWO, 0, 1),
    Case(CAMPAIGN, 0, 1),
    Case(MARKETPLACE, 0, 1),
    Case(CAPPED, 0, 1),
    Case(BUCKET_TOKENS, 1, 0),
    Case(BUCKET_TOKENS, 0, 1),
    Case(BUCKET, 0, 1),
    Case(BUCKET_TWO, 1, 0),
]
"""Ordered so that those that take longest come last, and a ledger in a bucket after one in a database."""

LARGE_CASES = [
    Case(CLOCK, 0, 2),
    Case(BUCKET_TWO, 0, 1),
    Case(BUCKET_LIMITED, 1, 0),
    Case(TOKENS, 3, 0),
    Case(TOKENS, 1, 1),
    Case(RESEND, 0, 1),
    Case(LATE, 1, 1),
    Case(WOKEN_TWO, 1, 0),
    Case(OUTCOMES_RESTARTS, 0, 2),
    Case(MARKETPLACE_RESEND, 0, 1),
    Case(TWO, 2, 0),
    Case(TWO, 1, 1),
]
"""Explored with ``--large``: they take minutes."""
