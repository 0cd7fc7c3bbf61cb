"""Requests to the sandbox that another site's page makes a browser send."""

from __future__ import annotations

import pytest
import requests

from airflow_provider_sendoso.sandbox import Sandbox

SECRET = "zqx-sandbox-secret"
PLACES = [
    ("GET", "/"),
    ("GET", "/sandbox/state"),
    ("GET", "/sandbox/faults"),
    ("POST", "/sandbox/faults"),
    ("DELETE", "/sandbox/faults"),
    ("POST", "/sandbox/reset"),
    ("POST", "/oauth/token"),
    ("POST", "/oauth/authorize?client_id=sandbox&response_type=code&redirect_uri=http://evil.example"),
    ("POST", "/api/v3/sends"),
    ("OPTIONS", "/sandbox/faults"),
]


@pytest.fixture
def sandbox():
    with Sandbox(step=0, rate=0, client_secret=SECRET) as sandbox:
        sandbox.fault("throttle")
        yield sandbox


def ask(sandbox: Sandbox, method: str, path: str, **headers: str) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    fault = '{"fault": "drop_after"}'
    return requests.request(method, sandbox.url + path, data=fault, headers=named, timeout=60, allow_redirects=False)


def nothing_was_done(sandbox: Sandbox, answer: requests.Response) -> bool:
    assert SECRET not in answer.text
    assert not any(name.lower().startswith("access-control") for name in answer.headers)
    assert [fault["fault"] for fault in sandbox.state()["faults"]] == ["throttle"]
    return answer.status_code == 403 and sandbox.requests == []


FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.evil.example:{port}",
    "localhost.evil.example",
    "evil.example@127.0.0.1",
    "127.0.0.1@evil.example",
    "evil.example/127.0.0.1",
    "203.0.113.7:{port}",
    "[2001:db8::1]",
    "a<b>'",
    "127.0.0.1:port",
    "",
]


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
@pytest.mark.parametrize(("method", "path"), PLACES)
def test_a_request_for_a_foreign_host_name_is_refused(sandbox: Sandbox, method: str, path: str, host: str) -> None:
    answer = ask(sandbox, method, path, Host=host.format(port=sandbox.port))
    assert nothing_was_done(sandbox, answer)


FOREIGN_PAGES = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": ""},
    {"Origin": "http://127.0.0.1:{port}.evil.example"},
    {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
    {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors"},
    {"Sec_Fetch_Site": "cross-site"},
]


@pytest.mark.parametrize("page", FOREIGN_PAGES, ids=str)
@pytest.mark.parametrize(("method", "path"), PLACES)
def test_a_script_of_a_foreign_page_is_refused(sandbox: Sandbox, method: str, path: str, page: dict[str, str]) -> None:
    headers = {name: value.format(port=sandbox.port) for name, value in page.items()}
    assert nothing_was_done(sandbox, ask(sandbox, method, path, Content_Type="text/plain", **headers))


def test_a_form_of_a_foreign_page_is_refused(sandbox: Sandbox) -> None:
    """A form is sent by navigating."""
    headers = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Content_Type": "text/plain"}
    for method, path in PLACES:
        if method == "POST":
            assert nothing_was_done(sandbox, ask(sandbox, method, path, **headers))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost:{port}"},
        {"Host": "LOCALHOST"},
        {"Host": "[::1]:{port}"},
        {"Host": "127.0.0.1:9000"},
        {"Host": "localhost:9000", "Origin": "http://localhost:9000"},
        {"Origin": "http://127.0.0.1:{port}", "Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "cors"},
        {"Sec_Fetch_Site": "none", "Sec_Fetch_Mode": "navigate"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"},
    ],
    ids=str,
)
def test_its_own_page_a_shell_and_a_link_to_the_page_are_answered(sandbox: Sandbox, headers: dict[str, str]) -> None:
    asked = {name: value.format(port=sandbox.port) for name, value in headers.items()}
    answer = ask(sandbox, "GET", "/", **asked)
    assert (answer.status_code, SECRET in answer.text) == (200, True)
    assert answer.headers["X-Frame-Options"] == "DENY"
    if headers.get("Sec_Fetch_Site") != "cross-site":
        assert ask(sandbox, "POST", "/sandbox/faults", **asked).status_code == 201


@pytest.mark.parametrize(("host", "status"), [("192.0.2.7:{port}", 200), ("evil.example:{port}", 403)])
def test_on_all_interfaces_ip_addresses_are_answered_and_names_are_refused(host: str, status: int) -> None:
    with Sandbox(host="0.0.0.0", step=0) as sandbox:
        url = f"http://127.0.0.1:{sandbox.port}"
        answer = requests.get(url, headers={"Host": host.format(port=sandbox.port)}, timeout=60)
        assert answer.status_code == status
