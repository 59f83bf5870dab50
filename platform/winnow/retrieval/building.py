"""Build a vector index from a stream of vectors. One shard and one block are in memory at a time.

Legend: N vectors of a block, D dimension.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import faiss
import numpy as np
from numpy.typing import NDArray

from winnow.errors import DataError
from winnow.files import write_json
from winnow.progress import Progress, progress
from winnow.retrieval.config import IndexConfig
from winnow.retrieval.factory import parse_factory
from winnow.retrieval.index_files import DESCRIPTION, VECTORS, IndexDescription, shard_path
from winnow.seeding import derive_seed

Read = Callable[[], Iterable[NDArray[np.float32]]]
"""The vectors from the first to the last, in blocks of any size; asked again for each pass over them."""

_BLOCK = 16_384
"""Vectors added at a time. Fixed, because a graph depends on it, and must not depend on how vectors are stored."""


def build_index(
    directory: Path, read: Read, *, num_vectors: int, dimension: int, config: IndexConfig, seed: int = 0
) -> None:
    """Write the index of the vectors that ``read`` gives into ``directory``. Raises ``DataError``.

    Equal vectors, settings and seed give equal files, with one build thread. ``read`` is called once, and once
    more before if the index is trained.
    """
    if num_vectors < 1:
        raise DataError("there is no passage to index; an empty index would answer every query with nothing")
    directory.mkdir(parents=True, exist_ok=True)
    shards = _shard_sizes(num_vectors, config.shard_passages)
    with _threads(config.build_threads), _vectors_file(directory, config, (num_vectors, dimension)) as file:
        template = _empty_index(config, dimension)
        if parse_factory(config.factory).needs_training:
            _train(template, _sample(read, num_vectors, dimension, config.train_vectors, seed), config)
        blocks = _blocks(_checked(read(), dimension), shards)
        with progress(num_vectors, label="index", unit="vectors") as bar:
            for number, size in enumerate(shards):
                index = faiss.clone_index(template)
                _fill(index, size, blocks, file, bar)
                faiss.write_index(index, str(shard_path(directory, number)))
        next(blocks, None)  # Raises if there are more vectors than were told.
    write_json(directory / DESCRIPTION, _describe(config, dimension, shards).model_dump())


def _fill(
    index: faiss.Index, size: int, blocks: Iterator[NDArray[np.float32]], file: BinaryIO | None, bar: Progress
) -> None:
    """Add ``size`` vectors, and write them to ``file`` too."""
    while index.ntotal < size:
        block_ND = next(blocks)
        index.add(block_ND)
        if file is not None:
            block_ND.tofile(file)
        bar.advance(len(block_ND))


def _describe(config: IndexConfig, dimension: int, shards: list[int]) -> IndexDescription:
    kind = parse_factory(config.factory).kind
    return IndexDescription(
        factory=config.factory,
        dimension=dimension,
        shards=tuple(shards),
        ef_search=config.ef_search if kind == "hnsw" else None,
        num_probes=config.num_probes if kind == "ivf" else None,
        rescore=config.rescore,
    )


def _shard_sizes(num_vectors: int, most: int) -> list[int]:
    return [min(most, num_vectors - start) for start in range(0, num_vectors, most)]


def _empty_index(config: IndexConfig, dimension: int) -> faiss.Index:
    try:
        index = faiss.index_factory(dimension, config.factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise DataError(
            f"{config.factory} cannot hold vectors of {dimension} dimensions ({_reason(error)}); "
            f"the number after PQ and OPQ must divide the dimensions"
        ) from None
    if parse_factory(config.factory).kind == "hnsw":
        index.hnsw.efConstruction = config.ef_construction
    inner = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index
    if isinstance(inner, faiss.IndexPQ | faiss.IndexIVFPQ):
        # An order of the codes for a kind of search that is never used; finding it takes longer than all the rest.
        inner.do_polysemous_training = False
    return index


def _sample(read: Read, num_vectors: int, dimension: int, most: int, seed: int) -> NDArray[np.float32]:
    """At most ``most`` vectors, drawn without replacement, in their order."""
    draws = np.random.default_rng(derive_seed(seed, "index", "training"))
    chosen_N = np.sort(draws.choice(num_vectors, min(most, num_vectors), replace=False, shuffle=False))
    sample_ND = np.empty((len(chosen_N), dimension), dtype=np.float32)
    taken = offset = 0
    for batch_ND in _checked(read(), dimension):
        stop = int(np.searchsorted(chosen_N, offset + len(batch_ND)))
        sample_ND[taken:stop] = batch_ND[chosen_N[taken:stop] - offset]
        taken, offset = stop, offset + len(batch_ND)
    return sample_ND[:taken]


def _train(index: faiss.Index, sample_ND: NDArray[np.float32], config: IndexConfig) -> None:
    try:
        index.train(sample_ND)
    except RuntimeError as error:
        raise DataError(
            f"{config.factory} cannot be trained on {len(sample_ND):,} vectors of {sample_ND.shape[1]} dimensions "
            f"({_reason(error)}); fewer lists and shorter codes need fewer vectors, see also index.train_vectors, and "
            f"the number after OPQ must divide the dimensions"
        ) from None


def _checked(batches: Iterable[NDArray[np.float32]], dimension: int) -> Iterator[NDArray[np.float32]]:
    for batch_ND in batches:
        if batch_ND.ndim != 2 or batch_ND.shape[1] != dimension:
            raise DataError(f"expected vectors of {dimension} dimensions, found an array of shape {batch_ND.shape}")
        if not np.isfinite(batch_ND).all():
            raise DataError("a vector to index is not finite; delete the embeddings and encode the corpus again")
        yield np.ascontiguousarray(batch_ND, dtype=np.float32)


def _blocks(batches: Iterator[NDArray[np.float32]], shards: Sequence[int]) -> Iterator[NDArray[np.float32]]:
    """The same vectors in blocks of ``_BLOCK``; the last block of a shard ends with it."""
    num_vectors = sum(shards)
    rest_ND = np.empty((0, 0), np.float32)
    for size in shards:
        for start in range(0, size, _BLOCK):
            missing, parts = min(_BLOCK, size - start), []
            while missing:
                if not len(rest_ND) and (rest_ND := next(batches, None)) is None:
                    raise DataError(f"expected {num_vectors:,} vectors, found fewer; encode the corpus again")
                parts.append(rest_ND[:missing])
                rest_ND = rest_ND[missing:]
                missing -= len(parts[-1])
            yield np.concatenate(parts)
    if len(rest_ND) or any(len(batch_ND) for batch_ND in batches):
        raise DataError(f"expected {num_vectors:,} vectors, found more; encode the corpus again")


@contextmanager
def _vectors_file(directory: Path, config: IndexConfig, shape: tuple[int, int]) -> Iterator[BinaryIO | None]:
    """``vectors.npy``, to which the rows are to be appended; nothing if results are not rescored."""
    if config.rescore is None:
        yield None
        return
    with (directory / VECTORS).open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        yield file


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(number)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _reason(error: RuntimeError) -> str:
    """What FAISS says, without the C++ function it says it in."""
    return str(error).rpartition("Error: ")[2][:150].strip()
