"""All guards, by what they protect."""

from __future__ import annotations

from mutants.guard import Guard
from mutants.guards import absence, accounts, answers, bucket, claims, limits, posting, tokens, waits

PARTS: dict[str, tuple[Guard, ...]] = {
    "Claims and transitions": claims.GUARDS,
    "From a claim to the commit of its outcome": posting.GUARDS,
    "The answer to a POST": answers.GUARDS,
    "Whether a send went out": absence.GUARDS,
    "What a run may send": limits.GUARDS,
    "Waits": waits.GUARDS,
    "Tokens": tokens.GUARDS,
    "Accounts and the database": accounts.GUARDS,
    "A ledger in a bucket": bucket.GUARDS,
}

GUARDS: tuple[Guard, ...] = tuple(guard for part in PARTS.values() for guard in part)
