"""Claims and transitions of single sends, each one a conditional update in the caller's transaction.

``READY → CLAIMED → POSTING → SENT | REFUSED | UNKNOWN``. Every transition names the owner and the attempt it belongs
to, and the state it expects. So a process that was taken for dead, and then goes on, cannot change a send that another
run has claimed. There is one exception: when the answer to a POST comes late, the owner of the attempt may record it
although the send is UNKNOWN or HELD by then. ``resolutions.py`` resolves UNKNOWN and HELD sends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import and_, bindparam, or_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.sql.dml import Update

from airflow_provider_sendoso.ledger.records import Batch, Claim, Record, State, Wanted, record_of
from airflow_provider_sendoso.ledger.schema import Moment, db_now, sends
from airflow_provider_sendoso.ledger.statements import now_on

PROCESS_LOST = {"state": State.UNKNOWN, "reason": "process_lost", "finished_at": db_now()}
"""The values of a POSTING send whose lease has lapsed."""

# The statements are built once, because building one costs more than running it.
_LEASE = db_now() + bindparam("lease", type_=Moment)
_THIS_ATTEMPT = and_(sends.c.send_key == bindparam("this_key"), sends.c.attempt == bindparam("this_attempt"))
_MINE = and_(_THIS_ATTEMPT, sends.c.owner == bindparam("this_owner"))
_AS_READ = and_(_THIS_ATTEMPT, sends.c.state == bindparam("from_state"))


def _move(*expected: State) -> Update:
    """Build a transition from one of the expected states, without the values that it sets."""
    # No IN: SQLAlchemy would render its list into the statement at each execution.
    return update(sends).where(_MINE, or_(*(sends.c.state == state for state in expected)))


BEGIN_POST = _move(State.CLAIMED, State.POSTING).values(
    state=State.POSTING,
    lease_until=_LEASE,
    posted_at=bindparam("to_posted_at", type_=Moment),  # in the day and month in whose limits the send was counted
    posted_mark=bindparam("to_mark"),
    cost=bindparam("to_cost"),
    currency=bindparam("to_currency"),
)
POST_AGAIN = _move(State.POSTING).values(state=State.CLAIMED, lease_until=_LEASE)
FINISH = _move(State.POSTING, State.UNKNOWN, State.HELD).values(
    state=bindparam("to_state"),
    reason=bindparam("to_reason"),
    send_id=bindparam("to_send_id"),
    finished_at=db_now(),
)
FINISH_WITH_STATUS = FINISH.values(
    status=bindparam("to_status"), status_words=bindparam("to_words"), status_at=db_now()
)
FINISH_WITH_LINK = FINISH.values(link_ciphertext=bindparam("to_link"))
GIVE_UP = _move(State.CLAIMED).values(state=State.READY)
REOPEN = _move(State.REFUSED).values(state=State.READY)
_STATE = select(sends.c.state).where(_MINE)
_LOSE = update(sends).where(_AS_READ).values(**PROCESS_LOST)
_CLAIM = (
    update(sends)
    .where(_AS_READ)
    .values(
        state=State.CLAIMED,
        owner=bindparam("to_owner"),
        attempt=sends.c.attempt + 1,
        lease_until=_LEASE,
        dedupe_scope=bindparam("to_scope"),
        batch_id=bindparam("to_batch"),
        row_ref=bindparam("to_row_ref"),
        gift_id=bindparam("to_gift"),
        touch_id=bindparam("to_touch"),
        email_hash=bindparam("to_email_hash"),
        kind=bindparam("to_kind"),
        client=bindparam("to_client"),
        payload_hash=bindparam("to_payload"),
        reason=None,
    )
)

_CLAIM_NEW = (
    update(sends)
    .where(
        sends.c.send_key.in_(bindparam("these_keys", expanding=True)),
        sends.c.state == bindparam("from_state"),
        sends.c.attempt == 0,
    )
    .values(state=State.CLAIMED, owner=bindparam("to_owner"), attempt=1, lease_until=_LEASE)
)


def new_row(batch: Batch, want: Wanted, now: float) -> dict[str, Any]:
    """
    Make the READY row of a send that the ledger does not know.

    :param batch: the send's batch.
    :param now: the time on the database's clock.
    """
    return {
        "send_key": want.send_key,
        "account": batch.account,
        "dedupe_scope": batch.dedupe_scope,
        "state": State.READY,
        "attempt": 0,
        "lease_until": 0.0,
        "batch_id": batch.batch_id,
        "row_ref": want.row_ref,
        "gift_id": want.item.stored_id,
        "touch_id": want.item.touch_id,
        "email_hash": want.email_hash,
        "kind": want.kind,
        "client": want.client,
        "payload_hash": want.payload_hash,
        "resend_of": want.resend_of,
        "created_at": now,
    }


def of_claim(claim: Claim) -> dict[str, Any]:
    """Return the values by which a transition finds the row of a claim."""
    return {"this_key": claim.send_key, "this_owner": claim.owner, "this_attempt": claim.attempt}


def transit(connection: Connection, claim: Claim, statement: Update, state: State, **values: Any) -> bool:
    """
    Execute a transition of a claimed send.

    :param claim: the owner's claim.
    :param statement: one of the transitions above.
    :param state: the state that it leads to.
    :param values: the statement's values.
    :return: ``False`` if the claim is lost; then nothing was changed.
    """
    mine = of_claim(claim)
    if connection.execute(statement, mine | values).rowcount == 1:
        return True
    # A transaction is repeated when the acknowledgement of its commit was lost; the send is in the new state then.
    return bool(connection.execute(_STATE, mine).scalar() == state)


def take_new(
    connection: Connection,
    batch: Batch,
    owner: str,
    lease: float,
    wanted: Sequence[Wanted],
    records: Mapping[str, Record],
) -> dict[str, Claim]:
    """
    Claim, in one statement, the rows that this batch has just inserted: in most batches these are all rows.

    :param owner: identifies the run.
    :param lease: seconds.
    :param records: the wanted rows as they are now, by their keys.
    :return: the claims, by send key.
    """
    new = {want.send_key for want in wanted if _is_new(records[want.send_key], batch, want)}
    if not new:
        return {}
    values = {"these_keys": sorted(new), "from_state": State.READY, "to_owner": owner, "lease": lease}
    if connection.execute(_CLAIM_NEW, values).rowcount != len(new):
        return {}  # cannot happen, as the rows are locked; if it does, the caller claims each row by itself
    return {want.send_key: _claim(batch, want, owner, 1) for want in wanted if want.send_key in new}


def _is_new(record: Record, batch: Batch, want: Wanted) -> bool:
    stands = (record.state, record.attempt, record.batch_id, record.dedupe_scope, record.reason)
    content = (record.row_ref, record.item, record.email_hash, record.kind, record.client, record.payload_hash)
    wanted = (want.row_ref, want.item, want.email_hash, want.kind, want.client, want.payload_hash)
    return stands == (State.READY, 0, batch.batch_id, batch.dedupe_scope, None) and content == wanted


def take(
    connection: Connection,
    batch: Batch,
    owner: str,
    lease: float,
    want: Wanted,
    record: Record,
    *,
    supersedes: bool,
) -> Claim | Record:
    """
    Claim a row if it is free; one whose POSTING has lapsed becomes UNKNOWN.

    :param owner: identifies the run.
    :param lease: seconds.
    :param record: the row as it was read.
    :param supersedes: whether the claims of the batch's other tries, which have not posted them, are free.
    :return: the claim, or the row as it is now.
    """
    as_read = {"this_key": record.send_key, "this_attempt": record.attempt, "from_state": record.state}
    lapsed = record.lease_left <= 0
    if record.state is State.POSTING and lapsed:
        connection.execute(_LOSE, as_read)
        return _read(connection, record.send_key)
    supersedes = supersedes and record.batch_id == batch.batch_id
    if not _free(record, want, lapsed=lapsed or supersedes or record.owner == owner):
        return record
    claimed = {
        "to_owner": owner,
        "lease": lease,
        "to_scope": batch.dedupe_scope,  # differs for a replacement only, whose key has no scope
        "to_batch": batch.batch_id,
        "to_row_ref": want.row_ref,
        "to_gift": want.item.stored_id,
        "to_touch": want.item.touch_id,
        "to_email_hash": want.email_hash,
        "to_kind": want.kind,
        "to_client": want.client,
        "to_payload": want.payload_hash,
    }
    taken = connection.execute(_CLAIM, as_read | claimed).rowcount == 1
    return _claim(batch, want, owner, record.attempt + 1) if taken else _read(connection, record.send_key)


def _claim(batch: Batch, want: Wanted, owner: str, attempt: int) -> Claim:
    replaces = want.resend_of is not None
    return Claim(want.send_key, owner, attempt, batch.account, batch.dedupe_scope, want.email_hash, replaces)


def _free(record: Record, want: Wanted, *, lapsed: bool) -> bool:
    if record.kind is None:
        return False
    match record.state:
        case State.READY:
            return True
        case State.CLAIMED:
            return lapsed
        case State.REFUSED:
            return record.payload_hash != want.payload_hash
        case _:
            return False


def _read(connection: Connection, send_key: str) -> Record:
    return record_of(connection.execute(select(sends).where(sends.c.send_key == send_key)).one(), now_on(connection))
