"""The rate limit against its promise: never more than limit x time + burst, whatever the replicas do; never nobody."""

import asyncio
import logging
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow.api.rates import LeasedRates, RateLimiter, TokenBucket, burst_of

LIMITS = st.sampled_from([0.5, 1.0, 6.0, 60.0, 90.0, 600.0, 60_000.0])
STEPS = st.sampled_from([0.0, 0.001, 0.05, 0.4, 1.0, 1.5, 20.0, 300.0])


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Replicas:
    """Several replicas over one limiter; the answer to a lease comes when the test lets it."""

    def __init__(self, count, per_minute):
        self.clock = Clock()
        self.per_minute = per_minute
        self.limiter = RateLimiter(clock=self.clock)
        self.rates = [LeasedRates(self.lease, clock=self.clock) for _ in range(count)]
        self.on_the_way = []
        self.num_leases = 0
        self.admitted = []

    async def lease(self, key_id, per_minute, amount):
        self.num_leases += 1
        answer = self.limiter.lease(key_id, per_minute, amount)
        arrival = asyncio.Event()
        self.on_the_way.append(arrival)
        await arrival.wait()
        return answer

    async def request(self, replica):
        wait_s = await self.rates[replica].take("key", self.per_minute)
        if wait_s == 0:
            self.admitted.append(self.clock.now)
        return wait_s

    async def settle(self, tasks):
        """What ``tasks`` told, once all their leases have arrived."""
        while not all(task.done() for task in tasks):
            while self.on_the_way:
                self.on_the_way.pop(0).set()
            await asyncio.sleep(0)
        return [task.result() for task in tasks]

    async def answer(self, replica):
        return (await self.settle([asyncio.create_task(self.request(replica))]))[0]


def most_in(admitted, per_second, *, slack):
    """By how much the busiest window exceeds what its length allows."""
    return max(
        (last - first + 1) - per_second * (admitted[last] - admitted[first]) - slack
        for first in range(len(admitted))
        for last in range(first, len(admitted))
    )


@settings(max_examples=150, deadline=None)
@given(
    per_minute=LIMITS,
    count=st.integers(1, 4),
    actions=st.lists(
        st.one_of(
            st.tuples(st.just("ask"), st.integers(0, 3), st.integers(1, 12)),
            st.tuples(st.just("wait"), STEPS),
            st.tuples(st.just("arrive"), st.integers(0, 10)),
        ),
        max_size=25,
    ),
)
def test_no_interleaving_admits_more_than_limit_times_time_plus_burst(per_minute, count, actions):
    async def play():
        replicas = Replicas(count, per_minute)
        tasks = []
        for action, *details in actions:
            if action == "ask":
                tasks += [asyncio.create_task(replicas.request(details[0] % count)) for _ in range(details[1])]
            elif action == "wait":
                replicas.clock.now += details[0]
            elif replicas.on_the_way:
                replicas.on_the_way.pop(details[0] % len(replicas.on_the_way)).set()
            for _ in range(3):
                await asyncio.sleep(0)
        await replicas.settle(tasks)
        return replicas

    replicas = asyncio.run(play())

    burst = max(1, per_minute / 6)
    for number, moment in enumerate(replicas.admitted, start=1):
        assert number <= per_minute / 60 * (moment - 1000.0) + burst + 1e-3


@settings(max_examples=150, deadline=None)
@given(
    per_minute=LIMITS,
    count=st.integers(1, 4),
    actions=st.lists(st.tuples(st.integers(0, 3), STEPS), max_size=60),
    last=st.integers(0, 3),
)
def test_no_window_exceeds_the_limit_by_more_than_burst_and_a_second_and_nobody_starves(
    per_minute, count, actions, last
):
    async def play():
        replicas = Replicas(count, per_minute)
        for replica, step in actions:
            await replicas.answer(replica % count)
            replicas.clock.now += step
        wait_s = await replicas.answer(last % count)
        replicas.clock.now += wait_s
        return replicas, await replicas.answer(last % count) if wait_s else 0.0

    replicas, second_wait_s = asyncio.run(play())

    slack = max(1, per_minute / 6) + per_minute / 60
    assert most_in(replicas.admitted, per_minute / 60, slack=slack) <= 1e-3
    assert second_wait_s == 0.0


def test_an_idle_key_may_burst_and_is_then_told_when_to_come_again():
    clock = Clock()
    limiter = RateLimiter(clock=clock)

    waits = [limiter.take("key", 60) for _ in range(12)]

    assert waits == [0.0] * 10 + [pytest.approx(1.0)] * 2
    clock.now += 1.0
    assert limiter.take("key", 60) == 0.0


def test_keys_do_not_share_their_limit():
    limiter = RateLimiter(clock=Clock())

    assert [limiter.take(key, 1) for key in ("a", "b", "a")] == [0.0, 0.0, pytest.approx(60.0)]


def test_a_limit_that_is_raised_or_lowered_counts_from_now_on():
    clock = Clock()
    limiter = RateLimiter(clock=clock)
    limiter.lease("key", 6000, 1)

    lowered, _ = limiter.lease("key", 60, 1000)
    raised, _ = limiter.lease("key", 6000, 1000)

    assert (lowered, raised) == (10, 0)


def test_a_clock_that_goes_back_gives_nothing_away():
    bucket = TokenBucket(60, now=100.0)
    bucket.lease(10, now=100.0)

    assert bucket.lease(1, now=50.0)[0] == 0
    assert bucket.lease(1, now=100.5)[0] == 0


@pytest.mark.parametrize(("per_minute", "burst"), [(0.1, 1), (6, 1), (60, 10), (600, 100)])
def test_the_burst_is_ten_seconds_worth_and_at_least_one(per_minute, burst):
    assert burst_of(per_minute) == pytest.approx(burst)


def test_a_steady_caller_below_the_limit_is_never_refused_and_rarely_costs_a_round_trip():
    async def play():
        replicas = Replicas(2, 6000.0)
        draws = random.Random(7)
        waits = []
        for _ in range(1800):
            waits.append(await replicas.answer(draws.randrange(2)))
            replicas.clock.now += 1 / 60
        return waits, replicas.num_leases

    waits, num_leases = asyncio.run(play())

    assert set(waits) == {0.0}
    assert num_leases < 1800 / 8


def test_a_slow_caller_at_its_limit_loses_nothing_to_leases():
    async def play():
        replicas = Replicas(3, 30.0)
        draws = random.Random(8)
        waits = []
        for _ in range(200):
            waits.append(await replicas.answer(draws.randrange(3)))
            replicas.clock.now += 2.0
        return waits

    assert set(asyncio.run(play())) == {0.0}


def test_what_was_leased_and_not_spent_within_a_second_is_not_saved_up():
    async def play():
        replicas = Replicas(2, 600.0)
        for _ in range(40):
            await replicas.answer(0)
        replicas.clock.now += 1.0
        before = replicas.num_leases
        await replicas.answer(0)
        return before, replicas.num_leases

    before, after = asyncio.run(play())

    # The last lease was for many more than were asked then.
    assert after == before + 1


def test_a_flood_of_a_refused_key_is_answered_without_asking():
    async def play():
        replicas = Replicas(1, 1.0)
        waits = [await replicas.answer(0) for _ in range(100)]
        return waits, replicas.num_leases

    waits, num_leases = asyncio.run(play())

    assert waits == [0.0] + [pytest.approx(60.0)] * 99
    assert num_leases == 2


def test_a_request_that_is_given_up_while_it_waits_blocks_nobody():
    async def play():
        replicas = Replicas(1, 60.0)
        given_up = asyncio.create_task(replicas.request(0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        return await replicas.answer(0)

    assert asyncio.run(play()) == 0.0


def test_without_the_limiter_a_replica_keeps_to_the_limit_by_itself(caplog):
    async def broken(key_id, per_minute, amount):
        raise ConnectionError("secret address")

    clock = Clock()
    rates = LeasedRates(broken, clock=clock)

    async def play():
        return [await rates.take("key", 60.0) for _ in range(12)]

    with caplog.at_level(logging.WARNING):
        waits = asyncio.run(play())

    assert waits == [0.0] * 10 + [pytest.approx(1.0)] * 2
    assert len(caplog.records) == 1
    assert "secret" not in caplog.text
