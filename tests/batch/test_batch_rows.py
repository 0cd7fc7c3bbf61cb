"""Rows become sends: each column sets its field, and an invalid row does not affect the others."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest

from airflow_provider_sendoso.batch.row import BatchRow
from airflow_provider_sendoso.batch.row_reader import BatchRowReader, Layout, flatten
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.models import Kind

COLUMNS = ("first_name", "last_name", "email")
CELLS = ("Ada", "Lovelace", "ada@example.com")
ARGUMENTS = {"gift_id": "gift-mug", "message": "Thank you"}


def reader(columns=COLUMNS, arguments=ARGUMENTS, **layout) -> BatchRowReader:
    return BatchRowReader(columns, Layout(arguments, **layout))


def read(columns=(), cells=(), arguments=ARGUMENTS, **layout) -> BatchRow:
    """Read Ada's row with more columns."""
    return reader([*COLUMNS, *columns], arguments, **layout).read(1, [*CELLS, *cells])


class TestColumns:
    @pytest.mark.parametrize("spell", [str.upper, str.title, str])
    def test_columns_match_fields_without_case(self, spell):
        row = reader([spell(name) for name in COLUMNS]).read(1, CELLS)
        assert row.send.recipient.first_name == "Ada"
        assert row.recipient_key == "ada@example.com"

    def test_every_field_is_read_from_its_column(self):
        cells = {
            "company": "Engines",
            "title": "Countess",
            "address_line1": "12 St James's Square",
            "address_line2": "Flat 1",
            "address_city": "London",
            "address_state": "London",
            "address_postal_code": "SW1Y 4JH",
            "address_country": "GB",
            "message": "From the row",
            "gift_id": "gift-egift-books",
            "variant_id": "v-1",
            "team_id": 7,
        }
        send = read(cells, cells.values(), arguments={}).send
        assert (send.gift_id, send.message, send.variant_id, send.team_id) == (
            "gift-egift-books",
            "From the row",
            "v-1",
            "7",
        )
        assert (send.recipient.company, send.recipient.title) == ("Engines", "Countess")
        assert send.recipient.address.model_dump() == {
            name.removeprefix("address_"): cell for name, cell in cells.items() if name.startswith("address_")
        }

    def test_arguments_that_are_set_beat_columns(self):
        arguments = {"gift_id": "gift-mug", "message": None, "variant_id": None, "team_id": "9"}
        columns = ("gift_id", "message", "variant_id", "team_id")
        send = read(columns, ("gift-row", "Row", "v-row", "1"), arguments=arguments).send
        assert (send.gift_id, send.message, send.variant_id, send.team_id) == ("gift-mug", "Row", "v-row", "9")

    def test_other_columns_are_left_alone(self):
        assert read(["shoe_size", "blob"], [42, b"\x00"]).send is not None

    def test_column_map_names_the_columns_of_fields(self):
        columns = ["GIVEN", "Family", "first_name", "mail"]
        layout = {"column_map": {"first_name": "given", "last_name": "FAMILY", "email": "mail"}}
        row = reader(columns, **layout).read(1, ["Ada", "Lovelace", "not this", "ada@example.com"])
        assert (row.send.recipient.first_name, row.send.recipient.last_name) == ("Ada", "Lovelace")
        assert row.recipient_key == "ada@example.com"

    @pytest.mark.parametrize(
        ("columns", "layout", "city"),
        [
            (["City"], {}, "first"),
            (["city", "ADDRESS_CITY"], {}, "second"),
            (["city", "town"], {"column_map": {"city": "town"}}, "second"),
            (["city", "town"], {"column_map": {"address_city": "town"}}, "second"),
        ],
    )
    def test_parts_of_an_address_need_no_prefix(self, columns, layout, city):
        arguments = ARGUMENTS | {"message": "How is {city}?"}
        send = read(columns, ["first", "second"], arguments, **layout).send
        assert (send.recipient.address.city, send.message) == (city, f"How is {city}?")

    def test_the_reader_tells_the_column_or_argument_of_each_field(self):
        ours = reader(["GIVEN", "last_name", "email", "gift_id"], column_map={"first_name": "given"})
        assert ours.sources == {
            "first_name": "GIVEN",
            "last_name": "last_name",
            "email": "email",
            "gift_id": "argument",
            "message": "argument",
        }

    @pytest.mark.parametrize(
        ("columns", "layout", "unused"),
        [
            ((), {}, []),
            (("tier", "gift_id"), {}, ["'tier'", "'gift_id'"]),
            (("Variant ID",), {}, ["'Variant ID' (variant_id? then name it in column_map)"]),
            (("Variant ID",), {"column_map": {"variant_id": "Variant ID"}}, []),
            (("variant_id", "Variant ID"), {}, ["'Variant ID'"]),
            (("Postal Code",), {}, ["'Postal Code' (address_postal_code? then name it in column_map)"]),
            (("Gift ID",), {}, ["'Gift ID'"]),
            (("id", "plan", "Metadata_team"), {"row_ref": "id", "recipient_key": "plan"}, []),
            (("touch_id", "mobile_no"), {}, ["'touch_id'", "'mobile_no'"]),
            (("first name",), {"kind": Kind.LINK}, ["'first_name'", "'last_name'", "'first name'"]),
        ],
    )
    def test_the_reader_tells_the_columns_that_nothing_reads(self, columns, layout, unused):
        arguments = {"touch_id": 1} if "kind" in layout else ARGUMENTS
        assert reader([*COLUMNS, *columns], arguments, **layout).unused == unused

    def test_a_column_that_only_the_message_names_is_read(self):
        assert reader([*COLUMNS, "plan"], ARGUMENTS | {"message": "Thank you for {plan}"}).unused == []


class TestWrongColumns:
    """Wrong columns are one error, before any row is read and before anything is sent."""

    @pytest.mark.parametrize(
        ("columns", "arguments", "layout", "words"),
        [
            (
                ("first_name", "email"),
                ARGUMENTS,
                {},
                r"No column for last_name\. Columns.*: first_name, email",
            ),
            (COLUMNS, {}, {}, "No column for message, gift_id"),
            ((), ARGUMENTS, {}, "Columns of the result: none"),
            (COLUMNS, ARGUMENTS, {"column_map": {"firstname": "email"}}, "fields that no send has: firstname"),
            (COLUMNS, ARGUMENTS, {"column_map": {"title": "job"}}, r"column_map\['title'\] names the column 'job'"),
            (COLUMNS, ARGUMENTS, {"recipient_key": "crm_id"}, "recipient_key names the column 'crm_id'"),
            (COLUMNS, ARGUMENTS, {"row_ref": "crm_id"}, "row_ref names the column 'crm_id'"),
            ((*COLUMNS, "EMAIL"), ARGUMENTS, {}, "two columns 'EMAIL'"),
            (("email",), {"message": "m"}, {}, "No column for first_name, last_name, gift_id"),
            (("name",), {"touch_id": "5"}, {}, "No column for email"),
            (("gift_id", "touch_id"), {}, {}, "No column for email"),
            (COLUMNS, ARGUMENTS, {"metadata": {"airflow_key": "x"}}, "may not hold 'airflow_key'"),
        ],
    )
    def test_missing_unknown_and_doubled_columns_are_named(self, columns, arguments, layout, words):
        with pytest.raises(SendosoConfigError, match=words):
            reader(columns, arguments, **layout)


class TestMessage:
    def test_placeholders_of_a_message_are_filled_in_from_columns(self):
        arguments = ARGUMENTS | {"message": "Dear {first_name} {LAST_NAME}, {n} years with {Company}!"}
        send = read(["n", "company"], [3.0, " Engines "], arguments).send
        assert send.message == "Dear Ada Lovelace, 3 years with Engines!"

    @pytest.mark.parametrize(
        ("message", "text"),
        [
            ("100 %", "100 %"),
            ("{{braces}}", "{braces}"),
            ("{{{first_name}}}", "{Ada}"),
            ("{first_name}{first_name}", "AdaAda"),
            ("$first_name %(first_name)s", "$first_name %(first_name)s"),
        ],
    )
    def test_doubled_braces_are_braces_and_other_signs_stay(self, message, text):
        assert read(arguments=ARGUMENTS | {"message": message}).send.message == text

    def test_a_placeholder_of_a_field_means_its_mapped_column(self):
        columns = ["given", "first_name", "last_name", "email"]
        ours = reader(columns, ARGUMENTS | {"message": "Hi {first_name}"}, column_map={"first_name": "given"})
        assert ours.read(1, ["Ada", "not this", "Lovelace", "ada@example.com"]).send.message == "Hi Ada"

    def test_braces_in_a_value_are_not_filled_in(self):
        row = read(["nick"], ["{email} {nick} {{"], ARGUMENTS | {"message": "Hi {nick}"})
        assert row.send.message == "Hi {email} {nick} {{"

    @pytest.mark.parametrize("message", ["Hi {first_name}", "Hi {{ first_name }}", "{% if x %}Hi"])
    def test_a_row_whose_message_column_holds_a_placeholder_is_invalid(self, message):
        row = read(["message"], [message], {"gift_id": "g"})
        assert row.send is None
        assert "placeholder" in row.problem

    @pytest.mark.parametrize("message", ["Hi :-} {", "100 % {} sure", "{1} is not {a b}"])
    def test_other_braces_in_a_message_column_stay(self, message):
        assert read(["message"], [message], {"gift_id": "g"}).send.message == message

    @pytest.mark.parametrize("empty", [None, "", "  ", math.nan])
    def test_an_empty_column_named_in_the_message_makes_the_row_invalid(self, empty):
        row = read(["nick"], [empty], ARGUMENTS | {"message": "Hi {nick}"})
        assert (row.send, row.problem) == (None, "nick, named in the message, is missing")

    @pytest.mark.parametrize(
        ("message", "words"),
        [
            ("{", "unbalanced brace"),
            ("Hi }", "unbalanced brace"),
            ("Hi {first_name", "unbalanced brace"),
            ("{}", "only {column} is filled in"),
            ("{0}", "only {column} is filled in"),
            ("{first_name.__class__}", "only {column} is filled in"),
            ("{first_name[0]}", "only {column} is filled in"),
            ("{first_name!r}", "only {column} is filled in"),
            ("{first_name:>10}", "only {column} is filled in"),
            ("{nick}", "message names the column 'nick'"),
        ],
    )
    def test_a_malformed_placeholder_is_refused(self, message, words):
        with pytest.raises(SendosoConfigError, match=words):
            reader(arguments=ARGUMENTS | {"message": message})


class TestMetadata:
    def test_metadata_of_columns_and_of_the_argument_are_merged_and_the_argument_wins(self):
        row = read(
            ["metadata_contact_id", "METADATA_SEGMENT", "metadata_Mixed", "metadata_"],
            [42, "gold", "x", "no name"],
            metadata={"segment": "argument wins", "campaign": "q4", "none": None},
        )
        assert row.send.metadata == {
            "contact_id": 42,
            "segment": "argument wins",
            "Mixed": "x",
            "campaign": "q4",
        }

    @pytest.mark.parametrize(
        ("cell", "kept"),
        [
            (42, 42),
            (True, True),
            ("x", "x"),
            (" Jose\u0301 ", "Jos\u00e9"),
            (1.5, "1.5"),
            (42.0, "42"),
            (Decimal("42"), "42"),
        ],
    )
    def test_metadata_keeps_text_whole_numbers_and_truth_values(self, cell, kept):
        metadata = read(["metadata_key"], [cell]).send.metadata
        assert metadata == {"key": kept}
        assert type(metadata["key"]) is type(kept)

    @pytest.mark.parametrize("empty", [None, "", " ", math.nan])
    def test_empty_metadata_is_left_out(self, empty):
        assert read(["metadata_key"], [empty]).send.metadata == {}


class TestCells:
    @pytest.mark.parametrize(
        ("name", "kept"),
        [
            ("O'Brien", "O'Brien"),
            ('Jim "Jimmy"', 'Jim "Jimmy"'),
            ("Robert'); DROP TABLE rows;--", "Robert'); DROP TABLE rows;--"),
            (" Jose\u0301 ", "Jos\u00e9"),
            ("李小龍", "李小龍"),
            ("😀", "😀"),
            (7.0, "7"),
        ],
    )
    def test_names_of_every_alphabet_are_kept(self, name, kept):
        assert reader().read(1, ("Ada", name, "ada@example.com")).send.recipient.last_name == kept

    @pytest.mark.parametrize("empty", [None, "", " \t", math.nan])
    def test_null_and_blank_are_absent(self, empty):
        row = reader((*COLUMNS, "company")).read(1, (empty, "Lovelace", "ada@example.com", empty))
        assert (row.send, row.problem) == (None, "first_name is missing")

    def test_an_address_of_empty_cells_is_no_address(self):
        assert read(["address_line1", "address_country"], [" ", None]).send.recipient.address is None

    def test_every_problem_of_a_row_is_named_without_its_values(self):
        row = reader((*COLUMNS, "address_city")).read(7, (None, "Lovelace", "nobody", "London"))
        assert row == BatchRow(7, None, None, None, "first_name is missing; email is not an e-mail address")

    @pytest.mark.parametrize("cell", [b"s3cret", ["s3cret"], "s3cret\ud800", Decimal("sNaN")])
    @pytest.mark.parametrize("position", [0, 2, 3, 4])
    def test_a_cell_that_is_not_text_makes_the_row_invalid_without_being_shown(self, position, cell):
        cells = [*CELLS, "London", "x"]
        cells[position] = cell
        row = reader((*COLUMNS, "address_city", "metadata_key")).read(1, cells)
        problem = row.problem
        if position == 3:  # an eGift needs no city
            assert (row.send.recipient.address, row.left_out) == (None, True)
            problem = row.if_mailed
        else:
            assert row.send is None
        assert "not text" in problem
        assert "s3cret" not in problem


class TestRecipientKey:
    @pytest.mark.parametrize("email", ["ada@example.com", "ADA@Example.com", " Ada@example.com "])
    def test_emails_compare_without_case_and_are_sent_as_they_are(self, email):
        row = reader().read(1, ("Ada", "Lovelace", email))
        assert row.recipient_key == "ada@example.com"
        assert row.send.recipient.email == email.strip()

    @pytest.mark.parametrize("crm_id", [42, 42.0, "42", " 42", Decimal("42"), Decimal("42.0")])
    def test_a_number_is_the_same_recipient_key_in_every_type(self, crm_id):
        assert read(["crm_id"], [crm_id], recipient_key="CRM_ID").recipient_key == "42"

    def test_other_keys_keep_their_case(self):
        assert read(["crm_id"], ["Ab-1"], recipient_key="crm_id").recipient_key == "Ab-1"

    def test_the_recipient_key_email_means_the_mapped_column(self):
        row = reader(
            ["first_name", "last_name", "mail", "email"], column_map={"email": "mail"}, recipient_key="email"
        ).read(1, ["Ada", "Lovelace", "ada@example.com", "other@example.com"])
        assert row.recipient_key == "ada@example.com"

    @pytest.mark.parametrize("empty", [None, "", " ", math.nan])
    def test_a_missing_recipient_key_makes_the_row_invalid(self, empty):
        row = read(["crm_id"], [empty], recipient_key="crm_id")
        assert (row.send, row.problem) == (None, "the recipient key (crm_id) is missing")

    def test_a_missing_email_is_named_as_the_recipient_key(self):
        assert reader().read(1, ("Ada", "Lovelace", None)).problem == "the recipient key (email) is missing"

    @pytest.mark.parametrize("email", ["\ufeffada@example.com", "ada@example.com\u200b", "ada@example.com\x00"])
    def test_invisible_characters_around_an_email_make_no_other_recipient(self, email):
        row = reader().read(1, ("Ada", "Lovelace", email))
        assert (row.recipient_key, row.send.recipient.email) == ("ada@example.com", "ada@example.com")

    @pytest.mark.parametrize("email", ["a\u200bda@example.com", "ada@exam\u00adple.com", "ada\x00@example.com"])
    def test_invisible_characters_inside_an_email_make_the_row_invalid(self, email):
        row = reader().read(1, ("Ada", "Lovelace", email))
        assert row.send is None
        assert row.problem.startswith("email is not an e-mail address alone: it has characters that cannot be seen")

    def test_the_recipient_key_is_in_no_repr(self):
        assert "ada" not in repr(reader().read(1, CELLS)).lower()


class TestRowRef:
    @pytest.mark.parametrize(("cell", "ref"), [("C-42", "C-42"), (42.0, "42"), (None, None)])
    def test_the_row_ref_is_read_as_text(self, cell, ref):
        assert read(["customer"], [cell], row_ref="CUSTOMER").row_ref == ref

    def test_an_invalid_row_has_its_row_ref(self):
        row = reader((*COLUMNS, "customer"), row_ref="customer").read(1, (None, None, None, "C-42"))
        assert (row.send, row.row_ref) == (None, "C-42")


class TestFlatten:
    def test_nested_address_and_metadata_become_columns(self):
        columns, rows = flatten(
            [
                {"email": "a@x.com", "address": {"line1": "1 High St", "country": "GB"}, "metadata": {"id": 1}},
                {"email": "b@x.com", "company": "B", "address_line1": "2 High St"},
            ]
        )
        assert columns == ["email", "address_line1", "address_country", "metadata_id", "company"]
        assert rows == [["a@x.com", "1 High St", "GB", 1, None], ["b@x.com", "2 High St", None, None, "B"]]

    def test_a_flattened_recipient_becomes_a_gift_send(self):
        columns, rows = flatten(
            [
                {
                    "first_name": "Ada",
                    "last_name": "Lovelace",
                    "email": "ada@example.com",
                    "address": {"line1": "1 High St", "postal_code": "SW1Y 4JH"},
                    "metadata": {"contactId": 42},
                }
            ]
        )
        send = reader(columns).read(1, rows[0]).send
        assert (send.recipient.address.line1, send.recipient.address.postal_code) == ("1 High St", "SW1Y 4JH")
        assert send.metadata == {"contactId": 42}

    def test_an_address_of_none_is_no_address(self):
        columns, rows = flatten([dict(zip(COLUMNS, CELLS, strict=True)) | {"address": None, "metadata": None}])
        assert reader(columns).read(1, rows[0]).send.recipient.address is None

    def test_an_empty_list_has_no_columns_and_no_rows(self):
        assert flatten([]) == ([], [])

    @pytest.mark.parametrize("wrong", ["ada@example.com", ("email", "x"), None])
    def test_a_recipient_that_is_not_a_dict_is_refused_by_its_number(self, wrong):
        with pytest.raises(SendosoConfigError, match="number 2 is a") as caught:
            flatten([{"email": "a@x.com"}, wrong])
        assert "example.com" not in str(caught.value)

    def test_a_dict_instead_of_a_list_is_refused(self):
        with pytest.raises(SendosoConfigError, match="must be a list of dicts"):
            flatten({"email": "ada@example.com"})


class TestHeaders:
    """A column's name is cleaned as a cell is: with an invisible blank, the column would be ignored."""

    @pytest.mark.parametrize(
        "name", ["variant_id ", "\ufeffvariant_id", "\u00a0variant_id", " Variant_ID\n", "variant_id\u200b"]
    )
    def test_column_names_are_cleaned_like_cells(self, name):
        assert read([name], ["v-1"]).send.variant_id == "v-1"

    def test_names_of_metadata_columns_are_cleaned(self):
        assert read(["metadata_crm_id "], ["7"]).send.metadata["crm_id"] == "7"

    def test_two_column_names_that_become_one_are_refused(self):
        with pytest.raises(SendosoConfigError, match="'company ' and 'Company'"):
            reader((*COLUMNS, "company ", "Company"))

    def test_keys_of_a_list_of_dicts_are_cleaned(self):
        columns, rows = flatten([{"first_name ": "Ada", "Address ": {" city": "London"}, "metadata": {"id ": 7}}])
        fields = reader((*columns, *COLUMNS[1:])).read(1, [*rows[0], *CELLS[1:]]).send
        assert (fields.recipient.first_name, fields.recipient.address.city) == ("Ada", "London")
        assert fields.metadata == {"id": 7}


class TestDecoratedKeys:
    @pytest.mark.parametrize(
        "email", ['"ada@example.com"', "mailto:ada@example.com", "ada@example.com)", "<ada@example.com>"]
    )
    def test_a_decorated_address_makes_the_row_invalid(self, email):
        for columns, key in (([], "email"), (["work_email"], "work_email")):
            cells = ("Ada", "Lovelace", email if key == "email" else "ada@example.com", *([email] if columns else []))
            row = reader((*COLUMNS, *columns), recipient_key=key).read(1, cells)
            assert (row.send, row.recipient_key) == (None, None)
            assert f"{key} is not an e-mail address alone" in row.problem
            assert email not in row.problem

    @pytest.mark.parametrize("key", ["C\u200b-1", "C-1\u3164", "C\ufe0f-1", "C\u00a0-1", "C\n-1"])
    def test_a_key_that_looks_like_another_is_no_other_recipient(self, key):
        row = reader((*COLUMNS, "crm_id"), recipient_key="crm_id").read(1, (*CELLS[: len(COLUMNS)], key))
        assert (row.send, row.recipient_key) == (None, None)
        assert row.problem.startswith("the recipient key (crm_id) holds a ")

    def test_a_cell_that_is_not_text_is_named_by_its_column(self):
        row = read(["metadata_tags"], [["s3cret"]])
        assert row.problem == "the column 'metadata_tags' holds a list, which is not text"
