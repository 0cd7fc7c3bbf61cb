"""The settings of the cluster: minutes of production are seconds here, and a harm is over in five minutes."""

from __future__ import annotations

DAG_ID = "cluster_gifts"
SHARDS = 3
"""Mapped tasks of a DAG run."""

PEOPLE = 240
"""People in one scope."""
INVITED = 108
"""How many of them each DAG run invites."""
RUNS = 3
"""DAG runs over one scope, at once: each recipient is in one or two of them."""

TIMEOUT = 3.0
"""Seconds that one request may take."""
RATE = 10
"""Requests a second, of all tasks, sensors and triggers together; the server turns away what comes faster."""
LEASE = 15.0
"""Seconds that a claim lasts."""
POSTING_LEASE = 2 * TIMEOUT + 15.0
"""Seconds that a POST's claim lasts: what ``sending/posting.py`` makes of the time-out."""
CLAIM_TIMEOUT = 10.0
"""Seconds that a task waits for another's claims; then it fails and is retried."""
SETTLE_TIME = 5.0
"""Seconds after a POST's deadline until its absence can be proven; no answer here comes later than that."""
POKE_INTERVAL = 4.0
"""Seconds between two looks of the sensor."""
STEP = 4.0
"""Seconds from one status of a gift to the next."""

HEARTBEAT_TIMEOUT = 30.0
"""Seconds without a sign of life until Airflow tries a task anew beside whatever is left of it."""
VISIBILITY_TIMEOUT = 60
"""Seconds after which Redis's messages are delivered again, where the task has not ended by then."""
FREEZE = 110.0
"""Seconds that a worker stands still: longer than the heartbeat's time-out, all leases and the next try."""
