"""What the client's pace and the ledger agree on, who do not know each other: a send that begins with a slot."""

from __future__ import annotations

from collections.abc import Sequence
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

    @staticmethod
    def commit_all(transaction: Any, sends: Sequence[Any]) -> None:
        """
        Commit that several sends are being posted, in as many statements as for one.

        :param transaction: that of their slots, which somebody else commits.
        :param sends: the sends, of this one's kind; if this raises, each is committed on its own.
        """
