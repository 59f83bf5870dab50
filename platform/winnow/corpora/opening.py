"""Input files as plain bytes: gzip and zstd unpacked on the way, what cannot be read refused with a way out."""

import gzip
import io
import shutil
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from winnow.errors import DataError

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_ARCHIVES = {b"PK\x03\x04": "a zip archive", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "a 7z archive"}
_TAR = slice(257, 262)
"""Where a tar archive says that it is one."""


def is_packed(path: Path) -> bool:
    """Whether ``path`` is compressed, by its first bytes."""
    with _reporting(path), path.open("rb") as file:
        return file.read(4).startswith((_GZIP, _ZSTD))


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of ``path``, unpacked. Raises ``DataError`` for what is missing, damaged, an archive or UTF-16."""
    check_readable(path)
    with _reporting(path), _unpacking(path) as file:
        _check_encoding(path, file.peek(512)[:512])
        yield file


def unpacked(path: Path, folder: Path) -> Path:
    """``path`` itself, or where it is compressed a plain copy in ``folder``, for who reads by offset."""
    if not is_packed(path):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    plain = folder / path.stem
    with opened(path) as source, plain.open("wb") as target:
        shutil.copyfileobj(source, target, length=1 << 20)
    return plain


def check_readable(path: Path) -> None:
    """Returns if ``path`` is a file or a folder. Raises ``DataError``: inputs are hashed before they are read."""
    with _reporting(path):
        mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise DataError(
            f"{path} is a pipe or a device, which can be read only once, and inputs are read twice; "
            f"write it to a file and give that"
        )


@contextmanager
def _unpacking(path: Path) -> Iterator[io.BufferedReader]:
    if path.is_dir():
        raise DataError(f"{path} is a folder, expected a file; a folder can only be a dataset saved by `datasets`")
    with path.open("rb") as file:
        start = file.read(6)
    archive = next((name for magic, name in _ARCHIVES.items() if start.startswith(magic)), None)
    if archive is not None:
        raise DataError(f"{path} is {archive}; unpack it and give the file inside (gzip and zstd are read as they are)")
    if start.startswith(_GZIP):
        with gzip.open(path, "rb") as file, io.BufferedReader(file) as buffered:
            yield buffered
    elif start.startswith(_ZSTD):
        with pa.input_stream(str(path), compression="zstd") as file, io.BufferedReader(file) as buffered:
            yield buffered
    else:
        with path.open("rb") as file:
            yield file


def _check_encoding(path: Path, start: bytes) -> None:
    if start[_TAR] == b"ustar":
        raise DataError(f"{path} holds a tar archive; unpack it and give the file inside")
    # Text in UTF-16 or UTF-32 has a mark, or a zero byte in its first character.
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in start[:2]:
        raise DataError(
            f"{path} is UTF-16 or no text, expected UTF-8; convert it: iconv -f UTF-16 -t UTF-8 {path.name} > new"
        )


@contextmanager
def _reporting(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"no file at {str(path)!r}; correct its path in the configuration") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is damaged or was cut off ({error}); copy it again") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
