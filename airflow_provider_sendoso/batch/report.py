"""The report with which a batch's log ends: the same one screen for ten rows as for 100,000."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from airflow_provider_sendoso import DEFAULT_CONN_ID
from airflow_provider_sendoso.batch.summary import Summary
from airflow_provider_sendoso.exceptions import (
    SendHeldError,
    SendosoError,
    SendosoLimitError,
    SendosoNotReachedError,
    SendosoRowsError,
)
from airflow_provider_sendoso.models import RowOutcome

WIDTH = 90
"""Columns of a line: with the time and level that Airflow puts before it, it fits into a log of 1,280 pixels."""

MOST = 3
"""Held sends, and rows of a reason, that are named; the others are counted."""

_REASONS = 2
"""Reasons of an outcome that the report names; it counts the others."""

_TITLES = {
    RowOutcome.INVALID: "Invalid, never posted:",
    RowOutcome.DUPLICATE: "Duplicate, no gift of their own:",
    RowOutcome.REFUSED: "Refused by Sendoso, no gift went out:",
    RowOutcome.CAPPED: "Capped, left out because of an earlier gift:",
    RowOutcome.NOT_REACHED: "Not reached, no gift went out:",
}


@dataclass(frozen=True)
class Group:
    """
    The rows of one outcome that have the same reason.

    :param reason: the reason, without values of a row.
    :param rows: how many there are.
    :param names: the first of them.
    """

    reason: str
    rows: int
    names: Sequence[str]

    def __str__(self) -> str:
        return f"{self.first}: {self.reason}"

    @property
    def first(self) -> str:
        """The first rows by name, and how many more there are."""
        more = self.rows - len(self.names)
        return f"{', '.join(self.names)}{f' and {more} more' if more else ''}"


@dataclass(frozen=True)
class HeldSend:
    """A held send: its row, the time of its POST (UTC), the reason, and the first digits of its key."""

    name: str
    posted: str
    reason: str
    key: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """
    What the report is made of; nothing of it is personal.

    :param conn_id: the Sendoso connection, which a command has to name.
    :param asked: what was sent to whom, in a few words.
    :param took: how long this try took.
    :param groups: the rows of an outcome by reason, the most frequent reason first.
    :param held: the first held sends.
    :param on_hold: the number of sent gifts that wait for a manager at Sendoso.
    :param failure: the error with which the task fails.
    :param of_another: what other gifts were sent in this scope, and to how many rows' recipients.
    :param approved: whether the batch has an approved fingerprint.
    :param approval_differs: whether it was refused, because something else was approved.
    :param links: whether the batch makes eGift links, which no run can look for.
    """

    summary: Summary
    conn_id: str
    asked: str
    took: str
    groups: Mapping[RowOutcome, Sequence[Group]] = field(default_factory=dict)
    held: Sequence[HeldSend] = ()
    on_hold: int = 0
    failure: SendosoError | None = None
    of_another: Mapping[str, int] = field(default_factory=dict)
    approved: bool = False
    approval_differs: bool = False
    links: bool = False

    def lines(self) -> list[str]:
        """Return the report: what was asked, the counts, the groups, and last what to do now."""
        return [
            *self._head(),
            *self._counts(),
            *self._held_sends(),
            *self._grouped(),
            *self._of_other_gifts(),
            "What to do now:",
            *self._to_do(),
        ]

    def _head(self) -> Iterator[str]:
        summary = self.summary
        yield from _wrap(f"{'Dry run of' if summary.dry_run else 'Asked for'} {self.asked}; {self.took}.", "", 2)
        yield from _wrap(f"Scope {summary.dedupe_scope!r}, batch {summary.batch_id}.", "", 2)

    def _counts(self) -> Iterator[str]:
        summary, notes = self.summary, dict[str, str]()
        if sent := summary.count(RowOutcome.SENT):
            notes["sent"] = f"{summary.sent_now} posted by this try, {sent - summary.sent_now} by earlier ones"
        if self.on_hold:
            notes["sent"] = f"{notes.get('sent', '')}; {self.on_hold} on hold at Sendoso".removeprefix("; ")
        if summary.count(RowOutcome.HELD):
            notes["held"] = "a link may have been made" if self.links else "a gift may have gone out"
        width = max(len(str(summary.rows)), 6)
        for name, count in [*summary.named_counts.items(), ("rows", summary.rows)]:
            yield f"{count:>{width}}  {name:<14}{notes.get(name, '')}".rstrip()

    def _held_sends(self) -> Iterator[str]:
        if not self.held:
            return
        yield "Held, the outcome is not known:"
        for send in self.held:
            yield from _wrap(f"key {send.key}  posted at {send.posted}  {send.reason}  {send.name}", "  ", 1)
        if more := self.summary.count(RowOutcome.HELD) - len(self.held):
            yield f"  and {more} more: {_ledger_command('list', self.conn_id)} --batch {self.summary.batch_id}"

    def _grouped(self) -> Iterator[str]:
        for outcome, title in _TITLES.items():
            groups = self.groups.get(outcome, ())
            if groups:
                yield title
            for group in groups[:_REASONS]:
                reason = textwrap.shorten(group.reason, WIDTH, placeholder=" …")
                yield from _wrap(f"{group.rows:>4}  {reason}: {group.first}", "  ", 2)
            if others := groups[_REASONS:]:
                yield f"  {sum(group.rows for group in others):>4}  for {len(others)} other reasons"

    def _of_other_gifts(self) -> Iterator[str]:
        if not self.of_another:
            return
        yield "Sent another gift in this scope before, and not sent this one:"
        for item, rows in list(self.of_another.items())[:_REASONS]:
            yield from _wrap(f"{rows:>4}  the {item}", "  ", 1)
        if others := list(self.of_another.values())[_REASONS:]:
            yield f"  {sum(others):>4}  {len(others)} other gifts"

    def _to_do(self) -> Iterator[str]:
        for number, step in enumerate(self._steps() or [_NOTHING], 1):
            yield from _wrap(f"{number}. {step}", "  ", 3)
            if step is _DECIDE:
                for verdict in ("--sent", "--not-sent"):
                    yield f"     {resolve_command(self.held[0].key, self.conn_id, verdict)}"

    def _steps(self) -> list[str]:
        summary, steps = self.summary, list[str]()
        limit = self.failure.limit if isinstance(self.failure, SendosoLimitError) else None
        if limit is not None:
            left = summary.count(RowOutcome.NOT_REACHED)
            steps.append(
                f"Raise {limit}{_WAITS.get(limit, '')}, and clear the task: that is safe, and goes on with the {left} "
                "rows that are left. airflow sendoso ledger budget shows what is used."
            )
        elif self.approval_differs:
            steps.append(
                "Trigger a new DAG run: its dry run and approval are of what is left. A clear of this task, or of the "
                "dry run before it, is refused again, because what this run has sent is part of its approval."
                if summary.count(RowOutcome.SENT)
                else "Make another dry run, and have its fingerprint approved."
            )
        elif self.failure is not None and not isinstance(self.failure, _EXPLAINED):
            steps.append(f"Mend what {type(self.failure).__name__} names.")
        if self.of_another:
            steps.append(
                f"For another gift to the {sum(self.of_another.values())} recipients who were sent one in this scope, "
                "use another dedupe_scope, in a new DAG run."
            )
        if summary.dry_run:
            steps.append("Nothing was sent, whatever the rows. The task may be run again at any time.")
            if summary.fingerprint and self.failure is None:
                steps.append("To send exactly this: set approved_fingerprint to the fingerprint in this task's XCom.")
            return steps
        left = summary.count(RowOutcome.NOT_REACHED)
        if left and limit is None and not self.approval_differs:
            steps.append(f"Retry the task, or clear it: that is safe, and goes on with the {left} rows that are left.")
        if self.held and not self.links and not left:
            steps.append(
                "Clear the task after some minutes: that is safe. It looks for the held sends in Sendoso once more, "
                "and posts none of them on a guess."
            )
        if self.held:
            steps.append(_DECIDE)
        wrong = [(summary.count(outcome), outcome) for outcome in (RowOutcome.INVALID, RowOutcome.REFUSED)]
        if any(rows for rows, _ in wrong) and not self.approval_differs:
            which = " and ".join(f"{rows} {outcome}" for rows, outcome in wrong if rows)
            if self.approved:
                steps.append(
                    f"Correct the {which} rows where they come from, and trigger a new DAG run: its dry run and "
                    "approval are of them alone. A clear of this task would be refused, because its approval is of "
                    "other rows."
                )
            else:
                steps.append(
                    f"Correct the {which} rows where they come from, and clear the task: that is safe, and sends to "
                    "them alone."
                )
        if self.on_hold:
            steps.append("Have a manager approve or cancel what is on hold in Sendoso; do not send it again.")
        return steps


_WAITS = {
    "max_sends_per_day": ", or wait until tomorrow (UTC)",
    "max_cost_per_month": ", or wait until next month (UTC)",
}
"""How else than by raising a limit a batch can go on."""

_EXPLAINED = (SendosoNotReachedError, SendHeldError, SendosoRowsError)
"""Errors about rows, which the steps that follow are about."""

_NOTHING = "Nothing. Clearing the task is safe: nobody in this scope is sent a second gift."

_DECIDE = (
    "What stays held: look for the recipient in Sendoso, and write down what you found, with one of these commands "
    "or, without a shell, a ResolveHeldOperator:"
)


def resolve_command(key: str, conn_id: str, verdict: str) -> str:
    """
    Return the command by which a person decides about a held send, to be copied.

    :param key: the first digits of the send's key.
    :param conn_id: the Sendoso connection.
    :param verdict: ``--sent`` or ``--not-sent``.
    """
    return f'{_ledger_command("resolve", conn_id)} --send-key {key} {verdict} --why "…"'


def _ledger_command(verb: str, conn_id: str) -> str:
    where = "" if conn_id == DEFAULT_CONN_ID else f" --conn-id {shlex.quote(conn_id)}"
    return f"airflow sendoso ledger {verb}{where}"


def _wrap(text: str, indent: str, most: int) -> list[str]:
    """Break a text into at most so many lines; what does not fit in them is left out."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "      ",
        max_lines=most,
        placeholder=" …",
        replace_whitespace=True,
        break_on_hyphens=False,
    )
