"""
Runs the sending, reconciling, token, pace and ledger code of several processes under a scheduler that owns all order.

``python -m explorer`` takes every schedule of small cases, and random ones of larger cases. A schedule is the order of
transactions, requests and sleeps, and the faults on the way. ``scheduler.py`` says how one is made, ``scenarios.py``
who takes part, ``sendoso.py`` what the server does, and ``invariants.py`` what must hold however it goes.
"""
