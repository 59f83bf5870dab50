"""What arrives while one batch is computed is the next batch, up to a number of tokens and of searches.

There is no timer: who finds the worker idle is computed at once, and under load batches grow by themselves. One
thread computes, so that the libraries behind it keep to their number of threads: an item costs one hop to that
thread, and a batch one hop back.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

from winnow.api.protocol import NotReadyError

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[ItemT, ResultT]):
    item: ItemT
    num_rows: int
    longest: int
    num_searches: int
    future: asyncio.Future[ResultT]


@dataclass(frozen=True, slots=True)
class _Limits:
    max_tokens: int
    max_searches: int


class Batcher(Generic[ItemT, ResultT]):
    """Computes items in batches: first come, first served, each with its own result or its own error.

    ``run`` gets a batch and returns a result for each item, in order. If it raises, it is asked again for each item
    alone, so that an item fails for no other reason than itself. ``max_tokens`` bounds the rows of a batch times
    its longest row, ``max_searches`` the searches of all its items; an item beyond either goes alone.
    """

    def __init__(
        self,
        run: Callable[[Sequence[ItemT]], Sequence[ResultT]],
        *,
        max_tokens: int,
        max_searches: int,
        set_up_thread: Callable[[], None] = lambda: None,
    ) -> None:
        self._run = run
        self._limits = _Limits(max_tokens, max_searches)
        self._set_up_thread = set_up_thread
        self._arrived: SimpleQueue[_Waiting[ItemT, ResultT] | None] = SimpleQueue()
        """``None`` is the end."""
        # A daemon, because a computation that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="winnow-batches", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_stopped = False

    def start(self) -> None:
        """Start the thread. Items may come from the event loop that runs now, and from no other."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def submit(self, item: ItemT, *, lengths: Sequence[int], num_searches: int) -> ResultT:
        """The result of ``item``, whose rows have ``lengths`` tokens; none if there is nothing to encode.

        Raises what ``run`` raises for it, and ``NotReadyError`` before ``start`` and after ``stop``.
        """
        if self._loop is None or self._is_stopped:
            raise NotReadyError("nothing is computed any more, or not yet; try again")
        future: asyncio.Future[ResultT] = self._loop.create_future()
        self._arrived.put(_Waiting(item, len(lengths), max(lengths, default=0), num_searches, future))
        return await future

    async def stop(self, *, timeout_s: float) -> None:
        """Returns when all that was submitted is computed, at the latest after ``timeout_s``."""
        self._is_stopped = True
        self._arrived.put(None)
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, timeout_s)

    def _work(self) -> None:
        self._set_up_thread()
        waiting: deque[_Waiting[ItemT, ResultT] | None] = deque()
        while self._receive(waiting):
            batch = _next_batch(waiting, self._limits)
            self._deliver(batch, self._compute([one.item for one in batch]))
            # What a batch refers to would live until the next one comes, which can be long.
            del batch

    def _receive(self, waiting: deque[_Waiting[ItemT, ResultT] | None]) -> bool:
        """Whether there is something to compute, after waiting for it if need be; false at the end."""
        if not waiting:
            waiting.append(self._arrived.get())
        waiting.extend(self._arrived.get() for _ in range(self._arrived.qsize()))
        return waiting[0] is not None

    def _compute(self, items: Sequence[ItemT]) -> Sequence[ResultT | _Failed]:
        if not items:
            return []
        try:
            results = self._run(items)
            assert len(results) == len(items)
            return results
        except Exception as error:
            if len(items) == 1:
                return [_Failed(error)]
            return [outcome for item in items for outcome in self._compute([item])]

    def _deliver(self, batch: Sequence[_Waiting[ItemT, ResultT]], outcomes: Sequence[ResultT | _Failed]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(_settle, [one.future for one in batch], outcomes)
        except RuntimeError:
            # The event loop is closed: nobody waits for this any more.
            return


def _next_batch(waiting: deque[_Waiting[ItemT, ResultT] | None], limits: _Limits) -> list[_Waiting[ItemT, ResultT]]:
    """The items at the head of ``waiting`` that fit together, taken from it; those nobody waits for are dropped."""
    batch: list[_Waiting[ItemT, ResultT]] = []
    num_rows = longest = num_searches = 0
    while waiting and (first := waiting[0]) is not None:
        if not first.future.cancelled():
            num_rows, longest = num_rows + first.num_rows, max(longest, first.longest)
            num_searches += first.num_searches
            if batch and (num_rows * longest > limits.max_tokens or num_searches > limits.max_searches):
                break
            batch.append(first)
        waiting.popleft()
    return batch


def _settle(futures: Sequence[asyncio.Future[ResultT]], outcomes: Sequence[ResultT | _Failed]) -> None:
    for future, outcome in zip(futures, outcomes, strict=True):
        if future.done():
            continue
        if isinstance(outcome, _Failed):
            future.set_exception(outcome.error)
        else:
            future.set_result(outcome)
