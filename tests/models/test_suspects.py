"""Values that a spreadsheet or a data frame has damaged are refused, and never printed on a parcel."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any

import pytest
from pydantic import ValidationError

from airflow_provider_sendoso.arguments.gifts import GiftArguments
from airflow_provider_sendoso.arguments.sends import make_send
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.models import GiftSend, field_errors, normalise_text
from airflow_provider_sendoso.models.suspects import placeholder, postal_code_problem, suspect

ADA = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}


@pytest.mark.parametrize(
    "text",
    [
        *("n/a", "N/A", "-", "nan", "NaN", "None", "<NA>", "NaT", "NULL", "null", "#N/A", "(null)", "undefined", "--"),
        *("none", "(blank)", "[object Object]", "<nil>", "#NUM!", "{}", "''", "-nan", "inf"),
    ],
)
def test_a_stand_in_for_a_missing_value_is_a_suspect(text: str) -> None:
    assert repr(text) in (suspect(text) or "")


@pytest.mark.parametrize("text", ["4.42079E+11", "4.4E+11", "1e5", "2E11", "-1.5E+3", "4.42079e+11", "4,42079E+11"])
def test_a_number_in_scientific_notation_is_a_suspect(text: str) -> None:
    assert "scientific notation" in (suspect(text) or "")


@pytest.mark.parametrize("text", ["'02139", "'+44 20 7946", '="02139"', '=""', "#####"])
def test_a_value_as_a_spreadsheet_guards_or_shows_it(text: str) -> None:
    assert "spreadsheet" in (suspect(text) or "")


@pytest.mark.parametrize(
    "text", ["'t Hooft", "'s-Hertogenbosch", "#1 Fan", "=mc²", "'90s Diner", "##", "Inf", "None Ltd"]
)
def test_signs_that_begin_a_name(text: str) -> None:
    assert suspect(text) is None


@pytest.mark.parametrize(
    "text", ["Nan", "Nat", "Null Island", "None of your business", "1E", "E5", "12", "+442079460000", "A-1", "1e5f"]
)
def test_names_and_numbers_that_may_be_meant_are_no_suspects(text: str) -> None:
    assert suspect(text) is None


@pytest.mark.parametrize(
    ("country", "code", "lost"),
    [
        ("US", "2139", True),
        ("PR", "901", True),
        ("US", "02139", False),
        ("US", "02139-4307", False),
        ("DE", "1067", True),
        ("AU", "800", True),
        ("CH", "8001", False),
        ("BR", "1310100", True),
        ("JP", "600001", True),
        ("GB", "1234", False),
        ("TW", "100", False),
        ("US", "2139.0", True),
        ("GB", "1234.0", True),
        ("US", "2139-4307", True),
        ("PR", "901-1234", True),
        ("BR", "1310-100", True),
        ("JP", "60-0001", True),
        ("JP", "060-0001", False),
        ("SE", "114 55", False),
        ("CZ", "10 00", True),
        ("FR", "75001 CEDEX 05", False),
        ("US", None, False),
        (None, "2139", False),
    ],
)
def test_a_postal_code_that_may_have_lost_its_zeros_is_a_problem(
    country: str | None, code: str | None, lost: bool
) -> None:
    assert (postal_code_problem(country, code) is not None) == lost


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"first_name": "None"}, "first_name"),
        ({"company": "n/a"}, "company"),
        ({"address": {"line1": "1 Main St", "city": "-", "country": "US"}}, "address_city"),
        ({"address": {"line1": "1 Main St", "postal_code": 2139, "country": "US"}}, "address_postal_code"),
        ({"address": {"postal_code": 2139.0, "country": "us"}}, "address_postal_code"),
        ({"address": {"postal_code": "4.42E+11", "country": "GB"}}, "address_postal_code"),
        ({"address": {"postal_code": "'02139", "country": "US"}}, "address_postal_code"),
    ],
)
def test_the_field_of_a_suspect_is_named(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        GiftSend.model_validate({"gift_id": "g", "message": "Hi", "recipient": ADA | fields})
    assert [field for field, _ in field_errors(caught.value)] == [name]


class Gift(str, Enum):  # noqa: UP042 - as people write it
    EGIFT = "gift-egift-25"


class Plain(Enum):
    MUG = "gift-mug"


class Team(IntEnum):
    SALES = 7


class NAType:
    def __str__(self) -> str:
        return "<NA>"


class NaTType:
    def __str__(self) -> str:
        return "NaT"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Gift.EGIFT, "gift-egift-25"),
        (Plain.MUG, "gift-mug"),
        (Team.SALES, "7"),
        (NAType(), None),
        (NaTType(), None),
        (Decimal("NaN"), None),
        (2**60 + 1, str(2**60 + 1)),
        ("Hello \U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", None),
    ],
)
def test_enums_missing_values_and_big_numbers_are_read_as_text(value: Any, text: str | None) -> None:
    if isinstance(value, str) and text is None:
        text = value  # the flag of England keeps its last characters, which cannot be seen
    assert normalise_text(value) == text


@pytest.mark.parametrize("kind", ["float64", "float32", "int64"])
def test_numbers_of_numpy_are_read_as_text(kind: str) -> None:
    numpy = pytest.importorskip("numpy", reason="numpy comes with some databases' drivers only")
    assert normalise_text(getattr(numpy, kind)(42)) == "42"
    if kind != "int64":
        assert normalise_text(getattr(numpy, kind)("nan")) is None


def test_a_long_cell_of_combining_marks_is_refused_quickly() -> None:
    with pytest.raises(ValueError, match="longer than"):
        normalise_text("a" + "\u0301\u0323" * 500_000)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Hi {first_name}", "{first_name}"),
        ("Hi {{ params.name }}", "{{ params.name }}"),
        ("{% if x %}", "{% if x %}"),
        ("Hi { first_name }", "{ first_name }"),
        ("Hi {first_name!r}", "{first_name!r}"),
        ("Hi {first_name:>5}", "{first_name:>5}"),
        ("Hi {first_name.title}", "{first_name.title}"),
        ("Hi {} {1} {a b} :-} :-{", None),
        (None, None),
    ],
)
def test_a_placeholder_left_in_a_text_is_found(text: str | None, left: str | None) -> None:
    assert placeholder(text) == left


def test_a_cell_of_opening_braces_is_looked_through_once() -> None:
    steps = 0

    class Text(str):
        def find(self, *args: Any) -> int:
            nonlocal steps
            steps += 1
            return super().find(*args)

    assert placeholder(Text("{" * 1_000_000)) is None
    assert steps == 6


class Opaque:
    pass


@pytest.mark.parametrize("value", [Opaque(), Opaque, len, lambda: "Ada"], ids=["object", "class", "function", "lambda"])
def test_what_prints_as_its_place_in_memory_is_no_text(value: Any) -> None:
    with pytest.raises(TypeError, match="is not text"):
        normalise_text(value)


@pytest.mark.parametrize("text", ["{{ var.value.x }}", "Ada {% if 1 %}", "{# Ada #}", "Dear {first_name}"])
@pytest.mark.parametrize("field", ["first_name", "last_name", "company", "title", "address_line1", "address_city"])
def test_no_placeholder_is_printed_on_a_parcel(text: str, field: str) -> None:
    address = {"line1": "1 Main St", "city": "London", "postal_code": "E1 6AN", "country": "GB"}
    recipient: dict[str, Any] = ADA | {"address": address}
    if field.startswith("address_"):
        address[field.removeprefix("address_")] = text
    else:
        recipient[field] = text
    with pytest.raises(ValidationError) as raised:
        GiftSend.model_validate({"gift_id": "g", "message": "Thank you", "recipient": recipient})
    [(name, reason)] = field_errors(raised.value)
    assert name == field
    assert reason == "holds a placeholder, like {{ x }} or {x}, that nothing fills in"


def test_a_single_gift_is_refused_with_a_placeholder_on_its_card() -> None:
    with pytest.raises(SendosoConfigError, match=r"placeholder \{first_name\}.*Nothing was sent"):
        make_send(GiftArguments.parse({"gift_id": "g", "message": "Thank you, {first_name}."}), ADA)


@pytest.mark.parametrize("nothing", ["None", "", " "])
def test_a_value_that_a_template_rendered_to_nothing_is_absent_at_every_depth(nothing: str) -> None:
    address = {"line1": nothing, "city": nothing}
    gift = GiftArguments.parse({"gift_id": "g", "message": "Hi", "metadata": {"crm": nothing, "id": "42"}})
    send = make_send(gift, ADA | {"company": nothing, "address": address})
    assert isinstance(send, GiftSend)
    assert (send.recipient.company, send.recipient.address, send.metadata) == (None, None, {"id": "42"})
    with pytest.raises(SendosoConfigError, match="first_name is missing"):
        make_send(gift, ADA | {"first_name": nothing})
