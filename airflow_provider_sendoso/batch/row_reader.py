"""Turns rows into sends: maps columns to fields once, and then parses each row."""

from __future__ import annotations

import string
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from airflow_provider_sendoso.batch.row import BatchRow
from airflow_provider_sendoso.batch.validation import Check, strict_email_check
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.models import (
    LONGEST_ID,
    METADATA_KEY,
    Address,
    AnySend,
    Kind,
    field_errors,
    normalise_text,
    parse_send,
)
from airflow_provider_sendoso.models.identity import name_problem
from airflow_provider_sendoso.models.mailbox import read_key
from airflow_provider_sendoso.models.suspects import placeholder
from airflow_provider_sendoso.sending.kinds import BY_ARGUMENT, KINDS
from airflow_provider_sendoso.sending.kinds.base import SendKind

ADDRESS_FIELDS = tuple(Address.model_fields)
RESEND_OF = "resend_of"
METADATA_PREFIX = "metadata_"

_FIELDS = (
    *("first_name", "last_name", "email", "company", "title", "mobile_no"),
    *(f"address_{name}" for name in ADDRESS_FIELDS),
    RESEND_OF,
    *dict.fromkeys(column for kind in BY_ARGUMENT for column in kind.columns),
)
_SHORT = {name: f"address_{name}" for name in ("city", "state", "postal_code", "country")}
"""Fields of the address whose columns may leave out ``address_``; a column with the prefix takes precedence."""
_USUAL = [KINDS[Kind.GIFT]]
"""The kind of rows if neither arguments nor columns name one."""
_FIRST = [KINDS[Kind.GIFT], KINDS[Kind.CAMPAIGN]]
"""The kinds of which a row's error says that none is named, whether there are such columns or not."""
_LONGEST_REF = 250


@dataclass(frozen=True)
class Layout:
    """
    The arguments of a batch that concern its rows.

    :param arguments: the operator's own arguments that say what is sent, like ``gift_id`` and ``message``; those that
        are set override columns.
    :param asking: how the recipients of campaigns are asked for their address, as :class:`CampaignSend` has it.
    :param metadata: the operator's own metadata.
    :param column_map: column by field, for columns whose name differs.
    :param recipient_key: the field or column that identifies a recipient within the scope.
    :param row_ref: a column shown in logs and results.
    :param strict_email: whether e-mails must also follow the letter of the standards.
    :param kind: the kind of every row; ``None`` if arguments and columns choose between gifts and campaigns.
    """

    arguments: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    column_map: Mapping[str, str] = field(default_factory=dict)
    recipient_key: str = "email"
    row_ref: str | None = None
    strict_email: bool = False
    asking: Mapping[str, Any] = field(default_factory=dict)
    kind: Kind | None = None


class BatchRowReader:
    """
    Parses the rows of one result into sends.

    :param columns: the result's columns, in order.
    :param layout: the arguments of the batch that concern its rows.
    :raises SendosoConfigError: if a column is missing, unknown or ambiguous, before any row is read; or if the package
        that ``strict_email`` needs is missing.
    """

    def __init__(self, columns: Sequence[str], layout: Layout) -> None:
        self._names = [_clean(name) for name in columns]
        self._columns = _index(columns)
        self._arguments = {name: value for name, value in layout.arguments.items() if value is not None}
        metadata = {str(name): value for name, value in layout.metadata.items()}
        self._metadata = {name: value for name, value in metadata.items() if value is not None}
        self._asking = {name: value for name, value in layout.asking.items() if value is not None}
        self._own = _named(self._arguments) if layout.kind is None else [KINDS[layout.kind]]
        self._fields = self._resolve_fields(layout.column_map)
        self._address_cells = self._cells_of({f"address_{name}": name for name in ADDRESS_FIELDS})
        self._metadata_columns = {
            key: position
            for position, name in enumerate(self._names)
            if name.casefold().startswith(METADATA_PREFIX) and (key := _metadata_name(name)) and key not in metadata
        }
        if METADATA_KEY in metadata.keys() | self._metadata_columns.keys():
            raise SendosoConfigError(f"metadata may not hold {METADATA_KEY!r}: the ledger marks its sends with it.")
        self._key_name = layout.recipient_key
        self._key_position = self._field_or_column(layout.recipient_key, "recipient_key")
        self._ref_position = self._column(layout.row_ref, "row_ref") if layout.row_ref else None
        self._message = self._resolve_message()
        self._shapes = [self._shape_of(kind) for kind in self._kinds()]
        self._strict: Check | None = strict_email_check() if layout.strict_email else None

    @property
    def sources(self) -> dict[str, str]:
        """The source of each field, for the log: the name of the result's column, or ``argument``."""
        columns = {name: self._names[position] for name, position in self._fields.items()}
        metadata = {f"metadata_{name}": self._names[position] for name, position in self._metadata_columns.items()}
        arguments = [*self._arguments, *(f"metadata_{name}" for name in self._metadata)]
        return columns | metadata | dict.fromkeys(arguments, "argument")

    @property
    def unused(self) -> list[str]:
        """The result's columns that no send of this batch reads, each with the field that may have been meant by it."""
        used = {self._key_position, self._ref_position, self._fields.get(RESEND_OF)}
        used |= {position for _, _, position in self._message.parts} if self._message else set()
        for shape in self._shapes:
            cells = [*shape.content, *(shape.recipient or ()), *(self._address_cells if shape.recipient else ())]
            used |= {position for _, position in cells}
            used |= set(self._metadata_columns.values()) if shape.has_metadata else set()
        return [f"{name!r}{self._meant_by(name)}" for position, name in enumerate(self._names) if position not in used]

    def _meant_by(self, column: str) -> str:
        """Name the field that a column is called, but for blanks and punctuation, if nothing else fills the field."""
        letters = {name.replace("_", ""): _SHORT.get(name, name) for name in (*_FIELDS, *_SHORT)}
        field = letters.get("".join(filter(str.isalnum, column)).casefold())
        filled = self._fields.keys() | self._arguments.keys()
        return "" if field is None or field in filled else f" ({field}? then name it in column_map)"

    def read(self, number: int, cells: Sequence[Any]) -> BatchRow:
        """
        Read one row.

        :param number: from 1.
        :param cells: the row's values, in the order of the columns.
        """
        row_ref = None
        try:
            row_ref = None if self._ref_position is None else self._cell(cells, self._ref_position)
            row_ref = row_ref.replace("\0", "")[:_LONGEST_REF] if row_ref else None
            key = self._cell(cells, self._key_position)
            if key is None:
                return BatchRow(number, None, row_ref, None, f"the recipient key ({self._key_name}) is missing")
            problem = None if key.isascii() and key.isprintable() else name_problem(key)
            if problem is not None and "@" not in key:
                return BatchRow(number, None, row_ref, None, f"the recipient key ({self._key_name}) {problem}")
            if "@" in key:
                key, decorated = read_key(key)
                if decorated is not None:
                    return BatchRow(number, None, row_ref, None, f"{self._key_name} {decorated}")
            resend_of = self._resend_of(cells)
            send = self._send(cells)
            kind = KINDS[send.kind]
            if self._strict and (problem := self._strict(kind.email(send))):
                raise _RowError(problem)
            by_post, country = kind.problem_by_post(send), kind.country(send)
            left_out = send.left_out is not None
            return BatchRow(number, key, row_ref, send, None, resend_of, by_post, country, left_out)
        except ValidationError as error:
            problem = "; ".join(f"{name} {reason}" for name, reason in field_errors(error))
        except _RowError as error:
            problem = str(error)
        except (TypeError, ValueError):
            problem = "a cell holds something that is not text"
        return BatchRow(number, None, row_ref, None, problem)

    def _kinds(self) -> Sequence[SendKind[Any]]:
        """Return the kinds that rows may have. It is decided once, because a batch may have a million rows."""
        if self._own:
            return self._own
        named = _named(self._fields)
        return _USUAL if named in ([], _USUAL) else [kind for kind in BY_ARGUMENT if kind in (*_FIRST, *named)]

    def _shape_of(self, kind: SendKind[Any]) -> _Shape:
        fields, recipient = kind.model.model_fields, _recipient_fields(kind)
        constants = {name: value for name, value in self._arguments.items() if name != "message"} | self._asking
        return _Shape(
            kind,
            self._cells_of({name: name for name in fields}),
            self._cells_of({name: name for name in recipient}) if recipient else None,
            {name: value for name, value in constants.items() if name in fields},
            "message" in fields,
            "metadata" in fields,
        )

    def _send(self, cells: Sequence[Any]) -> AnySend:
        shape = self._shapes[0] if len(self._shapes) == 1 else self._chosen(cells)
        # The model normalises text, so that it is done once; NULLs are not passed to the model.
        send = {name: cell for name, position in shape.content if (cell := cells[position]) is not None}
        if shape.recipient is not None:
            recipient = {name: cell for name, position in shape.recipient if (cell := cells[position]) is not None}
            address = {name: cell for name, position in self._address_cells if (cell := cells[position]) is not None}
            if address:
                recipient["address"] = address
            send["recipient"] = recipient
        if shape.has_message and self._message is None:
            left = placeholder(send.get("message"))
            if left is not None:
                raise _RowError(f"message holds the placeholder {left}, which nothing fills in")
        elif shape.has_message and self._message is not None:
            send["message"] = self._message.render(partial(self._cell, cells))
        send |= shape.constants
        if shape.has_metadata:
            metadata = {
                name: value
                for name, position in self._metadata_columns.items()
                if (value := self._plain(cells, position)) is not None
            }
            send["metadata"] = metadata | self._metadata
        made: AnySend = parse_send(shape.kind.model, send)
        return made

    def _chosen(self, cells: Sequence[Any]) -> _Shape:
        """Return the shape of the kind that a row names."""
        named = [
            shape
            for shape in self._shapes
            if (position := self._fields.get(shape.kind.named_by)) is not None
            and shape.kind.is_named_by(self._cell(cells, position))
        ]
        if len(named) == 1:
            return named[0]
        names = " and ".join(shape.kind.named_by for shape in named or self._shapes)
        raise _RowError(f"{names} are {'both there' if named else 'missing'}: give one")

    def _cell(self, cells: Sequence[Any], position: int) -> str | None:
        """Read a cell as text; if it is not text, the error names its column."""
        value = cells[position]
        if type(value) is str and value.isascii() and value.isprintable():
            return value.strip() or None  # the usual case, which has to be fast
        try:
            return normalise_text(value)
        except TypeError:
            found = type(value).__name__
            raise _RowError(f"the column {self._names[position]!r} holds a {found}, which is not text") from None
        except ValueError:
            raise _RowError(
                f"the column {self._names[position]!r} holds what is not text: too long, or not Unicode"
            ) from None

    def _plain(self, cells: Sequence[Any], position: int) -> str | int | float | bool | None:
        value = cells[position]
        return value if isinstance(value, bool | int) else self._cell(cells, position)

    def _cells_of(self, fields: Mapping[str, str]) -> list[tuple[str, int]]:
        return [(name, self._fields[field]) for field, name in fields.items() if field in self._fields]

    def _resend_of(self, cells: Sequence[Any]) -> str | None:
        position = self._fields.get(RESEND_OF)
        resend_of = self._cell(cells, position) if position is not None else None
        if resend_of is not None and len(resend_of) > LONGEST_ID:
            raise _RowError(f"{RESEND_OF} is longer than {LONGEST_ID} characters")
        return resend_of

    def _resolve_fields(self, column_map: Mapping[str, str]) -> dict[str, int]:
        column_map = {_SHORT.get(name, name): column for name, column in column_map.items()}
        unknown = sorted(set(column_map) - set(_FIELDS))
        if unknown:
            raise SendosoConfigError(
                f"column_map names fields that no send has: {', '.join(unknown)}. Fields: {', '.join(_FIELDS)}."
            )
        fields = {}
        for name in _FIELDS:
            if name in column_map:
                fields[name] = self._column(column_map[name], f"column_map[{name!r}]")
            elif name in self._columns:
                fields[name] = self._columns[name]
        for short, name in _SHORT.items():
            if name not in fields and short in self._columns:
                fields[name] = self._columns[short]
        there = fields.keys() | self._arguments.keys()
        required = set.intersection(*map(_required, self._own or _named(fields) or _USUAL))
        missing = [name for name in _FIELDS if name in required and name not in there]
        if missing:
            raise SendosoConfigError(
                f"No column for {', '.join(missing)}. Columns of the result: {', '.join(self._columns) or 'none'}. "
                "Name the column in column_map, or set gift_id and message, or one of "
                f"{', '.join(kind.named_by for kind in BY_ARGUMENT[1:])}, as arguments. Nothing was sent."
            )
        return {name: position for name, position in fields.items() if name not in self._arguments}

    def _resolve_message(self) -> _Message | None:
        text = self._arguments.get("message")
        if text is None:
            return None
        return _Message.parse(str(text), lambda name: self._field_or_column(name, "message"))

    def _field_or_column(self, name: str, where: str) -> int:
        field = _clean(name).casefold()
        field = _SHORT.get(field, field)
        return self._fields[field] if field in self._fields else self._column(name, where)

    def _column(self, name: str, where: str) -> int:
        position = self._columns.get(_clean(name).casefold())
        if position is None:
            raise SendosoConfigError(
                f"{where} names the column {name!r}, which the result does not have. "
                f"Columns: {', '.join(self._columns) or 'none'}. Nothing was sent."
            )
        return position


@dataclass(frozen=True)
class _Shape:
    """How a row becomes a send of one kind: cells of the send, cells of its recipient, and what all rows share."""

    kind: SendKind[Any]
    content: Sequence[tuple[str, int]]
    recipient: Sequence[tuple[str, int]] | None
    constants: Mapping[str, Any]
    has_message: bool
    has_metadata: bool


def _named(names: Container[str]) -> list[SendKind[Any]]:
    """Return the kinds that some arguments or columns name."""
    return [kind for kind in BY_ARGUMENT if kind.named_by in names]


def _recipient_fields(kind: SendKind[Any]) -> Mapping[str, FieldInfo]:
    """Return the fields of the recipient in a kind's model; none if the model has only an e-mail address."""
    recipient = kind.model.model_fields.get("recipient")
    fields: Mapping[str, FieldInfo] = getattr(recipient and recipient.annotation, "model_fields", {})
    return fields


def _required(kind: SendKind[Any]) -> set[str]:
    fields = {**kind.model.model_fields, **_recipient_fields(kind)}
    return {name for name, field in fields.items() if field.is_required()} - {"recipient"}


class _RowError(Exception):
    """A problem of a row that no model reports."""


@dataclass(frozen=True)
class _Message:
    """A message with ``{column}`` in it: literal texts, each followed by the position of a column or by nothing."""

    parts: tuple[tuple[str, str | None, int | None], ...]

    @classmethod
    def parse(cls, text: str, position_of: Any) -> _Message:
        try:
            parsed = list(string.Formatter().parse(text))
        except ValueError as error:
            raise SendosoConfigError(f"message has an unbalanced brace ({error}); write {{{{ for a brace.") from None
        parts = []
        for literal, name, spec, conversion in parsed:
            if name is not None and (spec or conversion or not name.isidentifier()):
                raise SendosoConfigError(
                    f"message has {{{name}}} with more than a column's name; only {{column}} is filled in."
                )
            parts.append((literal, name, None if name is None else position_of(name)))
        return cls(tuple(parts))

    def render(self, read: Callable[[int], str | None]) -> str:
        texts = []
        for literal, name, position in self.parts:
            texts.append(literal)
            if position is not None:
                value = read(position)
                if value is None:
                    raise _RowError(f"{name}, named in the message, is missing")
                texts.append(value)
        return "".join(texts)


def flatten(recipients: Iterable[Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """
    Turn recipients into columns and rows; ``address`` and ``metadata`` may be nested.

    :param recipients: one mapping per row; not all need the same keys.
    :return: the columns, and for each recipient its cells.
    :raises SendosoConfigError: if the value is not a list of mappings.
    """
    flat = []
    for number, recipient in enumerate(recipients, 1):
        if not isinstance(recipient, Mapping):
            raise SendosoConfigError(
                f"recipients must be a list of dicts, but number {number} is a {type(recipient).__name__}."
            )
        row: dict[str, Any] = {}
        for name, value in recipient.items():
            if _clean(name).casefold() in ("address", "metadata", "sender") and isinstance(value, Mapping):
                row |= {f"{_clean(name).casefold()}_{_clean(inner)}": cell for inner, cell in value.items()}
            else:
                row[str(name)] = value
        flat.append(row)
    columns = list(dict.fromkeys(name for row in flat for name in row))
    return columns, [[row.get(name) for name in columns] for row in flat]


def _index(columns: Sequence[str]) -> dict[str, int]:
    index: dict[str, int] = {}
    for position, name in enumerate(columns):
        folded = _clean(name).casefold()
        if folded in index:
            raise SendosoConfigError(
                f"The result has two columns {_clean(name)!r} (columns match without case and without blanks around "
                f"them), {str(columns[index[folded]])!r} and {str(name)!r}; rename one. Nothing was sent."
            )
        index[folded] = position
    return index


def _metadata_name(column: str) -> str:
    """Return the metadata key of a column, in lower case if the database has folded the column's name to upper case."""
    name = column[len(METADATA_PREFIX) :]
    return name.lower() if column.isupper() else name


def _clean(column: object) -> str:
    """Clean a column's name as cells are cleaned: no blanks or byte-order marks around it, NFC."""
    return normalise_text(str(column)) or ""
