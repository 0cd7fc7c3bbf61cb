"""Guards of a wait: it hears of webhooks, and what it has read late sets nothing back."""

from __future__ import annotations

from mutants.guard import Guard, guard

_NOTE = "ledger/sends.py:SendLedger.note_statuses"
_OF_WAITS = "ledger/test_ledger_waits.py"
_WAKE_RULES = "webhooks/test_wake_rules.py"

GUARDS: tuple[Guard, ...] = (
    guard(
        "woken",
        "A send that a webhook has named is looked at soon",
        "waiting/watch.py:Watch.wake",
        "                    self.woken.add(name)\n",
        "                    pass\n",
        f"{_WAKE_RULES}::test_a_send_that_was_named_is_due_at_once_and_before_all_others",
        explored=True,
    ),
    guard(
        "status-final",
        "A final status is not replaced by an earlier one",
        _NOTE,
        "these.append(or_(sends.c.status.is_(None), sends.c.status.not_in(_TERMINAL), unsure))",
        "pass",
        f"{_OF_WAITS}::test_a_status_noted_late_does_not_replace_a_final_status",
    ),
    guard(
        "status-further",
        "A status is not set back to what was read before it was noted",
        _NOTE,
        "these.append(or_(sends.c.status.is_(None), sends.c.status.not_in(further), noted_before))",
        "pass",
        f"{_OF_WAITS}::test_a_status_that_was_read_before_a_later_one_was_noted_does_not_set_it_back",
    ),
    guard(
        "status-back",
        "No status goes backwards (both guards above taken out)",
        _NOTE,
        "                if not report.status.terminal:\n",
        "                if False:\n",
        f"{_OF_WAITS}::test_a_status_noted_late_does_not_replace_a_final_status",
        f"{_OF_WAITS}::test_a_status_that_was_read_before_a_later_one_was_noted_does_not_set_it_back",
        explored=True,
    ),
)
