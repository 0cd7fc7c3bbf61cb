"""The protocol of a send: claim, permit, commit POSTING, POST, commit the outcome. The only place that POSTs a send.

If a process is killed between two of these steps, the ledger says either that nothing was posted, or that the outcome
is unknown. A send of unknown outcome is looked for at Sendoso, and never posted again on a guess.

``sender`` hands the rows of a batch to ``posting``, which takes one send through the protocol; ``reconciling`` looks
for the sends whose outcome is unknown; ``concurrency`` decides how many are posted at once.
"""

from __future__ import annotations

from airflow_provider_sendoso.sending.jobs import Job, Result
from airflow_provider_sendoso.sending.sender import Sender

__all__ = ["Job", "Result", "Sender"]
