"""Calls that may hang, each in a thread of its own: they take no place in the pool that short work shares."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import ParamSpec, TypeVar

ArgumentsT = ParamSpec("ArgumentsT")
ResultT = TypeVar("ResultT")


async def aside(call: Callable[ArgumentsT, ResultT], /, *args: ArgumentsT.args, **kwargs: ArgumentsT.kwargs) -> ResultT:
    """``asyncio.to_thread`` with a thread that keeps no process from ending and nothing else from being done."""
    outcome: Future[ResultT] = Future()
    # Begun: whoever stops waiting for it does not cancel it.
    outcome.set_running_or_notify_cancel()
    run = partial(contextvars.copy_context().run, call, *args, **kwargs)

    def work() -> None:
        try:
            outcome.set_result(run())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=work, name="winnow-aside", daemon=True).start()
    return await asyncio.wrap_future(outcome)
