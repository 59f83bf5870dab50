"""What the machine refuses, as an error that its user can act on, its signals, and its cores."""

import errno
import os
import re
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from winnow.errors import ConfigError, WinnowError

_ROOM = (
    "make room, or give an `output` where there is some (--set output=DIR; TMPDIR is for temporary files); finished "
    "work is kept, and the same command goes on from here"
)
_WRITABLE = "give an `output` that can be written (--set output=DIR), or change the permissions"
_WAYS_OUT = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EROFS: _WRITABLE,
    errno.EACCES: _WRITABLE,
    errno.EPERM: _WRITABLE,
    errno.ENOTDIR: "a file is where a folder was expected: give another `output` (--set output=DIR)",
    errno.EEXIST: "a file is where a folder was expected: give another `output` (--set output=DIR)",
    errno.ENAMETOOLONG: "give a shorter `output` (--set output=DIR)",
    errno.EMFILE: "allow more open files (ulimit -n 65536)",
    errno.ENFILE: "the whole machine has too many files open: end something, or raise fs.file-max",
    errno.ENOMEM: "memory is used up: end something else, or use less of it (docs/cluster.md)",
    errno.EIO: "the storage failed: look into the system's log, or give another `output` (--set output=DIR)",
    errno.ESTALE: "the network storage lost it: mount it again, and run the same command",
}
# Said of a path, which may as well be wrong by our own fault, unlike a full disk.
_OF_A_PATH = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}
_PROGRAMMING_ERRORS = (
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    NameError,
    ArithmeticError,
    NotImplementedError,
    RecursionError,
)
"""Their words are often those of the data, and a corpus may well speak of a full disk."""

# Threads that spin while they wait take the cores from whatever else runs (benchmarks/shared_machine.py).
_PASSIVE_WAITING = {"OMP_WAIT_POLICY": "passive"}


def _said(number: int) -> str:
    """How Python, C++ and Rust say the error ``number`` in words: after its number, in brackets, before its number."""
    words = os.strerror(number)
    return rf"\[[Ee]rrno {number}\] {words}|\({words}\)|{words} \(os error {number}\)"


_IN_WORDS = {
    **{_said(number): number for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENOMEM)},
    # What NumPy and torch.save say of a full disk.
    r"^\d+ requested and \d+ written$": errno.ENOSPC,
    r"inline_container\.cc:\d+\] \. unexpected pos": errno.ENOSPC,
}


class Ended(KeyboardInterrupt):
    """A signal asks to stop; like Ctrl-C, but for its number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


def trouble_of(error: BaseException) -> ConfigError | None:
    """What the machine refused, if that is why ``error`` was raised, here or in another process; else ``None``."""
    for cause, is_why in _chain(error):
        if isinstance(cause, WinnowError):
            return None
        if isinstance(cause, MemoryError):
            asked_for = f" ({cause})" if str(cause) else ""
            return ConfigError(f"no memory is left{asked_for}: {_WAYS_OUT[errno.ENOMEM]}")
        number = _number_of(cause)
        if number is not None and (is_why or number not in _OF_A_PATH):
            return ConfigError(f"{os.strerror(number)}{_where(cause)}: {_WAYS_OUT[number]}")
    return None


@contextmanager
def signals_end_the_block() -> Iterator[list[int]]:
    """SIGTERM, and a terminal that is closed, raise ``Ended``, once: what is started is ended, what is done is kept.

    Yields the numbers of those that came: Ray, while it waits, makes a plain ``KeyboardInterrupt`` of what is raised.
    A signal that is ignored (nohup) or handled already is left alone.
    """
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if _is_ours_to_handle(number)]
    came: list[int] = []

    def end(number: int, _: object) -> None:
        # A second one, as `timeout` and schedulers send it, would break the clean-up off.
        for each in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        came.append(number)
        raise Ended(number)

    for number in numbers:
        signal.signal(number, end)
    try:
        yield came
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def keeping_signals() -> Iterator[None]:
    """At the end of the block, signals are handled as at its start, whatever a library (Ray) did."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    except SystemExit as end:
        # Ray's own handler, while it starts.
        if end.code == signal.SIGTERM:
            raise Ended(signal.SIGTERM) from None
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def share_cores() -> None:
    """Let this process and its children wait passively; call it before torch is imported. What is set stays."""
    os.environ.update(waiting_policy())


def waiting_policy() -> dict[str, str]:
    """How threads wait, for the environment of a process elsewhere: as was chosen here, else passively."""
    return {name: os.environ.get(name, value) for name, value in _PASSIVE_WAITING.items()}


def crowding(what: str, *, processes: int, threads: int, cores: int) -> str | None:
    """A line that says so if ``processes`` of ``threads`` each cannot all run at once on ``cores``.

    >>> crowding("training", processes=2, threads=2, cores=2)
    'note: training runs 2 processes x 2 threads on 2 cores, so they take turns; fewer of either are usually faster'
    >>> crowding("training", processes=2, threads=1, cores=2)
    """
    if processes * threads <= cores:
        return None
    return (
        f"note: {what} runs {processes} processes x {threads} threads on {cores} cores, so they take turns; "
        f"fewer of either are usually faster"
    )


def most_open_files() -> int:
    """How many files this process, and each that it starts, may be allowed to have open at once; at most 65,536."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)


def allow_open_files(least: int) -> None:
    """Raise this process's limit on open files as far as the system lets it, if that is low.

    Raises ``ConfigError`` if it stays under ``least``.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most_open_files()
    if 0 <= soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < least:
        raise ConfigError(
            f"at most {wanted} files may be open at once here, and {least} are needed; raise the limit "
            f"(`ulimit -Hn`, `LimitNOFILE=` of a service, `docker run --ulimit nofile=65536`)"
        )


def _chain(error: BaseException) -> Iterator[tuple[BaseException, bool]]:
    """``error`` and its causes (one of another process is in ``cause``), and whether each is why ``error`` was raised.

    What was only being handled when something else went wrong is not.
    """
    seen: set[int] = set()
    waiting: list[tuple[Any, bool]] = [(error, True)]
    while waiting:
        current, is_why = waiting.pop(0)
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current, is_why
        waiting += [(getattr(current, "cause", None), is_why), (current.__cause__, is_why)]
        if not current.__suppress_context__:
            waiting.append((current.__context__, False))


def _number_of(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno in _WAYS_OUT:
        return error.errno if error.errno not in _OF_A_PATH or _is_of_a_path(error) else None
    if isinstance(error, _PROGRAMMING_ERRORS):
        return None
    return next((number for words, number in _IN_WORDS.items() if re.search(words, str(error))), None)


def _is_of_a_path(error: OSError) -> bool:
    """A port or a process can be refused, too, and a folder that is there is no trouble of the machine's."""
    is_named = isinstance(error.filename, str | bytes | os.PathLike)
    return is_named and (error.errno != errno.EEXIST or os.path.isfile(error.filename))


def _where(error: BaseException) -> str:
    name = getattr(error, "filename", None)
    return "" if name is None else f" ({os.fsdecode(name) if isinstance(name, str | bytes) else name})"


def _is_ours_to_handle(number: signal.Signals) -> bool:
    return threading.current_thread() is threading.main_thread() and signal.getsignal(number) is signal.SIG_DFL
