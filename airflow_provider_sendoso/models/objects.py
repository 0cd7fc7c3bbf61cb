"""The objects in Sendoso's answers: sends, gifts, campaigns, users; unknown fields are kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from airflow_provider_sendoso.models.kinds import TRACKING
from airflow_provider_sendoso.models.statuses import SendStatus, StatusReport
from airflow_provider_sendoso.models.text import AnswerId
from airflow_provider_sendoso.models.words import Delivery
from airflow_provider_sendoso.moments import moment_or_none


def _lenient(kind: Any) -> BeforeValidator:
    """Turn an invalid value into ``None``, so that one odd field does not make a whole list unreadable."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def take(value: Any) -> Any:
        try:
            return adapter.validate_python(value)
        except (ValueError, ArithmeticError):  # a ValidationError, or what pydantic lets through
            return None

    return BeforeValidator(take)


LenientText = Annotated[str | None, _lenient(str)]
LenientId = Annotated[str | None, _lenient(AnswerId)]

_MOST = Decimal(10) ** 9
"""The highest amount that is believed: a larger one is an error, or would not fit where it is kept."""


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("true and false are no amounts")
    return value


_Number = Annotated[Decimal, Field(lt=_MOST, decimal_places=10, allow_inf_nan=False), BeforeValidator(_number)]
LenientAmount = Annotated[Decimal | None, _lenient(Annotated[_Number, Field(ge=0)])]
LenientBalance = Annotated[Decimal | None, _lenient(Annotated[_Number, Field(gt=-_MOST)])]
"""May be below zero, as an overdrawn account's is."""


read_balance: Callable[[Any], Decimal | None] = TypeAdapter(LenientBalance).validate_python
"""Read a balance of an answer; ``None`` for what is no amount."""


def _currency(value: Any) -> str | None:
    """Read a code of ISO 4217; other text is ``XXX``, its code for no currency, for it must not count as USD."""
    if not isinstance(value, str) or not value.strip():
        return None
    code = value.strip().upper()
    return code if re.fullmatch("[A-Z]{3}", code) else "XXX"


Currency = Annotated[str | None, BeforeValidator(_currency)]


LenientMoment = Annotated[datetime | None, BeforeValidator(moment_or_none)]


def _status(value: Any) -> SendStatus | None:
    if value is None or isinstance(value, SendStatus):
        return value
    # An unknown word counts as "processing" and never ends a wait (inferred).
    return SendStatus.from_word(str(value)) or SendStatus.PROCESSING


def _web_address(value: Any) -> str | None:
    """Return an address that is safe to link to; ``None`` for anything else, like ``javascript:``."""
    if not isinstance(value, str) or len(value) > _LONGEST_ADDRESS or not value.isprintable() or " " in value:
        return None
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.username is None
    except ValueError:
        return None
    return value if usable else None


_LONGEST_ADDRESS = 2000


class SendosoObject(BaseModel):
    """
    An object that the API returned; undeclared fields are kept as attributes.

    Its ``repr`` shows only declared fields, and none that hold a name or an address.
    """

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    id: LenientId = None

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return ((name, getattr(self, name)) for name, field in type(self).model_fields.items() if field.repr)


LONGEST_GID = 190
"""Characters of a ``send_gid``: the longest text that every database can have as a key."""


class Send(SendosoObject):
    """A send, as the API returned it; undeclared fields are kept as attributes."""

    id: AnswerId
    status: Annotated[SendStatus | None, BeforeValidator(_status)] = None
    status_word: str | None = None
    """The status in the API's own word."""
    tracking_url: Annotated[str | None, BeforeValidator(_web_address)] = Field(default=None, repr=False)
    """Address of the send's tracking page (published for eGifts of campaigns; for other sends inferred)."""

    @property
    def report(self) -> StatusReport | None:
        """The status with Sendoso's words for it, those of ``status_updates`` (published) included."""
        if self.status is None:
            return None
        updates = (self.model_extra or {}).get("status_updates")
        listed = updates if isinstance(updates, list) else []
        past = [update.get("status") for update in listed if isinstance(update, Mapping)]
        return StatusReport.of(self.status, self.status_word, [word for word in past if isinstance(word, str)])

    @property
    def gid(self) -> str | None:
        """The id by which a webhook names the send: ``send_gid`` (published for the Send Tracker's list)."""
        gid = (self.model_extra or {}).get("send_gid")
        text = str(gid).strip() if isinstance(gid, str | int) and not isinstance(gid, bool) else ""
        return text if 0 < len(text) <= LONGEST_GID and text.isprintable() else None

    @property
    def on_hold(self) -> bool:
        """Whether Sendoso holds the send until a manager approves or cancels it (help centre); it is ``pending``."""
        return self.report is not None and self.report.on_hold

    @classmethod
    def without_id(cls) -> Self:
        """Make a send that was accepted with neither an id nor a tracking code."""
        return cls(id=TRACKING)

    @property
    def known_id(self) -> str | None:
        """The id, or ``None`` for a send that was accepted without one."""
        return None if self.id == TRACKING else self.id


class Gift(SendosoObject):
    """An item of the catalogue; every field but the id is optional, because the seed does not show the shape."""

    id: AnswerId
    name: LenientText = None
    category: LenientText = None
    price: LenientAmount = None
    """Per item, in ``currency``, without fulfilment and shipping."""
    currency: Currency = None

    @property
    def variant_ids(self) -> list[str]:
        """The ids of its sizes and colours; empty where the catalogue names none (that it may is inferred)."""
        variants = (self.model_extra or {}).get("variants")
        ids = (one.get("id") for one in variants if isinstance(one, dict)) if isinstance(variants, list) else ()
        return [str(variant_id) for variant_id in ids if isinstance(variant_id, str | int)]

    @property
    def physical(self) -> bool | None:
        """
        Whether the gift goes by post; ``None`` if the catalogue does not say so in a known word.

        Physical items and branded swag do, eGift cards and charitable donations do not (seed). The fields' names and
        words are inferred from those that Sendoso publishes for campaigns.
        """
        extra = self.model_extra or {}
        for value in (*(extra.get(name) for name in _DELIVERY_FIELDS), self.category):
            if isinstance(value, bool):
                return value
            if isinstance(value, str) and (word := _DELIVERY.search(value.casefold())):
                return word["mailed"] is not None
        return None


_DELIVERY_FIELDS = ("physical", "delivery_type", "delivery", "type", "subtype")

_DELIVERY = re.compile(
    r"(?P<mailed>(?<![a-z])mail|physical|swag|parcel)|(?<![a-z])e[-_ ]?(mail|gift)|digital|virtual|donation|charit"
)


class EstimatedPrice(BaseModel):
    """What one variant is estimated to cost, shipping included (published; that it includes shipping, inferred)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    currency: Currency = None
    price_per_unit: LenientAmount = None
    """In ``currency``; the API writes it as text."""


class Variant(SendosoObject):
    """One variant of a product, which is what can be sent (published)."""

    id: AnswerId
    estimated_total_price: Annotated[EstimatedPrice | None, _lenient(EstimatedPrice)] = None
    name: LenientText = None
    """The product's name."""

    @property
    def price(self) -> Decimal | None:
        """The estimated total price, in ``currency``; ``None`` if the API names none."""
        return None if self.estimated_total_price is None else self.estimated_total_price.price_per_unit

    @property
    def currency(self) -> str | None:
        """ISO 4217."""
        return None if self.estimated_total_price is None else self.estimated_total_price.currency


def _variants(value: Any) -> Any:
    """Leave out what is no variant, so that one odd variant does not make a whole list unreadable."""
    return [one for one in value if isinstance(one, Mapping) and one.get("id")] if isinstance(value, list) else ()


class Product(SendosoObject):
    """A product of the marketplace (published)."""

    id: AnswerId
    name: LenientText = None
    description: LenientText = None
    variants: Annotated[tuple[Variant, ...], BeforeValidator(_variants)] = ()
    interests: Annotated[tuple[str, ...], _lenient(tuple[str, ...])] = Field(default=(), repr=False)
    """In a recommendation: what the person is taken to like (published). Personal."""


class Touch(SendosoObject):
    """A campaign, which Sendoso's API calls a touch (published); the list holds the active ones only."""

    id: AnswerId
    name: LenientText = None
    status: LenientText = None
    delivery_type: LenientText = None
    """``mail`` for a physical gift, ``email`` for an eGift."""
    gift_id: LenientId = None
    start_date: LenientMoment = None
    """The campaign cannot be sent before; a time without a zone is UTC (inferred)."""
    end_date: LenientMoment = None
    """The campaign cannot be sent after."""
    starting_egift_price: LenientAmount = None
    """The least that one of its eGifts may be worth, in ``currency``; absent if the price is fixed."""
    ending_egift_price: LenientAmount = None
    """The most that one of its eGifts may be worth."""
    currency: Currency = None
    ship_to_countries: Annotated[tuple[str, ...] | None, _lenient(tuple[str, ...])] = None
    """ISO 3166 alpha-2."""
    created_at: LenientMoment = None

    @property
    def delivery(self) -> Delivery | None:
        """How the campaign's gifts reach their recipients; ``None`` if ``delivery_type`` is not a known word."""
        word = (self.delivery_type or "").strip().casefold()
        return Delivery(word) if word in list(Delivery) else None


class Group(SendosoObject):
    """A group of users with a budget of its own (published)."""

    id: AnswerId
    name: LenientText = None
    team_id: LenientId = None
    budget: LenientBalance = None
    monthly_budget: LenientAmount = None
    one_time_budget: LenientAmount = None
    created_at: LenientMoment = None


class User(SendosoObject):
    """A user of Sendoso (published); the ``repr`` shows no name and no e-mail."""

    id: AnswerId
    first_name: LenientText = Field(default=None, repr=False)
    last_name: LenientText = Field(default=None, repr=False)
    email: LenientText = Field(default=None, repr=False)
    balance: LenientBalance = None
    """The user's own remaining balance, in the account's currency."""
    team_balance: LenientBalance = None
    """The team's remaining balance; only set for the token's user."""
    team_id: LenientId = None
    team_group_id: LenientId = None


class ReturnAddress(SendosoObject):
    """An address for returned gifts (seed: the list exists; its fields are inferred from those of a campaign send)."""

    id: AnswerId
    name: LenientText = Field(default=None, repr=False)
    address: LenientText = Field(default=None, repr=False)
    city: LenientText = Field(default=None, repr=False)
    state: LenientText = Field(default=None, repr=False)
    zip: LenientText = Field(default=None, repr=False)
    country: LenientText = Field(default=None, repr=False)
