"""Guards between a claim and the commit of its outcome: the lease, the slot, and when a run stops."""

from __future__ import annotations

from mutants.guard import Edit, Guard, guard

_POSTING = "sending/posting.py"
_SENDER = "sending/sender.py"
_CLAIMING = "sending/claiming.py"
_GUARDS = "sending/test_guards.py"
_OUTCOMES = "sending/test_sending_outcomes.py"
_CONCURRENCY = "sending/test_sending_concurrency.py"

GUARDS: tuple[Guard, ...] = (
    guard(
        "claim-lost",
        "Nothing is posted without the commit of POSTING",
        _POSTING + ":_Attempt.commit_posting",
        "        if not begun:\n            self._posting = False\n            raise _ClaimLost\n",
        "",
        f"{_OUTCOMES}::test_a_claim_that_is_lost_before_the_post_posts_nothing",
        explored=True,
    ),
    guard(
        "posting-first",
        "POSTING is committed before the POST",
        _POSTING + ":Poster._post",
        "                turn = self._begin(attempt, claim, fit)\n",
        "                exchange, turn = self.session.call(request, token), self._begin(attempt, claim, fit)\n",
        f"{_OUTCOMES}::test_a_claim_that_is_lost_before_the_post_posts_nothing",
        also=(
            Edit(
                _POSTING + ":Poster._post",
                "                exchange = self.session.call(request, token, turn)\n",
                "                pass\n",
            ),
        ),
        explored=True,
    ),
    guard(
        "slot-over",
        "A POST whose slot is over before its first byte takes another slot, and commits POSTING with it",
        _POSTING + ":_Attempt.missed_its_slot",
        "        self._lapses_at = 0.0\n",
        "",
        f"{_GUARDS}::test_a_send_whose_slot_is_over_before_the_first_byte_takes_another",
        explored=True,
    ),
    guard(
        "lease-after-turn",
        "The lease is looked at before the first byte, after each turn",
        _POSTING + ":_Attempt.begin",
        "while since_boot() > self._lapses_at - margin:",
        "if since_boot() > self._lapses_at - margin:",
        f"{_GUARDS}::test_the_lease_is_looked_at_again_after_the_turn",
        explored=True,
    ),
    guard(
        "lease-margin",
        "What is left of the lease covers the whole request",
        _POSTING + ":_Attempt.begin",
        "while since_boot() > self._lapses_at - margin:",
        "while since_boot() > self._lapses_at:",
        f"{_GUARDS}::test_what_is_left_of_the_lease_covers_the_whole_request",
    ),
    guard(
        "lease-from-before",
        "The lease counts from before the commit of POSTING",
        _POSTING + ":_Attempt._may_be_posting",
        "        self._lapses_at = since_boot() + self._poster.longest_post\n",
        "",
        f"{_GUARDS}::test_the_lease_counts_from_before_the_commit",
        also=(
            Edit(
                _POSTING + ":_Attempt.commit_posting",
                "            raise _ClaimLost\n",
                "            raise _ClaimLost\n        self._lapses_at = since_boot() + self._poster.longest_post\n",
            ),
            Edit(
                _POSTING + ":_Attempt.commit_all",
                "        attempts[0]._sends.begin_posts(transaction, posts)\n",
                "        attempts[0]._sends.begin_posts(transaction, posts)\n"
                "        for attempt in attempts:\n"
                "            attempt._lapses_at = since_boot() + attempt._poster.longest_post\n",
            ),
        ),
        explored=True,
    ),
    guard(
        "lease-suspended",
        "The lease goes on while the machine sleeps",
        "ledger/clocks.py",
        '_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)',
        "_SINCE_BOOT = time.CLOCK_MONOTONIC",
        f"{_GUARDS}::test_the_lease_goes_on_while_the_machine_sleeps",
        explored=True,
    ),
    guard(
        "lease-length",
        "The lease of a POST is longer than the POST can take",
        _POSTING + ":Poster.__init__",
        "self.lease = max(lease, self.longest_post)",
        "self.lease = max(lease, session.config.timeout + _MARGIN)",
        f"{_GUARDS}::test_the_lease_of_a_post_is_longer_than_the_post_can_take",
    ),
    guard(
        "post-begins-soon",
        "A POST begins soon after its commit, however long its lease is: the settle time counts from its end",
        _POSTING + ":_Attempt._may_be_posting",
        "since_boot() + self._poster.longest_post",
        "since_boot() + self._poster.lease",
        f"{_GUARDS}::test_a_post_begins_soon_after_its_commit_however_long_its_lease_is",
    ),
    guard(
        "taken-back",
        "POSTING is taken back where no POST follows",
        _POSTING + ":_Attempt.begin",
        "            if self._posting:\n                self._sends.post_again(self.claim, self._poster.lease)\n",
        "",
        f"{_GUARDS}::test_posting_is_taken_back_where_no_post_follows",
    ),
    guard(
        "noted-before",
        "That POSTING may be committed is noted before its commit",
        _POSTING + ":_Attempt._may_be_posting",
        "        self._posting = True  # even if the commit fails: its answer may have been lost\n",
        "",
        f"{_GUARDS}::test_posting_is_taken_back_where_its_commit_went_through_unanswered",
        also=(
            Edit(
                _POSTING + ":_Attempt.commit_posting",
                "            raise _ClaimLost\n",
                "            raise _ClaimLost\n        self._posting = True\n",
            ),
            Edit(
                _POSTING + ":_Attempt.commit_all",
                "        attempts[0]._sends.begin_posts(transaction, posts)\n",
                "        attempts[0]._sends.begin_posts(transaction, posts)\n"
                "        for attempt in attempts:\n"
                "            attempt._posting = True\n",
            ),
        ),
    ),
    guard(
        "post-again-answer",
        "The ledger's answer that a send may not be posted again is obeyed",
        _POSTING + ":_Attempt.put_off",
        "if self._sends.post_again(self.claim, self._poster.lease):",
        "if self._sends.post_again(self.claim, self._poster.lease) is not None:",
        f"{_GUARDS}::test_the_answer_that_it_may_not_be_posted_again_is_obeyed",
    ),
    guard(
        "put-off-given-back",
        "A send that was not sent, and was given up meanwhile, is free again",
        _POSTING + ":_Attempt.put_off",
        "        self.give_back(outcome)\n",
        "",
        f"{_GUARDS}::test_a_send_that_was_given_up_is_not_posted_again_by_its_attempt",
    ),
    guard(
        "halted",
        "A batch that is being stopped begins no POST",
        _POSTING + ":_Attempt._may_be_posting",
        "        if self._poster.halted():\n            raise Halted\n",
        "",
        f"{_GUARDS}::test_a_batch_that_is_being_stopped_begins_no_post",
    ),
    guard(
        "slot-with-posting",
        "A slot and POSTING are one transaction, or neither is committed",
        "ledger/pace.py:LedgerPace.take",
        "            if connection.execute(self._take_free, self._this).rowcount != 1:\n"
        "                return False\n"
        "            send.commit_posting(connection)\n"
        "            return True\n",
        "            return connection.execute(self._take_free, self._this).rowcount == 1\n",
        "ledger/test_ledger_limiter.py::test_a_free_slot_is_given_back_if_the_commit_of_its_send_fails",
        also=(
            Edit(
                "ledger/pace.py:LedgerPace.take",
                "        return self._database.run(work, first=partial(self._together.once, work, send.row, send))\n",
                "        taken = self._database.run(work, first=partial(self._together.once, work, send.row))\n"
                "        if taken:\n"
                "            send.commit_posting()\n"
                "        return taken\n",
            ),
        ),
    ),
    guard(
        "in-flight-first",
        "Claims are given back only when nothing is in flight any more",
        _SENDER + ":Sender.send",
        "            self._finish_in_flight()\n            self._pool.shutdown(wait=False)\n            self._claims.release()\n",
        "            self._claims.release()\n            self._finish_in_flight()\n            self._pool.shutdown(wait=False)\n",
        f"{_GUARDS}::test_claims_are_given_back_only_when_nothing_is_in_flight_any_more",
    ),
    guard(
        "logs-kept",
        "Nothing is logged between the two commits of a POST",
        _POSTING + ":Poster.post",
        "        with kept_logs.kept() as records:\n            posted = self._post(job, claim, fit, begun)\n",
        "        records: list[logging.LogRecord] = []\n        posted = self._post(job, claim, fit, begun)\n",
        f"{_GUARDS}::test_whatever_the_answer_says_nothing_is_logged_before_it_is_recorded",
    ),
    guard(
        "claims-renewed",
        "A run renews the leases of its claims while it lives",
        _CLAIMING + ":Claims.renew_if_due",
        "            self._sends.renew(self._owner, self._lease)\n",
        "",
        "sending/test_sending_concurrency.py::test_the_claims_of_a_run_that_lives_do_not_lapse",
    ),
    guard(
        "stopped-claims",
        "A batch that is being stopped claims nothing more",
        _SENDER + ":Sender._chunk",
        "        if self._is_stopped():\n            return False\n",
        "",
        "runs/test_runs_from_plans.py::test_a_batch_that_is_stopped_claims_nothing",
    ),
    guard(
        "breaker",
        "Unknown outcomes in a row stop the batch before an outage becomes a campaign of held sends",
        _SENDER + ":Sender._wait_for_room",
        "if self._unknowns >= patience:",
        "if False:",
        f"{_OUTCOMES}::test_unknown_outcomes_in_a_row_stop_the_batch_before_an_outage_becomes_a_campaign_of_held_sends",
    ),
    guard(
        "one-until-answered",
        "Until the first answer one send is posted at a time",
        _SENDER + ":Sender._wait_for_room",
        "limit = self._width.limit if self._answered else 1",
        "limit = self._width.limit",
        f"{_CONCURRENCY}::test_a_try_that_begins_in_an_outage_leaves_one_send_unknown",
    ),
    guard(
        "probe",
        "After an unknown outcome nothing is posted until a read succeeds",
        _SENDER + ":Sender._wait_for_room",
        "                self._probe()\n",
        "                self._outage = False\n",
        f"{_OUTCOMES}::test_an_outage_of_everything_holds_one_send_and_leaves_the_rest_for_a_retry",
    ),
    guard(
        "same-refusals",
        "Twenty equal refusals in a row are not the rows' fault",
        _SENDER + ":Sender._undo_equal_refusals",
        "        self._claims.reopen([refused for _, refused in undone])\n",
        "",
        f"{_OUTCOMES}::test_twenty_equal_refusals_stop_the_batch_and_refuse_no_row",
    ),
    guard(
        "accounts-pace",
        "The pace is the account's: others have one of their own",
        "ledger/pace.py:LedgerPace.__init__",
        "self._this_row = pace.c.account == account",
        "self._this_row = pace.c.account != ''",
        "ledger/test_ledger_limiter.py::test_accounts_do_not_share_a_pace",
    ),
    guard(
        "slot-free",
        "A slot is taken at once only if it is free now",
        "ledger/pace.py:LedgerPace.__init__",
        ".where(of_account, is_free)",
        ".where(of_account, is_free.is_not(None))",
        "ledger/test_ledger_limiter.py::test_of_sixteen_threads_one_takes_a_free_slot",
        explored=True,
    ),
    guard(
        "stale-slot",
        "A slot that was missed is dropped, and another one taken",
        "client/pace.py:_steps",
        "        if turn.lateness <= keeps:\n            return turn\n",
        "        return turn\n",
        "client/test_client_pace.py::test_a_slot_that_was_missed_is_replaced_by_a_new_one",
    ),
    guard(
        "slot-outlasted",
        "A slot that the commit of POSTING has outlasted is dropped, and another one taken",
        "client/session.py:SendosoSession.await_turn",
        "            if not turn.is_late:\n                return turn\n",
        "            return turn\n",
        "operators/test_rate_limit.py::test_a_call_whose_commit_outlasts_its_slot_takes_another_slot",
    ),
    guard(
        "read-slot-over",
        "A read whose slot is over before its first byte takes another slot",
        "client/session.py:SendosoSession.paced",
        "                return self.call(request, token, turn)\n",
        "                return self.call(request, token)\n",
        "client/test_client_ahead.py::test_whose_slot_is_over_before_its_first_byte_takes_another",
    ),
    guard(
        "push-back",
        "A 429 to one process makes all of the account wait",
        "client/session.py:SendosoSession.call",
        "                        pace.push_back(wait)\n",
        "                        pass\n",
        "client/test_client_session.py::test_a_throttle_pushes_the_accounts_pace_back",
    ),
)
