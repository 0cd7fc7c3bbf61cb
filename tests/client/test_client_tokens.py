"""The token is cached, renewed in time, and requested once for all threads; and no refresh token is lost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest
from pydantic import SecretStr

from airflow_provider_sendoso.client import tokens as tokens_module
from airflow_provider_sendoso.client.answers import Answer, Exchange, Phase
from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.oauth import Grant, Tokens
from airflow_provider_sendoso.client.tokens import MemoryTokenStore, TokenManager
from airflow_provider_sendoso.exceptions import (
    SendosoAuthError,
    SendosoConnectionError,
    SendosoLedgerError,
    SendosoRateLimitError,
    SendosoServerError,
)

CONFIG = ClientConfig(base_url="https://app.sendoso.com", client_id="cid", client_secret="s3cret", account="a")
AUTHORISED = CONFIG.model_copy(update={"grant_type": "refresh_token", "refresh_token": SecretStr("refresh-0")})


class FarSide:
    """Grants ``token-1``, ``token-2``, …; a refresh token is good once. It counts, and can fail or take its time."""

    def __init__(self) -> None:
        self.lifetime = 7200.0
        self.granted = 0
        self.error: Exception | None = None
        self.status = 200
        self.takes = 0.0
        self.refresh_token = "refresh-0"
        self.tried: list[str] = []
        self.revoked: list[str] = []

    def ask(self, request: Request, *, before: Callable[[], None]) -> Exchange:
        before()
        time.sleep(self.takes)
        if self.error:
            raise self.error
        if self.status != 200:
            return answered(self.status, {})
        if request.path == "/oauth/revoke":
            self.revoked.append(request.params["token"])
            return Exchange(Phase.ANSWERED, Answer(204, {}, b""))
        grant = {"expires_in": self.lifetime}
        if request.json["grant_type"] == "refresh_token":
            self.tried.append(request.json["refresh_token"])
            if self.tried[-1] != self.refresh_token:
                return answered(400, {"error": "invalid_grant"})
            self.refresh_token = grant["refresh_token"] = f"refresh-{self.granted + 1}"
        self.granted += 1
        return answered(200, grant | {"access_token": f"token-{self.granted}"})


def answered(status: int, body: object) -> Exchange:
    return Exchange(Phase.ANSWERED, Answer(status, {}, json.dumps(body).encode()))


class SharedStore(MemoryTokenStore):
    """A store with a real claim, as several processes share one."""

    def __init__(self) -> None:
        super().__init__()
        self.owner: str | None = None
        self.history: list[str] = []
        self._lock = threading.Lock()

    def claim(self, owner: str, lease: float) -> bool:
        with self._lock:
            if self.owner not in (None, owner):
                return False
            self.owner = owner
            return True

    def renew(self, owner: str, lease: float) -> bool:
        return self.owner == owner

    def clear(self, owner: str) -> bool:
        return self.owner == owner and super().clear(owner)

    def store(self, owner: str, text: str, renew_after: float) -> bool:
        if self.owner != owner:
            return False
        self.history.append(f"store {Tokens.load(text).access_token}")
        return super().store(owner, text, renew_after)

    def release(self, owner: str) -> None:
        if self.owner == owner:
            self.owner = None


@pytest.fixture
def far() -> FarSide:
    return FarSide()


@pytest.fixture
def store() -> SharedStore:
    return SharedStore()


def manager(store: MemoryTokenStore, far: FarSide, config=CONFIG, lease: float = 60, **kwargs) -> TokenManager:
    return TokenManager(config, store, far.ask, lease=lease, **kwargs)


def text(access_token: str) -> str:
    return Tokens(access_token).dump()


class TestGet:
    def test_a_token_is_fetched_once_and_cached(self, store, far):
        ours = manager(store, far)
        assert [ours.get() for _ in range(5)] == ["token-1"] * 5
        assert far.granted == 1

    def test_a_stored_token_is_used(self, store, far):
        manager(store, far).get()
        assert manager(store, far).get() == "token-1"
        assert far.granted == 1

    @pytest.mark.parametrize(("lifetime", "good_for"), [(7200, 6900), (3000, 2700), (100, 90)])
    def test_a_token_is_renewed_before_it_expires(self, store, far, clock, monkeypatch, lifetime, good_for):
        monkeypatch.setattr(tokens_module, "time", clock)
        far.lifetime = lifetime
        ours = manager(store, far)
        assert ours.get() == "token-1"
        clock.now += good_for - 1
        assert ours.get() == "token-1"
        clock.now += 2
        assert ours.get() == "token-2"

    def test_an_expired_stored_token_is_not_used(self, store, far, clock, monkeypatch):
        monkeypatch.setattr(tokens_module, "time", clock)
        manager(store, far).get()
        clock.now += 7000
        assert manager(store, far).get() == "token-2"

    def test_twenty_threads_make_one_request(self, store, far):
        far.takes = 0.05
        ours = manager(store, far)
        with ThreadPoolExecutor(20) as pool:
            assert set(pool.map(lambda _: ours.get(), range(20))) == {"token-1"}
        assert far.granted == 1

    def test_twenty_processes_make_one_request(self, store, far):
        far.takes = 0.05
        with ThreadPoolExecutor(20) as pool:
            assert set(pool.map(lambda _: manager(store, far).get(), range(20))) == {"token-1"}
        assert far.granted == 1


class TestRenew:
    def test_a_stale_token_is_replaced(self, store, far):
        ours = manager(store, far)
        assert ours.renew(ours.get()) == "token-2"
        assert ours.get() == "token-2"

    def test_a_token_that_another_process_has_renewed_is_used(self, store, far):
        ours, theirs = manager(store, far), manager(store, far)
        stale = ours.get()
        assert theirs.renew(stale) == "token-2"
        assert ours.renew(stale) == "token-2"
        assert far.granted == 2

    def test_twenty_threads_with_the_same_stale_token_make_one_request(self, store, far):
        ours = manager(store, far)
        stale = ours.get()
        far.takes = 0.05
        with ThreadPoolExecutor(20) as pool:
            assert set(pool.map(lambda _: ours.renew(stale), range(20))) == {"token-2"}
        assert far.granted == 2


class TestAnothersClaim:
    def test_another_process_claim_is_waited_for(self, store, far):
        assert store.claim("somebody else", 60)

        def finish() -> None:
            store.store("somebody else", text("their-token"), 3600)
            store.release("somebody else")

        timer = threading.Timer(0.1, finish)
        timer.start()
        assert manager(store, far).get() == "their-token"
        timer.join()
        assert far.granted == 0

    def test_a_claim_given_back_without_a_token_is_taken_over(self, store, far):
        assert store.claim("somebody else", 60)
        timer = threading.Timer(0.1, lambda: store.release("somebody else"))
        timer.start()
        assert manager(store, far).get() == "token-1"
        timer.join()

    def test_a_token_stored_just_before_the_own_claim_is_used(self, store, far, monkeypatch):
        def claim(owner: str, lease: float) -> bool:
            store.owner = owner
            MemoryTokenStore.store(store, "somebody else", text("their-token"), 3600)
            return True

        monkeypatch.setattr(store, "claim", claim)
        assert manager(store, far).get() == "their-token"
        assert far.granted == 0

    def test_another_process_claim_is_waited_for_no_longer_than_its_lease(self, store, far):
        assert store.claim("somebody else", 60)
        with pytest.raises(SendosoConnectionError, match="another process has been renewing it for too long"):
            manager(store, far, lease=0.05).get()
        assert far.granted == 0
        assert store.owner == "somebody else"


class TestErrors:
    @pytest.mark.parametrize(
        ("failure", "kind"), [({"status": 500}, SendosoServerError), ({"error": KeyError("unexpected")}, KeyError)]
    )
    def test_an_error_releases_the_claim(self, store, far, failure, kind):
        vars(far).update(failure)
        with pytest.raises(kind):
            manager(store, far).get()
        assert store.owner is None

    def test_an_error_does_not_affect_the_next_request(self, store, far):
        ours = manager(store, far)
        far.status = 500
        with pytest.raises(SendosoServerError):
            ours.get()
        far.status = 200
        assert ours.get() == "token-1"


class TestRefreshTokens:
    """The new refresh token is stored before its access token is used, and no refresh token is tried twice."""

    def test_each_refresh_token_is_traded_for_the_next(self, store, far):
        ours = manager(store, far, AUTHORISED)
        assert [ours.renew(ours.get()) for _ in range(3)] == ["token-2", "token-3", "token-4"]
        assert far.tried == ["refresh-0", "refresh-1", "refresh-2", "refresh-3"]
        assert ours.stored().refresh_token == "refresh-4"

    def test_the_stored_refresh_token_is_used_before_the_connections(self, store, far):
        manager(store, far, AUTHORISED).get()
        theirs = manager(store, far, AUTHORISED)
        assert theirs.renew("token-1") == "token-2"
        assert far.tried == ["refresh-0", "refresh-1"]

    def test_a_dead_stored_refresh_token_gives_way_to_the_connections(self, store, far):
        """A person has authorised again, and has put the new refresh token into the connection."""
        manager(store, far, AUTHORISED).get()
        far.refresh_token = "refresh-new"
        again = AUTHORISED.model_copy(update={"refresh_token": SecretStr("refresh-new")})
        assert manager(store, far, again).renew("token-1") == "token-2"
        assert far.tried == ["refresh-0", "refresh-1", "refresh-new"]

    def test_with_only_dead_refresh_tokens_the_error_asks_for_a_person_and_none_is_tried_again(self, store, far):
        manager(store, far, AUTHORISED).get()
        far.refresh_token = "somebody else's"
        for _ in range(2):
            with pytest.raises(SendosoAuthError, match="authorise again"):
                manager(store, far, AUTHORISED).renew("token-1")
        assert far.tried == ["refresh-0", "refresh-1"]
        assert store.owner is None

    @pytest.mark.parametrize("status", [400, 401, 403, 429, 500, 503])
    def test_an_error_of_the_server_spends_no_refresh_token(self, store, far, status):
        far.status = status
        with pytest.raises((SendosoAuthError, SendosoServerError, SendosoRateLimitError)):
            manager(store, far, AUTHORISED).get()
        far.status = 200
        assert manager(store, far, AUTHORISED).get() == "token-1"

    def test_a_refresh_token_that_could_not_be_stored_is_reported_as_lost(self, store, far, monkeypatch):
        def fail(*args):
            raise SendosoLedgerError("The ledger does not answer.")

        monkeypatch.setattr(store, "store", fail)
        with pytest.raises(
            SendosoLedgerError, match=r"does not answer\. .*is lost: a person has to authorise"
        ) as caught:
            manager(store, far, AUTHORISED).get()
        assert "refresh-1" not in f"{caught.value!r} {caught.value.__context__!r}"

    @pytest.mark.parametrize(
        ("theirs", "refresh_token", "token"),
        [
            (Tokens("their-token", "their-refresh"), "their-refresh", "their-token"),
            (Tokens("old-token", "refresh-0"), "refresh-1", "token-1"),
            (Tokens("their-token"), "refresh-1", "token-1"),
        ],
        ids=["they have gone on", "they have the one that we spent", "they have none"],
    )
    def test_a_process_that_slept_through_its_lease_keeps_the_usable_refresh_token(
        self, store, far, theirs, refresh_token, token
    ):
        def sleep_through(request: Request, **how: Callable[[], None]) -> Exchange:
            exchange = FarSide.ask(far, request, **how)
            store.release(store.owner)
            assert store.claim("somebody else", 60)
            store.store("somebody else", theirs.dump(), 3600)
            store.release("somebody else")
            return exchange

        far.ask = sleep_through
        ours = manager(store, far, AUTHORISED)
        assert ours.get() == token
        assert ours.stored().refresh_token == refresh_token


class TestAdopt:
    def test_adopt_replaces_all_stored_tokens(self, store, far):
        ours = manager(store, far, AUTHORISED)
        ours.get()
        ours.adopt(Grant("by-hand", 7200, "refresh-by-hand"))
        assert ours.get() == manager(store, far, AUTHORISED).get() == "by-hand"
        assert ours.stored() == Tokens("by-hand", "refresh-by-hand")
        assert store.owner is None


class TestRevoke:
    def test_revoke_revokes_and_forgets_every_token(self, store, far):
        ours = manager(store, far, AUTHORISED)
        ours.get()
        assert ours.revoke() == 2  # both answered with 204, which has no body
        assert far.revoked == ["refresh-1", "token-1"]
        assert (ours.cached(), ours.stored(), store.owner) == (None, Tokens(), None)
        assert ours.revoke() == 0

    def test_the_token_after_a_revocation_is_new(self, store, far):
        ours = manager(store, far)
        ours.get()
        ours.revoke()
        assert ours.get() == "token-2"

    def test_tokens_stored_by_another_process_during_a_revocation_are_revoked(self, store, far, monkeypatch):
        """The claim lapses during a sleep after the last answer; the tokens that another stored are revoked, too."""
        ours = manager(store, far, AUTHORISED)
        ours.get()

        def sleep_through(owner: str) -> bool:
            monkeypatch.undo()
            store.owner = "somebody else"
            store.store("somebody else", Tokens("their-token", "their-refresh").dump(), 3600)
            store.release("somebody else")
            return store.clear(owner)

        monkeypatch.setattr(store, "clear", sleep_through)
        assert ours.revoke() == 2
        assert far.revoked == ["refresh-1", "token-1", "their-refresh", "their-token"]
        assert ours.stored() == Tokens()

    def test_no_process_renews_during_a_revocation(self, store, far):
        ours, theirs = manager(store, far), manager(store, far)
        ours.get()
        far.takes = 0.2
        with ThreadPoolExecutor(1) as pool:
            revoking = pool.submit(ours.revoke)
            while store.owner is None:
                time.sleep(0.001)
            assert theirs.renew("token-1") == "token-2"
            assert revoking.result() == 1
        assert theirs.stored().access_token == "token-2"


class TestMasking:
    def test_a_new_token_is_masked_before_anything_else_sees_it(self, store, far):
        manager(store, far, mask=lambda token: store.history.append(f"mask {token}")).get()
        assert store.history == ["mask token-1", "store token-1"]

    def test_a_stored_token_is_masked(self, store, far):
        manager(store, far).get()
        masked: list[str] = []
        manager(store, far, mask=masked.append).get()
        assert masked == ["token-1"]

    def test_a_refresh_token_is_masked(self, store, far):
        masked: list[str] = []
        manager(store, far, AUTHORISED, mask=masked.append).get()
        assert set(masked) == {"token-1", "refresh-1"}

    @pytest.mark.parametrize("shown", [Grant("t0ken", 7200, "r3fresh"), Tokens("t0ken", "r3fresh")])
    def test_no_repr_has_a_token(self, shown):
        assert "t0ken" not in repr(shown)
        assert "r3fresh" not in repr(shown)


class TestTheThread:
    def test_an_error_of_the_thread_keeps_its_traceback_and_cause(self, store, far):
        cause, error = ValueError("cause"), KeyError("unexpected")
        error.__cause__, far.error = cause, error
        with pytest.raises(KeyError) as caught:
            manager(store, far).get()
        assert (caught.value, caught.value.__cause__) == (error, cause)
        assert [entry.name for entry in caught.traceback][-1] == "ask"

    def test_the_thread_has_the_context_of_its_caller(self, store, far):
        """Airflow and its logging find the current task in the context."""
        task: ContextVar[str] = ContextVar("task", default="none")
        task.set("mine")
        seen: list[str] = []
        manager(store, far, mask=lambda token: seen.append(task.get())).get()
        assert seen == ["mine"]

    def test_the_thread_ends(self, store, far):
        before = set(threading.enumerate())
        ours = manager(store, far)
        ours.renew(ours.get())
        for thread in set(threading.enumerate()) - before:
            thread.join(60)  # the thread logs its last line after its caller has gone on
            assert not thread.is_alive()
