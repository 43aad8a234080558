"""Accepted host names and origins."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from starlette.testclient import WebSocketDenialResponse

from sensorium.core.errors import ConfigError
from sensorium.serve.host_guard import AllowedHosts, parse_origins, split_host

ROUTES = [
    *(
        ("GET", path)
        for path in ("/", "/page.js", "/schema", "/models/house/schema", "/metrics", "/healthz", "/openapi.json")
    ),
    *(("POST", path) for path in ("/predict", "/models/house/predict", "/explain", "/embed")),
]
PAGE = "https://app.example"


def send(client: Any, method: str, path: str, **headers: str) -> Any:
    dashed = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.request(method, path, headers=dashed, **({"json": {"row": {}}} if method == "POST" else {}))


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_is_guarded(client: Any, method: str, path: str) -> None:
    for host in (
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.7",
        "testserver",
    ):
        answer = send(client, method, path, host=host)
        assert answer.status_code == 421, (host, answer.text)
        assert "--allow-host" in answer.json()["error"]["fix"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:1"},  # another server on the same machine
        {"origin": "http://localhost.evil.example"},
        {"origin": "file://localhost"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site", "origin": "http://localhost"},
    ):
        answer = send(client, method, path, **headers)
        assert answer.status_code == 403, (headers, answer.text)
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_programs_and_the_own_page_are_allowed(client: Any, method: str, path: str) -> None:
    for headers in (
        {},
        *({"host": host} for host in ("127.0.0.1:8000", "LOCALHOST", "localhost.:80", "[::1]:8000", "127.8.9.1")),
        {"origin": "http://localhost", "sec_fetch_site": "same-origin"},
        {"host": "localhost:8000", "origin": "http://localhost:8000"},
        {"host": "localhost", "origin": "https://localhost:443"},  # behind a TLS proxy
        {"sec_fetch_site": "none"},
    ):
        assert send(client, method, path, **headers).status_code == 200, headers


def test_invalid_host_headers_are_refused(client: Any) -> None:
    for host in (
        "",
        "a b",
        "localhost@evil.example",
        "localhost/x",
        "localhost:80:80",
        "localhost:x",
        "[::1",
        "http://localhost",
    ):
        assert send(client, "GET", "/schema", host=host).status_code == 400, host
    two = client.get("/schema", headers=[("host", "localhost"), ("host", "evil.example")])
    assert two.status_code == 400
    assert "several Host headers" in two.json()["error"]["problem"]


def test_links_may_only_lead_to_the_page(client: Any) -> None:
    followed = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert send(client, "GET", "/", **followed).status_code == 200
    assert send(client, "GET", "/schema", **followed).status_code == 403
    assert send(client, "GET", "/", **{**followed, "sec_fetch_dest": "iframe"}).status_code == 403


def test_websocket_is_guarded(client: Any) -> None:
    for headers, status in (
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"host": "evil.example"}, 421),
        (
            {"host": "evil.example", "origin": "http://evil.example"},
            421,
        ),  # DNS rebinding: the same origin, but another host name
    ):
        with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/stream", headers=headers):
            pass
        assert refused.value.status_code == status
    for headers in ({}, {"origin": "http://localhost"}, {"origin": "https://localhost"}):
        with client.websocket_connect("/stream", headers=headers) as socket:
            socket.send_json({"column": "sound"})
            assert "window_steps" in socket.receive_json()


def test_allowed_origins_may_send_requests(make_client: Any) -> None:
    client = make_client(origins=[PAGE + ":443/"])
    answer = send(client, "POST", "/predict", origin=PAGE, sec_fetch_site="cross-site")
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "Origin" in answer.headers["vary"]
    wanted = {"access_control_request_method": "POST", "access_control_request_headers": "authorization, content-type"}
    answer = send(client, "OPTIONS", "/predict", origin=PAGE, **wanted)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    unwanted = {**wanted, "access_control_request_method": "DELETE"}
    assert send(client, "OPTIONS", "/predict", origin=PAGE, **unwanted).status_code == 400
    for origin in ("https://evil.example", "http://app.example", PAGE + ".evil.example", "null"):
        for method in ("POST", "OPTIONS"):
            answer = send(client, method, "/predict", origin=origin, **wanted)
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers
    # The page can read errors too.
    wrong = client.post("/predict", json={"row": {"phto": 1}}, headers={"origin": PAGE})
    assert (wrong.status_code, wrong.headers["access-control-allow-origin"]) == (422, PAGE)
    with client.websocket_connect("/stream", headers={"origin": PAGE, "sec-fetch-site": "cross-site"}) as socket:
        socket.send_json({"column": "sound"})
        assert "window_steps" in socket.receive_json()


def test_other_origins_get_no_cors_headers_by_default(client: Any) -> None:
    wanted = {"access_control_request_method": "POST", "origin": "http://localhost"}
    answer = send(client, "OPTIONS", "/predict", **wanted)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_head_works_wherever_get_does(client: Any) -> None:
    for method, path in ROUTES:
        answer = client.head(path)
        if method == "GET":
            asked_for = client.get(path)
            assert (answer.status_code, answer.content) == (200, b""), path
            assert answer.headers["content-type"] == asked_for.headers["content-type"]
            if path != "/metrics":  # which counts the requests
                assert answer.headers["content-length"] == str(len(asked_for.content))
        else:
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert client.put("/schema").headers["allow"] == "GET, HEAD"


def test_accepted_host_names() -> None:
    own = socket.gethostname().lower()
    local, everywhere = AllowedHosts.of(), AllowedHosts.of("0.0.0.0", ["*.app.example", "Model"])
    for name, locally, anywhere in (
        ("localhost", True, True),
        ("127.0.0.1", True, True),
        ("::1", True, True),
        ("192.168.1.5", False, True),  # an IP address cannot be rebound
        ("0.0.0.0", False, True),
        ("model", False, True),
        ("a.app.example", False, True),
        ("app.example", False, False),
        ("xapp.example", False, False),
        ("2130706433", False, False),
        ("127.1", False, False),
        (own, own == "localhost", True),
    ):
        assert (local.allow(name), everywhere.allow(name)) == (locally, anywhere), name
    assert AllowedHosts.of("192.168.1.5").allow("192.168.1.5")
    assert not AllowedHosts.of("192.168.1.5").allow("192.168.1.6")
    assert AllowedHosts.of(allowed=["*"]).allow("anything")
    assert "*.app.example" in everywhere.describe()
    for wrong in ("a b", "http://a.example", "a.example:80", "*a.example", "*.", ""):
        with pytest.raises(ConfigError, match="not a host name"):
            AllowedHosts.of(allowed=[wrong])
    assert parse_origins(["https://A.example:443", "http://b:80/"]) == {"https://a.example", "http://b"}
    for wrong in ("*", "a.example", "ftp://a", "https://a/path", "https://a?b", "https://"):
        with pytest.raises(ConfigError, match="not an origin"):
            parse_origins([wrong])
    assert split_host("[::1]:80") == ("::1", "80")
    assert split_host("A.example.") == ("a.example", "")
