"""What a machine refuses is told from our own bugs, whichever library says it, and signals stop a run in good order."""

import errno
import os
import resource
import signal
from contextlib import ExitStack

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from winnow.errors import ConfigError, DataError
from winnow.machine import (
    Ended,
    allow_open_files,
    crowding,
    keeping_signals,
    share_cores,
    signals_end_the_block,
    trouble_of,
    waiting_policy,
)

ROOM = "No space left on device"
NUMBERED = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EROFS: "an `output` that can be written",
    errno.EACCES: "change the permissions",
    errno.EPERM: "change the permissions",
    errno.EMFILE: "ulimit -n",
    errno.ENOMEM: "memory is used up",
    errno.EIO: "the storage failed",
    errno.ESTALE: "mount it again",
}


class RemoteError(RuntimeError):
    """An error of another process, as Ray hands it over: in words, or with its cause."""

    def __init__(self, text: str, cause: Exception | None = None) -> None:
        super().__init__(text)
        self.cause = cause


def wrapped(error: Exception) -> Exception:
    try:
        raise RuntimeError("step failed") from error
    except RuntimeError as outer:
        return outer


def struck_while_handling(error: Exception, *, is_replaced: bool = False) -> Exception:
    try:
        try:
            raise error
        except OSError:
            if is_replaced:
                raise KeyError("x") from None
            raise KeyError("x")  # noqa: B904
    except KeyError as bug:
        return bug


def fill_with_faiss() -> None:
    index = faiss.IndexFlatL2(64)
    index.add(np.zeros((8000, 64), np.float32))
    faiss.write_index(index, "/dev/full")


def fill_with_parquet() -> None:
    # Given a path, it would remove the device when it fails.
    with pa.OSFile("/dev/full", "wb") as file:
        pq.write_table(pa.table({"a": pa.array(range(300_000))}), file)


def fill_with_torch() -> None:
    torch.save({"a": torch.zeros(400_000)}, "/dev/full")


FULL_DISKS = {
    "torch": fill_with_torch,
    "python": lambda: os.write(os.open("/dev/full", os.O_WRONLY), b"x"),
    "numpy": lambda: np.zeros(400_000).tofile("/dev/full"),
    "parquet": fill_with_parquet,
    "faiss": fill_with_faiss,
}


@pytest.mark.parametrize("number", NUMBERED)
def test_a_refusal_names_file_and_way_out(number):
    trouble = trouble_of(OSError(number, os.strerror(number), "/runs/x.parquet"))

    assert trouble is not None
    assert (trouble.exit_code, str(trouble).count("\n")) == (2, 0)
    assert str(trouble).startswith(f"{os.strerror(number)} (/runs/x.parquet): ")
    assert NUMBERED[number] in str(trouble)


@pytest.mark.parametrize("library", FULL_DISKS)
def test_a_full_disk_is_recognised_by_what_each_library_says(library):
    with pytest.raises((OSError, RuntimeError)) as caught:
        FULL_DISKS[library]()

    assert str(trouble_of(caught.value)).startswith(ROOM)


@pytest.mark.parametrize(
    "error",
    [
        wrapped(OSError(errno.ENOSPC, ROOM)),
        # A writer that cannot be closed any more.
        struck_while_handling(OSError(errno.ENOSPC, ROOM)),
        RemoteError("task failed", cause=OSError(errno.ENOSPC, ROOM)),
        RemoteError(f"ray::work() (pid=7)\n  OSError: [Errno 28] {ROOM}: 'part'"),
        # safetensors, which makes a file of its own and cannot be led to /dev/full.
        Exception(f"Error while serializing: I/O error: {ROOM} (os error 28)"),
    ],
    ids=["cause", "while closing", "remote cause", "remote words", "safetensors"],
)
def test_it_is_found_behind_other_errors(error):
    assert str(trouble_of(error)).startswith(ROOM)


@pytest.mark.parametrize("allocate", [np.zeros, torch.zeros], ids=["numpy", "torch"])
def test_memory_that_is_used_up_is_no_bug_of_ours(allocate):
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        allocate(10**15)

    for error in (caught.value, MemoryError()):
        assert "end something else, or use less of it" in str(trouble_of(error))


def test_a_file_where_a_folder_belongs_is_named(tmp_path):
    (tmp_path / "runs").write_text("")

    for path in (tmp_path / "runs", tmp_path / "runs" / "pool"):
        with pytest.raises(OSError) as caught:
            path.mkdir(parents=True, exist_ok=True)
        assert "a file is where a folder was expected" in str(trouble_of(caught.value))


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        OSError("no number"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
        FileExistsError(errno.EEXIST, "File exists", "/tmp"),
        wrapped(DataError("the corpus is empty")),
        RuntimeError("12 requested and 3 found"),
        # Data that speaks of trouble has none.
        KeyError(f"[Errno 28] {ROOM}"),
        ValueError(f"line 3 of 'errno.txt': [Errno 28] {ROOM}"),
        RuntimeError(f"no title for the passage {ROOM!r}"),
        RemoteError("ray::work()", cause=KeyError(f"OSError: [Errno 28] {ROOM}")),
        # A process, a port.
        PermissionError(errno.EPERM, "Operation not permitted"),
        PermissionError(errno.EACCES, "Permission denied"),
        # What was handled when a bug of ours struck.
        struck_while_handling(PermissionError(errno.EACCES, "Permission denied", "/cache")),
        struck_while_handling(OSError(errno.EROFS, "Read-only file system", "/cache")),
        struck_while_handling(OSError(errno.ENOSPC, ROOM), is_replaced=True),
    ],
)
def test_everything_else_stays_what_it_is(error):
    assert trouble_of(error) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_block_once_and_what_was_started_is_ended(number):
    ended, cleaning_up = [], ExitStack()
    cleaning_up.callback(ended.append, "children")
    # `timeout` and schedulers send it again.
    cleaning_up.callback(os.kill, os.getpid(), number)

    with pytest.raises(Ended) as caught, signals_end_the_block() as came, cleaning_up:
        os.kill(os.getpid(), number)

    assert (caught.value.number, came, ended) == (number, [number], ["children"])
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_signal_that_is_ignored_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_end_the_block():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        assert signal.signal(signal.SIGHUP, signal.SIG_DFL) is signal.SIG_IGN


def test_handlers_that_a_library_set_are_gone_after_the_block():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    with keeping_signals():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_library_that_exits_on_sigterm_ends_the_command_like_ours():
    with pytest.raises(Ended, match="SIGTERM"), keeping_signals():
        raise SystemExit(signal.SIGTERM)
    with pytest.raises(SystemExit, match="3"), keeping_signals():
        raise SystemExit(3)


def test_the_limit_on_open_files_is_raised_as_far_as_it_goes_and_refused_below():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        allow_open_files(400)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 400
        with pytest.raises(ConfigError, match=r"at most \d+ files may be open at once here, and 1000000 are needed"):
            allow_open_files(1_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_threads_wait_passively_unless_somebody_chose_otherwise(monkeypatch):
    for given, expected in ((None, "passive"), ("active", "active")):
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
        if given is not None:
            monkeypatch.setenv("OMP_WAIT_POLICY", given)

        share_cores()

        assert os.environ["OMP_WAIT_POLICY"] == expected
        assert waiting_policy() == {"OMP_WAIT_POLICY": expected}


@pytest.mark.parametrize(
    ("processes", "threads", "cores", "said"),
    [(1, 2, 2, None), (2, 1, 2, None), (2, 2, 2, "2 processes x 2 threads on 2 cores"), (1, 3, 2, "1 processes x 3")],
)
def test_more_threads_than_cores_are_said(processes, threads, cores, said):
    line = crowding("training", processes=processes, threads=threads, cores=cores)

    assert line is None if said is None else said in (line or "")
