"""The checked form of all inputs on disk: Parquet written by ``ingest``, read by every later step.

``corpus/`` holds one Parquet file per corpus (``corpus.parquet`` is the run's own), ``splits/<name>/``
the queries and qrels of a split, ``quarantine.jsonl`` every row that could not be used.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow import schema
from winnow.config import fingerprint
from winnow.corpora.beir import Qrel
from winnow.corpora.copies import Copies, find_copies, text_hash
from winnow.files import hash_file, read_json, replacing, write_json
from winnow.records import Passage, Query, RejectedRow

MAIN_CORPUS = "corpus"


@dataclass(frozen=True)
class Split:
    """Queries with the passages people found useful: ``qrels[query_id][passage_id]`` is a relevance."""

    name: str
    corpus: str
    queries: tuple[Query, ...]
    qrels: Mapping[str, Mapping[str, int]]
    relevant_from: int = 1
    """Lowest grade of a relevant passage."""


def write_passages(directory: Path, passages: Iterable[Passage], *, corpus: str = MAIN_CORPUS) -> Path:
    """The Parquet file of ``corpus``, with ``passages`` in the order given."""
    rows = ({**asdict(passage), "text_hash": text_hash(passage)} for passage in passages)
    return schema.write_dataset(passages_path(directory, corpus), schema.to_table(rows, schema.CORPUS))


def passages_path(directory: Path, corpus: str = MAIN_CORPUS) -> Path:
    """Where ``corpus`` lies under an ingest directory."""
    return directory / "corpus" / f"{corpus}.parquet"


def read_passages(directory: Path, corpus: str = MAIN_CORPUS, *, only: Collection[str] | None = None) -> list[Passage]:
    """The passages of ``corpus`` in the order of the input file; of a large one, ``only`` those with these ids."""
    path = passages_path(directory, corpus)
    if only is None:
        return passages_of(schema.read_dataset(path, schema.PASSAGES))
    wanted = pc.field("passage_id").isin(pa.array(sorted(only), pa.string()))
    return passages_of(pq.read_table(path, columns=schema.PASSAGES.names, filters=wanted))


def passage_ids(directory: Path, corpus: str = MAIN_CORPUS) -> list[str]:
    """The ids of all passages of ``corpus``."""
    return pq.read_table(passages_path(directory, corpus), columns=["passage_id"])["passage_id"].to_pylist()


def read_copies(directory: Path, corpus: str = MAIN_CORPUS) -> Copies:
    """Which passages of ``corpus`` say the same as an earlier one."""
    return find_copies(pq.read_table(passages_path(directory, corpus), columns=["passage_id", "text_hash"]))


def passages_of(table: pa.Table) -> list[Passage]:
    """The rows of a ``passages`` table as records."""
    rows = table.to_pylist()
    return [Passage(**{**row, "metadata": dict(row["metadata"]) if row["metadata"] else None}) for row in rows]


def corpus_hash(directory: Path, corpus: str = MAIN_CORPUS) -> str:
    """Hash of the stored passages: equal hashes mean equal texts in equal order."""
    return hash_file(passages_path(directory, corpus))[:16]


def split_hash(directory: Path, name: str) -> str:
    """Hash of a split's stored queries: equal hashes mean equal questions in equal order."""
    return hash_file(directory / "splits" / name / "queries.parquet")[:16]


def labels_hash(directory: Path, name: str) -> str:
    """Hash of a split's grades, and of which of them are relevant."""
    folder = directory / "splits" / name
    return fingerprint(hash_file(folder / "qrels.parquet"), read_json(folder / "split.json")["relevant_from"])


def write_split(directory: Path, split: Split) -> None:
    """``split`` under ``splits/<name>/``."""
    folder = directory / "splits" / split.name
    schema.write_dataset(folder / "queries.parquet", schema.to_table(split.queries, schema.QUERIES))
    schema.write_dataset(folder / "qrels.parquet", schema.to_table(_qrel_rows(split.qrels), schema.QRELS))
    write_json(folder / "split.json", {"corpus": split.corpus, "relevant_from": split.relevant_from})


def read_split(directory: Path, name: str) -> Split:
    """The split that ``ingest`` stored under ``name``: ``train``, ``dev`` or a test collection's name."""
    folder = directory / "splits" / name
    queries = schema.read_dataset(folder / "queries.parquet", schema.QUERIES).to_pylist()
    pairs = schema.read_dataset(folder / "qrels.parquet", schema.QRELS).to_pylist()
    about = read_json(folder / "split.json")
    return Split(
        name=name,
        corpus=about["corpus"],
        queries=tuple(Query(row["query_id"], row["query"], tuple(row["answers"] or ())) for row in queries),
        qrels=group_qrels((row["query_id"], row["passage_id"], row["relevance"]) for row in pairs),
        relevant_from=about["relevant_from"],
    )


def has_dev(directory: Path) -> bool:
    """Whether the run has a dev split."""
    return (directory / "splits" / "dev").is_dir()


def collection_names(directory: Path) -> list[str]:
    """The test collections, in the order of the configuration."""
    return list(read_json(directory / "collections.json"))


def group_qrels(pairs: Iterable[Qrel]) -> dict[str, dict[str, int]]:
    """Relevance by query id and passage id; of several of one pair the best."""
    grouped: dict[str, dict[str, int]] = {}
    for query_id, passage_id, relevance in pairs:
        grades = grouped.setdefault(query_id, {})
        grades[passage_id] = max(relevance, grades.get(passage_id, relevance))
    return grouped


def write_quarantine(path: Path, rejected: Sequence[RejectedRow]) -> Path:
    """One JSON line per rejected row: file, line, reason, detail and the row itself (cut)."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rejected)
    return path


def _qrel_rows(qrels: Mapping[str, Mapping[str, int]]) -> list[dict[str, str | int]]:
    return [
        {"query_id": query_id, "passage_id": passage_id, "relevance": relevance}
        for query_id, judged in qrels.items()
        for passage_id, relevance in judged.items()
    ]
