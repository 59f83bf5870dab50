"""What the benchmarks of judging share: pools made of words, the scripted engine, a run of it on Ray."""

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
sys.path.insert(0, str(TESTS))

from scripted import ScriptedEngine  # noqa: E402

from winnow import schema  # noqa: E402
from winnow.cluster.annotating import ActorPool, JudgedNow, judge_pools, pool_keys  # noqa: E402
from winnow.cluster.sink import EvidenceSink  # noqa: E402
from winnow.config import build_config  # noqa: E402
from winnow.judging.build import build_judge  # noqa: E402
from winnow.judging.config import AnnotateConfig  # noqa: E402
from winnow.judging.rows import unfold  # noqa: E402
from winnow.records import Candidate, CandidatePool  # noqa: E402

CONFIG = build_config(AnnotateConfig, {"engine": {"kind": "vllm", "model": "org/never-loaded"}})
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
PYTHONPATH = os.pathsep.join([str(TESTS), str(ROOT / "benchmarks")])


def write_pools(path: Path, num_queries: int, *, num_passages: int = 4, padding: int = 0) -> Path:
    """A ``candidate_pools`` file; each passage holds ``padding`` more characters, no two alike."""
    with schema.writing_dataset(path, schema.CANDIDATE_POOLS) as append:
        for start in range(0, num_queries, 1000):
            numbers = range(start, min(start + 1000, num_queries))
            append(pa.Table.from_pylist(list(_rows(numbers, num_passages, padding)), schema=schema.CANDIDATE_POOLS))
    return path


def _rows(numbers: range, num_passages: int, padding: int) -> Iterator[dict[str, object]]:
    for number in numbers:
        texts = [" ".join(WORDS[: (number + place) % 8 + 1]) for place in range(num_passages)]
        if padding:
            texts = [f"{text} {os.urandom(padding // 2).hex()}" for text in texts]
        passages = tuple(Candidate(f"p{number}-{place}", "", text, ()) for place, text in enumerate(texts))
        pool = CandidatePool(f"q{number:06d}", f"item{number} alpha gamma theta", passages)
        rows = [{"passage_id": p.passage_id, "title": "", "text": p.text, "found_by": []} for p in passages]
        yield {"query_id": pool.query_id, "query": pool.query, "pool_id": pool.pool_id, "passages": rows, "answers": []}


def scripted(config: object, cache: Path, **settings: object) -> ScriptedEngine:
    """An engine factory, by name so that it can be sent to actors."""
    return ScriptedEngine(**settings)


def judge(pools: Path, sink: EvidenceSink, actors: ActorPool, **engine: object) -> JudgedNow:
    """One run of judging over what is not in ``sink`` yet, on the Ray that is there."""
    known = sink.statuses()
    pending = [key for key in pool_keys(pools) if known.get(key, "engine_error") == "engine_error"]
    factory = partial(build_judge, CONFIG, Path("unused"), partial(scripted, **engine))
    most = max(1, len(pending) // 20)
    return judge_pools(pools, pending, factory, sink, actors=actors, max_failures=most)


def publish(pools: Path, sink: EvidenceSink, folder: Path) -> list[bytes]:
    """The bytes of the datasets that labels are made from."""
    paths = [folder / "judged_queries.parquet", folder / "judgments.parquet"]
    with (
        schema.writing_dataset(paths[0], schema.JUDGED_QUERIES) as queries,
        schema.writing_dataset(paths[1], schema.JUDGMENTS) as judgments,
    ):
        for evidence in sink.read(pool_keys(pools)):
            tables = unfold(evidence)
            queries(tables.judged_queries)
            judgments(tables.judgments)
    return [path.read_bytes() for path in paths]
