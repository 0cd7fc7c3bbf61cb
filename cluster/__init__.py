"""
The cluster: a whole Airflow on machines that share no disk, of which each is killed, frozen or restarted in its turn.

``python -m cluster`` prints what was done and what came of it, and fails if any recipient was sent two gifts or was
lost, if the rate or the token's lifetime was not kept, or if a task's result is not that of its rows. There are a
scheduler with CeleryExecutor, a DAG processor and an API server, two Celery workers and two triggerers
(``deployment``), each on a machine of its own (``machines``), and Redis, PostgreSQL and PgBouncer (``services``). A run
(``run``) has three phases:

1. *Harm.* DAG runs with mapped shards over one ``dedupe_scope``, and deferred sensors, while ``harms`` does one thing
   after the other to them, and Sendoso's answers have the soak's faults.
2. *Calm.* Nothing more is done to anyone; every DAG run ends.
3. *Settling.* A last DAG run over everybody of each scope looks for what is held, and sends again what is not there.

Then ``verdict`` compares what the server has accepted with what the ledger says, recipient by recipient.
"""
