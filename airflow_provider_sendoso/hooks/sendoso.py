"""The hook: resolves an Airflow connection into a session with Sendoso and, if one is configured, a ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
from asgiref.sync import sync_to_async

from airflow_provider_sendoso import DEFAULT_CONN_ID, connection_form
from airflow_provider_sendoso.arguments.sends import make_send, validated
from airflow_provider_sendoso.client.answers import (
    Answer,
    Exchange,
    api_error,
    read_egift_links,
    read_send_answer,
)
from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.client.endpoints import (
    Request,
    egift_links_request,
    get_send_request,
    me_request,
    object_request,
)
from airflow_provider_sendoso.client.objects import Listed, listing_of, model_of, read_object
from airflow_provider_sendoso.client.outcomes import PostOutcome, Verdict, classify
from airflow_provider_sendoso.client.pages import Listing
from airflow_provider_sendoso.exceptions import (
    SendosoApiError,
    SendosoConfigError,
    SendosoConnectionError,
    SendosoError,
    SendosoNotFoundError,
    SendosoServerError,
    SendOutcomeUnknownError,
)
from airflow_provider_sendoso.hooks.connections import (
    check_connection,
    no_ledger,
    open_ledger,
    read_config,
    shared_session,
)
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import SendProgress
from airflow_provider_sendoso.models import (
    EgiftLink,
    EgiftLinkSend,
    Gift,
    Group,
    ReturnAddress,
    Send,
    SendosoObject,
    Touch,
    User,
    normalise_key,
)
from airflow_provider_sendoso.observability.lineage import report_output

if TYPE_CHECKING:
    from airflow_provider_sendoso.client.session import SendosoSession

_T = TypeVar("_T", bound=SendosoObject)


class SendosoHook(BaseHook):
    """
    Talk to Sendoso through an Airflow connection of type ``sendoso``.

    The hook is lazy: it looks up the connection at the first call. With a ledger, all tasks of the deployment share one
    token and one request rate. Without a ledger, reads still work; this process then uses its own token and limits its
    own rate.

    :param sendoso_conn_id: id of the Airflow connection.
    """

    conn_name_attr = "sendoso_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "sendoso"
    hook_name = "Sendoso"

    def __init__(self, sendoso_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sendoso_conn_id = sendoso_conn_id

    # -- the connection ------------------------------------------------------------------------------------------

    @cached_property
    def config(self) -> ClientConfig:
        """
        The validated connection.

        :raises SendosoConfigError: if the connection is invalid.
        """
        connection = self.get_connection(self.sendoso_conn_id)
        check_connection(self.sendoso_conn_id, connection)
        return read_config(self.sendoso_conn_id, connection, connection.extra_dejson)

    @cached_property
    def ledger(self) -> Ledger:
        """
        The ledger, which sends require.

        :raises SendosoConfigError: if no ledger is configured; the message holds the line to set.
        :raises SendosoLedgerError: if the ledger's database does not answer.
        """
        if self._ledger is None:
            raise SendosoConfigError(no_ledger(self.config.ledger_conn_id))
        return self._ledger

    @cached_property
    def session(self) -> SendosoSession:
        """
        The session that makes all requests. With a ledger, it takes its token and its pace from the ledger.

        All hooks of a process with the same connection share one session.
        """
        return shared_session(self.config, self._ledger)

    def get_conn(self) -> SendosoSession:
        """Return the session."""
        return self.session

    async def aprepare(self) -> None:
        """Resolve both connections and open session and ledger without blocking the event loop."""
        connection = await get_async_connection(self.sendoso_conn_id, hook=self)
        check_connection(self.sendoso_conn_id, connection)
        self.config = read_config(self.sendoso_conn_id, connection, await get_async_extra_dejson(connection))
        conn_id = self.config.ledger_conn_id
        try:
            ledger_connection = await get_async_connection(conn_id, hook=self)
        except AirflowNotFoundException:
            self._ledger = None
        else:
            self._ledger = await sync_to_async(open_ledger)(conn_id, ledger_connection)
        await asyncio.to_thread(lambda: self.session)

    @cached_property
    def _ledger(self) -> Ledger | None:
        conn_id = self.config.ledger_conn_id
        try:
            connection = self.get_connection(conn_id)
        except AirflowNotFoundException:
            return None
        return open_ledger(conn_id, connection)

    def revoke_tokens(self) -> int:
        """
        Revoke the stored tokens at Sendoso, then delete them from this process and from the ledger.

        :return: the number of tokens revoked.
        :raises SendosoError: if Sendoso did not revoke a token; then no token is deleted.
        """
        return self.session.tokens.revoke()

    # -- sends ---------------------------------------------------------------------------------------------------

    def send_gift(
        self,
        *,
        gift_id: str | None = None,
        touch_id: int | str | None = None,
        recipient: Mapping[str, Any],
        message: str | None = None,
        variant_id: str | None = None,
        team_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        address_confirmation: str | None = None,
        expire_after_days: int | None = None,
        hide_product_info: bool | None = None,
        address_confirmation_message: str | None = None,
    ) -> Send:
        """
        Send one gift, **without the ledger's protection**: called twice, it sends twice.

        Use :class:`~airflow_provider_sendoso.operators.sendoso.SendGiftOperator` wherever a task may be retried. The
        POST is never repeated once Sendoso may have received it.

        :param gift_id: a gift of the catalogue; exactly one of ``gift_id`` and ``touch_id``.
        :param touch_id: a campaign. It is read first, to learn whether its gift goes by e-mail or by post (published).
        :param recipient: ``first_name``, ``last_name``, ``email``, optionally ``company``, ``title`` and ``address``
            (``line1``, ``line2``, ``city``, ``state``, ``postal_code``, ``country``), which physical gifts need (seed).
            A campaign's eGift needs only the ``email``; a campaign's parcel to an address outside the US also needs
            ``mobile_no`` (published).
        :param message: the note that accompanies the gift; optional for a campaign.
        :param variant_id: size or colour of a swag item.
        :param team_id: the team that pays.
        :param metadata: your own keys and values.
        :param address_confirmation: ``"email"`` or ``"link"``: how to ask a recipient without an address for it. This
            and the next three parameters apply to campaigns only (published).
        :param expire_after_days: days that the recipient has to answer, from 2 to 7.
        :param hide_product_info: whether to hide from the recipient which gift the address is for.
        :param address_confirmation_message: the text that the recipient reads when asked for the address.
        :return: the send with its ``id``; for a campaign, the id is ``tracking:<code>``.
        :raises SendosoConfigError: if a field is missing or wrong; nothing was sent.
        :raises SendosoConnectionError: if Sendoso could not be reached; nothing was sent.
        :raises SendosoApiError: if Sendoso refused the send; nothing was sent.
        :raises SendOutcomeUnknownError: if the gift may have gone out; Airflow does not retry this error.
        """
        send = make_send(
            gift_id=gift_id,
            touch_id=touch_id,
            recipient=recipient,
            message=message,
            variant_id=variant_id,
            team_id=team_id,
            metadata=metadata,
            asking={
                "address_confirmation": address_confirmation,
                "expire_after_days": expire_after_days,
                "hide_product_info": hide_product_info,
                "address_confirmation_message": address_confirmation_message,
            },
        )
        # Imported here, because a DAG file may import the hook, and sending.kinds imports an HTTP client.
        from airflow_provider_sendoso.sending.kinds import kind_of

        kind = kind_of(send)
        send = kind.shaped(send, self.find_touch)
        request = kind.request(send, airflow_key=None, via_from=self.config.via_from)
        read = partial(kind.read, send)
        exchange, outcome = self._post(request, read)
        sent = read(exchange.answer.json) if exchange.answer else None
        if outcome.verdict is Verdict.SENT and sent is not None:
            report_output(self, self.config.account)
            return sent
        if outcome.verdict is Verdict.UNKNOWN:
            raise SendOutcomeUnknownError(
                f"The outcome of {request} for the {send.item} is not known ({outcome.reason}): it may have gone out. "
                "Look in Sendoso before sending it again."
            )
        raise self._not_sent(request, exchange)

    def generate_egift_links(self, *, touch_id: int | str, emails: Sequence[str]) -> list[EgiftLink]:
        """
        Create an eGift link per recipient, **without the ledger's protection**: a second call creates more.

        Use :class:`~airflow_provider_sendoso.operators.sendoso.EgiftLinksOperator` wherever a task may be retried. The
        call is one POST (published), which is never repeated once Sendoso may have received it. Sendoso sends the
        recipients nothing. Anyone who has a link can redeem it, so keep links out of logs and out of XCom.

        :param touch_id: a campaign whose gifts are eGifts.
        :param emails: the recipients' e-mail addresses, without duplicates.
        :return: the links of Sendoso's answer, each with its ``email`` and ``link``.
        :raises SendosoConfigError: if a field is missing or wrong; no link was created.
        :raises SendosoConnectionError: if Sendoso could not be reached; no link was created.
        :raises SendosoApiError: if Sendoso refused the request; no link was created.
        :raises SendOutcomeUnknownError: if the links may have been created; Airflow does not retry this error.
        """
        if isinstance(emails, str | bytes) or not emails:
            raise SendosoConfigError("emails must be a list of e-mail addresses; nothing was sent.")
        sends = [validated(EgiftLinkSend, {"touch_id": touch_id, "email": email}) for email in emails]
        if len({normalise_key(send.email) for send in sends}) < len(sends):
            raise SendosoConfigError("emails has an address twice, which would be two gifts; nothing was sent.")
        request = egift_links_request(sends[0].touch_id, [send.email for send in sends], self.config.via_from)
        exchange, outcome = self._post(request, lambda body: Send.without_id() if read_egift_links(body) else None)
        if outcome.verdict is Verdict.SENT and exchange.answer is not None:
            report_output(self, self.config.account)
            return read_egift_links(exchange.answer.json)
        if outcome.verdict is Verdict.UNKNOWN:
            raise SendOutcomeUnknownError(
                f"The outcome of {request} for the {sends[0].item} is not known ({outcome.reason}): links may have "
                "been made. Look in Sendoso before making them again."
            )
        raise self._not_sent(request, exchange)

    def _post(self, request: Request, read: Callable[[Any], Send | None]) -> tuple[Exchange, PostOutcome]:
        """POST once; after a 401, POST once more with a renewed token."""
        token = self.session.token()
        exchange = self.session.paced(request, token)
        outcome = classify(request, exchange, renewed=False, own_gift=True, read=read)
        if outcome.verdict is Verdict.RENEW:
            exchange = self.session.paced(request, self.session.renew(token))
            outcome = classify(request, exchange, renewed=True, own_gift=True, read=read)
        return exchange, outcome

    def _not_sent(self, request: Request, exchange: Exchange) -> SendosoError:
        if exchange.answer is None:
            return SendosoConnectionError(
                f"Sendoso ({self.config.base_url}) could not be reached ({exchange.error}); no gift went out."
            )
        return api_error(request, exchange.answer)

    def find_touch(self, touch_id: int | str) -> Touch | None:
        """
        Read a campaign; return ``None`` if Sendoso does not know it.

        :param touch_id: the campaign's id.
        """
        try:
            return self.get_touch(touch_id)
        except SendosoNotFoundError:
            return None

    def get_send(self, send_id: str | int) -> Send:
        """
        Read one send.

        :param send_id: the id that was returned when the gift was sent.
        :raises SendosoNotFoundError: if Sendoso does not know the id.
        """
        request = get_send_request(str(send_id))
        return read_send_answer(str(send_id), self.session.read(request).json)

    def recorded_send_ids(self, *, batch_id: str | None = None, dedupe_scope: str | None = None) -> list[str]:
        """
        Read from the ledger the ids of the sends of a batch or of a scope.

        :param batch_id: a batch's id, as its operator returned it; exactly one of ``batch_id`` and ``dedupe_scope``.
        :param dedupe_scope: a scope of this connection's account.
        :raises SendosoConfigError: if the ledger does not know the batch or scope.
        """
        return [send.send_id for send in self.recorded_sends(batch_id=batch_id, dedupe_scope=dedupe_scope)]

    def recorded_sends(self, *, batch_id: str | None = None, dedupe_scope: str | None = None) -> Iterator[SendProgress]:
        """
        Read from the ledger the sends of a batch or of a scope, with the last status that is known of each.

        :param batch_id: a batch's id, as its operator returned it; exactly one of ``batch_id`` and ``dedupe_scope``.
        :param dedupe_scope: a scope of this connection's account.
        :return: a lazy iterator, which reads the ledger page by page.
        :raises SendosoConfigError: if the ledger does not know the batch or scope.
        """
        sends = self.ledger.sends
        if batch_id is not None:
            where = {"batch_id": batch_id, "account": self.config.account}
            known = sends.batch_exists(**where)
        else:
            where = {"account": self.config.account, "dedupe_scope": str(dedupe_scope)}
            known = sends.scope_exists(**where)
        if not known:
            raise SendosoConfigError(
                f"The ledger {self.ledger.identity.ledger_uuid} knows no {', '.join(map('='.join, where.items()))}. "
                "Is it the ledger that the batch was sent with?"
            )
        return sends.progress(**where)

    def recorded_among(self, send_ids: Iterable[str]) -> Iterator[SendProgress]:
        """
        Read from the ledger the last known status of those sends that it knows; without a ledger, yield nothing.

        :param send_ids: Sendoso's ids.
        """
        if self._ledger is None:
            return iter(())
        return self._ledger.sends.progress_of(self.config.account, send_ids)

    def note_statuses(self, statuses: Mapping[str, str]) -> None:
        """
        Write statuses into the ledger for those sends that it knows; without a ledger, do nothing.

        :param statuses: status by send id.
        :raises SendosoLedgerError: if the ledger's database does not answer.
        """
        if self._ledger is not None:
            self._ledger.sends.note_statuses(self.config.account, statuses)

    def keep_list(self, send_ids: Sequence[str], seconds: float) -> str | None:
        """
        Store a list of sends in the ledger, so that a trigger's arguments need not hold it.

        :param send_ids: the list.
        :param seconds: how long the list is needed.
        :return: the list's id; ``None`` without a ledger.
        """
        return None if self._ledger is None else self._ledger.send_lists.keep(send_ids, seconds)

    def kept_list(self, list_id: str) -> list[str]:
        """
        Read a list of sends that :meth:`keep_list` has stored in the ledger.

        :param list_id: the id that :meth:`keep_list` returned.
        :raises SendosoLedgerError: if the ledger does not hold the list.
        """
        return self.ledger.send_lists.read(list_id)

    # -- reads ---------------------------------------------------------------------------------------------------

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

    def list_sends(self, **filters: Any) -> Listed[Send]:
        """
        List the gift sends (inferred: the seed only reads a single one). The Send Tracker is ``list_objects("send")``.

        :param filters: query parameters, passed through; none is known.
        :return: a lazy iterator, which reads page by page.
        """
        return self._listed(Send, "sends", filters=filters)

    def get_me(self) -> User:
        """
        Read the Sendoso user that the connection authenticates as, with the remaining balance (published).

        :raises SendosoError: if Sendoso does not answer with a user.
        """
        return self._get(User, me_request())

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

    def _walk(self, listing: Listing) -> Iterator[dict[str, Any]]:
        yield from self.session.read_listing(listing)  # a generator: the connection is looked up when iteration begins

    def _get(self, model: type[_T], request: Request) -> _T:
        return read_object(request, model, self.session.read(request).json)

    def get_balance(self) -> float | None:
        """
        Read the remaining balance (published); ``None`` if Sendoso's answer holds none.

        :return: in the account's currency.
        :raises SendosoError: if Sendoso does not answer.
        """
        try:
            return float(_me(self.session.read)["balance"])
        except (KeyError, TypeError, ValueError):
            return None

    def test_connection(self) -> tuple[bool, str]:
        """
        Report the Sendoso user, the remaining balance, the request rate, and whether the ledger answers.

        Nothing is sent, and no request is repeated. Airflow calls this for its button *Test Connection*.

        :return: whether the connection works, and that report or the error; without secrets and personal data.
        """
        try:
            session, ledger = self.session, self._ledger
            session.tokens.get()
            who = self._who(session)
        except (SendosoConnectionError, SendosoServerError) as error:
            return False, f"{self.config.base_url} does not answer like Sendoso: {error}"
        except (SendosoError, AirflowNotFoundException) as error:
            return False, str(error)
        remembered = (
            f"The ledger {self.config.ledger_conn_id!r} ({ledger.identity.ledger_uuid}) answers."
            if ledger
            else f"No ledger: reads work, sends need the connection {self.config.ledger_conn_id!r}."
        )
        rate = f"{self.config.requests_per_second:g} requests a second"
        return True, f"Connected to {self.config.base_url}{who}, {rate}. {remembered}"

    def _who(self, session: SendosoSession) -> str:
        fields = _me(session.read_once)
        who = f" as user {fields['id']}" if fields.get("id") else ""
        balances = ((words, fields.get(words.replace(" ", "_"))) for words in ("balance", "team balance"))
        return who + "".join(f", {words} {amount}" for words, amount in balances if amount is not None)

    # -- the connection form before Airflow 3.2; newer versions read the provider's metadata -----------------------

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the connection form's own fields."""
        return connection_form.widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the connection form's standard fields look."""
        return connection_form.field_behaviour()


def _me(read: Callable[[Request], Answer]) -> Mapping[str, Any]:
    """Read the token's user; empty if Sendoso answers 403 or 404 (``/me`` is published, but not part of the seed)."""
    try:
        body = read(me_request()).json
    except SendosoApiError as error:
        if error.status_code in (403, 404):
            return {}
        raise
    user = body.get("user") if isinstance(body, Mapping) else None
    return user if isinstance(user, Mapping) else body if isinstance(body, Mapping) else {}
