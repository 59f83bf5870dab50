"""Check every input once: corpora, queries and qrels to Parquet, bad rows to quarantine, no question in two splits."""

import platform
from collections import Counter
from collections.abc import Mapping, Set
from functools import cache, partial
from pathlib import Path
from typing import Any

from winnow.config import fingerprint
from winnow.corpora.beir import Qrel, read_corpus, read_qrels, read_queries
from winnow.corpora.config import CollectionConfig, CorpusConfig, DataConfig, SplitConfig
from winnow.corpora.docstrings import read_docstrings
from winnow.corpora.opening import check_readable
from winnow.corpora.raw import REASONS
from winnow.corpora.reading import Reading
from winnow.corpora.splitting import RawSplit, separate
from winnow.corpora.store import MAIN_CORPUS, read_copies, write_passages, write_quarantine, write_split
from winnow.errors import DataError
from winnow.files import hash_file, hash_tree, write_json
from winnow.records import Passage, Query, RejectedRow
from winnow.steps.config import RunConfig
from winnow.steps.workspace import StepContext, StepOptions, StepPlan, StepResult, find, produce

STEP_VERSION = "5"


def plan(config: RunConfig) -> StepPlan:
    """What ``ingest`` would compute for ``config``."""
    inputs = {name: hash_input(path) for name, path in sorted(_input_files(config.data).items())}
    if _reads_docstrings(config.data):
        inputs["python"] = platform.python_version()
    return StepPlan("ingest", STEP_VERSION, config.output, config.data.science(), inputs)


def ingest(config: RunConfig, options: StepOptions = StepOptions()) -> StepResult:
    """The checked inputs of ``config``, and the counts of what was kept and what was not."""
    return produce(plan(config), partial(_build, config), options)


def ingested(config: RunConfig) -> StepResult:
    """The same for a step that only needs it to be there: silent when it is."""
    wanted = plan(config)
    return find(wanted) if wanted.directory.exists() else ingest(config)


def _build(config: RunConfig, context: StepContext) -> Mapping[str, Any]:
    data, work = config.data, _Ingest(context.directory)
    work.add_corpus(MAIN_CORPUS, data.corpus)
    for collection in data.test:
        if collection.corpus is not None:
            work.add_corpus(collection.name, collection.corpus)
    train = work.read_split("train", data.train)
    dev = None if data.dev is None else work.read_split("dev", data.dev)
    tests = [work.read_split(collection.name, collection) for collection in data.test]
    for split in separate(train, dev, tests, questions=data.train.questions):
        work.add_split(split)
    write_json(context.directory / "collections.json", [collection.name for collection in data.test])
    summary = work.finish()
    context.journal.params({f"ingest.{name}": count for name, count in summary["kept"].items()})
    return summary


class _Ingest:
    """Writes what can be used, remembers what cannot, and says both."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._passage_ids: dict[str, Set[str]] = {}
        self._kept: Counter[str] = Counter()
        self._copies: dict[str, int] = {}
        self._left_out: Counter[str] = Counter()
        self._rejected: list[RejectedRow] = []
        self._queries: dict[Path, list[Query]] = {}

    def add_corpus(self, name: str, config: CorpusConfig) -> None:
        """Store the passages of ``config`` under ``name``. Raises ``DataError`` if none can be used."""
        passages = self._read_docstrings(config) if config.format == "docstrings" else self._read_beir(config.path)
        if not passages:
            raise self._nothing_in(config.path, "passage")
        write_passages(self._directory, passages, corpus=name)
        self._passage_ids[name] = {passage.passage_id for passage in passages}
        self._kept[f"{name}.passages"] = len(passages)
        if num_copies := len(read_copies(self._directory, name).first_of):
            self._copies[name] = num_copies

    def read_split(self, name: str, files: SplitConfig | CollectionConfig) -> RawSplit:
        """The queries of a split, and the qrels that join. Raises ``DataError`` if no query can be used."""
        queries = self._read_queries(files.queries)
        if not queries:
            raise self._nothing_in(files.queries, "query")
        corpus = name if name in self._passage_ids else MAIN_CORPUS
        if files.qrels is None:
            return RawSplit(name, corpus, queries)
        qrels = self._keep(read_qrels(files.qrels))
        if not qrels:
            raise self._nothing_in(files.qrels, "label")
        named = frozenset(query_id for query_id, _, _ in qrels)
        pairs = self._joined(qrels, queries, corpus, files.qrels)
        return RawSplit(name, corpus, queries, named, pairs, files.relevant_from)

    def add_split(self, raw: RawSplit) -> None:
        """Store what is left of a split, and remember what is not. Raises ``DataError`` if no query is left."""
        if not raw.queries:
            reasons = ", ".join(f"{count:,} {why}" for why, count in raw.left_out.items())
            raise DataError(f"no question of {raw.name!r} is left: {reasons}; give it questions of its own")
        split = raw.checked()
        write_split(self._directory, split)
        self._kept[f"{split.name}.queries"] = len(split.queries)
        self._kept[f"{split.name}.qrels"] = sum(map(len, split.qrels.values()))
        self._left_out.update({f"{split.name}.queries {why}": count for why, count in raw.left_out.items()})
        if with_them := len(raw.pairs) - self._kept[f"{split.name}.qrels"]:
            self._left_out[f"{split.name}.qrels of those"] = with_them

    def finish(self) -> dict[str, Any]:
        """The counts, after they were printed and the quarantine was written."""
        path = write_quarantine(self._directory / "quarantine.jsonl", self._rejected)
        print("ingest: kept " + ", ".join(f"{count:,} {name}" for name, count in self._kept.items()))
        for name, count in self._copies.items():
            print(
                f"ingest: {count:,} passages in {name} are copies: their title and text equal an earlier one's, which "
                f"stands for them in pools, labels and mining"
            )
        for what, count in self._left_out.items():
            print(f"ingest: left out {count:,} {what}")
        reasons = Counter((row.path, row.reason) for row in self._rejected)
        for (source, reason), count in sorted(reasons.items()):
            print(f"ingest: quarantined {count:,} rows of {source}: {reason} ({REASONS[reason]})")
        if reasons:
            print(f"ingest: the rows, with line numbers, are published with this step as {path.name}")
        return {
            "kept": dict(self._kept),
            "copies": self._copies,
            "left_out": dict(self._left_out),
            "quarantined": dict(Counter(row.reason for row in self._rejected)),
        }

    def _read_queries(self, path: Path) -> list[Query]:
        # Splits often share a file, whose bad rows count once.
        if path not in self._queries:
            self._queries[path] = self._keep(read_queries(path))
        return self._queries[path]

    def _read_beir(self, path: Path) -> list[Passage]:
        return self._keep(read_corpus(path))

    def _read_docstrings(self, config: CorpusConfig) -> list[Passage]:
        corpus = read_docstrings(config.path, max_words=config.max_words, limit=config.limit)
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in sorted(corpus.dropped.items())) or "nothing"
        print(f"ingest: docstrings of {config.path.name}: left out {left_out}")
        if absent := [*corpus.missing_modules, *corpus.unreadable_modules]:
            print(f"ingest: {len(absent)} modules cannot be read on Python {platform.python_version()}: {absent}")
        return list(corpus.passages)

    def _joined(self, qrels: list[Qrel], queries: list[Query], corpus: str, path: Path) -> list[Qrel]:
        query_ids, passage_ids = {query.query_id for query in queries}, self._passage_ids[corpus]
        joined = []
        for query_id, passage_id, relevance in qrels:
            if query_id not in query_ids:
                self._reject(path, "unknown_query", f"query {query_id!r} is not among the queries")
            elif passage_id not in passage_ids:
                self._reject(
                    path, "unknown_passage", f"passage {passage_id!r} of query {query_id!r} is not in the corpus"
                )
            else:
                joined.append((query_id, passage_id, relevance))
        return joined

    def _keep(self, reading: Reading[Any]) -> list[Any]:
        self._rejected.extend(reading.rejected)
        return reading.rows

    def _reject(self, path: Path, reason: str, detail: str) -> None:
        self._rejected.append(RejectedRow(str(path), 0, reason, detail))

    def _nothing_in(self, path: Path, what: str) -> DataError:
        """The error for a file without a usable row; what was rejected so far is left in quarantine."""
        rejected = [row for row in self._rejected if row.path == str(path)]
        if not rejected:
            return DataError(f"{path} holds no {what}: the file is empty")
        quarantine = write_quarantine(self._directory / "quarantine.jsonl", self._rejected)
        first, reasons = rejected[0], dict(Counter(row.reason for row in rejected))
        return DataError(
            f"{path} holds no usable {what}: {len(rejected):,} rows were rejected {reasons}; the first, in line "
            f"{first.line}: {first.detail} (it reads {first.raw[:80]!r}); all of them are in {quarantine}"
        )


def _input_files(data: DataConfig) -> dict[str, Path]:
    files = {"corpus": data.corpus.path}
    splits = {"train": data.train, **({"dev": data.dev} if data.dev else {}), **{c.name: c for c in data.test}}
    for name, split in splits.items():
        files[f"{name}.queries"] = split.queries
        if split.qrels is not None:
            files[f"{name}.qrels"] = split.qrels
    files.update({f"{c.name}.corpus": c.corpus.path for c in data.test if c.corpus is not None})
    return files


def _reads_docstrings(data: DataConfig) -> bool:
    corpora = [data.corpus, *(collection.corpus for collection in data.test if collection.corpus is not None)]
    return any(corpus.format == "docstrings" for corpus in corpora)


def hash_input(path: Path) -> str:
    """What changes when the content of ``path`` does: a file, or a folder that holds a dataset."""
    check_readable(path)
    try:
        stat = path.stat()
        if path.is_dir():
            return fingerprint(hash_tree(path))
        return _hash_unchanged(path, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise DataError(f"no readable file at {str(path)!r} ({error.strerror}); see the `data` section") from None


@cache
def _hash_unchanged(path: Path, mtime_ns: int, size: int) -> str:
    """Every step's plan asks for the hashes of the inputs; a large file is read once per process."""
    return hash_file(path)
