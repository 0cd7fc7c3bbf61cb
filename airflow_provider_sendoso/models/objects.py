"""What Sendoso answers: sends, gifts, campaigns, users, with the fields that nobody here knows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from airflow_provider_sendoso.models.kinds import TRACKING
from airflow_provider_sendoso.models.text import AnswerId
from airflow_provider_sendoso.models.words import Delivery, SendStatus


def _lenient(kind: Any) -> BeforeValidator:
    """Take a value if it is one of its kind: a list is worth more than one odd field of one of its rows."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def take(value: Any) -> Any:
        try:
            return adapter.validate_python(value)
        except ValidationError:
            return None

    return BeforeValidator(take)


LenientText = Annotated[str | None, _lenient(str)]
LenientId = Annotated[str | None, _lenient(AnswerId)]
LenientAmount = Annotated[Decimal | None, _lenient(Decimal)]


def _with_zone(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


LenientMoment = Annotated[datetime | None, _lenient(Annotated[datetime, AfterValidator(_with_zone)])]


def _status(value: Any) -> SendStatus | None:
    if value is None or isinstance(value, SendStatus):
        return value
    # A word in no row is "processing" and never ends a wait (inferred).
    return SendStatus.from_word(str(value)) or SendStatus.PROCESSING


def _web_address(value: Any) -> str | None:
    """Take an address that a browser may be sent to; anything else, like ``javascript:``, is not one."""
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
    Something that the API returned; fields that are not named here are kept as attributes.

    Its ``repr`` shows only what is named, and nothing that holds somebody's name or address.
    """

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    id: LenientId = None

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return ((name, getattr(self, name)) for name, field in type(self).model_fields.items() if field.repr)


class Send(SendosoObject):
    """A send, as the API returned it; fields that are not named here are kept as attributes."""

    id: AnswerId
    status: Annotated[SendStatus | None, BeforeValidator(_status)] = None
    status_word: str | None = None
    """The status in the API's own word."""
    tracking_url: Annotated[str | None, BeforeValidator(_web_address)] = Field(default=None, repr=False)
    """Where it can be followed (published for eGifts of campaigns; that other sends have one, too, is inferred)."""

    @classmethod
    def without_id(cls) -> Self:
        """Make a send whose answer says that it was accepted, and gives neither an id nor a tracking code."""
        return cls(id=TRACKING)

    @property
    def known_id(self) -> str | None:
        """The id, or ``None`` for a send that was accepted without one."""
        return None if self.id == TRACKING else self.id


class Gift(SendosoObject):
    """An item of the catalogue; every field but the id is optional, for the seed does not print the shape."""

    id: AnswerId
    name: LenientText = None
    category: LenientText = None
    price: LenientAmount = None
    """Per item, in ``currency``, without fulfilment and shipping."""
    currency: LenientText = None

    @property
    def physical(self) -> bool | None:
        """
        Whether it goes by post, to an address; ``None`` where the catalogue does not say so in words known here.

        Physical items and branded swag do, eGift cards and charitable donations do not (seed). The names of the fields
        and the words in them are inferred, after those that Sendoso publishes for campaigns.
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


class Touch(SendosoObject):
    """A campaign, which Sendoso's API calls a touch (published); the list holds the active ones only."""

    id: AnswerId
    name: LenientText = None
    status: LenientText = None
    delivery_type: LenientText = None
    """``mail`` for a physical gift, ``email`` for an eGift."""
    gift_id: LenientId = None
    start_date: LenientMoment = None
    """Nothing can be sent before; a time without a zone is taken for UTC (inferred)."""
    end_date: LenientMoment = None
    """Nothing can be sent after."""
    starting_egift_price: LenientAmount = None
    """The least that an eGift of it may be worth, in ``currency``; absent where the price is fixed."""
    ending_egift_price: LenientAmount = None
    """The most."""
    currency: LenientText = None
    ship_to_countries: Annotated[tuple[str, ...] | None, _lenient(tuple[str, ...])] = None
    """ISO 3166 alpha-2."""
    created_at: LenientMoment = None

    @property
    def delivery(self) -> Delivery | None:
        """How its gifts reach their recipients; ``None`` where it says that in no word known here."""
        word = (self.delivery_type or "").strip().casefold()
        return Delivery(word) if word in list(Delivery) else None


class Group(SendosoObject):
    """A group of users with a budget of its own (published)."""

    id: AnswerId
    name: LenientText = None
    team_id: LenientId = None
    budget: LenientAmount = None
    monthly_budget: LenientAmount = None
    one_time_budget: LenientAmount = None
    created_at: LenientMoment = None


class User(SendosoObject):
    """Somebody who may send (published); the ``repr`` shows no name and no e-mail."""

    id: AnswerId
    first_name: LenientText = Field(default=None, repr=False)
    last_name: LenientText = Field(default=None, repr=False)
    email: LenientText = Field(default=None, repr=False)
    balance: LenientAmount = None
    """What is left of this user's own money, in the account's currency."""
    team_balance: LenientAmount = None
    """What is left of the team's; only of the user behind the token."""
    team_id: LenientId = None
    team_group_id: LenientId = None


class ReturnAddress(SendosoObject):
    """Where gifts go back to (seed: that there are some; every field is inferred, after those of a campaign send)."""

    id: AnswerId
    name: LenientText = Field(default=None, repr=False)
    address: LenientText = Field(default=None, repr=False)
    city: LenientText = Field(default=None, repr=False)
    state: LenientText = Field(default=None, repr=False)
    zip: LenientText = Field(default=None, repr=False)
    country: LenientText = Field(default=None, repr=False)
