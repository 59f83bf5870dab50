"""Which texts, questions and labels a run works on."""

from typing import Literal, Self

from pydantic import Field, model_validator

from winnow.config import Config, InputPath


class CorpusConfig(Config):
    """The passages that are searched."""

    path: InputPath
    """A BEIR ``corpus.jsonl`` (``_id``, ``title``, ``text``) or another format of docs/inputs.md; for ``docstrings``
    a list of modules."""

    format: Literal["beir", "docstrings"] = "beir"
    """``beir``: passages with an id and a text, in any format of docs/inputs.md. ``docstrings``: the public docstrings
    of the listed standard-library modules of the running Python."""

    max_words: int = Field(default=120, ge=8)
    """``docstrings`` only: longer docstrings are cut into passages of at most this many words."""

    limit: int = Field(default=3000, ge=1)
    """``docstrings`` only: stop after this many passages."""


class SplitConfig(Config):
    """Questions, and which passages answer them where people have said so."""

    queries: InputPath
    """A BEIR ``queries.jsonl``: ``_id``, ``text``, and ``answers`` (a list) where there are any; or another format of
    docs/inputs.md."""

    qrels: InputPath | None = None
    """Tab-separated ``query-id  corpus-id  score`` with that header line, or the four columns of TREC; or another
    format of docs/inputs.md."""

    relevant_from: int = Field(default=1, ge=1)
    """Lowest grade of a relevant passage; 2 for TREC DL. A grade of 0 or less says that a passage is not relevant; one
    between the two says neither, and such a passage is no negative."""


class TrainSplitConfig(SplitConfig):
    """Questions to label and train on. Those that dev or a test collection asks too are left out, and counted."""

    questions: Literal["judged", "all"] | None = None
    """``judged``: train on the questions that ``qrels`` names. ``all``: on every question in ``queries``, such as
    unlabelled ones. Has to be given where ``qrels`` names only some of them, as in a file shared by all splits."""

    @model_validator(mode="after")
    def _judged_by_somebody(self) -> Self:
        if self.questions == "judged" and self.qrels is None:
            raise ValueError("questions: judged needs `qrels`, which name the questions; give them or remove it")
        return self


class CollectionConfig(Config):
    """A test collection: the questions that ``qrels`` names, over a corpus."""

    name: str = Field(pattern=r"^[\w.-]+$")
    """How tables call it."""

    queries: InputPath
    """As in ``SplitConfig``."""

    qrels: InputPath
    """As in ``SplitConfig``; required here."""

    relevant_from: int = Field(default=1, ge=1)
    """As in ``SplitConfig``."""

    corpus: CorpusConfig | None = None
    """The collection's own corpus; the run's corpus if it is left out."""


class DataConfig(Config):
    """All input texts of a run."""

    corpus: CorpusConfig
    """The corpus that pools, training and the index are made from."""

    train: TrainSplitConfig
    """Questions to label and train on; they need no qrels."""

    dev: SplitConfig | None = None
    """The questions that ``qrels`` names, over the run's corpus; choices and the ``champion`` rule look at these alone.
    A question that a test collection asks too is left out."""

    test: tuple[CollectionConfig, ...] = ()
    """Collections that are measured for the report and never used for a choice."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [collection.name for collection in self.test]
        clashes = sorted({name for name in names if names.count(name) > 1 or name in ("train", "dev", "corpus")})
        if clashes:
            raise ValueError(f"test collections need names of their own; {clashes} are taken or repeated")
        if self.dev is not None and self.dev.qrels is None:
            raise ValueError("data.dev.qrels is missing; a dev split without labels measures nothing")
        return self
