"""Search and embeddings in this process: one version at a time, swapped while it is searched. Knows no Ray.

A request takes the pointer to the active version once, so no answer mixes two; the version that was replaced is
freed when the last request that began with it has ended.
"""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from winnow.api.aside import aside
from winnow.api.config import ApiConfig
from winnow.api.metrics import Metrics
from winnow.api.protocol import (
    EmbeddingAnswer,
    NotReadyError,
    Readiness,
    SearchAnswer,
    SearchOptions,
    SwapBusyError,
    SwapRefusedError,
    TextTooLongError,
)
from winnow.errors import ConfigError, DataError
from winnow.modeling.batches import batches_by_length
from winnow.modeling.protocol import Side
from winnow.retrieval.config import ListName
from winnow.serving.active import ActiveVersion, Found, Work, answer_together
from winnow.serving.batching import Batcher
from winnow.serving.loading import Load, load_version, use_threads
from winnow.serving.watching import SearchWatch

TokensT = TypeVar("TokensT")
NoteT = TypeVar("NoteT")

_PROBE = "is anything found"
_QUICK_CHARS = 4000
"""Texts up to here are tokenised in the event loop, in less time than a thread would take to hand over."""
_BATCH_SEARCHES = 64
"""Most searches between two turns of the worker, from any number of requests."""
_TURN_QUERIES = 32
_TURN_CHARS = 2000
"""What one request gets of a turn; then others have theirs. FAISS compares 20 vectors and more as one matrix, and
characters bound both the tokens to encode and the words to look up."""
_STOP_TIMEOUT_S = 5.0
_SWITCH_INTERVAL_S = 0.0005


class RetrieverService:
    """Implements ``Searcher`` of ``protocol.py``. Used from one event loop, after ``start``.

    A swap is ``prepare``, which may fail and changes nothing, then ``activate``, which cannot fail.
    """

    def __init__(self, config: ApiConfig, metrics: Metrics, *, threads: int = 1, load: Load = load_version) -> None:
        """``threads`` encode and search; ``load`` makes a version of a directory."""
        self._config = config
        self._metrics = metrics
        self._threads = threads
        self._load = load
        self._batcher: Batcher[Work, Found] = Batcher(
            lambda works: answer_together(works, metrics),
            max_tokens=config.max_batch_tokens,
            max_searches=_BATCH_SEARCHES,
            set_up_thread=lambda: use_threads(threads),
        )
        self._watch = SearchWatch(self._search_probe)
        self._active: ActiveVersion | None = None
        self._prepared: ActiveVersion | None = None
        self._loading = threading.Lock()

    async def start(self, directory: Path) -> None:
        """Returns when the version in ``directory`` is searched. Raises ``DataError``, ``ConfigError``."""
        # The worker thread takes the interpreter's lock back after every call into torch or FAISS, and waits for it
        # while requests are read: by default up to 5 ms each time.
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        self._active = await aside(self._load_aside, directory)
        self._metrics.set("winnow_retriever_info", 1, version=self._active.version)
        self._batcher.start()
        await self._watch.start()

    async def stop(self) -> None:
        """Returns when the requests in work are answered; new ones are refused."""
        await self._watch.stop()
        self._active = self._prepared = None
        await self._batcher.stop(timeout_s=_STOP_TIMEOUT_S)

    async def search(self, queries: Sequence[str], options: SearchOptions) -> SearchAnswer:
        """At most ``options.k`` passages for each query, all from one version.

        Raises ``NotReadyError``; ``DataError`` for a mode or filter field that this version does not have.
        """
        active = self._current()
        # Refused here: in a batch it would make everybody else's search be tried once more.
        active.retriever.check(options.mode, options.filter)
        parts = [await self._search_part(active, part, options) for part in _turns(queries)]
        empty = _joined([(part.empty_lists, part.results) for part in parts], ())
        if options.mode == "hybrid":
            self._count_hybrid(active, len(queries), empty)
        return SearchAnswer(
            active.version,
            results=[found for part in parts for found in part.results],
            words_cut=_joined([(part.words_cut, part.results) for part in parts], 0),
            empty_lists=empty,
        )

    async def embed(self, texts: Sequence[str], side: Side, *, truncate: bool = True) -> EmbeddingAnswer:
        """Vectors in the order of ``texts``, all from one version's encoder.

        Raises ``NotReadyError``; without ``truncate``, ``TextTooLongError`` where a text would be cut.
        """
        active = self._current()
        token_ids, is_cut = await _tokenize(active.encoder.tokenize_with_cuts, texts, side)
        if any(is_cut) and not truncate:
            raise _too_long(is_cut, token_ids, side)
        work = Work(active, texts, side, None, [None] * len(texts), token_ids)
        num_tokens = sum(work.lengths)
        await self._encode_in_parts(work)
        return EmbeddingAnswer(active.version, work.vectors_QD, num_tokens, num_truncated=sum(is_cut))

    def readiness(self) -> Readiness:
        """Whether a search of the background has just worked."""
        return self._watch.readiness()

    def info(self) -> Mapping[str, Any]:
        """What is being served, as JSON values."""
        active = self._current()
        empty = {name: active.hybrid[name] for name in get_args(ListName)}
        return {
            **active.retriever.info(),
            "hybrid": {"queries": active.hybrid["queries"], "empty_lists": empty},
            "encoder_runtime": self._config.encoder_runtime,
            "threads": self._threads,
        }

    async def prepare(self, directory: Path) -> str:
        """The version in ``directory``, loaded aside and found to answer; ``activate`` takes it.

        Raises ``DataError`` or ``ConfigError`` for one that cannot be served, ``SwapBusyError`` while another one is
        loaded; what is served stays as it was.
        """
        try:
            self._prepared = await aside(self._load_aside, directory)
        except (DataError, ConfigError):
            self._metrics.count("winnow_swaps_total", result="refused")
            raise
        return self._prepared.version

    def activate(self, version: str) -> str:
        """The version before. Requests that begin from now on get ``version``, which was prepared."""
        previous, prepared = self._current(), self._prepared
        if prepared is None or prepared.version != version:
            raise SwapRefusedError(
                f"version {version!r} is not loaded (loaded aside: {prepared and prepared.version!r})"
            )
        self._active, self._prepared = prepared, None
        self._metrics.set("winnow_retriever_info", 0, version=previous.version)
        self._metrics.set("winnow_retriever_info", 1, version=version)
        self._metrics.count("winnow_swaps_total", result="done")
        return previous.version

    def discard(self) -> None:
        """Free what was prepared and is not wanted after all."""
        self._prepared = None

    def _count_hybrid(self, active: ActiveVersion, num_queries: int, empty: Sequence[Sequence[ListName]]) -> None:
        active.hybrid["queries"] += num_queries
        for name in (name for lists in empty for name in lists):
            active.hybrid[name] += 1
            self._metrics.count("winnow_empty_lists_total", list=name)

    def _load_aside(self, directory: Path) -> ActiveVersion:
        if not self._loading.acquire(blocking=False):
            raise SwapBusyError("another version is being loaded; wait until that is done")
        try:
            # Two versions fit into memory, three may not.
            self._prepared = None
            return self._load(directory, self._config, self._threads)
        finally:
            self._loading.release()

    def _current(self) -> ActiveVersion:
        if self._active is None:
            raise NotReadyError("no retriever version is loaded; try again")
        return self._active

    def _recall(self, active: ActiveVersion, queries: Sequence[str]) -> list[NDArray[np.float32] | None]:
        known = [active.vectors.get(query) for query in queries]
        if active.vectors.is_on:
            hits = sum(vector_D is not None for vector_D in known)
            self._metrics.count("winnow_cache_lookups_total", hits, result="hit")
            self._metrics.count("winnow_cache_lookups_total", len(known) - hits, result="miss")
        return known

    async def _search_part(self, active: ActiveVersion, queries: Sequence[str], options: SearchOptions) -> Found:
        known = [None] * len(queries) if options.mode == "bm25" else self._recall(active, queries)
        missing = [query for query, vector_D in zip(queries, known, strict=True) if vector_D is None]
        token_ids = [] if options.mode == "bm25" else await _tokenize(active.encoder.tokenize, missing, "query")
        work = Work(active, queries, "query", options, known, token_ids)
        if not self._fits(work):
            await self._encode_in_parts(work)
        found = await self._submit(work)
        _remember(work)
        return found

    async def _submit(self, work: Work) -> Found:
        return await self._batcher.submit(work, lengths=work.lengths, num_searches=work.num_searches)

    def _fits(self, work: Work) -> bool:
        lengths = work.lengths
        return len(lengths) * max(lengths, default=0) <= self._config.max_batch_tokens

    async def _encode_in_parts(self, work: Work) -> None:
        """Encode the texts of ``work`` in as many batches as its tokens need; others get their turn in between."""
        vectors_ND = np.empty((len(work.token_ids), work.active.encoder.dimension), dtype=np.float32)
        for places in batches_by_length(work.lengths, max_tokens=self._config.max_batch_tokens):
            rows = [work.token_ids[place] for place in places]
            part = Work(work.active, (), work.side, None, [None] * len(rows), rows)
            await self._submit(part)
            vectors_ND[places] = part.vectors_QD
        work.take(vectors_ND)

    async def _search_probe(self) -> str:
        # Past the cache, because the encoder is to be tried as well.
        active = self._current()
        token_ids = active.encoder.tokenize([_PROBE], side="query")
        work = Work(active, [_PROBE], "query", SearchOptions(k=1, with_text=False), [None], token_ids)
        await self._submit(work)
        return active.version


def _turns(queries: Sequence[str]) -> Iterator[Sequence[str]]:
    """``queries`` in order, in parts that are searched one after another; a long query is a part by itself.

    >>> [len(part) for part in _turns(["short"] * 40 + ["l" * 3000] * 2 + ["short"])]
    [32, 8, 1, 1, 1]
    """
    start = num_chars = 0
    for position, query in enumerate(queries):
        num_chars += len(query)
        if position > start and (position - start == _TURN_QUERIES or num_chars > _TURN_CHARS):
            yield queries[start:position]
            start, num_chars = position, len(query)
    if start < len(queries):
        yield queries[start:]


def _joined(parts: Sequence[tuple[Sequence[NoteT], Sequence[object]]], none: NoteT) -> Sequence[NoteT]:
    """The notes on all queries, each part given with its results; ``none`` where it has no notes. Empty if none has.

    >>> _joined([((), ["a", "b"]), ([7], ["c"])], 0), _joined([((), ["a"])], 0)
    ([0, 0, 7], ())
    """
    if not any(notes for notes, _ in parts):
        return ()
    return [note for notes, results in parts for note in (notes or [none] * len(results))]


async def _tokenize(tokenize: Callable[..., TokensT], texts: Sequence[str], side: Side) -> TokensT:
    if sum(map(len, texts)) <= _QUICK_CHARS:
        return tokenize(texts, side=side)
    return await asyncio.to_thread(tokenize, texts, side=side)


def _too_long(is_cut: Sequence[bool], token_ids: Sequence[Sequence[int]], side: Side) -> TextTooLongError:
    first = is_cut.index(True)
    return TextTooLongError(
        f"input.{first} has more than the {len(token_ids[first])} tokens that the encoder takes of a {side}, as have "
        f'{sum(is_cut) - 1} more; shorten them, or send "truncate": true to have their ends left out'
    )


def _remember(work: Work) -> None:
    for text, vector_D in zip(work.texts, work.vectors, strict=True):
        if vector_D is not None:
            work.active.vectors.put(text, vector_D)
