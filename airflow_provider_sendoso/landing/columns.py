"""What a row of Sendoso's becomes in a table: its columns, their types and its cells. Pure: no I/O."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoServerError
from airflow_provider_sendoso.models import LONGEST_ID, SendStatus


class Kind(StrEnum):
    """The type of a column; which one a column has depends on its name alone, and so never changes."""

    ID = "id"
    TEXT = "text"
    MOMENT = "moment"
    AMOUNT = "amount"
    COUNT = "count"
    TRUTH = "truth"
    JSON = "json"


Cell = str | int | None
Update = tuple[str, str, str, str]
"""A status update: send id, which of the six, the API's word, and when, as SQL writes it."""

HASH, LANDED_AT = "landed_hash", "landed_at"
"""The columns that every table has besides: what the row held, and when it was last written."""

OWN = {LANDED_AT: Kind.MOMENT, HASH: Kind.TEXT}


@dataclass(frozen=True)
class ObjectList:
    """
    A list of Sendoso's that can be landed.

    :param name: what authors call it.
    :param path: what the API calls it.
    :param columns: those that its table always has, in their order; by the fields that are published or inferred.
    :param are_sends: whether its rows have a status of the six, and may go on changing.
    """

    name: str
    path: str
    columns: Mapping[str, Kind] = field(repr=False)
    are_sends: bool = False

    @property
    def always(self) -> tuple[str, ...]:
        """The columns that cannot be left out: without them nobody knows what is landed, and what is still open."""
        return ("id", "status", "status_word", "created_at") if self.are_sends else ("id",)

    def kind_of(self, column: str) -> Kind:
        """
        Return a column's type, by its name alone.

        :param column: one of the table's, or one that is new.
        """
        known = self.columns.get(column) or OWN.get(column)
        if known is not None:
            return known
        return next((kind for words, kind in _BY_NAME if words.search(column)), Kind.TEXT)


_BY_NAME = (
    (re.compile(r"^metadata_|_text$"), Kind.TEXT),
    (re.compile(r"_(at|date)$"), Kind.MOMENT),
    (re.compile(r"(^|_)(amount|balance|budget|cost|price)$"), Kind.AMOUNT),
    (re.compile(r"(^|_)count$"), Kind.COUNT),
    (re.compile(r"^(is|has)_"), Kind.TRUTH),
)


def _typed(**names: str) -> dict[str, Kind]:
    return {name: Kind(kind) for name, kind in names.items()}


_SENDS = _typed(
    id="id",
    status="text",
    status_word="text",
    created_at="moment",
    gift_id="text",
    variant_id="text",
    recipient_name="text",
    recipient_email="text",
    tracking_url="text",
    metadata="json",
    status_updates="json",
)

_CAMPAIGN_SENDS = _typed(
    id="id",
    status="text",
    status_word="text",
    created_at="moment",
    send_gid="text",
    type="text",
    subtype="text",
    currency="text",
    current_total_cost="amount",
    touch_id="text",
    touch_name="text",
    recipient_name="text",
    recipient_email="text",
    recipient_company_name="text",
    sent_via="text",
    tracking_url="text",
    status_updates="json",
)

_TOUCHES = _typed(
    id="id",
    name="text",
    status="text",
    delivery_type="text",
    gift_id="text",
    start_date="moment",
    end_date="moment",
    starting_egift_price="amount",
    ending_egift_price="amount",
    currency="text",
    ship_to_countries="json",
    created_at="moment",
)

_GROUPS = _typed(
    id="id",
    name="text",
    team_id="text",
    budget="amount",
    monthly_budget="amount",
    one_time_budget="amount",
    rollover="truth",
    created_at="moment",
)

_USERS = _typed(
    id="id",
    first_name="text",
    last_name="text",
    email="text",
    balance="amount",
    team_balance="amount",
    team_id="text",
    team_group_id="text",
)

_GIFTS = _typed(id="id", name="text", category="text", price="amount", currency="text")

_RETURN_ADDRESSES = _typed(id="id", name="text", address="text", city="text", state="text", zip="text", country="text")

LISTS = {
    found.name: found
    for found in (
        ObjectList("sends", "sends", _SENDS, are_sends=True),
        ObjectList("campaign_sends", "send", _CAMPAIGN_SENDS, are_sends=True),
        ObjectList("touches", "touches", _TOUCHES),
        ObjectList("groups", "groups", _GROUPS),
        ObjectList("users", "users", _USERS),
        ObjectList("gifts", "gifts", _GIFTS),
        ObjectList("return_addresses", "return-addresses", _RETURN_ADDRESSES),
    )
}
"""By the name that authors use."""

_NESTED = ("touch", "recipient", "sender", "gift")
"""Objects within a row whose fields get columns of their own (published, but for ``gift``, which is inferred)."""

_LONGEST_NAME = 60
"""Characters of a column's name, and room for an ending within the 63 of PostgreSQL."""


@dataclass(frozen=True)
class Row:
    """
    A row as it will be landed; the ``repr`` shows none of it.

    :param id: Sendoso's.
    :param cells: by column; those that are not there are NULL.
    :param updates: of its status; ``None`` where the API does not give them.
    :param undated: status updates without a word or a moment, which no row of a status table can be made of.
    """

    id: str
    cells: Mapping[str, Cell] = field(repr=False)
    updates: tuple[Update, ...] | None = field(default=None, repr=False)
    undated: int = 0

    def digest(self, *, with_updates: bool) -> str:
        """
        Name what the row holds, to see whether it has changed.

        :param with_updates: whether its status updates are landed, too.
        """
        held = sorted((key, cell) for key, cell in self.cells.items() if cell is not None)
        text = json.dumps([held, self.updates if with_updates else None])
        return hashlib.sha256(text.encode()).hexdigest()[:40]


PART = "/part"


def mark(listed: ObjectList, digest: str, *, part: bool = False) -> str:
    """
    Write a row's hash as its table has it: with the list that it is of.

    :param listed: the list.
    :param digest: of the row.
    :param part: whether the row was landed without those that are older: it must not be taken for a sign that they
        are there.
    """
    return f"{listed.name}{PART if part else ''}:{digest}"


class RowReader:
    """
    Turns what the API gave into rows.

    :param listed: the list.
    :param keep: the columns that are wanted; ``None`` for all.
    :param unknown_word: told of each status word that is none of those known, once.
    """

    def __init__(
        self,
        listed: ObjectList,
        keep: Collection[str] | None = None,
        unknown_word: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.listed = listed
        self._keep = None if keep is None else {*keep, *listed.always}
        self._unknown_word = unknown_word
        self._unknown = set[str]()
        self.columns = {name: kind for name, kind in listed.columns.items() if self._wants(name)}
        """The columns, those included that were seen in a row."""
        if listed.are_sends:
            named = [name for name in keep or () if name.startswith("metadata_")]
            self.columns |= dict.fromkeys(named, Kind.TEXT)
        self.seen = set[str]()
        """The names of all that the rows had, wanted or not."""

    def read(self, fields: Mapping[str, Any]) -> Row:
        """
        Read a row.

        :param fields: as the API gave them.
        :raises SendosoServerError: for one without an id.
        """
        flat = _flatten(fields)
        row_id = _text(flat.pop("id", None))
        if not row_id or len(row_id) > LONGEST_ID or isinstance(fields.get("id"), bool | Mapping | list):
            raise SendosoServerError(200, f"The list of {self.listed.name} has a row without an id.")
        updates, undated = None, 0
        if self.listed.are_sends:
            flat["status"], flat["status_word"] = self._status(flat.get("status"))
            updates, undated = self._updates(row_id, flat.get("status_updates"))
        cells: dict[str, Cell] = {"id": row_id}
        self.seen.add("id")
        for name, value in (*flat.items(), *self._metadata(flat)):
            self.seen.add(name)
            if not self._wants(name):
                continue
            kind = self.listed.kind_of(name)
            self.columns.setdefault(name, kind)
            try:
                cells[name] = _WRITERS[kind](value)
            except (ValueError, TypeError, ArithmeticError):
                # Nothing is lost, and no column changes its type: what does not fit goes beside it, as text.
                cells[f"{name}_text"] = _text(value)
                self.columns.setdefault(f"{name}_text", Kind.TEXT)
        return Row(row_id, cells, updates, undated)

    def unknown_columns(self, landed: Iterable[str]) -> list[str]:
        """
        Name the wanted columns that neither a known field nor any row has had.

        :param landed: the columns that the table has already.
        """
        return sorted((self._keep or set()) - self.columns.keys() - self.seen - set(landed))

    def _wants(self, name: str) -> bool:
        return self._keep is None or name in self._keep

    def _status(self, word: Any) -> tuple[str | None, str | None]:
        text = _text(word)
        if not text:
            return None, None
        status = SendStatus.from_word(text)
        if status is None and text not in self._unknown:
            self._unknown.add(text)
            self._unknown_word(text)
        return (status or SendStatus.PROCESSING).value, text

    def _updates(self, row_id: str, updates: Any) -> tuple[tuple[Update, ...] | None, int]:
        if not isinstance(updates, list):
            return None, 0
        found = set[Update]()
        undated = 0
        for update in updates:
            fields = update if isinstance(update, Mapping) else {}
            status, word = self._status(fields.get("status"))
            try:
                when = _moment(fields.get("occurred_at"))
            except (ValueError, TypeError, ArithmeticError):
                when = None
            if status is None or word is None or when is None:
                undated += 1
            else:
                found.add((row_id, status, word[:LONGEST_WORD], when))
        return tuple(sorted(found, key=lambda update: (update[3], update[2]))), undated

    def _metadata(self, flat: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """A key of the metadata is a column only for those who name it: anybody may add one."""
        metadata = flat.get("metadata")
        if self._keep is None or not isinstance(metadata, Mapping):
            return []
        named = ((column_name(f"metadata_{key}"), value) for key, value in metadata.items())
        return [(name, value) for name, value in named if name in self._keep]


LONGEST_WORD = 100
"""Characters of a status word in a status table, where it is part of the key."""


def column_name(name: str) -> str:
    """
    Make a column's name of a field's: lower case, and nothing that a database would have to be told how to read.

    :param name: like ``Total cost``.
    """
    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower() or "field"
    return (f"_{plain}" if plain[0].isdigit() else plain)[:_LONGEST_NAME]


def read_columns(value: Any) -> list[str] | None:
    """
    Read the columns that an author wants, from a list or from what a template has made of one.

    :param value: names, or text with commas or white space between them.
    :return: ``None`` for all.
    :raises SendosoConfigError: for anything else, and for none.
    """
    if value is None:
        return None
    if isinstance(value, str):
        value = re.split(r"[\s,]+", value.strip("[]()\n\t "))
    if not isinstance(value, Iterable) or isinstance(value, Mapping):
        raise SendosoConfigError("columns must be a list of names. Nothing was read.")
    names = [str(name).strip("'\" ").lower() for name in value]
    names = [name for name in names if name]
    if not names:
        raise SendosoConfigError("columns is empty; leave it out to land them all. Nothing was read.")
    return names


def read_moment(value: Any) -> datetime | None:
    """
    Read a moment as a database or the API gives it; one without a zone is taken for UTC (inferred).

    :param value: a ``datetime``, or text of ISO 8601.
    :raises ValueError: for text that is none.
    """
    if value is None or value == "":
        return None
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _flatten(fields: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in _NESTED or not (value is None or isinstance(value, Mapping)):
            flat.setdefault(column_name(name), value)
    for name in _NESTED:
        inner = fields.get(name)
        for key, value in inner.items() if isinstance(inner, Mapping) else ():
            flat.setdefault(column_name(f"{name}_{key}"), value)
    for name in OWN:
        flat.pop(name, None)
    return flat


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        # What a database cannot write: NUL, and half of a surrogate pair.
        return value.replace("\0", "").encode(errors="replace").decode()
    return _json(value)


def _json(value: Any) -> str | None:
    if value is None:
        return None
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return text.encode(errors="replace").decode()


def _moment(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise TypeError("no moment")
    moment = read_moment(value)
    return None if moment is None else moment.replace(tzinfo=None).isoformat(" ", "milliseconds")


_CENTS = Decimal("0.0001")
_MOST = Decimal(10) ** 14
"""What NUMERIC(18, 4) holds."""


def _amount(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError("no amount")
    try:
        amount = Decimal(str(value).strip())
    except InvalidOperation:
        raise ValueError("no amount") from None
    if not amount.is_finite() or abs(amount) >= _MOST:
        raise ValueError("no amount")
    exact = amount.quantize(_CENTS)
    if exact != amount:
        raise ValueError("it would be rounded")
    return str(exact)


def _count(value: Any) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError("no count")
    count = int(value)
    if count != float(value) or abs(count) >= 2**63:
        raise ValueError("no count")
    return count


def _truth(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise TypeError("neither true nor false")


_WRITERS: Mapping[Kind, Callable[[Any], Cell]] = {
    Kind.ID: _text,
    Kind.TEXT: _text,
    Kind.MOMENT: _moment,
    Kind.AMOUNT: _amount,
    Kind.COUNT: _count,
    Kind.TRUTH: _truth,
    Kind.JSON: _json,
}
