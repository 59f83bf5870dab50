"""The folders of a local Ray, on machines that have not what it wants."""

import errno
import os
import shutil
import tempfile
from types import SimpleNamespace

import pytest

from winnow.cluster.scratch import keep_compiled_code_where_it_can_run, make_scratch, place_object_store
from winnow.errors import ConfigError

MB = 2**20
SCRATCH = "/var/tmp/winnow-x"
# Free MB of shared memory and of the temporary folder; where the store of 512 MB lies, and what is said.
STORES = [
    (512, 0, None, None),
    (
        511,
        512,
        SCRATCH,
        "note: /dev/shm has 511 MB free, too little for an object store of 512 MB, so it lies in /var/tmp",
    ),
    (
        100,
        9000,
        SCRATCH,
        "--shm-size=576m, or mount -o remount,size=576m /dev/shm), or set cluster.object_store_mb=100\n",
    ),
    (99, 9000, SCRATCH, "--shm-size=576m, or mount -o remount,size=576m /dev/shm)\n"),
    (None, 9000, SCRATCH, "/dev/shm has 0 MB free"),
]


@pytest.fixture
def free_mb(monkeypatch):
    """Free space by folder; ``None`` for one that is not there."""
    free = {}

    def disk_usage(folder):
        if free[folder] is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", folder)
        return SimpleNamespace(free=free[folder] * MB + 1)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    return free


@pytest.mark.parametrize(("shared", "temporary", "place", "said"), STORES)
def test_the_object_store_lies_where_it_fits_and_a_slow_place_is_said(free_mb, capsys, shared, temporary, place, said):
    free_mb.update({"/dev/shm": shared, SCRATCH: temporary})

    assert place_object_store(512, SCRATCH) == place

    err = capsys.readouterr().err
    assert err.count("\n") == (0 if said is None else 1)
    assert (said or "") in err


def test_an_object_store_that_fits_nowhere_is_refused_with_what_to_do(free_mb):
    free_mb.update({"/dev/shm": 64, SCRATCH: 300})

    with pytest.raises(
        ConfigError, match=r"64 MB free.*/var/tmp with 300 MB; .*--shm-size=576m.*remount,size=576m /dev/shm\)$"
    ):
        place_object_store(512, SCRATCH)


def test_a_folder_for_temporary_files_may_have_a_path_of_22_bytes(monkeypatch, tmp_path):
    longest, longer = (tempfile.mkdtemp(prefix="w" * extra, dir="/tmp") for extra in (9, 10))
    try:
        assert (len(longest), len(longer)) == (22, 23)
        monkeypatch.setattr("tempfile.tempdir", longest)
        os.rmdir(make_scratch())

        monkeypatch.setattr("tempfile.tempdir", longer)
        with pytest.raises(ConfigError, match=r"1 bytes too long .* set TMPDIR to one of at most 22 bytes"):
            make_scratch()

        assert os.listdir(longer) == []
    finally:
        os.rmdir(longest)
        os.rmdir(longer)


def test_no_folder_for_temporary_files_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))

    with pytest.raises(ConfigError, match="set TMPDIR to one that can be written"):
        make_scratch()


@pytest.mark.parametrize(
    ("flags", "given", "expected"),
    [
        (0, None, None),
        (os.ST_NOEXEC, None, "/home/ann/.cache/torchinductor"),
        (os.ST_NOEXEC | os.ST_NOSUID, "/fast/cache", "/fast/cache"),
    ],
)
def test_what_torch_compiles_is_kept_where_it_can_be_run(monkeypatch, flags, given, expected):
    monkeypatch.setattr(os, "statvfs", lambda folder: SimpleNamespace(f_flag=flags))
    monkeypatch.setenv("HOME", "/home/ann")
    # Set first, so that what the call sets is undone.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", given or "")
    if given is None:
        monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")

    keep_compiled_code_where_it_can_run()

    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == expected
