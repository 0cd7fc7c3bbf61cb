"""The hook, against a local Sendoso on a real socket: raw sends, reads, and the test of a connection."""

from __future__ import annotations

import asyncio
import math
import pickle
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowNotFoundException, BaseHook
from sqlalchemy import create_engine, event, text
from tenacity import wait_none

import airflow_provider_sendoso
from airflow_provider_sendoso.client import pages, retrying
from airflow_provider_sendoso.exceptions import (
    SendosoAuthError,
    SendosoBadRequestError,
    SendosoConfigError,
    SendosoConnectionError,
    SendosoError,
    SendosoNotFoundError,
    SendosoRateLimitError,
    SendosoServerError,
    SendosoUnprocessableError,
    SendOutcomeUnknownError,
)
from airflow_provider_sendoso.hooks.connections import no_ledger
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.models import Gift, Send, SendStatus

SENDS = "/api/v3/sends"
ADDRESS = {"line1": "12 St James's Square", "city": "London", "postal_code": "SW1Y 4JH", "country": "GB"}
ADA = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com", "address": ADDRESS}
MUG = {"gift_id": "gift-mug", "recipient": ADA, "message": "Thank you, Ada."}
CONNECTION = {"conn_type": "sendoso", "login": "sandbox", "password": "sandbox"}

pytestmark = pytest.mark.usefixtures("no_backoff")


@pytest.fixture
def no_backoff(monkeypatch):
    monkeypatch.setattr(retrying, "backoff", wait_none())


@pytest.fixture
def hook(sendoso) -> SendosoHook:
    return SendosoHook()


def asked(sandbox, path: str, method: str | None = None) -> int:
    return sum(r.path == path and method in (None, r.method) for r in sandbox.requests)


def shows_nobody(error: BaseException) -> bool:
    shown = f"{error!r} {error} {error.__cause__!r} {error.__context__!r}"
    return re.search(r"\bada\b|lovelace|example\.com|james|sw1y", shown, re.I) is None


class TestNothingIsLookedUp:
    def test_constructing_a_hook_looks_up_no_connection(self, sendoso, monkeypatch):
        def look_up(*args, **kwargs):
            raise AssertionError("a connection was looked up")

        monkeypatch.setattr(BaseHook, "get_connection", look_up)
        hook = SendosoHook("no_such_connection")
        repr(hook)
        assert hook.sendoso_conn_id == "no_such_connection"
        assert sendoso.requests == []

    def test_using_a_hook_looks_up_its_connection(self):
        with pytest.raises(SendosoConfigError, match="no_such_connection") as raised:
            SendosoHook("no_such_connection").get_send("s-1")
        with pytest.raises(SendosoConfigError) as default:
            SendosoHook().get_send("s-1")
        assert "did you mean" not in str(default.value)
        assert isinstance(raised.value, AirflowFailException)

    @pytest.mark.parametrize("conn_id", ["sendoso_defualt", "sendoso-default", "sendosodefault", "sendoso"])
    def test_a_misspelt_connection_is_answered_with_a_similar_one_that_exists(self, sendoso, conn_id):
        with pytest.raises(SendosoConfigError, match=r"did you mean 'sendoso_default'\?"):
            SendosoHook(conn_id).get_send("s-1")
        assert sendoso.requests == []

    async def test_a_misspelt_connection_in_a_trigger_is_answered_with_a_similar_one_that_exists(self, set_connection):
        set_connection("emea_gifts", "sendoso://id:s3cret@app.sendoso.com")
        with pytest.raises(
            SendosoConfigError, match=r"'emea_gift' does not exist \(did you mean 'emea_gifts'\?\)"
        ) as raised:
            await SendosoHook("emea_gift").aprepare()
        assert "s3cret" not in str(raised.value)

    def test_no_connection_is_proposed_where_none_is_similar(self):
        with pytest.raises(SendosoConfigError) as raised:
            SendosoHook("warehouse").get_send("s-1")
        assert "did you mean" not in str(raised.value)

    def test_a_list_is_requested_when_its_iterator_is_used(self, hook, sendoso):
        gifts = hook.list_gifts()
        assert sendoso.requests == []
        next(gifts)
        assert asked(sendoso, "/api/v3/gifts") == 1

    def test_the_class_has_the_attributes_that_airflow_reads(self):
        assert (SendosoHook.conn_type, SendosoHook.conn_name_attr, SendosoHook.default_conn_name) == (
            "sendoso",
            "sendoso_conn_id",
            "sendoso_default",
        )
        assert SendosoHook.get_ui_field_behaviour()["relabeling"]["login"] == "Client ID"


class TestSendGiftAccepted:
    def test_send_gift_returns_the_send(self, hook, sendoso):
        send = hook.send_gift(**MUG, variant_id="mug-black", team_id="7", metadata={"contact_id": 42, "none": None})
        (accepted,) = sendoso.sends
        assert isinstance(send, Send)
        assert (send.id, send.status) == (accepted.id, SendStatus.PENDING)
        assert accepted.body == {
            "gift_id": "gift-mug",
            "message": "Thank you, Ada.",
            "first_name": "Ada",
            "last_name": "Lovelace",
            "email": "ada@example.com",
            "address": ADDRESS,
            "variant_id": "mug-black",
            "team_id": "7",
            "metadata": {"contact_id": 42},
        }
        assert asked(sendoso, SENDS) == 1

    def test_send_gift_called_twice_sends_twice(self, hook, sendoso):
        assert hook.send_gift(**MUG).id != hook.send_gift(**MUG).id
        assert len(sendoso.sends) == 2

    def test_a_revoked_token_is_renewed_once(self, hook, sendoso):
        hook.session.token()
        sendoso.revoke_tokens()
        assert hook.send_gift(**MUG).id == sendoso.sends[0].id
        assert (asked(sendoso, SENDS), asked(sendoso, "/oauth/token"), len(sendoso.sends)) == (2, 2, 1)

    def test_send_gift_works_with_a_ledger(self, hook, sendoso, ledger):
        assert hook.send_gift(**MUG).id == sendoso.sends[0].id


class TestSendGiftRefused:
    @pytest.mark.parametrize(
        ("changes", "kind", "words"),
        [
            ({"recipient": ADA | {"address": None}}, SendosoBadRequestError, "address line1 can't be blank"),
            ({"gift_id": "gift-unicorn"}, SendosoNotFoundError, "Gift not found"),
            ({"variant_id": "mug-plaid"}, SendosoUnprocessableError, "Variant not found"),
            ({"recipient": ADA | {"address": ADDRESS | {"country": "KP"}}}, SendosoUnprocessableError, "not eligible"),
        ],
    )
    def test_a_refusal_is_raised_in_sendosos_words(self, hook, sendoso, changes, kind, words):
        with pytest.raises(kind, match=words) as caught:
            hook.send_gift(**MUG | changes)
        assert shows_nobody(caught.value)
        assert (sendoso.sends, asked(sendoso, SENDS)) == ([], 1)

    def test_the_words_of_a_refusal_have_no_personal_data(self, hook, sendoso):
        said = "Ada Lovelace <ada@example.com>, 12 St James's Square: no such address"
        sendoso.fault("status", path=SENDS, status=400, body={"message": said})
        with pytest.raises(SendosoBadRequestError, match=r"<first_name> <last_name> <<email>>, <line1>") as caught:
            hook.send_gift(**MUG)
        assert shows_nobody(caught.value)

    def test_a_token_that_is_refused_twice_is_an_auth_error(self, hook, sendoso):
        sendoso.fault("status", times=9, path=SENDS, status=401)
        with pytest.raises(SendosoAuthError):
            hook.send_gift(**MUG)
        assert (asked(sendoso, SENDS), asked(sendoso, "/oauth/token")) == (2, 2)

    def test_a_throttle_is_a_retryable_error_with_the_seconds_to_wait(self, hook, sendoso):
        sendoso.fault("throttle", times=9, path=SENDS, retry_after=3)
        with pytest.raises(SendosoRateLimitError) as caught:
            hook.send_gift(**MUG)
        assert caught.value.retry_after == 3
        assert not isinstance(caught.value, AirflowFailException)
        assert asked(sendoso, SENDS) == 1

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"gift_id": None}, "gift_id is missing"),
            ({"message": " "}, "message is missing"),
            ({"recipient": None}, "recipient has a value of a wrong type"),
            ({"recipient": ADA | {"email": "Lovelace"}}, "email is not an e-mail address"),
            (
                {"recipient": ADA | {"first_name": None, "address": {"zip": "SW1Y"}}},
                "first_name is missing; address_zip",
            ),
            ({"metadata": {"x": ["Lovelace"]}}, "metadata_x must be text, a number or true or false"),
            ({"metadata": {"x": math.nan}}, "metadata_x must be text, a number or true or false"),
            ({"metadata": {"x": b"Lovelace"}}, "metadata_x must be text, a number or true or false"),
        ],
    )
    def test_an_invalid_send_is_not_posted(self, hook, sendoso, changes, words):
        with pytest.raises(SendosoConfigError, match=rf"The send is not valid: .*{words}.*Nothing was sent") as caught:
            hook.send_gift(**MUG | changes)
        assert shows_nobody(caught.value)
        assert sendoso.requests == []


class TestSendGiftUnknown:
    """A gift that may have gone out is posted again neither by the hook nor by a retry of Airflow's."""

    @pytest.mark.parametrize(
        ("fault", "options", "accepted"),
        [
            ("drop_before", {}, 0),
            ("drop_after", {}, 1),
            ("truncate", {}, 1),
            ("garbage", {}, 1),
            ("error_before", {"status": 503}, 0),
            ("error_after", {"status": 500}, 1),
            ("error_after", {"status": 504}, 1),
            ("redirect", {}, 0),
            ("redirect", {"location": "/api/v3/sends"}, 0),
            ("status", {"status": 200, "body": {"success": True}}, 0),
            ("status", {"status": 200, "body": {"success": False, "id": "s-1"}}, 0),
            ("status", {"status": 204, "body": None}, 0),
            ("status", {"status": 408}, 0),
            ("status", {"status": 409}, 0),
        ],
    )
    def test_a_send_of_unknown_outcome_is_posted_exactly_once(self, hook, sendoso, fault, options, accepted):
        sendoso.fault(fault, times=9, method="POST", path=SENDS, **options)
        with pytest.raises(SendOutcomeUnknownError, match="may have gone out") as caught:
            hook.send_gift(**MUG)
        assert isinstance(caught.value, AirflowFailException)
        assert shows_nobody(caught.value)
        assert (asked(sendoso, SENDS), len(sendoso.sends)) == (1, accepted)

    @pytest.mark.parametrize("accept_first", [True, False])
    def test_a_send_whose_answer_comes_too_late_is_posted_exactly_once(self, sendoso, late_answers, accept_first):
        sendoso.fault("slow", method="POST", path=SENDS, delay=1, accept_first=accept_first)
        with pytest.raises(SendOutcomeUnknownError):
            SendosoHook().send_gift(**MUG)
        assert asked(sendoso, SENDS) == 1

    def test_a_send_of_unknown_outcome_after_a_renewal_is_not_posted_again(self, hook, sendoso):
        hook.session.token()
        sendoso.revoke_tokens()
        sendoso.fault("status", times=1, method="POST", path=SENDS, status=401)
        sendoso.fault("drop_after", times=9, method="POST", path=SENDS)
        with pytest.raises(SendOutcomeUnknownError):
            hook.send_gift(**MUG)
        assert (asked(sendoso, SENDS), len(sendoso.sends)) == (2, 1)


class TestSendGiftNotReachable:
    def test_an_unreachable_host_is_a_retryable_error_that_says_no_gift_went_out(self, hook, sendoso):
        hook.session.token()
        sendoso.stop()
        with pytest.raises(SendosoConnectionError, match=r"could not be reached.*no gift went out") as caught:
            hook.send_gift(**MUG)
        assert shows_nobody(caught.value)
        assert sendoso.url in str(caught.value)
        assert not isinstance(caught.value, AirflowFailException)
        sendoso.start()
        assert hook.send_gift(**MUG).id == sendoso.sends[0].id

    def test_a_host_unreachable_for_the_token_is_a_connection_error(self, hook, sendoso):
        sendoso.stop()
        with pytest.raises(SendosoConnectionError):
            hook.send_gift(**MUG)


class TestGetSend:
    def test_get_send_returns_the_current_status(self, hook, sendoso):
        send = hook.send_gift(**MUG)
        sendoso.finish(send.id, "returned")
        assert hook.get_send(send.id).status is SendStatus.RETURNED

    def test_an_unknown_id_is_not_found(self, hook):
        with pytest.raises(SendosoNotFoundError, match="Send not found"):
            hook.get_send("send-0")

    def test_an_id_is_quoted_in_the_path(self, hook, sendoso):
        with pytest.raises(SendosoNotFoundError, match=r"GET /api/v3/sends/\.\.%2Fgifts%3Fx answered 404"):
            hook.get_send("../gifts?x")

    def test_an_id_may_be_a_number(self, hook, sendoso):
        sendoso.fault("status", status=200, body={"id": 7, "status": "Shipped"}, path=SENDS)
        assert hook.get_send(7).status is SendStatus.SHIPPED

    def test_an_answer_without_a_send_is_a_server_error(self, hook, sendoso):
        sendoso.fault("status", status=200, body={"success": True}, path=SENDS)
        with pytest.raises(SendosoServerError, match="without a send when asked for 's-1'"):
            hook.get_send("s-1")

    def test_get_send_is_repeated_after_an_error_that_may_pass(self, hook, sendoso):
        send_id = hook.send_gift(**MUG).id
        sendoso.fault("error_before", times=2, method="GET", status=502)
        sendoso.fault("drop_after", method="GET")
        assert hook.get_send(send_id).id == send_id


class TestListGifts:
    def test_list_gifts_returns_the_whole_catalogue(self, hook):
        gifts = list(hook.list_gifts())
        assert len(gifts) == 11
        assert all(isinstance(gift, Gift) for gift in gifts)
        assert (gifts[0].id, gifts[0].name, gifts[0].price, gifts[0].currency) == ("gift-mug", "Enamel mug", 18, "USD")

    @pytest.mark.parametrize(
        ("filters", "ids"),
        [
            ({"category": "donation"}, ["gift-donation-trees", "gift-donation-meals"]),
            ({"category": "egift", "min_price": 25}, ["gift-egift-books", "gift-egift-dinner"]),
            ({"max_price": 15}, ["gift-egift-coffee", "gift-donation-trees"]),
            ({"min_price": 45, "max_price": 50.0}, ["gift-plant", "gift-egift-dinner"]),
            ({"category": "yacht"}, []),
        ],
    )
    def test_list_gifts_filters_by_category_and_price(self, hook, filters, ids):
        assert [gift.id for gift in hook.list_gifts(**filters)] == ids

    def test_list_gifts_reads_page_after_page(self, hook, sendoso, monkeypatch):
        monkeypatch.setattr(pages, "PER_PAGE", 4)
        gifts = hook.list_gifts()
        first = [next(gifts) for _ in range(4)]
        assert asked(sendoso, "/api/v3/gifts") == 1
        assert len({gift.id for gift in [*first, *gifts]}) == 11
        assert asked(sendoso, "/api/v3/gifts") == 3

    def test_other_filters_are_passed_through(self, hook, requests_mock):
        requests_mock.post(f"{hook.config.base_url}/oauth/token", json={"access_token": "t"})
        requests_mock.get(f"{hook.config.base_url}/api/v3/gifts", json={"gifts": []})
        assert list(hook.list_gifts(text_search="mug", min_price=None)) == []
        assert requests_mock.last_request.qs == {"text_search": ["mug"], "page": ["1"], "per_page": ["100"]}


class TestTestConnection:
    def test_without_a_ledger_the_test_succeeds_and_warns_that_every_send_will_fail(self, hook, sendoso):
        assert hook.test_connection() == (
            True,
            f"Connected to {sendoso.url} as user 1, balance 1000.0, team balance 25000.0, account '127.0.0.1', "
            f"500 requests a second. Reads work, but EVERY SEND WILL FAIL. {no_ledger('sendoso_ledger')}",
        )

    def test_with_a_ledger_the_test_names_the_ledger(self, hook, sendoso, ledger):
        ok, words = hook.test_connection()
        assert ok
        assert words.endswith(f"The ledger 'sendoso_ledger' ({hook.ledger.identity.ledger_uuid}) answers.")

    def test_without_a_current_user_endpoint_the_test_succeeds(self, hook, sendoso):
        sendoso.fault("status", times=9, path="/api/v3/me", status=404)
        ok, words = hook.test_connection()
        assert ok
        assert words.startswith(f"Connected to {sendoso.url}, account '127.0.0.1', 500 requests a second.")

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"password": "wr0ng"}, r"did not grant a token \(invalid_client\).*Check the connection's login"),
            ({"login": None}, "'sendoso_default' has no login"),
            ({"password": None}, "'sendoso_default' has no password"),
            ({"host": "http://app.sendoso.com"}, "use https"),
            ({"extra": {"requests_per_secnd": 5}}, "'requests_per_secnd' is unknown"),
        ],
    )
    def test_the_test_fails_with_what_is_wrong_in_the_connection(self, sendoso, set_connection, changes, words):
        right = {"conn_type": "sendoso", "host": sendoso.url, "login": "sandbox", "password": "sandbox"}
        set_connection("sendoso_default", right | changes)
        ok, said = SendosoHook().test_connection()
        assert not ok
        assert "wr0ng" not in said
        with pytest.raises(AssertionError, match=words):
            raise AssertionError(said)

    def test_the_test_of_a_missing_connection_fails(self):
        ok, said = SendosoHook("no_such_connection").test_connection()
        assert (ok, "no_such_connection" in said) == (False, True)

    def test_the_test_fails_on_a_host_that_is_down(self, hook, sendoso):
        sendoso.stop()
        ok, said = hook.test_connection()
        assert (ok, said) == (
            False,
            f"{sendoso.url} does not answer like Sendoso: "
            "POST /oauth/token got no answer from Sendoso (ConnectionRefusedError).",
        )

    def test_the_test_fails_on_a_host_that_does_not_exist(self, set_connection):
        set_connection("sendoso_default", "sendoso://id:s3cret@nonexistent.invalid")
        ok, said = SendosoHook().test_connection()
        assert not ok
        assert "https://nonexistent.invalid does not answer like Sendoso" in said
        assert "got no answer" in said
        assert "s3cret" not in said

    def test_the_test_recognises_the_page_of_a_proxy(self, hook, sendoso):
        sendoso.fault("garbage", times=99)
        ok, said = hook.test_connection()
        assert (ok, said) == (
            False,
            f"{sendoso.url} does not answer like Sendoso: "
            "POST /oauth/token answered 200 with an HTML page, perhaps of a proxy.",
        )

    @pytest.mark.parametrize("path", ["/oauth/token", "/api/v3/me"])
    @pytest.mark.parametrize("fault", ["error_before", "drop_before", "throttle", "garbage"])
    def test_the_test_repeats_no_request(self, hook, sendoso, path, fault):
        sendoso.fault(fault, times=9, path=path)
        assert not hook.test_connection()[0]
        assert asked(sendoso, path) == 1

    def test_the_test_fails_on_a_ledger_of_a_refused_type(self, hook, set_connection):
        set_connection("sendoso_ledger", "snowflake://user:s3cret@account/db")
        ok, said = hook.test_connection()
        assert not ok
        assert "'sendoso_ledger' is of type 'snowflake'; use postgres" in said
        assert "s3cret" not in said

    @pytest.mark.parametrize("uri", ["sqlite://", "sqlite://relative.db"])
    def test_the_test_fails_on_a_sqlite_ledger_without_an_absolute_path(self, hook, set_connection, uri):
        set_connection("sendoso_ledger", uri)
        ok, said = hook.test_connection()
        assert not ok
        assert "absolute path" in said

    def test_the_test_sends_nothing(self, hook, sendoso):
        hook.test_connection()
        assert {request.path for request in sendoso.requests} == {"/oauth/token", "/api/v3/me"}


class TestLedger:
    def test_reads_work_without_a_ledger(self, hook):
        assert next(hook.list_gifts()).id == "gift-mug"

    @pytest.mark.parametrize("conn_id", ["sendoso_ledger", "my_ledger"])
    def test_without_a_ledger_the_error_has_the_line_to_set(self, sendoso, set_connection, conn_id):
        extra = {} if conn_id == "sendoso_ledger" else {"ledger_conn_id": conn_id}
        set_connection(
            "sendoso_default",
            {"conn_type": "sendoso", "host": sendoso.url, "login": "sandbox", "password": "sandbox", "extra": extra},
        )
        with pytest.raises(SendosoConfigError) as caught:
            _ = SendosoHook().ledger
        said = str(caught.value)
        assert f"AIRFLOW_CONN_{conn_id.upper()}='sqlite:////var/lib/airflow/sendoso_ledger.db'" in said
        assert f"AIRFLOW_CONN_{conn_id.upper()}='postgres://user:password@host:5432/sendoso'" in said
        assert "Nothing was sent." in said

    def test_the_line_to_set_is_a_working_connection(self, sendoso, set_connection, tmp_path):
        set_connection("sendoso_ledger", f"sqlite:///{tmp_path}/sendoso_ledger.db")
        assert isinstance(SendosoHook().ledger, Ledger)
        assert (tmp_path / "sendoso_ledger.db").exists()

    def test_all_hooks_of_a_process_share_one_ledger(self, sendoso, ledger):
        assert SendosoHook().ledger is SendosoHook().ledger

    def test_one_connection_serves_one_thread_after_the_other(self, sendoso, ledger):
        book = SendosoHook().ledger
        book.sends.scopes("account")  # where tables were made, MySQL's first connection is gone
        opened = []
        event.listen(book._database.engine, "connect", lambda *_: opened.append(1))
        for _ in range(2):
            with ThreadPoolExecutor(1) as thread:
                assert thread.submit(book.sends.scopes, "account").result() == []
        assert opened == []

    def test_all_hooks_of_a_process_share_one_token(self, sendoso, ledger):
        hooks = [SendosoHook() for _ in range(8)]
        threads = [threading.Thread(target=lambda hook=hook: list(hook.list_gifts())) for hook in hooks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (asked(sendoso, "/oauth/token"), asked(sendoso, "/api/v3/gifts")) == (1, 8)

    def test_another_client_secret_does_not_get_the_stored_token(self, sendoso, ledger, set_connection):
        """A token is encrypted with the client secret, so a new client secret cannot decrypt it."""
        list(SendosoHook().list_gifts())
        set_connection(
            "rotated", {"conn_type": "sendoso", "host": sendoso.url, "login": "sandbox", "password": "another"}
        )
        with pytest.raises(SendosoAuthError):
            list(SendosoHook("rotated").list_gifts())

    @pytest.mark.parametrize("conn_id", ["sendoso_ledger", "my_ledger"])
    def test_a_refresh_token_needs_a_ledger(self, sendoso, set_connection, conn_id):
        extra = {"grant_type": "refresh_token", "refresh_token": "r3fresh", "ledger_conn_id": conn_id}
        set_connection("sendoso_default", {**CONNECTION, "host": sendoso.url, "extra": extra})
        with pytest.raises(SendosoConfigError, match=f"needs a ledger.*AIRFLOW_CONN_{conn_id.upper()}=") as caught:
            SendosoHook().get_send("s-1")
        assert "r3fresh" not in str(caught.value)
        assert sendoso.requests == []

    def test_a_refresh_token_is_traded_with_a_ledger(self, sendoso, ledger, set_connection):
        extra = {"grant_type": "refresh_token", "refresh_token": sendoso.issue_refresh_token()}
        set_connection("sendoso_default", {**CONNECTION, "host": sendoso.url, "extra": extra})
        first = SendosoHook().session.token()
        assert SendosoHook().session.renew(first) != first
        assert next(SendosoHook().list_gifts()).id == "gift-mug"


class TestRevokeTokens:
    def test_revoked_tokens_are_dead_and_forgotten(self, hook, sendoso):
        stale = hook.session.token()
        assert hook.revoke_tokens() == 1
        assert hook.revoke_tokens() == 0
        assert asked(sendoso, "/oauth/revoke") == 1
        assert hook.session.token() != stale

    def test_a_token_that_could_not_be_revoked_is_kept(self, hook, sendoso):
        token = hook.session.token()
        sendoso.fault("error_before", times=9, path="/oauth/revoke")
        with pytest.raises(SendosoServerError):
            hook.revoke_tokens()
        assert hook.session.token() == token


class TestAsync:
    async def test_aprepare_looks_everything_up_in_advance(self, hook, sendoso, monkeypatch):
        await hook.aprepare()
        monkeypatch.setattr(BaseHook, "get_connection", None)
        assert hook.config.base_url == sendoso.url
        assert hook.session.token()

    async def test_connections_that_only_the_synchronous_call_finds(self, hook, ledger, monkeypatch):
        async def nowhere(conn_id, hook):
            raise AirflowNotFoundException(conn_id)

        monkeypatch.setattr("airflow_provider_sendoso.hooks.sendoso.get_async_connection", nowhere)
        await hook.aprepare()
        assert await asyncio.to_thread(hook.session.token)
        assert hook.ledger

    async def test_aprepare_fails_with_what_is_wrong_in_the_connection(self, set_connection):
        set_connection("sendoso_default", "sendoso://:pw@app.sendoso.com")
        with pytest.raises(SendosoConfigError, match="no login"):
            await SendosoHook().aprepare()


def test_secrets_are_in_no_error_and_no_repr(sendoso, set_connection):
    set_connection(
        "sendoso_default",
        {"conn_type": "sendoso", "host": sendoso.url, "login": "sandbox", "password": "p4ss-w0rd-1"},
    )
    hook = SendosoHook()
    with pytest.raises(SendosoError) as caught:
        hook.send_gift(**MUG)
    shown = f"{caught.value!r}{caught.value}{caught.value.__context__!r}{hook!r}{hook.config!r}{hook.session!r}"
    assert "p4ss-w0rd-1" not in shown + str(pickle.dumps(caught.value))


def test_a_ledger_whose_connections_were_cut_is_connected_to_again(sendoso, postgres_database, set_connection) -> None:
    database = postgres_database()
    set_connection("sendoso_ledger", database.connection)
    ledger = SendosoHook().ledger
    admin = create_engine(database.url)
    with admin.begin() as connection:
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name AND pid <> pg_backend_pid()"
        assert connection.execute(text(cut), {"name": database.name}).scalars().all()
    admin.dispose()
    assert ledger.sends.scopes("account") == []


def test_only_client_and_sending_build_the_request_of_a_send() -> None:
    package = Path(airflow_provider_sendoso.__path__[0])
    makers = re.compile(r"\b(gift_send|campaign_send|egift_links)_request\b")
    users = {path.relative_to(package).parts[0] for path in package.rglob("*.py") if makers.search(path.read_text())}
    assert users == {"client", "sending"}
