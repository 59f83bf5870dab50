"""What happens to what is served when an alias of the registry is moved."""

import asyncio
import logging

import pytest

from winnow.api.protocol import SwapBusyError, SwapRefusedError
from winnow.errors import DataError
from winnow.retrieval.reference import Located
from winnow.serving.following import AliasFollower

ALIAS = "winnow@champion"


class Registry:
    """An alias that can be moved, and a registry that can be away."""

    def __init__(self, number):
        self.named = number
        self.fails = None

    def number(self, reference):
        assert reference == ALIAS
        return self.named

    def fetch(self, reference):
        if self.fails:
            raise self.fails
        return Located(f"/versions/{self.named}", self.named)


class Endpoint:
    """Counts swaps; refuses them with ``fails``."""

    def __init__(self):
        self.swapped = []
        self.fails = None
        self.news = []

    async def take(self, reference, located):
        self.swapped.append((reference, located.number))
        if self.fails:
            raise self.fails


@pytest.fixture
def registry():
    return Registry("7")


@pytest.fixture
def endpoint():
    return Endpoint()


@pytest.fixture
def follower(registry, endpoint):
    return AliasFollower(
        registry,
        ALIAS,
        seen="7",
        take=endpoint.take,
        unmoved=lambda: endpoint.news.append("unmoved"),
        moved=lambda: endpoint.news.append("moved"),
    )


def look(follower, *, times=1):
    async def act():
        for _ in range(times):
            await follower.look()

    asyncio.run(act())


def test_a_moved_alias_swaps_once(follower, registry, endpoint):
    look(follower)
    registry.named = "8"
    look(follower, times=3)

    assert endpoint.swapped == [(ALIAS, "8")]
    assert endpoint.news == ["unmoved", "moved", "unmoved", "unmoved"]
    assert follower.seen == "8"


def test_while_the_registry_is_away_nothing_changes(follower, registry, endpoint):
    registry.named = None

    look(follower, times=3)

    assert (endpoint.swapped, endpoint.news, follower.seen) == ([], [], "7")


def test_a_version_that_is_refused_is_not_tried_again_until_the_next_move(follower, registry, endpoint, caplog):
    registry.named, endpoint.fails = "8", SwapRefusedError("8 is broken")
    with caplog.at_level(logging.WARNING, logger="winnow.api"):
        look(follower, times=3)
    assert endpoint.swapped == [(ALIAS, "8")]
    assert "8 is broken; the version served before goes on" in caplog.text

    registry.named, endpoint.fails = "9", None
    look(follower)

    assert len(endpoint.swapped) == 2
    assert follower.seen == "9"


@pytest.mark.parametrize("hindrance", ["fetching", "busy"])
def test_what_could_not_be_tried_is_tried_again(follower, registry, endpoint, hindrance):
    registry.named = "8"
    if hindrance == "fetching":
        registry.fails = DataError("the download broke off")
    else:
        endpoint.fails = SwapBusyError("another one is loading")
    look(follower, times=2)
    assert follower.seen == "7"

    registry.fails = endpoint.fails = None
    look(follower)

    assert follower.seen == "8"


def test_a_last_good_version_is_not_taken_for_the_one_that_was_moved_to(follower, registry, endpoint):
    registry.named = "8"
    registry.fetch = lambda reference: Located("/versions/7", "7", notice="the registry cannot be reached")

    look(follower)

    assert (endpoint.swapped, follower.seen) == ([], "7")


@pytest.mark.parametrize("reference", ["/versions/7", "winnow/7"])
def test_what_cannot_move_is_not_followed(registry, endpoint, reference):
    follower = AliasFollower(registry, reference, seen="7", take=endpoint.take)

    # It would never return otherwise.
    asyncio.run(asyncio.wait_for(follower.follow(every_s=0.001), timeout=5))

    assert endpoint.swapped == []


def test_following_goes_on_after_a_failure_that_nobody_planned_for(follower, registry, endpoint, caplog):
    numbers = iter([RuntimeError("strange"), "8"])

    def number(reference):
        answer = next(numbers, "8")
        if isinstance(answer, Exception):
            raise answer
        return answer

    registry.number = number
    registry.named = "8"

    async def act():
        following = asyncio.create_task(follower.follow(every_s=0.001))
        async with asyncio.timeout(5):
            while follower.seen != "8":
                await asyncio.sleep(0.001)
        following.cancel()

    asyncio.run(act())

    assert endpoint.swapped == [(ALIAS, "8")]
    assert "strange" in caplog.text
