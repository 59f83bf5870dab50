"""Forming batches: everyone gets what is theirs, whatever else arrives, fails or goes away."""

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow.api.protocol import NotReadyError
from winnow.serving.batching import Batcher


class PoisonedError(Exception):
    pass


class Recorder:
    """Answers each item with itself and keeps the batches it saw. ``gate`` holds the first one until it is opened."""

    def __init__(self, *, poisoned=()):
        self.batches = []
        self.threads = set()
        self.gate = threading.Event()
        self.entered = threading.Event()
        self._poisoned = set(poisoned)

    def __call__(self, items):
        self.batches.append(list(items))
        self.threads.add(threading.get_ident())
        self.entered.set()
        assert self.gate.wait(10)
        if bad := self._poisoned.intersection(items):
            raise PoisonedError(sorted(bad))
        return [("answer to", item) for item in items]


async def running(recorder, max_tokens=100, max_searches=100):
    batcher = Batcher(recorder, max_tokens=max_tokens, max_searches=max_searches)
    batcher.start()
    return batcher


async def submit_behind_one(batcher, recorder, requests):
    """Tasks of ``requests``, all of which arrive while an item called "first" is computed."""
    first = asyncio.create_task(batcher.submit("first", lengths=[1], num_searches=1))
    await asyncio.to_thread(recorder.entered.wait, 10)
    tasks = [
        asyncio.create_task(batcher.submit(item, lengths=lengths, num_searches=len(lengths)))
        for item, lengths in requests
    ]
    await asyncio.sleep(0)
    return first, tasks


def test_an_item_that_finds_the_worker_idle_is_computed_at_once_and_alone():
    async def act():
        recorder = Recorder()
        recorder.gate.set()
        batcher = await running(recorder)
        answers = [await batcher.submit(item, lengths=[3], num_searches=1) for item in ("a", "b")]
        await batcher.stop(timeout_s=5)
        return recorder, answers

    recorder, answers = asyncio.run(act())

    assert answers == [("answer to", "a"), ("answer to", "b")]
    assert recorder.batches == [["a"], ["b"]]
    assert len(recorder.threads) == 1
    assert recorder.threads != {threading.get_ident()}


def test_what_arrives_meanwhile_is_computed_together_within_the_tokens_padding_included():
    async def act():
        recorder = Recorder()
        batcher = await running(recorder, max_tokens=20)
        requests = [("a", [4, 4]), ("b", [5]), ("c", [5]), ("d", [6]), ("long", [30]), ("e", [1]), ("f", [])]
        first, tasks = await submit_behind_one(batcher, recorder, requests)
        recorder.gate.set()
        await asyncio.gather(first, *tasks)
        await batcher.stop(timeout_s=5)
        return recorder.batches

    # a, b and c are 4 rows of 5 tokens; with d it would be 5 rows of 6. What is longer than all goes alone.
    assert asyncio.run(act()) == [["first"], ["a", "b", "c"], ["d"], ["long"], ["e", "f"]]


def test_searches_that_encode_nothing_are_bounded_too():
    async def act():
        recorder = Recorder()
        batcher = await running(recorder, max_searches=10)
        first = asyncio.create_task(batcher.submit("first", lengths=[1], num_searches=1))
        await asyncio.to_thread(recorder.entered.wait, 10)
        sizes = {"a": 4, "b": 6, "c": 1, "large": 11, "d": 9, "vectors": 0, "e": 1}
        tasks = [
            asyncio.create_task(batcher.submit(item, lengths=[], num_searches=size)) for item, size in sizes.items()
        ]
        await asyncio.sleep(0)
        recorder.gate.set()
        await asyncio.gather(first, *tasks)
        await batcher.stop(timeout_s=5)
        return recorder.batches

    assert asyncio.run(act()) == [["first"], ["a", "b"], ["c"], ["large"], ["d", "vectors", "e"]]


def test_an_item_that_fails_fails_alone():
    async def act():
        recorder = Recorder(poisoned={"bad"})
        batcher = await running(recorder)
        first, tasks = await submit_behind_one(batcher, recorder, [("a", [1]), ("bad", [1]), ("b", [1])])
        recorder.gate.set()
        outcomes = await asyncio.gather(first, *tasks, return_exceptions=True)
        await batcher.stop(timeout_s=5)
        return recorder.batches, outcomes

    batches, (_, a, bad, b) = asyncio.run(act())

    assert (a, b) == (("answer to", "a"), ("answer to", "b"))
    assert isinstance(bad, PoisonedError)
    assert batches == [["first"], ["a", "bad", "b"], ["a"], ["bad"], ["b"]]


def test_who_goes_away_before_the_batch_is_formed_is_not_computed():
    async def act():
        recorder = Recorder()
        batcher = await running(recorder)
        first, tasks = await submit_behind_one(batcher, recorder, [("a", [1]), ("gone", [1]), ("b", [1])])
        tasks[1].cancel()
        await asyncio.sleep(0)
        recorder.gate.set()
        outcomes = await asyncio.gather(first, tasks[0], tasks[2])
        await batcher.stop(timeout_s=5)
        return recorder.batches, outcomes

    batches, outcomes = asyncio.run(act())

    assert batches == [["first"], ["a", "b"]]
    assert outcomes == [("answer to", "first"), ("answer to", "a"), ("answer to", "b")]


def test_who_goes_away_while_it_is_computed_harms_nobody():
    async def act():
        recorder = Recorder()
        batcher = await running(recorder)
        first, (a,) = await submit_behind_one(batcher, recorder, [("a", [1])])
        first.cancel()
        recorder.gate.set()
        answer = await a
        await batcher.stop(timeout_s=5)
        return first.cancelled(), answer

    assert asyncio.run(act()) == (True, ("answer to", "a"))


def test_a_stop_lets_what_was_submitted_end_and_refuses_what_comes_later():
    async def act():
        recorder = Recorder()
        batcher = await running(recorder)
        first, tasks = await submit_behind_one(batcher, recorder, [("a", [1])])
        stopping = asyncio.create_task(batcher.stop(timeout_s=5))
        await asyncio.sleep(0)
        with pytest.raises(NotReadyError):
            await batcher.submit("late", lengths=[1], num_searches=1)
        recorder.gate.set()
        await stopping
        return await asyncio.gather(first, *tasks)

    assert asyncio.run(act()) == [("answer to", "first"), ("answer to", "a")]


def test_a_computation_that_hangs_does_not_hold_up_the_stop():
    async def act():
        recorder = Recorder()
        batcher = await running(recorder)
        hanging, _ = await submit_behind_one(batcher, recorder, [])
        await batcher.stop(timeout_s=0.05)
        still_hangs = not hanging.done()
        hanging.cancel()
        recorder.gate.set()
        return still_hangs

    assert asyncio.run(act())


requests = st.lists(
    st.tuples(
        st.lists(st.integers(1, 30), max_size=3),  # lengths of the rows
        st.sampled_from(["waits", "waits", "waits", "goes away", "fails"]),
        st.booleans(),  # whether the event loop gets a turn before the next one
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(requests=requests, max_tokens=st.integers(1, 60), max_searches=st.integers(1, 8))
def test_each_gets_its_own_result_or_its_own_error_in_any_company(requests, max_tokens, max_searches):
    lengths_of = {number: lengths for number, (lengths, _, _) in enumerate(requests)}
    fate_of = {number: fate for number, (_, fate, _) in enumerate(requests)}
    recorder = Recorder(poisoned={number for number, fate in fate_of.items() if fate == "fails"})

    async def act():
        batcher = await running(recorder, max_tokens, max_searches)
        if requests and requests[0][2]:
            recorder.gate.set()
        tasks = []
        for number, (lengths, _, has_turn) in enumerate(requests):
            tasks.append(asyncio.create_task(batcher.submit(number, lengths=lengths, num_searches=1)))
            if has_turn:
                await asyncio.sleep(0)
        for number, fate in fate_of.items():
            if fate == "goes away":
                tasks[number].cancel()
        recorder.gate.set()
        outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        await batcher.stop(timeout_s=5)
        return outcomes

    outcomes = asyncio.run(act())

    for number, outcome in enumerate(outcomes):
        if fate_of[number] == "fails":
            assert isinstance(outcome, PoisonedError)
            assert outcome.args == ([number],)
        elif fate_of[number] == "waits":
            assert outcome == ("answer to", number)
    together = [batch for batch in recorder.batches if len(batch) > 1]
    for batch in together:
        rows = [length for number in batch for length in lengths_of[number]]
        assert len(rows) * max(rows, default=0) <= max_tokens
        assert len(batch) <= max_searches
    first_tries = list(dict.fromkeys(number for batch in recorder.batches for number in batch))
    assert first_tries == sorted(first_tries)
