"""When a wait is over, and how."""

from __future__ import annotations

import pytest

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.models import SendStatus
from airflow_provider_sendoso.waiting import Goal, Watch, good_enough

DEFAULT = Goal.parse(["delivered"], ["failed", "returned"])


class TestGoal:
    def test_words_become_statuses(self):
        goal = Goal.parse(("shipped", SendStatus.DELIVERED), "failed")
        assert goal.targets == (SendStatus.SHIPPED, SendStatus.DELIVERED)
        assert goal.failed == (SendStatus.FAILED,)

    @pytest.mark.parametrize(
        ("targets", "failed", "words"),
        [
            (["lost"], [], "target_statuses has a word that is no status"),
            (["Delivered"], [], "target_statuses has a word that is no status"),
            (["delivered"], ["gone"], "failed_statuses has a word that is no status"),
            ([], ["failed"], "target_statuses is empty"),
        ],
    )
    def test_words_that_are_none(self, targets, failed, words):
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
    def test_the_usual_goal(self, status, settled, missed):
        status = SendStatus(status)
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
    def test_other_goals(self, targets, failed, status, settled, missed):
        goal, status = Goal.parse(targets, failed), SendStatus(status)
        assert goal.settled(status) is settled
        assert missed is None or goal.missed(status) is missed

    def test_a_send_not_looked_at_yet_is_not_settled(self):
        assert not DEFAULT.settled(None)
        assert not Goal.parse(["pending"], []).settled(None)


class TestHost:
    @pytest.mark.parametrize("targets", [["delivered"], ["shipped", "delivered"], ["failed"]])
    def test_the_vendors_sandbox_never_gets_there(self, targets):
        with pytest.raises(SendosoConfigError, match="never pass 'processing'"):
            Goal.parse(targets, []).check_host("https://app.staging.sendo.so")

    @pytest.mark.parametrize("targets", [["processing"], ["pending"], ["processing", "delivered"]])
    def test_what_it_does_reach(self, targets):
        Goal.parse(targets, []).check_host("https://app.staging.sendo.so")

    @pytest.mark.parametrize("host", ["https://app.sendoso.com", "http://127.0.0.1:8765"])
    def test_other_hosts(self, host):
        DEFAULT.check_host(host)


def watch(**statuses: str | None) -> Watch:
    return Watch({name: SendStatus(status) if status else None for name, status in statuses.items()})


class TestWatch:
    def test_adding_forgets_nothing(self):
        ours = watch(a="shipped")
        ours.add(["a", "b", "b"])
        assert ours.statuses == {"a": SendStatus.SHIPPED, "b": None}

    def test_unsettled(self):
        assert watch(a=None, b="shipped", c="delivered", d="failed").unsettled(DEFAULT) == ["a", "b"]

    def test_counts(self):
        assert watch(a=None, b="shipped", c="shipped").counts() == {"unknown": 1, "shipped": 2}

    def test_report(self):
        assert watch(a=None, b="shipped", c="delivered", d="failed").report(DEFAULT, named=True) == {
            "sends": 4,
            "reached": 1,
            "counts": {"unknown": 1, "shipped": 1, "delivered": 1, "failed": 1},
            "failed": 1,
            "failed_ids": ["d"],
            "statuses": {"b": "shipped", "c": "delivered", "d": "failed"},
        }

    def test_a_report_of_many_names_a_hundred_and_counts_the_rest(self):
        report = watch(**{f"s{number}": "returned" for number in range(150)}).report(DEFAULT, named=False)
        assert (report["failed"], len(report["failed_ids"]), report["statuses"]) == (150, 100, None)

    def test_a_report_of_nothing(self):
        assert Watch().report(DEFAULT, named=False) == {
            "sends": 0,
            "reached": 0,
            "counts": {},
            "failed": 0,
            "failed_ids": [],
            "statuses": None,
        }

    def test_for_branching_nothing_fails(self):
        report = watch(a="failed", b="delivered").report(Goal.parse(["delivered"], []), named=True)
        assert (report["failed"], report["reached"]) == (0, 1)


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
def test_good_enough(sends, reached, failed, min_delivered, enough):
    assert good_enough({"sends": sends, "reached": reached, "failed": failed}, min_delivered) is enough
