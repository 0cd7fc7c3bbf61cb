"""
The soak: batches of a real Airflow against a Sendoso that misbehaves, while their processes are killed and frozen.

``python -m soak --seconds 120 --ledger sqlite --ledger postgresql`` prints what happened, and fails if any recipient
was sent two gifts or was lost. Every try is Airflow's real supervisor and task runner, forked from a warm process
(``task_process``), with the API server's answers out of a directory (``execution_api``). ``driver`` runs three phases:

1. *Chaos.* Several DAG runs at once over one ``dedupe_scope``, ``weather`` at the server, a ``fates`` for each try.
2. *Calm.* Nothing is done to anyone any more; every batch is retried until it is done, or has nothing left but held
   sends.
3. *Settling.* What is held is proven absent and sent again, with ``on_absent="resend"``; tries are killed once more.

Then ``verdict`` compares what the server has accepted with what the ledger says, recipient by recipient.
"""
