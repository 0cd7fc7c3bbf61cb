"""The sandbox's webhooks: signed and repeated as Svix does it, with every fault, to a receiver on a real socket."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from standardwebhooks import Webhook, WebhookVerificationError

from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sandbox.__main__ import _parser
from airflow_provider_sendoso.sandbox.webhooks import SECRET, Message


class Post:
    """What a receiver was posted."""

    def __init__(self, headers: dict[str, str], body: bytes) -> None:
        self.headers, self.body = {name.lower(): value for name, value in headers.items()}, body
        self.at = time.monotonic()

    @property
    def id(self) -> str:
        return self.headers["svix-id"]

    @property
    def gid(self) -> str:
        return str(json.loads(self.body)["send_gid"])

    def is_signed(self, secret: str = SECRET) -> bool:
        named = {name.replace("svix", "webhook"): value for name, value in self.headers.items()}
        try:
            Webhook(secret).verify(self.body, named)
        except WebhookVerificationError:
            return False
        return True


class Receiver:
    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.answers: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.posts.append(Post(dict(self.headers), body))
                self.send_response(outer.answers.pop(0) if outer.answers else 204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"

    @property
    def ids(self) -> list[str]:
        return [post.id for post in self.posts]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture
def patient(receiver: Receiver) -> Iterator[Sandbox]:
    """A sandbox whose sends keep their status until a test changes it."""
    with Sandbox(step=10_000, rate=0, webhook_url=receiver.url, webhook_retries=(0.0, 0.1, 0.1)) as sandbox:
        yield sandbox


def send(sandbox: Sandbox) -> str:
    """Make a gift send; its first status is a change."""
    body = {"gift_id": "gift-mug", "email": "ada@example.com", "first_name": "Ada", "last_name": "L"}
    sent = sandbox._ask(lambda: sandbox._app.account.accept(body, "sandbox"))
    return str(sent.id)


Until = Callable[..., None]


def test_every_new_status_is_told_signed_and_without_saying_which_it_is(
    patient: Sandbox, receiver: Receiver, until: Until
) -> None:
    send_id = send(patient)
    until(lambda: len(receiver.posts) == 1)
    patient.finish(send_id, "delivered")
    until(lambda: len(receiver.posts) == 2)
    assert all(post.is_signed() for post in receiver.posts)
    assert not receiver.posts[0].is_signed("whsec_b3RoZXI=")
    assert len(set(receiver.ids)) == 2
    for post in receiver.posts:
        assert json.loads(post.body).keys() == {"send_gid", "status_changed_at"}
        assert post.gid == f"sandbox-{send_id}"
        assert b"delivered" not in post.body
    # The receiver has a post before its answer is in the sandbox.
    until(lambda: [attempt.status for attempt in patient.webhooks] == [204, 204])


def test_campaign_sends_are_told_of_under_the_id_of_the_trackers_list(
    patient: Sandbox, receiver: Receiver, until: Until
) -> None:
    touch = {"id": 101, "name": "T", "delivery_type": "mail"}
    body = {"touch_id": 101, "email": "ada@example.com", "name": "Ada", "via_from": "Airflow", "country": "US"}
    patient._ask(lambda: patient._app.campaigns.accept(body, touch, "sandbox"))
    until(lambda: receiver.posts)
    (row,) = patient.state()["campaign_sends"]
    assert receiver.posts[0].gid == row["send_gid"]


def test_changes_from_before_the_subscription_are_not_told(receiver: Receiver, until: Until) -> None:
    with Sandbox(step=10_000, rate=0) as sandbox:
        old = send(sandbox)
        sandbox.subscribe(receiver.url)
        new = send(sandbox)
        until(lambda: receiver.posts)
        sandbox.subscribe(None)
        sandbox.finish(old, "delivered")
        time.sleep(0.3)
    assert [post.gid for post in receiver.posts] == [f"sandbox-{new}"]


def test_what_is_not_answered_with_a_2xx_is_repeated_under_the_same_id_and_then_given_up(
    patient: Sandbox, receiver: Receiver, until: Until
) -> None:
    receiver.answers = [500, 401, 204]
    send(patient)
    until(lambda: len(receiver.posts) == 3)
    assert len(set(receiver.ids)) == 1
    receiver.answers = [500] * 9
    send(patient)
    until(lambda: len(receiver.posts) == 6)
    time.sleep(0.3)
    assert len(receiver.posts) == 6


def test_a_receiver_that_is_down_is_an_attempt_without_an_answer(until: Until) -> None:
    with Sandbox(step=10_000, rate=0, webhook_url="http://127.0.0.1:1/", webhook_retries=(0.0,)) as sandbox:
        send(sandbox)
        until(lambda: sandbox.webhooks)
        assert [attempt.status for attempt in sandbox.webhooks] == [None]


class TestFaults:
    def test_late(self, patient: Sandbox, receiver: Receiver, until: Until) -> None:
        patient.fault("webhook_late", delay=0.5)
        asked = time.monotonic()
        send(patient)
        until(lambda: receiver.posts)
        assert receiver.posts[0].at - asked >= 0.5
        assert receiver.posts[0].is_signed()

    def test_twice(self, patient: Sandbox, receiver: Receiver, until: Until) -> None:
        patient.fault("webhook_twice")
        send(patient)
        until(lambda: len(receiver.posts) == 2)
        assert len(set(receiver.ids)) == 1

    def test_out_of_order(self, patient: Sandbox, receiver: Receiver, until: Until) -> None:
        patient.fault("webhook_out_of_order")
        first = send(patient)
        time.sleep(0.3)
        assert receiver.posts == []
        second = send(patient)
        until(lambda: len(receiver.posts) == 2)
        assert [post.gid for post in receiver.posts] == [f"sandbox-{second}", f"sandbox-{first}"]

    def test_wrong_signature(self, patient: Sandbox, receiver: Receiver, until: Until) -> None:
        patient.fault("webhook_wrong_signature")
        receiver.answers = [401]
        send(patient)
        until(lambda: len(receiver.posts) == 2)
        assert [post.is_signed() for post in receiver.posts] == [False, True]

    def test_replay(self, patient: Sandbox, receiver: Receiver, until: Until) -> None:
        patient.fault("webhook_replay", delay=1.2)
        send(patient)
        until(lambda: len(receiver.posts) == 2)
        assert len(set(receiver.ids)) == 1
        assert len({post.headers["svix-timestamp"] for post in receiver.posts}) == 2
        assert all(post.is_signed() for post in receiver.posts)

    def test_lost(self, patient: Sandbox, receiver: Receiver, until: Until) -> None:
        patient.fault("webhook_lost")
        send(patient)
        time.sleep(0.3)
        second = send(patient)
        until(lambda: receiver.posts)
        assert [post.gid for post in receiver.posts] == [f"sandbox-{second}"]

    def test_a_fault_of_requests_leaves_webhooks_alone_and_the_other_way_round(
        self, patient: Sandbox, receiver: Receiver, until: Until
    ) -> None:
        patient.fault("error_before", times=5)
        patient.fault("webhook_twice", times=5)
        assert [fault["fault"] for fault in patient.state()["faults"]] == ["error_before", "webhook_twice"]
        assert requests.get(f"{patient.url}/api/v3/gifts", timeout=60).status_code == 500
        assert [fault["times"] for fault in patient.state()["faults"]] == [4, 5]
        patient.clear_faults()
        assert patient.state()["faults"] == []
        with pytest.raises(ValueError, match="no option"):
            patient.fault("webhook_twice", delay=1)


def test_everything_can_be_delivered_once_more(patient: Sandbox, receiver: Receiver, until: Until) -> None:
    send(patient)
    send(patient)
    until(lambda: len(receiver.posts) == 2)
    assert requests.post(f"{patient.url}/sandbox/webhooks/replay", timeout=60).status_code == 202
    until(lambda: len(receiver.posts) == 4)
    assert sorted(receiver.ids[:2]) == sorted(receiver.ids[2:])


def test_programs_and_the_page_subscribe(receiver: Receiver, until: Until) -> None:
    with Sandbox(step=10_000, rate=0) as sandbox:
        address = f"{sandbox.url}/sandbox/webhooks"
        assert "Nobody has subscribed" in requests.get(sandbox.url, timeout=60).text
        for wrong in ({"url": "ftp://x"}, {}, {"url": receiver.url, "secret": "abc"}, {"url": 5}):
            assert requests.post(address, json=wrong, timeout=60).status_code == 400, wrong
        assert requests.get(address, timeout=60).json()["url"] is None
        answer = requests.post(address, json={"url": receiver.url, "secret": "whsec_b3RoZXI="}, timeout=60)
        assert (answer.status_code, answer.json()["url"]) == (201, receiver.url)
        send(sandbox)
        until(lambda: sandbox.webhooks)
        assert receiver.posts[0].is_signed("whsec_b3RoZXI=")
        page = requests.get(sandbox.url, timeout=60).text
        assert receiver.posts[0].id in page
        assert requests.delete(address, timeout=60).json()["url"] is None
        seen = requests.post(address, data={"url": receiver.url}, timeout=60)
        assert (seen.status_code, seen.url) == (200, f"{sandbox.url}/")
        assert f'value="{receiver.url}"' in seen.text


def test_another_site_cannot_subscribe(receiver: Receiver) -> None:
    with Sandbox(step=10_000, rate=0) as sandbox:
        headers = {"Origin": "https://evil.example"}
        answer = requests.post(
            f"{sandbox.url}/sandbox/webhooks", data={"url": receiver.url}, headers=headers, timeout=60
        )
        assert answer.status_code == 403
        assert sandbox.state()["webhooks"]["url"] is None


def test_a_reset_forgets_deliveries_and_keeps_the_subscription(
    patient: Sandbox, receiver: Receiver, until: Until
) -> None:
    send(patient)
    until(lambda: patient.webhooks)
    patient.reset()
    assert patient.webhooks == []
    assert patient.state()["webhooks"]["url"] == receiver.url


def test_the_command_line_subscribes() -> None:
    assert not hasattr(_parser().parse_args([]), "webhook_url")
    options = _parser().parse_args(["--webhook-url", "http://127.0.0.1:1/", "--webhook-secret", "whsec_b3RoZXI="])
    assert (options.webhook_url, options.webhook_secret) == ("http://127.0.0.1:1/", "whsec_b3RoZXI=")
    assert _parser().parse_args([]).webhook_secret == SECRET


def test_a_message_has_an_id_of_its_own() -> None:
    assert Message("gid", 0.0).id != Message("gid", 0.0).id
