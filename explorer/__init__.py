"""
Runs the sending, reconciling, token, pace and ledger code of several processes under a scheduler that owns all order.

``python -m explorer`` takes every schedule of small cases, and random ones of larger cases. A schedule is the order of
transactions, requests and sleeps, and the faults on the way. ``scheduler.py`` says how one is made, ``scenarios.py``
who takes part, ``sendoso.py`` what the server does, and ``invariants.py`` what must hold however it goes.

`frontrun <https://pypi.org/project/frontrun/>`_ explores threads, tasks or processes at each bytecode, SQL statement or
Redis command, leaves out orders that mean the same, and can own the clock. It does none of what second gifts come from,
so this was built: to kill, freeze or suspend a process at a step, to lose an answer or the acknowledgement of a commit,
and to set one machine's clock; and it starts real processes, where these are coroutines in one.
"""
