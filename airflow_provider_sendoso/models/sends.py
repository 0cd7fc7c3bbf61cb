"""The models of sends and recipients. Their ``repr`` and errors show no values, which are personal data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from airflow_provider_sendoso.models.countries import WITH_STATES
from airflow_provider_sendoso.models.kinds import Kind
from airflow_provider_sendoso.models.suspects import float_problem, postal_code_problem, several_problem
from airflow_provider_sendoso.models.text import (
    Country,
    Email,
    Id,
    Message,
    MetadataValue,
    OptionalEmail,
    OptionalMessage,
    OptionalText,
    Text,
    Truth,
    WebAddress,
    WholeUSD,
)
from airflow_provider_sendoso.models.words import ANY_PRICE, AddressConfirmation, Delivery, Item


class _Model(BaseModel):
    """A model whose ``repr`` and errors show no values, which are names and addresses."""

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
        """Return the missing parts that a parcel needs (seed; that a state is one of them is inferred)."""
        values = vars(self)
        needed = _NEEDED_WITH_STATE if self.country in WITH_STATES else _NEEDED
        return [name for name in needed if values[name] is None]


_NEEDED = ("line1", "city", "postal_code", "country")
_NEEDED_WITH_STATE = ("line1", "city", "state", "postal_code", "country")


def _address(address: Address | None) -> Address | None:
    problem = None if address is None else postal_code_problem(address.country, address.postal_code)
    if problem is not None:
        raise PydanticCustomError("postal_code", "{problem}", {"problem": problem})
    return address if address is not None and any(vars(address).values()) else None


def _phone(number: str | None) -> str | None:
    problem = float_problem(number)
    if problem is not None:
        raise PydanticCustomError("phone", "{problem}", {"problem": problem})
    return number


class Recipient(_Model):
    """Who gets a gift: first name, last name and e-mail are required, the address for physical gifts (seed)."""

    first_name: Text
    last_name: Text
    email: Email
    company: OptionalText = None
    title: OptionalText = None
    address: Annotated[Address | None, AfterValidator(_address)] = None
    """``None`` also if all its parts are blank."""


class SendModel(_Model):
    """Base of the models that one POST sends to one recipient."""

    kind: ClassVar[Kind]
    only_by_post: ClassVar[frozenset[str]] = frozenset()
    """The recipient's fields that only a parcel needs."""

    left_out: Annotated[str | None, Field(exclude=True)] = None
    """What was wrong with those of ``only_by_post`` that :func:`parse_send` has left out."""

    @property
    def item(self) -> Item:
        """What is sent."""
        raise NotImplementedError


class GiftSend(SendModel):
    """One gift of the catalogue to one recipient: what ``POST /api/v3/sends`` takes (seed)."""

    kind: ClassVar[Kind] = Kind.GIFT
    only_by_post: ClassVar[frozenset[str]] = frozenset({"address", "company", "title"})

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


_NotPosted = Annotated[None, BeforeValidator(lambda value: None), Field(exclude=True)]
"""A field whose value is neither posted nor checked nor kept."""


class CampaignRecipient(_Model):
    """Who gets a campaign's gift: the e-mail is required, a name and an address for physical gifts (published)."""

    first_name: OptionalText = None
    last_name: OptionalText = None
    email: Email
    mobile_no: Annotated[OptionalText, AfterValidator(_phone)] = None
    """Without it a parcel to an address outside the US fails silently (published)."""
    address: Annotated[Address | None, AfterValidator(_address)] = None
    company: _NotPosted = None
    """Accepted, so that the same recipient works for gift sends, but not sent: a campaign send has no such field."""
    title: _NotPosted = None
    """Accepted, but not sent, like ``company``."""

    @property
    def name(self) -> str | None:
        """First and last name in one text, as a campaign send takes them."""
        return " ".join(part for part in (self.first_name, self.last_name) if part) or None


class CampaignSend(SendModel):
    """
    One gift of a campaign, or *touch*, to one recipient: what ``POST /api/v3/send`` takes (published).

    Which of its three shapes a send has follows from the campaign and from the recipient: an eGift by e-mail, a
    parcel to an address, or a parcel whose address the recipient is asked for.
    """

    kind: ClassVar[Kind] = Kind.CAMPAIGN
    only_by_post: ClassVar[frozenset[str]] = frozenset({"address", "mobile_no"})

    touch_id: Id
    recipient: CampaignRecipient
    message: OptionalMessage = None
    address_confirmation: AddressConfirmation | None = None
    """How to ask a recipient without an address for it."""
    expire_after_days: Annotated[int, Field(ge=2, le=7)] | None = None
    """Days that the recipient has to answer, from 2 to 7 (published); 7 if absent."""
    hide_product_info: bool | None = None
    """Whether to hide from the recipient which gift the address is for."""
    address_confirmation_message: OptionalText = None
    """The text that the recipient reads when asked for the address."""
    delivery: Annotated[Delivery | None, Field(exclude=True)] = None
    """The campaign's delivery, read from Sendoso once; not part of the content."""

    @property
    def item(self) -> Item:
        """What is sent."""
        return Item(touch_id=self.touch_id)

    @property
    def asks_for_address(self) -> bool:
        """Whether the recipient of a physical gift is asked for an address."""
        return self.address_confirmation is not None and self.recipient.address is None


class EgiftLinkSend(SendModel):
    """
    One eGift link of a campaign for one recipient: what ``POST /api/v3/send/generate_egift_links`` takes (published).

    Sendoso sends the recipient nothing; the caller passes the link on.
    """

    kind: ClassVar[Kind] = Kind.LINK

    touch_id: Id
    email: Email

    @property
    def item(self) -> Item:
        """What is sent."""
        return Item(touch_id=self.touch_id)


class _Whereabouts(_Model):
    """Where a recipient is who is asked for the address: of a row's address only the country is read."""

    country: Country = None
    line1: _NotPosted = None
    line2: _NotPosted = None
    city: _NotPosted = None
    state: _NotPosted = None
    postal_code: _NotPosted = None


class AskedRecipient(_Model):
    """Who gets a gift of the marketplace or of SmartSend; Sendoso asks for the address (published)."""

    first_name: Text
    last_name: Text
    email: Email
    address: _Whereabouts | None = None
    company: _NotPosted = None
    """Accepted, so that the same recipient works for gift sends, but not sent: these sends have no such field."""
    title: _NotPosted = None
    mobile_no: _NotPosted = None

    @property
    def country(self) -> str | None:
        """ISO 3166 alpha-2."""
        return None if self.address is None else self.address.country


class _AskedSend(SendModel):
    """What the sends of the marketplace and of SmartSend have in common (published)."""

    recipient: AskedRecipient
    message: OptionalMessage = None
    gift_exchange_enabled: Truth = None
    """Whether the recipient may exchange the gift for another one."""
    meeting_url: WebAddress = None
    """Where the recipient can arrange a meeting."""
    require_approval: Truth = None
    """Whether the send waits at Sendoso until a manager approves it in the Send Tracker."""


def _one_variant(variant_id: str) -> str:
    problem = several_problem(variant_id)
    if problem is not None:
        raise PydanticCustomError("several", "{problem}", {"problem": problem})
    return variant_id


class MarketplaceSend(_AskedSend):
    """One product of the marketplace to one recipient: ``POST /api/v3/marketplace/products/send`` (published)."""

    kind: ClassVar[Kind] = Kind.MARKETPLACE

    marketplace_variant_id: Annotated[Id, AfterValidator(_one_variant)]
    sender_first_name: OptionalText = None
    sender_last_name: OptionalText = None
    sender_email: OptionalEmail = None
    sender_organization_name: OptionalText = None

    @property
    def item(self) -> Item:
        """What is sent."""
        return Item(marketplace_variant_id=self.marketplace_variant_id)


def _true(value: bool | None) -> bool:
    if not value:
        raise PydanticCustomError("absent", "is missing")
    return value


class SmartSend(_AskedSend):
    """One gift that Sendoso picks: ``POST /api/v3/smartsend/recommendations/send`` (published)."""

    kind: ClassVar[Kind] = Kind.SMART_SEND

    smart_send: Annotated[Truth, AfterValidator(_true)]
    price_lte_usd: WholeUSD = None
    """The most that the gift may cost, in whole USD."""

    @property
    def item(self) -> Item:
        """What is sent: the gift is not known, and at most that expensive."""
        return Item(smart_send=ANY_PRICE if self.price_lte_usd is None else str(self.price_lte_usd))


AnySend = GiftSend | CampaignSend | EgiftLinkSend | MarketplaceSend | SmartSend
"""A send of any kind; each row of a batch becomes one."""


class EgiftLink:
    """
    An eGift link; anyone who has the link can redeem it.

    It is neither a dataclass nor a pydantic model, because Airflow would write those into an XCom; its ``repr`` shows
    neither field.

    :param email: the recipient's e-mail in Sendoso's answer; ``None`` if the answer holds none.
    :param link: the link.
    """

    __slots__ = ("email", "link")

    def __init__(self, email: str | None, link: str) -> None:
        self.email = email
        self.link = link

    def __repr__(self) -> str:
        return "EgiftLink()"


_S = TypeVar("_S", bound=SendModel)


def parse_send(model: type[_S], fields: Mapping[str, Any]) -> _S:
    """
    Validate a send; what only a parcel needs is left out where it is wrong, for an eGift does without.

    Whether the gift goes by post is known later; if it does, the send's ``left_out`` says why it cannot be sent.

    :param model: the model of the send's kind.
    :param fields: the send's fields.
    :raises ValidationError: if any other field is missing or wrong.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        recipient = fields.get("recipient")
        wrong = {detail["loc"][:2] for detail in error.errors(include_input=False)}
        if not isinstance(recipient, Mapping) or not wrong <= {("recipient", name) for name in model.only_by_post}:
            raise
        left_out = "; ".join(f"{name} {reason}" for name, reason in field_errors(error))
        kept = {name: value for name, value in recipient.items() if ("recipient", name) not in wrong}
        return model.model_validate({**fields, "recipient": kept, "left_out": left_out})


def field_errors(error: ValidationError) -> list[tuple[str, str]]:
    """
    Return the wrong fields and the reasons, without the values.

    :param error: the error that a model of this module raised.
    :return: pairs of a field's name, in the form of a row's fields, and a reason.
    """
    details = error.errors(include_input=False)
    return [(_field_name(detail["loc"], detail["type"]), _reason(detail)) for detail in details]


def _field_name(loc: tuple[int | str, ...], problem: str) -> str:
    names = [str(part) for part in loc if part != "recipient"]
    names += [problem] if problem == "postal_code" else []  # found by the validator of the whole address
    return "_".join(names) or "recipient"


def _reason(detail: Any) -> str:
    match detail["type"]:
        case "extra_forbidden":
            return "is not a field of a send"
        case "missing":
            return "is missing"
        case "absent" | "suspect" | "postal_code" | "not_text" | "not_plain" | "email" | "country" | "too_long":
            return str(detail["msg"])
        case "string_too_long":
            return f"is longer than {detail['ctx']['max_length']} characters"
        case "enum":
            return f"must be {detail['ctx']['expected']}"
        case "greater_than_equal" | "less_than_equal":
            return "must be from 2 to 7"  # expire_after_days, the only number
        case _:
            return "has a value of a wrong type"
