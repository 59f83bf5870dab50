"""Keys and rates in front of a small application: who gets in, who does not, and what they are told."""

import asyncio
import base64
import logging
import os

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from winnow.api.access import LocalAccess
from winnow.api.config import ApiConfig
from winnow.api.guard import install_guard, require
from winnow.api.keys import create_key, read_keys, revoke_key
from winnow.api.prometheus import PrometheusMetrics
from winnow.errors import ConfigError


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def an_app(access, **settings):
    app = FastAPI()
    app.state.num_answered = 0

    @app.get("/health")
    @app.get("/ready")
    async def open_to_all():
        return {}

    @app.post("/v1/search", dependencies=[Depends(require("search"))])
    async def search():
        app.state.num_answered += 1
        return {}

    @app.post("/v1/admin/version", dependencies=[Depends(require("admin"))])
    async def swap():
        app.state.num_answered += 1
        return {}

    @app.get("/forgotten")
    async def forgotten():
        return {}

    install_guard(app, ApiConfig(**settings), access, PrometheusMetrics())
    return app


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys.json"


@pytest.fixture
def tokens(path):
    return {
        "search": create_key(path, name="reader", scopes=["search"]),
        "admin": create_key(path, name="boss", scopes=["admin"]),
        "slow": create_key(path, name="slow", scopes=["search"], rate_per_minute=1),
        "revoked": create_key(path, name="gone", scopes=["search", "admin"]),
    }


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def access(path, tokens, clock):
    revoke_key(path, read_keys(path).find(tokens["revoked"]).key_id)
    return LocalAccess(path, clock=clock)


@pytest.fixture
def http(access):
    return TestClient(an_app(access), raise_server_exceptions=False, base_url="http://localhost")


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def error_of(reply):
    return reply.status_code, reply.json()["error"]["type"]


@pytest.mark.parametrize(
    "header",
    [
        lambda token: {"Authorization": f"Bearer {token}"},
        lambda token: {"authorization": f"bearer {token}"},
        lambda token: {"Authorization": f"BEARER   {token}"},
        lambda token: {"X-API-Key": token},
    ],
)
def test_a_key_is_taken_from_either_header(http, tokens, header):
    assert http.post("/v1/search", headers=header(tokens["search"])).status_code == 200


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: bearer(""),
        lambda t: {"Authorization": "Bearer"},
        lambda t: {"Authorization": ""},
        lambda t: {"X-API-Key": ""},
        lambda t: bearer(t["search"][:-1]),
        lambda t: bearer(t["search"][1:]),
        lambda t: bearer(t["search"] + "A"),
        lambda t: bearer(t["search"][:-1] + ("A" if t["search"][-1] != "A" else "B")),
        lambda t: bearer(t["search"].swapcase()),
        lambda t: bearer(t["revoked"]),
        lambda t: bearer(f"{t['search']} {t['search']}"),
        lambda t: bearer(f"{t['search']},{t['admin']}"),
        lambda t: {"Authorization": b"Bearer \xff\xfe\xc3\x28"},
        lambda t: {"X-API-Key": "ключ".encode()},
        lambda t: bearer("w" * 1_000_000),
        lambda t: {"Authorization": f"Basic {base64.b64encode(('u:' + t['search']).encode()).decode()}"},
        lambda t: {"Authorization": t["search"]},
        lambda t: {"Authorization": f"Token {t['search']}"},
        lambda t: {"Cookie": f"key={t['search']}; Authorization=Bearer {t['search']}"},
        lambda t: {"X-Api-Keys": t["search"]},
        lambda t: [("Authorization", f"Bearer {t['search']}"), ("Authorization", f"Bearer {t['search']}")],
        lambda t: [("Authorization", "Bearer wrong"), ("Authorization", f"Bearer {t['search']}")],
        lambda t: [("Authorization", f"Bearer {t['search']}"), ("X-API-Key", "wrong")],
        lambda t: {},
    ],
)
def test_everything_but_one_whole_key_is_refused_and_not_repeated(http, tokens, spoil):
    reply = http.post("/v1/search", headers=spoil(tokens))

    assert error_of(reply) == (401, "unauthorized")
    assert reply.headers["www-authenticate"].startswith("Bearer")
    assert "winnow keys create" in reply.json()["error"]["message"]
    assert not any(token[5:20] in reply.text for token in tokens.values())
    assert http.app.state.num_answered == 0


@pytest.mark.parametrize("name", ["key", "api_key", "access_token", "X-API-Key", "Authorization"])
def test_a_key_in_the_address_is_not_accepted(http, tokens, name):
    assert error_of(http.post("/v1/search", params={name: tokens["search"]})) == (401, "unauthorized")


@pytest.mark.parametrize(
    "address",
    ["/forgotten", "/openapi.json", "/nowhere", "/health/", "/Health", "/health%00"],
)
def test_every_other_path_needs_a_key_even_if_its_route_forgets_to_ask(http, address):
    assert error_of(http.get(address)) == (401, "unauthorized")


@pytest.mark.parametrize("address", ["/health", "/ready"])
def test_health_and_readiness_are_open(http, address):
    assert http.get(address).status_code == 200


def test_a_search_key_is_no_admin_key_but_an_admin_key_searches(http, tokens):
    refused = http.post("/v1/admin/version", headers=bearer(tokens["search"]))

    assert error_of(refused) == (403, "forbidden")
    assert "use one with the scope admin" in refused.json()["error"]["message"]
    assert http.post("/v1/admin/version", headers=bearer(tokens["admin"])).status_code == 200
    assert http.post("/v1/search", headers=bearer(tokens["admin"])).status_code == 200


def test_without_keys_search_is_free_and_administration_closed():
    http = TestClient(an_app(LocalAccess(None)), base_url="http://localhost")

    assert http.post("/v1/search").status_code == 200
    assert http.post("/v1/search", headers=bearer("whatever")).status_code == 200
    refused = http.post("/v1/admin/version", headers=bearer("whatever"))
    assert error_of(refused) == (403, "forbidden")
    assert "winnow keys create" in refused.json()["error"]["message"]


def test_a_route_outside_the_guard_lets_nobody_in():
    app = FastAPI()

    @app.get("/", dependencies=[Depends(require("search"))])
    async def unguarded():
        return {}

    assert TestClient(app, base_url="http://localhost", raise_server_exceptions=False).get("/").status_code == 500


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:8000", "127.9.9.9", "[::1]:8000", "[::1]", "LocalHost."]
)
def test_without_keys_names_of_this_machine_are_answered(host):
    http = TestClient(an_app(LocalAccess(None)), base_url="http://localhost")

    assert http.post("/v1/search", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "rebound.example",
        "rebound.example:8000",
        "10.0.0.7",
        "localhost.example",
        "127.0.0.1.example",
        "[::2]:80",
        "localhost]x",
        "",
    ],
)
def test_without_keys_a_page_whose_name_leads_here_reads_nothing(host):
    """DNS rebinding: the browser takes such a page's requests for requests to its own server."""
    app = an_app(LocalAccess(None))
    http = TestClient(app, base_url="http://localhost")

    reply = http.post("/v1/search", headers={"host": host})

    assert (reply.status_code, reply.json()["error"]["type"]) == (403, "forbidden")
    assert "winnow keys create" in reply.json()["error"]["message"]
    assert app.state.num_answered == 0
    assert http.get("/health", headers={"host": host}).status_code == 200


def test_with_a_key_any_name_will_do(access, tokens):
    http = TestClient(an_app(access), base_url="http://localhost")

    headers = {**bearer(tokens["search"]), "host": "search.example"}

    assert http.post("/v1/search", headers=headers).status_code == 200


def test_a_stranger_is_refused_before_the_body_is_read(access):
    app = an_app(access)
    sent = []

    async def never():
        raise AssertionError("the body was read")

    async def keep(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/search", "query_string": b"", "headers": []}
    asyncio.run(app(scope, never, keep))

    assert sent[0]["status"] == 401


def test_a_key_beyond_its_limit_is_told_when_to_come_again(http, tokens, clock):
    first, second = (http.post("/v1/search", headers=bearer(tokens["slow"])) for _ in range(2))

    assert first.status_code == 200
    assert error_of(second) == (429, "rate_limited")
    assert second.headers["retry-after"] == "60"
    clock.now += 60
    assert http.post("/v1/search", headers=bearer(tokens["slow"])).status_code == 200


def test_the_configured_limit_is_for_keys_without_their_own_and_each_has_its_own_bucket(access, tokens):
    http = TestClient(an_app(access, rate_per_minute=12), base_url="http://localhost")

    statuses = {
        name: [http.post("/v1/search", headers=bearer(tokens[name])).status_code for _ in range(3)]
        for name in ("search", "slow", "admin")
    }

    assert statuses == {"search": [200, 200, 429], "slow": [200, 429, 429], "admin": [200, 200, 429]}


def test_a_key_revoked_while_the_server_runs_is_refused_within_a_second(http, path, tokens, clock):
    assert http.post("/v1/search", headers=bearer(tokens["search"])).status_code == 200

    revoke_key(path, read_keys(path).find(tokens["search"]).key_id)
    clock.now += 1

    assert http.post("/v1/search", headers=bearer(tokens["search"])).status_code == 401
    assert http.post("/v1/search", headers=bearer(tokens["admin"])).status_code == 200


def test_a_new_key_is_accepted_within_a_second(http, path, clock):
    token = create_key(path, name="late", scopes=["search"])
    clock.now += 1

    assert http.post("/v1/search", headers=bearer(token)).status_code == 200


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_text("[{"), lambda p: p.write_text("")])
def test_a_file_that_becomes_unreadable_keeps_the_last_keys_and_says_so_once(http, path, tokens, clock, caplog, damage):
    damage(path)

    with caplog.at_level(logging.ERROR):
        statuses = []
        for _ in range(3):
            clock.now += 1
            statuses.append(http.post("/v1/search", headers=bearer(tokens["search"])).status_code)

    assert statuses == [200, 200, 200]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "stay in force" in caplog.text


def test_the_file_is_looked_at_once_a_second_and_read_only_when_it_changed(access, clock, monkeypatch, path):
    looks, reads = [], []
    monkeypatch.setattr("winnow.api.access._signature", lambda p: looks.append(p) or (os.stat(p).st_mtime_ns,))
    monkeypatch.setattr("winnow.api.access.read_keys", lambda p: reads.append(p) or read_keys(p))
    for _ in range(100):
        clock.now += 0.1
        assert access.keys is not None

    assert 9 <= len(looks) <= 11
    # The stand-in's signature differs from the one before.
    assert len(reads) == 1


def test_a_missing_or_damaged_key_file_stops_the_start(path):
    with pytest.raises(ConfigError, match="winnow keys create"):
        LocalAccess(path)
    path.write_text("{}")
    with pytest.raises(ConfigError, match="valid array"):
        LocalAccess(path)


def test_the_description_tells_which_routes_need_a_key(http, tokens):
    described = http.get("/openapi.json", headers=bearer(tokens["search"])).json()

    assert described["paths"]["/v1/search"]["post"]["security"] == [{"ApiKey": []}]
    assert "security" not in described["paths"]["/health"]["get"]
    assert described["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"


def test_no_key_is_in_any_log_line(http, tokens, caplog):
    with caplog.at_level(logging.DEBUG):
        for token in (*tokens.values(), "wn_wrong-secret"):
            http.post("/v1/search", headers=bearer(token), params={"key": token})

    written = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("winnow"))
    assert written.count("/v1/search 200") == 3
    assert not any(token in written for token in (*tokens.values(), "wn_wrong-secret"))
