"""What ``make test`` leaves to ``make test-slow`` of tests that have many rounds: equal ones, and the dearest."""

from __future__ import annotations

import re

OTHER_DATABASE = tuple(f"tests/{name}" for name in ("sending/", "tokens/", "waiting/", "webhooks/test_woken_waits"))
"""Of these, what is tried on SQLite and again on PostgreSQL is a slow test on one of them: only SQL differs between
databases, and ``ledger/`` tries the SQL on each. SQLite takes half of a processor's time, so it stays."""
TOGETHER = tuple(
    f"tests/{name}"
    for name in (
        "sending/test_claims_of_other_runs",
        "sending/test_sending_concurrency",
        "sending/test_sending_crash_points",
        "sending/test_shared_looks",
        "sending/test_superseded_tries",
        "sending/test_two_gifts",
        "tokens/test_pace_shared",
        "tokens/test_tokens_interrupted",
        "tokens/test_tokens_one_request",
    )
)
"""Among them, what several processes or threads do at once, or one that is killed. SQLite lets one transaction begin
after the other, and so PostgreSQL stays, where they meet. On the oldest Airflow it always stays, for its driver."""

IN_A_BUCKET = "tests/sending/test_sending_crash_points"
"""The rounds with a ledger in a bucket that ``make test`` takes, beside those of ``tests/ledger``."""

SERVERS_AND_BUCKET = "postgresql|mysql|bucket"
PROCESSES = "postgresql|bucket"
"""Where real processes meet: SQLite lets one begin after the other, and MariaDB's locks are tried by a few."""
FIRST = r"-1-at-once"
STAY = {
    # Processes at once, each of which takes a tenth of a second and more of a processor.
    "ledger/test_ledger_bindings.py::test_of_eight_processes_that_bind_one_id_to_different_sends_one_succeeds": PROCESSES,
    "ledger/test_ledger_claims.py::test_three_processes_that_claim_overlapping_keys_in_any_order_claim_none_twice": (
        SERVERS_AND_BUCKET
    ),
    "ledger/test_ledger_cursors.py::test_of_eight_processes_that_write_one_version_one_succeeds": PROCESSES,
    "ledger/test_ledger_limiter.py::test_slots_of_an_account_that_is_new_to_all_are_an_interval_apart": PROCESSES,
    "ledger/test_ledger_limiter.py::test_slots_of_processes_are_an_interval_apart": PROCESSES,
    "ledger/test_ledger_limiter.py::test_three_processes_call_at_the_published_rate_and_never_faster": PROCESSES,
    "ledger/test_ledger_resolutions.py::test_of_eight_concurrent_decisions_one_is_recorded": PROCESSES,
    "ledger/test_ledger_runs.py::": PROCESSES,
    "ledger/test_ledger_schema.py::test_eight_processes_that_open_a_new_database_at_once_create_one_ledger": PROCESSES,
    "ledger/test_ledger_schema.py::test_eight_processes_that_upgrade_a_ledger_at_once_lose_nothing": (
        SERVERS_AND_BUCKET
    ),
    "ledger/test_ledger_tokens.py::test_eight_processes_ask_for_one_token": SERVERS_AND_BUCKET,
    "ledger/test_ledger_wakeups.py::test_processes_that_receive_the_same_message_at_once_store_it_once": PROCESSES,
    "tokens/test_tokens_one_request.py::test_many_processes_on_an_empty_ledger_make_one_request": "postgresql",
    # A process that is killed: on PostgreSQL everywhere, and in a bucket where it sends one after the other.
    "sending/test_sending_crash_points.py::test_a_try_that_is_killed_while_it_sends_is_finished_by_the_next": (
        f"postgresql|{FIRST}"
    ),
    "sending/test_sending_crash_points.py::test_a_try_that_is_killed_while_it_looks_for_unknown_sends_is_finished_by_the_next": "postgresql",
    "sending/test_sending_crash_points.py::test_a_try_of_another_kind_that_is_killed_while_it_sends_is_finished_by_the_next": (
        "postgresql-posting-committed"
    ),
    "sending/test_sending_crash_points.py::test_a_try_that_is_killed_while_it_sends_keeps_a_limit_and_leaves_the_rest_of_it": (
        "postgresql"
    ),
    "sending/test_sending_crash_points.py::test_a_try_that_is_killed_while_it_looks_for_unknown_sends_keeps_a_limit": (
        "postgresql"
    ),
    "sending/test_sending_crash_points.py::test_a_try_that_ends_at_its_limit_has_found_what_the_killed_one_had_posted": (
        "postgresql"
    ),
    "sending/test_sending_s3.py::test_a_try_that_is_killed_is_finished_by_the_next": "posted:3",
    # Faults of one kind: each answer and each silence of S3 once, before the write or after it.
    "sending/test_sending_s3.py::test_whatever_s3_answers_to_a_write_everybody_is_sent_one_gift": (
        r"\[(409-after-the-write|412-of-nothing|503-for-long|dropped|dropped-after-the-write|answered-late)-"
    ),
    "sending/test_sending_s3.py::test_a_lost_answer_is_looked_up_however_long_reading_takes": "dropped",
    # A person's words in every spelling are looked for once, and in some after the other kinds of sends.
    "security/test_marks.py::test_a_refusal_that_repeats_a_product_send_in_another_spelling_leaks_nothing": (
        "percent, twice-marketplace|JSON-smart_send|words turned round-marketplace|mailbox-smart_send"
    ),
    "security/test_marks.py::test_a_refusal_that_repeats_a_product_send_leaks_nothing": "422|500",
    "security/test_marks.py::test_held_product_sends_leak_nothing": "drop_after|garbage",
    "security/test_marks.py::test_invalid_rows_leak_nothing": "skip|(fail|strict)-email0",
    # What SQL differs in between warehouses is tried on each of them: types, columns and texts. The rest on one.
    "operators/test_landing.py::test_a_connection_that_is_lost_midway_leaves_the_table_as_it_was": "postgres",
    "operators/test_landing.py::test_a_list_of_sends_is_read_as_far_as_its_rows_may_have_changed": "postgres",
    "operators/test_landing.py::test_a_status_table_that_is_added_later_is_filled": "postgres",
    "operators/test_landing.py::test_a_temporary_disk_that_is_full_leaves_the_table_as_it_was": "postgres",
    "operators/test_landing.py::test_two_lists_do_not_share_a_table": "postgres",
    # Each decision is tried in one way of waiting by each sensor; where it is made is one place.
    "waiting/test_soft_fail.py::test_soft_fail_and_never_fail_skip_exactly_the_errors_that_the_table_says": (
        r"status-poke|status-.*SendosoAuthError|event-.*-never_fail"
    ),
    # Shapes of an answer that take the most memory.
    "client/test_client_answer_sizes.py::test_a_page_of_as_many_values_as_are_parsed_takes_sixteen_times_its_size_at_most": (
        "empty objects|names"
    ),
    "client/test_client_answer_sizes.py::test_one_send_of_nothing_but_values_takes_sixteen_mebibytes_at_most": (
        "empty objects|names"
    ),
    # A process of its own, with an Airflow that is said to be older, or for a wrong import of each contract.
    "packaging/test_layers.py::test_a_wrong_import_is_noticed": "client/pages|ledger/records|landing|rounds|tracker",
    "plugins/test_plugin.py::test_on_an_older_airflow_neither_plugin_brings_anything": "3.1.0",
    "webhooks/test_webhook_server.py::test_a_process_of_its_own_receives_webhooks_until_it_is_told_to_stop": "postgresql",
}
"""The rounds that ``make test`` keeps of these tests, one of each kind, as a pattern of what is in brackets: the others
are slow. Of the tests of a file, where only the file is named."""


def another_round(test: str, tests: set[str], oldest: bool) -> bool:
    """
    Say whether a test is the slow one of rounds that prove the same.

    :param test: pytest's id of it.
    :param tests: all of them.
    :param oldest: whether tests are chosen for the oldest Airflow.
    """
    function, _, round_ = test.removeprefix("tests/").partition("[")
    for key in (function, f"{function.partition('::')[0]}::"):
        if round_ and key in STAY and not re.search(STAY[key], f"[{round_}"):
            return True
    other = _other_round(test, oldest)
    return test.startswith(OTHER_DATABASE) and other != test and other in tests


def _other_round(test: str, oldest: bool) -> str:
    """Return the round that a slow one repeats on SQLite, PostgreSQL or a bucket; the test itself if it is not slow."""
    if "bucket" in test:
        return test if test.startswith(IN_A_BUCKET) else test.replace("bucket", "sqlite")
    slow = "sqlite" if oldest or test.startswith(TOGETHER) else "postgresql"
    return test.replace(slow, "postgresql" if slow == "sqlite" else "sqlite")
