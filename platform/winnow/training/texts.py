"""The texts that training reads, and their token ids."""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from winnow.config import fingerprint
from winnow.errors import DataError
from winnow.modeling.config import EncoderConfig
from winnow.modeling.text import ENCODING_VERSION, passage_text
from winnow.modeling.tokenizing import TextTokenizer
from winnow.models import content_hash
from winnow.records import Passage, Query, TrainingExample
from winnow.training.tokens import TEXTS, TOKENS


def training_texts(examples: Sequence[TrainingExample], passages: Iterable[Passage]) -> pa.Table:
    """The queries of ``examples`` and every passage that they name, as rows of ``TEXTS``. Raises ``DataError``."""
    queries = [Query(example.query_id, example.query) for example in examples]
    return select_texts(queries, named_passages(examples), passages)


def named_passages(examples: Iterable[TrainingExample]) -> set[str]:
    """The ids of all passages that ``examples`` name."""
    return {labelled.passage_id for example in examples for labelled in (*example.positives, *example.negatives)}


def select_texts(queries: Iterable[Query], passage_ids: Iterable[str], passages: Iterable[Passage]) -> pa.Table:
    """``queries`` and those of ``passages`` that are named, as rows of ``TEXTS``. Raises ``DataError``."""
    wanted = set(passage_ids)
    texts = {passage.passage_id: passage_text(passage) for passage in passages if passage.passage_id in wanted}
    if unknown := sorted(wanted - texts.keys()):
        raise DataError(
            f"{len(unknown)} labelled passages, such as {unknown[0]!r}, are not in the corpus of the queries; "
            f"label again with the corpus that is configured now"
        )
    rows = [("query", query.query_id, query.query) for query in queries]
    rows += [("passage", name, texts[name]) for name in sorted(wanted)]
    return pa.Table.from_arrays([pa.array(column, pa.string()) for column in zip(*rows, strict=True)], schema=TEXTS)


def token_key(encoder: EncoderConfig, *texts: str) -> str:
    """Changes with all that token ids depend on: our code, the tokenizer and its settings, and ``texts``.

    ``texts`` are hashes: of what names the texts, and of where their words are.
    """
    return fingerprint(ENCODING_VERSION, encoder.science(), content_hash(encoder.locate()), *texts)


def tokenised(texts: pa.Table, tokenizer: TextTokenizer) -> pa.Table:
    """The rows of ``TOKENS`` for rows of ``TEXTS``."""
    sides = texts["side"].to_numpy()
    strings = np.array(texts["text"].to_pylist(), dtype=object)
    rows: list[list[int]] = [[]] * len(strings)
    for side in ("query", "passage"):
        positions = np.flatnonzero(sides == side)
        for position, ids in zip(positions, tokenizer.tokenize(strings[positions], side=side), strict=True):
            rows[position] = ids
    return pa.table([texts["side"], texts["id"], rows], schema=TOKENS)
