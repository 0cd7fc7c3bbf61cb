"""Turns a row of Sendoso's answers into a table's cells, hash and status updates. Pure: no I/O."""

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
"""A status update: send id, one of the six statuses, the API's word, and the time as SQL text."""

LONGEST_WORD = 100
"""Characters of a status word in a status table, where it is part of the key."""

_NESTED = ("touch", "recipient", "sender", "gift")
"""Objects within a row whose fields get columns of their own (published, but for ``gift``, which is inferred)."""

_LONGEST_NAME = 60
"""Characters of a column's name, and room for an ending within the 63 of PostgreSQL."""


@dataclass(frozen=True)
class LandingRow:
    """
    A row to be written; its ``repr`` shows no values.

    :param id: Sendoso's id.
    :param cells: values by column; missing columns are NULL.
    :param updates: the row's status updates; ``None`` if the API does not return them.
    :param undated: number of status updates without a word or a time, which the status table cannot hold.
    """

    id: str
    cells: Mapping[str, Cell] = field(repr=False)
    updates: tuple[Update, ...] | None = field(default=None, repr=False)
    undated: int = 0

    def digest(self, *, with_updates: bool) -> str:
        """
        Return a hash of the row, which shows whether the row has changed.

        :param with_updates: whether the hash includes the status updates.
        """
        held = sorted((key, cell) for key, cell in self.cells.items() if cell is not None)
        text = json.dumps([held, self.updates if with_updates else None])
        return hashlib.sha256(text.encode()).hexdigest()[:40]


PART = "/part"
"""In a row's hash, after the name of its list: the row was landed alone."""


def mark(listed: ObjectList, digest: str, *, part: bool = False) -> str:
    """
    Return a row's hash in the form of the table, which names the list.

    :param listed: the list.
    :param digest: the row's hash.
    :param part: whether older rows of the list may be missing in the table, so that this row does not prove them
        present.
    """
    return f"{listed.name}{PART if part else ''}:{digest}"


class LandingRowReader:
    """
    Turns the API's items into rows.

    :param listed: the list.
    :param keep: the columns to load; ``None`` for all.
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

        :param fields: the fields in the API's answer.
        :raises SendosoServerError: if the row has no id.
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
                # A value that does not fit is stored as text in an additional column, so no value is lost and no type
                # changes.
                cells[f"{name}_text"] = write_text(value)
                self.columns.setdefault(f"{name}_text", Kind.TEXT)
        return LandingRow(row_id, cells, updates, undated)

    def unknown_columns(self, landed: Iterable[str]) -> list[str]:
        """
        Return the requested columns that are neither a known field nor a field of any row.

        :param landed: the columns that the table already has.
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
        """Return the metadata keys that ``columns`` names; others are not columns, because any sender may add keys."""
        metadata = flat.get("metadata")
        if self._keep is None or not isinstance(metadata, Mapping):
            return []
        named = ((column_name(f"metadata_{key}"), value) for key, value in metadata.items())
        return [(name, value) for name, value in named if name in self._keep]


def column_name(name: str) -> str:
    """
    Convert a field's name to a column name: lower case, and without characters that need quoting.

    :param name: the field's name, like ``Total cost``.
    """
    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower() or "field"
    plain = f"_{plain}" if plain[0].isdigit() else plain
    if name.isascii() and len(plain) <= _LONGEST_NAME:
        return plain
    # Other names get a hash, because two fields may differ only in the removed characters.
    return f"{plain[: _LONGEST_NAME - 9]}_{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:8]}"


def read_columns(value: Any) -> list[str] | None:
    """
    Parse the argument ``columns``, from a list or from the text that a template has made of a list.

    :param value: names, or text with commas or white space between them.
    :return: ``None`` for all.
    :raises SendosoConfigError: if the value is of another type or names no column.
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
