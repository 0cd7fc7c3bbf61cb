"""The interface of a kind of send."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.models import ITEM_FIELDS, Delivery, Item, Send, StatusReport
from airflow_provider_sendoso.models.sends import SendModel

if TYPE_CHECKING:
    from airflow_provider_sendoso.client.reads import Reads
    from airflow_provider_sendoso.client.session import SendosoSession
    from airflow_provider_sendoso.ledger import Ledger
    from airflow_provider_sendoso.ledger.records import Record
    from airflow_provider_sendoso.sending.scanning import Scanner

S = TypeVar("S", bound=SendModel)
P = TypeVar("P")
P_co = TypeVar("P_co", covariant=True)


class PriceList(Protocol[P_co]):
    """Prices of gifts and of campaigns, in the type that the caller works with."""

    def of_gift(self, gift_id: str) -> P_co:
        """Return what one gift of the catalogue costs."""

    def of_campaign(self, touch_id: str) -> P_co:
        """Return what one gift of a campaign costs."""

    def of_variant(self, variant_id: str) -> P_co:
        """Return what one variant of the marketplace costs."""

    def at_most(self, usd: str | None) -> P_co:
        """Return the price of a gift that costs at most so many USD; ``None`` if there is no such limit."""


class SendKind(ABC, Generic[S]):
    """One kind of send: its request, its answer, its checks, and how a send of unknown outcome is looked for."""

    model: type[S]
    """The model of a send of this kind."""
    named_by: ClassVar[str]
    """The argument or column that names the gift or campaign; if it is set, the send is of this kind."""
    plural: ClassVar[str]
    """The name of the kind in a log line."""
    columns: ClassVar[tuple[str, ...]] = ()
    """The fields that a row may have as columns, beside the recipient's; fields of :attr:`model`."""
    scope: ClassVar[str | None] = None
    """The token's scope that only this kind needs (published)."""
    why_not_looked_for: ClassVar[str] = ""
    """Why a send of unknown outcome is held until a person decides; for kinds without a scanner."""

    @property
    def is_looked_for(self) -> bool:
        """Whether :meth:`scanner` returns a scanner."""
        return not self.why_not_looked_for

    @abstractmethod
    def request(self, send: S, *, airflow_key: str | None, via_from: str) -> Request:
        """
        Build the POST.

        :param send: the send.
        :param airflow_key: the ledger's mark, for kinds whose request can carry it; ``None`` without a ledger.
        :param via_from: the calling application's name, for kinds whose request has it (published).
        """

    @abstractmethod
    def read(self, send: S, body: Any) -> Send | None:
        """
        Read the answer to the POST.

        :param send: what was posted.
        :param body: the answer's JSON.
        :return: ``None`` where the answer does not say that the send was accepted.
        """

    def secret(self, send: S, body: Any) -> str | None:
        """
        Return the secret of the answer, which only the ledger stores, encrypted.

        :param send: what was posted.
        :param body: the answer's JSON.
        """
        return None

    def is_named_by(self, cell: Any) -> bool:
        """
        Return whether a row is of this kind.

        :param cell: the row's value of the column ``named_by``, normalised.
        """
        return cell is not None

    def item_cells(self, send: S) -> tuple[str, ...]:
        """Return the values of :data:`ITEM_FIELDS` for a send, ``""`` for none; quicker than its ``item``."""
        item = send.item
        return tuple(getattr(item, name) or "" for name in ITEM_FIELDS)

    def no_field_for(self, names: str) -> SendosoConfigError:
        """
        Return the message that refuses arguments; for kinds that an operator's arguments choose from.

        :param names: the names of arguments for which the model has no field.
        """
        raise NotImplementedError

    def price(self, item: Item, prices: PriceList[P]) -> P:
        """
        Look up the price of a send: by default, the price of its campaign's gift.

        :param item: the gift or campaign that is sent.
        :param prices: the prices.
        """
        return prices.of_campaign(item.touch_id or "")

    @abstractmethod
    def email(self, send: S) -> str:
        """Return the recipient's e-mail address."""

    def shaped(self, send: S, reads: Reads) -> S:
        """
        Complete a single send, so that it can be posted.

        :param send: the send as its arguments describe it.
        :param reads: the account, for kinds whose request depends on a campaign, or whose checks depend on a gift.
        :raises SendosoConfigError: if the send is not valid; nothing was sent.
        """
        return send

    def with_delivery(self, send: S, delivery: Delivery) -> S:
        """
        Return the send with the delivery of its campaign, as it is then posted.

        :param send: the send of a row.
        :param delivery: by e-mail or by post.
        """
        return send

    def problem_by_post(self, send: S) -> str | None:
        """Return what is wrong with the send if its gift goes by post."""
        return None

    def country(self, send: S) -> str | None:
        """Return the country (ISO 3166 alpha-2) to which a gift goes that ships only to some countries."""
        return None

    def statuses(
        self, session: SendosoSession, ledger: Ledger, records: Sequence[Record]
    ) -> dict[str, StatusReport | None]:
        """
        Read the delivery statuses of accepted sends of this kind.

        :param session: calls Sendoso.
        :param ledger: knows the sends.
        :param records: the sends, at least one, of one account.
        :return: the statuses by send key; ``None`` if Sendoso shows none; sends that Sendoso does not know are left
            out.
        :raises SendosoError: if Sendoso or the ledger does not answer.
        """
        return {record.send_key: None for record in records}

    def scanner(self, session: SendosoSession, ledger: Ledger, latest: float) -> Scanner | None:
        """
        Return the scanner that looks for sends of unknown outcome; ``None`` if Sendoso lists no sends of this kind.

        :param session: calls Sendoso.
        :param ledger: knows the sends.
        :param latest: seconds after its POST began at which a send may still appear in a list.
        """
        return None
