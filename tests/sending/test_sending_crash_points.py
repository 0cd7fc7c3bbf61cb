"""A run that is killed at a named step: what the ledger holds then, what Sendoso has, and how the next tries end it."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from trying import SENDS, Try, die, people, sendoso_connection

import airflow_provider_sendoso
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import State
from airflow_provider_sendoso.ledger.resolutions import Resolution
from airflow_provider_sendoso.sandbox import Sandbox

TIMEOUT = 60.0
SCOPES = "public write marketplace smartsend"
AT_LAST = (TIMEOUT,) * 3
"""Three answers that come when the process is dead."""


@dataclass(frozen=True)
class Kill:
    """
    A try for five people that is killed.

    :param at: the crash point, and at which passage.
    :param states: what the ledger holds then.
    :param accepted: how many sends Sendoso has accepted by then.
    :param next_try: the counts of the next one, after the leases of the dead process.
    :param width: POSTs at once.
    :param answers: seconds until Sendoso answers a POST, one after the other; ``None`` for a 429.
    :param resends: whether the killed try sends again what is absent.
    """

    at: str
    states: dict[str, int]
    accepted: int
    next_try: dict[str, int]
    width: int = 1
    answers: tuple[float | None, ...] = ()
    resends: bool = field(default=False, kw_only=True)

    def __str__(self) -> str:
        return f"{self.at}-{self.width}-at-once{'-resending' if self.resends else ''}"


ALL_SENT = {"sent": 5}
ONE_HELD = {"sent": 4, "held": 1}

WHILE_SENDING = [
    Kill("claimed", {"CLAIMED": 5}, 0, ALL_SENT),
    Kill("slot-taken:3", {"SENT": 2, "CLAIMED": 3}, 2, ALL_SENT),
    # Sendoso never received the third, but the run cannot know this: it looks for the send, and holds it.
    Kill("posting-committed:3", {"SENT": 2, "POSTING": 1, "CLAIMED": 2}, 2, ONE_HELD),
    # The ledger says the same, but Sendoso has accepted the send: its mark finds it.
    Kill("posted:3", {"SENT": 2, "POSTING": 1, "CLAIMED": 2}, 3, ALL_SENT),
    Kill("outcome-committed:3", {"SENT": 3, "CLAIMED": 2}, 3, ALL_SENT),
    Kill("put-off", {"SENT": 2, "CLAIMED": 3}, 2, ALL_SENT, 1, (0, 0, None)),
    Kill("released", {"SENT": 5}, 5, ALL_SENT),
    # The first goes alone until it is answered, the other four at once.
    Kill("claimed", {"CLAIMED": 5}, 0, ALL_SENT, 4),
    Kill("slot-taken:5", {"SENT": 1, "POSTING": 3, "CLAIMED": 1}, 4, ALL_SENT, 4, (0, *AT_LAST)),
    Kill("posting-committed:5", {"SENT": 1, "POSTING": 4}, 4, ONE_HELD, 4, (0, *AT_LAST)),
    Kill("posted:2", {"SENT": 1, "POSTING": 4}, 5, ALL_SENT, 4, (0, 0, *AT_LAST)),
    Kill("outcome-committed:2", {"SENT": 2, "POSTING": 3}, 5, ALL_SENT, 4, (0, 0, *AT_LAST)),
    Kill("put-off", {"SENT": 1, "POSTING": 3, "CLAIMED": 1}, 4, ALL_SENT, 4, (0, *AT_LAST, None)),
    Kill("released", {"SENT": 5}, 5, ALL_SENT, 4),
]

# Of two earlier sends of unknown outcome, Sendoso has accepted one.
WHILE_LOOKING = [Kill("found", {"SENT": 4, "UNKNOWN": 1}, 4, ONE_HELD, width) for width in (1, 4)] + [
    kill
    for width in (1, 4)
    for kill in (
        Kill("reconciled", {"SENT": 4, "HELD": 1}, 4, ONE_HELD, width),
        Kill("reopened", {"SENT": 4, "READY": 1}, 4, ALL_SENT, width, resends=True),
        Kill("slot-taken", {"SENT": 4, "CLAIMED": 1}, 4, ALL_SENT, width, resends=True),
        Kill("posting-committed", {"SENT": 4, "POSTING": 1}, 4, ONE_HELD, width, resends=True),
        Kill("posted", {"SENT": 4, "POSTING": 1}, 5, ALL_SENT, width, resends=True),
    )
]


@pytest.fixture
def killed(sendoso: Sandbox, ledger: dict[str, Any], forkserver: ForkServerContext) -> Callable[[Kill], None]:
    """Runs a try in a process of its own, until it has killed itself."""

    def run(kill: Kill, timeout: float = TIMEOUT, **changes: Any) -> None:
        connections = {
            "sendoso_default": sendoso_connection(sendoso, requests_per_second=1000, timeout=timeout, scope=SCOPES),
            "sendoso_ledger": ledger,
        }
        for delay in kill.answers:
            if delay is None:
                sendoso.fault("throttle", method="POST", path=SENDS, retry_after=1)
            else:
                sendoso.fault("slow", method="POST", path=SENDS, delay=delay)
        changes["max_in_flight"] = kill.width
        if kill.resends:
            changes |= {"on_absent": "resend", "settle_time": 0}
        accepted = kill.accepted if kill.width > 1 else 0
        process = forkserver.Process(target=die, args=(connections, kill.at, changes, accepted))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        sendoso.clear_faults()

    return run


def decided() -> list[Resolution]:
    """All recorded resolutions, by searches and by people, in any order."""
    ledger = SendosoHook().ledger
    return [one for record in ledger.sends.records(*State) for one in ledger.resolutions.history(record.send_key)]


def everybody_gets_one_in_the_end(sendoso: Sandbox, send: Callable[..., Try], later: Callable[[], None]) -> None:
    later()
    assert send(on_absent="resend", settle_time=0) == Try("", ALL_SENT)
    assert send(run_id="run-2") == Try("", {"already_sent": 5})
    assert len(sendoso.sends) == 5
    assert sendoso.duplicates() == {}


@pytest.mark.parametrize("kill", WHILE_SENDING, ids=str)
def test_a_try_that_is_killed_while_it_sends_is_finished_by_the_next(
    sendoso: Sandbox,
    send: Callable[..., Try],
    states: Callable[[], dict[str, int]],
    an_hour_later: Callable[[], None],
    killed: Callable[[Kill], None],
    kill: Kill,
) -> None:
    killed(kill)
    assert states() == kill.states
    assert len(sendoso.sends) == kill.accepted
    # To other runs the process counts as alive until its leases have lapsed.
    sent = kill.states.get("SENT", 0)
    too_early = send(claim_timeout=0, run_id="run-2")
    assert too_early.counts == {name: n for name, n in {"already_sent": sent, "not_reached": 5 - sent}.items() if n}
    assert states() == kill.states
    an_hour_later()
    assert send() == Try("SendHeldError" if "held" in kill.next_try else "", kill.next_try)
    assert len(sendoso.sends) == kill.next_try["sent"]
    assert len(decided()) == kill.accepted - sent  # each was found by its mark
    assert {one.to_state for one in decided()} <= {State.SENT}
    everybody_gets_one_in_the_end(sendoso, send, an_hour_later)


OTHER_KINDS: dict[str, dict[str, Any]] = {
    "campaign": {"gift_id": None, "touch_id": 102, "message": None},
    "marketplace": {"gift_id": None, "marketplace_variant_id": "var-tea"},
    "smart_send": {"gift_id": None, "smart_send": True, "price_lte_usd": 50},
}
POINTS = ("posting-committed:3", "posted:3", "outcome-committed:3")


@pytest.mark.parametrize("kind", OTHER_KINDS)
@pytest.mark.parametrize("kill", [kill for kill in WHILE_SENDING if kill.width == 1 and kill.at in POINTS], ids=str)
def test_a_try_of_another_kind_that_is_killed_while_it_sends_is_finished_by_the_next(
    sendoso: Sandbox,
    send: Callable[..., Try],
    states: Callable[[], dict[str, int]],
    an_hour_later: Callable[[], None],
    set_connection: Callable[..., None],
    killed: Callable[..., None],
    kill: Kill,
    kind: str,
) -> None:
    arguments = OTHER_KINDS[kind]
    connection = sendoso_connection(sendoso, requests_per_second=1000, timeout=TIMEOUT, scope=SCOPES)
    set_connection("sendoso_default", connection)
    killed(kill, **arguments)
    assert states() == kill.states
    assert len(sendoso.campaign_sends()) == kill.accepted
    settled = {"on_absent": "resend", "settle_time": 0, **arguments}
    # A send that the list does not show is held; then it is proven absent, because the list shows the other sends.
    an_hour_later()
    assert send(**arguments) == Try("SendHeldError" if "held" in kill.next_try else "", kill.next_try)
    an_hour_later()
    assert send(**settled) == Try("", ALL_SENT)
    assert send(run_id="run-2", **settled) == Try("", {"already_sent": 5})
    assert len(sendoso.campaign_sends()) == 5


@pytest.mark.parametrize("kill", WHILE_LOOKING, ids=str)
def test_a_try_that_is_killed_while_it_looks_for_unknown_sends_is_finished_by_the_next(
    sendoso: Sandbox,
    send: Callable[..., Try],
    states: Callable[[], dict[str, int]],
    an_hour_later: Callable[[], None],
    killed: Callable[[Kill], None],
    kill: Kill,
) -> None:
    sendoso.fault("drop_after", method="POST", path=SENDS)
    sendoso.fault("drop_before", method="POST", path=SENDS)
    sendoso.fault("error_before", times=100, method="GET", path=SENDS)
    assert send() == Try("SendHeldError", {"sent": 3, "held": 2})
    assert states() == {"SENT": 3, "UNKNOWN": 2}
    sendoso.clear_faults()
    an_hour_later()
    killed(kill)
    assert states() == kill.states
    assert len(sendoso.sends) == kill.accepted
    an_hour_later()
    assert send() == Try("SendHeldError" if "held" in kill.next_try else "", kill.next_try)
    everybody_gets_one_in_the_end(sendoso, send, an_hour_later)


LIMITS: dict[str, Any] = {"scope_max_sends": 5, "min_days_between_gifts": 90}


def the_limit_is_kept_and_used_up(
    sendoso: Sandbox, send: Callable[..., Try], later: Callable[[], None], states: dict[str, int], accepted: int
) -> None:
    """Let five others, and then the people of the killed try, have what it has left of a limit of five."""
    reserved = states.get("SENT", 0) + states.get("POSTING", 0) + states.get("UNKNOWN", 0) + states.get("HELD", 0)
    later()
    others = send(people(10)[5:], run_id="others", **LIMITS)
    expected = {"sent": 5 - reserved, "not_reached": reserved}
    assert others == Try("SendosoLimitError" if reserved else "", {name: n for name, n in expected.items() if n})
    again = send(**LIMITS)
    assert again.counts.get("sent", 0) == accepted, "the killed try has no place but those that it has used"
    assert again.counts.get("held", 0) == reserved - accepted
    later()
    # What is proven absent gives its place back, which the first row that has none takes.
    last = send(on_absent="resend", settle_time=0, **LIMITS)
    assert last.counts.get("sent", 0) == reserved
    assert last == Try("SendosoLimitError" if reserved < 5 else "", last.counts)
    assert send(people(10)[5:], run_id="others", **LIMITS).counts == others.counts
    assert len(sendoso.sends) == 5
    assert sendoso.duplicates() == {}


def some_slow(kills: list[Kill], *quick: str) -> list[Any]:
    """The kills whose places in a limit differ most, and the others for make test-slow."""
    return [pytest.param(kill, marks=() if str(kill) in quick else pytest.mark.slow, id=str(kill)) for kill in kills]


@pytest.mark.parametrize(
    "kill",
    some_slow(
        WHILE_SENDING,
        "claimed-1-at-once",
        "posting-committed:3-1-at-once",
        "outcome-committed:3-1-at-once",
        "put-off-1-at-once",
        "posted:2-4-at-once",
    ),
)
def test_a_try_that_is_killed_while_it_sends_keeps_a_limit_and_leaves_the_rest_of_it(
    sendoso: Sandbox,
    send: Callable[..., Try],
    states: Callable[[], dict[str, int]],
    an_hour_later: Callable[[], None],
    killed: Callable[..., None],
    kill: Kill,
) -> None:
    killed(kill, **LIMITS)
    assert states() == kill.states
    assert len(sendoso.sends) == kill.accepted
    the_limit_is_kept_and_used_up(sendoso, send, an_hour_later, kill.states, kill.accepted)


@pytest.mark.parametrize(
    "kill", some_slow(WHILE_LOOKING, "reopened-1-at-once-resending", "posting-committed-1-at-once-resending")
)
def test_a_try_that_is_killed_while_it_looks_for_unknown_sends_keeps_a_limit(
    sendoso: Sandbox,
    send: Callable[..., Try],
    states: Callable[[], dict[str, int]],
    an_hour_later: Callable[[], None],
    killed: Callable[..., None],
    kill: Kill,
) -> None:
    sendoso.fault("drop_after", method="POST", path=SENDS)
    sendoso.fault("drop_before", method="POST", path=SENDS)
    sendoso.fault("error_before", times=100, method="GET", path=SENDS)
    assert send(**LIMITS) == Try("SendHeldError", {"sent": 3, "held": 2})
    sendoso.clear_faults()
    an_hour_later()
    killed(kill, **LIMITS)
    assert states() == kill.states
    the_limit_is_kept_and_used_up(sendoso, send, an_hour_later, kill.states, kill.accepted)


@pytest.mark.parametrize("shortened", [10.0], ids=["patiently"])
def test_a_try_that_ends_at_its_limit_has_found_what_the_killed_one_had_posted(
    sendoso: Sandbox, send: Callable[..., Try], killed: Callable[..., None]
) -> None:
    """At once after the kill, while the lease of what the killed try was posting lasts."""
    limit = {"scope_max_sends": 3, "lease": 10}
    killed(Kill("posted:3", {}, 3, {}), timeout=10, **limit)  # the lease of a POST is longer than its time-out
    assert send(**limit) == Try("SendosoLimitError", {"sent": 3, "not_reached": 2})
    assert len(sendoso.sends) == 3


def test_every_crash_point_of_the_code_is_tested() -> None:
    package = Path(airflow_provider_sendoso.__file__).parent
    named = {
        name
        for path in package.rglob("*.py")
        for name in re.findall(r'^ +crash_point\("([^"]+)"\)', path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    of_tokens = {name for name in named if name.startswith("token-")}  # in tests/tokens
    tried = {kill.at.partition(":")[0] for kill in WHILE_SENDING + WHILE_LOOKING}
    assert named - of_tokens == tried
    tokens = "\n".join(path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].glob("tokens/test_*.py"))
    assert [name for name in of_tokens if f'"{name}"' not in tokens] == []
