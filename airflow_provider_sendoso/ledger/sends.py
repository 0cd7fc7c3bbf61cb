"""Claims the sends of all batches, records their outcomes (``transitions.py`` has the rules), and reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

from sqlalchemy import and_, func, literal, or_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.sql.dml import Update

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.ledger import clocks
from airflow_provider_sendoso.ledger.database import PATIENCE, Database, update_each
from airflow_provider_sendoso.ledger.records import (
    PERHAPS_SENT,
    Batch,
    Claim,
    Record,
    ScopeCounts,
    SendProgress,
    State,
    Wanted,
    record_of,
)
from airflow_provider_sendoso.ledger.schema import LONGEST_SCOPE, batches, db_now, scopes, sends
from airflow_provider_sendoso.ledger.spending import UNLIMITED, Fit, reserve, reserve_all
from airflow_provider_sendoso.ledger.statements import in_groups, now_on, status_columns
from airflow_provider_sendoso.ledger.transitions import (
    BEGIN_POST,
    FINISH,
    FINISH_WITH_LINK,
    FINISH_WITH_STATUS,
    GIVE_UP,
    POST_AGAIN,
    PROCESS_LOST,
    REOPEN,
    new_row,
    of_claim,
    take,
    take_new,
    transit,
)
from airflow_provider_sendoso.models import Item, Kind, SendStatus, StatusReport
from airflow_provider_sendoso.models.spending import Price

OUTCOME_PATIENCE = 60.0
"""Seconds for which the commit of an outcome is retried; if it fails, the ledger lacks a gift that went out."""

_PAGE = 1000

_TERMINAL = [status for status in SendStatus if status.terminal]


class SendLedger:
    """
    The sends of all accounts, scopes and batches.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def open_batch(self, batch: Batch) -> None:
        """
        Insert the batch, and its scope with the recipient key that the batch uses.

        :param batch: the batch.
        :raises SendosoConfigError: as :meth:`check_scope`.
        """
        self._check_earlier_tries(batch)

        def work(connection: Connection) -> None:
            now = now_on(connection)
            scope = {
                "account": batch.account,
                "dedupe_scope": batch.dedupe_scope,
                "recipient_key": batch.recipient_key,
                "created_at": now,
            }
            self._database.insert_ignore(connection, scopes, [scope])
            row = {column.name: getattr(batch, column.name, now) for column in batches.columns}
            self._database.insert_ignore(connection, batches, [row])

        self._database.run(work)
        self._check_recipient_key(batch)

    def check_scope(self, batch: Batch) -> None:
        """
        Refuse a batch in whose scope somebody could be sent a second gift; nothing is written.

        :param batch: the batch.
        :raises SendosoConfigError: for a scope that is too long, that identifies recipients by another key, or that is
            not the scope in which an earlier try of the same task instance has sent something.
        """
        self._check_earlier_tries(batch)
        self._check_recipient_key(batch)

    def _check_earlier_tries(self, batch: Batch) -> None:
        if len(batch.dedupe_scope) > LONGEST_SCOPE:
            raise SendosoConfigError(f"dedupe_scope is longer than {LONGEST_SCOPE} characters; nothing was sent.")
        may_be_posted = and_(sends.c.state == State.CLAIMED, sends.c.lease_until > db_now())
        elsewhere = (
            sends.c.account == batch.account,
            sends.c.batch_id == batch.batch_id,
            sends.c.dedupe_scope != batch.dedupe_scope,
            or_(sends.c.state.in_(PERHAPS_SENT), may_be_posted),
        )
        query = select(sends.c.dedupe_scope, func.count()).where(*elsewhere).group_by(sends.c.dedupe_scope)
        found = self._database.read(lambda connection: connection.execute(query).first())
        if found is not None:
            scope, number = found
            raise SendosoConfigError(
                f"An earlier try of this task has {number} sends in the scope {scope!r} that went out or still may; "
                f"this try names the scope {batch.dedupe_scope!r}, in which the same people could be sent a second "
                "gift. "
                "Nothing was sent by this try. A scope that the DAG file computes, as with datetime.now() or uuid4(), "
                "is another one whenever Airflow parses the file: write a constant, a template, or weekly(…). To go on "
                f"with the rows that are left, set dedupe_scope to {scope!r} and clear the task; for one more gift to "
                "everybody, trigger a new DAG run."
            )

    def _check_recipient_key(self, batch: Batch) -> None:
        this_scope = (scopes.c.account == batch.account, scopes.c.dedupe_scope == batch.dedupe_scope)
        query = select(scopes.c.recipient_key).where(*this_scope)
        remembered = self._database.read(lambda connection: connection.execute(query).scalar())
        if remembered is not None and remembered != batch.recipient_key:
            raise SendosoConfigError(
                f"The scope {batch.dedupe_scope!r} identifies recipients by {remembered!r}, this task by "
                f"{batch.recipient_key!r}: the same person could be sent a second gift. Use the same recipient_key, or "
                "another dedupe_scope. Nothing was sent."
            )

    def claim(
        self, batch: Batch, owner: str, lease: float, wanted: Sequence[Wanted], *, supersedes: bool = False
    ) -> dict[str, Claim | Record]:
        """
        Claim those of the wanted sends that are free, in one transaction.

        A POSTING row whose lease has lapsed becomes UNKNOWN: its process died between the POST and the answer.

        :param batch: the batch that wants to make the sends.
        :param owner: identifies the run; every try has another one.
        :param lease: seconds.
        :param wanted: the sends to claim, at most a few dozen; may be empty.
        :param supersedes: whether this is the batch's newest try, which takes what other tries have claimed and not
            posted without waiting for their leases to lapse; a process that still has such a claim finds it lost.
        :return: by send key, a claim, or the row of a send that is not free.
        """
        if not wanted:
            return {}
        in_order = sorted(wanted, key=lambda want: want.send_key)

        def work(connection: Connection) -> dict[str, Claim | Record]:
            now = now_on(connection)
            self._database.insert_ignore(connection, sends, [new_row(batch, want, now) for want in in_order])
            # Locked in the order of the keys, so that two runs over the same rows do not deadlock.
            keys = [want.send_key for want in in_order]
            rows = connection.execute(
                select(sends).where(sends.c.send_key.in_(keys)).order_by(sends.c.send_key).with_for_update()
            ).fetchall()
            records = {row.send_key: record_of(row, now) for row in rows}
            at_once = take_new(connection, batch, owner, lease, in_order, records)
            return {
                want.send_key: at_once.get(want.send_key)
                or take(connection, batch, owner, lease, want, records[want.send_key], supersedes=supersedes)
                for want in in_order
            }

        return self._database.run(work)

    def renew(self, owner: str, lease: float) -> None:
        """Give all claims of an owner a new lease, in seconds."""
        self._update(
            sends.c.owner == owner,
            sends.c.state == State.CLAIMED,
            lease_until=db_now() + lease,
        )

    def release(self, owner: str) -> None:
        """Give back all claims of an owner that it has not posted."""
        self._update(sends.c.owner == owner, sends.c.state == State.CLAIMED, state=State.READY, owner=None)

    def begin_post(
        self, claim: Claim, lease: float, connection: Connection | None = None, fit: Fit = UNLIMITED
    ) -> bool:
        """
        Commit POSTING before a POST is made; called again if the POST was delayed.

        :param claim: the right to post the send.
        :param lease: seconds after which another run may assume that the process is dead.
        :param connection: a transaction that the caller commits; ``None`` makes a new one.
        :param fit: the limits in which the send has to fit, and its price.
        :return: ``False`` if the claim is lost; then nothing may be posted.
        :raises Capped: if the person was sent something too recently; nothing was changed.
        :raises SendosoLimitError: if the send does not fit in a limit; nothing was changed.
        """
        mark = clocks.mark()

        def work(connection: Connection) -> bool:
            values = _posting(lease, mark, reserve(self._database, connection, claim, fit), fit)
            return transit(connection, claim, BEGIN_POST, State.POSTING, **values)

        return work(connection) if connection is not None else self._database.run_together(work, claim.send_key)

    def begin_posts(self, connection: Connection, posts: Sequence[tuple[Claim, float, Fit]]) -> None:
        """
        Do what :meth:`begin_post` does for several sends at once, in as many statements as for one.

        :param connection: a transaction that the caller commits.
        :param posts: the claim, the lease and the limits of each send.
        :raises NotTogether: if :meth:`begin_post` might answer otherwise for one of them; the caller rolls back, and
            calls it for each.
        """
        mark = clocks.mark()
        posted_at = reserve_all(self._database, connection, [(claim, fit) for claim, _, fit in posts])
        update_each(
            connection,
            [(BEGIN_POST, of_claim(claim) | _posting(lease, mark, posted_at, fit)) for claim, lease, fit in posts],
        )

    def check_fit(self, claim: Claim, fit: Fit) -> None:
        """
        Ask whether a claimed send could be committed as POSTING now, without taking a slot for it.

        :param claim: the right to post the send.
        :param fit: the limits in which the send has to fit, and its price.
        :raises Capped: if the person was sent something too recently.
        :raises SendosoLimitError: if the send does not fit in a limit.
        """
        self._database.run(lambda connection: reserve(self._database, connection, claim, fit))

    def give_up(self, claim: Claim) -> bool:
        """
        Commit that a claimed send is not posted and is free.

        :param claim: the right to post the send.
        :return: ``False`` if the claim is lost.
        """
        return self._transition(claim, GIVE_UP, State.READY)

    def post_again(self, claim: Claim, lease: float) -> bool:
        """
        Commit that Sendoso has not received the POST, which will be made again: the send is CLAIMED again.

        A send that another run has turned into UNKNOWN meanwhile is not posted again, because the attempt would then
        stand for two POSTs.

        :param claim: the right to post the send.
        :param lease: seconds that the claim lasts from now.
        :return: ``False`` if this attempt may not post the send again.
        """
        return self._transition(claim, POST_AGAIN, State.CLAIMED, OUTCOME_PATIENCE, lease=lease)

    def finish(
        self,
        claim: Claim,
        state: State,
        *,
        reason: str | None = None,
        send_id: str | None = None,
        report: StatusReport | None = None,
        link: str | None = None,
    ) -> bool:
        """
        Commit the outcome of a POST, also if it comes so late that another run has made the send UNKNOWN or HELD.

        :param claim: the claim with which the send was posted.
        :param state: SENT, REFUSED, UNKNOWN, or READY for a send that is known not to have gone out.
        :param reason: a short code, like ``http_422``.
        :param send_id: Sendoso's id, or the tracking code of a campaign send.
        :param report: the send's status, if the answer holds it.
        :param link: the eGift link that was made, encrypted; committed together with the rest.
        :return: ``False`` if the send's row names another owner or attempt.
        """
        outcome = {"to_state": state, "to_reason": reason, "to_send_id": send_id}
        if link is not None:
            return self._transition(claim, FINISH_WITH_LINK, state, OUTCOME_PATIENCE, **outcome, to_link=link)
        if report is None:
            return self._transition(claim, FINISH, state, OUTCOME_PATIENCE, **outcome)
        outcome |= {"to_status": report.status, "to_words": report.stored_words}
        return self._transition(claim, FINISH_WITH_STATUS, state, OUTCOME_PATIENCE, **outcome)

    def lapse(self, **where: str) -> None:
        """
        Turn POSTING sends whose lease has lapsed into UNKNOWN: their process died, or was frozen.

        :param where: columns and values, like ``account=…`` or ``account=…, dedupe_scope=…``.
        """
        self._update(
            *_equal(where),
            sends.c.state == State.POSTING,
            sends.c.lease_until <= db_now(),
            **PROCESS_LOST,
        )

    def reopen(self, claims: Sequence[Claim]) -> None:
        """Turn refusals that were not the row's fault into READY, so that the sends can be claimed again."""
        for claim in claims:
            self._database.run(partial(transit, claim=claim, statement=REOPEN, state=State.READY))

    def read(self, send_keys: Sequence[str]) -> dict[str, Record]:
        """
        Read rows by their keys.

        :param send_keys: at most a few dozen keys; the result lacks those that the ledger does not know.
        """
        return {record.send_key: record for record in self._read(sends.c.send_key.in_(send_keys))}

    def read_prefix(self, account: str, prefix: str) -> list[Record]:
        """
        Read the rows of an account whose keys begin with a prefix.

        :param account: the account of the sends.
        :param prefix: hexadecimal digits, which have no meaning in a pattern.
        """
        return self._read(sends.c.account == account, sends.c.send_key.like(f"{prefix}%"))

    def find(self, account: str, send_id: str) -> Record | None:
        """
        Find the row of a send that was accepted.

        :param account: the account of the send.
        :param send_id: the id that Sendoso has given the send.
        """
        found = self._read(sends.c.account == account, _named([send_id]))
        return found[0] if found else None

    def note_status(self, account: str, send_id: str, report: StatusReport) -> None:
        """
        Store the delivery status of an accepted send.

        :param account: the account of the send.
        :param send_id: the id that Sendoso has given the send.
        :param report: the status.
        """
        self._update(sends.c.account == account, _named([send_id]), **status_columns(report))

    def note_statuses(self, account: str, reports: Mapping[str, StatusReport], age: float = 0.0) -> None:
        """
        Store the delivery statuses of many sends, a few hundred to a statement.

        A final status (delivered, failed, returned) is not replaced by an earlier one, which was read before it; but a
        ``failed`` without words is, because to the release that wrote it a send on hold had failed. Nor is a status
        further on the way, if another wait has noted it since the first of these was read.

        :param account: the account of the sends.
        :param reports: by send id; ids that the ledger does not know are left out.
        :param age: seconds since the first of them was read.
        """
        same: dict[tuple[SendStatus, str | None], list[str]] = {}
        for send_id, report in reports.items():
            same.setdefault((report.status, report.stored_words), []).append(send_id)
        for send_ids in same.values():
            report = reports[send_ids[0]]
            for some in in_groups(sorted(send_ids)):
                these = [sends.c.account == account, _named(some)]
                if not report.status.terminal:
                    unsure = and_(sends.c.status == SendStatus.FAILED, sends.c.status_words.is_(None))
                    these.append(or_(sends.c.status.is_(None), sends.c.status.not_in(_TERMINAL), unsure))
                    further = [one for one in SendStatus if one is not report.status and one.reached((report.status,))]
                    noted_before = sends.c.status_at <= db_now() - age
                    these.append(or_(sends.c.status.is_(None), sends.c.status.not_in(further), noted_before))
                self._update(*these, **status_columns(report))

    def progress(self, **where: str) -> Iterator[SendProgress]:
        """
        Read the delivery statuses of accepted sends, in pages.

        :param where: columns and values, like ``batch_id=…``.
        """
        this = (sends.c.state == State.SENT, sends.c.send_id.is_not(None), *_equal(where))
        after = ""
        while True:
            page = self._progress(*this, sends.c.send_key > after)
            yield from (progress for _, progress in page)
            if len(page) < _PAGE:
                return
            after = page[-1][0]

    def progress_of(self, account: str, send_ids: Iterable[str]) -> Iterator[SendProgress]:
        """
        Read the delivery statuses of some sends, in pages.

        :param account: the account of the sends.
        :param send_ids: the ids that Sendoso has given the sends; ids that the ledger does not know are left out.
        """
        for some in in_groups(list(send_ids)):
            asked = set(some)
            for _, progress in self._progress(sends.c.account == account, _named(some)):
                bound_id = progress.bound_id
                by_bound_id = bound_id is not None and progress.send_id not in asked
                yield replace(progress, send_id=str(bound_id)) if by_bound_id else progress

    def scopes(self, account: str) -> list[str]:
        """
        Return the scopes of an account.

        :param account: the account of the sends.
        """
        query = select(scopes.c.dedupe_scope).where(scopes.c.account == account).order_by(scopes.c.created_at)
        return [str(name) for name in self._database.read(lambda connection: connection.execute(query).scalars().all())]

    def scope_counts(self, account: str) -> list[ScopeCounts]:
        """
        Count the sends of each scope of an account by state, the oldest scope first.

        :param account: whose they are.
        """
        known = select(scopes.c.dedupe_scope, scopes.c.recipient_key, scopes.c.created_at).where(
            scopes.c.account == account
        )
        counted = (
            select(sends.c.dedupe_scope, sends.c.state, func.count(), func.max(sends.c.posted_at))
            .where(sends.c.account == account)
            .group_by(sends.c.dedupe_scope, sends.c.state)
        )

        def read(connection: Connection) -> list[ScopeCounts]:
            found = {
                scope: ScopeCounts(scope, recipient_key, created_at)
                for scope, recipient_key, created_at in connection.execute(known.order_by(scopes.c.created_at))
            }
            for scope, state, count, posted_at in connection.execute(counted):
                if scope in found:
                    found[scope].sends[State(state)] = count
                    moments = [at for at in (found[scope].last_posted_at, posted_at) if at is not None]
                    found[scope].last_posted_at = max(moments, default=None)
            return list(found.values())

        return self._database.read(read)

    def batch(self, batch_id: str) -> Batch | None:
        """
        Read which task instance made a batch.

        :param batch_id: the id that the operator returned.
        """
        of_scope = and_(scopes.c.account == batches.c.account, scopes.c.dedupe_scope == batches.c.dedupe_scope)
        query = select(batches, scopes.c.recipient_key).where(batches.c.batch_id == batch_id, of_scope)
        row = self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else Batch(**{f.name: getattr(row, f.name) for f in fields(Batch)})

    def batch_exists(self, account: str, batch_id: str) -> bool:
        """Return whether the ledger knows a batch of an account."""
        return self._exists(batches.c.account == account, batches.c.batch_id == batch_id)

    def scope_exists(self, account: str, dedupe_scope: str) -> bool:
        """Return whether a batch was ever opened in a scope."""
        return self._exists(scopes.c.account == account, scopes.c.dedupe_scope == dedupe_scope)

    def states(self, **where: str) -> dict[State, int]:
        """
        Count the sends by state.

        :param where: columns and values, like ``batch_id=…`` or ``account=…, dedupe_scope=…``.
        """
        query = select(sends.c.state, func.count()).where(*_equal(where)).group_by(sends.c.state)
        rows = self._database.read(lambda connection: connection.execute(query).fetchall())
        return {State(state): count for state, count in rows}

    def perhaps_sent(self, batch: Batch) -> Counter[Item]:
        """
        Count the gifts that a batch has sent, or may have sent, in all its tries, by gift or campaign.

        :param batch: the batch; sends whose rows its query no longer returns are counted, too.
        """
        these = (sends.c.account == batch.account, sends.c.batch_id == batch.batch_id, sends.c.state.in_(PERHAPS_SENT))
        columns = (sends.c.kind, sends.c.gift_id, sends.c.touch_id)
        query = select(*columns, func.count()).where(*these).group_by(*columns)
        rows = self._database.read(lambda connection: connection.execute(query).fetchall())
        counts = Counter[Item]()
        for word, gift_id, touch_id, count in rows:
            kind = Kind.stored(word, of_campaign=touch_id is not None)
            counts[Item.stored(kind, gift_id, touch_id)] += count
        return counts

    def records(self, *states: State, **where: str) -> Iterator[Record]:
        """
        Read the sends in some states, in pages, in the order of their keys.

        :param states: the states.
        :param where: columns and values, like ``batch_id=…``.
        """
        after = ""
        while True:
            page = self._database.read(partial(_page, states=states, where=where, after=after))
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].send_key

    def _transition(
        self, claim: Claim, statement: Update, state: State, patience: float = PATIENCE, **values: Any
    ) -> bool:
        work = partial(transit, claim=claim, statement=statement, state=state, **values)
        return self._database.run_together(work, claim.send_key, patience, (statement, of_claim(claim) | values))

    def _read(self, *where: Any) -> list[Record]:
        def work(connection: Connection) -> list[Record]:
            now = now_on(connection)
            return [record_of(row, now) for row in connection.execute(select(sends).where(*where)).fetchall()]

        return self._database.read(work)

    def _progress(self, *where: Any) -> list[tuple[str, SendProgress]]:
        """Read only the columns that a wait needs, because a wait reads thousands of rows in every round."""
        made_at = func.coalesce(sends.c.posted_at, sends.c.finished_at, sends.c.created_at)
        columns = (sends.c.send_key, sends.c.send_id, sends.c.status, sends.c.status_words, made_at, sends.c.status_at)
        query = select(*columns, sends.c.kind, sends.c.touch_id, sends.c.email_hash, sends.c.bound_id)
        query = query.where(*where).order_by(sends.c.send_key).limit(_PAGE)

        def work(connection: Connection) -> list[tuple[str, SendProgress]]:
            now = now_on(connection)
            return [
                (
                    key,
                    SendProgress(
                        send_id,
                        report := StatusReport.stored(status, words),
                        now - made,
                        None if noted is None or report is None else now - noted,
                        key,
                        Kind.stored(kind, of_campaign=touch_id is not None),
                        touch_id,
                        *rest,
                    ),
                )
                for key, send_id, status, words, made, noted, kind, touch_id, *rest in connection.execute(query)
            ]

        return self._database.read(work)

    def _exists(self, *where: Any) -> bool:
        query = select(literal(1)).where(*where).limit(1)
        return self._database.read(lambda connection: connection.execute(query).first()) is not None

    def _update(self, *where: Any, **values: Any) -> None:
        self._database.run(lambda connection: connection.execute(update(sends).where(*where).values(**values)))


def _posting(lease: float, mark: str, posted_at: float, fit: Fit) -> dict[str, Any]:
    """Return the values of ``BEGIN_POST``."""
    price = fit.price if isinstance(fit.price, Price) else None
    return {
        "lease": lease,
        "to_mark": mark,
        "to_posted_at": posted_at,
        "to_cost": price and price.millionths,
        "to_currency": price and price.currency,
    }


def _named(send_ids: Sequence[str]) -> Any:
    return or_(sends.c.send_id.in_(send_ids), sends.c.bound_id.in_(send_ids))


def _equal(where: dict[str, str]) -> list[Any]:
    return [sends.c[name] == value for name, value in where.items()]


def _page(connection: Connection, states: Sequence[State], where: dict[str, str], after: str) -> list[Record]:
    query = select(sends).where(sends.c.state.in_(states), sends.c.send_key > after, *_equal(where))
    rows = connection.execute(query.order_by(sends.c.send_key).limit(_PAGE)).fetchall()
    now = now_on(connection)
    return [record_of(row, now) for row in rows]
