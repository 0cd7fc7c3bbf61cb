"""What the client's pace and the ledger agree on, who do not know each other: a send that begins with a slot."""

from __future__ import annotations

from typing import Any, Protocol


class SlotCommit(Protocol):
    """A send that is committed as being posted, together with the slot for its POST or right after it."""

    @property
    def row(self) -> str:
        """The key of the ledger's row that the commit locks."""

    def commit_posting(self, transaction: Any = None) -> None:
        """
        Commit that the send is being posted.

        :param transaction: the slot's own, which somebody else commits; without it, one of its own.
        """
