"""The sandbox's routes: Sendoso's API, and the sandbox's own under ``/`` and ``/sandbox``."""

from __future__ import annotations

import asyncio
import base64
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from airflow_provider_sendoso.sandbox.account import Account, Send
from airflow_provider_sendoso.sandbox.authorization import DENIED, read_authorization, render_consent
from airflow_provider_sendoso.sandbox.campaign_validation import read_campaign_send, read_egift_links
from airflow_provider_sendoso.sandbox.campaigns import Campaigns
from airflow_provider_sendoso.sandbox.catalogue import CATALOGUE, filter_gifts
from airflow_provider_sendoso.sandbox.fault_effects import Answer, Dropped, drop, enact, throttled
from airflow_provider_sendoso.sandbox.faults import WEBHOOK_OPTIONS, Fault, Faults
from airflow_provider_sendoso.sandbox.marketplace import list_products, read_product_send, read_smart_send, recommend
from airflow_provider_sendoso.sandbox.organisation import TOTALS, Organisation, collection_of
from airflow_provider_sendoso.sandbox.pace import Pace
from airflow_provider_sendoso.sandbox.page import render
from airflow_provider_sendoso.sandbox.paging import page_of
from airflow_provider_sendoso.sandbox.refusal import Refusal
from airflow_provider_sendoso.sandbox.tokens import Tokens
from airflow_provider_sendoso.sandbox.tracker import CampaignSend
from airflow_provider_sendoso.sandbox.traffic import Received, Traffic
from airflow_provider_sendoso.sandbox.validation import read_gift_send, read_object
from airflow_provider_sendoso.sandbox.visitors import why_turned_away
from airflow_provider_sendoso.sandbox.webhook_delivery import Webhooks
from airflow_provider_sendoso.sandbox.webhooks import RETRIES, SECRET

_SCOPES = {"marketplace": "marketplace", "smartsend": "smartsend"}
"""The scope that a token needs (published), by the first part of the path below ``/api/v3``."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class App:
    """
    The sandbox's state and its routes. Only the event loop's thread may use them.

    :param account: the gift sends that were accepted
    :param campaigns: the campaign sends
    :param tokens: the tokens of the clients
    :param pace: the rate at which each client may make requests
    :param marketplace_pace: the rate at which each client may call the marketplace and SmartSend
    :param retry_after: seconds in the ``Retry-After`` of a 429; ``None`` leaves the header out
    :param host: the interface on which the sandbox listens
    :param webhook_url: the address that webhooks are posted to; ``None`` for none
    :param webhook_secret: the secret with which they are signed
    :param webhook_retries: seconds before each try to deliver one
    """

    account: Account
    campaigns: Campaigns
    tokens: Tokens
    pace: Pace
    marketplace_pace: Pace
    retry_after: int | None = 1
    host: str = "127.0.0.1"
    webhook_url: str | None = None
    webhook_secret: str = SECRET
    webhook_retries: Sequence[float] = RETRIES
    organisation: Organisation = field(default_factory=Organisation)
    faults: Faults = field(default_factory=lambda: Faults(time.monotonic))
    webhook_faults: Faults = field(default_factory=lambda: Faults(time.monotonic, WEBHOOK_OPTIONS))
    traffic: Traffic = field(default_factory=Traffic)

    def __post_init__(self) -> None:
        """Make the webhooks, which tell of both kinds of sends."""
        self.webhooks = Webhooks(
            lambda: [*self.account.changes(), *self.campaigns.changes()],
            self.webhook_faults,
            self.webhook_url,
            self.webhook_secret,
            self.webhook_retries,
        )

    def build(self) -> web.Application:
        """Make the web application, which can be used once, in one event loop."""
        app = web.Application(middlewares=[self._middleware])
        app.cleanup_ctx.append(self._deliver)
        app.add_routes(
            [
                web.post("/oauth/token", self._token),
                web.post("/oauth/revoke", self._revoke),
                web.get("/oauth/authorize", self._consent),
                web.post("/oauth/authorize", self._agree),
                web.get("/api/v3/me", self._me),
                *(web.get(f"/api/v3/{name}", self._list_of(name)) for name in TOTALS),
                web.get("/api/v3/touches/{id}", self._read_touch),
                web.get("/api/v3/groups/{id}/members", self._list_members),
                web.get("/api/v3/gifts", self._list_gifts),
                web.post("/api/v3/sends", self._create_send),
                web.get("/api/v3/sends", self._list_sends),
                web.get("/api/v3/sends/{id}", self._read_send),
                web.post("/api/v3/send", self._create_campaign_send),
                web.post("/api/v3/send/generate_egift_links", self._generate_egift_links),
                web.get("/api/v3/send", self._list_campaign_sends),
                web.get("/api/v3/marketplace/products", self._list_products),
                web.post("/api/v3/marketplace/products/send", self._send_product),
                web.get("/api/v3/smartsend/recommendations", self._list_recommendations),
                web.post("/api/v3/smartsend/recommendations/send", self._smart_send),
                web.get("/", self._page),
                web.get("/sandbox/state", self._state),
                web.post("/sandbox/reset", self._reset),
                web.get("/sandbox/faults", self._list_faults),
                web.post("/sandbox/faults", self._add_fault),
                web.delete("/sandbox/faults", self._clear_faults),
                web.get("/sandbox/webhooks", self._show_webhooks),
                web.post("/sandbox/webhooks", self._subscribe),
                web.delete("/sandbox/webhooks", self._unsubscribe),
                web.post("/sandbox/webhooks/replay", self._replay),
            ]
        )
        return app

    def state(self) -> dict[str, Any]:
        """
        Return what the sandbox has received.

        ``duplicates`` counts the pairs of gift or campaign and e-mail that were sent more than once.
        """
        campaign_counts = self.campaigns.counts()
        return {
            "sends": [self.account.describe(send) for send in reversed(self.account.sends())],
            "campaign_sends": self.campaigns.state(),
            "counts": {status: count + campaign_counts[status] for status, count in self.account.counts().items()},
            **self.traffic.summary(),
            "duplicates": len(self.duplicates()),
            "faults": self.faults.as_json() + self.webhook_faults.as_json(),
            "webhooks": self.webhooks.as_json(),
        }

    def duplicates(self) -> dict[tuple[str, str], int]:
        """Count the sends that share the gift or campaign and the e-mail, where there is more than one."""
        return self.account.duplicates() | self.campaigns.duplicates()

    def finish(self, send_id: str | int, status: str) -> None:
        """
        Force a send's status.

        :param send_id: the id of a gift send, or the id or tracking code of a campaign send
        :param status: one of the six, or another published word; any word for a campaign send
        :raises ValueError: if there is no such status
        :raises KeyError: if there is no such send
        """
        if self.campaigns.knows(send_id):
            self.campaigns.finish(send_id, status)
        else:
            self.account.finish(str(send_id), status)

    def preload(self, count: int, touch_ids: Sequence[str | int], email: str, spacing: float) -> None:
        """
        Make the Send Tracker list many old sends.

        :param count: the number of old sends
        :param touch_ids: the campaigns of the sends, in turn
        :param email: as for ``Campaigns.preload``, as ``spacing`` is
        :raises ValueError: if an argument is not valid
        :raises KeyError: if there is no such campaign
        """
        touches = []
        for touch_id in touch_ids:
            touch = self._find_touch(str(touch_id))
            if touch is None:
                raise KeyError(touch_id)
            touches.append(touch)
        self.campaigns.preload(count, touches, email, spacing)

    def reset(self) -> None:
        """Reset everything to its initial state."""
        for part in (
            *(self.account, self.campaigns, self.tokens, self.pace, self.marketplace_pace),
            *(self.organisation, self.faults, self.webhook_faults, self.traffic, self.webhooks),
        ):
            part.clear()

    # The handling of a request, the same for every path.

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        headers = {name.lower(): ",".join(request.headers.getall(name)) for name in request.headers}
        if problem := why_turned_away(request.method, headers, self.host):
            return web.json_response(Refusal(403, problem).body, status=403)
        if request.path == "/" or _is_below(request.path, "/sandbox"):
            return await _answer(lambda: handler(request))
        received = self.traffic.note(request.method, request.path, time.monotonic())

        try:
            response = await _answer(lambda: self._meet(request, handler, received))
        except Dropped:
            return drop(request)
        received.status = response.status
        return response

    async def _meet(self, request: web.Request, handler: Handler, received: Received) -> web.StreamResponse:
        received.client_id = await self._client_of(request)
        received.airflow_key = _read_mark(await request.read())
        if not self.pace.admits(received.client_id, time.monotonic()):
            raise throttled(self.retry_after)
        scope = _SCOPES.get(request.path.split("/")[3]) if request.path.count("/") > 3 else None
        if scope is not None and not self.marketplace_pace.admits(received.client_id, time.monotonic()):
            reset = math.ceil(self.marketplace_pace.resets_in(received.client_id, time.monotonic()))
            raise Refusal(429, "Too many requests", {"X-Rate-Limit-Reset": str(reset)})

        async def obey() -> web.StreamResponse:
            if _is_below(request.path, "/api"):
                self.tokens.authorise(_bearer(request), scope)
            return await handler(request)

        fault = self.faults.meet(request.method, request.path)
        return await enact(fault, request, lambda: _answer(obey)) if fault else await obey()

    async def _client_of(self, request: web.Request) -> str | None:
        # The body is read first, so that a dropped request has always been received.
        raw = await request.read()
        if request.path != "/oauth/token":
            return self.tokens.owner(_bearer(request))
        client_id = _read_fields(request, raw).get("client_id")
        return client_id if isinstance(client_id, str) else None

    # Sendoso's.

    async def _token(self, request: web.Request) -> web.Response:
        return web.json_response(self.tokens.grant(_read_fields(request, await request.read())))

    async def _revoke(self, request: web.Request) -> web.Response:
        if not self.tokens.is_client(*_basic(request)):
            raise Refusal(401, {"error": "invalid_client", "error_description": "Client authentication failed."})
        self.tokens.revoke(request.query.get("token", ""))
        return web.json_response({})

    async def _consent(self, request: web.Request) -> web.Response:
        asked = read_authorization(request.query, self.tokens.client_id)
        return _html(render_consent(asked).encode())

    async def _agree(self, request: web.Request) -> web.Response:
        asked = read_authorization(request.query, self.tokens.client_id)
        agreed = (await request.post()).get("answer") == "agree"
        answer = {"code": self.tokens.issue_code(asked.redirect_uri, asked.scope)} if agreed else DENIED
        raise web.HTTPFound(asked.callback(answer))

    async def _me(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "id": 1,
                "name": "Sandbox User",
                "email": "sandbox@example.com",
                "balance": 1000.0,
                "team_balance": 25000.0,
            }
        )

    async def _list_gifts(self, request: web.Request) -> web.Response:
        query = request.query
        gifts = filter_gifts(query.get("category"), _read_price(query, "min_price"), _read_price(query, "max_price"))
        return page_of("gifts", gifts, query, lambda gift: gift.as_json())

    def _list_of(self, name: str) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            rows = self.organisation.rows(name)
            if name == "touches" and (wanted := request.query.get("delivery_type")):
                rows = [row for row in rows if row.get("delivery_type") == wanted]
            return page_of(collection_of(name), rows, request.query, lambda row: row, total=TOTALS[name])

        return answer

    async def _read_touch(self, request: web.Request) -> web.Response:
        touch = self.organisation.find("touches", request.match_info["id"])
        if touch is None:
            raise Refusal(404, "Touch not found")
        return web.json_response({"success": True, "touch": touch})

    async def _list_members(self, request: web.Request) -> web.Response:
        group = request.match_info["id"]
        if self.organisation.find("groups", group) is None:
            raise Refusal(404, "Group not found")
        users = self.organisation.rows("users")
        return web.json_response([user for user in users if str(user.get("team_group_id")) == group])

    async def _create_send(self, request: web.Request) -> web.Response:
        body = read_gift_send(await request.read())
        send = self.account.accept(body, self.tokens.authorise(_bearer(request)))
        return web.json_response({"send": self._show(request, send, now=send.accepted_at)}, status=201)

    async def _list_sends(self, request: web.Request) -> web.Response:
        newest_first = self.account.sends()[::-1]
        return page_of("sends", newest_first, request.query, lambda send: self._show(request, send))

    async def _read_send(self, request: web.Request) -> web.Response:
        send = self.account.find(request.match_info["id"])
        if send is None:
            raise Refusal(404, "Send not found")
        return web.json_response({"send": self._show(request, send)})

    def _show(self, request: web.Request, send: Send, now: float | None = None) -> dict[str, Any]:
        """Return a send as the API shows it; that a gift send has a tracking address is inferred."""
        return self.account.describe(send, now) | {"tracking_url": f"http://{request.host}/?send={send.id}"}

    async def _create_campaign_send(self, request: web.Request) -> web.Response:
        body, touch = read_campaign_send(await request.read(), self._find_touch, datetime.now(UTC))
        send = self.campaigns.accept(body, touch, self.tokens.authorise(_bearer(request)))
        answer = {"success": True, "message": "The send is on its way", "tracking_code": send.tracking_code}
        if touch["delivery_type"] == "email":
            answer["tracking_url"] = _address_of(request, send)
        return web.json_response(answer)

    async def _generate_egift_links(self, request: web.Request) -> web.Response:
        bodies, touch = read_egift_links(await request.read(), self._find_touch, datetime.now(UTC))
        client_id = self.tokens.authorise(_bearer(request))
        sends = [self.campaigns.accept(body, touch, client_id) for body in bodies]
        links = [
            {"egift_link": _address_of(request, send), "recipient_email_or_phone_number": send.body["email"]}
            for send in sends
        ]
        return web.json_response({"success": True, "egift_links": links})

    async def _list_campaign_sends(self, request: web.Request) -> web.Response:
        return page_of("sends", self.campaigns.tracker(), request.query, self.campaigns.describe)

    async def _list_products(self, request: web.Request) -> web.Response:
        query = request.query
        countries, categories = query.getall("ship_to_country_codes[]", []), query.getall("category_ids[]", [])
        return web.json_response(list_products(query, countries, categories))

    async def _send_product(self, request: web.Request) -> web.Response:
        return self._accept_product(request, *read_product_send(await request.read()))

    async def _list_recommendations(self, request: web.Request) -> web.Response:
        return web.json_response({"products": recommend(request.query)})

    async def _smart_send(self, request: web.Request) -> web.Response:
        return self._accept_product(request, *read_smart_send(await request.read()))

    def _accept_product(
        self, request: web.Request, body: dict[str, Any], variant_id: str, price: float
    ) -> web.Response:
        client_id = self.tokens.authorise(_bearer(request))
        send = self.campaigns.accept_product(body, variant_id, price, client_id)
        return web.json_response({"products": [{"variant_id": variant_id}], "send": {"id": send.id}})

    def _find_touch(self, touch_id: str) -> dict[str, Any] | None:
        touch = self.organisation.find("touches", touch_id)
        return touch and touch | {"delivery_type": "email" if touch.get("delivery_type") == "email" else "mail"}

    # The sandbox's own.

    async def _page(self, request: web.Request) -> web.Response:
        html = render(
            state=self.state(),
            gifts=CATALOGUE,
            touches=self.organisation.rows("touches"),
            url=f"http://{request.host}",
            login=self.tokens.client_id,
            password=self.tokens.client_secret,
            rate=self.pace.rate,
            paused="paused" in request.query,
            only=request.query.get("send"),
        )
        # A name may hold half of a surrogate pair, which JSON can write and UTF-8 cannot.
        return _html(html.encode(errors="replace"))

    async def _state(self, request: web.Request) -> web.Response:
        return web.json_response(self.state())

    async def _reset(self, request: web.Request) -> web.Response:
        self.reset()
        return web.json_response(self.state())

    def add_fault(self, name: Any, **options: Any) -> Fault:
        """
        Set a fault of requests, or one of webhooks.

        :param name: a key of ``OPTIONS`` or of ``WEBHOOK_OPTIONS``
        :param options: as for :meth:`Faults.add`
        :raises ValueError: if the options are wrong
        """
        return (self.webhook_faults if name in WEBHOOK_OPTIONS else self.faults).add(name, **options)

    async def _deliver(self, app: web.Application) -> AsyncIterator[None]:
        """Deliver webhooks for as long as the application runs."""
        delivering = asyncio.create_task(self.webhooks.run())
        yield
        delivering.cancel()
        await asyncio.gather(delivering, return_exceptions=True)

    async def _show_webhooks(self, request: web.Request) -> web.Response:
        return web.json_response(self.webhooks.as_json())

    async def _subscribe(self, request: web.Request) -> web.Response:
        from_page = request.content_type == "application/x-www-form-urlencoded"
        asked = dict(await request.post()) if from_page else read_object(await request.read())
        url, secret = (str(asked.get(name) or "") for name in ("url", "secret"))
        try:
            self.webhooks.subscribe(url, secret or None)
        except ValueError as error:
            raise Refusal(400, str(error)) from error
        if from_page:
            raise web.HTTPSeeOther("/")
        return web.json_response(self.webhooks.as_json(), status=201)

    async def _unsubscribe(self, request: web.Request) -> web.Response:
        self.webhooks.subscribe(None)
        return web.json_response(self.webhooks.as_json())

    async def _replay(self, request: web.Request) -> web.Response:
        self.webhooks.replay()
        return web.json_response(self.webhooks.as_json(), status=202)

    async def _list_faults(self, request: web.Request) -> web.Response:
        return web.json_response({"faults": self.faults.as_json() + self.webhook_faults.as_json()})

    async def _add_fault(self, request: web.Request) -> web.Response:
        asked = read_object(await request.read())
        try:
            fault = self.add_fault(asked.pop("fault", None), **asked)
        except (TypeError, ValueError) as error:
            raise Refusal(400, str(error)) from error
        return web.json_response(fault.as_json(time.monotonic()), status=201)

    async def _clear_faults(self, request: web.Request) -> web.Response:
        self.faults.clear()
        self.webhook_faults.clear()
        return web.json_response({"faults": []})


async def _answer(work: Answer) -> web.StreamResponse:
    """Call a function, and return its result or its refusal as JSON."""
    try:
        return await work()
    except Refusal as refusal:
        return web.json_response(refusal.body, status=refusal.status, headers=refusal.headers)
    except web.HTTPRedirection:
        raise
    except web.HTTPException as error:
        body = {"success": False, "message": error.reason}
        allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return web.json_response(body, status=error.status, headers=allowed)


def _html(body: bytes) -> web.Response:
    """Return a page that no other page may show in a frame."""
    return web.Response(body=body, content_type="text/html", charset="utf-8", headers={"X-Frame-Options": "DENY"})


def _address_of(request: web.Request, send: CampaignSend) -> str:
    return f"http://{request.host}/?send={send.tracking_code}"


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top}/")


def _bearer(request: web.Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.casefold() == "bearer" else None


def _basic(request: web.Request) -> tuple[str, str]:
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    try:
        login, _, password = base64.b64decode(text if scheme.casefold() == "basic" else "").decode().partition(":")
    except ValueError:
        return "", ""
    return login, password


def _read_fields(request: web.Request, raw: bytes) -> Mapping[str, Any]:
    """Read a token request, which is JSON (seed) or a form (RFC 6749); an unreadable one has no fields."""
    if request.content_type == "application/x-www-form-urlencoded":
        return dict(parse_qsl(raw.decode(errors="replace")))
    try:
        return read_object(raw)
    except Refusal:
        return {}


def _read_mark(raw: bytes) -> str | None:
    """Read the mark of a send, also of a failed request; it shows which POSTs were for the same recipient."""
    try:
        metadata = read_object(raw)["send"]["metadata"]
        return str(metadata["airflow_key"])
    except (Refusal, KeyError, TypeError):
        return None


def _read_price(query: Mapping[str, str], name: str) -> float | None:
    if name not in query:
        return None
    try:
        price = float(query[name])
    except ValueError:
        price = math.nan
    if not math.isfinite(price):
        raise Refusal(400, f"{name} is invalid")
    return price
