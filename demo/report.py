"""The outcome of each person, from the ledger and Sendoso, and for rows that neither knows from the task's log."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Engine

# The lines of BatchSendOperator; a row that is invalid was never posted, so only the log knows about it.
_SUMMARY = re.compile(r"(?P<counts>\d+ rows: sent .*?)\. Scope '(?P<scope>.*?)', batch \w+\.")
_INVALID = re.compile(
    r"Invalid (?P<rows>row \d+ \(.*?\)(?:, row \d+ \(.*?\))*)[^:]*: (?P<reason>.*?)\.?(?: \[|$)", re.M
)


@dataclass(frozen=True)
class Summary:
    """
    The summary of the batch, from the task's log.

    :param scope: the campaign.
    :param counts: all rows, and how many of each outcome.
    :param reasons: why a row is invalid, by row reference.
    """

    scope: str
    counts: str
    reasons: Mapping[str, str]

    @classmethod
    def read(cls, log: str) -> Summary | None:
        """
        Find the summary; ``None`` if the batch ended before it.

        :param log: of Airflow.
        """
        found = list(_SUMMARY.finditer(log))
        if not found:
            return None
        groups = [(re.findall(r"\((.*?)\)", found["rows"]), found["reason"]) for found in _INVALID.finditer(log)]
        reasons = {row_ref: reason for row_refs, reason in groups for row_ref in row_refs}
        return cls(found[-1]["scope"], found[-1]["counts"], reasons)

    def count(self, outcome: str) -> int:
        """Return the rows with one outcome."""
        found = re.search(rf"\b{outcome} (\d+)", self.counts)
        return int(found[1]) if found else 0


def read_ledger(engine: Engine, scope: str) -> dict[str, tuple[str, str | None, str | None]]:
    """
    Read state, reason and send ID of every send of a campaign, by row reference.

    :param engine: the ledger's.
    :param scope: the campaign.
    """
    query = text("SELECT row_ref, state, reason, send_id FROM sendoso_sends WHERE dedupe_scope = :scope")
    with engine.begin() as connection:
        rows = connection.execute(query, {"scope": scope}).all()
    return {row_ref: (state, reason, send_id) for row_ref, state, reason, send_id in rows}


def table(
    people: Iterable[Mapping[str, str]],
    summary: Summary,
    ledger: Mapping[str, tuple[str, str | None, str | None]],
    sends: Iterable[Mapping[str, Any]],
) -> list[str]:
    """
    Describe the outcome of each person in a line.

    :param people: in the order of the table.
    :param summary: of the batch.
    :param ledger: from :func:`read_ledger`.
    :param sends: all that Sendoso has received.
    """
    statuses = {send["id"]: send["status"] for send in sends}
    rows = [("customer", "name", "country", "what became of it", "")]
    for person in people:
        row_ref = person["customer_id"]
        outcome, detail = _became(summary.reasons.get(row_ref), ledger.get(row_ref), statuses)
        name = f"{person['given_name']} {person['family_name']}"
        rows.append(
            (row_ref, name, person["address_country"] or "–", outcome, textwrap.shorten(detail, 60, placeholder=" …"))
        )
    widths = [max(_width(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join(_pad(cell, width) for cell, width in zip(row, [*widths, 0], strict=True)) for row in rows]
    return [line.rstrip() for line in lines]


def _became(
    logged: str | None, recorded: tuple[str, str | None, str | None] | None, statuses: Mapping[str, str]
) -> tuple[str, str]:
    match recorded:
        case None:
            return ("invalid", logged) if logged else ("not reached", "")
        case ("SENT", _, str(send_id)):
            return statuses.get(send_id, "unknown to Sendoso"), send_id
        case ("REFUSED", reason, _):
            return "refused", reason or ""
        case ("UNKNOWN" | "HELD" | "POSTING", reason, _):
            return "held", f"it may have gone out, and is not sent on a guess ({reason})"
        case _:
            return "not reached", "claimed, not posted"


def _width(text: str) -> int:
    """Count the columns that a terminal needs: two for a wide character."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))
