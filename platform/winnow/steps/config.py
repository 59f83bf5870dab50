"""The configuration of a run: one section per component, one file for all verbs."""

from pathlib import Path

from pydantic import Field

from winnow.api.config import ServeConfig
from winnow.audit.config import AuditConfig
from winnow.cluster.config import ClusterConfig
from winnow.config import Config
from winnow.corpora.config import DataConfig
from winnow.evaluation.config import EvaluateConfig
from winnow.judging.config import AnnotateConfig
from winnow.labels.config import LabelConfig
from winnow.modeling.config import EncoderConfig
from winnow.pooling.config import PoolConfig
from winnow.retrieval.config import IndexConfig, Language
from winnow.tracking.config import TrackingConfig
from winnow.training.config import TrainConfig


class RunConfig(Config):
    """Everything from raw text to a served retriever. A verb reads its own sections and those before it."""

    name: str = Field(default="winnow", pattern=r"^[\w.-]+$")
    """How MLflow calls the run."""

    output: Path = Path("runs")
    """Output root, relative to the current directory. Runs under one root share finished steps and one MLflow store."""

    seed: int = Field(default=13, ge=0)
    """All randomness is derived from this."""

    language: Language = "english"
    """Of the corpus and the questions, for BM25: whose stop words it leaves out and by whose rules it stems the others.
    ``none`` leaves words as they are. Chinese, Japanese and Korean need no setting."""

    data: DataConfig
    """Corpus, questions, labels."""

    encoder: EncoderConfig
    """The encoder before training: it helps to make pools, is trained, and is the baseline."""

    pool: PoolConfig = PoolConfig()
    """Which passages are judged for a question."""

    annotate: AnnotateConfig
    """The judge and its engine."""

    label: LabelConfig = LabelConfig()
    """From the judge's evidence to positives and negatives."""

    audit: AuditConfig = AuditConfig()
    """How far the labels can be trusted."""

    train: TrainConfig
    """Objective, sampling, optimisation."""

    index: IndexConfig = IndexConfig()
    """The vector index of the retriever version."""

    evaluate: EvaluateConfig = EvaluateConfig()
    """Measures and comparisons."""

    serve: ServeConfig = ServeConfig()
    """The HTTP endpoint."""

    cluster: ClusterConfig = ClusterConfig()
    """Resources of the local Ray, and of encoder actors."""

    tracking: TrackingConfig = TrackingConfig()
    """MLflow."""
