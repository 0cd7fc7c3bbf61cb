"""The domain's words: recipients, gifts, sends and their statuses. No I/O, nothing of HTTP, SQL or Airflow."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from airflow_provider_sendoso.countries import COUNTRIES, WITH_STATES

METADATA_KEY = "airflow_key"
"""The metadata key that the ledger adds to a gift send, to find it again in the list of sends (inferred)."""

LINK = "link"
"""The kind of a send that makes an eGift link, in the ledger."""

TRACKING = "tracking:"
"""What the id of a campaign send begins with: its answer has a tracking code, and no id (published)."""

# One "@", a dot in the domain, no white space and nothing that parts two addresses or a name from one: enough to catch
# a wrong column; Sendoso decides the rest.
_EMAIL = re.compile(r"[^@\s<>,;]+@[^@\s<>,;.]+(\.[^@\s<>,;.]+)+")


class SendStatus(StrEnum):
    """A send's status: the seed's six words, in the order in which a send passes through them."""

    PENDING = "pending"
    PROCESSING = "processing"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    FAILED = "failed"
    RETURNED = "returned"

    @property
    def terminal(self) -> bool:
        """Whether a send stays in this status for good."""
        return self in (SendStatus.DELIVERED, SendStatus.FAILED, SendStatus.RETURNED)

    def reached(self, targets: Iterable[SendStatus]) -> bool:
        """
        Say whether this status is one of the targets, or beyond one on the way to ``delivered``.

        :param targets: the statuses waited for.
        """
        return any(
            self is target or (self in _ON_THE_WAY and target in _ON_THE_WAY[: _ON_THE_WAY.index(self)])
            for target in targets
        )

    @classmethod
    def from_word(cls, word: str) -> SendStatus | None:
        """
        Map a word of the API onto a status; ``None`` for a word that is in no row.

        The six are the seed's; the mapping of the Send Tracker's words is inferred.

        :param word: compared without case, spaces, ``_`` and ``-``.
        """
        return _STATUS_WORDS.get(_folded(word))


class RowOutcome(StrEnum):
    """What became of one row of a batch: every row is counted in exactly one of these seven."""

    SENT = "sent"
    """By this batch, earlier tries of its task included."""
    ALREADY_SENT = "already_sent"
    """By another batch of the same scope."""
    DUPLICATE = "duplicate"
    """An earlier row of the input has the same recipient key."""
    REFUSED = "refused"
    """Sendoso refused it; no gift went out."""
    INVALID = "invalid"
    """Not posted, because it could not have been accepted."""
    HELD = "held"
    """Posted, and what became of it is not known: a gift may have gone out."""
    NOT_REACHED = "not_reached"
    """This try did not get to it, or another run is on it."""


def row_name(number: int, row_ref: str | None) -> str:
    """
    Name a row in a log line or an error: never by its recipient.

    :param number: of the row, from 1.
    :param row_ref: a column that its author declared not personal.
    """
    return f"row {number}" if row_ref is None else f"row {number} ({row_ref})"


_ON_THE_WAY = (SendStatus.PENDING, SendStatus.PROCESSING, SendStatus.SHIPPED, SendStatus.DELIVERED)


def _folded(word: str) -> str:
    return re.sub(r"[\s_-]+", "", word).casefold()


_STATUS_WORDS = {
    _folded(word): status
    for status, words in {
        SendStatus.PENDING: (
            "pending, initiated, pending approval, pending sendoso approval, confirming address, order received"
        ),
        SendStatus.PROCESSING: "processing, fulfilling, amazon fulfilling, fulfillment issue, out of stock",
        SendStatus.SHIPPED: "shipped, amazon shipped, sent",
        SendStatus.DELIVERED: "delivered, opened, clicked, redeemed",
        SendStatus.FAILED: (
            "failed, blocked, bounced, canceled, confirmation canceled, address confirmation - cancelled, "
            "email blacklist, insufficient funds, invalid email format, suspicious email"
        ),
        SendStatus.RETURNED: "returned, undeliverable, refunded, expired",
    }.items()
    for word in words.split(", ")
}


def normalise_text(value: Any) -> str | None:
    """
    Turn a cell of a row into text: stripped, NFC, integral numbers as integers; NULL, NaN and blank are absent.

    :param value: what a database or a DAG author gave.
    :raises TypeError: for bytes and containers (arrays, JSON), which no field of the API holds.
    :raises ValueError: for text that cannot be written as UTF-8, and for a signalling NaN.
    """
    if value is None:
        return None
    if type(value) is str and value.isascii() and value.isprintable():
        return value.strip() or None  # nothing in it that the rest looks for
    if type(value) is int:
        return str(value)
    if isinstance(value, float | Decimal):
        if not math.isfinite(value):
            return None
        value = int(value) if value == int(value) else value
    elif isinstance(value, Iterable) and not isinstance(value, str):  # bytes, arrays of all kinds, JSON
        raise TypeError(f"{type(value).__name__} is not text")
    text = unicodedata.normalize("NFC", str(value))
    text.encode()  # half of a surrogate pair is no text; the error is a ValueError
    return _stripped(text) or None


def _stripped(text: str) -> str:
    """Strip white space and what cannot be seen: a byte-order mark would make another recipient of the same one."""
    first, last = 0, len(text)
    while first < last and _invisible(text[first]):
        first += 1
    while first < last and _invisible(text[last - 1]):
        last -= 1
    return text[first:last]


def _invisible(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in ("Cc", "Cf")


def normalise_key(value: Any) -> str | None:
    """
    Turn what identifies a recipient into the form in which two are compared; e-mails compare case-folded.

    :param value: the recipient key's cell.
    """
    text = normalise_text(value)
    return text.casefold() if text is not None and _EMAIL.fullmatch(text) else text


def _text(value: Any) -> str | None:
    if type(value) is str and value.isascii() and value.isprintable():
        return value.strip() or None  # as below, without two more calls for most cells of a million rows
    try:
        return normalise_text(value)
    except (TypeError, ValueError):
        raise PydanticCustomError("not_text", "is not text") from None


def _required_text(value: Any) -> str:
    text = _text(value)
    if text is None:
        raise PydanticCustomError("absent", "is missing")
    return text


def _email(value: str) -> str:
    if not _EMAIL.fullmatch(value) or not value.isprintable():
        raise PydanticCustomError("email", "is not an e-mail address")
    return value


def _country(value: Any) -> str | None:
    text = _text(value)
    code = text.upper() if text else None
    if code is not None and code not in COUNTRIES:
        raise PydanticCustomError("country", "is not a two-letter code of ISO 3166, like GB or US")
    return code


LONGEST_ID = 190
"""Characters of an id, as the ledger's columns have room for."""

LONGEST_TEXT = 255
"""Characters of a name, a line of an address and the like (inferred: what such a column usually has room for)."""

LONGEST_MESSAGE = 2000
"""Characters of a message (inferred: none is published; it stops a wrong column, Sendoso decides what a card holds)."""

LONGEST_LINK = 2000
"""Characters of an eGift link (inferred)."""

LONGEST_VALUE = 1000
"""Characters of one value of the metadata (inferred)."""

# Lengths stand before what makes text of a cell: there they are checked by pydantic's core, and not in Python.
Id = Annotated[str, Field(max_length=LONGEST_ID, pattern=r"^[^\x00]*$"), BeforeValidator(_required_text)]
Text = Annotated[str, Field(max_length=LONGEST_TEXT), BeforeValidator(_required_text)]
OptionalText = Annotated[Annotated[str, Field(max_length=LONGEST_TEXT)] | None, BeforeValidator(_text)]
Message = Annotated[str, Field(max_length=LONGEST_MESSAGE), BeforeValidator(_required_text)]
Email = Annotated[str, Field(max_length=LONGEST_TEXT), BeforeValidator(_required_text), AfterValidator(_email)]
Country = Annotated[str | None, BeforeValidator(_country)]


def _metadata_value(value: Any) -> str | int | float | bool:
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, str):
        text = _required_text(value)
        if len(text) > LONGEST_VALUE:
            raise PydanticCustomError("too_long", f"is longer than {LONGEST_VALUE} characters")
        return text
    raise PydanticCustomError("not_plain", "must be text, a number or true or false")


MetadataValue = Annotated[Any, BeforeValidator(_metadata_value)]


class _Model(BaseModel):
    """A model whose ``repr`` and errors show no values: they are people's names and addresses."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return ()


class Address(_Model):
    """A postal address, as the gift send takes it (seed)."""

    line1: OptionalText = None
    line2: OptionalText = None
    city: OptionalText = None
    state: OptionalText = None
    postal_code: OptionalText = None
    country: Country = None
    """ISO 3166 alpha-2, like ``GB``, in any case (the seed says "country code"; which, is inferred)."""

    def missing(self) -> list[str]:
        """Name the parts that are absent and that a parcel needs (seed; that a state is one of them, inferred)."""
        values = vars(self)
        needed = _NEEDED_WITH_STATE if self.country in WITH_STATES else _NEEDED
        return [name for name in needed if values[name] is None]


_NEEDED = ("line1", "city", "postal_code", "country")
_NEEDED_WITH_STATE = ("line1", "city", "state", "postal_code", "country")


def _address(address: Address | None) -> Address | None:
    return address if address is not None and any(vars(address).values()) else None


class Recipient(_Model):
    """Who gets a gift: first name, last name and e-mail are required, the address for physical gifts (seed)."""

    first_name: Text
    last_name: Text
    email: Email
    company: OptionalText = None
    title: OptionalText = None
    address: Annotated[Address | None, AfterValidator(_address)] = None
    """``None`` also for one of blanks."""


class Delivery(StrEnum):
    """How a campaign's gift reaches its recipient (published)."""

    EMAIL = "email"
    """An eGift."""
    MAIL = "mail"
    """A physical gift."""


class AddressConfirmation(StrEnum):
    """How a recipient is asked for an address (published)."""

    EMAIL = "email"
    LINK = "link"


class GiftSend(_Model):
    """One gift of the catalogue to one recipient: what ``POST /api/v3/sends`` takes (seed)."""

    gift_id: Id
    recipient: Recipient
    message: Message
    variant_id: OptionalText = None
    team_id: OptionalText = None
    metadata: dict[str, MetadataValue] = Field(default_factory=dict)

    @property
    def item(self) -> Item:
        """What is sent."""
        return Item(gift_id=self.gift_id)


class CampaignRecipient(_Model):
    """Who gets a campaign's gift: the e-mail is required, a name and an address for physical gifts (published)."""

    first_name: OptionalText = None
    last_name: OptionalText = None
    email: Email
    mobile_no: OptionalText = None
    """Without it a parcel to outside the US fails silently (published)."""
    address: Annotated[Address | None, AfterValidator(_address)] = None
    company: Annotated[OptionalText, Field(exclude=True)] = None
    """Taken, so that a recipient may be the same as a gift send's, and not sent: a campaign send has no such field."""
    title: Annotated[OptionalText, Field(exclude=True)] = None
    """Likewise."""

    @property
    def name(self) -> str | None:
        """First and last name in one, as a campaign send takes them."""
        return " ".join(part for part in (self.first_name, self.last_name) if part) or None


class CampaignSend(_Model):
    """
    One gift of a campaign, or *touch*, to one recipient: what ``POST /api/v3/send`` takes (published).

    Which of its three shapes a send has follows from the campaign and from the recipient: an eGift by e-mail, a
    parcel to an address, or a parcel whose address the recipient is asked for.
    """

    touch_id: Id
    recipient: CampaignRecipient
    message: Annotated[Annotated[str, Field(max_length=LONGEST_MESSAGE)] | None, BeforeValidator(_text)] = None
    address_confirmation: AddressConfirmation | None = None
    """Ask a recipient for whom there is no address."""
    expire_after_days: Annotated[int, Field(ge=2, le=7)] | None = None
    """Days that the recipient has to answer, from 2 to 7 (published); 7 where it is absent."""
    hide_product_info: bool | None = None
    """Ask without saying what for."""
    address_confirmation_message: OptionalText = None
    """What the recipient reads when asked."""
    delivery: Annotated[Delivery | None, Field(exclude=True)] = None
    """Of the campaign, read from Sendoso once; no part of the content."""

    @property
    def item(self) -> Item:
        """What is sent."""
        return Item(touch_id=self.touch_id)

    @property
    def asks_for_address(self) -> bool:
        """Whether the recipient of a physical gift is asked for an address."""
        return self.address_confirmation is not None and self.recipient.address is None


class EgiftLinkSend(_Model):
    """
    One eGift link of a campaign for one recipient: what ``POST /api/v3/send/generate_egift_links`` takes (published).

    Sendoso sends nothing: who asked for the link hands it on.
    """

    touch_id: Id
    email: Email

    @property
    def item(self) -> Item:
        """What is sent."""
        return Item(touch_id=self.touch_id)


AnySend = GiftSend | CampaignSend | EgiftLinkSend
"""What one row of a batch is made into."""


class EgiftLink:
    """
    A link behind which there is money: whoever has it can redeem it.

    No dataclass and no pydantic model, which Airflow would write into an XCom; and its ``repr`` shows neither field.

    :param email: for whom it was made, as Sendoso says; ``None`` where it does not.
    :param link: the link.
    """

    __slots__ = ("email", "link")

    def __init__(self, email: str | None, link: str) -> None:
        self.email = email
        self.link = link

    def __repr__(self) -> str:
        return "EgiftLink()"


@dataclass(frozen=True, slots=True)
class Item:
    """
    What is sent: a gift of the catalogue, or the gift of a campaign.

    :param gift_id: of the catalogue, or
    :param touch_id: of the campaign.
    """

    gift_id: str | None = None
    touch_id: str | None = None

    def __str__(self) -> str:
        return f"campaign {self.touch_id}" if self.touch_id is not None else f"gift {self.gift_id}"


NOTHING = Item()
"""What is sent where that is not known."""


def _id(value: Any) -> str:
    if isinstance(value, bool):
        raise PydanticCustomError("not_text", "is not text")
    return _required_text(value)


def _lenient(kind: Any) -> BeforeValidator:
    """Take a value if it is one of its kind: a list is worth more than one odd field of one of its rows."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def take(value: Any) -> Any:
        try:
            return adapter.validate_python(value)
        except ValidationError:
            return None

    return BeforeValidator(take)


AnswerId = Annotated[str, BeforeValidator(_id), Field(max_length=LONGEST_ID)]
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


def field_errors(error: ValidationError) -> list[tuple[str, str]]:
    """
    Say which fields are wrong and why, without the values.

    :param error: what a model of this module raised.
    :return: pairs of a field's name, as a row has it, and a reason.
    """
    return [(_field_name(detail["loc"]), _reason(detail)) for detail in error.errors(include_input=False)]


def _field_name(loc: tuple[int | str, ...]) -> str:
    names = [str(part) for part in loc if part != "recipient"]
    return "_".join(names) or "recipient"


def _reason(detail: Any) -> str:
    match detail["type"]:
        case "extra_forbidden":
            return "is not a field of a send"
        case "missing":
            return "is missing"
        case "absent" | "not_text" | "not_plain" | "email" | "country" | "too_long":
            return str(detail["msg"])
        case "string_too_long":
            return f"is longer than {detail['ctx']['max_length']} characters"
        case "enum":
            return f"must be {detail['ctx']['expected']}"
        case "greater_than_equal" | "less_than_equal":
            return "must be from 2 to 7"  # expire_after_days, the only number
        case _:
            return "has a value of a wrong type"
