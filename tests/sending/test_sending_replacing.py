"""``resend_of`` replaces a gift that has failed or come back, once, and no other gift."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from trying import SENDS, FakeTI, Try, people, posts

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.models import METADATA_KEY, StatusReport
from airflow_provider_sendoso.operators.sendoso import SendGiftOperator
from airflow_provider_sendoso.sandbox import Sandbox

GIFT = "gift-donation-trees"


@pytest.fixture(autouse=True)
def no_recipient_got_two_gifts(sandbox: Sandbox) -> Iterator[None]:
    """A replacement is the same gift to the same person, so here a send is told from another by the ledger's mark."""
    yield
    marks = Counter(one.body["metadata"][METADATA_KEY] for one in sandbox.sends)
    assert {mark: count for mark, count in marks.items() if count > 1} == {}


@pytest.fixture
def first(sendoso: Sandbox, send: Callable[..., Try]) -> Callable[[str | None], str]:
    """Sends somebody a gift that ends in a status, or is still on its way; returns the send's id."""
    scopes = itertools.count(1)

    def one(status: str | None) -> str:
        assert send(1, dedupe_scope=f"first-{next(scopes)}", run_id="first") == Try("", {"sent": 1})
        send_id = sendoso.sends[-1].id
        if status is not None:
            sendoso.finish(send_id, status)
        return send_id

    return one


@pytest.fixture
def thank(send: Callable[..., Try]) -> Callable[..., str]:
    """Runs a task that sends one gift; returns the send's id."""

    def one(resend_of: Any, scope: str = "replacements", run_id: str = "run-1", **changes: Any) -> str:
        arguments: dict[str, Any] = {"gift_id": GIFT, "recipient": people(1)[0], "message": "Thank you"}
        operator = SendGiftOperator(
            task_id="thank", dedupe_scope=scope, resend_of=resend_of, claim_timeout=60, **(arguments | changes)
        )
        return operator.execute({"ti": FakeTI(run_id, scope)})

    return one


def replacing(*send_ids: str) -> list[dict[str, Any]]:
    """Rows for the same person."""
    return [people(1)[0] | {"resend_of": send_id} for send_id in send_ids]


# -- which sends may be replaced ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["failed", "returned"])
def test_a_row_replaces_a_send_that_failed_or_came_back_in_the_very_same_scope(
    sendoso: Sandbox, send: Callable[..., Try], first: Callable[[str | None], str], status: str
) -> None:
    old = first(status)
    assert send(1, dedupe_scope="first-1") == Try("", {"already_sent": 1})
    assert send(replacing(old), dedupe_scope="first-1") == Try("", {"sent": 1})
    assert send(replacing(old), dedupe_scope="first-1") == Try("", {"sent": 1})
    assert len(sendoso.sends) == 2
    # The row without the column still means the first gift.
    assert send(1, dedupe_scope="first-1", run_id="run-2") == Try("", {"already_sent": 1})


@pytest.mark.parametrize("status", [None, "pending", "processing", "shipped", "delivered"])
def test_a_row_does_not_replace_a_send_that_is_under_way_or_delivered(
    sendoso: Sandbox, send: Callable[..., Try], first: Callable[[str | None], str], status: str | None
) -> None:
    old = first(status)
    tried = send([*replacing(old), *people(2)[1:]])
    assert tried == Try("", {"sent": 1, "invalid": 1})
    assert sendoso.sends[-1].body["email"] == "ada1@example.com"
    assert len(sendoso.sends) == 2


def test_a_row_does_not_replace_a_send_that_the_ledger_does_not_know(
    sendoso: Sandbox, send: Callable[..., Try]
) -> None:
    tried = send(replacing("send-of-somebody-else"))
    assert tried == Try("SendosoRowsError", {"invalid": 1})
    assert "the ledger does not know" in str(tried.raised)
    assert posts(sendoso) == 0


def test_a_row_does_not_replace_a_send_that_sendoso_has_forgotten(
    sendoso: Sandbox, send: Callable[..., Try], first: Callable[[str | None], str]
) -> None:
    old = first(None)
    sendoso.fault("status", method="GET", path=f"{SENDS}/{old}", status=404)
    tried = send(replacing(old))
    assert tried == Try("SendosoRowsError", {"invalid": 1})
    assert "Sendoso does not know" in str(tried.raised)


def test_a_send_that_was_invalid_to_replace_can_be_replaced_once_it_has_failed(
    sendoso: Sandbox, send: Callable[..., Try], first: Callable[[str | None], str]
) -> None:
    old = first("processing")
    assert send(replacing(old)) == Try("SendosoRowsError", {"invalid": 1})
    sendoso.finish(old, "failed")
    assert send(replacing(old)) == Try("", {"sent": 1})


@pytest.mark.parametrize("since", ["suspicious email", "insufficient funds", "sent", "delivered"])
@pytest.mark.parametrize("was", ["failed", "returned", "bounced"])
def test_a_send_that_goes_on_after_it_had_failed_is_not_replaced(
    sendoso: Sandbox, first: Callable[[str | None], str], thank: Callable[..., str], was: str, since: str
) -> None:
    """An eGift that bounced may have been sent again in Sendoso: what the ledger has stored is not asked."""
    old = first(was)
    SendosoHook().note_statuses({old: StatusReport.of("returned" if was == "returned" else "failed", was)})
    sendoso.finish(old, since)
    with pytest.raises(SendosoConfigError, match=r"which is .*Nothing was sent"):
        thank(old)
    assert len(sendoso.sends) == 1


@pytest.mark.parametrize("fault", [{"status": 404}, {"status": 200, "body": {"id": "s-1"}}])
def test_a_send_that_had_failed_when_sendoso_last_knew_it_is_replaced(
    sendoso: Sandbox, first: Callable[[str | None], str], thank: Callable[..., str], fault: dict[str, Any]
) -> None:
    old = first("failed")
    SendosoHook().note_statuses({old: "failed"})
    sendoso.fault("status", method="GET", path=f"{SENDS}/{old}", **fault)
    assert thank(old) == sendoso.sends[-1].id
    assert len(sendoso.sends) == 2


def test_a_retry_finds_its_replacement_whatever_has_become_of_the_old_send(
    sendoso: Sandbox, send: Callable[..., Try], first: Callable[[str | None], str], thank: Callable[..., str]
) -> None:
    old = first("failed")
    sent = thank(old)
    sendoso.finish(old, "delivered")
    assert thank(old) == sent
    assert send(replacing(old), dedupe_scope="replacements", run_id="run-2") == Try("", {"already_sent": 1})
    assert len(sendoso.sends) == 2


def test_an_empty_column_replaces_nothing(sendoso: Sandbox, send: Callable[..., Try]) -> None:
    rows = [person | {"resend_of": blank} for person, blank in zip(people(3), (None, "", " "), strict=True)]
    assert send(rows) == Try("", {"sent": 3})
    assert send(3, run_id="run-2") == Try("", {"already_sent": 3})


@pytest.mark.parametrize("key", ["email", "customer_id"])
def test_a_failed_gift_is_not_replaced_by_a_row_for_another_recipient(
    sendoso: Sandbox, send: Callable[..., Try], thank: Callable[..., str], key: str
) -> None:
    rows = [person | {"customer_id": f"C-{n}"} for n, person in enumerate(people(2))]
    assert send(rows, recipient_key=key) == Try("", {"sent": 2})
    failed = sendoso.sends[0].id
    sendoso.finish(failed, "failed")
    tried = send([rows[1] | {"resend_of": failed}], recipient_key=key, run_id="run-2")
    assert tried == Try("SendosoRowsError", {"invalid": 1})
    assert "was for another recipient" in str(tried.raised)
    with pytest.raises(SendosoConfigError, match=r"was for another recipient.*Nothing was sent"):
        thank(failed, recipient=people(2)[1])
    assert len(sendoso.sends) == 2
    # Not for somebody else through a replacement of it either.
    assert send([rows[0] | {"resend_of": failed}], recipient_key=key, run_id="run-3") == Try("", {"sent": 1})
    replacement = sendoso.sends[-1].id
    sendoso.finish(replacement, "returned")
    with pytest.raises(SendosoConfigError, match="was for another recipient"):
        thank(replacement, recipient=people(2)[1])


def test_the_address_of_a_replacement_may_be_another_where_the_recipient_key_is_the_same(
    sendoso: Sandbox, send: Callable[..., Try], thank: Callable[..., str]
) -> None:
    row = people(1)[0] | {"customer_id": "C-1"}
    assert send([row], recipient_key="customer_id") == Try("", {"sent": 1})
    failed = sendoso.sends[0].id
    sendoso.finish(failed, "failed")
    corrected = row | {"email": "ada@elsewhere.example", "resend_of": failed}
    assert send([corrected], recipient_key="customer_id", run_id="run-2") == Try("", {"sent": 1})


def test_a_corrected_address_is_known_by_the_reference_of_its_row(sendoso: Sandbox, send: Callable[..., Try]) -> None:
    rows = [person | {"customer_id": f"C-{n}"} for n, person in enumerate(people(2))]
    assert send(rows, row_ref="customer_id") == Try("", {"sent": 2})
    failed = sendoso.sends[0].id
    sendoso.finish(failed, "failed")
    corrected = rows[0] | {"email": "ada@elsewhere.example", "resend_of": failed}
    wrong = corrected | {"customer_id": "C-1"}
    assert send([wrong], row_ref="customer_id", run_id="run-2") == Try("SendosoRowsError", {"invalid": 1})
    assert send([corrected], row_ref="customer_id", run_id="run-3") == Try("", {"sent": 1})


# -- at most once ------------------------------------------------------------------------------------------------------


def test_there_is_one_replacement_of_a_send_in_whatever_scope(
    sendoso: Sandbox, send: Callable[..., Try], first: Callable[[str | None], str], thank: Callable[..., str]
) -> None:
    old = first("returned")
    assert send(replacing(old)) == Try("", {"sent": 1})
    moved = [replacing(old)[0] | {"address_line1": "1 New Street"}]
    assert send(moved, dedupe_scope="another", run_id="run-2") == Try("", {"already_sent": 1})
    assert thank(old, "a third") == sendoso.sends[-1].id
    assert len(sendoso.sends) == 2


def test_concurrent_runs_make_one_replacement(
    sendoso: Sandbox, send: Callable[..., Try], first: Callable[[str | None], str]
) -> None:
    old = first("failed")
    with ThreadPoolExecutor(4) as pool:
        tries = list(pool.map(lambda n: send(replacing(old), dedupe_scope=f"scope-{n}", run_id=f"run-{n}"), range(4)))
    assert [one.error for one in tries] == [""] * 4
    assert sorted(next(iter(one.counts)) for one in tries) == ["already_sent"] * 3 + ["sent"]
    assert len(sendoso.sends) == 2


def test_the_same_send_twice_in_a_batch_is_a_duplicate_and_two_sends_of_one_person_are_two(
    sendoso: Sandbox, send: Callable[..., Try], first: Callable[[str | None], str]
) -> None:
    one, other = first("failed"), first("returned")
    rows = [*replacing(one, other, one), *people(1)]
    # The last row has no send to replace: it is the person's own gift of this scope.
    assert send(rows) == Try("", {"sent": 3, "duplicate": 1})
    assert send(rows) == Try("", {"sent": 3, "duplicate": 1})
    assert len(sendoso.sends) == 5


def test_a_replacement_that_comes_back_can_be_replaced(
    sendoso: Sandbox, send: Callable[..., Try], first: Callable[[str | None], str]
) -> None:
    chain = [first("returned")]
    for _ in range(3):
        assert send(replacing(chain[-1]), run_id=f"run-{len(chain)}") == Try("", {"sent": 1})
        chain.append(sendoso.sends[-1].id)
        on_its_way = send(replacing(chain[-1]), run_id=f"too early {len(chain)}")
        assert on_its_way == Try("SendosoRowsError", {"invalid": 1})
        sendoso.finish(chain[-1], "returned")
    # The whole chain again: everything but the last is replaced already.
    assert send(replacing(*chain), run_id="again") == Try("", {"already_sent": 3, "sent": 1})
    assert len(sendoso.sends) == 5


def test_a_replacement_of_unknown_outcome_is_found_again_and_not_sent_twice(
    sendoso: Sandbox, send: Callable[..., Try], first: Callable[[str | None], str]
) -> None:
    old = first("failed")
    sendoso.fault("drop_after", method="POST", path=SENDS)
    assert send(replacing(old)) == Try("", {"sent": 1})
    assert posts(sendoso) == 2


def test_a_replacement_of_unknown_outcome_is_found_from_another_scope(
    sendoso: Sandbox, send: Callable[..., Try], first: Callable[[str | None], str]
) -> None:
    old = first("failed")
    sendoso.fault("status", method="POST", path=SENDS, status=403)
    assert send(replacing(old), dedupe_scope="one") == Try("SendosoAuthError", {"not_reached": 1})
    sendoso.fault("drop_after", method="POST", path=SENDS)
    assert send(replacing(old), dedupe_scope="other", run_id="run-2") == Try("", {"sent": 1})


# -- SendGiftOperator --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["failed", "returned"])
def test_a_task_replaces_a_gift_once(
    sendoso: Sandbox, first: Callable[[str | None], str], thank: Callable[..., str], status: str
) -> None:
    old = first(status)
    new = thank(old)
    assert new == sendoso.sends[-1].id != old
    assert thank(old) == thank(old, run_id="run-2") == thank(old, "another scope") == new
    assert len(sendoso.sends) == 2


def test_a_task_with_another_gift_for_the_same_replacement_is_refused(
    sendoso: Sandbox, first: Callable[[str | None], str], thank: Callable[..., str]
) -> None:
    old = first("failed")
    new = thank(old)
    with pytest.raises(SendosoConfigError, match=f"already sent the gift gift-donation-trees \\(send {new}\\)"):
        thank(old, gift_id="gift-donation-meals")
    assert len(sendoso.sends) == 2


@pytest.mark.parametrize("status", [None, "processing", "delivered"])
def test_a_task_does_not_replace_a_send_that_has_not_failed(
    sendoso: Sandbox, first: Callable[[str | None], str], thank: Callable[..., str], status: str | None
) -> None:
    old = first(status)
    with pytest.raises(SendosoConfigError, match=r"only failed and returned ones are replaced. Nothing was sent"):
        thank(old)
    assert len(sendoso.sends) == 1


def test_a_task_does_not_replace_a_send_that_the_ledger_does_not_know(
    sendoso: Sandbox, thank: Callable[..., str]
) -> None:
    with pytest.raises(SendosoConfigError, match=r"'send-0', which the ledger does not know. Nothing was sent"):
        thank("send-0")
    assert posts(sendoso) == 0


@pytest.mark.parametrize("blank", ["", " ", "None", None])
def test_a_template_that_renders_to_nothing_replaces_nothing(
    sendoso: Sandbox, thank: Callable[..., str], blank: str | None
) -> None:
    assert thank(blank) == thank(None)
    assert len(sendoso.sends) == 1


def test_resend_of_is_a_template_field() -> None:
    assert "resend_of" in SendGiftOperator.template_fields
