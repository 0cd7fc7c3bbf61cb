"""One try of loading a list: reads it as far as necessary, compares it with the table, and writes the changes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from airflow_provider_sendoso.client import pages
from airflow_provider_sendoso.client.endpoints import get_send_request, object_request
from airflow_provider_sendoso.client.marketplace import CursorListing, products_request
from airflow_provider_sendoso.client.objects import AnyListing, listing_of
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoError, SendosoNotFoundError
from airflow_provider_sendoso.landing.cells import read_moment
from airflow_provider_sendoso.landing.frontier import Frontier
from airflow_provider_sendoso.landing.lists import ObjectList
from airflow_provider_sendoso.landing.rows import LandingRow, LandingRowReader, mark
from airflow_provider_sendoso.landing.spool import LandingSpool
from airflow_provider_sendoso.landing.table import LandingTable
from airflow_provider_sendoso.links.sendoso import SendosoLink
from airflow_provider_sendoso.runs.stops import stopped_by
from airflow_provider_sendoso.runs.task import Task
from airflow_provider_sendoso.sending.jobs import chunks
from airflow_provider_sendoso.warehouse.hooks import warehouse_hook
from airflow_provider_sendoso.warehouse.tables import moment

_PROGRESS = 10.0
"""Seconds between two progress lines."""


@dataclass(frozen=True, kw_only=True)
class LandingPlan:
    """
    The plan of loading one of Sendoso's lists into a table.

    :param listed: the list.
    :param table: the table.
    :param conn_id: the connection of the table's database.
    :param hook_params: keyword arguments of the database's hook.
    :param columns: the columns to load; ``None`` for all.
    :param status_table: the table of the sends' status updates.
    :param batch_id: load only the sends of this batch.
    :param full: whether a list of sends is read to its end.
    """

    listed: ObjectList
    table: str
    conn_id: str
    hook_params: Mapping[str, Any] | None = field(default=None, repr=False)
    columns: Sequence[str] | None = None
    status_table: str | None = None
    batch_id: str | None = None
    full: bool = False

    def __post_init__(self) -> None:
        if not self.listed.are_sends and (self.batch_id is not None or self.status_table is not None):
            raise SendosoConfigError(
                f"batch_id and status_table are for sends; {self.listed.name} have neither. Nothing was read."
            )


class LandingRun:
    """
    One try of :class:`~airflow_provider_sendoso.operators.sendoso.SendosoToSqlOperator`.

    :param plan: the parsed arguments.
    :param task: the task of this try.
    """

    def __init__(self, plan: LandingPlan, task: Task) -> None:
        self.plan = plan
        self.task = task
        self.log = task.log
        self.hook = task.hook
        self._said = time.monotonic()

    def execute(self) -> dict[str, Any]:
        """Read the rows and write the changes; nothing is written before everything was read."""
        listed, batch_id = self.plan.listed, self.plan.batch_id
        reader = LandingRowReader(listed, self.plan.columns)
        table = LandingTable(
            warehouse_hook(self.plan.conn_id, self.plan.hook_params), listed, self.plan.table, self.plan.status_table
        )
        self.hook.begin_try(self.task.this_try, self.task.context.get("ti"))
        SendosoLink().push(self.task.context, self.hook.config.base_url)
        started = str(moment(time.time()))
        reading = _Reading(reader, table, part=batch_id is not None)
        with closing(table), LandingSpool() as spool:
            table.prepare(reader.columns)
            if batch_id is not None:
                found = self._read_batch(listed, reading, spool, batch_id)
            else:
                found = self._read_list(listed, reading, spool, self.plan.full)
            self._check_columns(reading)
            self.task.this_try.check()
            table.widen(reader.columns)
            inserted, updated = spool.counts()
            updates = table.write(spool, list(reader.columns), started) if inserted or updated else 0
        summary = {
            "object": listed.name,
            "rows": reading.rows,
            "inserted": inserted,
            "updated": updated,
            "unchanged": reading.unchanged,
            "columns_added": table.added,
            **found,
        }
        if table.status_name:
            summary["status_updates"] = updates
        if table.status_name and reading.undated:
            self.log.warning(
                "%d status updates have no word or no moment, and are not in the status table.", reading.undated
            )
        self.log.info("Landed: %s.", ", ".join(f"{name} {value}" for name, value in summary.items()))
        return summary

    # -- reading -------------------------------------------------------------------------------------------------

    def _read_list(self, listed: ObjectList, reading: _Reading, spool: LandingSpool, full: bool) -> dict[str, Any]:
        """Read a list; a list of sends only as far as its rows may be new or have changed."""
        frontier = None
        if listed.are_sends and not full and not reading.table.made:
            frontier = Frontier(reading.table.landed())
        for page in chunks(self._list(listed)[1], pages.PER_PAGE):
            rows, unchanged = reading.take(page, spool)
            self._go_on(reading)
            if frontier is not None and frontier.passed(map(_made, rows), unchanged=unchanged):
                return {"whole_list": False}
        return {"whole_list": True}

    def _read_batch(self, listed: ObjectList, reading: _Reading, spool: LandingSpool, batch_id: str) -> dict[str, Any]:
        """Read the sends of a batch: from the list, or one by one if that takes fewer requests."""
        of_campaigns = listed.name == "campaign_sends"
        recorded = [
            progress.list_id if of_campaigns else progress.send_id
            for progress in self.hook.recorded_sends(batch_id=batch_id)
            if progress.kind is not None and progress.kind.in_tracker is of_campaigns
        ]
        wanted = {send_id for send_id in recorded if send_id is not None}
        unbound = recorded.count(None)
        missing = set[str]()
        listing, walk = self._list(listed)
        seen = 0
        while wanted and (page := list(islice(walk, pages.PER_PAGE))):
            seen += len(page)
            found = [fields for fields in page if str(fields.get("id")) in wanted]
            reading.take(found, spool)
            wanted -= {str(fields["id"]) for fields in found}
            self._go_on(reading)
            left = -((seen - (listing.total or seen)) // pages.PER_PAGE)
            if listed.name == "sends" and len(wanted) <= left:
                break
        else:
            missing, wanted = wanted, set()
        for some in chunks(sorted(wanted), pages.PER_PAGE):
            answers = {send_id: self._read_send(send_id) for send_id in some}
            missing |= {send_id for send_id, fields in answers.items() if fields is None}
            reading.take([fields for fields in answers.values() if fields is not None], spool)
            self._go_on(reading)
        if missing:
            self.log.warning("%d sends of the batch are not in Sendoso's list of %s.", len(missing), listed.name)
        if unbound:
            self.log.warning(
                "%d campaign sends of the batch have no known id in the Send Tracker yet; a SendStatusSensor on the "
                "batch finds it out.",
                unbound,
            )
        return {"missing": len(missing) + unbound}

    def _list(self, listed: ObjectList) -> tuple[AnyListing, Iterator[Mapping[str, Any]]]:
        # The models are not used, because they drop fields of an unexpected type.
        if listed.expand is not None:
            by_cursor = CursorListing(products_request())
            products = self.hook.session.read_listing(by_cursor)
            return by_cursor, (row for product in products for row in listed.expand(product))
        listing = listing_of(listed.path, object_request(listed.path))
        return listing, self.hook.session.read_listing(listing)

    def _read_send(self, send_id: str) -> Mapping[str, Any] | None:
        try:
            body = self.hook.session.read(get_send_request(send_id)).json
        except SendosoNotFoundError:
            return None
        inner = body.get("send") if isinstance(body, Mapping) else None
        fields = inner if isinstance(inner, Mapping) else body
        return {"id": send_id, **fields} if isinstance(fields, Mapping) else None

    def _go_on(self, reading: _Reading) -> None:
        if self.task.stopped():
            raise SendosoError(
                f"The task was told to stop while it was reading: {stopped_by(self.task.context)}. Nothing was "
                "written; the next try, or a clear, lands the list."
            )
        if time.monotonic() - self._said > _PROGRESS:
            self._said = time.monotonic()
            self.log.info("%d rows read.", reading.rows)

    def _check_columns(self, reading: _Reading) -> None:
        unknown = reading.reader.unknown_columns(reading.table.columns)
        if unknown and reading.rows:
            raise SendosoConfigError(
                f"columns names {', '.join(unknown)}, which no row of {reading.reader.listed.name} has. It has "
                f"{', '.join(sorted(reading.reader.seen))}. Nothing was written."
            )


class _Reading:
    """
    Compares rows with the table as they are read, and spools those that are new or have changed.

    :param reader: parses the rows.
    :param table: the table.
    :param part: whether the rows are only a part of the list.
    """

    def __init__(self, reader: LandingRowReader, table: LandingTable, *, part: bool) -> None:
        self.reader = reader
        self.table = table
        self._part = part
        self.rows = self.unchanged = self.undated = 0

    def take(self, page: Sequence[Mapping[str, Any]], spool: LandingSpool) -> tuple[list[LandingRow], bool]:
        """
        Process a page of rows.

        :param page: the rows in the API's answer.
        :param spool: stores the rows that have to be written.
        :return: the parsed rows, and whether the table has all of them unchanged.
        """
        rows = [self.reader.read(fields) for fields in page]
        landed = self.table.hashes([row.id for row in rows])
        changed = []
        for row in rows:
            digest = row.digest(with_updates=self.table.status_name is not None)
            marks = [
                mark(self.reader.listed, digest, part=part) for part in ((True, False) if self._part else (False,))
            ]
            if landed.get(row.id) not in marks:
                changed.append((row, marks[0], row.id not in landed))
        spool.put(changed)
        self.rows += len(rows)
        self.unchanged += len(rows) - len(changed)
        self.undated += sum(row.undated for row in rows)
        return rows, not changed


def _made(row: LandingRow) -> datetime | None:
    made = row.cells.get("created_at")
    return read_moment(made) if isinstance(made, str) else None
