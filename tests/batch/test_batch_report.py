"""The report at the end of a batch's log: on one screen whatever has happened, and what to do comes last."""

from __future__ import annotations

from typing import Any

from airflow_provider_sendoso.batch.report import WIDTH, Group, HeldSend, Report
from airflow_provider_sendoso.batch.summary import Summary
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoLimitError, SendosoNotReachedError
from airflow_provider_sendoso.models import RowOutcome

HELD = HeldSend("row 3 (C-3)", "2026-11-27T07:45:49+00:00", "http_500", "0123456789ab")


def lines(counts: dict[str, int], *, dry_run: bool = False, fingerprint: str | None = None, **more: Any) -> list[str]:
    outcomes = {RowOutcome(name): count for name, count in counts.items()}
    summary = Summary("b" * 32, "q4", outcomes, fingerprint=fingerprint, dry_run=dry_run)
    asked = {"conn_id": "sendoso_default", "asked": "gift gift-mug to recipients", "took": "took 0:00:01"}
    return Report(summary=summary, **(asked | more)).lines()


def steps(report: list[str]) -> str:
    return " ".join(" ".join(report[report.index("What to do now:") + 1 :]).split())


def test_the_worst_batch_of_100_000_rows_fits_on_one_screen() -> None:
    groups = [Group("a long reason " * 30, 12_500, [f"row {n} ({'reference' * 5})" for n in range(3)])] * 9
    report = lines(
        dict.fromkeys(RowOutcome, 12_500),
        groups=dict.fromkeys((RowOutcome.INVALID, RowOutcome.REFUSED, RowOutcome.NOT_REACHED), groups),
        held=[HELD] * 3,
        on_hold=3,
        failure=SendosoConfigError("x"),
    )
    assert len(report) <= 45
    assert max(map(len, report)) <= WIDTH
    assert sum("a long reason" in line for line in report) >= 6  # whatever the names of the rows are
    assert "  and 12497 more: airflow sendoso ledger list --batch " + "b" * 32 in report


def test_the_counts_come_first_are_aligned_and_add_up() -> None:
    report = lines({"sent": 99_990, "invalid": 10})
    assert [line[:20].rstrip() for line in report[2:11]] == [
        " 99990  sent",
        "     0  already_sent",
        "     0  duplicate",
        "     0  refused",
        "    10  invalid",
        "     0  held",
        "     0  capped",
        "     0  not_reached",
        "100000  rows",
    ]


def test_after_a_success_there_is_nothing_to_do() -> None:
    assert steps(lines({"sent": 3})) == (
        "1. Nothing. Clearing the task is safe: nobody in this scope is sent a second gift."
    )


def test_rows_that_were_not_reached_are_left_to_a_retry() -> None:
    said = steps(lines({"sent": 1, "not_reached": 2}, failure=SendosoNotReachedError("2 rows were not reached")))
    assert said == "1. Retry the task, or clear it: that is safe, and goes on with the 2 rows that are left."


def test_a_held_send_has_the_commands_that_decide_it() -> None:
    said = steps(lines({"held": 1}, held=[HELD]))
    assert "posts none of them" in said
    assert 'airflow sendoso ledger resolve --send-key 0123456789ab --not-sent --why "…"' in said


def test_the_commands_name_a_connection_that_is_not_the_usual_one() -> None:
    report = lines({"held": 5}, held=[HELD], conn_id="sendoso_emea")
    assert "  and 4 more: airflow sendoso ledger list --conn-id sendoso_emea --batch " + "b" * 32 in report
    assert ('airflow sendoso ledger resolve --conn-id sendoso_emea --send-key 0123456789ab --sent --why "…"') in steps(
        report
    )


def test_no_run_looks_for_a_held_link() -> None:
    report = lines({"held": 1}, held=[HELD], links=True)
    assert "Clear the task" not in steps(report)
    assert "     1  held          a link may have been made" in report


def test_a_dry_run_says_how_to_send_exactly_that() -> None:
    """And names the place where the fingerprint stands whole, which is longer than lines of a log are."""
    said = steps(lines({"not_reached": 1}, dry_run=True, fingerprint="f1" * 400))
    assert said.endswith("set approved_fingerprint to the fingerprint in this task's XCom.")


def test_rows_of_a_reason_beyond_the_first_are_counted() -> None:
    groups = {RowOutcome.INVALID: [Group("email is missing", 31, ["row 2", "row 3", "row 4"])]}
    assert "    31  email is missing: row 2, row 3, row 4 and 28 more" in lines({"invalid": 31}, groups=groups)


def test_duplicates_are_named() -> None:
    group = Group("an earlier row has the same recipient key", 1, ["row 8 (C-007)"])
    report = lines({"sent": 9, "duplicate": 1}, groups={RowOutcome.DUPLICATE: [group]})
    place = report.index("Duplicate, no gift of their own:")
    assert report[place + 1] == "     1  an earlier row has the same recipient key: row 8 (C-007)"


def test_who_was_sent_another_gift_in_the_scope_is_said_and_what_to_do_about_it() -> None:
    report = lines({"already_sent": 6}, of_another={"gift gift-coffee": 4, "campaign 7": 1, "gift gift-mug": 1})
    place = report.index("Sent another gift in this scope before, and not sent this one:")
    assert report[place + 1 : place + 4] == [
        "     4  the gift gift-coffee",
        "     1  the campaign 7",
        "     1  1 other gifts",
    ]
    assert steps(report) == (
        "1. For another gift to the 6 recipients who were sent one in this scope, use another dedupe_scope, in a new "
        "DAG run."
    )


def test_rows_of_an_approved_batch_are_corrected_in_a_new_run() -> None:
    assert steps(lines({"sent": 3, "invalid": 1}, approved=True)) == (
        "1. Correct the 1 invalid rows where they come from, and trigger a new DAG run: its dry run and approval are "
        "of them alone. A clear of this task would be refused, because its approval is of other rows."
    )


def test_a_batch_that_differs_from_its_approval_is_not_to_be_retried() -> None:
    refused = {"approved": True, "approval_differs": True, "failure": SendosoLimitError("differs")}
    assert steps(lines({"sent": 37, "not_reached": 1, "invalid": 1}, **refused)) == (
        "1. Trigger a new DAG run: its dry run and approval are of what is left. A clear of this task, or of the dry "
        "run before it, is refused again, because what this run has sent is part of its approval."
    )
    assert steps(lines({"not_reached": 38}, **refused)) == (
        "1. Make another dry run, and have its fingerprint approved."
    )
