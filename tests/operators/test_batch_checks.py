"""BatchSendOperator's checks before anything is sent, and mapped tasks that share a scope."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoRowsError
from airflow_provider_sendoso.models import RowOutcome
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.sandbox import Sandbox

Make = Callable[..., BatchSendOperator]
Execute = Callable[..., Any]

GIFTS = "/api/v3/gifts"
HOME = {"line1": "12 St James's Square", "city": "London", "postal_code": "SW1Y 4JH", "country": "gb"}


def counts(summary: dict[str, Any]) -> dict[str, int]:
    assert sum(summary[outcome] for outcome in RowOutcome) == summary["rows"]
    return {outcome.value: summary[outcome] for outcome in RowOutcome if summary[outcome]}


def readings(sendoso: Sandbox) -> int:
    """How many times a page of the catalogue was asked for."""
    return sum(request.path.startswith(GIFTS) for request in sendoso.requests)


def test_an_incomplete_address_of_a_parcel_is_found_before_it_is_sent(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any, read_logs: Callable[[], str]
) -> None:
    rows = people(3)
    rows[0]["address"] = HOME
    rows[1]["address"] = HOME | {"city": " "}
    assert counts(execute(batch(recipients=rows, gift_id="gift-mug", row_ref="last_name"))) == {"sent": 1, "invalid": 2}
    assert sendoso.sends[0].body["address"]["country"] == "GB"
    logs = read_logs()
    assert "Invalid row 2 (Lovelace2): address_city is missing, and the gift goes by post" in logs
    assert "Invalid row 3 (Lovelace3): there is no address, and the gift goes by post." in logs
    assert "St James" not in logs


def test_on_invalid_fail_and_max_invalid_count_rows_with_an_incomplete_address(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any
) -> None:
    rows = people(2)
    rows[0]["address"] = HOME
    for limit in ({"on_invalid": "fail"}, {"max_invalid": 0}):
        with pytest.raises(SendosoRowsError, match="there is no address, and the gift goes by post"):
            execute(batch(recipients=rows, gift_id="gift-mug", **limit))
    assert sendoso.sends == []


@pytest.mark.parametrize(
    ("gift_id", "address"), [("gift-mug", HOME), ("gift-mug", None), ("gift-donation-trees", None)]
)
def test_the_catalogue_is_read_once_for_addresses_and_prices(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any, gift_id: str, address: Any
) -> None:
    rows = [row | {"address": address} for row in people(3)]
    rows[0]["address"] = HOME
    execute(batch(recipients=rows, gift_id=gift_id))
    assert readings(sendoso) == 1


def test_a_row_whose_gift_is_not_in_the_catalogue_is_invalid(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any, read_logs: Callable[[], str]
) -> None:
    rows = [row | {"gift_id": gift} for row, gift in zip(people(2), ("gift-donation-trees", "no-such"), strict=True)]
    assert counts(execute(batch(recipients=rows, gift_id=None))) == {"sent": 1, "invalid": 1}
    assert "Invalid row 2: gift_id is not in the catalogue" in read_logs()


@pytest.mark.parametrize("status", [404, 500])
def test_without_a_catalogue_sendoso_checks_the_addresses(
    sendoso: Sandbox,
    ledger: Any,
    batch: Make,
    execute: Execute,
    people: Any,
    read_logs: Callable[[], str],
    status: int,
) -> None:
    sendoso.fault("status", times=50, method="GET", path=GIFTS, status=status)
    rows = people(2)
    rows[0]["address"] = HOME
    assert counts(execute(batch(recipients=rows, gift_id="gift-mug"))) == {"sent": 1, "refused": 1}
    assert "Addresses are left to Sendoso to check: its catalogue could not be read" in read_logs()


@pytest.mark.parametrize(("strict_email", "invalid"), [(False, 0), (True, 1), ("True", 1), ("False", 0)])
def test_strict_email_refuses_an_address_that_the_lenient_check_accepts(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any, strict_email: Any, invalid: int
) -> None:
    rows = people(2)
    rows[0]["email"] = "ada..lovelace@example.com"
    assert execute(batch(recipients=rows, strict_email=strict_email))["invalid"] == invalid


def test_a_strict_email_that_is_neither_true_nor_false_is_refused(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute
) -> None:
    with pytest.raises(SendosoConfigError, match="strict_email is 'perhaps', neither true nor false"):
        execute(batch(strict_email="perhaps"))


def test_the_log_names_the_first_invalid_rows_of_a_reason_and_counts_the_rest(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any, read_logs: Callable[[], str]
) -> None:
    rows = people(31)
    for row in rows[1:]:
        row["email"] = "nobody"
    execute(batch(recipients=rows))
    logs = read_logs()
    assert "31 rows read: invalid 30." in logs
    assert "Invalid row 2, row 3, row 4 and 27 more: email is not an e-mail address" in logs
    assert "row 5" not in logs


def test_columns_of_an_address_need_no_prefix(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any
) -> None:
    row = people(1)[0] | {"address_line1": "1 Road", "CITY": "London", "postal_code": "SW1Y 4JH", "Country": "GB"}
    execute(batch(recipients=[row], gift_id="gift-mug"))
    assert sendoso.sends[0].body["address"] == HOME | {"line1": "1 Road", "country": "GB"}


def test_mapped_tasks_that_share_a_scope_send_each_recipient_one_gift(
    sendoso: Sandbox, ledger: Any, batch: Make, ti: Any, people: Any
) -> None:
    everybody = people(5)
    shards = [everybody[:3], everybody[2:]]  # number 3 is in both
    summaries = [batch(recipients=shard).execute({"ti": ti("run-1", index)}) for index, shard in enumerate(shards)]
    assert [counts(summary) for summary in summaries] == [{"sent": 3}, {"already_sent": 1, "sent": 2}]
    assert len({summary["batch_id"] for summary in summaries}) == 2
    again = [batch(recipients=shard).execute({"ti": ti("run-1", index)}) for index, shard in enumerate(shards)]
    assert again == summaries
    assert len(sendoso.sends) == 5


def test_recipients_may_be_the_lazy_sequence_that_mapped_tasks_return(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any
) -> None:
    # What a task returned has been through JSON; what mapped tasks returned is a sequence that is read as it is used.
    class LazySequence:
        def __init__(self, items: list[Any]) -> None:
            self._items = items

        def __iter__(self) -> Any:
            return iter(self._items)

        def __len__(self) -> int:
            return len(self._items)

    returned = json.loads(json.dumps(people(2)))
    assert counts(execute(batch(recipients=LazySequence(returned)))) == {"sent": 2}


@pytest.mark.parametrize("row", [{"first_name": "\ud800"}, {"email": "\ud800@example.com"}])
def test_a_row_with_half_a_surrogate_pair_is_invalid(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, people: Any, row: dict[str, str]
) -> None:
    rows = people(3)
    rows[1] |= row
    assert execute(batch(recipients=rows))["invalid"] == 1


def test_a_row_ref_longer_than_its_column_in_the_ledger_stops_no_send_on_postgresql(
    sendoso: Sandbox, set_connection: Any, postgres_database: Any, batch: Make, execute: Execute, people: Any
) -> None:
    set_connection("sendoso_ledger", postgres_database().connection)
    rows = [row | {"ref": "x"} for row in people(3)]
    rows[1]["ref"] = "x" * 251
    assert execute(batch(recipients=rows, row_ref="ref"))["sent"] >= 2


def test_max_invalid_that_is_not_a_number_is_refused(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute
) -> None:
    with pytest.raises(SendosoConfigError):
        execute(batch(max_invalid="nan"))
