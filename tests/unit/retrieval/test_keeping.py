"""What is served is kept by content, and read once on a machine, however many processes load it."""

import shutil
from pathlib import Path

import pytest
from tiny_versions import write_bare_version, write_tiny_version

from winnow import digests
from winnow.api.config import ApiConfig
from winnow.errors import IndexMismatchError
from winnow.retrieval.keeping import keep_version
from winnow.retrieval.manifest import read_manifest
from winnow.serving.loading import load_version


@pytest.fixture
def reads(tmp_path, monkeypatch):
    """The files that were read to be hashed, all of which count as large, and as written long ago."""
    found = []
    real = digests._hash
    monkeypatch.setattr(digests, "_hash", lambda file: (found.append(Path(file.name).name), real(file))[1])
    monkeypatch.setattr(digests, "_SETTLED_NS", -(10**12))
    monkeypatch.setattr(digests, "_NOTED_BYTES", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return found


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    return write_tiny_version(tmp_path_factory.mktemp("good") / "v")


def test_every_byte_is_hashed_once_from_the_built_version_to_the_second_replica(version, tmp_path, reads):
    built = shutil.copytree(version, tmp_path / "built")
    for _ in range(2):
        kept = keep_version(built, tmp_path / "cache")
        load_version(kept, ApiConfig(), 1)

    assert sorted(reads) == sorted(Path(name).name for name in read_manifest(version).files)


def test_a_version_is_hashed_again_whenever_it_is_loaded_if_that_is_asked_for(version, tmp_path, reads):
    load_version(version, ApiConfig(verify="always"), 1)
    once = len(reads)
    load_version(version, ApiConfig(verify="always"), 1)

    assert (once, len(reads)) == (len(read_manifest(version).files), 2 * once)


def test_a_kept_version_is_mended_after_a_disk_that_changed_bytes_by_itself_was_found_out(version, tmp_path, reads):
    """No time of a file says so; here the note is wrong instead of the disk."""
    kept = keep_version(version, tmp_path / "cache")
    shutil.copyfile(kept / "passages.arrow", tmp_path / "passages")
    spoiled = bytes([*(tmp_path / "passages").read_bytes()[:-1], 0xFF])
    (kept / "passages.arrow").unlink()
    (kept / "passages.arrow").write_bytes(spoiled)
    right = read_manifest(version).files["passages.arrow"].sha256
    wrong = digests.file_digest(kept / "passages.arrow")
    for note in (tmp_path / "user" / "winnow" / "digests").iterdir():
        note.write_text(note.read_text().replace(wrong, right))
    keep_version(version, tmp_path / "cache")
    with pytest.raises(IndexMismatchError, match=r"passages\.arrow has SHA-256"):
        load_version(kept, ApiConfig(verify="always"), 1)

    keep_version(version, tmp_path / "cache")

    load_version(kept, ApiConfig(verify="always"), 1)


def test_what_is_kept_stays_when_its_source_is_built_anew(tmp_path):
    source = write_bare_version(tmp_path / "v", "first")
    kept = keep_version(source, tmp_path / "cache")
    shutil.rmtree(source)
    write_bare_version(source, "second")

    other = keep_version(source, tmp_path / "cache")

    assert [(path / "passages.arrow").read_text() for path in (kept, other)] == ["first", "second"]


def test_a_kept_version_may_be_kept_again_and_is_refused_once_it_is_damaged(tmp_path):
    kept = keep_version(write_bare_version(tmp_path / "v", "first"), tmp_path / "cache")

    assert keep_version(kept, tmp_path / "cache") == kept

    (kept / "passages.arrow").write_text("other")
    with pytest.raises(IndexMismatchError, match="is damaged"):
        keep_version(kept, tmp_path / "cache")


@pytest.mark.parametrize("name", ["passages.arrow", "encoder/config.json"])
def test_a_source_that_lacks_a_file_is_refused_and_leaves_nothing(tmp_path, name):
    source = write_bare_version(tmp_path / "v", "first")
    (source / name).unlink()

    with pytest.raises(IndexMismatchError, match=f"{name} is missing"):
        keep_version(source, tmp_path / "cache")

    assert [path.name for path in (tmp_path / "cache" / "versions").iterdir()] == [
        f".{read_manifest(source).version}.lock"
    ]
