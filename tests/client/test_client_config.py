"""Reading a connection: every form in which it can be given, and an error for every wrong field."""

from __future__ import annotations

import json
import traceback
from urllib.parse import quote

import pytest

from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook

SECRETS = ("p4ss-w0rd", "r3fr3sh-t0ken")


def resolve(**fields) -> ClientConfig:
    given = {"host": None, "schema": None, "port": None, "login": "id", "password": SECRETS[0], "extra": {}} | fields
    return ClientConfig.from_connection("my_sendoso", **given)


def shown(error: BaseException) -> str:
    """Everything of an error that a log could show."""
    return "".join(traceback.format_exception(error)) + repr(error)


class TestBaseUrl:
    @pytest.mark.parametrize(
        ("fields", "base_url"),
        [
            ({}, "https://app.sendoso.com"),
            ({"host": ""}, "https://app.sendoso.com"),
            ({"host": "app.staging.sendo.so"}, "https://app.staging.sendo.so"),
            ({"host": "https://app.staging.sendo.so"}, "https://app.staging.sendo.so"),
            ({"host": " https://app.sendoso.com/ "}, "https://app.sendoso.com"),
            ({"host": "HTTPS://App.Sendoso.COM"}, "https://app.sendoso.com"),
            ({"host": "app.sendoso.com:8443"}, "https://app.sendoso.com:8443"),
            ({"host": "app.sendoso.com", "port": 8443}, "https://app.sendoso.com:8443"),
            ({"host": "https://app.sendoso.com:8443", "port": 1}, "https://app.sendoso.com:8443"),
            ({"host": "app.sendoso.com", "schema": "https"}, "https://app.sendoso.com"),
            ({"host": "https://app.sendoso.com", "schema": "http"}, "https://app.sendoso.com"),
            ({"port": 443}, "https://app.sendoso.com"),
            ({"host": "https://app.sendoso.com:443", "port": 8443}, "https://app.sendoso.com"),
            ({"host": "http://localhost", "port": 80}, "http://localhost"),
            ({"host": "http://localhost", "port": 443}, "http://localhost:443"),
            ({"host": "127.0.0.1", "port": 8765}, "http://127.0.0.1:8765"),
            ({"host": "http://127.8.9.1:8765"}, "http://127.8.9.1:8765"),
            ({"host": "localhost:8765"}, "http://localhost:8765"),
            ({"host": "localhost", "schema": "HTTP"}, "http://localhost"),
            ({"host": "https://localhost:8765"}, "https://localhost:8765"),
            ({"host": "localhost", "schema": "https"}, "https://localhost"),
            ({"host": "[::1]:8765"}, "http://[::1]:8765"),
            ({"host": "[::1]", "port": 8765}, "http://[::1]:8765"),
            ({"host": "http://[::1]"}, "http://[::1]"),
            ({"host": "[::1]"}, "http://[::1]"),
            ({"host": "::1", "port": 8765}, "http://[::1]:8765"),
            ({"host": "https://[2001:db8::1]"}, "https://[2001:db8::1]"),
        ],
    )
    def test_host_scheme_and_port_become_the_base_url(self, fields, base_url):
        assert resolve(**fields).base_url == base_url

    @pytest.mark.parametrize(
        ("fields", "account"),
        [
            ({}, "app.sendoso.com"),
            ({"host": "https://App.Sendoso.com:8443"}, "app.sendoso.com"),
            ({"host": "127.0.0.1:8765"}, "127.0.0.1"),
            ({"host": "http://[::1]:8765"}, "::1"),
            ({"extra": {"account": "emea"}}, "emea"),
        ],
    )
    def test_the_account_is_the_host_unless_named(self, fields, account):
        assert resolve(**fields).account == account

    @pytest.mark.parametrize(
        "host",
        [
            "https://app.sendoso.com/api/v3",
            "app.sendoso.com/api",
            "https://app.sendoso.com?x=1",
            "https://app.sendoso.com#top",
            "https://user:p4ss-w0rd@app.sendoso.com",
            "https://app.sendoso.com:99999",
            "https://[::1",
            "https:/app.sendoso.com",
            "app sendoso.com",
            "app..sendoso.com",
            "https://app.sendoso.com\\@example.com",
            "[app.sendoso.com]",
        ],
    )
    def test_a_host_that_is_not_a_base_url_is_refused(self, host):
        with pytest.raises(SendosoConfigError, match="host that is not a base URL") as caught:
            resolve(host=host)
        assert "my_sendoso" in str(caught.value)
        assert not any(secret in shown(caught.value) for secret in SECRETS)

    @pytest.mark.parametrize(
        "fields",
        [
            {"host": "http://app.sendoso.com"},
            {"host": "app.sendoso.com", "schema": "http"},
            {"host": "http://192.168.1.1"},
            {"host": "http://0.0.0.0"},
            {"host": "http://localhost.example.com"},
            {"host": "http://[2001:db8::1]"},
        ],
    )
    def test_http_is_refused_except_for_loopback(self, fields):
        with pytest.raises(SendosoConfigError, match="use https"):
            resolve(**fields)

    @pytest.mark.parametrize(
        "fields", [{"host": "ftp://app.sendoso.com"}, {"host": "app.sendoso.com", "schema": "public"}]
    )
    def test_schemes_other_than_http_and_https_are_refused(self, fields):
        with pytest.raises(SendosoConfigError, match="use https"):
            resolve(**fields)


class TestCredentials:
    @pytest.mark.parametrize("absent", [None, ""])
    def test_a_connection_without_a_login_is_refused(self, absent):
        with pytest.raises(SendosoConfigError, match=r"'my_sendoso' has no login \(the client ID\)"):
            resolve(login=absent)

    @pytest.mark.parametrize("absent", [None, ""])
    def test_a_connection_without_a_password_is_refused(self, absent):
        with pytest.raises(SendosoConfigError, match=r"'my_sendoso' has no password \(the client secret\)"):
            resolve(password=absent)

    def test_secrets_are_in_no_repr(self):
        config = resolve(extra={"refresh_token": SECRETS[1], "grant_type": "refresh_token"})
        assert config.client_secret.get_secret_value() == SECRETS[0]
        assert config.refresh_token.get_secret_value() == SECRETS[1]
        for text in (repr(config), str(config), f"{config}", repr(config.model_dump()), config.model_dump_json()):
            assert not any(secret in text for secret in SECRETS)


class TestExtra:
    def test_an_empty_extra_has_the_documented_defaults(self):
        config = resolve()
        assert (config.grant_type, config.scope, config.refresh_token) == ("client_credentials", None, None)
        assert (config.requests_per_second, config.timeout) == (10, 30)
        assert (config.ledger_conn_id, config.via_from, config.max_sends_per_batch) == (
            "sendoso_ledger",
            "Airflow",
            None,
        )

    @pytest.mark.parametrize(
        ("name", "given", "expected"),
        [
            ("requests_per_second", 2.5, 2.5),
            ("requests_per_second", "25", 25),
            ("timeout", "7.5", 7.5),
            ("scope", "public write", "public write"),
            ("ledger_conn_id", "my_ledger", "my_ledger"),
            ("via_from", "Acme", "Acme"),
            ("max_sends_per_batch", "100", 100),
            ("max_sends_per_batch", 0, 0),
        ],
    )
    def test_extras_may_be_numbers_or_text(self, name, given, expected):
        assert getattr(resolve(extra={name: given}), name) == expected

    @pytest.mark.parametrize("unset", [None, ""])
    def test_none_and_empty_text_mean_unset(self, unset):
        names = ClientConfig.model_fields.keys() - {"base_url", "client_id", "client_secret"}
        assert resolve(extra=dict.fromkeys(names, unset)) == resolve()

    @pytest.mark.parametrize(
        ("extra", "name"),
        [
            ({"requests_per_second": 0}, "requests_per_second"),
            ({"requests_per_second": -1}, "requests_per_second"),
            ({"requests_per_second": "fast"}, "requests_per_second"),
            ({"requests_per_second": "nan"}, "requests_per_second"),
            ({"timeout": 0}, "timeout"),
            ({"timeout": "soon"}, "timeout"),
            ({"timeout": 601}, "timeout"),
            ({"timeout": "inf"}, "timeout"),
            ({"max_sends_per_batch": -1}, "max_sends_per_batch"),
            ({"max_sends_per_batch": 1.5}, "max_sends_per_batch"),
            ({"grant_type": "password"}, "grant_type"),
            ({"account": {}}, "account"),
            ({"refresh_token": {"r3fr3sh-t0ken": 1}}, "refresh_token"),
        ],
    )
    def test_a_wrong_value_is_named_and_not_shown(self, extra, name):
        with pytest.raises(SendosoConfigError, match=f"'my_sendoso' is not usable: extra '{name}") as caught:
            resolve(extra={"refresh_token": SECRETS[1]} | extra)
        assert not any(secret in shown(caught.value) for secret in SECRETS)
        assert "soon" not in str(caught.value)

    def test_an_unknown_extra_is_named_with_the_known_ones(self):
        with pytest.raises(SendosoConfigError, match="extra 'request_per_second' is unknown") as caught:
            resolve(extra={"request_per_second": SECRETS[1]})
        assert "requests_per_second" in str(caught.value)
        assert "client_secret" not in str(caught.value)
        assert SECRETS[1] not in shown(caught.value)

    def test_the_second_names_of_the_test_button_of_airflow_2_are_the_same_fields(self):
        fields = {"max_sends_per_day": "300", "account": "acme"}
        config = resolve(extra=fields | {f"extra__sendoso__{name}": value for name, value in fields.items()})
        assert (config.max_sends_per_day, config.account) == (300, "acme")

    @pytest.mark.parametrize("extra", [{}, {"max_sends_per_day": "30"}], ids=["alone", "another value"])
    def test_a_second_name_that_says_something_else_is_refused(self, extra):
        with pytest.raises(SendosoConfigError, match="extra 'extra__sendoso__max_sends_per_day' is unknown"):
            resolve(extra=extra | {"extra__sendoso__max_sends_per_day": "300"})

    def test_every_problem_is_named_at_once(self):
        with pytest.raises(SendosoConfigError, match=r"timeout.*typo|typo.*timeout"):
            resolve(extra={"timeout": 0, "typo": 1})

    @pytest.mark.parametrize("name", ["max_sends_per_batch", "requests_per_second", "timeout"])
    def test_true_is_no_number(self, name):
        with pytest.raises(SendosoConfigError, match=f"extra '{name}'.*should be a number"):
            resolve(extra={name: True})

    @pytest.mark.parametrize("extra", [["r3fr3sh-t0ken"], "r3fr3sh-t0ken", 7, True])
    def test_an_extra_that_is_not_a_json_object_is_refused(self, extra):
        with pytest.raises(SendosoConfigError, match="'my_sendoso' has an extra that is not a JSON object") as caught:
            resolve(extra=extra)
        assert SECRETS[1] not in shown(caught.value)

    @pytest.mark.parametrize("name", ["base_url", "client_id", "client_secret"])
    def test_an_extra_that_repeats_a_field_of_the_connection_is_refused(self, name):
        with pytest.raises(SendosoConfigError, match="repeats") as caught:
            resolve(extra={name: SECRETS[1]})
        assert not any(secret in shown(caught.value) for secret in SECRETS)


class TestThroughAirflow:
    """The same through an environment variable and the hook, as users have it."""

    @pytest.mark.parametrize(
        ("uri", "base_url"),
        [
            ("sendoso://id:pw@", "https://app.sendoso.com"),
            ("sendoso://id:pw@app.sendoso.com", "https://app.sendoso.com"),
            ("sendoso://id:pw@app.sendoso.com:8443", "https://app.sendoso.com:8443"),
            ("sendoso://id:pw@https%3A%2F%2Fapp.sendoso.com", "https://app.sendoso.com"),
            ("sendoso://https://id:pw@app.sendoso.com", "https://app.sendoso.com"),
            ("sendoso://id:pw@app.sendoso.com/https", "https://app.sendoso.com"),
            ("sendoso://id:pw@127.0.0.1:8765", "http://127.0.0.1:8765"),
            ("sendoso://id:pw@localhost:8765/http", "http://localhost:8765"),
            ("sendoso://id:pw@%5B%3A%3A1%5D:8765", "http://[::1]:8765"),
        ],
    )
    def test_a_uri_is_read(self, set_connection, uri, base_url):
        set_connection("my_sendoso", uri)
        config = SendosoHook("my_sendoso").config
        assert (config.base_url, config.client_id, config.client_secret.get_secret_value()) == (base_url, "id", "pw")

    def test_a_uri_with_quoted_credentials_is_read(self, set_connection):
        set_connection("my_sendoso", f"sendoso://{quote('i/d@x', safe='')}:{quote('p:/?#@ä', safe='')}@app.sendoso.com")
        config = SendosoHook("my_sendoso").config
        assert (config.client_id, config.client_secret.get_secret_value()) == ("i/d@x", "p:/?#@ä")

    @pytest.mark.parametrize(
        "query",
        [
            "requests_per_second=3&timeout=7&scope=public%20write",
            "__extra__=" + quote(json.dumps({"requests_per_second": 3, "timeout": 7, "scope": "public write"})),
        ],
    )
    def test_a_uri_with_extras_is_read(self, set_connection, query):
        set_connection("my_sendoso", f"sendoso://id:pw@app.sendoso.com/?{query}")
        config = SendosoHook("my_sendoso").config
        assert (config.requests_per_second, config.timeout, config.scope) == (3, 7, "public write")

    @pytest.mark.parametrize("as_text", [False, True])
    def test_json_is_read(self, set_connection, as_text):
        extra = {"requests_per_second": 3, "timeout": None, "account": ""}
        set_connection(
            "my_sendoso",
            {
                "conn_type": "sendoso",
                "host": "app.sendoso.com",
                "port": 8443,
                "login": "id",
                "password": "pw",
                "extra": json.dumps(extra) if as_text else extra,
            },
        )
        config = SendosoHook("my_sendoso").config
        assert (config.base_url, config.account) == ("https://app.sendoso.com:8443", "app.sendoso.com")
        assert (config.requests_per_second, config.timeout) == (3, 30)

    @pytest.mark.parametrize(
        ("connection", "words"),
        [
            ("sendoso://:pw@app.sendoso.com", "no login"),
            ("sendoso://id@app.sendoso.com", "no password"),
            ("sendoso://http://id:pw@app.sendoso.com", "use https"),
            ("sendoso://id:pw@app.sendoso.com/?typo=1", "'typo' is unknown"),
            ({"conn_type": "sendoso", "login": "id", "password": "pw", "extra": [1]}, "extra"),
            ({"conn_type": "sendoso", "login": "id", "password": "pw", "extra": {"timeout": []}}, "extra 'timeout'"),
        ],
    )
    def test_an_error_names_the_connection(self, set_connection, connection, words):
        set_connection("my_sendoso", connection)
        with pytest.raises(SendosoConfigError, match=words) as caught:
            _ = SendosoHook("my_sendoso").config
        assert "'my_sendoso'" in str(caught.value)


NOTHING = [f"ac{blank}me" for blank in "\u034f\u115f\u180e\u2800\u3164\ufe0f\uffa0\U000e0101"]
"""Letters, marks and symbols that are drawn as nothing."""


class TestOneSpelling:
    """The same account, host or secret spelled two ways would be two accounts, and a second gift for everybody."""

    @pytest.mark.parametrize("account", ["acme", " acme", "acme ", "acme\n", "\tacme\r\n"])
    def test_an_account_is_trimmed(self, account):
        assert resolve(extra={"account": account}).account == "acme"

    def test_an_account_is_nfc(self):
        assert resolve(extra={"account": "Cafe\u0301"}) == resolve(extra={"account": "Caf\u00e9"})

    @pytest.mark.parametrize(
        "account", ["acme\u200b", "ac\u00adme", "\ufeffacme", "ac\u00a0me", "ac\nme", " ", *NOTHING]
    )
    def test_an_account_that_looks_like_another_is_refused(self, account):
        with pytest.raises(SendosoConfigError, match="names its account so that it"):
            resolve(extra={"account": account})

    @pytest.mark.parametrize("unseen", ["\u200b", "\ufeff", "\u3164", "\x00"])
    @pytest.mark.parametrize("field", ["login", "password"])
    def test_a_credential_with_a_character_that_cannot_be_seen_is_refused(self, field, unseen):
        given = {field: f"{SECRETS[0]}{unseen}"}
        with pytest.raises(SendosoConfigError, match=f"has a {field} with a character that cannot be seen") as caught:
            resolve(**given)
        assert SECRETS[0] not in shown(caught.value)

    @pytest.mark.parametrize(
        "host", ["app.sendoso.com", "APP.sendoso.com", "app.sendoso.com.", " https://App.Sendoso.com/ "]
    )
    def test_every_spelling_of_a_host_is_one_account(self, host):
        assert resolve(host=host) == resolve(host=None)

    @pytest.mark.parametrize("host", ["::1", "[::1]", "0:0:0:0:0:0:0:1", "http://[0000::0001]"])
    def test_every_spelling_of_an_ip_address_is_one_account(self, host):
        assert resolve(host=host).account == "::1"

    @pytest.mark.parametrize("pasted", ["s3cret\n", " s3cret", "s3cret\r\n"])
    def test_blanks_around_a_secret_are_removed(self, pasted):
        assert resolve(password=pasted).client_secret.get_secret_value() == "s3cret"


class TestUnreadable:
    """A setting that cannot be read is an error, and never counts as not set."""

    @pytest.mark.parametrize(
        "extra",
        [
            "{'account': 'acme'}",
            '{"account": "acme",}',
            '{"account": "acme"',
            "account=acme",
            '{"account": "acme"} x',
            '{"account": "a", "account": "b"}',
        ],
    )
    @pytest.mark.parametrize("conn_id", ["my_sendoso", "my_ledger"])
    def test_an_extra_that_is_not_json_is_refused(self, set_connection, conn_id, extra):
        login = {"conn_type": "sendoso", "login": "id", "password": "pw"}
        ledger = {"conn_type": "sqlite", "host": "/tmp/never-made.db"}
        broken = {"extra": extra}
        set_connection(
            "my_sendoso", login | (broken if conn_id == "my_sendoso" else {"extra": {"ledger_conn_id": "my_ledger"}})
        )
        set_connection("my_ledger", ledger | (broken if conn_id == "my_ledger" else {}))
        with pytest.raises(SendosoConfigError, match=f"'{conn_id}' has an extra that is not valid JSON") as caught:
            _ = SendosoHook("my_sendoso").ledger
        assert "acme" not in str(caught.value).replace('{"account": "acme"}', "")

    @pytest.mark.parametrize("conn_type", ["postgres", "http", "Sendoso", "generic"])
    def test_a_connection_of_another_type_is_refused(self, set_connection, conn_type):
        set_connection(
            "my_sendoso", {"conn_type": conn_type, "login": "id", "password": "s3cr3t", "host": "db.example.com"}
        )
        with pytest.raises(SendosoConfigError, match=f"of type '{conn_type}', not sendoso") as caught:
            _ = SendosoHook("my_sendoso").config
        assert "s3cr3t" not in str(caught.value)


class TestWebhooks:
    GOOD, OTHER = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_dGhlIHNlY3JldCBvZiB0aGVzZSB0ZXN0cw=="

    @pytest.mark.parametrize(
        "given",
        [f"{GOOD} {OTHER}", f" {GOOD},{OTHER}\n", f"{GOOD}\n{OTHER}", [GOOD, OTHER]],
        ids=["blank", "comma", "lines", "list"],
    )
    def test_several_secrets_are_taken_apart(self, given: object) -> None:
        secrets = resolve(extra={"webhook_secret": given}).webhook_secret
        assert [secret.get_secret_value() for secret in secrets] == [self.GOOD, self.OTHER]

    @pytest.mark.parametrize("given", [None, ""])
    def test_without_a_secret_there_are_none(self, given: object) -> None:
        config = resolve(extra={"webhook_secret": given, "poll_with_webhooks": None})
        assert (config.webhook_secret, config.poll_with_webhooks) == ((), 3600.0)

    @pytest.mark.parametrize(
        "given",
        ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_c2hvcnQ=", "whsec_a b", "whsec_%2B%2F", 5, True, [5], {}],
    )
    def test_anything_else_is_an_error_that_does_not_show_it(self, given: object) -> None:
        with pytest.raises(SendosoConfigError, match=r"'webhook_secret': .*signing secret.*whsec_") as caught:
            resolve(extra={"webhook_secret": given})
        assert len(str(given)) < 8 or str(given) not in shown(caught.value)

    def test_one_wrong_secret_beside_a_right_one_is_an_error(self) -> None:
        with pytest.raises(SendosoConfigError) as caught:
            resolve(extra={"webhook_secret": f"{self.GOOD} {self.OTHER[:-3]}"})
        assert self.GOOD not in shown(caught.value)
        assert self.OTHER[:-3] not in shown(caught.value)

    @pytest.mark.parametrize("given", [0, 59, 86_401, "soon", True])
    def test_the_rare_poll_is_from_a_minute_to_a_day(self, given: object) -> None:
        with pytest.raises(SendosoConfigError, match="'poll_with_webhooks'"):
            resolve(extra={"poll_with_webhooks": given})

    def test_a_secret_survives_a_uri_that_is_percent_encoded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        uri = f"sendoso://id:{SECRETS[0]}@app.sendoso.com/?webhook_secret={quote(self.OTHER, safe='')}"
        monkeypatch.setenv("AIRFLOW_CONN_MY_SENDOSO", uri)
        (secret,) = SendosoHook("my_sendoso").config.webhook_secret
        assert secret.get_secret_value() == self.OTHER

    def test_no_secret_is_in_a_repr(self) -> None:
        config = resolve(extra={"webhook_secret": self.GOOD})
        assert self.GOOD not in f"{config!r}{config}{config.model_dump()}"
