"""The ledger's records: batches, the sends that a run wants to make, claims, and sends as they stand."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from airflow_provider_sendoso.models import Item, Kind, RowOutcome, StatusReport


class State(StrEnum):
    """The state of a send."""

    READY = "READY"
    """Known not to have gone out; free to be claimed."""
    CLAIMED = "CLAIMED"
    """Claimed by a run, and not posted."""
    POSTING = "POSTING"
    """A run may be posting it at this moment."""
    SENT = "SENT"
    REFUSED = "REFUSED"
    UNKNOWN = "UNKNOWN"
    """Posted; the outcome is not known."""
    HELD = "HELD"
    """Posted, looked for at Sendoso and not found; a person has to decide."""


PERHAPS_SENT = (State.SENT, State.POSTING, State.UNKNOWN, State.HELD)
"""The states of a send whose gift has gone out, or may have."""


@dataclass
class ScopeCounts:
    """
    A scope, and how many sends of it are in which state.

    :param recipient_key: the field that identifies a recipient within it.
    :param created_at: epoch seconds.
    :param last_posted_at: epoch seconds of its last POST; ``None`` before the first.
    """

    dedupe_scope: str
    recipient_key: str
    created_at: float
    sends: dict[State, int] = field(default_factory=dict)
    last_posted_at: float | None = None


@dataclass(frozen=True)
class Batch:
    """
    The sends of one task instance, in all its tries.

    :param batch_id: hash of the account, the deployment and the task instance.
    :param account: the account that pays for the gifts.
    :param dedupe_scope: the scope within which a recipient gets at most one gift.
    :param recipient_key: the field or column that identifies a recipient within the scope.
    """

    batch_id: str
    account: str
    dedupe_scope: str
    recipient_key: str
    dag_id: str
    task_id: str
    run_id: str
    map_index: int


@dataclass(frozen=True)
class Wanted:
    """
    What a run wants to send: the ledger's view of one row.

    :param email_hash: of the recipient's e-mail address.
    :param client: hash of the client that would post the send.
    """

    send_key: str
    payload_hash: str
    item: Item
    row_ref: str | None
    resend_of: str | None = None
    email_hash: str | None = None
    kind: Kind = field(kw_only=True)
    client: str | None = None


@dataclass(frozen=True)
class Record:
    """
    One row of the ledger.

    :param lease_left: seconds until the claim lapses, not positive once it has.
    :param posted_at: epoch seconds of the last POST, on the database's clock.
    :param posted_ago: seconds since then.
    :param resend_of: the id of the send that this one replaces.
    :param email_hash: of the recipient's e-mail address; ``None`` for a catalogue gift that an older release has sent.
    :param bound_id: the id of a campaign send in Sendoso's list, once it was found there.
    :param kind: ``None`` for a kind that this release does not know.
    :param link_ciphertext: the eGift link, encrypted, once the send is SENT.
    :param client: hash of the client that has claimed the send; ``None`` if an older release has claimed it.
    :param posted_mark: the moment of the last POST by the clocks of the process that made it.
    :param status_word: ``status`` in Sendoso's own word.
    """

    send_key: str
    account: str
    dedupe_scope: str
    state: State
    owner: str | None
    attempt: int
    lease_left: float
    batch_id: str
    payload_hash: str
    item: Item
    send_id: str | None
    reason: str | None
    row_ref: str | None
    posted_at: float | None
    posted_ago: float | None
    status: str | None
    resend_of: str | None
    kind: Kind | None
    status_at: float | None = None
    email_hash: str | None = None
    bound_id: str | None = None
    link_ciphertext: str | None = field(default=None, repr=False)
    client: str | None = None
    posted_mark: str | None = None
    status_word: str | None = None

    @property
    def list_id(self) -> str | None:
        """The id of the send in the Send Tracker's list, if it is known."""
        return self.bound_id if self.kind is None else self.kind.list_id(self.send_id, self.bound_id)

    @property
    def why(self) -> str | None:
        """The reason for its state, as a short code; ``unknown_kind`` for a kind that only a newer release knows."""
        return self.reason or ("unknown_kind" if self.kind is None else None)

    def outcome_for(self, batch_id: str, payload_hash: str | None = None) -> RowOutcome:
        """
        Return the outcome of a row of a batch that would make this send.

        :param batch_id: the id of the batch.
        :param payload_hash: the hash of the row's content; ``None`` if the content does not matter.
        :return: ``NOT_REACHED`` where nothing has gone out, so that the row is posted once the send can be claimed.
        """
        match self.state:
            case State.SENT:
                return RowOutcome.SENT if self.batch_id == batch_id else RowOutcome.ALREADY_SENT
            case State.POSTING | State.UNKNOWN | State.HELD:
                return RowOutcome.HELD
            case _ if self.kind is None:
                return RowOutcome.HELD  # only a newer release knows what its states mean
            case State.REFUSED if self.payload_hash == payload_hash:
                return RowOutcome.REFUSED
            case _:
                return RowOutcome.NOT_REACHED


@dataclass(frozen=True, slots=True)
class SendProgress:
    """
    The delivery status of an accepted send, as the ledger stores it.

    :param send_id: the id that was asked for; a campaign send has two, its tracking code and its id in the list.
    :param report: the status and Sendoso's words for it; ``None`` if no status was ever read.
    :param made_ago: seconds since the send was made, on the database's clock.
    :param noted_ago: seconds since its status was read; ``None`` if it never was.
    """

    send_id: str
    report: StatusReport | None
    made_ago: float
    noted_ago: float | None
    send_key: str
    kind: Kind | None = None
    touch_id: str | None = None
    email_hash: str | None = None
    bound_id: str | None = None

    @property
    def list_id(self) -> str | None:
        """The id of the send in the Send Tracker's list, if it is known."""
        return self.bound_id if self.kind is None else self.kind.list_id(self.send_id, self.bound_id)

    @property
    def status(self) -> str | None:
        """One of the six."""
        return None if self.report is None else self.report.status.value


@dataclass(frozen=True)
class Claim:
    """
    The right to post one send; it is lost once the send's row names another owner or attempt.

    :param account: the account that pays.
    :param dedupe_scope: the scope in whose limits the send has to fit.
    :param email_hash: of the recipient's e-mail address; ``None`` if it is not known.
    :param is_replacement: whether the send replaces one that has failed or came back.
    """

    send_key: str
    owner: str
    attempt: int
    account: str
    dedupe_scope: str
    email_hash: str | None = None
    is_replacement: bool = False


def record_of(row: Any, now: float) -> Record:
    """
    Turn a row of the table into a record.

    :param row: a row of ``sendoso_sends`` with all columns.
    :param now: the time on the database's clock.
    """
    report = StatusReport.stored(row.status, row.status_words)
    kind = Kind.stored(row.kind, of_campaign=row.touch_id is not None)
    return Record(
        send_key=row.send_key,
        account=row.account,
        dedupe_scope=row.dedupe_scope,
        state=State(row.state),
        owner=row.owner,
        attempt=row.attempt,
        lease_left=row.lease_until - now,
        batch_id=row.batch_id,
        payload_hash=row.payload_hash,
        item=Item.stored(kind, row.gift_id, row.touch_id),
        send_id=row.send_id,
        reason=row.reason,
        row_ref=row.row_ref,
        posted_at=row.posted_at,
        posted_ago=None if row.posted_at is None else now - row.posted_at,
        status=None if report is None else report.status.value,
        resend_of=row.resend_of,
        status_word=None if report is None else report.word,
        status_at=None if report is None else row.status_at,
        email_hash=row.email_hash,
        bound_id=row.bound_id,
        kind=kind,
        link_ciphertext=row.link_ciphertext,
        client=row.client,
        posted_mark=row.posted_mark,
    )
