"""The domain's words: statuses, text as cells of a row, and models that never show whom they are about."""

from __future__ import annotations

import array
import datetime
import math
import traceback
import unicodedata
import uuid
from decimal import Decimal
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from airflow_provider_sendoso.models import (
    LONGEST_MESSAGE,
    LONGEST_TEXT,
    LONGEST_VALUE,
    Address,
    Gift,
    GiftSend,
    Recipient,
    Send,
    field_errors,
    normalise_key,
    normalise_text,
    row_name,
)

ADA = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}
MUG = {"gift_id": "gift-mug", "message": "Thanks", "recipient": ADA}


class TestText:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("Ada", "Ada"),
            ("  Ada \t\n", "Ada"),
            ("\u00a0Ada\u2003", "Ada"),
            ("\ufeffAda\u200b\x00", "Ada"),
            ("\u200e \ufeffAda \u200f", "Ada"),
            ("Jose\u0301", "Jos\u00e9"),
            ("a  b", "a  b"),
            (5, "5"),
            (5.0, "5"),
            (-0.0, "0"),
            (1e15, "1000000000000000"),
            (2.5, "2.5"),
            (Decimal("42"), "42"),
            (Decimal("42.00"), "42"),
            (Decimal("1E+3"), "1000"),
            (Decimal("2.50"), "2.50"),
            (Decimal("12345678901234567890123"), "12345678901234567890123"),
            (True, "True"),
            (datetime.date(2026, 11, 21), "2026-11-21"),
            (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ],
    )
    def test_a_cell_is_read_as_normalised_text(self, value, text):
        assert normalise_text(value) == text

    @pytest.mark.parametrize(
        "value",
        [
            None,
            "",
            "  ",
            "\u00a0\n",
            "\ufeff \u200b",
            math.nan,
            math.inf,
            -math.inf,
            Decimal("NaN"),
            Decimal("Infinity"),
        ],
    )
    def test_a_blank_or_missing_cell_is_absent(self, value):
        assert normalise_text(value) is None

    @pytest.mark.parametrize(
        "value",
        [
            *(b"Ada", bytearray(b"Ada"), memoryview(b"Ada"), ["Ada"], ("Ada",), {"Ada"}, {"Ada": 1}),
            *(frozenset({"Ada"}), array.array("i", [1]), range(2)),
        ],
    )
    def test_a_value_that_is_not_text_is_refused_by_its_type(self, value):
        with pytest.raises(TypeError, match=rf"^{type(value).__name__} is not text$"):
            normalise_text(value)

    @pytest.mark.parametrize("value", ["\ud800", "Ada\udfff", Decimal("sNaN")])
    def test_text_that_cannot_be_encoded_is_refused(self, value):
        with pytest.raises(ValueError):
            normalise_text(value)

    @given(st.text())
    def test_normalising_text_twice_changes_nothing(self, value):
        text = normalise_text(value)
        assert text is None or (normalise_text(text) == text and unicodedata.is_normalized("NFC", text))


class TestKey:
    @pytest.mark.parametrize(
        "same",
        [
            ("ada@example.com", "Ada@Example.COM", " ADA@EXAMPLE.COM\n"),
            ("jose\u0301@example.com", "JOS\u00c9@example.com"),
            ("ada@example.com", "\ufeffada@example.com", "ada@example.com\u200b", "\u200e Ada@example.com\x00"),
            ("42", "\ufeff42", "42\u200b"),
            (42, 42.0, "42", " 42 ", Decimal("42"), Decimal("42.00")),
            ("Jose\u0301-7", "Jos\u00e9-7"),
        ],
    )
    def test_spellings_of_one_key_are_one_key(self, same):
        assert len({normalise_key(value) for value in same}) == 1

    @pytest.mark.parametrize(
        "different",
        [
            ("AB-1", "ab-1"),
            ("straße@example.com", "STRASSE@example.com"),
            ("1", "01"),
            (1.5, 1),
            ("ada@example.com", "ada+1@example.com"),
        ],
    )
    def test_different_keys_stay_different(self, different):
        assert len({normalise_key(value) for value in different}) == len(different)

    @pytest.mark.parametrize("value", [None, "", " ", math.nan])
    def test_a_blank_key_is_absent(self, value):
        assert normalise_key(value) is None


class TestRecipient:
    @pytest.mark.parametrize("name", ["first_name", "last_name", "email"])
    @pytest.mark.parametrize("value", [None, "", "  ", math.nan])
    def test_names_and_email_are_required(self, name, value):
        assert problems(Recipient, ADA | {name: value}) == [(name, "is missing")]

    def test_missing_fields_are_named(self):
        assert problems(Recipient, {}) == [(name, "is missing") for name in ("first_name", "last_name", "email")]

    @pytest.mark.parametrize(
        "email", ["ada@example.com", "a@b.co", "a+b@c.d.e", "ada.l@exämple.com", "!#$@example.com", "Ada@Example.com"]
    )
    def test_a_plain_email_is_accepted(self, email):
        assert Recipient.model_validate(ADA | {"email": email}).email == email

    @pytest.mark.parametrize(
        "email",
        [
            *("ada", "ada@", "@example.com", "ada@example", "a b@example.com", "a@b@example.com", "a@b..com", 42),
            *("Ada<ada@example.com>", "ada@example.com,", "ada@example.com;eve", "ada,@example.com"),
        ],
    )
    def test_text_that_is_not_an_email_is_refused(self, email):
        [(name, problem)] = problems(Recipient, ADA | {"email": email})
        assert (name, problem[:24]) == ("email", "is not an e-mail address")

    @pytest.mark.parametrize("invisible", ["\u200b", "\ufeff", "\u00ad", "\u200e", "\x00", "\u00a0", "\n"])
    def test_invisible_characters_are_removed_around_an_email_and_refused_inside_it(self, invisible):
        for email in (f"{invisible}ada@example.com", f"ada@example.com{invisible}"):
            assert Recipient.model_validate(ADA | {"email": email}).email == "ada@example.com"
        for email in (f"a{invisible}da@example.com", f"ada@{invisible}example.com", f"ada@example.c{invisible}om"):
            [(name, problem)] = problems(Recipient, ADA | {"email": email})
            assert (name, problem[:24]) == ("email", "is not an e-mail address")

    def test_text_is_normalised(self):
        recipient = Recipient.model_validate(ADA | {"first_name": " Jose\u0301 ", "company": "  ", "title": 7.0})
        assert (recipient.first_name, recipient.company, recipient.title) == ("Jos\u00e9", None, "7")

    @pytest.mark.parametrize("value", [b"Ada", ["Ada"], {"Ada": 1}])
    def test_a_field_that_is_not_text_is_refused(self, value):
        assert problems(Recipient, ADA | {"first_name": value}) == [("first_name", "is not text")]

    def test_an_unknown_field_is_refused(self):
        assert problems(Recipient, ADA | {"phone": "1"}) == [("phone", "is not a field of a send")]

    def test_a_recipient_is_immutable(self):
        with pytest.raises(ValidationError):
            Recipient.model_validate(ADA).email = "eve@example.com"


class TestAddress:
    WHOLE: ClassVar = {"line1": "12 St James's Square", "city": "London", "postal_code": "SW1Y 4JH", "country": "GB"}

    @pytest.mark.parametrize(
        ("country", "code"), [("GB", "GB"), (" us ", "US"), ("De", "DE"), ("", None), (None, None)]
    )
    def test_a_country_is_a_code_in_any_case(self, country, code):
        assert Address(country=country).country == code

    @pytest.mark.parametrize("country", ["United Kingdom", "UK", "XX", "GBR", "826", 44, "Ğ", "ＧＢ"])
    def test_a_country_that_is_not_a_code_is_refused(self, country):
        assert problems(Address, {"country": country}) == [
            ("country", "is not a two-letter code of ISO 3166, like GB or US")
        ]

    @pytest.mark.parametrize("missing", ["line1", "city", "postal_code", "country"])
    def test_a_parcel_needs_line_city_postal_code_and_country(self, missing):
        assert Address(**self.WHOLE).missing() == []
        assert Address(**self.WHOLE | {missing: " "}).missing() == [missing]

    @pytest.mark.parametrize("country", ["US", "ca"])
    def test_some_countries_need_a_state(self, country):
        assert Address(**self.WHOLE | {"country": country}).missing() == ["state"]
        assert Address(**self.WHOLE | {"country": country, "state": "CA"}).missing() == []

    def test_an_address_of_blanks_is_no_address(self):
        address = dict.fromkeys(self.WHOLE, " ")
        assert Recipient.model_validate(ADA | {"address": address}).address is None
        assert Recipient.model_validate(ADA | {"address": {}}).address is None


class TestLengths:
    @pytest.mark.parametrize("name", ["first_name", "last_name", "company", "title"])
    def test_a_recipients_text_has_a_longest_length(self, name):
        Recipient.model_validate(ADA | {name: "x" * LONGEST_TEXT})
        assert problems(Recipient, ADA | {name: "x" * (LONGEST_TEXT + 1)}) == [(name, "is longer than 255 characters")]

    def test_message_and_metadata_have_a_longest_length(self):
        longest = {"message": "😀" * LONGEST_MESSAGE, "metadata": {"a": "x" * LONGEST_VALUE}}
        GiftSend.model_validate(MUG | longest)
        ten_megabytes = "x" * 10_000_000
        assert problems(GiftSend, MUG | {"message": ten_megabytes, "metadata": {"a": ten_megabytes}}) == [
            ("message", "is longer than 2000 characters"),
            ("metadata_a", "is longer than 1000 characters"),
        ]


class TestGiftSend:
    @pytest.mark.parametrize("name", ["gift_id", "message"])
    def test_gift_and_message_are_required(self, name):
        assert problems(GiftSend, MUG | {name: " "}) == [(name, "is missing")]

    def test_fields_are_named_as_a_row_has_them(self):
        recipient = ADA | {"email": "nobody", "address": {"zip": "1", "city": b"London"}}
        assert problems(GiftSend, MUG | {"recipient": recipient, "gift_id": None}) == [
            ("gift_id", "is missing"),
            ("email", "is not an e-mail address"),
            ("address_city", "is not text"),
            ("address_zip", "is not a field of a send"),
        ]

    @pytest.mark.parametrize("value", [None, "ada@example.com", 5, []])
    def test_a_recipient_that_is_not_a_mapping_is_refused(self, value):
        assert problems(GiftSend, MUG | {"recipient": value}) == [("recipient", "has a value of a wrong type")]

    @pytest.mark.parametrize("value", ["42", 42, 4.5, True])
    def test_metadata_keeps_its_types(self, value):
        metadata = GiftSend.model_validate(MUG | {"metadata": {"key": value}}).metadata
        assert type(metadata["key"]) is type(value)
        assert metadata == {"key": value}

    @pytest.mark.parametrize(
        "value", [None, math.nan, math.inf, b"x", ["x"], {"x": 1}, Decimal(1), datetime.date(2026, 11, 21)]
    )
    def test_metadata_that_is_not_text_number_or_truth_value_is_refused(self, value):
        assert problems(GiftSend, MUG | {"metadata": {"good": 1, "key": value}}) == [
            ("metadata_key", "must be text, a number or true or false")
        ]

    @pytest.mark.parametrize(("value", "reason"), [(" ", "is missing"), ("\ud800", "is not text")])
    def test_blank_or_unencodable_metadata_is_refused(self, value, reason):
        assert problems(GiftSend, MUG | {"metadata": {"key": value}}) == [("metadata_key", reason)]

    def test_a_gift_send_survives_json(self):
        send = GiftSend.model_validate(
            MUG
            | {
                "recipient": ADA | {"last_name": 'Ó"Brien\\ 😀', "address": {"line1": "1", "country": "GB"}},
                "metadata": {"a": 1, "b": "1", "c": 1.5, "d": True},
            }
        )
        again = GiftSend.model_validate_json(send.model_dump_json())
        assert again == send
        assert [type(value) for value in again.metadata.values()] == [int, str, float, bool]


class TestAnswers:
    def test_unknown_fields_are_kept_and_not_shown(self):
        send = Send.model_validate({"id": 7, "status": "Shipped", "recipient": {"email": "ada@example.com"}})
        assert send.recipient == {"email": "ada@example.com"}
        assert repr(send) == "Send(id='7', status=<SendStatus.SHIPPED: 'shipped'>, status_word=None)"

    def test_a_gift_needs_an_id_and_no_more(self):
        gift = Gift.model_validate({"id": 7})
        assert (gift.id, gift.name, gift.price) == ("7", None, None)

    @pytest.mark.parametrize("value", [5, True, ["x"], {"x": 1}, b"\xff", math.nan])
    def test_a_field_of_another_shape_is_left_out(self, value):
        fields = dict.fromkeys(("name", "category", "currency"), value) | {"price": [value]}
        gift = Gift.model_validate({"id": 7, **fields})
        assert (gift.name, gift.category, gift.currency, gift.price) == (None, None, None, None)

    @pytest.mark.parametrize(
        ("fields", "physical"),
        [
            # The sandbox's fields, and the seed's four kinds.
            ({"category": "swag", "delivery_type": "mail"}, True),
            ({"category": "egift", "delivery_type": "email"}, False),
            ({"category": "Physical items"}, True),
            ({"category": "eGift cards"}, False),
            ({"category": "E-Gift Card"}, False),
            ({"category": "Branded swag"}, True),
            ({"category": "Charitable donations"}, False),
            ({"physical": True, "category": "other"}, True),
            ({"physical": False, "category": "swag"}, False),
            ({"delivery_type": None, "type": "donation"}, False),
            # Unknown: left to Sendoso.
            ({}, None),
            ({"category": "Large gifts"}, None),
            ({"category": 5, "delivery_type": ["mail"]}, None),
        ],
    )
    def test_a_gift_is_known_to_be_physical_or_not_or_neither(self, fields, physical):
        assert Gift.model_validate({"id": 1, **fields}).physical is physical

    @pytest.mark.parametrize("price", ["free", "", math.nan, math.inf, {"amount": 5}, [], True])
    def test_a_price_that_is_not_an_amount_is_none(self, price):
        assert Gift.model_validate({"id": 1, "price": price}).price is None

    @pytest.mark.parametrize("wrong", [None, "", True, [1], {"value": 1}])
    def test_an_object_without_an_id_is_refused(self, wrong):
        for model in (Gift, Send):
            with pytest.raises(ValidationError):
                model.model_validate({"id": wrong})

    @pytest.mark.parametrize(("price", "read"), [(18.5, "18.5"), ("18.50", "18.50"), (18, "18")])
    def test_a_price_is_read_as_a_decimal(self, price, read):
        assert Gift.model_validate({"id": 1, "price": price}).price == Decimal(read)


class TestNobodyIsShown:
    """No value in a repr, an error or a traceback; field names, and nothing else."""

    personal = st.text(alphabet="äßéÑ漢字Ωж☃0123456789@.", min_size=6, max_size=20).map(lambda text: f"☃{text}☃")

    @given(personal)
    def test_no_repr_shows_a_personal_value(self, value):
        address = dict.fromkeys(("line1", "line2", "city", "state", "postal_code"), value)
        recipient = {
            "first_name": value,
            "last_name": value,
            "email": f"{value.replace('@', '')}@example.com",
            "company": value,
            "title": value,
            "address": address,
        }
        send = GiftSend.model_validate(
            {"gift_id": "g", "message": value, "recipient": recipient, "metadata": {"key": value}}
        )
        shown = f"{send!r}{send}{send.recipient!r}{send.recipient}{send.recipient.address!r}{Address(line1=value)}"
        assert "☃" not in shown
        assert value not in shown

    @given(
        personal,
        st.sampled_from(["first_name", "last_name", "email", "company", "title", "address"]),
        st.sampled_from([lambda v: v.encode(), lambda v: [v], lambda v: {v: v}, lambda v: {"line1": [v]}, lambda v: v]),
    )
    def test_no_error_shows_a_personal_value(self, value, name, wrong):
        recipient = ADA | {"email": value.replace("@", ""), name: wrong(value)}
        with pytest.raises(ValidationError) as caught:
            GiftSend.model_validate(MUG | {"recipient": recipient, "gift_id": [value], "metadata": {"key": [value]}})
        reasons = [reason for _, reason in field_errors(caught.value)]
        assert value not in " ".join(reasons)
        if not isinstance(recipient[name], dict):  # a mapping's keys are names of fields
            assert value not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(("row_ref", "name"), [(None, "row 7"), ("C-42", "row 7 (C-42)")])
def test_a_row_is_named_by_number_and_reference(row_ref, name):
    assert row_name(7, row_ref) == name


def problems(model, fields) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(fields)
    return field_errors(caught.value)
