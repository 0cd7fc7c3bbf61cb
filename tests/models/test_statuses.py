"""Every published status word has its status, in every spelling; a report keeps the words that a send has had."""

from __future__ import annotations

import time

import pytest

from airflow_provider_sendoso.client.answers import read_send
from airflow_provider_sendoso.models import Send, SendStatus, StatusReport, known_word, on_hold_warning
from airflow_provider_sendoso.models.statuses import LONGEST_STATUS_WORDS

# The words of the three published lists, and the seed's six, by the status that they map to.
WORDS = {
    "pending": [
        *("pending", "initiated", "pending approval", "pending sendoso approval", "confirming address"),
        *("collecting recipient info", "offer sent", "order received", "paused"),
        *("insufficient funds", "suspicious email"),
    ],
    "processing": [
        *("processing", "fulfilling", "amazon fulfilling", "fulfillment issue", "fulfilment issue", "out of stock"),
        "packed",
    ],
    "shipped": ["shipped", "amazon shipped", "sent"],
    "delivered": ["delivered", "opened", "clicked", "redeemed", "used", "used/redeemed"],
    "failed": [
        *("failed", "blocked", "bounced", "bounced and credited", "canceled", "cancelled"),
        *("confirmation canceled", "confirmation cancelled", "address confirmation - cancelled"),
        *("address confirmation - canceled", "email blacklist", "invalid email format"),
    ],
    "returned": ["returned", "undeliverable", "refunded", "expired", "expired and credited"],
}
EVERY_WORD = [(word, status) for status, words in WORDS.items() for word in words]


@pytest.mark.parametrize(("word", "status"), EVERY_WORD)
def test_a_published_word_has_its_status_in_every_spelling(word: str, status: str) -> None:
    spellings = [
        word,
        word.upper(),
        word.title(),
        word.replace(" ", "_"),
        word.replace(" ", "-"),
        word.replace(" ", ""),
        word.replace("/", " / "),
        f"  {word}\n",
        word.replace(" ", "  "),
    ]
    assert {SendStatus.from_word(spelling) for spelling in spellings} == {SendStatus(status)}
    assert len({known_word(spelling) for spelling in spellings}) == 1


@pytest.mark.parametrize(("word", "status"), EVERY_WORD)
def test_a_published_word_passes_through_an_answer_and_the_ledger_unchanged(word: str, status: str) -> None:
    send = read_send({"id": "s-1", "status": word.title()})
    assert send is not None
    assert send.report is not None
    assert (send.report.status, send.report.word) == (status, word.title())
    assert StatusReport.stored(send.report.status.value, send.report.stored_words) == send.report


@pytest.mark.parametrize("word", ["", "lost", "pendin", "not delivered", "delivered!", "配達済み"])
def test_an_unknown_word_counts_as_processing(word: str) -> None:
    assert SendStatus.from_word(word) is None
    assert known_word(word) is None
    assert Send(id="s-1", status=word).status is SendStatus.PROCESSING


def test_a_send_without_a_word_has_no_status() -> None:
    assert Send(id="s-1").status is None
    assert Send(id="s-1").report is None


@pytest.mark.parametrize(("word", "status"), EVERY_WORD)
def test_only_what_a_manager_decides_about_is_on_hold(word: str, status: str) -> None:
    held = ("insufficient funds", "suspicious email", "pending approval")
    assert StatusReport.of(status, word).on_hold is (word in held)


@pytest.mark.parametrize(
    ("one", "other"), [("used", "redeemed"), ("Used / Redeemed", "redeemed"), ("Cancelled", "canceled")]
)
def test_two_names_of_one_status_are_one_word(one: str, other: str) -> None:
    assert known_word(one) == known_word(other)


class TestReached:
    ON_THE_WAY = ("pending", "processing", "shipped", "delivered")

    @pytest.mark.parametrize("status", list(SendStatus))
    @pytest.mark.parametrize("target", list(SendStatus))
    def test_a_status_at_or_beyond_the_target_has_reached_it(self, status: SendStatus, target: SendStatus) -> None:
        way = self.ON_THE_WAY
        beyond = status in way and target in way and way.index(status) >= way.index(target)
        assert status.reached((target,)) == (beyond or status == target)
        assert StatusReport.of(status).reached(target) == status.reached((target,))

    def test_one_of_several_targets_is_enough(self) -> None:
        assert SendStatus.SHIPPED.reached((SendStatus.FAILED, SendStatus.PROCESSING))
        assert not SendStatus.SHIPPED.reached((SendStatus.FAILED, SendStatus.DELIVERED))
        assert not SendStatus.SHIPPED.reached(())

    def test_three_statuses_are_final(self) -> None:
        assert {status.value for status in SendStatus if status.terminal} == {"delivered", "failed", "returned"}

    @pytest.mark.parametrize(
        ("status", "word", "past", "target", "reached"),
        [
            ("delivered", "opened", [], "redeemed", False),
            ("delivered", "redeemed", [], "redeemed", True),
            ("delivered", "used", [], "redeemed", True),
            ("delivered", "opened", ["sent", "redeemed"], "redeemed", True),
            ("delivered", "redeemed", [], "opened", True),
            ("delivered", "clicked", [], "opened", True),
            ("delivered", "opened", [], "clicked", False),
            ("delivered", "delivered", [], "opened", False),
            ("processing", "packed", [], "packed", True),
            ("processing", "fulfilling", [], "packed", False),
            ("shipped", "shipped", [], "packed", True),
            ("delivered", "delivered", [], "amazon shipped", True),
            ("shipped", "shipped", [], "out of stock", False),
            ("shipped", "shipped", ["out of stock"], "out of stock", True),
            ("processing", "processing", [], "suspicious email", False),
            ("pending", "suspicious email", [], "suspicious email", True),
            ("failed", "bounced and credited", [], "bounced", True),
            ("failed", "bounced", [], "bounced and credited", False),
            ("returned", "expired and credited", [], "expired", True),
            ("delivered", "delivered", [], "expired", False),
        ],
    )
    def test_a_word_is_reached_once_the_send_has_had_it(
        self, status: str, word: str, past: list[str], target: str, reached: bool
    ) -> None:
        assert StatusReport.of(status, word, past).reached(target) is reached


class TestStored:
    @pytest.mark.parametrize(
        ("status", "words", "read"),
        [
            (None, None, None),
            ("pending", None, ("pending", None)),
            ("pending", "Suspicious Email", ("pending", "Suspicious Email")),
            ("delivered", "Sent, Opened", ("delivered", "Opened")),
            ("processing", "a new word", ("processing", "a new word")),
            # An older release has written the status since, or knows that the send has failed only from such a word.
            ("shipped", "Suspicious Email", ("shipped", None)),
            ("failed", None, None),
            ("failed", "Suspicious Email", None),
            ("failed", "failed", ("failed", "failed")),
        ],
    )
    def test_what_the_ledger_holds_is_read(
        self, status: str | None, words: str | None, read: tuple[str, str | None] | None
    ) -> None:
        report = StatusReport.stored(status, words)
        assert (None if report is None else (report.status, report.word)) == read

    def test_the_oldest_words_are_left_out_where_they_are_too_many(self) -> None:
        past = [f"{word} {'x' * 50}" for word in ("a", "b", "c")]
        words = tuple(f"word{'abcdefghijklmnopqrst'[number]} {'y' * 50}" for number in range(20))
        stored = StatusReport(SendStatus.PROCESSING, (*past, *words, "Opened")).stored_words
        assert stored is not None
        assert len(stored) <= LONGEST_STATUS_WORDS
        assert stored.endswith(f"{words[-1]}, Opened")

    def test_an_earlier_report_is_the_past_of_a_later_one(self) -> None:
        earlier = StatusReport.of("shipped", "Sent", ["Initiated"])
        assert StatusReport.of("delivered", "Opened").after(earlier).words == ("Initiated", "Sent", "Opened")
        assert StatusReport.of("shipped", "sent").after(earlier).words == ("Initiated", "sent")


@pytest.mark.parametrize(
    "word", ["ada@example.com", "token=abc123", "7 High Street", "x" * 65, "a, b", "a\x00b", "Ærø", ""]
)
def test_a_word_that_could_hold_something_personal_is_not_kept(word: str) -> None:
    assert StatusReport.of("processing", word).words == ("processing",)
    assert StatusReport.of("delivered", "opened", [word]).words == ("opened",)


@pytest.mark.parametrize("word", ["ada@example.com", "Delivered (2)", "x" * 65])
def test_an_odd_word_does_not_take_the_history_with_it(word: str) -> None:
    report = StatusReport.of("processing", word, ["sent", "redeemed"])
    assert report.reached("redeemed")
    later = StatusReport.of("processing", word).after(StatusReport.of("delivered", "redeemed"))
    assert later.words == ("redeemed", "processing")
    assert StatusReport.stored(later.status.value, later.stored_words) == later


@pytest.mark.parametrize("word", ["redeemed", "x" * 2000, "a " * 1000, None])
def test_a_history_of_thousands_of_updates_is_read_in_little_time(word: str | None) -> None:
    """An answer may hold 65,000 objects, and it is read on the triggerer's event loop."""
    updates = [{"status": word or f"word {'abc' * (number % 20)}"} for number in range(20_000)]
    send = read_send({"id": "s-1", "status": "opened", "status_updates": updates})
    assert send is not None
    began = time.thread_time()
    assert send.report is not None
    assert time.thread_time() - began < 0.1


@pytest.mark.parametrize(
    ("word", "shown"),
    [("Teleporting", "'Teleporting'"), ("back to ada@example.com", "not shown"), ("token=abc123", "not shown")],
)
def test_an_unknown_word_is_logged_only_if_it_is_of_letters(
    word: str, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_send({"id": "s-1", "status": word}) is not None
    assert f"Sendoso has a status that is not known here, {'' if shown[0] == chr(39) else 'which is '}" in caplog.text
    assert shown in caplog.text
    assert "ada" not in caplog.text
    assert "abc123" not in caplog.text


def test_a_known_word_in_an_odd_spelling_is_kept_in_its_own() -> None:
    assert StatusReport.of("failed", "__Failed__").words == ("failed",)


@pytest.mark.parametrize("updates", [None, "redeemed", 7, [None, "redeemed", {"status": 7}, {"status": None}, {}]])
def test_status_updates_of_another_shape_are_left_out(updates: object) -> None:
    send = read_send({"id": "s-1", "status": "opened", "status_updates": updates})
    assert send is not None
    assert send.report == StatusReport.of("delivered", "opened")


def test_a_warning_names_twenty_sends_and_counts_the_rest() -> None:
    text = on_hold_warning(
        {"suspicious email": 20, "insufficient funds": 5}, [f"send-{number}" for number in range(25)]
    )
    assert text.startswith("25 sends are on hold at Sendoso (suspicious email: 20, insufficient funds: 5): send-0, ")
    assert "send-19, …. A manager approves or cancels" in text
    assert "send-20" not in text
    assert on_hold_warning({"paused": 1}, ["a"]).startswith("1 send is on hold at Sendoso (paused: 1): a. ")
