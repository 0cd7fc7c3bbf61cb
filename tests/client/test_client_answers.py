"""Reading answers: the send, the seconds to wait, and errors in the API's words without personal data."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_sendoso.client.answers import (
    Answer,
    Exchange,
    Phase,
    answer_or_raise,
    api_error,
    api_words,
    read_send,
)
from airflow_provider_sendoso.client.endpoints import Request, egift_links_request, gift_send_request
from airflow_provider_sendoso.exceptions import (
    SendosoApiError,
    SendosoAuthError,
    SendosoBadRequestError,
    SendosoConnectionError,
    SendosoNotFoundError,
    SendosoRateLimitError,
    SendosoServerError,
    SendosoUnprocessableError,
)
from airflow_provider_sendoso.models import GiftSend, SendStatus

GET = Request("GET", "/api/v3/gifts")
PROXY_PAGE = b"<!DOCTYPE html>\n<HTML><body>ada@example.com was here</body></HTML>"


def answer(status: int = 200, body: object = b"", **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw)


def post(**send: object) -> Request:
    return Request("POST", "/api/v3/sends", json={"send": send})


class TestReadSend:
    @pytest.mark.parametrize(
        "body",
        [
            {"id": "s-1", "status": "pending"},
            {"send": {"id": "s-1", "status": "pending"}},
            {"success": True, "send": {"id": "s-1", "status": "pending"}},
            {"success": True, "id": "s-1", "send": {"status": "pending"}},
            {"id": "another", "status": "failed", "send": {"id": "s-1", "status": "pending"}},
            {"id": " s-1 ", "status": "Order Received", "send": None},
        ],
    )
    def test_id_and_status_are_read_at_the_top_or_inside_send(self, body):
        send = read_send(body)
        assert (send.id, send.status) == ("s-1", SendStatus.PENDING)

    @pytest.mark.parametrize(("given_id", "read"), [("abc", "abc"), (42, "42"), ("0042", "0042"), (42.0, "42")])
    def test_an_id_is_read_as_text(self, given_id, read):
        assert read_send({"id": given_id}).id == read

    @pytest.mark.parametrize(
        ("fields", "status", "word"),
        [
            ({}, None, None),
            ({"status": None}, None, None),
            ({"status": "Amazon_Shipped"}, SendStatus.SHIPPED, "Amazon_Shipped"),
            ({"status": "teleporting"}, SendStatus.PROCESSING, "teleporting"),
            ({"status": 7}, SendStatus.PROCESSING, None),
        ],
    )
    def test_a_missing_status_is_none_and_an_unknown_word_is_processing(self, fields, status, word):
        send = read_send({"send": {"id": "s-1", **fields}})
        assert (send.status, send.status_word) == (status, word)

    def test_other_fields_are_kept(self):
        assert read_send({"send": {"id": 1, "tracking_code": "T1"}}).tracking_code == "T1"

    @pytest.mark.parametrize(
        "body",
        [
            None,
            "text",
            7,
            True,
            [],
            [{"id": "s-1"}],
            {},
            {"success": True},
            {"id": None},
            {"id": ""},
            {"id": "  "},
            {"id": float("nan")},
            {"id": True},
            {"id": [1]},
            {"id": {"value": 1}},
            {"id": "\ud800"},
            {"send": {}},
            {"send": []},
            {"send": {"status": "pending"}},
            {"success": False, "id": "s-1"},
            {"success": False, "send": {"id": "s-1"}},
        ],
    )
    def test_a_body_without_a_usable_id_is_no_send(self, body):
        assert read_send(body) is None


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("0", 0), ("7", 7), (" 7 ", 7), ("1.5", 1.5), ("86400", 86400), ("86401", 86400), ("9" * 400, 86400)],
    )
    def test_retry_after_in_seconds_is_read_and_capped_at_a_day(self, text, seconds):
        assert answer(429, retry_after=text).retry_after == seconds

    def test_a_retry_after_date_counts_from_the_date_of_the_answer(self):
        ours = answer(429, retry_after="Wed, 21 Oct 2026 07:28:30 GMT", date="Wed, 21 Oct 2026 07:28:00 GMT")
        assert ours.retry_after == 30

    def test_a_retry_after_date_counts_from_now_where_the_answer_has_no_date(self):
        later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
        assert 55 < answer(429, retry_after=later).retry_after <= 60

    def test_a_retry_after_date_without_a_zone_is_utc(self):
        ours = answer(429, retry_after="Wed, 21 Oct 2026 07:28:30 -0000", date="Wed, 21 Oct 2026 07:28:00 GMT")
        assert ours.retry_after == 30

    def test_a_retry_after_date_in_the_past_is_zero_seconds(self):
        assert answer(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT").retry_after == 0

    def test_an_answer_without_retry_after_has_none(self):
        assert answer(429).retry_after is None

    def test_a_retry_after_date_far_away_is_capped_at_a_day(self):
        assert answer(429, retry_after="Fri, 31 Dec 9999 23:59:59 -2359").retry_after == 86400

    @pytest.mark.parametrize(
        "text",
        [
            *("", "soon", "-5", "1e3", "5, 6", "5 s", "Wed", "Wed, 21 Oct", "Wed, 99 Oct 2026 07:28:00 GMT", "NaN"),
            "Wed, 21 Oct 99999999999999999999 07:28:00 GMT",
            "Wed, 21 Oct 2026 99999999999999999999:28:00 GMT",
            "Wed, 21 Oct 2026 07:28:00 +99999999999999999999",
        ],
    )
    def test_an_unreadable_retry_after_is_none(self, text):
        assert answer(429, retry_after=text).retry_after is None

    @pytest.mark.parametrize("date", ["rubbish", "Wed, 21 Oct 99999999999999999999 07:28:00 GMT"])
    def test_an_unreadable_date_header_is_ignored(self, date):
        later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
        assert 55 < answer(429, retry_after=later, date=date).retry_after <= 60


class TestWhichError:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (302, SendosoServerError),
            (400, SendosoBadRequestError),
            (401, SendosoAuthError),
            (402, SendosoApiError),
            (403, SendosoAuthError),
            (404, SendosoNotFoundError),
            (408, SendosoApiError),
            (409, SendosoApiError),
            (410, SendosoApiError),
            (422, SendosoUnprocessableError),
            (429, SendosoRateLimitError),
            (500, SendosoServerError),
            (502, SendosoServerError),
            (503, SendosoServerError),
            (504, SendosoServerError),
        ],
    )
    def test_the_status_decides_the_class_of_the_error(self, status, kind):
        error = api_error(GET, answer(status, {"message": "No."}, x_request_id="r-9"))
        assert type(error) is kind
        assert (error.status_code, error.request_id) == (status, "r-9")
        assert str(error) == f'GET /api/v3/gifts answered {status}: "No." (request id r-9)'

    def test_an_error_without_a_request_id_does_not_mention_one(self):
        assert str(api_error(GET, answer(404, {"message": "No."}))) == 'GET /api/v3/gifts answered 404: "No."'

    @pytest.mark.parametrize(("headers", "seconds"), [({"retry_after": "7"}, 7), ({}, None)])
    def test_a_rate_limit_error_has_the_seconds_to_wait(self, headers, seconds):
        assert api_error(GET, answer(429, {}, **headers)).retry_after == seconds


class TestAnswerOrRaise:
    def test_an_answer_with_a_json_body_is_returned(self):
        good = answer(200, {"gifts": []})
        assert answer_or_raise(GET, Exchange(Phase.ANSWERED, good)) is good

    @pytest.mark.parametrize("phase", [Phase.NOT_CONNECTED, Phase.LOST])
    def test_a_request_without_an_answer_is_a_connection_error(self, phase):
        with pytest.raises(SendosoConnectionError, match=r"GET /api/v3/gifts got no answer.*gaierror"):
            answer_or_raise(GET, Exchange(phase, error="gaierror"))

    @pytest.mark.parametrize("status", [301, 400, 404, 500])
    def test_an_error_status_raises_the_error_of_that_status(self, status):
        with pytest.raises(SendosoApiError) as caught:
            answer_or_raise(GET, Exchange(Phase.ANSWERED, answer(status, {"id": 1})))
        assert caught.value.status_code == status

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (PROXY_PAGE, "an HTML page, perhaps of a proxy"),
            (b"", "an empty body"),
            (b" \n", "an empty body"),
            (b'{"gifts": [', "a body that is not JSON"),
            (b"\xff\xfe\xfa", "a body that is not JSON"),
            (b"[" * 60_000, "a body that is not JSON"),
            (b"OK ada@example.com", "a body that is not JSON"),
        ],
    )
    def test_a_2xx_whose_body_is_not_json_is_a_server_error(self, body, words):
        with pytest.raises(SendosoServerError, match=f"GET /api/v3/gifts answered 200 with {words}") as caught:
            answer_or_raise(GET, Exchange(Phase.ANSWERED, answer(200, body)))
        assert "ada" not in str(caught.value)


class TestTheApisWords:
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({"message": "Gift not found"}, '"Gift not found"'),
            ({"success": False, "message": " spaced \n"}, '"spaced"'),
            ({"description": "The access token expired", "expired": True}, '"The access token expired"'),
            ({"error": "invalid_client", "error_description": "Who are you?"}, '"Who are you?"'),
            ({"error": "invalid_client"}, '"invalid_client"'),
            ({"message": "", "error": "next best"}, '"next best"'),
            ({"message": ["a", "list"]}, "no message"),
            ({}, "no message"),
            ([], "a body without a message"),
            ("text", "a body without a message"),
            (b"", "an empty body"),
            (b"not json", "a body that is not JSON"),
            (PROXY_PAGE, "an HTML page, perhaps of a proxy"),
        ],
    )
    def test_the_apis_words_are_found_in_every_known_field(self, body, words):
        assert api_words(GET, answer(400, body)) == words

    @pytest.mark.parametrize("message", ["blah " * 10_000, "x" * 50_000, "@" * 50_000, "a@" * 25_000, "&amp;" * 10_000])
    def test_long_words_are_cut_quickly(self, message):
        started = time.process_time()  # only this process's: others may be busy
        assert len(api_words(post(email="ada@example.com"), answer(400, {"message": message}))) < 400
        assert time.process_time() - started < 5

    def words(self, request: Request, message: str) -> str:
        return api_words(request, answer(422, {"message": message}))

    def test_every_personal_value_of_a_gift_send_is_replaced_by_its_field(self):
        send = GiftSend.model_validate(
            {
                "gift_id": "gift-mug",
                "message": "For the champion of Q4",
                "recipient": {
                    "first_name": "Ada",
                    "last_name": "Lovelace",
                    "email": "Ada.L@Example.com",
                    "company": "Analytical Engines",
                    "title": "Countess",
                    "address": {"line1": "12 St James's Square", "city": "London", "postal_code": "SW1Y 4JH"},
                },
                "metadata": {"contact_id": 4211, "segment": "nobility"},
            }
        )
        said = (
            "gift-mug for Ada Lovelace <ada.l@example.com> (COUNTESS, Analytical Engines), 12 St James's Square, "
            "London SW1Y 4JH: 'For the champion of Q4' of contact 4211, nobility"
        )
        assert self.words(gift_send_request(send), said) == (
            '"gift-mug for <first_name> <last_name> <<email>> (<title>, <company>), <line1>, '
            "<city> <postal_code>: '<message>' of contact <contact_id>, <segment>\""
        )

    def test_ids_of_the_catalogue_and_codes_are_not_replaced(self):
        request = post(gift_id="gift-mug", variant_id="mug-red", team_id="7", address={"country": "GB"})
        said = "gift-mug in mug-red is not for team 7 or GB"
        assert self.words(request, said) == f'"{said}"'

    @pytest.mark.parametrize(
        "value",
        [
            "O'Brien",
            "José",
            "Søren Ångström",
            "李小龍",
            "a.b*c+d?",
            "(x|y)[z]{2}$^",
            "back\\slash \\1 \\g<0>",
            'quo"ted',
            "two\nlines",
            "+44 20 7946 0000",
            "<script>",
        ],
    )
    def test_a_value_of_any_alphabet_and_punctuation_is_replaced(self, value):
        assert self.words(post(last_name=value), f"Name '{value}' is bad") == "\"Name '<last_name>' is bad\""

    def test_a_value_is_replaced_in_any_case(self):
        assert self.words(post(first_name="Zoë"), "ZOË zoë Zoë") == '"<first_name> <first_name> <first_name>"'

    def test_the_longer_of_two_overlapping_values_is_replaced(self):
        assert self.words(post(first_name="Ada", last_name="Ada King"), "Ada King is bad") == '"<last_name> is bad"'

    def test_a_value_is_not_replaced_inside_another_word(self):
        assert self.words(post(first_name="Al"), "All values for Al") == '"All values for <first_name>"'

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ("Lovelace", "MissLovelaceKing is bad"),
            ("ada@example.com", "emailada@example.com_is bad"),
            ("田中", "宛先田中太郎は無効"),
            ("李", "姓李無効"),
            ("Jos\u00e9 P\u00e9rez", "Jose\u0301 Pe\u0301rez is bad"),
            ("Jose\u0301 Pe\u0301rez", "Jos\u00e9 P\u00e9rez is bad"),
            ("O'Brien", "O&#39;Brien is bad"),
            ("O'Brien", "O&#x27;Brien is bad"),
            ('Al "Jim" & <Sons>', "Al &quot;Jim&quot; &amp; &lt;Sons&gt; is bad"),
            ("Zo\u00eb Quinn", "Zo&euml; Quinn is bad"),
        ],
    )
    def test_a_value_is_replaced_inside_words_and_in_other_encodings(self, value, said):
        quoted = self.words(post(last_name=value), said)
        assert "<last_name>" in quoted
        assert not any(part in quoted for part in ("Lovelace", "ada", "田中", "李", "rez", "Brien", "Jim", "Quinn"))

    @pytest.mark.parametrize("quotes", ["''", '""', "``", "‘’", "“”", "«»"])
    def test_a_quoted_part_of_a_value_is_replaced(self, quotes):
        request = post(message="Get well soon after the operation, Ada", address={"line1": "12 St James Square"})
        first, last = quotes
        said = f"{first}Operation{last} is not allowed in {first}message{last}; is {first}St James{last} a street?"
        wanted = f"{first}<message>{last} is not allowed in {first}message{last}; is {first}<line1>{last} a street?"
        assert self.words(request, said) == f'"{wanted}"'

    def test_a_value_under_a_metadata_key_with_a_backslash_is_replaced(self):
        assert "Ada" not in self.words(post(metadata={"\\1": "Ada"}), "Ada is bad")

    def test_emails_that_were_not_in_the_request_are_replaced(self):
        said = "bob.smith@corp.example.co.uk and <carol@example.com>, dan@example.com."
        assert self.words(GET, said) == '"<email> and <<email>>, <email>"'

    def test_values_of_query_parameters_are_replaced(self):
        request = Request("GET", "/api/v3/gifts", params={"text_search": "for Ada"})
        assert self.words(request, "nothing for Ada here") == '"nothing <text_search> here"'

    def test_client_id_and_client_secret_are_replaced(self):
        request = Request("POST", "/oauth/token", json={"client_id": "cid", "client_secret": "s3cret"})
        assert self.words(request, "cid/s3cret is wrong") == '"<client_id>/<client_secret> is wrong"'

    # Not of backslashes alone: a tab beside them is quoted with one.
    @given(
        st.text(alphabet="äßéÑ漢字.*+?()[]{}|^$\\'’&-# \t", min_size=4, max_size=40).filter(
            lambda value: value.strip(" \t\\")
        )
    )
    def test_no_value_of_any_text_survives(self, value):
        words = self.words(post(last_name=value), f"Name «{value}» is bad")
        assert value.strip() not in words
        assert "<last_name>" in words


class TestLinksAreNotQuoted:
    LINKS = egift_links_request("102", ["ada@example.com"], "Airflow")

    @pytest.mark.parametrize(
        "link",
        [
            "https://gifts.example/r/abc",
            "HTTP://gifts.example",
            "gifts.example/r?c=abc",
            "www.gifts.example",
            "sendoso://abc",
            "(https://gifts.example/r/abc)",
        ],
    )
    def test_text_that_looks_like_a_link_is_replaced_in_an_error_about_links(self, link):
        words = api_words(self.LINKS, answer(422, {"message": f"Made {link} already."}))
        assert words == '"Made <link> already."'
        assert link in api_words(GET, answer(422, {"message": f"Made {link} already."}))

    def test_an_accepted_request_for_links_quotes_nothing_of_its_answer(self):
        assert api_words(self.LINKS, answer(200, {"message": "Code ABC"})) == "no link that can be read"


class TestNothingIsShown:
    def test_an_answers_repr_has_no_body_and_no_headers(self):
        text = repr(answer(200, {"email": "ada@example.com"}, set_cookie="session=s3cret"))
        assert "ada" not in text
        assert "s3cret" not in text

    def test_a_requests_repr_has_no_body_and_no_query(self):
        request = Request("POST", "/x", params={"q": "Ada"}, json={"send": {"email": "ada@example.com"}})
        assert "ada" not in repr(request).lower()
        assert str(request) == "POST /x"
