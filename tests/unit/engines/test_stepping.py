"""The thread that keeps a model full, around a model of a few lines."""

import asyncio
import threading

import pytest

from winnow.engines.protocol import EngineDeadError
from winnow.engines.stepping import SteppingThread


class Countdown:
    """A request is a number of steps; its output is how many requests were there when it came and when it ended."""

    def __init__(self):
        self.left = {}
        self.begun = {}
        self.num_steps = 0
        self.dropped = []
        self.is_closed = False
        self.thread = threading.current_thread()
        self.go = threading.Event()
        self.go.set()

    def add(self, key, steps):
        if steps == 0:
            raise ValueError("a request of no steps")
        if steps == -3:
            raise SystemExit(3)
        self.left[key] = steps
        self.begun[key] = len(self.left)

    def step(self):
        assert threading.current_thread() is self.thread
        self.go.wait(5)
        self.num_steps += 1
        if -1 in self.left.values():
            raise MemoryError("nothing left")
        if -2 in self.left.values():
            raise SystemExit(2)
        number = len(self.left)
        self.left = {key: steps - 1 for key, steps in self.left.items()}
        done = [key for key, steps in self.left.items() if steps == 0]
        for key in done:
            del self.left[key]
        return [(key, (self.begun[key], number)) for key in done]

    def drop(self, key):
        self.dropped.append(key)
        del self.left[key]

    def close(self):
        self.is_closed = True


class Running:
    """A thread with its model, closed at the end."""

    def __enter__(self):
        self.thread = SteppingThread(self._build)
        return self

    def _build(self):
        self.model = Countdown()
        return self.model

    def __exit__(self, *_):
        self.model.go.set()
        self.thread.close()


def test_requests_that_come_while_others_are_worked_on_join_them():
    async def ask(running):
        running.model.go.clear()
        long = asyncio.create_task(running.thread.answer(10))
        await asyncio.sleep(0.05)
        short = [asyncio.create_task(running.thread.answer(1)) for _ in range(3)]
        await asyncio.sleep(0.05)
        running.model.go.set()
        return (await long)[0], [(await one)[0] for one in short]

    with Running() as running:
        long, short = asyncio.run(ask(running))

    assert long[0] == 1
    assert {num_together for _, num_together in short} == {4}
    assert running.model.num_steps <= 11


def test_seconds_add_up_to_the_time_at_work():
    async def ask(running):
        running.model.go.clear()
        tasks = [asyncio.create_task(running.thread.answer(1)) for _ in range(4)]
        await asyncio.sleep(0.3)
        running.model.go.set()
        return [(await task)[1] for task in tasks]

    with Running() as running:
        seconds = asyncio.run(ask(running))

    assert sum(seconds) == pytest.approx(0.3, abs=0.15)


def test_a_request_that_is_refused_fails_alone():
    async def ask(running):
        return await asyncio.gather(
            running.thread.answer(2), running.thread.answer(0), running.thread.answer(2), return_exceptions=True
        )

    with Running() as running:
        first, refused, last = asyncio.run(ask(running))

    assert isinstance(refused, ValueError)
    assert first[0][0] == 1
    assert last[0][0] == 2


def test_a_model_that_is_lost_ends_all_requests_and_later_ones_with_the_reason():
    async def ask(running):
        together = await asyncio.gather(*map(running.thread.answer, [5, -1, 5]), return_exceptions=True)
        later = await asyncio.gather(running.thread.answer(1), return_exceptions=True)
        return together + later

    with Running() as running:
        errors = asyncio.run(ask(running))

    assert [type(error) for error in errors] == [EngineDeadError] * 4
    assert {str(error) for error in errors} == {"the engine stopped working (MemoryError: nothing left)"}


def test_a_request_nobody_waits_for_any_more_is_dropped():
    async def ask(running):
        running.model.go.clear()
        task = asyncio.create_task(running.thread.answer(10**9))
        await asyncio.sleep(0.05)
        task.cancel()
        running.model.go.set()
        output, _ = await running.thread.answer(1)
        return output

    with Running() as running:
        asyncio.run(ask(running))

    assert running.model.dropped == [0]
    assert running.model.left == {}


def test_every_event_loop_may_ask():
    with Running() as running:
        outputs = [asyncio.run(running.thread.answer(1))[0] for _ in range(3)]

    assert outputs == [(1, 1)] * 3


def test_closing_frees_the_model_and_refuses_what_waits_and_what_comes():
    async def ask(running):
        waiting = asyncio.create_task(running.thread.answer(10**9))
        await asyncio.sleep(0.05)
        running.thread.close()
        running.thread.close()
        return await asyncio.gather(waiting, running.thread.answer(1), return_exceptions=True)

    with Running() as running:
        errors = asyncio.run(ask(running))

    assert [str(error) for error in errors] == ["the engine was closed"] * 2
    assert running.model.is_closed


def test_a_model_that_cannot_be_loaded_says_why():
    def build():
        raise OSError("no weights here")

    with pytest.raises(OSError, match="no weights here"):
        SteppingThread(build)


@pytest.mark.parametrize(("request_", "problem"), [(-2, "SystemExit: 2"), (-3, "SystemExit: 3")])
def test_a_library_that_exits_is_heard_of_by_all_who_wait_and_by_who_comes_later(request_, problem):
    async def ask(running):
        running.model.go.clear()
        waiting = [asyncio.ensure_future(running.thread.answer(steps)) for steps in (5, request_, 5)]
        await asyncio.sleep(0.05)
        running.model.go.set()
        answers = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
        return [*answers, *await asyncio.gather(running.thread.answer(1), return_exceptions=True)]

    with Running() as running:
        answers = asyncio.run(ask(running))

    assert [type(answer) for answer in answers] == [EngineDeadError] * 4
    assert all(problem in str(answer) for answer in answers)
    assert running.model.is_closed


def test_a_library_that_exits_while_it_loads_is_an_error_of_the_engine():
    def build():
        raise SystemExit("no device")

    with pytest.raises(EngineDeadError, match=r"could not be loaded \(SystemExit: no device\)"):
        SteppingThread(build)


def test_what_is_handed_in_while_the_engine_closes_is_refused_and_never_waits():
    """Many times, so that one of them falls into the moment in which the thread ends."""

    async def race():
        thread = SteppingThread(Countdown)
        closing = asyncio.get_running_loop().run_in_executor(None, thread.close)
        answers = asyncio.gather(*(thread.answer(10**6) for _ in range(5)), return_exceptions=True)
        answers = await asyncio.wait_for(answers, 5)
        await closing
        return answers

    for _ in range(50):
        assert {type(answer) for answer in asyncio.run(race())} == {EngineDeadError}
