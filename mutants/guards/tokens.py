"""Guards of a token's renewal: one at a time, read again, and stored before it is used."""

from __future__ import annotations

from mutants.guard import Guard, guard

_MANAGER = "client/tokens.py"
_STORE = "ledger/tokens.py"
_OF_STORE = "ledger/test_ledger_tokens.py"
_CHAIN = "tokens/test_tokens_refresh_chain.py"
_INTERRUPTED = "tokens/test_tokens_interrupted.py"

GUARDS: tuple[Guard, ...] = (
    guard(
        "renewal-claim",
        "One process at a time renews a token",
        _STORE + ":LedgerTokenStore.claim",
        "or_(tokens.c.owner.is_(None), tokens.c.owner == owner, tokens.c.lease_until <= db_now())",
        "or_(tokens.c.owner.is_(None), tokens.c.owner.is_not(None))",
        f"{_OF_STORE}::test_one_owner_claims_the_renewal_until_its_lease_lapses",
        explored=True,
    ),
    guard(
        "renewal-lapses",
        "The claim of a process that died lapses",
        _STORE + ":LedgerTokenStore.claim",
        "or_(tokens.c.owner.is_(None), tokens.c.owner == owner, tokens.c.lease_until <= db_now())",
        "or_(tokens.c.owner.is_(None), tokens.c.owner == owner)",
        f"{_OF_STORE}::test_one_owner_claims_the_renewal_until_its_lease_lapses",
        explored=True,
    ),
    guard(
        "reread",
        "The token is read again once its renewal is claimed",
        _MANAGER + ":TokenManager._obtain",
        "self._claimed(lambda: fresh() or self._renewed(), fresh)",
        "self._claimed(self._renewed, fresh)",
        f"{_CHAIN}::test_a_token_that_another_process_stored_before_the_claim_is_used",
        explored=True,
    ),
    guard(
        "renewal-lease",
        "The claim on a renewal is extended, or found lost, after the wait for a slot",
        _MANAGER + ":TokenManager._before_a_request",
        "        if not self._store.renew(self._owner, self._lease):\n            raise _ClaimLost\n",
        "",
        f"{_CHAIN}::test_a_process_frozen_before_its_request_uses_the_tokens_that_another_renewed",
        explored=True,
    ),
    guard(
        "renewal-lease-owner",
        "Only the owner of a renewal's claim extends it",
        _STORE + ":LedgerTokenStore.renew",
        "update(tokens).where(self._this_row, tokens.c.owner == owner)",
        "update(tokens).where(self._this_row)",
        f"{_OF_STORE}::test_an_owner_renews_its_claim_until_another_owner_has_claimed",
        explored=True,
    ),
    guard(
        "store-owner",
        "Only the owner of a renewal's claim stores the token",
        _STORE + ":LedgerTokenStore.store",
        "return self._update(values, tokens.c.owner == owner, patience=_STORE_PATIENCE)",
        "return self._update(values, patience=_STORE_PATIENCE)",
        f"{_OF_STORE}::test_an_owner_that_lost_its_claim_stores_nothing",
        explored=True,
    ),
    guard(
        "clear-owner",
        "Only the owner of a renewal's claim deletes the token",
        _STORE + ":LedgerTokenStore.clear",
        'return self._update({"ciphertext": None, "renew_at": 0.0}, tokens.c.owner == owner)',
        'return self._update({"ciphertext": None, "renew_at": 0.0})',
        f"{_OF_STORE}::test_an_owner_that_lost_its_claim_clears_nothing",
    ),
    guard(
        "release-renewal",
        "Only the owner of a renewal's claim releases it",
        _STORE + ":LedgerTokenStore.release",
        'self._update({"owner": None}, tokens.c.owner == owner)',
        'self._update({"owner": None})',
        f"{_OF_STORE}::test_an_owner_that_lost_its_claim_does_not_release_the_next_ones",
        explored=True,
    ),
    guard(
        "refused-token",
        "A token that was answered with 401 is not used again",
        _MANAGER + ":TokenManager._fresh",
        "if token is None or token == stale or renew_in <= 0:",
        "if token is None or renew_in <= 0:",
        "client/test_client_session.py::test_a_refused_token_is_renewed_once",
    ),
    guard(
        "due-token",
        "A token is renewed before it expires",
        _MANAGER + ":TokenManager._fresh",
        "if token is None or token == stale or renew_in <= 0:",
        "if token is None or token == stale:",
        f"{_CHAIN}::test_a_token_is_renewed_before_it_expires",
    ),
    guard(
        "generation",
        "Of two grants the one is kept whose refresh token is not used up",
        _MANAGER + ":TokenManager._settle",
        "if tokens.refresh_token is None or theirs is None or tokens.is_spent(theirs):",
        "if tokens.refresh_token is not None or theirs is None:",
        f"{_CHAIN}::test_tokens_of_another_process_stored_during_a_sleep_are_kept",
    ),
    guard(
        "generation-lost",
        "A grant is stored also by a process that has lost its claim, if nothing newer is stored",
        _MANAGER + ":TokenManager._keep",
        "            return self._claimed(lambda: self._settle(tokens, grant))\n",
        "            return grant.access_token\n",
        f"{_CHAIN}::test_tokens_stored_after_a_sleep_are_kept_when_another_process_found_the_refresh_token_spent",
    ),
    guard(
        "spent",
        "A refresh token that was refused is not tried again",
        "client/oauth.py:Tokens.next_refresh_token",
        "return None if seed is None or self.is_spent(seed) else seed",
        "return seed",
        f"{_CHAIN}::test_without_a_living_refresh_token_there_is_one_error_and_no_second_request",
    ),
    guard(
        "refusal-stored",
        "That a refresh token was refused is stored only by the owner of the claim",
        _MANAGER + ":TokenManager._renewed",
        "if not self._store.store(self._owner, step.dump(), 0.0):",
        "if self._store.store(self._owner, step.dump(), 0.0) is None:",
        f"{_CHAIN}::test_a_process_that_slept_over_a_refusal_uses_the_tokens_that_another_has_renewed",
    ),
    guard(
        "stored-before-used",
        "A token is stored before it is used",
        _MANAGER + ":TokenManager._renewed",
        "            return self._keep(tokens, grant)\n",
        "            self._cached = (grant.access_token, time.monotonic() + grant.renew_after)\n"
        "            return grant.access_token\n",
        f"{_CHAIN}::test_the_connection_only_seeds_the_store",
    ),
    guard(
        "room",
        "A full ledger refuses the claim before a refresh token is used up",
        _STORE + ":LedgerTokenStore.claim",
        ', "room": _room()}',
        "}",
        f"{_OF_STORE}::test_a_claim_reserves_the_bytes_that_the_token_will_need",
    ),
    guard(
        "uninterrupted",
        "A renewal that has begun is finished, whatever is raised in its task",
        "client/uninterruptible.py:Uninterruptible.run",
        "            if self._committed:\n                self._wait()\n",
        "",
        f"{_INTERRUPTED}::test_tokens_granted_during_an_interruption_are_stored",
    ),
    guard(
        "committed",
        "A renewal declares that it has to be finished before its request",
        _MANAGER + ":TokenManager._before_a_request",
        "        self._running.commit()\n",
        "",
        f"{_INTERRUPTED}::test_an_interrupted_renewal_makes_no_request_that_had_not_begun",
    ),
    guard(
        "called-off",
        "A renewal whose task was interrupted begins no request",
        "client/uninterruptible.py:Uninterruptible.commit",
        "        if self._called_off:\n            raise CalledOff\n",
        "",
        f"{_INTERRUPTED}::test_an_interrupted_renewal_makes_no_request_that_had_not_begun",
    ),
)
