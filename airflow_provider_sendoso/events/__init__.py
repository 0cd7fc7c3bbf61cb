"""Events by polling: what is new in Sendoso's lists, which offer no feed of it.

``words`` are checked when a DAG is parsed, and import nothing that only a run needs; ``differences`` are the pure
rules; ``polling`` stands between them, the ledger that keeps the cursor, and whichever session reads.
"""
