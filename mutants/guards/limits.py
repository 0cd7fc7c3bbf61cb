"""Guards of what a run may send: limits, approval, replacements, and which ledger it sends by."""

from __future__ import annotations

from mutants.guard import Guard, guard

_PREVIEW = "sending/preview.py:preview"
_LIMITS = "batch/limits.py:Limits"
_REPLACEMENTS = "sending/replacements.py"
_TWO_GIFTS = "sending/test_two_gifts.py"
_SPENDING = "operators/test_batch_spending.py"
_OF_LIMITS = "batch/test_batch_limits.py"
_REPLACING = "sending/test_sending_replacing.py"
_EARLIER_TRY = "operators/test_ledger_of_earlier_try.py"

GUARDS: tuple[Guard, ...] = (
    guard(
        "limits-by-ledger",
        "What a batch has sent is counted in the ledger, and not in the rows of this try",
        _PREVIEW,
        "Preview(ledger.sends.perhaps_sent(batch))",
        "Preview(Counter())",
        f"{_TWO_GIFTS}::test_sends_of_a_batch_count_towards_its_limits_when_its_query_no_longer_returns_their_rows",
    ),
    guard(
        "held-in-preview",
        "Held sends that will be sent again are part of preview, price, limits and approval",
        _PREVIEW,
        "absent = resend_absent and outcome is RowOutcome.HELD",
        "absent = False",
        f"{_TWO_GIFTS}::test_sends_that_will_be_repeated_are_part_of_dry_run_price_limit_and_approval",
    ),
    guard(
        "left-out",
        "What becomes free after the limits were checked is left out",
        _PREVIEW,
        "                seen.left_out.add(job.number)\n",
        "                pass\n",
        f"{_TWO_GIFTS}::test_rows_that_become_free_after_the_limits_were_checked_are_not_posted_by_that_try",
    ),
    guard(
        "left-out-not-claimed",
        "What was left out is not claimed",
        "sending/sender.py:Sender._claim",
        " if job.number not in self._left_out}",
        "}",
        f"{_TWO_GIFTS}::test_rows_that_become_free_after_the_limits_were_checked_are_not_posted_by_that_try",
    ),
    guard(
        "held-left-out",
        "A held send is left out where nothing may be posted",
        _PREVIEW,
        "        seen.left_out |= held_here\n",
        "        pass\n",
        "sending/test_ceiling.py::test_a_held_gift_that_becomes_free_after_the_check_is_not_posted",
    ),
    guard(
        "fingerprint",
        "Nothing is sent but what was approved",
        _LIMITS + ".why_refused",
        "if self.differs(fingerprint):",
        "if False:",
        f"{_OF_LIMITS}::test_a_batch_over_a_limit_or_with_another_fingerprint_is_refused",
    ),
    guard(
        "fingerprint-content",
        "What was approved is a content for each recipient",
        _PREVIEW,
        'ledger.identity.digest("fingerprint", key, content)',
        'ledger.identity.digest("fingerprint", key)',
        f"{_SPENDING}::test_a_batch_that_differs_from_what_was_approved_is_refused",
    ),
    guard(
        "fingerprint-of-tries",
        "An approval is good for all tries of its batch",
        _PREVIEW,
        "if mine or again or outcome is RowOutcome.NOT_REACHED:\n                # A sum",
        "if again or outcome is RowOutcome.NOT_REACHED:\n                # A sum",
        f"{_SPENDING}::test_an_approved_batch_is_sent_also_over_retries",
    ),
    guard(
        "max-sends",
        "A batch makes no more sends than max_sends",
        _LIMITS + ".why_refused",
        "if self.max_sends is not None and sends > self.max_sends:",
        "if False:",
        f"{_OF_LIMITS}::test_a_batch_over_a_limit_or_with_another_fingerprint_is_refused",
    ),
    guard(
        "max-cost",
        "A batch costs no more than max_cost",
        _LIMITS + ".why_refused",
        "if cost.amount > self.max_cost:",
        "if False:",
        f"{_OF_LIMITS}::test_a_batch_over_a_limit_or_with_another_fingerprint_is_refused",
    ),
    guard(
        "unknown-cost",
        "A batch whose cost is not known is not sent under max_cost",
        _LIMITS + ".why_refused",
        "        if cost.amount is None:\n"
        "            return f\"What it would cost is not known, so max_cost cannot be kept: {'; '.join(cost.unknown[:5])}.\"\n"
        "        if cost.amount > self.max_cost:",
        "        if cost.amount is not None and cost.amount > self.max_cost:",
        f"{_OF_LIMITS}::test_a_batch_of_unknown_cost_is_refused_under_max_cost",
    ),
    guard(
        "ceiling",
        "A batch makes no more sends than the connection allows",
        "sending/ceiling.py:over_ceiling",
        "if ceiling is None or sends <= ceiling:",
        "if ceiling is None or sends <= sends:",
        "sending/test_ceiling.py::test_a_batch_above_the_ceiling_sends_nothing",
    ),
    guard(
        "replaced-once",
        "A send is replaced once, in whatever scope",
        "ledger/__init__.py:Ledger.send_key",
        'return self.identity.digest("resend", account, resend_of)',
        'return self.identity.digest("resend", account, resend_of, dedupe_scope)',
        f"{_REPLACING}::test_there_is_one_replacement_of_a_send_in_whatever_scope",
    ),
    guard(
        "replaced-by-one-name",
        "A send that has two ids is replaced under one of them",
        _REPLACEMENTS + ":check_replaceable",
        "named = send_id if record is None else record.send_id or send_id",
        "named = send_id",
        "sending/test_campaign_sends.py::test_a_campaign_send_that_came_back_is_replaced_once",
    ),
    guard(
        "same-recipient",
        "A replacement goes to the same recipient",
        _REPLACEMENTS + ":Replaceable.problem_for",
        "if same_ref or self.first.send_key == key or self.first.email_hash == address:",
        "if self.first is not None:",
        f"{_REPLACING}::test_a_failed_gift_is_not_replaced_by_a_row_for_another_recipient",
    ),
    guard(
        "replaceable",
        "Only what has failed or come back is replaced",
        _REPLACEMENTS,
        "    if report.status in _REPLACEABLE:\n        return None\n    if report.on_hold:",
        "    if report.status is not None:\n        return None\n    if report.on_hold:",
        f"{_REPLACING}::test_a_row_does_not_replace_a_send_that_is_under_way_or_delivered",
    ),
    guard(
        "replaceable-now",
        "What has failed is replaced by what Sendoso says of it now",
        _REPLACEMENTS + ":_problem",
        "    report = reports.get(record.send_key)\n    if report is None:\n",
        "    report = None if record.status in _REPLACEABLE else reports.get(record.send_key)\n    if report is None:\n",
        f"{_REPLACING}::test_a_send_that_goes_on_after_it_had_failed_is_not_replaced",
    ),
    guard(
        "replaceable-known",
        "Only what the ledger has sent is replaced",
        _REPLACEMENTS + ":_problem",
        '        return f"{names}, which the ledger does not know"\n',
        "        return None\n",
        f"{_REPLACING}::test_a_row_does_not_replace_a_send_that_the_ledger_does_not_know",
    ),
    guard(
        "replaceable-kind",
        "A send of a kind that only a newer release knows is not replaced",
        _REPLACEMENTS + ":_problem",
        "    if record.kind is None:\n",
        "    if False:\n",
        "sending/test_kinds_apart.py::test_a_send_of_a_newer_kind_is_not_replaced",
    ),
    guard(
        "another-gift",
        "A task that finds another gift in its scope does not pass it off as its own",
        "runs/single_gift.py:OneGift.conclude",
        "if result.item != self.send.item:",
        "if False:",
        "operators/test_send_gift.py::test_another_gift_in_the_same_scope_is_an_error",
    ),
    guard(
        "same-ledger",
        "A later try by another ledger is refused",
        "runs/base.py:Run._check_ledger",
        "elif before != here:",
        "elif False:",
        f"{_EARLIER_TRY}::test_a_second_try_on_another_ledger_is_refused",
    ),
    guard(
        "cleared",
        "A task that is cleared starts anew",
        "task_state.py:first_try",
        "return (tries or 0) - (retries or 0) + 1",
        "return 1",
        f"{_EARLIER_TRY}::test_a_cleared_task_is_not_taken_for_a_second_try",
    ),
    guard(
        "taken-back-rows",
        "A row that was posted is not invalid because its campaign has changed since",
        "runs/batch.py:BatchRun._take_back",
        "            spool.take_back(posted)\n",
        "            pass\n",
        "sending/test_campaign_sends.py::"
        "test_a_row_that_was_sent_is_not_invalid_because_its_campaign_has_changed_since",
    ),
    guard(
        "kind-word",
        "A word for a kind that this release does not know is no kind that it knows",
        "models/kinds.py:Kind.stored",
        "return cls(word) if word in cls._value2member_map_ else None",
        "return cls(word) if word in cls._value2member_map_ else cls.GIFT",
        "sending/test_sending_kinds.py::test_a_send_of_a_newer_kind_is_held_in_whatever_state",
    ),
    guard(
        "kind-previewed",
        "A dry run counts a send of a kind that only a newer release knows as held",
        "ledger/records.py:Record.outcome_for",
        "            case _ if self.kind is None:\n                return RowOutcome.HELD  # only a newer release knows what its states mean\n",
        "",
        "sending/test_sending_kinds.py::test_a_dry_run_counts_a_send_of_a_newer_kind_as_held",
    ),
)
