"""What is not posted is not checked: an eGift needs neither an address nor a company, whatever the columns hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator, SendGiftOperator
from airflow_provider_sendoso.sandbox import Sandbox

BOX, EGIFT = 101, 102
ADDRESS = {"line1": "12 St James's Square", "city": "London", "postal_code": "SW1Y 4JH", "country": "GB"}
US = {"line1": "1 Main St", "city": "Boston", "state": "MA", "country": "US"}
WRONG = {
    "a country's name": {"address": ADDRESS | {"country": "United States"}},
    "a postal code without its zero": {"address": US | {"postal_code": 2139}},
    "a word for a missing value": {"address": ADDRESS | {"line2": "n/a"}},
    "a long line": {"address": ADDRESS | {"line1": "x" * 300}},
    "a placeholder": {"address": ADDRESS | {"city": "{{ city }}"}},
}
OF_A_GIFT = WRONG | {"a long company": {"company": "x" * 300}, "a title that is missing": {"title": "NULL"}}
OF_A_CAMPAIGN = OF_A_GIFT | {"a phone number from a spreadsheet": {"mobile_no": "4.42079E+11"}}
Batch = Callable[..., BatchSendOperator]
Gift = Callable[..., SendGiftOperator]
Execute = Callable[..., Any]


def cases(wrong: dict[str, Any]) -> Any:
    return pytest.mark.parametrize("wrong", list(wrong.values()), ids=list(wrong))


@cases(OF_A_GIFT)
def test_an_egift_goes_out_without_what_only_a_parcel_needs(
    sendoso: Sandbox,
    ledger: Any,
    batch: Batch,
    execute: Execute,
    people: Any,
    read_logs: Callable[[], str],
    wrong: dict[str, Any],
) -> None:
    rows = [row | wrong for row in people(3)]
    summary = execute(batch(recipients=rows, gift_id="gift-egift-books"))
    assert (summary["sent"], summary["invalid"]) == (3, 0)
    assert all(send.body.keys().isdisjoint(wrong) for send in sendoso.sends)
    assert "Sent without what only a parcel needs, because " in read_logs()


@cases(OF_A_GIFT)
def test_the_same_row_is_invalid_where_the_gift_goes_by_post(
    sendoso: Sandbox, ledger: Any, batch: Batch, execute: Execute, people: Any, wrong: dict[str, Any]
) -> None:
    rows = [row | {"address": ADDRESS} | wrong for row in people(1)] + [people(2)[1] | {"address": ADDRESS}]
    summary = execute(batch(recipients=rows, gift_id="gift-mug"))
    assert (summary["sent"], summary["invalid"]) == (1, 1)


@cases(OF_A_CAMPAIGN)
def test_a_campaign_of_egifts_posts_neither_address_nor_phone_nor_company(
    sendoso: Sandbox, ledger: Any, batch: Batch, execute: Execute, people: Any, wrong: dict[str, Any]
) -> None:
    rows = [row | wrong for row in people(2)]
    summary = execute(batch(recipients=rows, gift_id=None, touch_id=EGIFT, message=None))
    assert (summary["sent"], summary["invalid"]) == (2, 0)


def test_a_campaign_of_parcels_posts_an_address_and_no_company(
    sendoso: Sandbox, ledger: Any, batch: Batch, execute: Execute, people: Any
) -> None:
    fine = {"address": ADDRESS, "mobile_no": "+44 20 7946 0000", "company": "x" * 300, "title": "n/a"}
    rows = [people(2)[0] | fine, people(2)[1] | fine | {"address": ADDRESS | {"country": "UK"}}]
    summary = execute(batch(recipients=rows, gift_id=None, touch_id=BOX, message=None))
    assert (summary["sent"], summary["invalid"]) == (1, 1)


def test_nobody_is_asked_for_an_address_because_theirs_is_wrong(
    sendoso: Sandbox, ledger: Any, batch: Batch, execute: Execute, people: Any, read_logs: Callable[[], str]
) -> None:
    rows = [people(1)[0] | {"address": ADDRESS | {"country": "UK"}}, people(2)[1]]
    asked = {"gift_id": None, "touch_id": BOX, "message": None, "address_confirmation": "email"}
    summary = execute(batch(recipients=rows, **asked))
    assert (summary["sent"], summary["invalid"]) == (1, 1)
    assert "Invalid row 1: address_country is not a two-letter code" in read_logs()


@cases(OF_A_GIFT)
def test_one_egift_goes_out_without_what_only_a_parcel_needs(
    sendoso: Sandbox, ledger: Any, gift: Gift, execute: Execute, people: Any, wrong: dict[str, Any]
) -> None:
    recipient = people(1)[0] | wrong
    execute(gift(recipient=recipient, gift_id="gift-egift-books"))
    SendosoHook().send_gift(recipient=recipient, gift_id="gift-egift-books", message="Hello")
    assert all(send.body.keys().isdisjoint(wrong) for send in sendoso.sends)
    with pytest.raises(SendosoConfigError, match=r"The send is not valid: .* Nothing was sent"):
        execute(gift(recipient=recipient, gift_id="gift-mug", dedupe_scope="mugs"), "run-2")
    with pytest.raises(SendosoConfigError, match=r"The send is not valid: .* Nothing was sent"):
        SendosoHook().send_gift(recipient=recipient, gift_id="gift-mug", message="Hello")
    assert len(sendoso.sends) == 2


def test_a_catalogue_that_cannot_be_read_leaves_open_whether_one_gift_goes_by_post(
    sendoso: Sandbox, ledger: Any, gift: Gift, execute: Execute, people: Any
) -> None:
    sendoso.fault("error_before", times=100, method="GET")
    recipient = people(1)[0] | {"address": ADDRESS | {"country": "UK"}}
    with pytest.raises(SendosoConfigError, match="address_country is not a two-letter code"):
        execute(gift(recipient=recipient, gift_id="gift-egift-books"))


@pytest.mark.parametrize("field", ["first_name", "email", "gift_id"])
def test_what_is_posted_is_checked_whatever_else_is_wrong(
    sendoso: Sandbox, ledger: Any, batch: Batch, execute: Execute, people: Any, field: str
) -> None:
    rows = [people(1)[0] | {"gift_id": "gift-egift-books", "company": "x" * 300} | {field: "n/a"}, people(2)[1]]
    rows[1] |= {"gift_id": "gift-egift-books"}
    summary = execute(batch(recipients=rows, gift_id=None))
    assert (summary["sent"], summary["invalid"]) == (1, 1)
