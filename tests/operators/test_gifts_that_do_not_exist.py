"""A gift, variant or campaign that does not exist: errors name it, and offer what was meant; a dry run finds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoLimitError, SendosoNotFoundError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator, SendGiftOperator
from airflow_provider_sendoso.sandbox import Sandbox

SENDS = "/api/v3/sends"
ADDRESS = {"line1": "12 St James's Square", "city": "London", "postal_code": "SW1Y 4JH", "country": "GB"}
Batch = Callable[..., BatchSendOperator]
Gift = Callable[..., SendGiftOperator]
Execute = Callable[..., Any]
MEANT = r"'gift-donation-treees' is not in the catalogue \(did you mean 'gift-donation-trees'"


def posted(sendoso: Sandbox) -> int:
    return sum((seen.method, seen.path) == ("POST", SENDS) for seen in sendoso.requests)


def test_a_dry_run_with_a_gift_that_does_not_exist_fails(
    sendoso: Sandbox, ledger: Any, batch: Batch, execute: Execute
) -> None:
    with pytest.raises(SendosoConfigError, match=MEANT):
        execute(batch(gift_id="gift-donation-treees", dry_run=True))
    assert sendoso.sends == []


def test_a_gift_that_is_named_by_its_name_is_offered_by_its_id(
    sendoso: Sandbox, ledger: Any, batch: Batch, execute: Execute
) -> None:
    with pytest.raises(SendosoConfigError, match=r"did you mean 'gift-egift-coffee'\?"):
        execute(batch(gift_id="Coffee eGift Card", dry_run=True))


def test_a_dry_run_whose_people_all_have_their_gift_does_not_fail_for_a_gift_that_has_left_the_catalogue(
    sendoso: Sandbox, ledger: Any, batch: Batch, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(batch())
    rest = [gift for gift in SendosoHook().list_gifts() if gift.id != "gift-donation-trees"]
    monkeypatch.setattr(SendosoHook, "list_gifts", lambda self: iter(rest))
    summary = execute(batch(dry_run=True), "run-2")
    assert (summary["already_sent"], summary["would_send"]) == (3, 0)


def test_a_dry_run_looks_up_the_gifts_of_all_rows_however_complete_their_addresses(
    sendoso: Sandbox, ledger: Any, batch: Batch, execute: Execute, people: Any, read_logs: Callable[[], str]
) -> None:
    gifts = ("gift-mug", "gift-mugg", "gift-donation-trees")
    rows = [row | {"gift_id": gift, "address": ADDRESS} for row, gift in zip(people(3), gifts, strict=True)]
    dry = execute(batch(recipients=rows, gift_id=None, dry_run=True))
    assert (dry["would_send"], dry["invalid"]) == (2, 1)
    assert "Invalid row 2: gift_id is not in the catalogue (did you mean 'gift-mug'" in read_logs()
    sent = execute(batch(recipients=rows, gift_id=None, approved_fingerprint=dry["fingerprint"]))
    assert (sent["sent"], sent["invalid"]) == (2, 1)


def test_a_dry_run_with_a_variant_that_does_not_exist_fails(
    sendoso: Sandbox, ledger: Any, batch: Batch, execute: Execute, people: Any, read_logs: Callable[[], str]
) -> None:
    rows = [row | {"address": ADDRESS} for row in people(2)]
    wrong = r"variant_id 'mug-blak' is no variant of 'gift-mug' \(did you mean 'mug-black'"
    with pytest.raises(SendosoConfigError, match=wrong):
        execute(batch(recipients=rows, gift_id="gift-mug", variant_id="mug-blak", dry_run=True))
    rows = [row | {"variant_id": name} for row, name in zip(rows, ("mug-white", "mug-wite"), strict=True)]
    rows = [row | {"gift_id": "gift-mug"} for row in rows]
    dry = execute(batch(recipients=rows, gift_id=None, dry_run=True))
    assert (dry["would_send"], dry["invalid"]) == (1, 1)
    assert "variant_id is no variant of 'gift-mug' (did you mean 'mug-white'" in read_logs()


def test_a_batch_that_sends_a_gift_that_does_not_exist_names_it(
    sendoso: Sandbox, ledger: Any, batch: Batch, execute: Execute
) -> None:
    with pytest.raises(SendosoNotFoundError, match=rf'404: "Gift not found" \(gift_id .*\): {MEANT}') as caught:
        execute(batch(gift_id="gift-donation-treees", max_in_flight=1))
    assert "3 rows: sent 0" in str(caught.value)
    assert posted(sendoso) == 1


def test_one_gift_that_does_not_exist_is_named(sendoso: Sandbox, ledger: Any, gift: Gift, execute: Execute) -> None:
    with pytest.raises(SendosoNotFoundError, match=rf'404: "Gift not found" \(gift_id .*\): {MEANT}.*No gift went out'):
        execute(gift(gift_id="gift-donation-treees"))


def test_the_hook_names_what_sendoso_does_not_find(sendoso: Sandbox, ledger: Any, people: Any) -> None:
    with pytest.raises(SendosoNotFoundError, match=r"\(gift_id 'gift-unicorn'\)"):
        SendosoHook().send_gift(gift_id="gift-unicorn", recipient=people(1)[0], message="Hello")


@pytest.mark.parametrize("wrong", [1033, "anniversary mugs"])
def test_a_campaign_that_does_not_exist_is_answered_with_similar_ones(
    sendoso: Sandbox, ledger: Any, batch: Batch, gift: Gift, execute: Execute, people: Any, wrong: int | str
) -> None:
    offered = r"no campaign that this account can send \(did you mean .*'103'"
    campaign = {"gift_id": None, "touch_id": wrong, "message": None}
    with pytest.raises(SendosoConfigError, match=offered):
        execute(batch(**campaign))
    with pytest.raises(SendosoConfigError, match=offered):
        execute(gift(**campaign))
    with pytest.raises(SendosoConfigError, match=offered):
        SendosoHook().send_gift(touch_id=wrong, recipient=people(1)[0])
    assert sendoso.sends == []


def test_rows_with_campaigns_that_do_not_exist_are_answered_with_similar_ones_from_one_list(
    sendoso: Sandbox, ledger: Any, batch: Batch, execute: Execute, people: Any, read_logs: Callable[[], str]
) -> None:
    rows = [row | {"touch_id": touch} for row, touch in zip(people(3), (102, "1022", "coffee"), strict=True)]
    summary = execute(batch(recipients=rows, gift_id=None, message=None))
    assert (summary["sent"], summary["invalid"]) == (1, 2)
    assert "touch_id is no campaign that this account can send (did you mean '102'" in read_logs()
    assert sum(seen.path == "/api/v3/touches" for seen in sendoso.requests) == 1


def test_campaigns_that_cannot_be_listed_hide_no_error(
    sendoso: Sandbox, ledger: Any, gift: Gift, execute: Execute
) -> None:
    sendoso.fault("slow", delay=0, method="GET", path="/api/v3/touches")  # the campaign itself is read
    sendoso.fault("status", status=403, method="GET", path="/api/v3/touches")
    with pytest.raises(SendosoConfigError, match=r"no campaign that this account can send \(campaign 1033\)"):
        execute(gift(gift_id=None, touch_id=1033, message=None))


def test_a_cost_limit_names_the_gift(sendoso: Sandbox, ledger: Any, batch: Batch, execute: Execute) -> None:
    with pytest.raises(SendosoLimitError, match="gift-donation-treees is not in the catalogue"):
        execute(batch(gift_id="gift-donation-treees", max_cost=100))


def test_a_catalogue_that_cannot_be_read_hides_no_error(
    sendoso: Sandbox, ledger: Any, gift: Gift, execute: Execute
) -> None:
    sendoso.fault("error_before", times=100, method="GET")
    with pytest.raises(SendosoNotFoundError, match=r'404: "Gift not found" \(gift_id'):
        execute(gift(gift_id="gift-donation-treees"))
