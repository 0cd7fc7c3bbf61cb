"""What a row of Sendoso's becomes in a table: its cells, its hash, and the updates of its status. Pure: no I/O."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_sendoso.client.answers import read_status
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoServerError
from airflow_provider_sendoso.landing.cells import Cell, write_cell, write_moment, write_text
from airflow_provider_sendoso.landing.lists import OWN, Kind, ObjectList
from airflow_provider_sendoso.models import LONGEST_ID

Update = tuple[str, str, str, str]
"""A status update: send id, which of the six, the API's word, and when, as SQL writes it."""

LONGEST_WORD = 100
"""Characters of a status word in a status table, where it is part of the key."""

_NESTED = ("touch", "recipient", "sender", "gift")
"""Objects within a row whose fields get columns of their own (published, but for ``gift``, which is inferred)."""

_LONGEST_NAME = 60
"""Characters of a column's name, and room for an ending within the 63 of PostgreSQL."""


@dataclass(frozen=True)
class LandingRow:
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
"""In a row's hash, after the name of its list: the row was landed alone."""


def mark(listed: ObjectList, digest: str, *, part: bool = False) -> str:
    """
    Write a row's hash as its table has it: with the list that it is of.

    :param listed: the list.
    :param digest: of the row.
    :param part: whether the row was landed without those that are older: it must not be taken for a sign that they
        are there.
    """
    return f"{listed.name}{PART if part else ''}:{digest}"


class LandingRowReader:
    """
    Turns what the API gave into rows.

    :param listed: the list.
    :param keep: the columns that are wanted; ``None`` for all.
    """

    def __init__(self, listed: ObjectList, keep: Collection[str] | None = None) -> None:
        self.listed = listed
        self._keep = None if keep is None else {*keep, *listed.always}
        self.columns = {name: kind for name, kind in listed.columns.items() if self._wants(name)}
        """The columns, those included that were seen in a row."""
        if listed.are_sends:
            named = [name for name in keep or () if name.startswith("metadata_")]
            self.columns |= dict.fromkeys(named, Kind.TEXT)
        self.seen = set[str]()
        """The names of all that the rows had, wanted or not."""

    def read(self, fields: Mapping[str, Any]) -> LandingRow:
        """
        Read a row.

        :param fields: as the API gave them.
        :raises SendosoServerError: for one without an id.
        """
        flat = _flatten(fields)
        row_id = write_text(flat.pop("id", None))
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
                cells[name] = write_cell(kind, value)
            except (ValueError, TypeError, ArithmeticError):
                # Nothing is lost, and no column changes its type: what does not fit goes beside it, as text.
                cells[f"{name}_text"] = write_text(value)
                self.columns.setdefault(f"{name}_text", Kind.TEXT)
        return LandingRow(row_id, cells, updates, undated)

    def unknown_columns(self, landed: Iterable[str]) -> list[str]:
        """
        Name the wanted columns that neither a known field nor any row has had.

        :param landed: the columns that the table has already.
        """
        return sorted((self._keep or set()) - self.columns.keys() - self.seen - set(landed))

    def _wants(self, name: str) -> bool:
        return self._keep is None or name in self._keep

    def _status(self, word: Any) -> tuple[str | None, str | None]:
        text = write_text(word)
        if not text:
            return None, None
        return read_status(text).value, text

    def _updates(self, row_id: str, updates: Any) -> tuple[tuple[Update, ...] | None, int]:
        if not isinstance(updates, list):
            return None, 0
        found = set[Update]()
        undated = 0
        for update in updates:
            fields = update if isinstance(update, Mapping) else {}
            status, word = self._status(fields.get("status"))
            try:
                when = write_moment(fields.get("occurred_at"))
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


def column_name(name: str) -> str:
    """
    Make a column's name of a field's: lower case, and nothing that a database would have to be told how to read.

    :param name: like ``Total cost``.
    """
    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower() or "field"
    plain = f"_{plain}" if plain[0].isdigit() else plain
    if name.isascii() and len(plain) <= _LONGEST_NAME:
        return plain
    # What had to be left out may be all that tells two fields apart.
    return f"{plain[: _LONGEST_NAME - 9]}_{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:8]}"


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
