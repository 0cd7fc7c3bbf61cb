"""
The soak: batches of a real Airflow against a Sendoso that misbehaves, while their processes are killed and frozen.

``python -m soak --seconds 120 --ledger sqlite --ledger postgresql`` prints what happened, and fails if any recipient
was sent two gifts or was lost, or if a limit was passed or not used up. Every try is Airflow's real supervisor and task
runner, forked from a warm process (``task_process``), with a directory in place of the API server (``execution_api``).
``driver`` runs three phases:

1. *Chaos.* Several DAG runs at once over one ``dedupe_scope``, with ``server_faults``, and ``kills`` for each try.
2. *Calm.* There are no more faults and kills. Every batch is retried until it is done, or has only held sends left.
3. *Settling.* What is held is proven absent and sent again, with ``on_absent="resend"``; tries are killed once more.

Then ``verdict`` compares what the server has accepted with what the ledger says, recipient by recipient.
"""
