"""HTTP and Sendoso: pure modules that build requests and read answers, and two thin sessions over them.

Nothing here knows Airflow's connections, SQL or the ledger: tokens and pace come in as small objects.
"""
