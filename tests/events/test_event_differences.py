"""Finding new rows in a list: each is found once and none is missed, in any order, while the list grows."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_sendoso.client.answers import Answer
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.events import differences as module
from airflow_provider_sendoso.events.differences import WATCHED_FOR, Cursor, ListedRow, Question, Reading, Taken, poll
from airflow_provider_sendoso.events.words import OBJECTS, STATUSES
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoError
from airflow_provider_sendoso.models import SendStatus

WORDS = ("pending", "processing", "shipped", "delivered")
START = 1_760_000_000.0


@dataclass
class World:
    """A list of Sendoso's; each page shows the list as it is at that moment."""

    order: str = "newest first"
    counted: bool = True
    per_page: int = 5
    seed: int = 0
    name: str = "sends"
    now: float = START
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    history: dict[str, list[int]] = field(default_factory=dict)
    meanwhile: list[Any] = field(default_factory=list)
    """What happens between two pages."""
    pages: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def create(self, count: int = 1, step: int = 0) -> list[str]:
        made = []
        for _ in range(count):
            self.now += self.random.random() * 20
            row_id = f"{self.random.randrange(10**9):09}"  # not monotonic
            # Moments come in seconds, and not quite in the order of the list.
            created = int(self.now - self.random.random() * 60)
            self.rows[row_id] = {
                "id": row_id,
                "created_at": datetime.fromtimestamp(created, UTC).isoformat(),
                "at": (created, row_id) if self.order == "newest first" else self.random.random(),
                "number": len(self.rows),
            }
            self.history[row_id] = [step]
            made.append(row_id)
        return made

    def go_on(self, share: float) -> None:
        for steps in self.history.values():
            if steps[-1] < 3 and self.random.random() < share:
                steps.append(min(3, steps[-1] + self.random.choice((1, 1, 2, 3))))

    def page(self, request: Request) -> Answer:
        if self.meanwhile:
            self.meanwhile.pop(0)()
        self.pages += 1
        key = {"newest first": lambda row: -row["number"], "oldest first": lambda row: row["number"]}
        rows = sorted(self.rows.values(), key=key.get(self.order, lambda row: row["at"]))
        first = (request.params["page"] - 1) * self.per_page
        shown = [
            {"id": row["id"], "created_at": row["created_at"], "status": WORDS[self.history[row["id"]][-1]]}
            for row in rows[first : first + self.per_page]
        ]
        body = {"sends" if self.name == "send" else self.name: shown, "per_page": self.per_page}
        if self.counted:
            body["total_count"] = len(rows)
        return Answer(200, {}, json.dumps(body).encode())


def read(world: World, cursor: Cursor, question: Question) -> Reading:
    steps = poll(cursor, question, lambda: world.now)
    try:
        request = next(steps)
        while True:
            request = steps.send(world.page(request))
    except StopIteration as stop:
        reading: Reading = stop.value
        return reading


def look(world: World, cursor: Cursor, question: Question, most: int = 100) -> Taken:
    """Poll, and keep the cursor as it is kept: as JSON."""
    taken = cursor.take(question, read(world, cursor, question), world.now, most)
    return Taken(stored(taken.cursor), taken.events, taken.left, taken.given_up, taken.gone)


def stored(cursor: Cursor) -> Cursor:
    return Cursor.from_json(json.loads(json.dumps(cursor.as_json())))


BOTH = Question.parse("sends", ("created", "status_changed"))
CREATED = Question.parse("sends", ("created",))


# -- every event once
# -----------------------------------------------------------------------------------------------------------


what_happens = given(
    order=st.sampled_from(["newest first", "oldest first", "shuffled"]),
    counted=st.booleans(),
    per_page=st.integers(1, 7),
    seed=st.integers(0, 10**6),
    before=st.integers(0, 30),
    most=st.sampled_from([2, 3, 100]),
    steps=st.lists(
        st.tuples(
            st.integers(0, 8),  # sends made before a poll
            st.floats(0, 1),  # how many of all sends go on
            st.sampled_from([0.0, 60.0, 3600.0, 86400.0]),  # time that passes
            st.lists(st.booleans(), max_size=6),  # whether something happens between two pages
        ),
        max_size=6,
    ),
)


@pytest.mark.parametrize("examples", [100, pytest.param(300, marks=pytest.mark.slow)])
def test_every_event_comes_once(examples: int) -> None:
    settings(max_examples=examples)(what_happens(every_event_comes_once))()


def every_event_comes_once(
    order: str, counted: bool, per_page: int, seed: int, before: int, most: int, steps: list[Any]
) -> None:
    counted |= order != "newest first"  # otherwise nobody could know
    world = World(order, counted, per_page, seed)
    world.create(before)
    world.go_on(0.5)
    first = look(world, Cursor(), BOTH)
    assert first.events == []
    known = {row_id: world.history[row_id][-1] for row_id in world.rows}
    cursor, events = first.cursor, []
    for made, share, pause, busy in steps:
        world.now += pause
        world.create(made)
        world.go_on(share)
        world.meanwhile = [
            (lambda: (world.create(2), world.go_on(0.3))) if happens else (lambda: None) for happens in busy
        ]
        taken = look(world, cursor, BOTH, most)
        world.meanwhile = []
        cursor, events = taken.cursor, events + taken.events
        assert len(taken.events) <= most
    left = 1
    while left:
        taken = look(world, cursor, BOTH, most)
        cursor, events, left = taken.cursor, events + taken.events, taken.left
    taken = look(world, cursor, BOTH, most)
    cursor, events = taken.cursor, events + taken.events
    assert look(world, cursor, BOTH).events == []

    created = Counter(event["id"] for event in events if event["event"] == "created")
    assert created == Counter(world.rows.keys() - known.keys())
    changes = defaultdict(list)
    for event in events:
        if event["event"] == "status_changed":
            changes[event["id"]].append(event["status"])
    for row_id, passed in world.history.items():
        begin, end = known.get(row_id, 0), passed[-1]
        told = [WORDS.index(status) for status in changes[row_id]]
        assert told == sorted(set(told)), "a status twice"
        assert (told[-1] if told else begin) == end
        assert begin not in told


@pytest.mark.parametrize("name", ["touches", "groups", "return-addresses", "users"])
def test_a_list_without_dates_is_read_whole_and_compared_by_id(name: str) -> None:
    world, question = World("shuffled", name=name), Question.parse(name, "created")
    world.create(12)
    cursor = look(world, Cursor(), question).cursor
    made = world.create(3)
    taken = look(world, cursor, question)
    assert {event["id"] for event in taken.events} == set(made)
    assert set(taken.events[0]) == {"object", "id", "event", "occurred_at"}
    gone = world.rows.pop(made[0])
    cursor = look(world, taken.cursor, question).cursor
    world.rows[made[0]] = gone  # a campaign that is active again is not another one
    assert look(world, cursor, question).events == []


# -- how far it reads --------------------------------------------------------------------------------------------------


def test_a_list_that_is_newest_first_is_not_read_to_its_end() -> None:
    world = World(per_page=100)
    world.create(2000, step=3)
    cursor = look(world, Cursor(), CREATED).cursor
    world.now += 3600
    cursor = look(world, cursor, CREATED).cursor
    world.now += 3600
    world.create(3)
    world.pages = 0
    assert len(look(world, cursor, CREATED).events) == 3
    assert world.pages <= 3


def test_the_list_is_read_up_to_the_oldest_send_under_way() -> None:
    world, changes = World(per_page=100), Question.parse("sends", "status_changed")
    (old,) = world.create(1, step=2)
    world.create(1000, step=3)
    cursor = look(world, Cursor(), changes).cursor
    assert list(cursor.watched) == [old]
    world.history[old].append(3)
    taken = look(world, cursor, changes)
    assert [(event["id"], event["previous_status"], event["status"]) for event in taken.events] == [
        (old, "shipped", "delivered")
    ]
    world.now += 3600
    cursor = look(world, taken.cursor, changes).cursor
    world.pages = 0
    look(world, cursor, changes)
    assert world.pages < 5


def test_a_list_whose_total_grew_by_more_than_was_found_is_read_on() -> None:
    world = World("newest first", per_page=10)
    world.create(300, step=3)
    cursor = look(world, look(world, Cursor(), CREATED).cursor, CREATED).cursor
    world.now += 86_400
    (hidden,) = world.create(1)
    world.rows[hidden]["number"] = -5  # new, and at the very end
    assert [event["id"] for event in look(world, cursor, CREATED).events] == [hidden]


def test_a_list_that_is_too_long_and_in_no_order_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PAGES", 3)
    world = World("oldest first")
    world.create(50)
    world.now += 86_400
    with pytest.raises(SendosoError, match=r"15 rows of sends were read.*not newest first.*No event was passed over"):
        look(world, Cursor(), CREATED)


def test_sends_too_far_back_in_the_list_are_given_up_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world, changes = World(), Question.parse("sends", "status_changed")
    (old,) = world.create(1)
    cursor = look(world, Cursor(), changes).cursor
    for _ in range(3):
        world.now += 86_400
        world.create(20, step=3)
        cursor = look(world, cursor, changes).cursor
    monkeypatch.setattr(module, "MOST_PAGES", 10)
    world.now += 86_400
    world.create(3, step=3)
    taken = look(world, cursor, changes)
    assert "no further" in caplog.text
    assert (taken.given_up, old in taken.cursor.watched) == (1, False)


def test_a_row_that_appears_late_is_found_by_the_next_reading() -> None:
    world = World(per_page=100)
    world.create(3)
    cursor = look(world, Cursor(), CREATED).cursor
    world.now += 86_400
    (late,) = world.create(1)
    row = world.rows.pop(late)
    world.now += 3600
    (made,) = world.create(1)
    taken = look(world, cursor, CREATED)
    assert [event["id"] for event in taken.events] == [made]
    world.rows[late] = row
    assert [event["id"] for event in look(world, taken.cursor, CREATED).events] == [late]


def test_rows_that_are_a_little_out_of_order_do_not_end_a_walk_too_soon() -> None:
    cursor = Cursor(began=True, floor=START)
    reading = Reading()
    reading.add([ListedRow("new", START + 100)])
    reading.add([ListedRow("old", START - 60)])
    assert not cursor.is_answered(CREATED, reading, START + 200)
    reading.add([ListedRow("new, too", START + 50)])
    reading.add([ListedRow("very old", START - 1000)])
    assert cursor.is_answered(CREATED, reading, START + 200)


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_the_cursor_does_not_grow_with_the_list() -> None:
    world = World(per_page=100)
    cursor = Cursor()
    sizes = []
    for _ in range(6):
        world.now += 86_400
        world.create(300, step=3)
        cursor = look(world, cursor, BOTH, most=1000).cursor
        sizes.append(len(json.dumps(cursor.as_json())))
    assert max(sizes) < 2.5 * sizes[0] + 20_000
    assert len(cursor.seen) < 700


def test_a_send_is_watched_for_a_time_only() -> None:
    world = World(per_page=100)
    world.create(1)
    cursor = look(world, Cursor(), BOTH).cursor
    world.now += WATCHED_FOR + 100
    world.create(1, step=3)
    taken = look(world, cursor, BOTH)
    assert (taken.given_up, taken.cursor.watched) == (1, {})


def test_of_too_many_watched_sends_the_oldest_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WATCHED", 10)
    world = World(per_page=100)
    made = world.create(15)
    taken = look(world, Cursor(), BOTH)
    assert taken.given_up == 5
    assert set(taken.cursor.watched) < set(made)


def test_a_send_that_is_gone_is_no_longer_watched() -> None:
    world = World()
    (gone,) = world.create(1)
    cursor = look(world, Cursor(), BOTH).cursor
    del world.rows[gone]
    taken = look(world, cursor, BOTH)
    assert (taken.gone, taken.cursor.watched, taken.events) == (1, {}, [])


def test_a_list_without_dates_that_is_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SEEN", 10)
    world = World(name="users")
    world.create(11)
    with pytest.raises(SendosoError, match="users holds more than 10 rows"):
        look(world, Cursor(), Question.parse("users", "created"))


# -- what is asked -----------------------------------------------------------------------------------------------------


def test_only_the_statuses_that_are_asked_for_are_events() -> None:
    world, delivered = World(), Question.parse("sends", "status_changed", ["delivered"])
    one, two = world.create(2)
    cursor = look(world, Cursor(), delivered).cursor
    world.history[one].append(2)
    world.history[two].append(3)
    taken = look(world, cursor, delivered)
    assert [event["id"] for event in taken.events] == [two]
    world.history[one].append(3)
    assert [event["id"] for event in look(world, taken.cursor, delivered).events] == [one]


def test_since_makes_events_of_what_the_first_poll_finds() -> None:
    world = World()
    world.create(20)
    world.now += 3600
    moment = world.now
    world.now += 120
    made = world.create(7)
    question = Question.parse("sends", "created", since=datetime.fromtimestamp(moment, UTC))
    taken = look(world, Cursor(), question, most=4)
    assert (len(taken.events), taken.left) == (4, 3)
    again = look(world, taken.cursor, question)
    assert {event["id"] for event in taken.events + again.events} == set(made)
    assert look(world, again.cursor, question).events == []


def test_since_takes_the_times_of_changes_from_the_send_tracker() -> None:
    question = Question.parse("campaign_sends", ("created", "status_changed"), since=START)
    rows = [ListedRow(str(number), START - 5000, SendStatus.SHIPPED, START + number - 3) for number in range(10)]
    reading = Reading()
    reading.add(rows)
    reading.whole = True
    taken = Cursor().take(question, reading, START + 100, 3)
    events = list(taken.events)
    while taken.left:
        taken = stored(taken.cursor).take(question, reading, START + 100, 3)
        events += taken.events
    assert sorted(event["id"] for event in events) == ["3", "4", "5", "6", "7", "8", "9"]
    assert {event["event"] for event in events} == {"status_changed"}


def test_a_cursor_that_begins_to_follow_takes_the_sends_as_they_are() -> None:
    world = World()
    (one, _) = world.create(2)
    cursor = look(world, Cursor(), CREATED).cursor
    assert cursor.watched == {}
    taken = look(world, cursor, BOTH)
    assert (taken.events, len(taken.cursor.watched)) == ([], 2)
    world.history[one].append(3)
    assert [event["id"] for event in look(world, taken.cursor, BOTH).events] == [one]


def test_words_of_the_send_tracker_are_statuses_and_an_unknown_word_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    question = Question.parse("campaign_sends", "status_changed")

    def row(word: Any, *updates: tuple[str, str]) -> ListedRow:
        item = {"id": 1, "created_at": "2026-01-01T00:00:00Z", "status": word}
        item["status_updates"] = [{"status": status, "occurred_at": at} for status, at in updates]
        found = module._row(question, item)
        assert found is not None
        return found

    assert row("Order Received").status == "pending"
    assert row("redeemed").status == "delivered"
    assert [row("teleporting").status, row("teleporting").status] == ["processing"] * 2
    assert caplog.text.count("teleporting") == 1
    days = (("clicked", 3), ("sent", 1), ("opened", 2))
    updates = [(word, f"2026-01-0{day}T00:00:00Z") for word, day in days]
    assert row("clicked", *updates).changed_at == datetime(2026, 1, 2, tzinfo=UTC).timestamp()
    assert row("clicked").changed_at is None


def test_events_have_no_personal_data() -> None:
    world = World(name="send")
    question = Question.parse("campaign_sends", ("created", "status_changed"))
    cursor = look(world, Cursor(), question).cursor
    world.create(1, step=2)
    taken = look(world, cursor, question)
    (created, changed) = taken.events
    assert set(created) == {"object", "id", "event", "status", "occurred_at"}
    assert set(changed) == {*created, "previous_status"}
    assert taken.report(question) == {
        "object": "campaign_sends",
        "counts": {"created": 1, "status_changed": 1},
        "left": 0,
        "events": taken.events,
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gifts", "created"), "object holds 'gifts'; it takes touches"),
        (("sends", ()), "events is empty"),
        (("sends", "made"), "events holds 'made'; it takes created, status_changed"),
        (("touches", "status_changed"), "only sends and campaign_sends have a status"),
        (("sends", "status_changed", ["arrived"]), "statuses holds 'arrived'; it takes pending"),
        (("sends", "created", ["delivered"]), "without 'status_changed'"),
        (("users", "created", (), "2026-01-01"), "users have no date"),
        (("sends", "created", (), "yesterday"), "since is 'yesterday'"),
    ],
)
def test_an_unknown_object_event_or_status_is_refused(arguments: Any, words: str) -> None:
    with pytest.raises(SendosoConfigError, match=words):
        Question.parse(*arguments)


def test_the_statuses_of_events_are_those_of_sends() -> None:
    assert tuple(SendStatus) == STATUSES


@pytest.mark.parametrize("name", OBJECTS)
def test_every_object_has_created_events(name: str) -> None:
    assert Question.parse(name, ["created"], (), " ").since is None


def test_a_cursor_of_another_version_is_refused() -> None:
    with pytest.raises(SendosoError, match="another version"):
        Cursor.from_json({"version": 99})
