"""The settings of the soak: minutes of production are seconds here, so that much happens in a short run."""

from __future__ import annotations

ACCOUNT = "soak"
DAG_ID = "soak_gifts"
TASK_ID = "gifts"
SCOPE = "public write marketplace smartsend"

PEOPLE = 150
"""People of one scope."""
MOST_SENDS = 100
"""``scope_max_sends`` of every second scope: fewer than are invited, so that it is reached."""
MIN_DAYS = 1
"""``min_days_between_gifts``; no soak lasts as long."""

TIMEOUT = 1.0
"""Seconds that one request may take."""
RATE = 200.0
"""Requests a second, of all tasks together."""
LEASE = 10.0
"""Seconds that a claim lasts; the operator takes no less."""
POSTING_LEASE = 2 * TIMEOUT + 15.0
"""Seconds that a POST's claim lasts: what ``sending/posting.py`` makes of the time-out."""
CLAIM_TIMEOUT = 1.0
"""Seconds that a try waits for another run's claims; then it fails and is retried."""
SETTLE_TIME = 2.0
"""Seconds after a POST's deadline until its absence can be proven; no answer here comes later than that."""

POSTS = {
    "catalogue": "/api/v3/sends",
    "campaigns": "/api/v3/send",
    "marketplace": "/api/v3/marketplace/products/send",
    "SmartSend": "/api/v3/smartsend/recommendations/send",
}
"""Where sends of each kind are posted."""
