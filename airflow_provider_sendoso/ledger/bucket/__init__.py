"""A ledger in a bucket: a log of immutable objects, and in each process a SQLite database that follows the log.

The objects, below the prefix of the ledger's connection::

    log/000000000001          what one transaction has changed; created once, and never changed
    packs/000000000100        the hundred entries up to that one, so that a new process reads fewer objects
    snapshots/000000000900    the whole database after that entry, which a new process starts with

A transaction runs on the process's own database (``replica.py``), and its commit creates the next object of the log
(``log.py``). A store creates an object once (``If-None-Match: *``), so of two processes that commit at the same time
one wins; the other takes back its transaction, applies the winner's entry, and runs the transaction again. All
transactions of a ledger thereby have one order, and each has seen all before it, as in a database with one writer. So
the statements of the ledger are the same as for SQLite, and what they decide holds: claims, limits, pace, tokens,
decisions.

The processes of one machine take turns (``turns.py``), and leave each other the newest objects in a folder
(``nearby.py``), so that each of them may write without asking the store first. Both only save requests.

A process that is told nothing about a creation reads the object and compares a random number in it, the nonce: its own
means that it has committed. The time is the store's (``clock.py``).
"""
