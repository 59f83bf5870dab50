"""Arrays of a retriever version, read from disk as they are needed."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from winnow.errors import IndexMismatchError


def open_array(path: Path, *, memory_map: bool = True) -> NDArray:
    """The array in ``path``, never unpickled. Raises ``IndexMismatchError``."""
    try:
        array = np.load(path, mmap_mode="r" if memory_map else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise IndexMismatchError(f"{path} cannot be read ({error}); fetch the version again") from None
    # A plain view of the mapped file: slices of numpy's own type for it take several times longer.
    return np.asarray(array)
