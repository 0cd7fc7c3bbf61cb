"""Reads of Sendoso's objects: a method for each known list and object, and generic ones for all others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_sendoso.client.answers import Answer, read_send_answer
from airflow_provider_sendoso.client.endpoints import Request, get_send_request, me_request, object_request
from airflow_provider_sendoso.client.marketplace import CursorListing, products_request, recommendations_request
from airflow_provider_sendoso.client.objects import AnyListing, Listed, listing_of, model_of, read_object
from airflow_provider_sendoso.exceptions import SendosoApiError, SendosoConfigError, SendosoError, SendosoNotFoundError
from airflow_provider_sendoso.models import (
    Gift,
    Group,
    Product,
    ReturnAddress,
    Send,
    SendosoObject,
    Touch,
    User,
    read_balance,
)

if TYPE_CHECKING:
    from airflow_provider_sendoso.client.session import SendosoSession

_T = TypeVar("_T", bound=SendosoObject)


class Reads(ABC):
    """Base of the hook: reads objects through a session, which a list looks up lazily, at its first page."""

    @property
    @abstractmethod
    def session(self) -> SendosoSession:
        """The session that makes the requests."""

    def list_gifts(
        self,
        *,
        category: str | None = None,
        min_price: float | None = None,
        max_price: float | None = None,
        **filters: Any,
    ) -> Listed[Gift]:
        """
        List the gifts of the catalogue; the names of the query parameters are inferred.

        :param category: a category as Sendoso names it, e.g. branded swag.
        :param min_price: in the account's currency.
        :param max_price: in the account's currency.
        :param filters: any other query parameter, passed through.
        :return: a lazy iterator, which reads page by page.
        """
        query = {"category": category, "min_price": min_price, "max_price": max_price, **filters}
        return self._listed(Gift, "gifts", filters=query)

    def find_gift(self, gift_id: str) -> Gift | None:
        """
        Look a gift up in the catalogue, reading it until the gift is found; return ``None`` if it is not there.

        :param gift_id: the gift's id.
        """
        return next((gift for gift in self.list_gifts() if gift.id == gift_id), None)

    def list_touches(self, **filters: Any) -> Listed[Touch]:
        """
        List the active campaigns, which the API calls touches (published).

        :param filters: query parameters, passed through; ``delivery_type`` is published: ``mail`` or ``email``.
        :return: a lazy iterator, which reads page by page.
        """
        return self._listed(Touch, "touches", filters=filters)

    def get_touch(self, touch_id: str | int) -> Touch:
        """
        Read one campaign (published).

        :param touch_id: the campaign's id, as :meth:`list_touches` returns it.
        :raises SendosoNotFoundError: if Sendoso does not know the id.
        """
        return self._get(Touch, object_request("touches", touch_id))

    def find_touch(self, touch_id: int | str) -> Touch | None:
        """
        Read a campaign; return ``None`` if Sendoso does not know it.

        :param touch_id: the campaign's id.
        """
        try:
            return self.get_touch(touch_id)
        except SendosoNotFoundError:
            return None

    def list_groups(self, **filters: Any) -> Listed[Group]:
        """
        List the groups of users (published).

        :param filters: query parameters, passed through.
        :return: a lazy iterator, which reads page by page.
        """
        return self._listed(Group, "groups", filters=filters)

    def list_members(self, group_id: str | int, **filters: Any) -> Listed[User]:
        """
        List the users of a group (published: all of them are on one page).

        :param group_id: the group's id, as :meth:`list_groups` returns it.
        :param filters: query parameters, passed through.
        :return: a lazy iterator.
        :raises SendosoNotFoundError: if Sendoso does not know the group; raised by the iterator, not by the call.
        """
        return self._listed(User, "groups", group_id, "members", filters)

    def list_users(self, **filters: Any) -> Listed[User]:
        """
        List the users (published).

        :param filters: query parameters, passed through.
        :return: a lazy iterator, which reads page by page.
        """
        return self._listed(User, "users", filters=filters)

    def list_return_addresses(self, **filters: Any) -> Listed[ReturnAddress]:
        """
        List the addresses to which gifts are returned (seed: the list exists; its fields are inferred).

        :param filters: query parameters, passed through.
        :return: a lazy iterator, which reads page by page.
        """
        return self._listed(ReturnAddress, "return-addresses", filters=filters)

    def list_marketplace_products(
        self,
        *,
        price_gte_usd: int | None = None,
        price_lte_usd: int | None = None,
        ship_to_country_codes: Iterable[str] = (),
        category_ids: Iterable[str] = (),
        text_search: str | None = None,
    ) -> Listed[Product]:
        """
        List the products of the marketplace (published); the token needs the scope ``marketplace``.

        :param price_gte_usd: the lowest price, in whole USD.
        :param price_lte_usd: the highest price, in whole USD.
        :param ship_to_country_codes: countries, ISO 3166 alpha-2.
        :param category_ids: ids of categories.
        :param text_search: words.
        :return: a lazy iterator, which reads page by page, at most 100 a minute.
        :raises SendosoConfigError: if a filter is wrong.
        """
        request = products_request(
            price_gte_usd=price_gte_usd,
            price_lte_usd=price_lte_usd,
            ship_to_country_codes=ship_to_country_codes,
            category_ids=category_ids,
            text_search=text_search,
        )
        return Listed(CursorListing(request), self._walk, Product)

    def list_recommendations(
        self, recipient_email: str, *, price_lte_usd: int | None = None, ship_to_country_code: str | None = None
    ) -> Listed[Product]:
        """
        List the products that Sendoso recommends for a person (published); the token needs the scope ``smartsend``.

        What a person is taken to like (``interests``) is personal: keep it out of logs and XCom.

        :param recipient_email: the person's e-mail address.
        :param price_lte_usd: the highest price, in whole USD.
        :param ship_to_country_code: ISO 3166 alpha-2.
        :return: a lazy iterator.
        :raises SendosoConfigError: if a value is wrong.
        """
        request = recommendations_request(
            recipient_email, price_lte_usd=price_lte_usd, ship_to_country_code=ship_to_country_code
        )
        return Listed(CursorListing(request), self._walk, Product)

    def list_sends(self, **filters: Any) -> Listed[Send]:
        """
        List the gift sends (inferred: the seed only reads a single one). The Send Tracker is ``list_objects("send")``.

        :param filters: query parameters, passed through; none is known.
        :return: a lazy iterator, which reads page by page.
        """
        return self._listed(Send, "sends", filters=filters)

    def get_send(self, send_id: str | int) -> Send:
        """
        Read one send.

        :param send_id: the id that was returned when the gift was sent.
        :raises SendosoNotFoundError: if Sendoso does not know the id.
        """
        request = get_send_request(str(send_id))
        return read_send_answer(str(send_id), self.session.read(request).json)

    def get_me(self) -> User:
        """
        Read the Sendoso user that the connection authenticates as, with the remaining balance (published).

        :raises SendosoError: if Sendoso does not answer with a user.
        """
        return self._get(User, me_request())

    def get_balance(self) -> float | None:
        """
        Read the remaining balance (published); ``None`` if Sendoso's answer holds none.

        :return: in the account's currency.
        :raises SendosoError: if Sendoso does not answer.
        """
        balance = read_balance(read_me(self.session.read).get("balance"))
        return None if balance is None else float(balance)

    def list_objects(
        self, name: str, object_id: str | int | None = None, child: str | None = None, /, **filters: Any
    ) -> Listed[Any]:
        """
        List any objects of the API by their path, ``/{object}`` or ``/{object}/{id}/{child}`` (seed).

        This works for lists that the API pages by ``page`` and ``per_page``, and for lists without pages.

        :param name: the object's name in the path, like ``touches``.
        :param object_id: id of the object whose children are listed.
        :param child: the children's name in the path, like ``members``.
        :param filters: query parameters, passed through; give names such as ``category_ids[]`` by ``**{…}``.
        :return: a lazy iterator, which reads page by page; it yields the object's model if there is one, otherwise
            :class:`~airflow_provider_sendoso.models.SendosoObject`.
        :raises SendosoConfigError: if a name or an id is malformed, or if the list is paged by a cursor.
        """
        return self._listed(model_of(child or name), name, object_id, child, filters)

    def get_object(
        self, name: str, object_id: str | int | None = None, child: str | None = None, /, **filters: Any
    ) -> Any:
        """
        Read any single object of the API by its path, like ``get_object("groups", 7)``.

        :param name: the object's name in the path, like ``groups``.
        :param object_id: the object's id; ``None`` for an object that exists once, like ``me``.
        :param child: the name of a child object to read instead.
        :param filters: query parameters, passed through.
        :return: the object's model if there is one, otherwise a
            :class:`~airflow_provider_sendoso.models.SendosoObject`.
        :raises SendosoConfigError: if a name or an id is malformed.
        :raises SendosoNotFoundError: if Sendoso does not know the object.
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

    def _walk(self, listing: AnyListing) -> Iterator[dict[str, Any]]:
        yield from self.session.read_listing(listing)  # a generator: the connection is looked up when iteration begins

    def _get(self, model: type[_T], request: Request) -> _T:
        return read_object(request, model, self.session.read(request).json)


def active_touches(reads: Reads) -> list[Touch]:
    """Read the active campaigns, of which one may have been meant by a wrong id; none if they cannot be read."""
    try:
        return list(reads.list_touches())
    except SendosoError:
        return []


def read_me(read: Callable[[Request], Answer]) -> Mapping[str, Any]:
    """Read the token's user; empty if Sendoso answers 403 or 404 (``/me`` is published, but not part of the seed)."""
    try:
        body = read(me_request()).json
    except SendosoApiError as error:
        if error.status_code in (403, 404):
            return {}
        raise
    user = body.get("user") if isinstance(body, Mapping) else None
    return user if isinstance(user, Mapping) else body if isinstance(body, Mapping) else {}
