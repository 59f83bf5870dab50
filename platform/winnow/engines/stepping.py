"""A model that works in steps, kept full by a thread of its own.

Coroutines hand in requests, from any event loop; between two steps the thread takes all that have come, so a new
request joins those under way and none waits for a batch to end. An idle thread sleeps.
"""

import asyncio
import itertools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Generic, Protocol, TypeVar

from winnow.engines.meter import BusyMeter
from winnow.engines.protocol import EngineDeadError

RequestT = TypeVar("RequestT")
OutputT = TypeVar("OutputT")


class Stepper(Protocol[RequestT, OutputT]):
    """A model that many requests share. One thread builds it and makes every call."""

    def add(self, key: int, request: RequestT) -> None:
        """Take ``request`` in. What this raises is the answer to this request alone."""

    def step(self) -> list[tuple[int, OutputT | Exception]]:
        """Work for a moment; keys and outputs of the requests that are done. If this raises, the model is lost."""

    def drop(self, key: int) -> None:
        """Nobody waits for this request any more."""

    def close(self) -> None:
        """Free the model."""


class SteppingThread(Generic[RequestT, OutputT]):
    """The thread that owns a stepper: it builds, feeds and closes it."""

    def __init__(self, build: Callable[[], Stepper[RequestT, OutputT]]) -> None:
        """Returns when the model is loaded; raises what ``build`` raises, ``EngineDeadError`` where that exits."""
        self._actions: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._keys = itertools.count()
        self._waiting: dict[int, tuple[Future[tuple[OutputT, float]], float]] = {}
        self._meter = BusyMeter()
        self._refusal: str | None = None
        self._is_closing = False
        self._handing_in = threading.Lock()
        self._is_over = False
        loaded: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(build, loaded), name="engine", daemon=True)
        self._thread.start()
        loaded.result()

    async def answer(self, request: RequestT) -> tuple[OutputT, float]:
        """The output, and this request's share of the time the model was at work. Raises what went wrong.

        ``EngineDeadError`` says that nothing can be answered any more.
        """
        key = next(self._keys)
        future: Future[tuple[OutputT, float]] = Future()
        with self._handing_in:
            if self._is_over:
                raise EngineDeadError(self._refusal)
            self._actions.put(partial(self._add, key, request, future))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self._actions.put(partial(self._drop, key))
            raise

    def close(self) -> None:
        """Refuse what is waiting, free the model, end the thread. A second call does nothing."""
        self._actions.put(self._stop)
        self._thread.join()

    def _run(self, build: Callable[[], Stepper[RequestT, OutputT]], loaded: "Future[None]") -> None:
        try:
            self._stepper = build()
        except Exception as error:
            loaded.set_exception(error)
            return
        except BaseException as error:
            # A library that exits would end whoever waits here, quietly.
            loaded.set_exception(EngineDeadError(f"the engine could not be loaded ({type(error).__name__}: {error})"))
            return
        loaded.set_result(None)
        try:
            while not self._is_closing:
                self._take_actions()
                if self._waiting:
                    self._step()
        except BaseException as error:
            self._refuse(_stopped(error))
        finally:
            self._end()

    def _end(self) -> None:
        """Nothing is left waiting: what was handed in last is refused, what comes later is not taken."""
        with self._handing_in:
            self._is_over = True
        while not self._actions.empty():
            self._actions.get()()
        self._stepper.close()
        del self._stepper

    def _take_actions(self) -> None:
        """Everything that has come; waits for it if there is nothing else to do."""
        if not self._waiting:
            self._actions.get()()
        while not self._actions.empty():
            self._actions.get()()

    def _step(self) -> None:
        try:
            outputs = self._stepper.step()
        except BaseException as error:  # a library may exit: whoever waits must hear of it
            self._refuse(_stopped(error))
            return
        for key, output in outputs:
            self._deliver(key, output)

    def _add(self, key: int, request: RequestT, future: "Future[tuple[OutputT, float]]") -> None:
        self._waiting[key] = (future, self._meter.start())
        if self._refusal is not None:
            self._deliver(key, EngineDeadError(self._refusal))
            return
        try:
            self._stepper.add(key, request)
        except Exception as error:
            self._deliver(key, error)

    def _drop(self, key: int) -> None:
        if key in self._waiting:
            self._stepper.drop(key)
            self._meter.stop(self._waiting.pop(key)[1])

    def _deliver(self, key: int, output: OutputT | Exception) -> None:
        future, mark = self._waiting.pop(key)
        seconds = self._meter.stop(mark)
        if not future.set_running_or_notify_cancel():
            return
        if isinstance(output, Exception):
            future.set_exception(output)
        else:
            future.set_result((output, seconds))

    def _refuse(self, reason: str) -> None:
        """Everything that waits, and everything to come."""
        self._refusal = reason
        for key in list(self._waiting):
            self._deliver(key, EngineDeadError(reason))

    def _stop(self) -> None:
        self._is_closing = True
        self._refuse("the engine was closed")


def _stopped(error: BaseException) -> str:
    return f"the engine stopped working ({type(error).__name__}: {error})"
