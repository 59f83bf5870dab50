"""How the time of an engine is split among its requests."""

import itertools
import random

import pytest

from winnow.engines.meter import BusyMeter


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_request_alone_pays_for_its_time(clock):
    meter = BusyMeter(clock)
    mark = meter.start()
    clock.now += 3

    assert meter.stop(mark) == pytest.approx(3)


def test_requests_that_overlap_share_the_time_in_which_they_do(clock):
    meter = BusyMeter(clock)
    first = meter.start()
    clock.now += 2  # alone
    second = meter.start()
    clock.now += 4  # two share
    share_of_first = meter.stop(first)
    clock.now += 1  # alone again

    assert share_of_first == pytest.approx(2 + 2)
    assert meter.stop(second) == pytest.approx(2 + 1)


def test_idle_time_is_nobodys(clock):
    meter = BusyMeter(clock)
    clock.now += 1000
    mark = meter.start()
    clock.now += 1
    meter.stop(mark)
    clock.now += 1000
    mark = meter.start()
    clock.now += 2

    assert meter.stop(mark) == pytest.approx(2)


def test_the_shares_add_up_to_the_time_with_requests_in_flight(clock):
    meter, draws = BusyMeter(clock), random.Random(5)
    marks, shares, busy_s = [], [], 0.0
    for _ in range(500):
        step = draws.expovariate(1.0)
        clock.now += step
        busy_s += step if marks else 0.0
        if marks and draws.random() < 0.5:
            shares.append(meter.stop(marks.pop(draws.randrange(len(marks)))))
        else:
            marks.append(meter.start())
    shares += [meter.stop(mark) for mark in marks]

    assert sum(shares) == pytest.approx(busy_s)
    assert all(share >= 0 for share in shares)


def test_many_equal_requests_pay_equally(clock):
    meter = BusyMeter(clock)
    marks = [meter.start() for _ in range(10)]
    clock.now += 5
    shares = list(itertools.starmap(meter.stop, [[mark] for mark in marks]))

    assert shares == pytest.approx([0.5] * 10)
