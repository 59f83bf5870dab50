"""What endpoints that share a cache need of it is kept, and nothing else for long."""

import asyncio
import errno
import json
import os
import threading
import time

import pytest
from tiny_versions import write_bare_version

from winnow.retrieval.keeping import keep_version, locked
from winnow.serving import claims
from winnow.serving.claims import Claim

LONG_AGO = time.time() - 86_400
VERY_LONG_AGO = time.time() - 8 * 86_400


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def keep(tmp_path, cache):
    """Keeps a version for each word, as if it had been asked for long ago; their ids."""

    def keep(*words):
        kept = [keep_version(write_bare_version(tmp_path / word, word), cache) for word in words]
        for path in kept:
            os.utime(path, (LONG_AGO, LONG_AGO))
        return [path.name for path in kept]

    return keep


def left(cache):
    return {path.name for path in (cache / "versions").iterdir() if not path.name.endswith(".lock")}


def test_an_endpoint_needs_what_it_serves_and_what_it_served_before(cache, keep):
    endpoint, held = Claim(cache, "one"), []
    for word in "abcbc":
        (version,) = keep(word)
        endpoint.want(version)
        endpoint.serve(version)
        held.append(left(cache))

    a, b, c = keep("a", "b", "c")
    assert held == [{a}, {a, b}, {b, c}, {b, c}, {b, c}]


def test_an_endpoint_that_starts_again_still_needs_what_it_served_before(cache, keep):
    a, b = keep("a", "b")
    Claim(cache, "one").want(b)
    Claim(cache, "one").serve(a)
    Claim(cache, "one").serve(b)
    Claim(cache, "one").serve(b)

    assert left(cache) == {a, b}


def test_what_another_endpoint_serves_served_before_or_wants_is_left_alone(cache, keep):
    a, b, c, d, _ = keep("a", "b", "c", "d", "e")
    (cache / "claim-other.json").write_text(json.dumps({"serves": b, "before": c, "wants": [d]}))

    Claim(cache, "one").serve(a)

    assert left(cache) == {a, b, c, d}


def test_what_an_endpoint_began_with_is_claimed_also_if_it_is_asked_for_another_before_it_says_that_it_serves_it(
    cache, keep
):
    a, b, refused, c = keep("a", "b", "refused", "c")
    endpoint, other = Claim(cache, "one"), Claim(cache, "other")
    for version in (a, b, refused, c):
        endpoint.want(version)
    other.serve(b)
    before = left(cache)

    endpoint.serve(c)

    assert before == {a, b, refused, c}
    assert left(cache) == {b, c}


def test_what_is_wanted_while_the_one_before_becomes_served_stays_claimed(cache, keep):
    a, b = keep("a", "b")
    endpoint = Claim(cache, "one")
    endpoint.want(a)
    endpoint.want(b)
    endpoint.serve(a)

    assert left(cache) == {a, b}


def test_two_threads_of_an_endpoint_lose_nothing(cache):
    endpoint, start = Claim(cache, "one"), threading.Barrier(2)

    def say(call, versions):
        start.wait()
        for version in versions:
            call(version)

    served, wanted = ([f"{kind}{number}" for number in range(50)] for kind in ("s", "w"))
    threads = [threading.Thread(target=say, args=args) for args in ((endpoint.want, wanted), (endpoint.serve, served))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    said = json.loads((cache / "claim-one.json").read_text())
    assert said == {"serves": "s49", "before": "s48", "wants": wanted}


def test_what_somebody_asked_for_a_moment_ago_is_not_deleted_before_he_can_say_that_he_needs_it(cache, keep, tmp_path):
    a, b = keep("a", "b")
    keep_version(tmp_path / "b", cache)

    Claim(cache, "one").serve(a)

    assert left(cache) == {a, b}


def test_what_somebody_is_just_putting_there_is_left_alone(cache, keep):
    a, b = keep("a", "b")
    with locked(cache / "versions" / b):
        Claim(cache, "one").serve(a)

    assert left(cache) == {a, b}


@pytest.mark.parametrize(
    ("last_heard", "is_needed"), [(LONG_AGO, True), (VERY_LONG_AGO, False)], ids=["a day", "eight days"]
)
def test_an_endpoint_that_was_not_heard_of_for_a_week_needs_nothing(cache, keep, last_heard, is_needed):
    a, b = keep("a", "b")
    Claim(cache, "other").serve(b)
    keep("a")
    os.utime(cache / "claim-other.json", (last_heard, last_heard))

    Claim(cache, "one").serve(a)

    assert left(cache) == ({a, b} if is_needed else {a})
    assert (cache / "claim-other.json").exists() == is_needed


def test_an_endpoint_that_lives_is_heard_of(cache, keep, monkeypatch):
    monkeypatch.setattr(claims, "_RENEW_EVERY_S", 0.01)
    Claim(cache, "one").want(*keep("a"))
    path = cache / "claim-one.json"
    os.utime(path, (VERY_LONG_AGO, VERY_LONG_AGO))

    async def act():
        renewing = asyncio.create_task(Claim(cache, "one").keep_renewing())
        async with asyncio.timeout(10):
            while path.stat().st_mtime == VERY_LONG_AGO:
                await asyncio.sleep(0.01)
        renewing.cancel()

    asyncio.run(act())

    assert time.time() - path.stat().st_mtime < 60


def test_what_a_killed_process_left_half_done_is_deleted_unless_somebody_is_at_it(cache, keep):
    (a,) = keep("a")
    folder = cache / "versions"
    for name in (f".{a}.0123abcd", ".winnow-7-aaaaaaaa.89abcdef", ".winnow-8-aaaaaaaa.89abcdef"):
        (folder / name / "encoder").mkdir(parents=True)
    with locked(folder / "winnow-8-aaaaaaaa"):
        Claim(cache, "one").serve(a)

    assert left(cache) == {a, ".winnow-8-aaaaaaaa.89abcdef"}


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_where_a_claim_cannot_be_read_nothing_is_deleted(cache, keep, text, caplog):
    a, b = keep("a", "b")
    (cache / "claim-other.json").write_text(text)

    Claim(cache, "one").serve(a)

    assert left(cache) == {a, b}
    assert "are not deleted now" in caplog.text


def test_without_a_claim_of_its_own_an_endpoint_goes_on_and_deletes_nothing(cache, keep, caplog, monkeypatch):
    a, b = keep("a", "b")

    def full_disk(path, value):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(claims, "write_json", full_disk)
    endpoint = Claim(cache, "one")
    endpoint.want(a)
    endpoint.serve(a)

    assert left(cache) == {a, b}
    assert "cannot be claimed" in caplog.text
