"""The checks of a row beyond the rules of its single fields."""

from __future__ import annotations

import itertools
import sys

import pytest

from airflow_provider_sendoso import near_names
from airflow_provider_sendoso.batch.catalogue import Catalogue
from airflow_provider_sendoso.batch.row_reader import BatchRowReader, Layout
from airflow_provider_sendoso.batch.spool import BatchSpool
from airflow_provider_sendoso.batch.validation import check_gifts, strict_email_check
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoConnectionError
from airflow_provider_sendoso.models import Gift, RowOutcome

COLUMNS = ("first_name", "last_name", "email", "gift_id", "address_line1", "city", "state", "postal_code", "country")
HOME = ("12 St James's Square", "London", None, "SW1Y 4JH", "gb")
NOWHERE = (None,) * 5
GIFTS = [
    Gift.model_validate({"id": "mug", "category": "swag"}),
    Gift.model_validate({"id": "coffee", "category": "egift"}),
    Gift.model_validate({"id": "mystery"}),
]
NO_ADDRESS = "there is no address, and the gift goes by post"


def spooled(*rows, own_gift=None):
    reader = BatchRowReader(COLUMNS, Layout({"message": "Thanks", "gift_id": own_gift}))
    spool = BatchSpool()
    spool.fill(reader.read(number, row) for number, row in enumerate(rows, 1))
    return spool


NUMBERS = itertools.count()


def row(gift_id, address=NOWHERE, email=None):
    return ("Ada", "Lovelace", email or f"ada{next(NUMBERS)}@example.com", gift_id, *address)


def outcomes(spool):
    found = {}
    for outcome in RowOutcome:
        for spooled_row in spool.rows(outcome, 100):
            found[spooled_row.number] = (outcome.value, spooled_row.reason)
    return [found[number] for number in sorted(found)]


class Counted:
    def __init__(self, gifts=GIFTS):
        self.read, self._gifts = 0, gifts

    def __call__(self):
        for gift in self._gifts:
            self.read += 1
            yield gift


class TestGiftProblem:
    @pytest.mark.parametrize(
        ("address", "problem"),
        [
            (HOME, None),
            (("1 Road", "Town", None, None, "GB"), "address_postal_code is missing, and the gift goes by post"),
            (
                ("1 Road", None, None, None, "US"),
                "address_city, address_state, address_postal_code are missing, and the gift goes by post",
            ),
        ],
    )
    def test_the_missing_fields_of_an_address_are_named(self, address, problem):
        spool = spooled(row("mug", address))
        check_gifts(spool, Catalogue(lambda: GIFTS), own_gift=False)
        assert outcomes(spool) == [("invalid", problem) if problem else ("not_reached", None)]


class TestCheckGifts:
    def test_each_row_is_checked_against_its_own_gift(self):
        spool = spooled(row("mug"), row("mug", HOME), row("coffee"), row("mystery"))
        check_gifts(spool, Catalogue(lambda: GIFTS), own_gift=False)
        assert outcomes(spool) == [("invalid", NO_ADDRESS), *[("not_reached", None)] * 3]
        assert [job.number for job in spool.jobs()] == [2, 3, 4]

    def test_the_catalogue_is_not_read_where_every_address_is_complete(self):
        load = Counted()
        check_gifts(spooled(row("mug", HOME), row("no-such-gift", HOME)), Catalogue(load), own_gift=False)
        check_gifts(spooled(), Catalogue(load), own_gift=False)
        assert load.read == 0

    def test_the_catalogue_is_read_no_further_than_the_gift(self):
        load = Counted()
        check_gifts(spooled(row("mug"), row("mug")), Catalogue(load), own_gift=False)
        assert load.read == 1

    def test_a_gift_missing_from_the_whole_catalogue_makes_its_rows_invalid(self):
        spool = spooled(row("no-such-gift"), row("nor-this", HOME), row("mug", HOME))
        check_gifts(spool, Catalogue(lambda: GIFTS), own_gift=False)
        unknown = ("invalid", "gift_id is not in the catalogue")
        assert outcomes(spool) == [unknown, unknown, ("not_reached", None)]

    def test_an_unknown_gift_of_the_batch_makes_no_row_invalid(self):
        spool = spooled(row("mug"), own_gift="no-such-gift")
        problem = check_gifts(spool, Catalogue(lambda: GIFTS), own_gift=True)
        assert problem == "gift_id 'no-such-gift' is not in the catalogue"
        assert outcomes(spool) == [("not_reached", None)]

    @pytest.mark.parametrize("wrong", ["mugg", "MUG", "Mugs", "Enamel Mugs", "enamel mug"])
    def test_a_gift_that_is_similar_by_id_or_by_name_is_offered(self, wrong):
        gifts = [*GIFTS, Gift.model_validate({"id": "enamel", "name": "Enamel mug"})]
        meant = "enamel" if "namel" in wrong else "mug"
        spool = spooled(row("mug"), own_gift=wrong)
        assert f"(did you mean '{meant}'" in str(check_gifts(spool, Catalogue(lambda: gifts), own_gift=True))
        spool = spooled(row(wrong))
        check_gifts(spool, Catalogue(lambda: gifts), own_gift=False)
        assert f"gift_id is not in the catalogue (did you mean '{meant}'" in str(outcomes(spool)[0][1])

    def test_many_gifts_that_are_unknown_take_no_minutes(self, monkeypatch):
        asked = []
        monkeypatch.setattr(near_names, "get_close_matches", lambda *given, **_: asked.append(given) or [])
        spool = spooled(*(row(f"x-{number}") for number in range(300)))
        check_gifts(spool, Catalogue(lambda: GIFTS), own_gift=False)
        assert spool.counts() == {RowOutcome.INVALID: 300}
        assert len([known for _, known in asked if known]) == 50

    def test_all_gifts_are_looked_up_where_that_is_asked_for(self):
        spool = spooled(row("no-such-gift", HOME), row("mug", HOME))
        check_gifts(spool, Catalogue(lambda: GIFTS), own_gift=False, all_gifts=True)
        assert outcomes(spool) == [("invalid", "gift_id is not in the catalogue"), ("not_reached", None)]

    def test_an_empty_catalogue_makes_no_row_invalid(self):
        spool = spooled(row("mug"))
        check_gifts(spool, Catalogue(list), own_gift=False)
        assert outcomes(spool) == [("not_reached", None)]

    def test_an_error_of_the_catalogue_is_raised_and_makes_no_row_invalid(self):
        def gone():
            raise SendosoConnectionError("gone")

        spool = spooled(row("mug"))
        with pytest.raises(SendosoConnectionError):
            check_gifts(spool, Catalogue(gone), own_gift=False)
        assert outcomes(spool) == [("not_reached", None)]

    def test_the_next_row_of_a_recipient_takes_the_place_of_a_rejected_one(self):
        email = "ada@example.com"
        rows = [row("mug", NOWHERE, email), row("mug", HOME, email), row("mug", HOME, "ADA@example.com")]
        spool = spooled(*rows)
        check_gifts(spool, Catalogue(lambda: GIFTS), own_gift=False)
        assert [outcome for outcome, _ in outcomes(spool)] == ["invalid", "not_reached", "duplicate"]

    def test_more_gifts_than_one_page_are_checked(self):
        spool = spooled(*(row(f"gift-{number}") for number in range(1200)))
        gifts = [Gift.model_validate({"id": f"gift-{number}", "category": "swag"}) for number in range(1199)]
        check_gifts(spool, Catalogue(lambda: gifts), own_gift=False)
        unaddressed, (unknown, rows) = spool.reasons(RowOutcome.INVALID)
        assert unaddressed == (NO_ADDRESS, 1199)
        assert (unknown.split(" (")[0], rows) == ("gift_id is not in the catalogue", 1)


class TestStrictEmail:
    @pytest.mark.parametrize("email", ["ada@example.com", "zoë@example.com", "a+b@example.co.uk"])
    def test_strict_email_accepts_valid_addresses(self, email):
        assert strict_email_check()(email) is None

    @pytest.mark.parametrize("email", ["a..b@example.com", "ada@-example.com", "ada@example.test", "ada.@example.com"])
    def test_strict_email_refuses_an_address_without_quoting_it(self, email):
        spool = spooled(row("mug", HOME, email))
        assert outcomes(spool) == [("not_reached", None)]
        reader = BatchRowReader(COLUMNS, Layout({"message": "Thanks"}, strict_email=True))
        read = reader.read(1, row("mug", HOME, email))
        assert (read.send, read.problem) == (None, "email is not an e-mail address (strict_email)")

    def test_strict_email_without_its_package_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "email_validator", None)
        with pytest.raises(SendosoConfigError, match=r"pip install 'airflow-provider-sendoso\[email\]'"):
            BatchRowReader(COLUMNS, Layout({"message": "Thanks"}, strict_email=True))
        BatchRowReader(COLUMNS, Layout({"message": "Thanks"}))


class TestOddRows:
    def test_a_row_of_nulls_is_invalid(self):
        spool = spooled((None,) * len(COLUMNS))
        assert outcomes(spool) == [("invalid", "the recipient key (email) is missing")]

    def test_a_cell_of_ten_megabytes_makes_the_row_invalid(self):
        spool = spooled(("x" * 10_000_000, "Lovelace", "ada@example.com", "mug", *HOME))
        assert outcomes(spool) == [("invalid", "first_name is longer than 255 characters")]

    @pytest.mark.parametrize("country", ["United Kingdom", "UK", b"GB", ["GB"]])
    def test_a_country_that_is_not_a_code_makes_the_row_invalid(self, country):
        spool = spooled(row("mug", (*HOME[:4], country)))
        check_gifts(spool, Catalogue(lambda: GIFTS), own_gift=False)
        ((outcome, reason),) = outcomes(spool)
        assert outcome == "invalid"
        assert reason.startswith("address_country is not")


class TestWhatOnlyAParcelNeeds:
    WRONG = (*HOME[:4], "United Kingdom")
    PROBLEM = "address_country is not a two-letter code of ISO 3166, like GB or US"

    @pytest.mark.parametrize("gift", ["mug", "mystery"])
    def test_it_makes_a_row_invalid_whose_gift_goes_by_post_or_may(self, gift):
        spool = spooled(row(gift, self.WRONG), row(gift, HOME))
        check_gifts(spool, Catalogue(lambda: GIFTS), own_gift=False)
        assert outcomes(spool) == [("invalid", self.PROBLEM), ("not_reached", None)]

    def test_it_is_left_out_of_an_egift(self):
        spool = spooled(row("coffee", self.WRONG))
        check_gifts(spool, Catalogue(lambda: GIFTS), own_gift=False)
        assert outcomes(spool) == [("not_reached", None)]
        assert spool.left_out() == [(self.PROBLEM, 1)]
        ((job),) = spool.jobs()
        assert job.send.recipient.address is None

    @pytest.mark.parametrize("gifts", [[], [GIFTS[0]]], ids=["an empty catalogue", "without it"])
    def test_a_gift_that_the_catalogue_lacks_may_go_by_post(self, gifts):
        spool = spooled(row("coffee", self.WRONG), own_gift="coffee")
        check_gifts(spool, Catalogue(lambda: gifts), own_gift=True)
        assert outcomes(spool) == [("invalid", self.PROBLEM)]

    def test_a_catalogue_that_cannot_be_read_leaves_open_how_a_gift_goes(self):
        def gone():
            raise SendosoConnectionError("gone")

        email = "ada@example.com"
        spool = spooled(row("coffee", self.WRONG, email), row("coffee", HOME, email))
        with pytest.raises(SendosoConnectionError):
            check_gifts(spool, Catalogue(gone), own_gift=False)
        assert outcomes(spool) == [("invalid", self.PROBLEM), ("not_reached", None)]

    @pytest.mark.parametrize("name", ["Jose\u0301", "Jos\u00e9", "عائشة", "😀", "O'Brien", "Ö" * 255])
    def test_unusual_names_are_valid(self, name):
        assert outcomes(spooled((name, "Lovelace", "ada@example.com", "mug", *HOME))) == [("not_reached", None)]
