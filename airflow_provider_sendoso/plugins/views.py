"""What the pages say of what was read: words, bars, shares and addresses. Pure: no I/O, nothing of HTTP or SQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from airflow_provider_sendoso.ledger.overview import Campaign, Ran, Timeline
from airflow_provider_sendoso.ledger.records import State
from airflow_provider_sendoso.models import SendStatus
from airflow_provider_sendoso.models.spending import Limit, from_millionths

WIDTH = 1000
"""The width of a bar in its own units."""

_CHART_HEIGHT = 120

STATE_WORDS = {
    State.READY: "free to be sent",
    State.CLAIMED: "about to be sent",
    State.POSTING: "being sent",
    State.SENT: "sent",
    State.REFUSED: "refused",
    State.UNKNOWN: "of unknown outcome",
    State.HELD: "held",
}
"""The states as a sentence names them."""


@dataclass(frozen=True)
class Segment:
    """
    One part of a bar.

    :param name: what it counts.
    :param number: how many.
    :param start: where it begins, of :data:`WIDTH`.
    :param width: how wide it is.
    :param kind: how it looks: a class of the style sheet.
    """

    name: str
    number: int
    start: float
    width: float
    kind: str


@dataclass(frozen=True)
class Bar:
    """
    A bar of several parts, and what it says to those who do not see it.

    :param segments: the parts that are not empty.
    :param total: what they add up to.
    """

    segments: tuple[Segment, ...]
    total: int

    @property
    def said(self) -> str:
        """The bar in words."""
        return ", ".join(f"{number(part.number)} {part.name}" for part in self.segments) or "nothing yet"


@dataclass(frozen=True)
class Budget:
    """
    What was used of a limit.

    :param name: the argument or the field that sets it.
    :param used: in words.
    :param most: in words.
    :param width: the used share, of :data:`WIDTH`.
    :param is_near: whether four fifths are used.
    """

    name: str
    used: str
    most: str
    width: float
    is_near: bool


def number(value: int) -> str:
    """
    Write a number for people.

    :param value: a whole number.
    """
    return f"{value:,}".replace(",", "\u202f")


def money(millionths: int, currency: str) -> str:
    """
    Write an amount of money.

    :param millionths: in millionths of the currency.
    :param currency: ISO 4217; empty if it is not known.
    """
    return f"{from_millionths(millionths):,.2f} {currency}".replace(",", "\u202f").strip()


def utc(epoch: float | None) -> datetime | None:
    """
    Return a moment of the ledger's clock.

    :param epoch: seconds since 1970.
    """
    return None if epoch is None else datetime.fromtimestamp(epoch, UTC).replace(microsecond=0)


def duration(seconds: float) -> str:
    """
    Write how long something takes, in its largest unit.

    :param seconds: not negative.
    """
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{round(seconds / size)} {unit}"
    return "1 second" if round(seconds) == 1 else f"{round(seconds)} seconds"


def make_bar(parts: Iterable[tuple[str, int, str]]) -> Bar:
    """
    Make a bar.

    :param parts: the name of each part, its number, and how it looks.
    """
    there = [part for part in parts if part[1] > 0]
    total = sum(count for _, count, _ in there)
    segments: list[Segment] = []
    start = 0.0
    for name, count, kind in there:
        width = round(WIDTH * count / total, 2)
        segments.append(Segment(name, count, round(start, 2), width, kind))
        start += WIDTH * count / total
    return Bar(tuple(segments), total)


def outcomes(campaign: Campaign) -> Bar:
    """
    Make the bar of what became of a campaign's sends, and of what is still to come.

    :param campaign: the campaign.
    """
    states = campaign.states
    undecided = states[State.UNKNOWN] + states[State.HELD] + campaign.lost
    under_way = states[State.CLAIMED] + states[State.POSTING] - campaign.lost
    return make_bar(
        (
            ("sent", states[State.SENT], "sent"),
            ("refused", states[State.REFUSED], "refused"),
            ("to be decided", undecided, "held"),
            ("under way", under_way, "working"),
            ("not sent yet", states[State.READY] + (to_come(campaign) or 0), "ready"),
        )
    )


def of_states(states: Mapping[State, int]) -> Bar:
    """
    Make the bar of a batch.

    :param states: its sends by state.
    """
    return make_bar(
        (
            ("sent", states[State.SENT], "sent"),
            ("refused", states[State.REFUSED], "refused"),
            ("to be decided", states[State.UNKNOWN] + states[State.HELD], "held"),
            ("under way", states[State.CLAIMED] + states[State.POSTING], "working"),
            ("not sent yet", states[State.READY], "ready"),
        )
    )


def statuses(campaign: Campaign) -> Bar:
    """
    Make the bar of how far the parcels are.

    :param campaign: the campaign.
    """
    on_hold = campaign.on_hold.total()
    numbers = campaign.statuses - Counter({SendStatus.PENDING.value: on_hold})
    known = [(status.value, numbers[status.value], f"status-{status.value}") for status in SendStatus]
    name = "or more on hold" if campaign.is_on_hold_cut else "on hold"
    return make_bar([*known, (name, on_hold, "held"), ("no status yet", campaign.statuses[""], "ready")])


def to_come(campaign: Campaign) -> int | None:
    """
    Return how many rows of the running batch nobody has reached yet, at most: some may have been sent by earlier runs.

    :param campaign: the campaign.
    :return: ``None`` if that is not known, or nothing runs.
    """
    last = campaign.last
    if not campaign.at_work or last is None or last.rows_to_send is None:
        return None
    return max(0, last.rows_to_send - campaign.last_done - campaign.at_work)


def time_left(campaign: Campaign) -> str | None:
    """
    Say how long the running batch takes, at the rate of the last minute, or since it began.

    :param campaign: the campaign.
    :return: ``None`` if that is not known.
    """
    waiting = to_come(campaign)
    if waiting is None or not campaign.rate:
        return None
    return f"at most {duration((waiting + campaign.at_work) / (campaign.rate / campaign.rate_seconds))} left"


def state_of(campaign: Campaign) -> tuple[str, str]:
    """
    Return what a campaign does, in words, and how that looks.

    :param campaign: the campaign.
    """
    states = campaign.states
    undecided = states[State.UNKNOWN] + states[State.HELD] + campaign.lost
    if campaign.at_work:
        return "Sending", "working"
    if undecided:
        return f"{number(undecided)} to be decided", "held"
    if states[State.READY] or states[State.CLAIMED]:
        return "Not finished", "ready"
    if states[State.SENT]:
        return "Done", "sent"
    return ("Refused", "refused") if states[State.REFUSED] else ("Nothing sent", "ready")


def costs(campaign: Campaign) -> str:
    """
    Say what a campaign has cost so far, what may have been sent included.

    :param campaign: the campaign.
    """
    both = {
        currency: campaign.spent[currency] + campaign.reserved[currency] for currency in campaign_currencies(campaign)
    }
    return ", ".join(money(amount, currency) for currency, amount in both.items())


def campaign_currencies(campaign: Campaign) -> list[str]:
    """
    Return the currencies of a campaign's prices.

    :param campaign: the campaign.
    """
    return sorted({*campaign.spent, *campaign.reserved})


def budgets(campaign: Campaign) -> list[Budget]:
    """
    Say what was used of a campaign's own limits.

    :param campaign: the campaign.
    """
    currencies = campaign_currencies(campaign)
    currency = currencies[0] if currencies else ""
    sends = sum(campaign.states[state] for state in (State.SENT, State.POSTING, State.UNKNOWN, State.HELD))
    cost = campaign.spent[currency] + campaign.reserved[currency]
    return [budget(limit, cost if limit.is_cost else sends, currency) for limit in campaign.limits]


def budget(limit: Limit, used: int, currency: str) -> Budget:
    """
    Say what was used of a limit.

    :param limit: the limit.
    :param used: in sends, or in millionths.
    :param currency: of a cost.
    """
    share = min(1.0, used / limit.most) if limit.most else 1.0
    words = [money(value, currency) if limit.is_cost else number(value) for value in (used, limit.most)]
    return Budget(limit.name, words[0], words[1], round(WIDTH * share, 2), share >= 0.8)


def chart(line: Timeline) -> str:
    """
    Return the path of an area that grows with each send that was posted.

    :param line: when they were.
    :return: for an SVG of :data:`WIDTH` by 120.
    """
    total, so_far = sum(line.counts) or 1, 0
    points = [f"M0 {_CHART_HEIGHT}"]
    for step, count in enumerate(line.counts, 1):
        so_far += count
        points.append(f"L{WIDTH * step / len(line.counts):g} {_CHART_HEIGHT * (1 - so_far / total):.2f}")
    return " ".join([*points, f"L{WIDTH} {_CHART_HEIGHT}Z"])


def chart_rows(line: Timeline, rows: int = 12) -> Sequence[tuple[datetime, int]]:
    """
    Return the same as a table: until when how many had been posted.

    :param line: when they were.
    :param rows: about how many.
    """
    every = max(1, len(line.counts) // rows)
    found = []
    so_far = 0
    for step, count in enumerate(line.counts, 1):
        so_far += count
        if step % every == 0 or step == len(line.counts):
            at = utc(line.first + step * line.width)
            assert at is not None  # noqa: S101 - it is the moment of a number
            found.append((at, so_far))
    return found


def address(root: str, page: str, **parameters: object) -> str:
    """
    Return the address of a page.

    :param root: where the pages are mounted.
    :param page: its name.
    :param parameters: of its query; ``None`` and empty ones are left out.
    """
    query = urlencode({name: str(value) for name, value in parameters.items() if value not in (None, "")})
    return f"{root}/{page}" + (f"?{query}" if query else "")


def task_address(airflow: str, ran: Ran, try_number: int | None = None) -> str:
    """
    Return the address of a task instance in Airflow's UI.

    :param airflow: where Airflow is mounted; empty at the root of its host.
    :param ran: the batch of the task instance.
    :param try_number: which of its tries.
    """
    path = f"{run_address(airflow, ran)}/tasks/{quote(ran.task_id, safe='')}"
    if ran.map_index >= 0:
        path += f"/mapped/{ran.map_index}"
    return path + (f"?try_number={try_number}" if try_number is not None else "")


def run_address(airflow: str, ran: Ran) -> str:
    """
    Return the address of a DAG run in Airflow's UI.

    :param airflow: as for :func:`task_address`.
    :param ran: a batch of the run.
    """
    return f"{airflow}/dags/{quote(ran.dag_id, safe='')}/runs/{quote(ran.run_id, safe='')}"
