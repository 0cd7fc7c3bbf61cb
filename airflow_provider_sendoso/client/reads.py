"""Reads of Sendoso's objects: each list and each object by a method of its own, anything else by its name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_sendoso.client.answers import Answer, read_send_answer
from airflow_provider_sendoso.client.endpoints import Request, get_send_request, me_request, object_request
from airflow_provider_sendoso.client.objects import Listed, listing_of, model_of, read_object
from airflow_provider_sendoso.client.pages import Listing
from airflow_provider_sendoso.exceptions import SendosoApiError, SendosoConfigError, SendosoNotFoundError
from airflow_provider_sendoso.models import Gift, Group, ReturnAddress, Send, SendosoObject, Touch, User

if TYPE_CHECKING:
    from airflow_provider_sendoso.client.session import SendosoSession

_T = TypeVar("_T", bound=SendosoObject)


class Reads(ABC):
    """What has a session and reads through it. A list asks for its session when its first page is read, not before."""

    @property
    @abstractmethod
    def session(self) -> SendosoSession:
        """What the calls go through."""

    def list_gifts(
        self,
        *,
        category: str | None = None,
        min_price: float | None = None,
        max_price: float | None = None,
        **filters: Any,
    ) -> Listed[Gift]:
        """
        Walk through the catalogue; the names of the query parameters are inferred.

        :param category: e.g. branded swag, as Sendoso names it.
        :param min_price: in the account's currency.
        :param max_price: in the account's currency.
        :param filters: any other query parameter, passed through.
        :return: an iterator over pages, read as it is used.
        """
        query = {"category": category, "min_price": min_price, "max_price": max_price, **filters}
        return self._listed(Gift, "gifts", filters=query)

    def list_touches(self, **filters: Any) -> Listed[Touch]:
        """
        Walk through the active campaigns, which the API calls touches (published).

        :param filters: query parameters, passed through; ``delivery_type`` is published: ``mail`` or ``email``.
        :return: an iterator over pages, read as it is used.
        """
        return self._listed(Touch, "touches", filters=filters)

    def get_touch(self, touch_id: str | int) -> Touch:
        """
        Read one campaign (published).

        :param touch_id: as :meth:`list_touches` has it.
        :raises SendosoNotFoundError: for an id that Sendoso does not know.
        """
        return self._get(Touch, object_request("touches", touch_id))

    def find_touch(self, touch_id: int | str) -> Touch | None:
        """
        Read a campaign; ``None`` for one that Sendoso does not know.

        :param touch_id: its id.
        """
        try:
            return self.get_touch(touch_id)
        except SendosoNotFoundError:
            return None

    def list_groups(self, **filters: Any) -> Listed[Group]:
        """
        Walk through the groups of users (published).

        :param filters: query parameters, passed through.
        :return: an iterator over pages, read as it is used.
        """
        return self._listed(Group, "groups", filters=filters)

    def list_members(self, group_id: str | int, **filters: Any) -> Listed[User]:
        """
        Walk through the users of a group (published: all of them on one page).

        :param group_id: as :meth:`list_groups` has it.
        :param filters: query parameters, passed through.
        :return: an iterator, read as it is used.
        :raises SendosoNotFoundError: when it is used, for a group that Sendoso does not know.
        """
        return self._listed(User, "groups", group_id, "members", filters)

    def list_users(self, **filters: Any) -> Listed[User]:
        """
        Walk through the users (published).

        :param filters: query parameters, passed through.
        :return: an iterator over pages, read as it is used.
        """
        return self._listed(User, "users", filters=filters)

    def list_return_addresses(self, **filters: Any) -> Listed[ReturnAddress]:
        """
        Walk through the addresses that gifts go back to (seed: that there are some; what they hold is inferred).

        :param filters: query parameters, passed through.
        :return: an iterator over pages, read as it is used.
        """
        return self._listed(ReturnAddress, "return-addresses", filters=filters)

    def list_sends(self, **filters: Any) -> Listed[Send]:
        """
        Walk through the gift sends (inferred: the seed reads one only). The Send Tracker is ``list_objects("send")``.

        :param filters: query parameters, passed through; none is known.
        :return: an iterator over pages, read as it is used.
        """
        return self._listed(Send, "sends", filters=filters)

    def get_send(self, send_id: str | int) -> Send:
        """
        Read one send.

        :param send_id: as returned when it was sent.
        :raises SendosoNotFoundError: for an id that Sendoso does not know.
        """
        request = get_send_request(str(send_id))
        return read_send_answer(str(send_id), self.session.read(request).json)

    def get_me(self) -> User:
        """
        Read who the connection is for Sendoso, and what is left to spend (published).

        :raises SendosoError: if Sendoso does not say.
        """
        return self._get(User, me_request())

    def get_balance(self) -> float | None:
        """
        Read what is left to spend (published); ``None`` where Sendoso does not say.

        :return: in the account's currency.
        :raises SendosoError: if Sendoso does not answer.
        """
        try:
            return float(read_me(self.session.read)["balance"])
        except (KeyError, TypeError, ValueError):
            return None

    def list_objects(
        self, name: str, object_id: str | int | None = None, child: str | None = None, /, **filters: Any
    ) -> Listed[Any]:
        """
        Walk through any list of the API by its name, ``/{object}`` or ``/{object}/{id}/{child}`` (seed).

        What the API pages by ``page`` and ``per_page``, or not at all, can be read like this.

        :param name: of the object, like ``touches``.
        :param object_id: of the one whose children are wanted.
        :param child: their name, like ``members``.
        :param filters: query parameters, passed through; names such as ``category_ids[]`` by ``**{…}``.
        :return: an iterator over pages, read as it is used; of the object's model where there is one, otherwise of
            :class:`~airflow_provider_sendoso.models.SendosoObject`.
        :raises SendosoConfigError: for a name or an id that is none, and for a list that is paged by a cursor.
        """
        return self._listed(model_of(child or name), name, object_id, child, filters)

    def get_object(
        self, name: str, object_id: str | int | None = None, child: str | None = None, /, **filters: Any
    ) -> Any:
        """
        Read any one object of the API by its name, like ``get_object("groups", 7)``.

        :param name: of the object, like ``groups``.
        :param object_id: which one; not for those of which there is one only, like ``me``.
        :param child: what to read of it.
        :param filters: query parameters, passed through.
        :return: of the object's model where there is one, otherwise a
            :class:`~airflow_provider_sendoso.models.SendosoObject`.
        :raises SendosoConfigError: for a name or an id that is none.
        :raises SendosoNotFoundError: for one that Sendoso does not know.
        """
        return self._get(model_of(child or name), object_request(name, object_id, child, filters))

    def _listed(
        self,
        model: type[_T],
        name: str,
        object_id: str | int | None = None,
        child: str | None = None,
        filters: Mapping[str, Any] = MappingProxyType({}),
    ) -> Listed[_T]:
        if paging := {"page", "per_page"} & filters.keys():
            raise SendosoConfigError(
                f"{' and '.join(sorted(paging))} cannot be asked for: the whole list is read, page by page, as it is "
                "used. Nothing was read."
            )
        listing = listing_of(child or name, object_request(name, object_id, child, filters))
        return Listed(listing, self._walk, model)

    def _walk(self, listing: Listing) -> Iterator[dict[str, Any]]:
        yield from self.session.read_listing(listing)  # a generator: no connection is looked up before it is used

    def _get(self, model: type[_T], request: Request) -> _T:
        return read_object(request, model, self.session.read(request).json)


def read_me(read: Callable[[Request], Answer]) -> Mapping[str, Any]:
    """Read the user behind the token; nothing where Sendoso has no such answer: published, but not part of the seed."""
    try:
        body = read(me_request()).json
    except SendosoApiError as error:
        if error.status_code in (403, 404):
            return {}
        raise
    user = body.get("user") if isinstance(body, Mapping) else None
    return user if isinstance(user, Mapping) else body if isinstance(body, Mapping) else {}
