"""What a file hashed to is known as long as nothing says that it may have changed."""

import hashlib
import os
import resource
import shutil
import stat
import threading
import time
from pathlib import Path

import pytest

from winnow import digests
from winnow.digests import file_digest, link_file

SIZE = digests._NOTED_BYTES
LONG_AGO = (1_000_000_000, 1_000_000_000)


def of(letter: str) -> str:
    return hashlib.sha256(letter.encode() * SIZE).hexdigest()


def write(path: Path, letter: str) -> Path:
    """A large file of one letter that seems to be old, written into its place."""
    with path.open("r+" if path.exists() else "w") as file:
        file.write(letter * SIZE)
    os.utime(path, LONG_AGO)
    return path


@pytest.fixture
def notes(tmp_path, monkeypatch):
    """The folder of the notes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "winnow" / "digests"


@pytest.fixture
def reads(notes, monkeypatch):
    """The files that were read, which may have been written a moment ago; nothing is known but by notes."""
    found = []
    real = digests._hash
    monkeypatch.setattr(digests, "_hash", lambda file: (found.append(Path(file.name).name), real(file))[1])
    monkeypatch.setattr(digests, "_SETTLED_NS", -(10**12))
    monkeypatch.setattr(digests, "_known", {})
    return found


@pytest.fixture
def weights(tmp_path):
    return write(tmp_path / "weights", "a")


def let_the_clock_go_on():
    """The times of files are those of the last tick of the kernel's clock."""
    time.sleep(0.02)


def test_a_file_is_read_once(weights, reads):
    assert [file_digest(weights) for _ in range(3)] == [of("a")] * 3
    assert reads == ["weights"]


def test_two_threads_read_it_once(weights, reads, monkeypatch):
    real, results = digests._hash, []
    monkeypatch.setattr(digests, "_hash", lambda file: (time.sleep(0.1), real(file))[1])
    threads = [threading.Thread(target=lambda: results.append(file_digest(weights))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [of("a")] * 4
    assert reads == ["weights"]


def test_bytes_that_change_in_place_are_seen_though_size_and_mtime_are_as_before(weights, reads):
    file_digest(weights)
    let_the_clock_go_on()
    write(weights, "b")

    assert weights.stat().st_mtime == LONG_AGO[1]
    assert file_digest(weights) == of("b")
    assert len(reads) == 2


def test_another_file_in_its_place_is_seen_also_under_the_same_inode(weights, reads):
    file_digest(weights)
    let_the_clock_go_on()
    weights.unlink()
    write(weights, "b")

    assert file_digest(weights) == of("b")


def test_a_file_keeps_what_is_known_of_it_in_a_folder_that_is_renamed(reads, tmp_path):
    (tmp_path / "arriving").mkdir()
    file_digest(write(tmp_path / "arriving" / "weights", "a"))
    (tmp_path / "arriving").rename(tmp_path / "kept")

    assert file_digest(tmp_path / "kept" / "weights") == of("a")
    assert reads == ["weights"]


def test_a_hard_link_that_we_make_keeps_what_is_known(weights, reads, tmp_path):
    file_digest(weights)
    let_the_clock_go_on()
    link_file(weights, tmp_path / "kept")

    assert file_digest(tmp_path / "kept") == file_digest(weights) == of("a")
    assert reads == ["weights"]


def test_a_hard_link_of_what_has_changed_says_nothing_of_it(weights, reads, tmp_path):
    file_digest(weights)
    let_the_clock_go_on()
    write(weights, "b")
    link_file(weights, tmp_path / "kept")

    assert file_digest(tmp_path / "kept") == of("b")


def test_a_file_exchanged_while_it_is_linked_has_the_hash_of_its_own_bytes(weights, reads, tmp_path, monkeypatch):
    other = write(tmp_path / "other", "b")
    file_digest(weights)
    real = os.link
    monkeypatch.setattr(digests.os, "link", lambda source, target: (os.replace(other, source), real(source, target)))
    link_file(weights, tmp_path / "kept")

    assert file_digest(tmp_path / "kept") == of("b")


def test_a_file_written_while_it_is_linked_has_the_hash_of_its_new_bytes(weights, reads, tmp_path, monkeypatch):
    file_digest(weights)
    let_the_clock_go_on()
    real = os.link

    def write_and_link(source, target):
        with source.open("r+") as file:
            file.write("b" * SIZE)
        real(source, target)

    monkeypatch.setattr(digests.os, "link", write_and_link)
    link_file(weights, tmp_path / "kept")

    assert file_digest(tmp_path / "kept") == of("b")


def test_a_copy_is_read(weights, reads, tmp_path):
    file_digest(weights)
    file_digest(Path(shutil.copy2(weights, tmp_path / "copy")))

    assert reads == ["weights", "copy"]


def test_another_machine_has_to_look_for_itself(weights, reads, monkeypatch):
    file_digest(weights)
    monkeypatch.setattr(digests.socket, "gethostname", lambda: "another")
    file_digest(weights)

    assert len(reads) == 2


def test_always_reads_and_corrects_what_a_disk_has_changed_by_itself(weights, reads, notes):
    file_digest(weights)
    (note,) = notes.iterdir()
    note.write_text(note.read_text().replace(of("a"), of("b")))

    assert file_digest(weights) == of("b")
    assert file_digest(weights, verify="always") == of("a")
    assert file_digest(weights) == of("a")


@pytest.mark.parametrize(
    "text", ["", "1 2 3", "no note", "\0" * 200, None], ids=["", "numbers", "words", "zeros", "cut"]
)
def test_a_note_that_is_none_is_not_believed(weights, reads, notes, text):
    file_digest(weights)
    (note,) = notes.iterdir()
    note.write_text(note.read_text()[:-1] if text is None else text)

    assert file_digest(weights) == of("a")
    assert len(reads) == 2


def test_notes_that_others_may_write_are_not_believed(weights, reads, notes):
    file_digest(weights)
    (note,) = notes.iterdir()
    note.write_text(note.read_text().replace(of("a"), of("b")))
    notes.chmod(0o777)

    assert file_digest(weights) == of("a")


def test_nobody_else_reads_or_writes_the_notes(weights, reads, notes):
    before = os.umask(0)
    try:
        file_digest(weights)
    finally:
        os.umask(before)

    assert [stat.S_IMODE(path.stat().st_mode) for path in (notes, *notes.iterdir())] == [0o700, 0o600]


@pytest.mark.parametrize("problem", ["file", "home"])
def test_where_there_is_no_place_for_notes_this_process_remembers(weights, reads, notes, monkeypatch, problem):
    if problem == "file":
        notes.parent.mkdir(parents=True)
        notes.write_text("a file where a folder should be")
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", _no_home)

    assert [file_digest(weights), file_digest(weights)] == [of("a")] * 2
    assert reads == ["weights"]


def _no_home():
    raise RuntimeError("could not determine home directory")


def test_a_note_that_the_disk_has_no_room_for_stops_nothing(weights, reads, notes):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        found = file_digest(weights)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert found == of("a")
    assert [note.read_text() for note in notes.iterdir()] == [""]


def test_a_small_file_leaves_no_note(tmp_path, reads, notes):
    path = tmp_path / "small"
    path.write_text("a")

    assert file_digest(path) == hashlib.sha256(b"a").hexdigest()
    assert not notes.exists()


def test_what_changed_a_moment_ago_is_not_believed_to_stay(weights, notes):
    """Times have the granularity of the file system: up to 2 seconds."""
    os.utime(weights)
    first, before = file_digest(weights), weights.stat()
    with weights.open("r+") as file:
        file.write("b" * SIZE)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert (first, file_digest(weights)) == (of("a"), of("b"))
    assert [note.read_text() for note in notes.iterdir()] == [""]


def test_a_file_that_changes_while_it_is_read_is_not_believed(weights, reads, monkeypatch):
    real = digests._hash

    def hash_and_write(file):
        digest = real(file)
        let_the_clock_go_on()
        write(weights, "b")
        return digest

    monkeypatch.setattr(digests, "_hash", hash_and_write)
    file_digest(weights)
    monkeypatch.setattr(digests, "_hash", real)

    assert file_digest(weights) == of("b")
