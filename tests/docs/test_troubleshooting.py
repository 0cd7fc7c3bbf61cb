"""docs/troubleshooting.md explains every message of the code, and no message that the code does not have."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import messages

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")

WRAPPERS = {
    "…: … ….",  # of a 404 about a gift that the catalogue lacks
    "… …",  # an error's own text with what to do, or two of them
    "…. Nothing was sent.",  # of check_replaceable
    "… (…). Nothing was sent by this try.",  # of touch_problem
    "… Nothing was sent by this try.",  # of Limits.why_refused
}


def explained() -> list[str]:
    """The messages in the first column of the page's tables."""
    cells = re.findall(r"^\| (`.*?`) \|", PAGE, re.M)
    return [message.strip("… ") for cell in cells for message in re.findall(r"`([^`]+)`", cell)]


def pattern(message: str) -> re.Pattern[str]:
    """A message of the page as it may stand in a text of the code."""
    return re.compile(".*".join(map(re.escape, re.split("…", message))), re.S)


@pytest.fixture(scope="module")
def all_texts() -> str:
    """One string, because to search thousands for each message takes a tenth of a second."""
    return "\0".join(sorted(messages.texts()))


@pytest.mark.parametrize("message", explained())
def test_every_explained_message_is_in_the_code(message: str, all_texts: str) -> None:
    within_one = "[^\0]*".join(map(re.escape, re.split("…", message)))
    assert re.search(within_one, all_texts), "nothing in the code says so any more"


def test_every_raised_message_is_explained() -> None:
    patterns = [pattern(message) for message in explained()]
    raised = messages.raised() - WRAPPERS
    assert len(raised) > 100
    assert [text for text in sorted(raised) if not any(found.search(text) for found in patterns)] == []


def test_no_message_is_explained_twice() -> None:
    assert sorted(set(explained())) == sorted(explained())
