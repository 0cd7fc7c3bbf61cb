"""The rules of a wait: which sends are asked about in a round, and when the wait is over."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from airflow_provider_sendoso.client.answers import Answer
from airflow_provider_sendoso.exceptions import (
    SendosoAuthError,
    SendosoConfigError,
    SendosoError,
    SendosoNotFoundError,
    SendosoServerError,
)
from airflow_provider_sendoso.models import SendStatus, StatusReport
from airflow_provider_sendoso.waiting.goal import Goal, good_enough
from airflow_provider_sendoso.waiting.rounds import FEW, look
from airflow_provider_sendoso.waiting.watch import TRANSIENT_FAILURES, Watch, Watched, pause

DEFAULT = Goal.parse(["delivered"], ["failed", "returned"])


def reported(status: str | None) -> StatusReport | None:
    return None if status is None else StatusReport.of(status)


class TestGoal:
    def test_a_goal_is_parsed_from_words_and_statuses(self):
        goal = Goal.parse(("shipped", SendStatus.DELIVERED), "failed")
        assert goal.targets == (SendStatus.SHIPPED, SendStatus.DELIVERED)
        assert goal.failed == (SendStatus.FAILED,)

    @pytest.mark.parametrize(
        ("targets", "failed", "words"),
        [
            (["lost"], [], "target_statuses has 'lost', which is neither a status .* nor a word of Sendoso's"),
            (["delivered"], ["gone"], "failed_statuses has 'gone', which is neither"),
            ([], ["failed"], "target_statuses is empty"),
        ],
    )
    def test_a_word_that_is_not_a_status_is_refused(self, targets, failed, words):
        with pytest.raises(SendosoConfigError, match=words):
            Goal.parse(targets, failed)

    @pytest.mark.parametrize(
        ("status", "settled", "missed"),
        [
            ("pending", False, None),
            ("processing", False, None),
            ("shipped", False, None),
            ("delivered", True, False),
            ("failed", True, True),
            ("returned", True, True),
        ],
    )
    def test_the_default_goal_is_reached_by_delivered_and_missed_by_failed_and_returned(self, status, settled, missed):
        status = reported(status)
        assert DEFAULT.settled(status) is settled
        assert missed is None or DEFAULT.missed(status) is missed

    @pytest.mark.parametrize(
        ("targets", "failed", "status", "settled", "missed"),
        [
            (["shipped"], ["failed", "returned"], "shipped", True, False),
            (["shipped"], ["failed", "returned"], "delivered", True, False),
            (["shipped"], ["failed", "returned"], "processing", False, None),
            (["delivered"], ["failed"], "returned", True, True),
            (["failed"], ["failed", "returned"], "failed", True, False),
            (["failed"], ["returned"], "delivered", True, True),
            (["delivered"], ["processing"], "processing", True, True),
            (["delivered"], [], "failed", True, False),
            (["delivered"], [], "returned", True, False),
            (["delivered"], [], "shipped", False, None),
        ],
    )
    def test_targets_and_failed_statuses_decide_what_settles_a_send(self, targets, failed, status, settled, missed):
        goal, status = Goal.parse(targets, failed), reported(status)
        assert goal.settled(status) is settled
        assert missed is None or goal.missed(status) is missed

    def test_a_send_not_looked_at_yet_is_not_settled(self):
        assert not DEFAULT.settled(None)
        assert not Goal.parse(["pending"], []).settled(None)


class TestHost:
    @pytest.mark.parametrize("targets", [["delivered"], ["shipped", "delivered"], ["failed"]])
    def test_a_target_beyond_processing_is_refused_on_the_vendors_sandbox(self, targets):
        with pytest.raises(SendosoConfigError, match="never pass 'processing'"):
            Goal.parse(targets, []).check_host("https://app.staging.sendo.so")

    @pytest.mark.parametrize("targets", [["processing"], ["pending"], ["processing", "delivered"]])
    def test_a_target_up_to_processing_is_allowed_on_the_vendors_sandbox(self, targets):
        Goal.parse(targets, []).check_host("https://app.staging.sendo.so")

    @pytest.mark.parametrize("host", ["https://app.sendoso.com", "http://127.0.0.1:8765"])
    def test_every_target_is_allowed_on_other_hosts(self, host):
        DEFAULT.check_host(host)


def watch(**statuses: str | None) -> Watch:
    return Watch({n: Watched(0.0, reported(s)) for n, s in statuses.items()})


class TestWatch:
    def test_adding_sends_keeps_what_is_known_of_the_others(self):
        ours = watch(a="shipped")
        ours.add(["a", "b", "b"], 7.0)
        assert ours.sends == {"a": Watched(0.0, reported("shipped")), "b": Watched(7.0)}

    def test_open_lists_the_sends_that_are_not_settled(self):
        assert watch(a=None, b="shipped", c="delivered", d="failed").open(DEFAULT) == ["a", "b"]

    def test_counts_groups_the_sends_by_status(self):
        ours = watch(a=None, b="shipped", c="shipped", d=None)
        ours.sends["d"].not_found = True
        assert ours.counts() == {"unknown": 1, "shipped": 2, "not_found": 1}

    def test_a_report_has_counts_failures_and_statuses(self):
        ours = watch(a=None, b="shipped", c="delivered", d="failed", e=None)
        ours.sends["e"].not_found = True
        assert ours.report(DEFAULT, named=True) == {
            "sends": 5,
            "reached": 1,
            "counts": {"unknown": 1, "shipped": 1, "delivered": 1, "failed": 1, "not_found": 1},
            "failed": 2,
            "failed_ids": ["d", "e"],
            "on_hold": 0,
            "on_hold_ids": [],
            "statuses": {"b": "shipped", "c": "delivered", "d": "failed", "e": "not_found"},
            "status_words": {"b": "shipped", "c": "delivered", "d": "failed"},
        }

    def test_a_report_of_many_names_a_hundred_and_counts_the_rest(self):
        ours = watch(**{f"s{number}": "returned" for number in range(101)})
        for named in (True, False):
            report = ours.report(DEFAULT, named=named)
            assert (report["failed"], len(report["failed_ids"]), report["statuses"]) == (101, 100, None)

    def test_a_report_without_sends_is_empty(self):
        assert Watch().report(DEFAULT, named=False) == {
            "sends": 0,
            "reached": 0,
            "counts": {},
            "failed": 0,
            "failed_ids": [],
            "on_hold": 0,
            "on_hold_ids": [],
            "statuses": None,
            "status_words": None,
        }

    def test_without_failed_statuses_only_a_send_that_is_not_found_fails(self):
        goal = Goal.parse(["delivered"], [])
        ours = watch(a="failed", b="delivered", c=None)
        ours.sends["c"].not_found = True
        report = ours.report(goal, named=True)
        assert (report["failed"], report["reached"]) == (1, 1)

    @pytest.mark.parametrize(
        ("here", "there", "known"),
        [
            (None, None, (None, None)),
            (None, ("shipped", 5.0), ("shipped", 5.0)),
            (("pending", 3.0), ("shipped", 5.0), ("shipped", 5.0)),
            (("delivered", 7.0), ("shipped", 5.0), ("delivered", 7.0)),
            (("pending", 3.0), None, ("pending", 3.0)),
        ],
    )
    def test_the_later_of_two_looks_at_a_send_counts(self, here, there, known):
        ours = Watch()
        if here:
            ours.add(["a"], 0.0)
            ours.note("a", reported(here[0]), here[1])
        ours.recall("a", reported(there[0]) if there else None, 1.0, there[1] if there else None)
        assert (ours.sends["a"].status, ours.sends["a"].asked_at) == known
        assert ours.sends["a"].made_at == 1.0


ROUND, HOUR, DAY = 300.0, 3600.0, 86_400.0

PAUSES = [
    # status, age, seconds between rounds; how long it is left alone
    ("pending", 0, ROUND, 2 * ROUND),
    ("pending", 30 * 60, ROUND, 2 * ROUND),
    ("pending", 2 * HOUR, ROUND, HOUR / 2),
    ("processing", 2 * HOUR, ROUND, HOUR / 2),
    ("processing", DAY, ROUND, HOUR),
    ("shipped", 0, ROUND, HOUR),
    ("shipped", 9 * DAY, ROUND, HOUR),
    (None, 0, ROUND, 2 * ROUND),
    # everything scales with the rounds …
    ("pending", 0, 1, 2),
    ("shipped", 0, 1, 12),
    ("shipped", DAY, 60, 12 * 60),
    # … and whoever wants to look rarely is asked rarely
    ("pending", 0, HOUR, HOUR),
    ("shipped", 0, 2 * HOUR, 2 * HOUR),
    ("processing", 9 * DAY, DAY, DAY),
]


@pytest.mark.parametrize(("status", "age", "every", "seconds"), PAUSES)
def test_the_pause_before_the_next_look_depends_on_status_and_age(status, age, every, seconds):
    assert pause(SendStatus(status) if status else None, age, every) == seconds


def simulate(fate, rounds, every=ROUND, others=1):
    """In which rounds a send among others is asked whose status is what ``fate`` says of its age."""
    ours, asked = Watch(), []
    ours.add(["ours", *(f"other-{number}" for number in range(others))], 0.0)
    for number in range(rounds):
        now = number * every
        due = ours.due(DEFAULT, now, every)
        if "ours" in due:
            asked.append(number)
        for send_id in due:
            ours.note(send_id, reported(fate(now)), now + 0.1 * every)
    return asked


class TestDue:
    def test_a_new_send_is_not_asked_for_in_every_round(self):
        assert simulate(lambda age: "pending", 9) == [0, 2, 4, 6, 8]

    def test_a_shipped_send_is_asked_for_once_an_hour(self):
        assert simulate(lambda age: "shipped", 37) == [0, 12, 24, 36]

    def test_a_send_that_takes_days_is_asked_for_less_and_less_often(self):
        asked = simulate(lambda age: "processing", 24 * 12)
        gaps = [later - earlier for earlier, later in pairwise(asked)]
        assert gaps == sorted(gaps)
        assert (gaps[0], gaps[-1]) == (2, 12)

    def test_a_single_send_is_asked_for_in_every_round(self):
        assert simulate(lambda age: "shipped", 5, others=0) == [0, 1, 2, 3, 4]

    def test_a_send_takes_fewer_than_140_requests_in_a_week(self):
        """Two days until they are shipped, three more until they arrive: requests of each, if there were no list."""

        def fate(age):
            return "processing" if age < 2 * DAY else "shipped" if age < 5 * DAY else "delivered"

        assert len(simulate(fate, 7 * 24 * 12)) < 140  # in every round: 5 * 288

    def test_sends_never_asked_for_come_first_and_sends_that_fail_alone_come_last(self):
        ours = Watch()
        for number, send_id in enumerate(["old", "new", "broken", "unasked"]):
            ours.add([send_id], float(number))
        ours.note("old", reported("pending"), 0.0)
        ours.note("new", reported("pending"), 0.0)
        ours.note_failure("broken", 0.0)
        assert ours.due(DEFAULT, DAY, ROUND) == ["unasked", "broken", "new", "old"]
        ours.answers += 1
        assert ours.due(DEFAULT, DAY, ROUND) == ["unasked", "new", "old", "broken"]

    def test_a_send_that_is_settled_or_not_found_is_never_due(self):
        ours = watch(a="delivered", b="failed", c=None, d=None)
        ours.sends["c"].not_found = True
        assert ours.due(DEFAULT, DAY, ROUND) == ["d"]


class Sendoso:
    """Answers the requests of a round: with pages, with sends, or with an error."""

    def __init__(self, statuses=None, pages=None, broken=(), down=False):
        self.statuses = statuses or {}
        self.pages = pages
        self.broken = set(broken)
        self.down = down
        self.asked: list[str] = []

    def serve(self, watch, due, now=1.0):
        steps = look(watch, due, clock=lambda: now)
        try:
            request = next(steps)
            while True:
                try:
                    answer = self.answer(request)
                except SendosoError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(answer)
        except StopIteration:
            return

    def answer(self, request):
        name = request.path.removeprefix("/api/v3/sends").lstrip("/") or f"page {request.params['page']}"
        self.asked.append(name)
        if self.down or name in self.broken:
            raise SendosoServerError(503, "no")
        if name.startswith("page"):
            if self.pages is None:
                raise SendosoNotFoundError(404, "no list")
            number = request.params["page"] - 1
            rows = self.pages[number] if number < len(self.pages) else []
            body = {"sends": [{"id": i, "status": s} for i, s in rows], "per_page": 4}
        elif name not in self.statuses:
            raise SendosoNotFoundError(404, name)
        else:
            body = {"send": {"id": name, "status": self.statuses[name]}}
        return Answer(200, {}, json.dumps(body).encode())


def many(count, prefix="s"):
    ours = Watch()
    ours.add([f"{prefix}{number}" for number in range(count)], 0.0)
    return ours, list(ours.sends)


def rows(ids, status="shipped"):
    return [(send_id, status) for send_id in ids]


class TestLook:
    def test_a_few_sends_are_asked_for_one_by_one(self):
        ours, ids = many(FEW)
        sendoso = Sendoso(dict.fromkeys(ids, "shipped"), pages=[rows(ids)])
        sendoso.serve(ours, ids)
        assert sendoso.asked == ids
        assert ours.counts() == {"shipped": FEW}

    def test_many_sends_are_found_in_the_list_and_the_walk_ends_with_the_last_of_them(self):
        ours, ids = many(12)
        pages = [
            rows(["x", "y", *ids[:2]]),
            rows(ids[2:6]),
            rows(ids[6:10]),
            rows([*ids[10:], "z", "zz"]),
            rows("abcd"),
        ]
        sendoso = Sendoso(pages=pages)
        sendoso.serve(ours, ids)
        assert sendoso.asked == ["page 1", "page 2", "page 3", "page 4"]
        assert ours.counts() == {"shipped": 12}
        assert ours.news == dict.fromkeys(ids, reported("shipped"))

    def test_rows_repeated_or_missing_between_pages_are_counted_once_or_asked_for_by_id(self):
        ours, ids = many(12)
        pages = [rows(ids[:4]), rows(ids[2:6]), rows(ids[7:11]), rows(ids[11:])]
        sendoso = Sendoso({ids[6]: "delivered"}, pages=pages)
        sendoso.serve(ours, ids)
        assert sendoso.asked == ["page 1", "page 2", "page 3", "page 4", ids[6]]
        assert ours.counts() == {"shipped": 11, "delivered": 1}

    def test_a_list_without_paging_is_read_once_and_the_sends_that_it_lacks_are_asked_for(self):
        ours, ids = many(30)
        sendoso = Sendoso(dict.fromkeys(ids, "shipped"), pages=[rows(ids[:4])] * 99)
        sendoso.serve(ours, ids)
        assert sendoso.asked == ["page 1", "page 2", *ids[4:]]
        sendoso.asked.clear()
        sendoso.serve(ours, ids)
        assert sendoso.asked == ids
        sendoso.asked.clear()
        sendoso.serve(ours, ids, now=DAY + 2)
        assert sendoso.asked[:2] == ["page 1", "page 2"]

    def test_ids_that_are_numbers_in_the_list_are_recognised(self):
        ours, ids = many(12, prefix="")
        sendoso = Sendoso(pages=[rows(map(int, ids[i : i + 4])) for i in (0, 4, 8)])
        sendoso.serve(ours, ids)
        assert ours.counts() == {"shipped": 12}

    def test_a_walk_takes_at_most_half_the_requests_of_asking_for_each_send(self):
        ours, ids = many(20)
        others = [[(f"x{page}-{row}", "shipped") for row in range(4)] for page in range(99)]
        sendoso = Sendoso(dict.fromkeys(ids, "shipped"), pages=others)
        sendoso.serve(ours, ids)
        assert sendoso.asked == [*(f"page {number}" for number in range(1, 11)), *ids]

    def test_a_list_that_answers_404_is_asked_for_once(self):
        ours, ids = many(12)
        sendoso = Sendoso(dict.fromkeys(ids, "shipped"))
        sendoso.serve(ours, ids)
        assert sendoso.asked == ["page 1", *ids]
        ours.add(more := [f"more{number}" for number in range(12)], 0.0)
        sendoso.statuses |= dict.fromkeys(more, "shipped")
        sendoso.asked.clear()
        sendoso.serve(ours, more)
        assert sendoso.asked == more

    def test_a_list_that_fails_is_tried_again_in_the_next_round(self):
        ours, ids = many(12)
        sendoso = Sendoso(
            dict.fromkeys(ids, "shipped"), pages=[rows(ids[i : i + 4]) for i in (0, 4, 8)], broken=["page 2"]
        )
        sendoso.serve(ours, ids)
        assert sendoso.asked == ["page 1", "page 2", *ids[4:]]
        sendoso.broken.clear()
        sendoso.asked.clear()
        sendoso.serve(ours, ids)
        assert sendoso.asked == ["page 1", "page 2", "page 3"]

    def test_sends_in_a_list_without_statuses_are_asked_for_by_id(self):
        ours, ids = many(12)
        sendoso = Sendoso(dict.fromkeys(ids, "shipped"), pages=[rows(ids[i : i + 4], None) for i in (0, 4, 8)])
        sendoso.serve(ours, ids)
        assert sendoso.asked[-12:] == ids

    def test_a_send_that_always_fails_does_not_end_a_wait_for_many(self):
        ours, ids = many(3)
        sendoso = Sendoso(dict.fromkeys(ids, "shipped"), broken=["s1"])
        sendoso.serve(ours, ids)
        for _ in range(3 * TRANSIENT_FAILURES):
            sendoso.serve(ours, ["s1"])
        ours.check()
        assert ours.counts() == {"shipped": 2, "unknown": 1}

    def test_a_round_without_an_answer_is_short_and_few_such_rounds_end_the_wait(self):
        ours, ids = many(100)
        sendoso = Sendoso(down=True)
        for _ in range(TRANSIENT_FAILURES):
            sendoso.serve(ours, ids)
            ours.check()
        sendoso.serve(ours, ids)
        assert len(sendoso.asked) == 6 * (TRANSIENT_FAILURES + 1)
        with pytest.raises(SendosoServerError):
            ours.check()

    def test_an_answer_resets_the_count_of_rounds_without_one(self):
        ours, ids = many(2)
        for down in [True, True, False, True]:
            Sendoso(dict.fromkeys(ids, "shipped"), down=down).serve(ours, ids)
        assert ours.dead_rounds == 1

    def test_an_unknown_id_among_known_ones_counts_as_not_found(self):
        ours, ids = many(3)
        Sendoso({"s0": "shipped", "s2": "shipped"}).serve(ours, ids)
        assert ours.counts() == {"shipped": 2, "not_found": 1}

    @pytest.mark.parametrize(("count", "asked"), [(1, 1), (3, 3), (100, 20)])
    def test_a_round_in_which_no_id_is_known_is_an_error(self, count, asked):
        ours, ids = many(count)
        sendoso = Sendoso(pages=[])
        with pytest.raises(SendosoNotFoundError):
            sendoso.serve(ours, ids)
        by_id = [name for name in sendoso.asked if not name.startswith(("page", "api"))]
        assert len(by_id) == asked
        assert sendoso.asked[-1] == "api/v3/send"  # they might have been a campaign's

    def test_an_error_that_waiting_cannot_mend_is_raised(self):
        ours, ids = many(2)
        steps = look(ours, ids)
        next(steps)
        with pytest.raises(SendosoAuthError):
            steps.throw(SendosoAuthError(403, "no"))


@pytest.mark.parametrize(
    ("sends", "reached", "failed", "min_delivered", "enough"),
    [
        (0, 0, 0, None, True),
        (0, 0, 0, 1.0, True),
        (10, 10, 0, None, True),
        (10, 9, 1, None, False),
        (10, 9, 1, 0.9, True),
        (10, 9, 1, 0.91, False),
        (10, 9, 1, 1.0, False),
        (10, 10, 0, 1.0, True),
        (10, 0, 10, 0.0, True),
        (3, 1, 2, 1 / 3, True),
    ],
)
def test_the_share_of_reached_sends_decides_whether_the_wait_has_succeeded(
    sends, reached, failed, min_delivered, enough
):
    assert good_enough({"sends": sends, "reached": reached, "failed": failed}, min_delivered) is enough
