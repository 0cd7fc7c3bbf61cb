"""Events by polling: finds what is new in Sendoso's lists, because Sendoso offers no feed of events.

``words`` validates arguments while a DAG is parsed, and imports nothing heavy; ``differences`` holds the pure rules;
``polling`` connects these rules with the ledger, which stores the cursor, and with the session that reads.
"""
