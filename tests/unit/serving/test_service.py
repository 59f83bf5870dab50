"""The search behind the application: real tiny versions, in batches, swapped while they are searched."""

import asyncio
import gc
import shutil
import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import tiny_encoder
from tiny_versions import PASSAGES, write_tiny_version

from winnow.api.config import ApiConfig
from winnow.api.protocol import NotReadyError, SearchOptions, SwapBusyError, SwapRefusedError, TextTooLongError
from winnow.errors import DataError
from winnow.records import Passage
from winnow.retrieval.config import IndexConfig
from winnow.retrieval.filtering import parse_filter
from winnow.retrieval.manifest import read_manifest
from winnow.serving import active, watching
from winnow.serving.loading import load_version
from winnow.serving.service import RetrieverService

OTHER_PASSAGES = [replace(passage, passage_id=f"new {passage.passage_id}") for passage in PASSAGES]
OPTIONS = SearchOptions(k=3)
BREAD = "bread rises in a warm kitchen"


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return write_tiny_version(tmp_path_factory.mktemp("first") / "v")


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    return write_tiny_version(tmp_path_factory.mktemp("second") / "v", OTHER_PASSAGES)


class ListMetrics:
    """Keeps what is measured, by name."""

    def __init__(self):
        self.seen = []

    def observe(self, name, value=1, **labels):
        self.seen.append((name, value, labels))

    count = set = observe

    def render(self):
        return None

    def values(self, name, **labels):
        return [value for seen, value, given in self.seen if seen == name and given == labels]


class WatchedEncoder:
    """An encoder that keeps what it was asked for, and waits while its gate is closed."""

    def __init__(self, encoder):
        self._encoder = encoder
        self.gate = threading.Event()
        self.gate.set()
        self.batches = []
        self.entered = threading.Event()

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode_tokens(self, token_ids, *, side):
        self.batches.append([list(row) for row in token_ids])
        self.entered.set()
        assert self.gate.wait(10)
        return self._encoder.encode_tokens(token_ids, side=side)


class Watched:
    """A service whose encoders are watched, by version, with the batches of the start taken away."""

    def __init__(self, directory, **settings):
        self.metrics = ListMetrics()
        self.encoders = {}
        self.service = RetrieverService(ApiConfig(**settings), self.metrics, load=self._load)
        self._directory = directory

    async def __aenter__(self):
        await self.service.start(self._directory)
        self.encoder = self.encoders[self.service.info()["version"]]
        self.encoder.batches.clear()
        self.encoder.entered.clear()
        self.metrics.seen.clear()
        return self

    async def __aexit__(self, *_):
        for encoder in self.encoders.values():
            encoder.gate.set()
        await self.service.stop()

    def _load(self, directory, config, threads):
        active = load_version(directory, config, threads)
        self.encoders[active.version] = WatchedEncoder(active.encoder)
        return replace(active, encoder=self.encoders[active.version])

    async def ask_together(self, *requests):
        """The outcomes of ``(queries, options)``, all of which arrive while another request is encoded."""
        self.encoder.gate.clear()
        before = asyncio.create_task(self.service.embed(["before"], "query"))
        await asyncio.to_thread(self.encoder.entered.wait, 10)
        tasks = [asyncio.create_task(self.service.search(*request)) for request in requests]
        await asyncio.sleep(0)
        self.encoder.gate.set()
        await before
        return await asyncio.gather(*tasks, return_exceptions=True)


def ids(answer):
    return [[passage.passage_id for passage in found] for found in answer.results]


def test_each_query_is_answered_in_order_and_the_answer_names_its_version(first):
    async def act():
        async with Watched(first) as watched:
            return await watched.service.search(["a bridge made of stone", "otter otters sleep holding hands"], OPTIONS)

    answer = asyncio.run(act())

    assert [found[0] for found in ids(answer)] == ["bridge", "otter"]
    assert [len(found) for found in ids(answer)] == [3, 3]
    assert answer.version == read_manifest(first).version
    assert answer.results[0][0].text == "a bridge made of stone"


def test_requests_that_wait_share_one_encoding_and_get_what_they_would_get_alone(first):
    requests = [
        (["stone bridge"], SearchOptions(k=2)),
        (["river at night", "warm bread"], SearchOptions(k=4, with_text=False)),
        (["night train"], SearchOptions(k=3, mode="hybrid")),
        (["night train"], SearchOptions(k=3, mode="bm25")),
        (["night"], SearchOptions(k=5, filter=parse_filter({"kind": "building"}))),
    ]

    async def act():
        async with Watched(first, cache_queries=0) as watched:
            together = await watched.ask_together(*requests)
            batches = len(watched.encoder.batches)
            alone = [await watched.service.search(*request) for request in requests]
            return together, batches, alone

    together, batches, alone = asyncio.run(act())

    assert batches == 2  # the request before, and all of these
    assert [ids(answer) for answer in together] == [ids(answer) for answer in alone]
    assert [len(answer.results[0]) for answer in together] == [2, 4, 3, 2, 2]
    assert together[1].results[0][0].text == ""
    assert set(ids(together[4])[0]) == {"bridge", "train"}


def test_one_request_that_cannot_be_answered_fails_alone_and_nothing_is_encoded_again(first):
    good, bad = SearchOptions(k=1), SearchOptions(k=0)

    async def act():
        async with Watched(first, cache_queries=0) as watched:
            outcomes = await watched.ask_together((["stone bridge"], good), (["otter"], bad), ([BREAD], good))
            return outcomes, [len(batch) for batch in watched.encoder.batches]

    (bridge, refused, bread), batches = asyncio.run(act())

    assert isinstance(refused, DataError)
    assert "k=0" in str(refused)
    assert (ids(bridge), ids(bread)) == ([["bridge"]], [["bread"]])
    assert batches == [1, 3]


@pytest.mark.parametrize(
    ("bad", "message"),
    [(SearchOptions(filter=parse_filter({"colour": "red"})), "colour"), (SearchOptions(mode="bm25"), "bm25")],
)
def test_a_field_or_mode_that_is_not_there_is_refused_before_it_can_hold_up_others(tmp_path, bad, message):
    directory = write_tiny_version(tmp_path / "v", config=IndexConfig(bm25=False))

    async def act():
        async with Watched(directory, cache_queries=0) as watched:
            outcomes = await watched.ask_together((["stone bridge"], OPTIONS), (["otter"], bad), ([BREAD], OPTIONS))
            return outcomes, watched

    (bridge, refused, bread), watched = asyncio.run(act())

    assert isinstance(refused, DataError)
    assert message in str(refused)
    assert (ids(bridge)[0][0], ids(bread)[0][0]) == ("bridge", "bread")
    # The request before, and the two together: nothing was tried one by one.
    assert [len(batch) for batch in watched.encoder.batches] == [1, 2]
    assert len(watched.metrics.values("winnow_stage_seconds", stage="search")) == 1


def test_a_large_search_by_words_lets_others_have_their_turn(first):
    async def act():
        async with Watched(first) as watched:
            large = asyncio.create_task(watched.service.search(["river"] * 300, SearchOptions(mode="bm25")))
            await asyncio.sleep(0)
            small = await watched.service.search(["otters"], SearchOptions(mode="bm25"))
            return large.done(), small, await large

    was_done, small, large = asyncio.run(act())

    assert not was_done
    assert ids(small) == [["otter"]]
    assert ids(large) == [["rain"]] * 300


def test_of_a_large_request_that_nobody_waits_for_the_rest_is_not_computed(first):
    async def act():
        async with Watched(first) as watched:
            watched.encoder.gate.clear()
            large = asyncio.create_task(watched.service.search([f"query {n}" for n in range(100)], OPTIONS))
            await asyncio.to_thread(watched.encoder.entered.wait, 10)
            large.cancel()
            await asyncio.sleep(0)
            watched.encoder.gate.set()
            await watched.service.search(["otter"], OPTIONS)
            return [len(batch) for batch in watched.encoder.batches]

    assert asyncio.run(act()) == [32, 1]


@pytest.mark.parametrize(("mode", "cut"), [("bm25", [0] * 32 + [3, 0]), ("hybrid", [0] * 32 + [3, 0]), ("dense", ())])
def test_an_answer_says_how_many_words_of_each_query_were_left_out(first, monkeypatch, mode, cut):
    monkeypatch.setattr(active, "MOST_WORDS", 2)
    queries = ["otter"] * 32 + ["otters bridge stone rain river stone", "rain rain rain zebra"]

    async def act():
        async with Watched(first) as watched:
            return await watched.service.search(queries, SearchOptions(mode=mode))

    assert list(asyncio.run(act()).words_cut) == list(cut)


def test_an_answer_and_info_say_which_lists_of_hybrid_searches_were_empty(first):
    queries = ["otter"] * 32 + ["zebra", "otter"]
    nobody = parse_filter({"kind": "unicorn"})

    async def act():
        async with Watched(first) as watched:
            search = watched.service.search
            answers = [
                await search(queries, SearchOptions(mode="hybrid")),
                await search(["otter"], SearchOptions(mode="hybrid")),
                await search(["zebra"], SearchOptions(mode="bm25")),
                await search(["otter", "zebra"], SearchOptions(mode="hybrid", filter=nobody)),
            ]
            empty = [list(map(tuple, answer.empty_lists)) for answer in answers]
            counts = {name: watched.metrics.values("winnow_empty_lists_total", list=name) for name in ("dense", "bm25")}
            return empty, watched.service.info()["hybrid"], counts

    answers, told, counts = asyncio.run(act())

    assert answers == [[()] * 32 + [("bm25",), ()], [], [], [("dense", "bm25")] * 2]
    assert told == {"queries": 37, "empty_lists": {"dense": 2, "bm25": 3}}
    assert counts == {"dense": [1] * 2, "bm25": [1] * 3}


def test_a_version_without_bm25_refuses_that_mode(tmp_path):
    directory = write_tiny_version(tmp_path / "v", config=IndexConfig(bm25=False))

    async def act():
        async with Watched(directory) as watched:
            with pytest.raises(DataError, match="bm25"):
                await watched.service.search(["otter"], SearchOptions(mode="bm25"))
            return await watched.service.search(["otter"], OPTIONS)

    assert len(asyncio.run(act()).results[0]) == 3


def test_bm25_encodes_nothing(first):
    async def act():
        async with Watched(first) as watched:
            answer = await watched.service.search(["river"], SearchOptions(mode="bm25"))
            return answer, watched.encoder.batches

    answer, batches = asyncio.run(act())

    assert ids(answer) == [["rain"]]
    assert batches == []


def test_a_query_asked_again_is_not_encoded_again(first):
    async def act():
        async with Watched(first) as watched:
            one = await watched.service.search(["stone bridge", "warm bread"], SearchOptions(k=1))
            two = await watched.service.search(["river", "stone bridge"], SearchOptions(k=2))
            await watched.service.search(["river"], SearchOptions(k=2))
            return one, two, [len(batch) for batch in watched.encoder.batches], watched.metrics

    one, two, batches, metrics = asyncio.run(act())

    assert batches == [2, 1]
    assert one.results[0][0].passage_id == two.results[1][0].passage_id == "bridge"
    assert sum(metrics.values("winnow_cache_lookups_total", result="hit")) == 2
    assert sum(metrics.values("winnow_cache_lookups_total", result="miss")) == 3


def test_embeddings_are_the_encoders_own_per_side(first):
    encoder = tiny_encoder()

    async def act():
        async with Watched(first) as watched:
            return await watched.service.embed(["otters", "x " * 2500], "passage")

    answer = asyncio.run(act())

    np.testing.assert_allclose(answer.embeddings_ND, encoder.encode(["otters", "x " * 2500], side="passage"), atol=1e-5)
    assert answer.num_tokens == 6 + 2 + 32
    assert answer.num_truncated == 1
    assert answer.version == read_manifest(first).version


def test_a_text_that_just_fits_is_not_cut_and_one_token_more_is_refused_where_nothing_may_be_cut(first):
    encoder = tiny_encoder()
    texts = ["x " * number for number in range(1, 99)]
    lengths = [len(row) for row in encoder.tokenize(texts, side="query")]
    limit = lengths[-1]
    fits = texts[lengths.index(limit)]
    longer = fits + "x"

    async def act():
        async with Watched(first) as watched:
            kept = await watched.service.embed([fits], "query", truncate=False)
            with pytest.raises(TextTooLongError, match=rf"input\.1 has more than the {limit} tokens .* of a query"):
                await watched.service.embed([fits, longer, longer], "query", truncate=False)
            batches = len(watched.encoder.batches)
            return kept, batches, await watched.service.embed([fits, longer, longer], "query")

    kept, batches, cut = asyncio.run(act())

    assert (kept.num_truncated, cut.num_truncated) == (0, 2)
    assert batches == 1  # what is refused is not encoded


def test_a_large_request_lets_others_have_their_turn(first):
    texts = [f"a long text {letter * 2}" for letter in "abcdef"]

    async def act():
        async with Watched(first, max_batch_tokens=32) as watched:
            watched.encoder.gate.clear()
            large = asyncio.create_task(watched.service.embed(texts, "query"))
            many = asyncio.create_task(watched.service.search(texts, OPTIONS))
            await asyncio.to_thread(watched.encoder.entered.wait, 10)
            small = asyncio.create_task(watched.service.search(["otter"], OPTIONS))
            await asyncio.sleep(0)
            watched.encoder.gate.set()
            await small
            had_to_wait = not (large.done() or many.done())
            return had_to_wait, await large, await many, watched.encoder.batches

    had_to_wait, large, many, batches = asyncio.run(act())

    assert had_to_wait
    assert max(len(batch) * max(map(len, batch)) for batch in batches) <= 32
    np.testing.assert_allclose(large.embeddings_ND, tiny_encoder().encode(texts, side="query"), atol=1e-5)
    assert [len(found) for found in many.results] == [3] * 6


def test_what_is_measured_tells_the_stages_of_a_search(first):
    async def act():
        async with Watched(first) as watched:
            await watched.service.search(["otter", "rain falls"], OPTIONS)
            return watched.metrics

    metrics = asyncio.run(act())

    assert metrics.values("winnow_batch_queries") == [2]
    assert metrics.values("winnow_batch_tokens") == [2 * 11]
    for stage in ("queue", "encode", "search", "fetch"):
        (seconds,) = metrics.values("winnow_stage_seconds", stage=stage)
        assert 0 <= seconds < 5


def test_a_swap_lets_a_request_end_on_the_version_it_began_with(first, second):
    async def act():
        async with Watched(first) as watched:
            service = watched.service
            watched.encoder.gate.clear()
            begun = asyncio.create_task(service.search(["stone bridge"], OPTIONS))
            await asyncio.to_thread(watched.encoder.entered.wait, 10)
            waiting = asyncio.create_task(service.search([BREAD], OPTIONS))
            await asyncio.sleep(0)
            version = await service.prepare(second)
            previous = service.activate(version)
            after = asyncio.create_task(service.search(["stone bridge"], OPTIONS))
            await asyncio.sleep(0)
            watched.encoder.gate.set()
            return previous, version, *await asyncio.gather(begun, waiting, after)

    previous, version, begun, waiting, after = asyncio.run(act())

    assert (previous, version) == (read_manifest(first).version, read_manifest(second).version)
    assert (begun.version, waiting.version, after.version) == (previous, previous, version)
    assert ids(begun)[0][0] == "bridge"
    assert ids(waiting)[0][0] == "bread"
    assert ids(after)[0][0] == "new bridge"
    assert all(not name.startswith("new ") for name in ids(begun)[0] + ids(waiting)[0])


def test_going_back_is_the_same_call(first, second):
    async def act():
        async with Watched(first) as watched:
            for directory in (second, first):
                watched.service.activate(await watched.service.prepare(directory))
            answer = await watched.service.search(["stone bridge"], OPTIONS)
            return answer, watched.service.info()["version"], watched.metrics

    answer, version, metrics = asyncio.run(act())

    assert answer.version == version == read_manifest(first).version
    assert metrics.values("winnow_swaps_total", result="done") == [1, 1]
    assert metrics.values("winnow_retriever_info", version=version) == [0, 1]


def test_a_version_that_was_replaced_is_freed_after_its_last_request(first, second):
    kept = []

    def load(directory, config, threads):
        active = load_version(directory, config, threads)
        kept.append((weakref.ref(active), weakref.ref(active.retriever), weakref.ref(active.encoder)))
        return active

    async def act():
        service = RetrieverService(ApiConfig(), ListMetrics(), load=load)
        await service.start(first)
        await service.search(["stone bridge"], OPTIONS)
        gc.collect()
        gc.disable()
        try:
            service.activate(await service.prepare(second))
            await service.search(["stone bridge"], OPTIONS)
            return [reference() is None for reference in kept[0]]
        finally:
            gc.enable()
            await service.stop()

    assert asyncio.run(act()) == [True, True, True]


def test_a_broken_version_is_refused_and_the_old_one_goes_on(first, second, tmp_path):
    broken = shutil.copytree(second, tmp_path / "broken")
    path = broken / "passages.arrow"
    path.write_bytes(path.read_bytes()[:-1])

    async def act():
        async with Watched(first) as watched:
            with pytest.raises(DataError, match=r"passages.arrow has .* bytes, the manifest says"):
                await watched.service.prepare(broken)
            with pytest.raises(SwapRefusedError, match="is not loaded"):
                watched.service.activate(read_manifest(second).version)
            return await watched.service.search(["stone bridge"], OPTIONS), watched.metrics

    answer, metrics = asyncio.run(act())

    assert answer.version == read_manifest(first).version
    assert metrics.values("winnow_swaps_total", result="refused") == [1]


def test_what_was_prepared_can_be_given_up(first, second):
    async def act():
        async with Watched(first) as watched:
            version = await watched.service.prepare(second)
            watched.service.discard()
            with pytest.raises(SwapRefusedError):
                watched.service.activate(version)
            return watched.service.info()["version"]

    assert asyncio.run(act()) == read_manifest(first).version


def test_two_versions_are_not_loaded_at_a_time(first, second):
    gate, entered = threading.Event(), threading.Event()

    def load(directory, config, threads):
        if directory == second:
            entered.set()
            assert gate.wait(10)
        return load_version(directory, config, threads)

    async def act():
        service = RetrieverService(ApiConfig(), ListMetrics(), load=load)
        await service.start(first)
        loading = asyncio.create_task(service.prepare(second))
        await asyncio.to_thread(entered.wait, 10)
        with pytest.raises(SwapBusyError):
            await service.prepare(second)
        answer = await service.search(["stone bridge"], OPTIONS)
        gate.set()
        version = await loading
        await service.stop()
        return answer, version

    answer, version = asyncio.run(act())

    assert answer.version == read_manifest(first).version
    assert version == read_manifest(second).version


def test_a_worker_that_hangs_shows_in_the_readiness_which_never_waits(first, monkeypatch):
    monkeypatch.setattr(watching, "_EVERY_S", 0.01)

    async def act():
        async with Watched(first) as watched:
            before = watched.service.readiness()
            watched.encoder.gate.clear()
            await asyncio.to_thread(watched.encoder.entered.wait, 10)
            during = [watched.service.readiness()]
            await asyncio.sleep(0.1)
            during.append(watched.service.readiness())
            return before, during

    before, (early, late) = asyncio.run(act())

    assert before.is_ready
    assert before.version == read_manifest(first).version
    # No search ended meanwhile, though one is tried a hundred times a second.
    assert late.age_s - early.age_s >= 0.09


def test_nothing_is_answered_before_the_start_and_after_the_stop(first):
    async def act():
        service = RetrieverService(ApiConfig(), ListMetrics())
        with pytest.raises(NotReadyError):
            await service.search(["otter"], OPTIONS)
        assert not service.readiness().is_ready
        await service.start(first)
        await service.stop()
        with pytest.raises(NotReadyError):
            await service.search(["otter"], OPTIONS)

    asyncio.run(act())


def test_a_start_on_a_version_that_is_not_there_says_so(tmp_path):
    service = RetrieverService(ApiConfig(), ListMetrics())

    with pytest.raises(DataError, match=r"no retriever version at .*build one with `winnow index`"):
        asyncio.run(service.start(tmp_path / "nowhere"))


def test_vectors_of_another_encoder_are_refused_although_every_hash_is_right(tmp_path):
    passages = [Passage(f"p{number}", f"{'abcdefgh'[number] * 9} {number}") for number in range(8)]
    other = tiny_encoder(architecture="roberta")
    directory = write_tiny_version(tmp_path / "v", passages, indexed_with=other)

    with pytest.raises(
        DataError, match=r"the index finds \d+% of 8 passages by their own vectors, so it is not of the"
    ):
        load_version(directory, ApiConfig(), 1)


def test_an_encoder_that_gives_nan_is_refused(tmp_path):
    encoder = tiny_encoder()
    directory = write_tiny_version(tmp_path / "v", encoder=filled_with(torch.nan), indexed_with=encoder)

    with pytest.raises(DataError, match="not finite"):
        load_version(directory, ApiConfig(), 1)


def filled_with(value):
    encoder = tiny_encoder()
    with torch.no_grad():
        next(encoder.module.parameters()).fill_(value)
    return encoder
