"""API keys: what is stored, what is found, what is refused, and that no secret shows anywhere."""

import hashlib
import json
import logging
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from winnow.api.keys import ApiKey, KeyRing, create_key, read_keys, revoke_key
from winnow.errors import ConfigError
from winnow.steps import keys as keys_step

TOKEN = "wn_abcDEF-123"
HASH = hashlib.sha256(TOKEN.encode()).hexdigest()
ROW = {"key_id": "k1", "name": "team", "sha256": HASH, "scopes": ["search"], "created": "2026-01-02T03:04:05Z"}


def a_key(key_id="k1", token=TOKEN, **changes):
    fields = {"name": "team", "scopes": ("search",), "created": datetime(2026, 1, 2, tzinfo=UTC), **changes}
    return ApiKey(key_id, sha256=hashlib.sha256(token.encode()).hexdigest(), **fields)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "secrets" / "keys.json"


def test_a_new_key_is_found_by_its_token_and_only_its_hash_is_stored(path):
    token = create_key(path, name="team a", scopes=["search"], rate_per_minute=60)

    key = read_keys(path).find(token)
    assert (key.name, key.scopes, key.rate_per_minute, key.revoked) == ("team a", ("search",), 60.0, None)
    assert json.loads(path.read_text())[0]["sha256"] == hashlib.sha256(token.encode()).hexdigest()
    assert token not in path.read_text()


def test_tokens_are_long_and_differ(path):
    tokens = {create_key(path, name="n", scopes=["search"]) for _ in range(5)}

    assert len(tokens) == 5
    # 43 characters of base64 hold 256 bits.
    assert {(token[:3], len(token)) for token in tokens} == {("wn_", 46)}
    assert len({key.key_id for key in read_keys(path).keys}) == 5


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        " ",
        TOKEN[:-1],
        TOKEN[1:],
        TOKEN + "x",
        TOKEN + "\n",
        TOKEN[:-1] + "4",
        TOKEN.upper(),
        TOKEN.lower(),
        HASH,
        "k1",
        "team",
        "ключ",
        "\ud800",
        "\x00" + TOKEN,
        TOKEN + "\x00",
        "wn_" * 350_000,
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_token_that_is_not_exactly_a_key_is_not_found(wrong):
    assert KeyRing((a_key(),)).find(wrong) is None


def test_the_right_one_of_many_keys_is_found():
    ring = KeyRing(tuple(a_key(f"k{number}", f"token{number}") for number in range(50)))

    assert [ring.find(f"token{number}").key_id for number in (0, 25, 49)] == ["k0", "k25", "k49"]


@pytest.mark.parametrize(("token", "found"), [("one", "k1"), ("two", None), ("nobody's", None)])
def test_one_hash_is_compared_in_constant_time_however_many_keys_there_are(monkeypatch, token, found):
    compared = []
    monkeypatch.setattr("winnow.api.keys.hmac.compare_digest", lambda a, b: compared.append(a) or a == b)
    ring = KeyRing((a_key("k1", "one"), a_key("k2", "two", revoked=datetime.now(UTC)), a_key("k3", "three")))

    key = ring.find(token)

    assert (key and key.key_id) == found
    assert compared == [hashlib.sha256(token.encode()).hexdigest()]


def test_a_rings_digest_changes_with_a_revocation_and_survives_the_wire():
    ring = KeyRing((a_key("k1", "one"), a_key("k2", "two", rate_per_minute=0.1)))
    revoked = KeyRing((replace(ring.keys[0], revoked=datetime.now(UTC)), ring.keys[1]))

    assert KeyRing.from_json(ring.to_json()).digest == ring.digest
    assert len({ring.digest, revoked.digest, KeyRing(ring.keys[:1]).digest, KeyRing().digest}) == 4


def test_a_revoked_key_is_not_found_and_its_neighbour_still_is(path):
    gone, kept = (create_key(path, name=name, scopes=["search"]) for name in ("gone", "kept"))
    key_id = read_keys(path).find(gone).key_id

    first = revoke_key(path, key_id)
    second = revoke_key(path, key_id)

    assert first.revoked is not None
    assert second.revoked == first.revoked
    assert read_keys(path).find(gone) is None
    assert read_keys(path).find(kept).name == "kept"


def test_an_unknown_key_cannot_be_revoked(path):
    create_key(path, name="n", scopes=["search"])

    with pytest.raises(ConfigError, match=r"no key 'nope'.*winnow keys list"):
        revoke_key(path, "nope")


def test_admin_includes_search_but_not_the_other_way_round():
    assert a_key(scopes=("admin",)).allows("search")
    assert not a_key(scopes=("search",)).allows("admin")


def test_nobody_gets_in_with_an_empty_ring():
    assert KeyRing().find("") is None


def test_a_ring_survives_the_way_to_another_process():
    ring = KeyRing((a_key(), a_key("k2", "two", revoked=datetime(2026, 2, 3, tzinfo=UTC), rate_per_minute=0.5)))

    assert KeyRing.from_json(ring.to_json()) == ring


def test_the_file_is_its_owners_alone_from_the_start_and_after_a_change(path):
    token = create_key(path, name="n", scopes=["search"])
    created = stat.S_IMODE(path.stat().st_mode)
    revoke_key(path, read_keys(path).find(token).key_id)

    assert (created, stat.S_IMODE(path.stat().st_mode)) == (0o600, 0o600)
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()} == {0o600}


@pytest.mark.parametrize(("mode", "is_warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_a_file_that_others_may_read_is_warned_about(path, caplog, mode, is_warned):
    create_key(path, name="n", scopes=["search"])
    path.chmod(mode)

    with caplog.at_level(logging.WARNING):
        read_keys(path)

    assert ("chmod 600" in caplog.text) == is_warned


def test_keys_made_at_the_same_time_are_all_there(path):
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda number: create_key(path, name=f"n{number}", scopes=["search"]), range(16)))

    ring = read_keys(path)
    assert all(ring.find(token) for token in tokens)


def test_a_file_behind_a_link_is_changed_in_its_place(path, tmp_path):
    create_key(path, name="first", scopes=["search"])
    link = tmp_path / "link.json"
    link.symlink_to(path)

    create_key(link, name="second", scopes=["search"])

    assert link.is_symlink()
    assert [key.name for key in read_keys(path).keys] == ["first", "second"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "Invalid JSON"),
        (b"[", "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"{}", "valid array"),
        (b"null", "valid array"),
        (b"[" * 100_000, "Invalid JSON"),
        ([{**ROW, "sha256": HASH[:-1]}], "0.sha256"),
        ([{**ROW, "sha256": HASH.upper()}], "0.sha256"),
        ([{**ROW, "sha256": HASH + "\n"}], "0.sha256"),
        ([{**ROW, "sha256": None}], "0.sha256"),
        ([{**ROW, "scopes": []}], "0.scopes"),
        ([{**ROW, "scopes": ["root"]}], "0.scopes.0"),
        ([{**ROW, "scopes": "admin"}], "0.scopes"),
        ([{**ROW, "created": "2026-01-02T03:04:05"}], "0.created"),
        ([{**ROW, "revoked": "yes"}], "0.revoked"),
        ([{**ROW, "rate_per_minute": 0}], "0.rate_per_minute"),
        (json.dumps([{**ROW, "rate_per_minute": float("inf")}]).encode(), "rate_per_minute"),
        ([{**ROW, "key_id": "a b"}], "0.key_id"),
        ([{**ROW, "name": "two\nlines"}], "0.name"),
        ([{**ROW, HASH: 1}], "0: Unexpected keyword"),
        ([ROW, {**ROW, "sha256": "0" * 64}], "same key_id"),
        ([ROW, {**ROW, "key_id": "k2"}], "same sha256"),
        ([{key: value for key, value in ROW.items() if key != "sha256"}], "0.sha256"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else None,
)
def test_a_malformed_file_is_refused_without_repeating_it(tmp_path, content, expected):
    path = tmp_path / "keys.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())

    with pytest.raises(ConfigError) as refused:
        read_keys(path)

    assert expected in str(refused.value)
    assert str(path) in str(refused.value)
    assert HASH[:10] not in str(refused.value).lower()
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_a_damaged_file_is_left_alone_by_a_new_key(tmp_path):
    path = tmp_path / "keys.json"
    path.write_text("[damaged")

    with pytest.raises(ConfigError, match="Invalid JSON"):
        create_key(path, name="n", scopes=["search"])

    assert path.read_text() == "[damaged"


def test_a_missing_file_says_how_to_make_one(path):
    with pytest.raises(ConfigError, match="make one with `winnow keys create`"):
        read_keys(path)
    with pytest.raises(ConfigError, match="make one with `winnow keys create`"):
        revoke_key(path, "k1")


def test_a_directory_is_no_key_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_keys(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "", "scopes": ["search"]},
        {"name": "x" * 101, "scopes": ["search"]},
        {"name": "two\nlines", "scopes": ["search"]},
        {"name": "\ud800", "scopes": ["search"]},
        {"name": "n", "scopes": []},
        {"name": "n", "scopes": ["root"]},
        {"name": "n", "scopes": ["search"], "rate_per_minute": 0},
        {"name": "n", "scopes": ["search"], "rate_per_minute": float("nan")},
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_key_that_could_not_be_read_again_is_not_made(path, settings):
    with pytest.raises(ConfigError):
        create_key(path, **settings)

    assert not path.exists()


def test_a_key_shows_no_secret_in_text():
    key = a_key()

    assert HASH not in repr(key) + str(key) + f"{KeyRing((key,))!r}"
    assert "k1" in repr(key)


def test_the_command_prints_the_token_alone_and_the_list_no_secret(path, capsys):
    keys_step.create(path, name="team a", scopes=["search", "admin"], rate_per_minute=30)
    token = capsys.readouterr().out.strip()
    key_id = read_keys(path).find(token).key_id
    keys_step.revoke(path, key_id)
    keys_step.show(path)

    listed = capsys.readouterr().out
    assert (
        listed.splitlines()[0] == f"key {key_id} (team a) is revoked; servers that read {path} refuse it within seconds"
    )
    assert listed.splitlines()[2].split()[:3] == [key_id, "search,admin", "30"]
    assert "revoked" in listed.splitlines()[2]
    assert token not in listed
    assert hashlib.sha256(token.encode()).hexdigest() not in listed
