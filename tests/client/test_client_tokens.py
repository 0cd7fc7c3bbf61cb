"""One token: cached, renewed in time, and fetched once however many ask."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_sendoso.client import tokens as tokens_module
from airflow_provider_sendoso.client.oauth import Grant
from airflow_provider_sendoso.client.tokens import MemoryTokenStore, TokenManager
from airflow_provider_sendoso.exceptions import SendosoConnectionError, SendosoServerError


class Tokens:
    """A far side that grants ``token-1``, ``token-2``, …; counts, and can fail or take its time."""

    def __init__(self, lifetime: float = 7200.0) -> None:
        self.lifetime = lifetime
        self.granted = 0
        self.error: Exception | None = None
        self.takes = 0.0

    def fetch(self) -> Grant:
        time.sleep(self.takes)
        if self.error:
            raise self.error
        self.granted += 1
        return Grant(f"token-{self.granted}", self.lifetime)


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

    def store(self, owner: str, access_token: str, renew_after: float) -> None:
        assert self.owner == owner
        self.history.append(f"store {access_token}")
        super().store(owner, access_token, renew_after)

    def release(self, owner: str) -> None:
        if self.owner == owner:
            self.owner = None


@pytest.fixture
def far() -> Tokens:
    return Tokens()


@pytest.fixture
def store() -> SharedStore:
    return SharedStore()


def manager(store: MemoryTokenStore, far: Tokens, lease: float = 60, **kwargs) -> TokenManager:
    return TokenManager(store, far.fetch, lease=lease, **kwargs)


class TestGet:
    def test_is_fetched_once_and_cached(self, store, far):
        ours = manager(store, far)
        assert [ours.get() for _ in range(5)] == ["token-1"] * 5
        assert far.granted == 1

    def test_a_token_of_the_store_is_used(self, store, far):
        manager(store, far).get()
        assert manager(store, far).get() == "token-1"
        assert far.granted == 1

    @pytest.mark.parametrize(("lifetime", "good_for"), [(7200, 6900), (3000, 2700), (100, 90)])
    def test_is_renewed_before_it_expires(self, store, far, clock, monkeypatch, lifetime, good_for):
        monkeypatch.setattr(tokens_module, "time", clock)
        far.lifetime = lifetime
        ours = manager(store, far)
        assert ours.get() == "token-1"
        clock.now += good_for - 1
        assert ours.get() == "token-1"
        clock.now += 2
        assert ours.get() == "token-2"

    def test_an_old_token_of_the_store_is_not_used(self, store, far, clock, monkeypatch):
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

    def test_somebody_may_have_renewed_it_already(self, store, far):
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
    def test_is_waited_for(self, store, far):
        assert store.claim("somebody else", 60)

        def finish() -> None:
            store.store("somebody else", "their-token", 3600)
            store.release("somebody else")

        timer = threading.Timer(0.1, finish)
        timer.start()
        assert manager(store, far).get() == "their-token"
        timer.join()
        assert far.granted == 0

    def test_is_taken_over_when_it_was_given_back_without_a_token(self, store, far):
        assert store.claim("somebody else", 60)
        timer = threading.Timer(0.1, lambda: store.release("somebody else"))
        timer.start()
        assert manager(store, far).get() == "token-1"
        timer.join()

    def test_may_end_with_a_token_just_before_ours_begins(self, store, far, monkeypatch):
        def claim(owner: str, lease: float) -> bool:
            MemoryTokenStore.store(store, "somebody else", "their-token", 3600)
            return True

        monkeypatch.setattr(store, "claim", claim)
        assert manager(store, far).get() == "their-token"
        assert far.granted == 0

    def test_is_not_waited_for_for_ever(self, store, far):
        assert store.claim("somebody else", 60)
        with pytest.raises(SendosoConnectionError, match="another process has been renewing it for too long"):
            manager(store, far, lease=0.05).get()
        assert far.granted == 0
        assert store.owner == "somebody else"


class TestErrors:
    @pytest.mark.parametrize("error", [SendosoServerError(500, "no"), KeyError("unexpected")])
    def test_release_the_claim(self, store, far, error):
        far.error = error
        with pytest.raises(type(error)):
            manager(store, far).get()
        assert store.owner is None

    def test_are_forgotten_the_next_time(self, store, far):
        ours = manager(store, far)
        far.error = SendosoServerError(500, "no")
        with pytest.raises(SendosoServerError):
            ours.get()
        far.error = None
        assert ours.get() == "token-1"


class TestMasking:
    def test_a_new_token_is_masked_before_anything_else_sees_it(self, store, far):
        manager(store, far, mask=lambda token: store.history.append(f"mask {token}")).get()
        assert store.history == ["mask token-1", "store token-1"]

    def test_a_token_of_the_store_is_masked_too(self, store, far):
        manager(store, far).get()
        masked: list[str] = []
        manager(store, far, mask=masked.append).get()
        assert masked == ["token-1"]

    def test_a_grants_repr_has_no_token(self):
        assert "t0ken" not in repr(Grant("t0ken", 7200))
