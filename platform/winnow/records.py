"""The nouns of Winnow, as frozen records. Their columns on disk are in ``schema.py``.

All ids are strings. Ranks start at 1. ``None`` means "not known", never "no".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

Status = Literal["ok", "malformed", "truncated", "too_long", "empty_pool", "no_answer", "engine_error"]
"""What became of a judged query. Only ``ok`` is a label; anything else is missing data."""


@dataclass(frozen=True, slots=True)
class Query:
    """What a person asks. ``answers`` are short human answers, where there are any."""

    query_id: str
    query: str
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """The unit that is retrieved. Passages of one ``document_id`` are siblings."""

    passage_id: str
    text: str
    title: str = ""
    document_id: str | None = None
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Where one ranked list had a passage."""

    source: str
    rank: int
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage in a pool, with every ranked list that found it. A judge never sees ``human_label``."""

    passage_id: str
    title: str
    text: str
    found_by: tuple[Finding, ...]
    human_label: int | None = None


@dataclass(frozen=True, slots=True)
class CandidatePool:
    """The passages one query is judged on, in the order the judge sees them. ``answers`` are human ones."""

    query_id: str
    query: str
    passages: tuple[Candidate, ...]
    answers: tuple[str, ...] = ()

    @property
    def pool_id(self) -> str:
        """Hash of the query, its answers and the passages in order; equal pools have equal ids."""
        digest = sha256(self.query.encode())
        for answer in self.answers:
            digest.update(f"\x1d{answer}".encode())
        for passage in self.passages:
            digest.update(f"\x1e{passage.passage_id}\x1f{passage.title}\x1f{passage.text}".encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Judgment:
    """Evidence about one query-passage pair. Thresholds are applied later, in ``labels/``."""

    passage_id: str
    is_relevant: bool | None = None
    is_useful: bool | None = None
    utility_rank: int | None = None
    utility_score: float | None = None
    position: int | None = None
    """Place among the passages of the prompt in which it was first judged, from 1; ``None`` if it stood there alone."""


@dataclass(frozen=True, slots=True)
class JudgeTrace:
    """One call to the engine, for the ledger and the audit."""

    round: str
    attempt: int
    prompt_sha: str
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    seconds: float
    passage_id: str | None = None
    window: int | None = None
    reply: str | None = None
    reasoning: str | None = None


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """What a judge made of one pool. ``judgments`` is empty unless the status is ``ok``."""

    query_id: str
    pool_id: str
    judge_id: str
    status: Status
    detail: str | None = None
    attempts: int = 1
    """How often the most-asked round was asked; 2 after a stricter instruction."""
    pseudo_answer: str | None = None
    passages_cut: int = 0
    """Passages that were shortened before they were judged."""
    judgments: tuple[Judgment, ...] = ()
    traces: tuple[JudgeTrace, ...] = ()


LabelSource = Literal["llm", "human", "both", "mined"]
"""Whose opinion it is: the judge's, people's, or that of both. Only a negative is ``mined``."""


@dataclass(frozen=True, slots=True)
class LabelledPassage:
    """A passage in a training example, and where its label is from."""

    passage_id: str
    source: LabelSource
    weight: float | None = None
    utility_score: float | None = None


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """A query with what the judge and people hold of its passages, ids only: text comes from the corpus.

    Where the two differ, a passage stands in two lists; ``labels/opinions.py`` settles which one counts.
    """

    query_id: str
    query: str
    positives: tuple[LabelledPassage, ...]
    negatives: tuple[LabelledPassage, ...]
    """Hard ones."""
    withheld: tuple[LabelledPassage, ...] = ()
    """Neither: no query ever has one of its own as a negative, wherever it comes from."""
    stage: str = "llm"


@dataclass(frozen=True, slots=True)
class ScoredPassage:
    """A search result."""

    passage_id: str
    score: float
    title: str = ""
    text: str = ""
    document_id: str | None = None
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that could not be used: where it stood, a reason code from a closed set, the details."""

    path: str
    line: int
    reason: str
    detail: str
    raw: str = field(default="", repr=False)
