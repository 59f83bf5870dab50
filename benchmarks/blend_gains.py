"""Query gain plus a weight times answer gain, for several weights: how well does the sum order the pools?

python benchmarks/blend_gains.py --work DIR     (after judge_quality.py --work DIR --judges query_gain answer_gain)

Reads the stored judgments of both judges and asks no model: `qa_gain` with `answer_weight: w` is this sum, up to the
rounding of half precision. Printed: AUC in the pool, AUC against siblings, first passage right, with 95 % intervals.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from judge_quality import config_of

from winnow.audit.baselines import documents_of
from winnow.audit.pairs import PAIR_COLUMNS, JudgedPairs, collect_pairs
from winnow.audit.people import compare_with_people, with_human_positive
from winnow.corpora.store import read_passages
from winnow.labels.evidence import JUDGMENT_COLUMNS, JudgmentIndex
from winnow.steps import annotate, audit, pool
from winnow.steps.config import RunConfig
from winnow.steps.ingest import ingested
from winnow.steps.workspace import find


def pairs_of(config: RunConfig) -> JudgedPairs:
    """The judged pairs of one judge, in the order of the pools."""
    pools = pq.ParquetFile(find(pool.plan(config)).directory / pool.POOLS).iter_batches(1024, columns=PAIR_COLUMNS)
    table = pq.read_table(find(annotate.plan(config)).directory / annotate.JUDGMENTS, columns=JUDGMENT_COLUMNS)
    index = JudgmentIndex(table.sort_by("query_id"))
    reading = audit.reading_of(config.annotate.judge.gives, config.label, relevant_from=1, seed=config.seed)
    return with_human_positive(collect_pairs(pools, set(table["query_id"].to_pylist()), index, reading))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--engine", default="transformers")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 0.25, 0.5, 1.0, 2.0])
    options = parser.parse_args()
    data = json.loads((options.work / "data.json").read_text())
    configs = [config_of(kind, data, options.work, options.engine) for kind in ("query_gain", "answer_gain")]
    query, answer = map(pairs_of, configs)
    assert np.array_equal(query.passage_id_N, answer.passage_id_N), "the two judges judged other pairs"
    document_N = documents_of(read_passages(ingested(configs[0]).directory), query)
    print("| answer weight | AUC in the pool | AUC against siblings | first right |\n|---:|---|---|---|")
    for weight in options.weights:
        blended = replace(query, score_N=query.score_N + weight * answer.score_N)
        agreement = compare_with_people(
            blended, evidence="score", baselines={}, document_N=document_N, samples=1000, seed=13
        )
        order = agreement.order
        cells = [
            f"{e.value:.3f} ({e.low:.3f} to {e.high:.3f})" for e in (order.auc, order.sibling_auc, order.first_right)
        ]
        print(f"| {weight:g} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
