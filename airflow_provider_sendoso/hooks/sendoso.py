"""The hook: resolves an Airflow connection into a session with Sendoso and, if one is configured, a ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
from asgiref.sync import sync_to_async

from airflow_provider_sendoso import DEFAULT_CONN_ID, connection_form
from airflow_provider_sendoso.arguments.gifts import GiftArguments
from airflow_provider_sendoso.arguments.sends import make_send, validated
from airflow_provider_sendoso.arguments.values import text
from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.client.reads import Reads, read_me
from airflow_provider_sendoso.connection_ids import has_to_exist
from airflow_provider_sendoso.exceptions import (
    SendosoConfigError,
    SendosoConnectionError,
    SendosoError,
    SendosoServerError,
)
from airflow_provider_sendoso.hooks.connections import (
    check_connection,
    no_ledger,
    open_ledger,
    read_config,
    shared_session,
)
from airflow_provider_sendoso.hooks.recorded import Recorded
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.models import (
    EgiftLink,
    EgiftLinkSend,
    Send,
    normalise_key,
    read_balance,
)
from airflow_provider_sendoso.observability.lineage import report_output

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_sendoso.client.session import SendosoSession


class SendosoHook(Reads, Recorded, BaseHook):
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
        self.sendoso_conn_id = text("sendoso_conn_id", sendoso_conn_id) or ""

    # -- the connection ------------------------------------------------------------------------------------------

    @cached_property
    def config(self) -> ClientConfig:
        """
        The validated connection, as it was at the first look.

        :raises SendosoConfigError: if there is no such connection, or if it is invalid.
        """
        return self.read_config()

    def read_config(self) -> ClientConfig:
        """
        Read and validate the connection as it is now.

        :raises SendosoConfigError: if there is no such connection, or if it is invalid.
        """
        with has_to_exist(self.sendoso_conn_id):
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
        with has_to_exist(self.sendoso_conn_id):
            connection = await self._find_connection(self.sendoso_conn_id)
        check_connection(self.sendoso_conn_id, connection)
        self.config = read_config(self.sendoso_conn_id, connection, await get_async_extra_dejson(connection))
        conn_id = self.config.ledger_conn_id
        try:
            ledger_connection = await self._find_connection(conn_id)
        except AirflowNotFoundException:
            self._ledger = None
        else:
            self._ledger = await sync_to_async(open_ledger)(conn_id, ledger_connection)
        await asyncio.to_thread(lambda: self.session)

    async def _find_connection(self, conn_id: str) -> Connection:
        try:
            return await get_async_connection(conn_id, hook=self)
        except AirflowNotFoundException:
            # `airflow dags test` runs a trigger in its own process, where Airflow 3 finds what was made in the UI by
            # the synchronous call alone.
            return await sync_to_async(self.get_connection)(conn_id)

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
        marketplace_variant_id: str | None = None,
        smart_send: bool | str | None = None,
        recipient: Mapping[str, Any],
        message: str | None = None,
        variant_id: str | None = None,
        team_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        address_confirmation: str | None = None,
        expire_after_days: int | None = None,
        hide_product_info: bool | None = None,
        address_confirmation_message: str | None = None,
        price_lte_usd: int | str | None = None,
        gift_exchange_enabled: bool | str | None = None,
        meeting_url: str | None = None,
        require_approval: bool | str | None = None,
        sender: Mapping[str, Any] | None = None,
    ) -> Send:
        """
        Send one gift, **without the ledger's protection**: called twice, it sends twice.

        Use :class:`~airflow_provider_sendoso.operators.sendoso.SendGiftOperator` wherever a task may be retried. The
        POST is never repeated once Sendoso may have received it.

        :param gift_id: a gift of the catalogue; exactly one of ``gift_id`` and ``touch_id``.
        :param touch_id: a campaign. It is read first, to learn whether its gift goes by e-mail or by post (published).
        :param marketplace_variant_id: a variant of a product of Sendoso's marketplace instead of a gift
            (published). Sendoso asks the recipient for the address. Of several variants Sendoso sends only the first.
        :param smart_send: ``True``: Sendoso picks a gift for the recipient, instead of a gift (published).
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
        :param price_lte_usd: for ``smart_send``: the most that the gift may cost, in whole USD (published). Every
            limit on costs needs it.
        :param gift_exchange_enabled: for ``marketplace_variant_id`` and ``smart_send``, as the next two: whether the
            recipient may exchange the gift for another one (published).
        :param meeting_url: where the recipient can arrange a meeting, beginning with ``https://`` (published).
        :param require_approval: whether the send waits at Sendoso until a manager approves it in the Send Tracker
            (published).
        :param sender: for ``marketplace_variant_id``: ``first_name``, ``last_name``, ``email`` and
            ``organization_name`` of who sends the gift (published).
        :return: the send with its ``id``; for a campaign, the id is ``tracking:<code>``.
        :raises SendosoConfigError: if a field is missing or wrong; nothing was sent.
        :raises SendosoLimitError: if the connection's ``max_sends_per_batch`` is 0, or if the connection has a limit
            that only the ledger keeps; nothing was sent.
        :raises SendosoConnectionError: if Sendoso could not be reached; nothing was sent.
        :raises SendosoApiError: if Sendoso refused the send; nothing was sent.
        :raises SendOutcomeUnknownError: if the gift may have gone out; Airflow does not retry this error.
        """
        gift = {
            "gift_id": gift_id,
            "touch_id": touch_id,
            "message": message,
            "variant_id": variant_id,
            "team_id": team_id,
            "metadata": metadata,
            "address_confirmation": address_confirmation,
            "expire_after_days": expire_after_days,
            "hide_product_info": hide_product_info,
            "address_confirmation_message": address_confirmation_message,
            "marketplace_variant_id": marketplace_variant_id,
            "smart_send": smart_send,
            "price_lte_usd": price_lte_usd,
            "gift_exchange_enabled": gift_exchange_enabled,
            "meeting_url": meeting_url,
            "require_approval": require_approval,
            "sender": sender,
        }
        send = make_send(GiftArguments.parse(gift), recipient)
        # Imported here, because a DAG file may import the hook, and sending.kinds imports an HTTP client.
        from airflow_provider_sendoso.sending.raw import send_raw

        sent = send_raw(self, send)
        report_output(self, self.config.account)
        return sent

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
        :raises SendosoLimitError: for more than the connection's ``max_sends_per_batch``, or if the connection has a
            limit that only the ledger keeps; no link was created.
        :raises SendosoConnectionError: if Sendoso could not be reached; no link was created.
        :raises SendosoApiError: if Sendoso refused the request; no link was created.
        :raises SendOutcomeUnknownError: if the links may have been created; Airflow does not retry this error.
        """
        if isinstance(emails, str | bytes) or not emails:
            raise SendosoConfigError("emails must be a list of e-mail addresses; nothing was sent.")
        sends = [validated(EgiftLinkSend, {"touch_id": touch_id, "email": email}) for email in emails]
        if len({normalise_key(send.email) for send in sends}) < len(sends):
            raise SendosoConfigError("emails has an address twice, which would be two gifts; nothing was sent.")
        from airflow_provider_sendoso.sending.raw import make_links_raw  # as in send_gift

        links = make_links_raw(self.session, sends)
        report_output(self, self.config.account)
        return links

    # -- the button Test Connection ------------------------------------------------------------------------------

    def test_connection(self) -> tuple[bool, str]:
        """
        Report the Sendoso user, the balance, the account's name, the request rate, and whether the ledger answers.

        Nothing is sent, and no request is repeated. Airflow calls this for its button *Test Connection*.

        :return: whether the connection works, and that report or the error; without secrets and personal data.
        """
        try:
            session, ledger = self.session, self._ledger
            session.tokens.get()
            who = self.whose_token()
        except (SendosoConnectionError, SendosoServerError) as error:
            return False, f"{self.config.base_url} does not answer like Sendoso: {error}"
        except SendosoError as error:
            return False, str(error)
        remembered = (
            f"The ledger {self.config.ledger_conn_id!r} ({ledger.identity.ledger_uuid}) answers."
            if ledger
            else f"Reads work, but EVERY SEND WILL FAIL. {no_ledger(self.config.ledger_conn_id)}"
        )
        account = f"account {self.config.account!r}, {self.config.requests_per_second:g} requests a second"
        return True, f"Connected to {self.config.base_url}{who}, {account}. {remembered}"

    def whose_token(self) -> str:
        """
        Say which user the token is of, and what is left to spend, as the end of a sentence; without personal data.

        :raises SendosoError: if Sendoso does not answer.
        """
        fields = read_me(self.session.read_once)
        who = f" as user {fields['id']}" if fields.get("id") else ""
        balances = ((words, read_balance(fields.get(words.replace(" ", "_")))) for words in ("balance", "team balance"))
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
