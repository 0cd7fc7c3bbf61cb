"""The invented organisation behind the sandbox: its touches, groups, users and return addresses.

The fields of touches, groups and users are published; those of a return address are inferred, after a campaign send's.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

Row = dict[str, Any]

TOTALS = {
    "touches": "total_posts",
    "groups": "total_groups",
    "users": "total_users",
    "return-addresses": "total_return_addresses",
}
"""The lists, each with the field of its total: three are published, the last follows the same rule (inferred)."""


def collection_of(name: str) -> str:
    """
    Return the name of the field that holds a list in an answer.

    :param name: the name of the list, as in its path
    """
    return name.replace("-", "_")


def _touch(number: int, name: str, delivery_type: str, **changes: Any) -> Row:
    return {
        "id": number,
        "name": name,
        "start_date": "2025-01-06T00:00:00.000-08:00",
        "end_date": None,
        "description": "",
        "created_at": f"2025-01-{number % 100:02}T09:00:00.000-08:00",
        "user_id": 1,
        "gift_id": 3000 + number,
        "starting_egift_price": None,
        "ending_egift_price": None,
        "status": "Active",
        "is_default_price": True,
        "delivery_type": delivery_type,
        "hubspot_key": None,
        "ship_to_countries": ["US", "CA", "GB"],
        "currency": "USD",
    } | changes


def _group(number: int, name: str, budget: int) -> Row:
    return {
        "id": number,
        "name": name,
        "team_id": 1,
        "budget": budget,
        "monthly_budget": f"{budget}",
        "one_time_budget": 0,
        "rollover": False,
        "created_at": "2025-01-02T09:00:00.000-08:00",
        "updated_at": "2025-01-02T09:00:00.000-08:00",
    }


def _user(number: int, first_name: str, last_name: str, group: int) -> Row:
    return {
        "id": number,
        "first_name": first_name,
        "last_name": last_name,
        "email": f"{first_name.casefold()}@example.com",
        "balance": "500.0",
        "sandbox": True,
        "team_group_id": group,
        "team_id": 1,
    }


_ROWS: Mapping[str, tuple[Row, ...]] = {
    "touches": (
        _touch(101, "Welcome box", "mail"),
        _touch(102, "Coffee on us", "email", starting_egift_price="5.0", ending_egift_price="25.0", gift_id=39)
        | {"is_default_price": False},
        _touch(103, "Anniversary mug", "mail", ship_to_countries=["US", "DE", "FR", "GB"]),
        _touch(104, "Lunch voucher", "email", end_date="2035-12-31T23:59:59.000-08:00"),
    ),
    "groups": (_group(11, "Field Marketing", 50_000), _group(12, "Customer Success", 20_000)),
    "users": (
        _user(1, "Sandbox", "User", 11),
        _user(2, "Grace", "Hopper", 11),
        _user(3, "Katherine", "Johnson", 12),
    ),
    "return-addresses": (
        {
            "id": 21,
            "name": "Warehouse",
            "address": "1 Dock Road",
            "city": "Reno",
            "state": "NV",
            "zip": "89501",
            "country": "US",
        },
    ),
}


class Organisation:
    """Stores lists that can be changed while a client reads them page by page."""

    def __init__(self) -> None:
        self._lists: dict[str, dict[str, Row]] = {}
        self.clear()

    def clear(self) -> None:
        """Restore the lists that the sandbox starts with."""
        self._lists = {name: {str(row["id"]): deepcopy(row) for row in rows} for name, rows in _ROWS.items()}

    def rows(self, name: str) -> list[Row]:
        """
        Return a list, newest first, which the API does not promise (inferred).

        :param name: the name of the list, like ``touches``
        :raises KeyError: if there is no such list
        """
        return list(self._lists[name].values())[::-1]

    def find(self, name: str, object_id: str) -> Row | None:
        """
        Find a row by its id.

        :param name: the name of its list
        :param object_id: the id of the row
        :raises KeyError: if there is no such list
        """
        return self._lists[name].get(object_id)

    def add(self, name: str, row: Mapping[str, Any]) -> None:
        """
        Add a row as the newest, or replace the row that has the same id.

        :param name: the name of its list
        :param row: the row as the API shows it
        :raises KeyError: if there is no such list, or the row has no ``id``
        """
        self._lists[name][str(row["id"])] = dict(row)

    def remove(self, name: str, object_id: str) -> None:
        """
        Remove a row.

        :param name: the name of its list
        :param object_id: the id of the row
        :raises KeyError: if there is no such list or row
        """
        del self._lists[name][object_id]
