"""No secret and nobody's name is in a log, XCom, ledger, result, rendered template, trigger, exception or ``repr``."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import text
from tenacity import wait_none

sys.path.insert(0, str(Path(__file__).parent))
from conftest import MARK, SECRET, Marked, cells, message, recipient

from airflow_provider_sendoso.cli import commands
from airflow_provider_sendoso.exceptions import (
    SendHeldError,
    SendosoAuthError,
    SendosoConfigError,
    SendosoError,
    SendosoLimitError,
    SendosoResultsError,
    SendosoRowsError,
    SendosoStatusError,
    SendosoUnprocessableError,
    SendOutcomeUnknownError,
)
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.notifications.sendoso import SendosoNotifier
from airflow_provider_sendoso.observability import metrics
from airflow_provider_sendoso.operators.ledger import ResolveHeldOperator
from airflow_provider_sendoso.operators.sendoso import (
    BatchSendOperator,
    EgiftLinksOperator,
    SendGiftOperator,
    SendosoToSqlOperator,
)
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor
from airflow_provider_sendoso.warehouse import tables

SENDS = {"method": "POST", "path": "/api/v3/sends"}


def batch(**changes: Any) -> BatchSendOperator:
    arguments: dict[str, Any] = {
        "task_id": "gifts",
        "sql": "SELECT * FROM champions ORDER BY customer_id",
        "conn_id": "warehouse",
        "gift_id": "gift-mug",
        "message": "{note}, {first_name}",
        "metadata": {"campaign": "q4"},
        "row_ref": "customer_id",
        "dedupe_scope": "q4",
        "results_table": "sendoso_results",
        "max_in_flight": 1,
        "claim_timeout": 1,
    }
    return BatchSendOperator(**(arguments | changes))


def gift(number: int, **changes: Any) -> SendGiftOperator:
    arguments: dict[str, Any] = {
        "task_id": "thank",
        "gift_id": "gift-mug",
        "recipient": recipient(number),
        "message": message(number),
        "metadata": {"contact": cells(number)[-2]},
        "dedupe_scope": "thanks",
    }
    return SendGiftOperator(**(arguments | changes))


def test_the_marks_reach_sendoso_warehouse_and_tokens(marked: Marked) -> None:
    """Shows that the marks are used; otherwise a search without hits would prove nothing."""
    marked.fill(1)
    marked.run(batch())
    assert MARK in repr(marked.sandbox.sends)
    assert re.search(MARK, str(cells(1)))
    assert marked.tokens()


# -- a batch ---------------------------------------------------------------------------------------------------------


def test_a_batch_sent_by_two_runs_leaks_nothing(marked: Marked) -> None:
    marked.fill(1, 2, 2)
    operator = batch()
    summary = marked.run(operator)
    assert (summary["sent"], summary["duplicate"]) == (2, 1)
    marked.keep({name: getattr(operator, name) for name in operator.template_fields})
    assert marked.run(batch(message="{note} once more, {first_name}"), "run-2")["already_sent"] == 2


def test_a_refusal_that_repeats_the_row_leaks_nothing(marked: Marked) -> None:
    marked.fill(1, 2)
    marked.echo(1)
    assert marked.run(batch())["refused"] == 1
    assert marked.run(batch())["refused"] == 1


SPELLINGS: dict[str, Callable[[str], str]] = {
    "upper case": str.upper,
    "percent": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "percent, twice": lambda text: "".join(f"%25{byte:02X}" for byte in text.encode()),
    "JSON": lambda text: "".join(f"\\u{ord(one):04x}" for one in text),
    "Python": lambda text: "".join(f"\\x{ord(one):02x}" for one in text),
    "HTML": lambda text: "".join(f"&#{ord(one)};" for one in text),
    "quoted-printable": lambda text: "".join(f"={ord(one):02X}" for one in text),
    "full width": lambda text: "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in text),
    "hyphens": lambda text: re.sub(r"\W+", "-", text),
    "spread": " ".join,
    "soft hyphens": "\u00ad".join,
    "words turned round": lambda text: " ".join(reversed(text.split())),
    "mailbox": lambda text: text.partition("@")[0],
    "host": lambda text: text.rpartition("@")[2],
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_refusal_that_repeats_a_person_in_another_spelling_leaks_nothing(marked: Marked, spelling: str) -> None:
    marked.fill(1, 2)
    marked.echo(1, spell=SPELLINGS[spelling])
    assert marked.run(batch())["refused"] == 1
    marked.echo(3, spell=SPELLINGS[spelling])
    assert isinstance(marked.run(gift(3)), SendosoUnprocessableError)


INVALID = [
    {"email": f"{MARK}nomail"},
    {"email": f"{MARK}two@{MARK}at@example.com"},
    {"country": f"{MARK}land"},
    {"first_name": None},
    {"postal_code": ""},
    {"title": MARK * 500},
    {"metadata_contact": MARK * 2000},
    {"note": MARK * 5000},
    {"note": None},
]


@pytest.mark.parametrize("changes", INVALID, ids=lambda changes: next(iter(changes)))
@pytest.mark.parametrize("more", [{}, {"on_invalid": "fail"}, {"strict_email": True}], ids=["skip", "fail", "strict"])
def test_invalid_rows_leak_nothing(marked: Marked, changes: dict[str, str | None], more: dict[str, Any]) -> None:
    marked.fill(1, 2, **changes)
    assert isinstance(marked.run(batch(**more)), SendosoRowsError)
    assert marked.sandbox.sends == []


@pytest.mark.parametrize("fault", ["drop_after", "garbage", "truncate", "redirect"])
def test_held_sends_leak_nothing(marked: Marked, fault: str) -> None:
    marked.sandbox.fault("status", times=9, method="GET", path="/api/v3/sends", status=404)
    marked.fill(1, 2)
    marked.sandbox.fault(fault, **SENDS)
    assert isinstance(marked.run(batch()), SendHeldError)
    assert isinstance(marked.run(batch(), "run-2"), SendHeldError)
    assert marked.run(batch(on_held="continue"), "run-3")["held"] == 1


def test_a_deferred_batch_leaks_nothing(marked: Marked) -> None:
    marked.fill(1, 2)
    marked.sandbox.fault("error_before", **SENDS)
    deferred = marked.run(batch(on_absent="resend", settle_time=900))
    assert type(deferred).__name__ == "TaskDeferred"


@pytest.mark.parametrize("status", [500, 503, 409, 301])
def test_a_server_error_that_repeats_the_request_leaks_nothing(marked: Marked, status: int) -> None:
    marked.fill(1, 2, 3, 4, 5, 6)
    marked.echo(1, status=status, times=50)
    assert isinstance(marked.run(batch()), SendosoError)


@pytest.mark.parametrize("status", [401, 403, 404, 429])
def test_an_answer_that_stops_the_batch_leaks_nothing(marked: Marked, status: int) -> None:
    marked.fill(1, 2)
    marked.echo(1, status=status, times=50)
    assert isinstance(marked.run(batch()), SendosoError)


def test_an_unreachable_sendoso_leaks_nothing(marked: Marked) -> None:
    marked.fill(1, 2)
    marked.sandbox.stop()
    assert isinstance(marked.run(batch()), SendosoError)
    marked.sandbox.start()


def test_a_killed_task_leaks_nothing(marked: Marked) -> None:
    marked.fill(*range(1, 9))
    marked.sandbox.fault("slow", times=50, delay=1.0, **SENDS)
    operator = batch()

    def kill() -> None:
        while not marked.sandbox.sends:
            time.sleep(0.01)
        operator.on_kill()

    threading.Thread(target=kill, daemon=True).start()
    assert isinstance(marked.run(operator), SendosoError)


def test_dry_runs_and_refused_limits_leak_nothing(marked: Marked) -> None:
    marked.fill(1, 2, 3)
    dry = marked.run(batch(dry_run=True, shipping_estimate=9.5))
    assert dry["would_send"] == 3
    marked.fill(4)
    for limit in ({"approved_fingerprint": dry["fingerprint"]}, {"max_sends": 1}, {"max_cost": 1}):
        assert isinstance(marked.run(batch(**limit)), SendosoLimitError)
    assert marked.sandbox.sends == []


ARGUMENTS = [
    {"column_map": {"first_name": "nobody"}},
    {"message": "Dear {nobody}"},
    {"message": "Dear {first_name!r}"},
    {"recipient_key": "nobody"},
    {"row_ref": "nobody"},
    {"gift_id": "no-such-gift"},
    {"sql": "SELECT 1; SELECT 2"},
    {"results_table": "no_such_schema.results"},
]


@pytest.mark.parametrize("changes", ARGUMENTS, ids=str)
def test_arguments_that_do_not_fit_the_rows_leak_nothing(
    marked: Marked, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_wait", wait_none())
    marked.fill(1)
    assert isinstance(marked.run(batch(**changes)), SendosoError)
    assert marked.sandbox.sends == []


def test_recipients_from_a_task_leak_nothing(marked: Marked) -> None:
    people = [recipient(1), recipient(2) | {"email": f"{MARK}nomail"}, recipient(3) | {"title": [f"{MARK}list"]}]
    operator = batch(sql=None, row_ref=None, message="Thank you, {first_name}", recipients=people)
    assert marked.run(operator)["invalid"] == 2
    assert isinstance(marked.run(batch(sql=None, recipients=[f"{MARK}text"])), SendosoConfigError)


# -- campaigns -------------------------------------------------------------------------------------------------------

CAMPAIGN = {"method": "POST", "path": "/api/v3/send"}


def campaign(**changes: Any) -> BatchSendOperator:
    asking = {"address_confirmation": "link", "address_confirmation_message": f"{MARK}where to?"}
    return batch(
        **({"gift_id": None, "touch_id": 101, "metadata": None, "recipient_key": "customer_id"} | asking | changes)
    )


@pytest.mark.parametrize("touch_id", [101, 102])
def test_a_campaign_sent_by_two_runs_and_waited_for_leaks_nothing(marked: Marked, touch_id: int) -> None:
    marked.fill(1, 2, country="US", state="NV", postal_code="89501")
    assert marked.run(campaign(touch_id=touch_id))["sent"] == 2
    summary = marked.run(campaign(touch_id=touch_id), "run-2")
    assert summary["already_sent"] == 2
    arrived = SendStatusSensor(task_id="arrived", dedupe_scope="q4", deferrable=False, poke_interval=0.01, timeout=600)
    assert marked.run(arrived, method="execute")["reached"] == 2


def test_rows_that_a_campaign_cannot_be_sent_to_leak_nothing(marked: Marked) -> None:
    marked.fill(1, 2)  # to Britain, without a number
    assert "Nobody was sent a gift" in str(marked.run(campaign()))


@pytest.mark.parametrize("status", [422, 400, 404])
def test_a_campaign_refusal_that_repeats_the_row_leaks_nothing(marked: Marked, status: int) -> None:
    marked.fill(1, 2, country="US", state="NV", postal_code="89501")
    marked.echo(
        1, untold=("company", "title", "state", "postal_code", "metadata_contact"), path="/api/v3/send", status=status
    )
    marked.run(campaign())


@pytest.mark.parametrize("fault", ["drop_after", "drop_before", "garbage", "truncate", "redirect"])
def test_held_campaign_sends_leak_nothing(marked: Marked, fault: str) -> None:
    marked.fill(1, 2, country="US", state="NV", postal_code="89501")
    marked.sandbox.fault(fault, **CAMPAIGN)
    marked.run(campaign())
    marked.run(campaign(), "run-2")


# -- one gift ----------------------------------------------------------------------------------------------------------


def test_a_single_gift_leaks_nothing(marked: Marked) -> None:
    assert marked.run(gift(1)) == marked.run(gift(1)) == marked.sandbox.sends[0].id
    assert isinstance(marked.run(gift(1, gift_id="gift-notebook")), SendosoConfigError)


def test_a_refusal_that_repeats_a_single_gift_leaks_nothing(marked: Marked) -> None:
    marked.echo(1)
    assert isinstance(marked.run(gift(1)), SendosoUnprocessableError)
    assert isinstance(marked.run(gift(1)), SendosoError)


def test_a_single_gift_of_unknown_outcome_leaks_nothing(marked: Marked) -> None:
    marked.echo(1, status=500)
    assert isinstance(marked.run(gift(1)), SendOutcomeUnknownError)
    assert isinstance(marked.run(gift(1)), SendHeldError)


def test_a_notifier_leaks_nothing(marked: Marked) -> None:
    one, other = (
        SendosoNotifier(
            gift_id="gift-mug",
            recipient=recipient(number),
            message=message(number),
            metadata={"contact": f"{MARK}metadatacontact{number}"},
        )
        for number in (1, 2)
    )
    for _ in range(2):
        assert marked.run(one, method="notify") is None
    marked.echo(2)
    assert isinstance(marked.run(other, method="notify"), SendosoUnprocessableError)
    assert len(marked.sandbox.sends) == 1


def test_metrics_spans_and_lineage_leak_nothing(marked: Marked, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    monkeypatch.setattr(metrics.Stats, "incr", lambda *args, **kwargs: marked.keep(args, kwargs))
    marked.fill(1, 2, 2)
    marked.echo(1)
    operator = batch()
    marked.run(operator)
    lineage = operator.get_openlineage_facets_on_complete(None)
    assert lineage.inputs
    assert lineage.outputs
    marked.keep(lineage)
    marked.echo(3, status=403, times=100)
    assert isinstance(marked.run(gift(3)), SendosoAuthError)
    spans = exporter.get_finished_spans()
    assert {span.name for span in spans} == {"sendoso.batch", "sendoso.read", "sendoso.send", "sendoso.gift"}
    marked.keep(*(span.to_json() for span in spans))


@pytest.mark.parametrize("field", ["first_name", "email", "address", "company"])
@pytest.mark.parametrize("value", [None, f"{MARK}wrong", {"key": f"{MARK}value"}, MARK * 900], ids=type)
def test_an_invalid_recipient_leaks_nothing(marked: Marked, field: str, value: Any) -> None:
    marked.run(gift(1, recipient=recipient(1) | {field: value}))


def test_invalid_metadata_leaks_nothing(marked: Marked) -> None:
    for metadata in ({"note": [f"{MARK}list"]}, {"note": MARK * 2000}, f"{MARK}text"):
        assert isinstance(marked.run(gift(1, metadata=metadata)), SendosoConfigError)


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_errors_of_the_raw_hook_leak_nothing(marked: Marked, status: int) -> None:
    marked.echo(1, status=status, times=9)
    with pytest.raises(SendosoError) as caught:
        SendosoHook().send_gift(
            gift_id="gift-mug", recipient=recipient(1), message=message(1), metadata={"contact": cells(1)[-2]}
        )
    marked.keep(caught.value, caught.value.args, vars(caught.value))


# -- the marketplace and SmartSend -------------------------------------------------------------------------------------

SENDER = {
    "first_name": f"{MARK}senderfirst",
    "last_name": f"{MARK}senderlast",
    "email": f"{MARK}sender@{MARK}office.example",
    "organization_name": f"{MARK}organisation",
}
MEETING = f"https://{MARK}meet.example/{MARK}room"
TEA: dict[str, Any] = {"gift_id": None, "metadata": None, "marketplace_variant_id": "var-tea", "sender": SENDER}
PICK: dict[str, Any] = {"gift_id": None, "metadata": None, "smart_send": True, "price_lte_usd": 50}
OF_BOTH = pytest.mark.parametrize(
    ("kind", "path", "more"),
    [
        (TEA | {"meeting_url": MEETING}, "/api/v3/marketplace/products/send", (*SENDER.values(), MEETING)),
        (PICK | {"meeting_url": MEETING}, "/api/v3/smartsend/recommendations/send", (MEETING,)),
    ],
    ids=["marketplace", "smart_send"],
)
UNTOLD = ("company", "title", "address_line1", "address_line2", "city", "state", "postal_code", "metadata_contact")
"""What a row has and these sends do not tell Sendoso."""


@OF_BOTH
def test_products_sent_by_two_runs_and_waited_for_leak_nothing(
    marked: Marked, kind: dict[str, Any], path: str, more: tuple[str, ...]
) -> None:
    marked.fill(1, 2)
    summary = marked.run(batch(**kind, require_approval=True))
    assert summary["sent"] == 2
    assert MEETING in repr(marked.sandbox.campaign_sends())
    assert marked.run(batch(**kind, message="{note} once more, {first_name}"), "run-2")["already_sent"] == 2
    waits: dict[str, Any] = {"task_id": "arrived", "batch_id": summary["batch_id"], "deferrable": False}
    assert not marked.run(SendStatusSensor(**waits), method="poke")
    for send in marked.sandbox.campaign_sends():
        marked.sandbox.finish(send.id, "Delivered")
    assert marked.run(SendStatusSensor(**waits, poke_interval=0.01, timeout=600))["reached"] == 2
    assert marked.run(batch(**kind, dry_run=True), "run-3")["already_sent"] == 2


@OF_BOTH
@pytest.mark.parametrize("status", [422, 403, 404, 409, 429, 500])
def test_a_refusal_that_repeats_a_product_send_leaks_nothing(
    marked: Marked, kind: dict[str, Any], path: str, more: tuple[str, ...], status: int
) -> None:
    marked.fill(1, 2)
    marked.echo(1, untold=UNTOLD, more=more, path=path, status=status, times=50 if status == 429 else 1)
    marked.run(batch(**kind))
    marked.run(batch(**kind), "run-2")


@OF_BOTH
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_refusal_that_repeats_a_product_send_in_another_spelling_leaks_nothing(
    marked: Marked, kind: dict[str, Any], path: str, more: tuple[str, ...], spelling: str
) -> None:
    marked.echo(1, untold=UNTOLD, more=more, path=path, spell=SPELLINGS[spelling])
    assert isinstance(marked.run(gift(1, **kind)), SendosoUnprocessableError)


@OF_BOTH
@pytest.mark.parametrize("fault", ["drop_after", "drop_before", "garbage", "truncate", "redirect"])
def test_held_product_sends_leak_nothing(
    marked: Marked, kind: dict[str, Any], path: str, more: tuple[str, ...], fault: str
) -> None:
    marked.fill(1, 2)
    marked.sandbox.fault(fault, method="POST", path=path)
    marked.run(batch(**kind))
    marked.run(batch(**kind), "run-2")
    assert len(marked.sandbox.campaign_sends()) in (1, 2)


@OF_BOTH
def test_a_product_answer_without_an_id_leaks_nothing(
    marked: Marked, kind: dict[str, Any], path: str, more: tuple[str, ...]
) -> None:
    told = [*cells(1)[1:4], *more]
    marked.sandbox.fault("status", method="POST", path=path, status=200, body={"products": told, "send": told})
    assert isinstance(marked.run(gift(1, **kind)), SendOutcomeUnknownError)
    assert isinstance(marked.run(gift(1, **kind)), SendHeldError)


@pytest.mark.parametrize(
    "changes",
    [
        {"meeting_url": f"ftp://{MARK}"},
        {"meeting_url": [MEETING]},
        {"sender": f"{MARK}text"},
        {"sender": {"email": f"{MARK}nomail"}},
        {"sender": {f"{MARK}": "x"}},
        {"sender": {"first_name": [f"{MARK}list"]}},
        {"sender": SENDER | {"last_name": MARK * 500}},
        {"message": MARK * 5000},
        {"recipient": recipient(1) | {"address": {"country": f"{MARK}land"}}},
        {"recipient": recipient(1) | {"email": f"{MARK}nomail"}},
    ],
    ids=str,
)
def test_wrong_arguments_of_a_product_leak_nothing(marked: Marked, changes: dict[str, Any]) -> None:
    assert isinstance(marked.run(gift(1, **TEA | changes)), SendosoConfigError)
    if "sender" not in changes:
        assert isinstance(marked.run(gift(1, **PICK | changes)), SendosoConfigError)


@OF_BOTH
def test_products_of_the_notifier_and_the_raw_hook_leak_nothing(
    marked: Marked, kind: dict[str, Any], path: str, more: tuple[str, ...]
) -> None:
    arguments = {name: value for name, value in kind.items() if value is not None} | {"message": message(2)}
    assert marked.run(SendosoNotifier(recipient=recipient(1), **arguments), method="notify") is None
    for status in (422, 500):
        marked.echo(2, untold=UNTOLD, more=more, path=path, status=status, times=2)
        marked.run(SendosoNotifier(recipient=recipient(2), dedupe_scope=str(status), **arguments), method="notify")
        with pytest.raises(SendosoError) as caught:
            SendosoHook().send_gift(recipient=recipient(2), **arguments)
        marked.keep(caught.value, caught.value.args, vars(caught.value))
    assert len(marked.sandbox.campaign_sends()) == 1


def test_recommendations_that_are_refused_leak_nothing(marked: Marked) -> None:
    body = {"success": False, "message": f"nothing for {cells(1)[3]}", "errors": [{"recipient_email": cells(1)[3]}]}
    path = "/api/v3/smartsend/recommendations"
    marked.sandbox.fault("status", method="GET", path=path, status=422, body=body)
    with pytest.raises(SendosoError) as caught:
        list(SendosoHook().list_recommendations(cells(1)[3]))
    marked.keep(caught.value, caught.value.args, vars(caught.value))
    assert len(list(SendosoHook().list_recommendations(cells(1)[3]))) > 0


# -- eGift links -------------------------------------------------------------------------------------------------------


LINK = f"https://{MARK}gifts.example/redeem?code={MARK}code"
LINKS = {"method": "POST", "path": "/api/v3/send/generate_egift_links"}


def links(**changes: Any) -> EgiftLinksOperator:
    arguments: dict[str, Any] = {
        "task_id": "links",
        "sql": "SELECT * FROM champions ORDER BY customer_id",
        "conn_id": "warehouse",
        "touch_id": 102,
        "links_table": "links",
        "row_ref": "customer_id",
        "dedupe_scope": "q4",
        "results_table": "sendoso_results",
        "max_in_flight": 1,
        "claim_timeout": 1,
    }
    return EgiftLinksOperator(**(arguments | changes))


def answer_with_link(marked: Marked, **fault: Any) -> None:
    """Let the next answers hold a marked link, in its place and in their words."""
    made = {"egift_link": LINK, "recipient_email_or_phone_number": cells(1)[3]}
    words = f"Made {LINK} and {MARK}gifts.example/redeem, www.{MARK}gifts.example, {MARK}://code for {cells(1)[3]}"
    body = {"success": True, "message": words, "egift_links": [made]}
    marked.sandbox.fault("status", **LINKS, **({"status": 200, "body": body, "times": 2} | fault))


def test_egift_links_made_and_read_by_two_runs_leak_nothing(marked: Marked) -> None:
    marked.fill(1, 2)
    answer_with_link(marked)
    operator = links()
    assert marked.run(operator)["sent"] == 2
    marked.keep({name: getattr(operator, name) for name in operator.template_fields})
    assert marked.run(links(), "run-2")["already_sent"] == 2
    with marked._warehouse.connect() as connection:
        assert connection.execute(text("SELECT egift_link FROM links")).scalars().all() == [LINK] * 4
    ledger = SendosoHook().ledger
    marked.keep(list(ledger.sends.records("SENT")))


@pytest.mark.parametrize("status", [422, 403, 404, 409, 429, 500])
def test_a_refusal_that_holds_a_link_leaks_nothing(marked: Marked, status: int) -> None:
    marked.fill(1, 2)
    answer_with_link(marked, status=status, times=50)
    assert isinstance(marked.run(links()), SendosoError)
    assert isinstance(marked.run(links()), SendosoError)


@pytest.mark.parametrize("egift_links", [[], [{"egift_link": f"{LINK}\n"}, {"egift_link": LINK}], LINK, {LINK: LINK}])
def test_an_unreadable_link_leaks_nothing(marked: Marked, egift_links: Any) -> None:
    marked.fill(1)
    body = {"success": True, "message": f"{LINK} or {MARK}code", "egift_links": egift_links}
    marked.sandbox.fault("status", **LINKS, status=200, body=body)
    assert isinstance(marked.run(links()), SendHeldError)


def test_a_database_that_quotes_a_refused_link_leaks_nothing(marked: Marked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_wait", wait_none())
    marked.fill(1)
    answer_with_link(marked)
    assert marked.run(links(sql="SELECT * FROM champions WHERE false"))["rows"] == 0
    refuse = "BEGIN IF NEW.email LIKE '%@%' THEN RAISE EXCEPTION '%', NEW.egift_link; END IF; RETURN NEW; END"
    with marked._warehouse.begin() as connection:
        connection.execute(text(f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {refuse} $$"))
        connection.execute(text("CREATE TRIGGER r BEFORE INSERT ON links FOR EACH ROW EXECUTE FUNCTION refuse()"))
    assert isinstance(marked.run(links()), SendosoResultsError)


def test_egift_links_of_the_raw_hook_leak_nothing(marked: Marked) -> None:
    answer_with_link(marked, times=1)
    generated = SendosoHook().generate_egift_links(touch_id=102, emails=[cells(1)[3]])
    assert generated[0].link == LINK
    marked.keep(generated, generated[0])
    with pytest.raises(TypeError):
        json.dumps(generated)
    for status in (422, 500):
        answer_with_link(marked, times=1, status=status)
        with pytest.raises(SendosoError) as caught:
            SendosoHook().generate_egift_links(touch_id=102, emails=[cells(1)[3]])
        marked.keep(caught.value, caught.value.args, vars(caught.value))


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_a_refused_token_request_that_repeats_the_secret_leaks_nothing(marked: Marked) -> None:
    body = {"error": "invalid_client", "error_description": f"no client with the secret {SECRET}"}
    for status in (400, 401, 500):
        marked.sandbox.fault("status", times=9, method="POST", path="/oauth/token", status=status, body=body)
        assert isinstance(marked.run(gift(1)), SendosoError)
        marked.keep(SendosoHook().test_connection())
        marked.sandbox.clear_faults()


def test_a_refresh_token_leaks_nowhere(marked: Marked, set_connection: Any) -> None:
    first = marked.sandbox.issue_refresh_token()
    extra = {"requests_per_second": 500, "timeout": 60, "grant_type": "refresh_token", "refresh_token": first}
    connection = {"conn_type": "sendoso", "host": marked.sandbox.url, "login": "sandbox", "password": SECRET}
    set_connection("sendoso_default", connection | {"extra": extra})
    marked.run(gift(1))
    marked.sandbox.revoke_tokens()
    marked.run(gift(2))
    assert len(marked.sandbox.sends) == 2
    assert [kept for kept in marked.kept if first[:24] in kept] == []
    set_connection("sendoso_default", connection | {"extra": extra | {"refresh_token": f"{MARK}lost", "scope": "read"}})
    assert isinstance(marked.run(gift(3)), SendosoAuthError)


@pytest.mark.parametrize(
    "changes",
    [
        {"host": f"https://user:{SECRET}@example.com/path?{MARK}"},
        {"host": "http://example.com"},
        {"extra": {"refresh_token": [SECRET]}},
        {"extra": {"timeout": SECRET}},
        {"extra": {"grant_type": SECRET}},
        {"extra": {"client_secret": SECRET}},
        {"login": None},
    ],
    ids=str,
)
def test_a_wrong_connection_leaks_nothing(
    marked: Marked, set_connection: Any, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {"conn_type": "sendoso", "host": marked.sandbox.url, "login": "sandbox", "password": SECRET}
    set_connection("broken", good | changes)
    assert isinstance(marked.run(gift(1, sendoso_conn_id="broken")), SendosoConfigError)
    marked.keep(SendosoHook("broken").test_connection())


def test_an_unreachable_ledger_leaks_nothing(
    marked: Marked, set_connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_sendoso.ledger.database._OPEN_PATIENCE", 0.1)
    nowhere = {"conn_type": "postgres", "host": "127.0.0.1", "port": 9, "login": "ledger", "password": SECRET}
    set_connection("nowhere", nowhere)
    extra = {"ledger_conn_id": "nowhere"}
    connection = {"conn_type": "sendoso", "host": marked.sandbox.url, "login": "sandbox", "password": SECRET}
    set_connection("apart", connection | {"extra": extra})
    assert isinstance(marked.run(gift(1, sendoso_conn_id="apart")), SendosoError)
    marked.keep(SendosoHook("apart").test_connection())


# -- the wait ----------------------------------------------------------------------------------------------------------


def sensor(**changes: Any) -> SendStatusSensor:
    return SendStatusSensor(task_id="arrived", **({"poke_interval": 0.1, "timeout": 600} | changes))


async def events_of(trigger: Any) -> list[Any]:
    return [event.payload async for event in trigger.run()]


@pytest.mark.parametrize("method", ["execute", "poke"])
def test_a_wait_in_a_worker_leaks_nothing(marked: Marked, method: str) -> None:
    """In one process, or in a new one for each look, as a rescheduled sensor has it."""
    marked.fill(1, 2)
    which = {"batch_id": marked.run(batch())["batch_id"], "results_table": "sendoso_results", "conn_id": "warehouse"}
    first, second = (send.id for send in marked.sandbox.sends)
    marked.sandbox.finish(first, "returned")
    marked.sandbox.finish(second, "processing")
    pending = marked.run(sensor(timeout=0.2, **which), method=method)
    assert isinstance(pending, Exception) or not pending
    marked.sandbox.finish(second, "delivered")
    done = pending
    while not isinstance(done, SendosoStatusError):
        done = marked.run(sensor(**which), method=method)
        assert isinstance(done, SendosoStatusError) or not done
    assert marked.run(sensor(min_delivered=0.5, **which), method=method)


def test_a_wait_in_the_triggerer_leaks_nothing(marked: Marked) -> None:
    marked.fill(1, 2)
    marked.run(batch())
    for send in marked.sandbox.sends:
        marked.sandbox.finish(send.id, "processing")
    operator = sensor(dedupe_scope="q4", deferrable=True, timeout=1)
    deferred = marked.run(operator)
    assert type(deferred).__name__ == "TaskDeferred"
    words = {"message": f"no more of {' '.join(cells(1))} {SECRET}"}
    marked.sandbox.fault("status", times=2, method="GET", path="/api/v3/sends", status=500, body={"error": "busy"})
    events = asyncio.run(events_of(deferred.trigger))
    marked.keep(events)
    marked.run(operator, method="execute_complete", event=events[-1])
    marked.sandbox.fault("status", times=99, method="POST", path="/oauth/token", status=401, body=words)
    marked.sandbox.revoke_tokens()
    marked.keep(asyncio.run(events_of(deferred.trigger)))


# -- held sends --------------------------------------------------------------------------------------------------------


def test_the_commands_and_the_form_for_held_sends_leak_nothing(
    marked: Marked, capfd: pytest.CaptureFixture[str]
) -> None:
    marked.sandbox.fault("status", times=99, method="GET", path="/api/v3/sends", status=404)
    marked.fill(1, 2)
    marked.sandbox.fault("error_before", times=2, **SENDS)
    marked.run(batch())
    email = cells(1)[3]
    for command in (
        ["ledger", "list"],
        ["ledger", "list", "--json"],
        ["ledger", "show", "--recipient", email],
        ["ledger", "show", "--recipient", email, "--scope", "q4", "--json"],
        ["ledger", "show", "--recipient", f"{MARK}stranger@example.com"],
        ["ledger", "resolve", "--recipient", f"{MARK}stranger@example.com", "--scope", "q4", "--sent", "--why", "seen"],
        ["ledger", "resolve", "--recipient", email, "--scope", "q4", "--not-sent", "--why", "not in the list"],
    ):
        try:
            commands.main(command)
        except SystemExit as error:
            marked.keep(error)
        marked.keep(*capfd.readouterr())
    marked.run(
        ResolveHeldOperator(task_id="resolve", dedupe_scope="q4", resolution="sent", why="seen", resolved_by="me")
    )


# -- what is landed ----------------------------------------------------------------------------------------------------


def test_landed_rows_are_in_the_table_and_nowhere_else(marked: Marked) -> None:
    marked.fill(1)
    marked.run(batch())
    marked.sandbox.add("users", {"id": f"{MARK}userid", "email": f"{MARK}user@example.com", "note": [f"{MARK}note"]})
    marked.sandbox.preload(3, email=f"{MARK}old{{}}@example.com")
    for name in ("sends", "campaign_sends", "users"):
        arguments = {} if name == "users" else {"status_table": f"statuses_of_{name}"}
        landing = SendosoToSqlOperator(task_id="land", object=name, table=name, conn_id="warehouse", **arguments)
        assert marked.run(landing)["inserted"] > 0


@pytest.mark.parametrize("kind", ["INTEGER", "VARCHAR(3)", "TEXT CHECK (email = 'nobody')", "TEXT UNIQUE"])
def test_a_table_that_refuses_a_value_does_not_show_it(
    marked: Marked, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_wait", wait_none())
    marked.change(f"CREATE TABLE users (id TEXT, email {kind}, landed_hash TEXT, landed_at TIMESTAMP)")
    for number in (1, 2):
        marked.sandbox.add("users", {"id": number, "email": f"{MARK}user@example.com"})
    error = marked.run(SendosoToSqlOperator(task_id="land", object="users", table="users", conn_id="warehouse"))
    assert isinstance(error, SendosoResultsError)
    assert str(error).startswith("The table 'users' (connection 'warehouse') could not be written: it")
