"""Readiness follows from searches that ended lately."""

import asyncio

import pytest

from winnow.serving.watching import SearchWatch


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_nothing_is_ready_before_the_first_search():
    watch = SearchWatch(lambda: None)

    assert not watch.readiness().is_ready
    assert watch.readiness().age_s is None


def test_a_search_that_worked_makes_ready_until_it_is_5_seconds_old():
    clock = Clock()

    async def search():
        return "v1"

    async def act():
        watch = SearchWatch(search, clock=clock)
        await watch.start()
        seen = []
        for now in (101.0, 105.0, 105.1):
            clock.now = now
            seen.append(watch.readiness())
        await watch.stop()
        return seen

    fresh, still, old = asyncio.run(act())

    assert (fresh.is_ready, fresh.version, fresh.age_s) == (True, "v1", 1.0)
    assert still.is_ready
    assert not old.is_ready
    assert old.age_s == pytest.approx(5.1)
    assert old.detail == "the last search that ended is 5.1 s old; the searches after it hang, or wait"


def test_a_search_that_hangs_is_waited_for_and_asking_never_waits():
    clock = Clock()
    begun = 0

    async def search():
        nonlocal begun
        begun += 1
        if begun > 1:
            await asyncio.Event().wait()
        return "v1"

    async def act():
        watch = SearchWatch(search, every_s=0.001, clock=clock)
        await watch.start()
        await asyncio.sleep(0.05)
        clock.now += 60
        readiness = watch.readiness()
        await watch.stop()
        return readiness

    assert not asyncio.run(act()).is_ready
    assert begun == 2


def test_a_search_that_fails_says_so_without_its_details_and_the_next_one_can_make_it_good():
    fails = iter([True, False])

    async def search():
        if next(fails, False):
            raise ValueError("secret text")
        return "v2"

    async def act():
        watch = SearchWatch(search, every_s=0.01)
        await watch.start()
        first = watch.readiness()
        await asyncio.sleep(0.1)
        second = watch.readiness()
        await watch.stop()
        return first, second

    first, second = asyncio.run(act())

    assert not first.is_ready
    assert first.detail == "the last search failed (ValueError); the log of the server has the details"
    assert (second.is_ready, second.version) == (True, "v2")
