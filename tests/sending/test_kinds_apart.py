"""The kinds of send do not affect each other, whether they are known, unknown or new."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
from sqlalchemy import update
from trying import SENDS, FakeTI, Try, batch, people, posts

from airflow_provider_sendoso.client.answers import read_send
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.pages import Pages
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import Claim, Record, State, Wanted
from airflow_provider_sendoso.ledger.schema import sends
from airflow_provider_sendoso.models import Item, Kind, RowOutcome, Send
from airflow_provider_sendoso.models.sends import SendModel
from airflow_provider_sendoso.operators.sendoso import SendGiftOperator
from airflow_provider_sendoso.runs.base import make_batch
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sending import Job, Result, Sender
from airflow_provider_sendoso.sending.kinds import KINDS
from airflow_provider_sendoso.sending.kinds.base import SendKind
from airflow_provider_sendoso.sending.replacements import check_replaceable
from airflow_provider_sendoso.sending.scanning import Scan

EGIFT = 102
CAMPAIGN: dict[str, Any] = {"gift_id": None, "touch_id": EGIFT, "message": None}
RESEND: dict[str, Any] = {"on_absent": "resend", "settle_time": 0, "on_held": "continue"}
POST = {"method": "POST", "path": "/api/v3/send"}
LIST = {"method": "GET", "path": "/api/v3/send"}


def rewrite(key: str | None = None, **values: Any) -> None:
    """Change rows of the ledger as no code of this release would."""
    statement = update(sends).values(**values)
    if key is not None:
        statement = statement.where(sends.c.send_key == key)
    SendosoHook().ledger._database.run(lambda connection: connection.execute(statement))


def went_out(email: str, kind: Kind, scope: str = "elsewhere") -> str:
    """Note in the ledger that this recipient was sent the campaign, without anything that Sendoso lists."""
    hook = SendosoHook()
    account, ledger = hook.config.account, hook.ledger
    one = make_batch(hook.config, scope, "email", "dag", "other", "run-0")
    key = ledger.send_key(account, scope, email)
    item, email_hash = Item(touch_id=str(EGIFT)), ledger.email_hash(account, email)
    wanted = Wanted(key, "payload", item, None, email_hash=email_hash, kind=kind)
    ledger.sends.open_batch(one)
    (claim,) = ledger.sends.claim(one, "owner", 60, [wanted]).values()
    assert isinstance(claim, Claim)
    assert ledger.sends.begin_post(claim, 60)
    assert ledger.sends.finish(claim, State.SENT)
    return key


def records() -> dict[str, Record]:
    return {record.send_key: record for record in SendosoHook().ledger.sends.records(*State)}


# -- campaigns and links -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [Kind.LINK, None], ids=["a link", "a newer kind"])
def test_rows_that_another_kind_may_have_proves_no_campaign_send_absent(
    sendoso: Sandbox, send: Callable[..., Try], an_hour_later: Callable[[], None], other: Kind | None
) -> None:
    """The one row of the list is the lost send's, and not that of the link, which the list does not show."""
    sendoso.fault("drop_after", **POST)
    sendoso.fault("error_before", times=100, **LIST)
    assert send(people(2), **CAMPAIGN) == Try("SendHeldError", {"sent": 1, "held": 1})
    sendoso.clear_faults()
    key = went_out("ada0@example.com", other or Kind.LINK)
    if other is None:
        rewrite(key, kind="bouquet")
    an_hour_later()
    for run_id in ("run-2", "run-3"):
        ended = send(people(2), **CAMPAIGN, **RESEND, run_id=run_id, method="execute_after_settling")
        assert ended == Try("", {"already_sent": 1, "held": 1})
    assert len(sendoso.campaign_sends()) == 2
    assert records()[key].bound_id is None


def test_the_list_of_gifts_proves_no_campaign_send_absent(
    sendoso: Sandbox, send: Callable[..., Try], an_hour_later: Callable[[], None]
) -> None:
    """It is complete, and shows gifts of the same scope, while the list of campaign sends cannot be read."""
    assert send(people(4)[2:]) == Try("", {"sent": 2})
    sendoso.fault("drop_after", **POST)
    sendoso.fault("error_before", times=100, **LIST)
    assert send(people(2), **CAMPAIGN, run_id="run-2") == Try("SendHeldError", {"sent": 1, "held": 1})
    an_hour_later()
    settled = {**CAMPAIGN, **RESEND, "method": "execute_after_settling"}
    assert send(people(2), run_id="run-3", **settled) == Try("", {"already_sent": 1, "held": 1})
    sendoso.clear_faults()
    assert send(people(2), run_id="run-4", **settled) == Try("", {"already_sent": 2})
    assert len(sendoso.campaign_sends()) == 2


def test_a_row_that_is_bound_to_a_send_of_another_kind_is_not_a_campaign_sends(
    sendoso: Sandbox, send: Callable[..., Try]
) -> None:
    assert send(1, **CAMPAIGN) == Try("", {"sent": 1})
    [accepted] = sendoso.campaign_sends()
    rewrite(kind="bouquet", bound_id=str(accepted.id), touch_id=None, email_hash=None)
    sendoso.fault("drop_before", **POST)
    assert send(1, **CAMPAIGN, dedupe_scope="again", run_id="run-2") == Try("SendHeldError", {"held": 1})


def test_an_id_bound_to_another_kind_is_not_bound_again(sendoso: Sandbox, send: Callable[..., Try]) -> None:
    assert send(1, **CAMPAIGN) == Try("", {"sent": 1})
    (key,) = records()
    hook = SendosoHook()
    rewrite(kind="bouquet", bound_id="7", touch_id=None)
    assert hook.ledger.bindings.bound_among(hook.config.account, ["7", "8"]) == {"7"}
    assert records()[key].kind is None


@pytest.mark.parametrize("kind", ["link", "bouquet", "gift"])
def test_only_a_campaign_send_is_bound(sendoso: Sandbox, send: Callable[..., Try], kind: str) -> None:
    assert send(1, **CAMPAIGN) == Try("", {"sent": 1})
    (key,) = records()
    rewrite(kind=kind)
    assert not SendosoHook().ledger.bindings.bind(key, "7")
    assert records()[key].bound_id is None


# -- replacements ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["failed", None])
def test_a_send_of_a_newer_kind_is_not_replaced(sendoso: Sandbox, send: Callable[..., Try], status: str | None) -> None:
    assert send(1) == Try("", {"sent": 1})
    [accepted] = sendoso.sends
    sendoso.finish(accepted.id, "failed")
    rewrite(kind="bouquet", status=status, status_words=status)
    row = people(1)[0] | {"resend_of": str(accepted.id)}
    assert send([row], run_id="run-2", dedupe_scope="again").counts == {"invalid": 1}
    with pytest.raises(SendosoConfigError, match="a kind of send that this release does not know"):
        SendGiftOperator(
            task_id="thank",
            gift_id="gift-donation-trees",
            message="Hi",
            recipient=people(1)[0],
            dedupe_scope="again",
            resend_of=str(accepted.id),
        ).execute({"ti": FakeTI("run-2")})
    assert posts(sendoso) == 1


def test_the_status_of_another_send_does_not_replace_a_link(sendoso: Sandbox, send: Callable[..., Try]) -> None:
    """A link that a person has noted under a tracking code has no row in the list: that row is a campaign send's."""
    assert send(1, **CAMPAIGN) == Try("", {"sent": 1})
    sendoso.finish(sendoso.campaign_sends()[0].id, "Undeliverable")
    key = went_out("ada0@example.com", Kind.LINK)
    rewrite(key, send_id="tracking:link")
    hook = SendosoHook()
    answers = check_replaceable(hook.session, hook.ledger, hook.config.account, ["tracking:link"])
    assert "whose status Sendoso does not say" in str(answers["tracking:link"].problem)


# -- a new kind -------------------------------------------------------------------------------------


class Bouquet(SendModel):
    """What a module of a new kind would have as its model."""

    kind: ClassVar[Kind]
    to: str

    @property
    def item(self) -> Item:
        """Something that no catalogue and no campaign has."""
        return Item()


class BouquetKind(SendKind[Bouquet]):
    """What a module of a new kind would hold: the request, the answer, and what finds it again."""

    model = Bouquet
    plural = "bouquets"

    def request(self, send: Bouquet, *, airflow_key: str | None, via_from: str) -> Request:
        """Build a POST that the sandbox takes."""
        person = {"first_name": "Ada", "last_name": "Lovelace", "email": send.to}
        body = {"gift_id": "gift-donation-trees", "message": "Hi", "metadata": {"bouquet": airflow_key}, **person}
        return Request("POST", SENDS, json={"send": body})

    def read(self, send: Bouquet, body: Any) -> Send | None:
        """Read the answer."""
        return read_send(body)

    def email(self, send: Bouquet) -> str:
        """Return the recipient's e-mail address."""
        return send.to


class UnseenKind(BouquetKind):
    """A new kind that nothing can look for."""

    why_not_looked_for = "no list shows bouquets"


class SeenKind(BouquetKind):
    """A new kind with a scanner of its own."""

    def scanner(self, session: Any, ledger: Any, latest: float) -> Any:
        """Look for the mark where this kind puts it."""
        return BouquetScanner(session, ledger)


class BouquetScanner:
    known_by = "mark"

    def __init__(self, session: Any, ledger: Any) -> None:
        self._session, self._ledger = session, ledger

    def scan(self, unresolved: Mapping[str, Record], *, whole: bool, stop: Callable[[], bool]) -> Scan:
        assert {record.kind for record in unresolved.values()} == {Bouquet.kind}
        scan, keys = Scan(), {self._ledger.airflow_key(key): key for key in unresolved}
        pages = Pages(Request("GET", SENDS), "sends", until_empty=whole)
        while not pages.done:
            for item in pages.read(self._session.read(pages.next_request()).json):
                key, found = keys.get(item["metadata"].get("bouquet")), read_send(item)
                if key is not None and found is not None:
                    scan.found[key] = {found.id: found}
        scan.absent = set(keys.values()) - scan.found.keys()
        return scan


@pytest.fixture
def bouquets(
    sendoso: Sandbox, send: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Callable[..., dict[int, RowOutcome]]]:
    """Adds a kind as a module of its own would, and sends bouquets to three people."""
    # The one line that a new kind has outside its module is its word in this enumeration.
    name = str.__new__(Kind, "bouquet")
    name._name_, name._value_ = "BOUQUET", "bouquet"

    def add(of_kind: BouquetKind) -> Callable[..., dict[int, RowOutcome]]:
        monkeypatch.setitem(Kind._value2member_map_, "bouquet", name)
        monkeypatch.setattr(Bouquet, "kind", name, raising=False)
        monkeypatch.setitem(KINDS, name, of_kind)  # type: ignore[arg-type]
        return run

    def run(run_id: str = "run-1", **more: Any) -> dict[int, RowOutcome]:
        hook = SendosoHook()
        one = make_batch(hook.config, "flowers", "email", "dag", "bouquets", run_id)
        options = {"own_gift": False, "lease": 60.0, "claim_timeout": 1.0, "settle_time": 0.0, "max_in_flight": 1}
        hook.ledger.sends.open_batch(one)
        jobs = [Job(n, f"ada{n}@example.com", Bouquet(to=f"ada{n}@example.com")) for n in range(1, 4)]  # type: ignore[arg-type]
        results: dict[int, Result] = {}
        sender = Sender(hook.session, hook.ledger, one, **(options | more))
        sender.send(jobs, lambda result: results.update({result.number: result}))
        return {number: result.outcome for number, result in results.items()}

    return add


@pytest.mark.parametrize("kind", [UnseenKind(), SeenKind()], ids=["nothing looks for it", "it is looked for"])
def test_a_new_kind_is_sent_once(sendoso: Sandbox, bouquets: Any, kind: BouquetKind) -> None:
    run = bouquets(kind)
    assert set(run().values()) == {RowOutcome.SENT}
    assert set(run("run-2").values()) == {RowOutcome.ALREADY_SENT}
    assert {record.kind for record in records().values()} == {Bouquet.kind}
    assert posts(sendoso) == 3


def test_a_new_kind_that_nothing_looks_for_is_held(
    sendoso: Sandbox, bouquets: Any, an_hour_later: Callable[[], None]
) -> None:
    run = bouquets(UnseenKind())
    sendoso.fault("drop_after", method="POST", path=SENDS)
    assert sorted(run().values()) == [RowOutcome.HELD, RowOutcome.SENT, RowOutcome.SENT]
    an_hour_later()
    for n in range(2, 4):
        assert sorted(run(f"run-{n}", resend_absent=True).values())[-1] is RowOutcome.HELD
    assert posts(sendoso) == 3


@pytest.mark.parametrize("accepted", [True, False])
def test_a_new_kind_is_found_or_proven_absent_by_its_own_scanner_alone(
    sendoso: Sandbox, send: Callable[..., Try], bouquets: Any, an_hour_later: Callable[[], None], accepted: bool
) -> None:
    assert send(2, dedupe_scope="flowers", recipient_key="email") == Try("", {"sent": 2})  # gifts, with marks
    run = bouquets(SeenKind())
    sendoso.fault("drop_after" if accepted else "drop_before", method="POST", path=SENDS)
    sendoso.fault("error_before", times=100, method="GET", path=SENDS)
    run()
    sendoso.clear_faults()
    an_hour_later()
    assert RowOutcome.HELD not in run("run-2", resend_absent=True).values()
    assert {record.state for record in records().values()} == {State.SENT}


def test_sends_of_a_kind_without_its_module_are_held(
    sendoso: Sandbox, send: Callable[..., Try], bouquets: Any, an_hour_later: Callable[[], None]
) -> None:
    """The same rows on a worker of an older release."""
    run = bouquets(SeenKind())
    sendoso.fault("drop_after", method="POST", path=SENDS)
    sendoso.fault("error_before", times=100, method="GET", path=SENDS)
    assert run()[1] is RowOutcome.HELD
    sendoso.clear_faults()
    del Kind._value2member_map_["bouquet"]
    an_hour_later()
    same = {
        "dedupe_scope": "flowers",
        "recipient_key": "email",
    }
    held = {"already_sent": 2, "held": 1}
    assert send(people(4)[1:], **same, **RESEND, method="execute_after_settling") == Try("", held)
    assert batch(people(4)[1:], **same | {"dry_run": True}).execute({"ti": FakeTI("run-3")})["held"] == 1
    assert posts(sendoso) == 3
