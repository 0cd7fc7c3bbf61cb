"""How Sendoso's rows become rows of a table, and how far a list is read: without a database."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_sendoso.client.objects import MODELS
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoServerError
from airflow_provider_sendoso.landing.frontier import Frontier, Landed
from airflow_provider_sendoso.landing.lists import LISTS, Kind
from airflow_provider_sendoso.landing.rows import LandingRowReader, column_name, read_columns

SENDS, USERS = LISTS["sends"], LISTS["users"]
NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "listed", [listed for listed in LISTS.values() if listed.expand is None], ids=lambda listed: listed.name
)
def test_every_field_that_a_model_names_has_a_column_of_its_type(listed: Any) -> None:
    kinds = {"Decimal": Kind.AMOUNT, "datetime": Kind.MOMENT, "tuple": Kind.JSON}
    for name, field in MODELS[listed.path].model_fields.items():
        expected = next((kind for word, kind in kinds.items() if word in str(field.annotation)), Kind.TEXT)
        assert listed.columns.get(name) == (Kind.ID if name == "id" else expected)


def test_a_product_becomes_a_row_of_each_variant_whatever_is_missing() -> None:
    listed = LISTS["marketplace_products"]
    assert listed.expand is not None
    price = {"currency": "USD", "price_per_unit": "24.50"}
    variants = [{"id": "v1", "estimated_total_price": price, "images": [{"url": "https://i"}]}, {"id": "v2"}]
    rows = [
        LandingRowReader(listed).read(fields)
        for fields in listed.expand({"id": "p", "name": "Tea", "description": "Twelve", "variants": variants})
    ]
    assert [(row.id, row.cells["product_id"], row.cells["product_name"]) for row in rows] == [
        ("v1", "p", "Tea"),
        ("v2", "p", "Tea"),
    ]
    assert (rows[0].cells["price"], rows[0].cells["currency"], rows[1].cells["price"]) == ("24.5000", "USD", None)
    assert list(listed.expand({"id": "p"})) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("updated_at", Kind.MOMENT),
        ("ship_date", Kind.MOMENT),
        ("shipping_cost", Kind.AMOUNT),
        ("price", Kind.AMOUNT),
        ("send_count", Kind.COUNT),
        ("is_active", Kind.TRUTH),
        ("has_swag", Kind.TRUTH),
        ("sold_at_text", Kind.TEXT),
        ("metadata_sold_at", Kind.TEXT),
        ("costume", Kind.TEXT),
        ("date", Kind.TEXT),
    ],
)
def test_the_type_of_a_new_column_depends_on_its_name(name: str, kind: Kind) -> None:
    assert USERS.kind_of(name) is kind


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("Total Cost", "total_cost"),
        ("1st", "_1st"),
        ("x" * 60, "x" * 60),
        ("a\"b'; --", "a_b"),
        ("ÄÖ", "field_de7254df"),
        ("x" * 99, f"{'x' * 51}_d0621fdd"),
    ],
)
def test_names_of_columns_are_plain(name: str, column: str) -> None:
    assert column_name(name) == column


@pytest.mark.parametrize(
    ("name", "value", "cell"),
    [
        ("left_at", "2026-01-06T00:00:00.000-08:00", "2026-01-06 08:00:00.000"),
        ("left_at", "2026-01-06T00:00:00Z", "2026-01-06 00:00:00.000"),
        ("left_at", "2026-01-06", "2026-01-06 00:00:00.000"),
        ("left_at", "", None),
        ("balance", 12.5, "12.5000"),
        ("balance", "0.1", "0.1000"),
        ("balance", 10**13, "10000000000000.0000"),
        ("seat_count", "7", 7),
        ("seat_count", 7.0, 7),
        ("is_admin", True, True),
        ("note", True, "true"),
        ("note", 7, "7"),
        ("note", {"b": 1, "a": "é"}, '{"a": "é", "b": 1}'),
        ("note", "\0a\ud800", "a?"),
        ("landed_at", "now", None),
    ],
)
def test_values_become_cells_of_the_type_of_their_column(name: str, value: Any, cell: Any) -> None:
    row = LandingRowReader(USERS).read({"id": 1, name: value})
    assert row.cells.get(name) == cell
    assert f"{name}_text" not in row.cells


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("left_at", 1_700_000_000),
        ("left_at", "0001-01-01T00:00:00+14:00"),
        ("left_at", ["2026-01-01"]),
        ("balance", "NaN"),
        ("balance", 10**14),
        ("balance", "1.00005"),
        ("balance", True),
        ("balance", "1e999999"),
        ("seat_count", "many"),
        ("seat_count", 2**63),
        ("seat_count", float("inf")),
        ("is_admin", "yes"),
    ],
)
def test_a_value_that_does_not_fit_its_column_is_kept_as_text(name: str, value: Any) -> None:
    reader = LandingRowReader(USERS, [name])
    row = reader.read({"id": 1, name: value})
    assert row.cells.get(name) is None
    assert row.cells[f"{name}_text"]
    assert reader.columns[f"{name}_text"] is Kind.TEXT


def test_nested_objects_that_are_known_are_flat_and_fields_of_the_row_come_first() -> None:
    nested = {"touch": {"id": 7, "name": "T"}, "touch_id": 8, "recipient": None, "sender": "Grace", "box": {"id": 1}}
    cells = LandingRowReader(SENDS).read({"id": 1, **nested}).cells
    assert {name: cells.get(name) for name in ("touch_id", "touch_name", "sender", "box")} == {
        "touch_id": "8",
        "touch_name": "T",
        "sender": "Grace",
        "box": '{"id": 1}',
    }
    assert "recipient" not in cells


@pytest.mark.parametrize("row_id", [None, "", True, {"a": 1}, "x" * 191])
def test_a_row_without_an_id_is_an_error(row_id: Any) -> None:
    with pytest.raises(SendosoServerError, match="The list of users has a row without an id"):
        LandingRowReader(USERS).read({"id": row_id, "email": "ada@example.com"})


def test_status_updates_without_word_or_moment_are_counted() -> None:
    updates = [
        {"status": "Sent", "occurred_at": "2026-01-02T00:00:00Z"},
        {"status": "Initiated", "occurred_at": "2026-01-01T00:00:00Z"},
        {"status": "Sent", "occurred_at": "2026-01-02T00:00:00Z"},
        {"status": "Opened"},
        {"occurred_at": "2026-01-02T00:00:00Z"},
        {"status": "Opened", "occurred_at": "soon"},
        "Opened",
    ]
    row = LandingRowReader(SENDS).read({"id": 1, "status_updates": updates})
    assert row.updates == (
        ("1", "pending", "Initiated", "2026-01-01 00:00:00.000"),
        ("1", "shipped", "Sent", "2026-01-02 00:00:00.000"),
    )
    assert row.undated == 4
    assert LandingRowReader(SENDS).read({"id": 1}).updates is None


def test_the_repr_of_a_row_has_no_personal_data() -> None:
    row = LandingRowReader(USERS).read({"id": 1, "email": "ada@example.com"})
    assert "ada" not in repr(row)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (None, None),
        (["ID", " email "], ["id", "email"]),
        ("id, email", ["id", "email"]),
        ("['id', \"email\"]", ["id", "email"]),
        (("id",), ["id"]),
    ],
)
def test_columns_are_read_from_lists_and_from_text(value: Any, names: Any) -> None:
    assert read_columns(value) == names


@pytest.mark.parametrize("value", [[], "", 7, {"id": 1}, [" "]])
def test_columns_that_are_empty_or_not_a_list_are_refused(value: Any) -> None:
    with pytest.raises(SendosoConfigError, match="columns"):
        read_columns(value)


# -- how far a list is read --------------------------------------------------------------------------------------------


def ago(*hours: float | None) -> list[datetime | None]:
    return [None if hour is None else NOON - timedelta(hours=hour) for hour in hours]


ALL_CLOSED = Landed(newest=NOON)
OPEN = Landed(newest=NOON, oldest_open=NOON - timedelta(hours=3))


@pytest.mark.parametrize(
    ("landed", "pages", "passed"),
    [
        (ALL_CLOSED, [ago(0, 1, 2)], True),
        (ALL_CLOSED, [ago(-1, 0, 0, 2)], True),
        (Landed(), [ago(0, 1, 2)], False),
        # It has not come to what is open, or only just.
        (OPEN, [ago(0, 1, 2)], False),
        (OPEN, [ago(0, 1, 3)], False),
        (OPEN, [ago(0, 1, 2), ago(3, 3.1)], True),
        (Landed(NOON, None, open_undated=True), [ago(0, 1, 2)], False),
        # Another order, or none that can be seen: also later on.
        (ALL_CLOSED, [ago(2, 1, 0)], False),
        (ALL_CLOSED, [ago(1, 2, 3)], False),
        (ALL_CLOSED, [ago(0, 0, 0)], False),
        (ALL_CLOSED, [ago(0, 2, 1)], False),
        (ALL_CLOSED, [ago(0, None, 1)], False),
        (OPEN, [ago(0, 1, 2), ago(4, 3.5), ago(5, 6)], False),
    ],
)
def test_reading_ends_early_only_when_no_changed_row_can_follow(landed: Landed, pages: Any, passed: bool) -> None:
    frontier = Frontier(landed)
    assert [frontier.passed(page, unchanged=True) for page in pages][-1] is passed
    assert Frontier(landed).passed(itertools.chain(*pages), unchanged=False) is False
