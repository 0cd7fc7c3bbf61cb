"""The ledger's tables, and the clock that decides what has expired: the database's own.

All moments are seconds since 1970 on that clock, as doubles. No column holds personal data: a recipient is a keyed
hash, and ``row_ref`` is a column that the DAG's author declared not personal.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.mysql import MEDIUMTEXT
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from airflow_provider_sendoso.ledger.bucket.dialect import DRIVER, NOW
from airflow_provider_sendoso.models.statuses import LONGEST_STATUS_WORDS

SCHEMA_VERSION = 8
"""The version of the tables below. Adding a table, an index, or a column that may be NULL raises it."""

USABLE_SINCE = 4
"""The oldest version whose code may still read and write these tables, while workers are upgraded one by one. A change
that such code would read wrongly, or write wrongly, raises it to that change's version."""

MOVED, COPYING = 9999, 9998
"""What ``schema_version`` says of a ledger that was moved to another store, and of one that is not complete there yet:
newer than any release knows, so that none uses it."""

LONGEST_SCOPE = 500
"""Characters of a ``dedupe_scope``."""

Moment = Float(53)

metadata = MetaData()

identity = Table(
    "sendoso_ledger",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("schema_version", Integer, nullable=False),
    Column("ledger_uuid", String(36), nullable=False),
    Column("hash_key", String(64), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("tables_version", Integer),
)
"""One row. ``schema_version`` is the oldest version whose code may use the ledger, which code of every version reads;
``tables_version`` is the version of the tables, from version 5 on."""

scopes = Table(
    "sendoso_scopes",
    metadata,
    Column("account", String(190), primary_key=True),
    Column("dedupe_scope", String(LONGEST_SCOPE), primary_key=True),
    Column("recipient_key", String(190), nullable=False),
    Column("created_at", Moment, nullable=False),
    Index("sendoso_scopes_created", "account", "created_at"),
)

batches = Table(
    "sendoso_batches",
    metadata,
    Column("batch_id", String(32), primary_key=True),
    Column("account", String(190), nullable=False),
    Column("dedupe_scope", String(LONGEST_SCOPE), nullable=False),
    Column("dag_id", String(250), nullable=False),
    Column("task_id", String(250), nullable=False),
    Column("run_id", String(250), nullable=False),
    Column("map_index", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Index("sendoso_batches_scope", "account", "dedupe_scope", "created_at"),
    Index("sendoso_batches_run", "dag_id", "run_id"),
)

sends = Table(
    "sendoso_sends",
    metadata,
    Column("send_key", String(64), primary_key=True),
    Column("account", String(190), nullable=False),
    Column("dedupe_scope", String(LONGEST_SCOPE), nullable=False),
    Column("state", String(8), nullable=False),
    Column("owner", String(32)),
    Column("attempt", Integer, nullable=False),
    Column("lease_until", Moment, nullable=False),
    Column("batch_id", String(32), nullable=False),
    Column("row_ref", String(250)),
    Column("gift_id", String(190)),
    Column("payload_hash", String(64), nullable=False),
    Column("send_id", String(190)),
    Column("status", String(16)),
    Column("status_at", Moment),
    Column("reason", String(64)),
    Column("created_at", Moment, nullable=False),
    Column("posted_at", Moment),
    Column("finished_at", Moment),
    Column("resend_of", String(190)),
    Column("touch_id", String(190)),
    Column("email_hash", String(64)),
    Column("bound_id", String(190)),
    Column("kind", String(8)),
    Column("link_ciphertext", Text),
    Column("client", String(16)),
    Column("posted_mark", String(80)),
    Column("status_words", String(LONGEST_STATUS_WORDS)),
    Column("cost", BigInteger),
    Column("currency", String(3)),
    Column("send_gid", String(190)),
    Index("sendoso_sends_batch", "batch_id", "state"),
    Index("sendoso_sends_scope", "account", "dedupe_scope", "state"),
    Index("sendoso_sends_owner", "owner", "state"),
    Index("sendoso_sends_send_id", "send_id"),
    Index("sendoso_sends_bound_id", "account", "bound_id", unique=True),
    Index("sendoso_sends_person", "account", "email_hash"),
    Index("sendoso_sends_posted", "account", "posted_at"),
    Index("sendoso_sends_totals", "account", "dedupe_scope", "state", "status", "currency", "cost"),
    Index("sendoso_sends_when", "account", "dedupe_scope", "posted_at"),
    Index("sendoso_sends_open", "account", "state", "send_key"),
    Index("sendoso_sends_gid", "account", "send_gid"),
)
"""``email_hash`` is that of the recipient's address; older releases have left it out for gifts of the catalogue. Of a
campaign send ``touch_id`` is the campaign, ``send_id`` its tracking code, and ``bound_id`` its id in Sendoso's list of
sends, which no two sends share. For one that makes an eGift link ``kind`` is ``link``, and ``link_ciphertext`` has the
link from the moment when it is SENT. Of a send of the marketplace (``market``) ``gift_id`` is the
product's variant, and of SmartSend (``smart``) the most that it may cost in USD, or ``any``.
``client`` is a hash of the client that claimed the send last; ``posted_mark`` the moment of its last POST by the clocks
of the process that made it (see ``clocks.py``), as ``posted_at`` is by the database's.
``status_words`` has Sendoso's words for the statuses that the send has had, separated by commas, the present one last.
A ``failed`` without words was written before version 6, to which a send on hold had failed.
``cost`` is the estimated cost of the last POST, in millionths of ``currency``; NULL if no cost was limited, and in rows
that were written before version 7.
``send_gid`` is the id by which Sendoso's webhooks name the send, where an answer has shown it beside another id; NULL
in all rows of an account without webhooks.
The indexes named totals, when and open are there for the pages in Airflow's UI (``overview/``), which count a million
sends without reading their rows. They, and those of scopes and batches, are there since version 8."""

resolutions = Table(
    "sendoso_resolutions",
    metadata,
    Column("resolution_id", String(32), primary_key=True),
    Column("send_key", String(64), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("from_state", String(8), nullable=False),
    Column("to_state", String(8), nullable=False),
    Column("send_id", String(190)),
    Column("resolved_by", String(190), nullable=False),
    Column("why", String(500), nullable=False),
    Column("resolved_at", Moment, nullable=False),
    Index("sendoso_resolutions_send", "send_key"),
)
"""The decisions about sends whose outcome was not known: who decided, when and why. Rows are only ever added."""

tokens = Table(
    "sendoso_tokens",
    metadata,
    Column("token_key", String(64), primary_key=True),
    Column("ciphertext", Text),
    Column("room", Text),
    Column("renew_at", Moment, nullable=False),
    Column("owner", String(32)),
    Column("lease_until", Moment, nullable=False),
    Column("renewals", BigInteger, nullable=False),
)

pace = Table(
    "sendoso_pace",
    metadata,
    Column("account", String(190), primary_key=True),
    Column("tat", Moment, nullable=False),
    Column("slot", Moment, nullable=False),
    Column("send_at", Moment, nullable=False),
    Column("poll_tat", Moment, nullable=False),
    Column("poll_slot", Moment, nullable=False),
)
"""``tat``: when the next slot is free (the "theoretical arrival time" of a leaky bucket); ``slot``: the last one taken;
``send_at``: when a send last asked; ``poll_tat`` and ``poll_slot``: the same as the first two for the polls' queue."""


lists = Table(
    "sendoso_lists",
    metadata,
    Column("list_id", String(32), primary_key=True),
    Column("send_ids", Text().with_variant(MEDIUMTEXT(), "mysql"), nullable=False),
    Column("keep_until", Moment, nullable=False),
)
"""Lists of sends that deferred sensors wait for: thousands of ids are too much for the arguments of a trigger. As a
list with one number: the moment of a sensor's first look, by the database's clock. Since version 3."""

accounts = Table(
    "sendoso_accounts",
    metadata,
    Column("account", String(190), primary_key=True),
    Column("client", String(16), nullable=False),
    Column("conn_id", String(250), nullable=False),
    Column("created_at", Moment, nullable=False),
)
"""The accounts that have sent, each with the client and the connection of its first send. Since version 5."""

cursors = Table(
    "sendoso_cursors",
    metadata,
    Column("name", String(190), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("position", Text().with_variant(MEDIUMTEXT(), "mysql"), nullable=False),
    Column("updated_at", Moment, nullable=False),
)
"""How far event sensors have read Sendoso's lists, which try of a task began last, and the last search for a scope's
sends of unknown outcome. Since version 4."""

spending = Table(
    "sendoso_spending",
    metadata,
    Column("account", String(190), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("sends", BigInteger, nullable=False),
    Column("cost", BigInteger, nullable=False),
    Column("currency", String(3)),
    Column("counted_at", Moment, nullable=False),
    Column("max_sends", BigInteger),
    Column("max_cost", BigInteger),
)
"""What is used of the limits; see ``spending.py``. Every POSTING of an account locks the row with an empty name; the
others are named after a scope, a day or a month, and are there once it was limited. ``sends`` and ``cost`` are never
less than what the sends of that scope, day or month say, from which they are counted anew; ``counted_at`` is when they
last were. ``max_sends`` and ``max_cost`` are the limits as a task has last set them. Costs are in millionths of
``currency``. Since version 7."""

plans = Table(
    "sendoso_plans",
    metadata,
    Column("batch_id", String(32), primary_key=True),
    Column("rows_to_send", BigInteger, nullable=False),
    Column("results_table", String(250)),
    Column("noted_at", Moment, nullable=False),
)
"""How many rows the last try of a batch had to send, invalid ones and repeated keys left out, and where it writes its
results. Only the pages in Airflow's UI read it. Since version 8."""

wakeups = Table(
    "sendoso_wakeups",
    metadata,
    Column("account", String(190), primary_key=True),
    Column("svix_id", String(190), primary_key=True),
    Column("send_gid", String(190), nullable=False),
    Column("received_at", Moment, nullable=False),
    Index("sendoso_wakeups_received", "received_at"),
)
"""The webhooks that were received, each once: which send has changed, and when that was heard; see ``wakeups.py``,
which deletes them after a month. ``svix_id`` is the message's id, the same whenever it is sent again. Since version
8."""

ADDED: dict[int, tuple[Column[Any], ...]] = {
    2: (sends.c.resend_of,),
    4: (sends.c.touch_id, sends.c.email_hash, sends.c.bound_id, sends.c.kind, sends.c.link_ciphertext),
    5: (sends.c.client, sends.c.posted_mark, identity.c.tables_version),
    6: (sends.c.status_words,),
    7: (sends.c.cost, sends.c.currency),
    8: (sends.c.send_gid,),
}
"""Columns by the schema version that added them. An older ledger gets them, with their indexes, when it is opened; new
tables need no entry here."""


class db_now(FunctionElement[float]):
    """The database's clock: seconds since 1970, moving on within a transaction."""

    type = Moment
    inherit_cache = True
    name = "db_now"


@compiles(db_now, "sqlite")
def _sqlite_now(element: db_now, compiler: Any, **kw: Any) -> str:
    if compiler.dialect.driver == DRIVER:
        return f"{NOW}()"
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(db_now, "postgresql")
def _postgresql_now(element: db_now, compiler: Any, **kw: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"


@compiles(db_now, "mysql")
def _mysql_now(element: db_now, compiler: Any, **kw: Any) -> str:
    # Not NOW(), which stands still while a statement waits for a row. The connection's time zone is UTC.
    return "CAST(UNIX_TIMESTAMP(SYSDATE(6)) AS DOUBLE)"


for _table in metadata.tables.values():
    # Set here rather than by the server's defaults: transactions, and keys and scopes that are compared by code points.
    _table.kwargs.update(mysql_engine="InnoDB", mysql_charset="utf8mb4", mysql_collate="utf8mb4_bin")
