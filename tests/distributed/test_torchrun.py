"""The loop without Ray: one process, and two under torchrun, train the same encoder."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import yaml
from tiny_models import tiny_encoder

from winnow import schema
from winnow.config import load_config
from winnow.errors import ConfigError
from winnow.modeling.encoder import DenseEncoder
from winnow.records import LabelledPassage, Passage, TrainingExample
from winnow.training.__main__ import JobConfig, main, run

WORDS = ["sorting lists", "reading files", "parsing dates", "opening sockets", "joining paths", "counting words"]


@pytest.fixture
def job(tmp_path):
    """Six questions with a passage of their own and one of their neighbour's."""
    tiny_encoder().save(tmp_path / "base")
    names = [f"p{number}" for number in range(len(WORDS))]
    passages = [Passage(name, f"{words} is done with care") for name, words in zip(names, WORDS, strict=True)]
    examples = [
        TrainingExample(
            f"q{number}",
            f"how does {words} work?",
            (LabelledPassage(names[number], "llm"),),
            (LabelledPassage(names[number - 1], "llm"),),
        )
        for number, words in enumerate(WORDS)
    ]
    schema.write_dataset(tmp_path / "passages.parquet", schema.to_table(passages, schema.PASSAGES))
    schema.write_dataset(tmp_path / "examples.parquet", schema.to_table(examples, schema.TRAINING_EXAMPLES))
    return {
        "encoder": {"model": str(tmp_path / "base"), "precision": "float32"},
        "examples": "examples.parquet",
        "passages": "passages.parquet",
        "train": {
            "loss": {"objective": "LSEPair", "temperature": 0.5},
            "sampling": {"group_size": 2},
            "batch_size": 3,
            "learning_rate": 1e-3,
        },
    }


def write(job, folder):
    path = folder.parent / f"{folder.name}.yaml"
    path.write_text(yaml.safe_dump({**job, "output": str(folder)}))
    return path


def vector(encoder):
    return DenseEncoder.load(encoder).encode(["how does reading files work?"], side="query")


def test_two_processes_under_torchrun_train_what_one_process_trains(job, tmp_path):
    run(load_config(JobConfig, write(job, tmp_path / "alone")))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command = [*launcher, "--nproc-per-node", "2", "-m", "winnow.training", str(write(job, tmp_path / "together"))]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    steps = [json.loads(line)["step"] for line in (tmp_path / "together" / "metrics.jsonl").read_text().splitlines()]
    alone, together = vector(tmp_path / "alone" / "encoder"), vector(tmp_path / "together" / "encoder")
    assert steps == [1, 2, 3, 4]
    assert np.allclose(alone, together, atol=1e-3)
    assert np.abs(alone - vector(tmp_path / "base")).max() > 5e-3


def test_a_finished_job_ends_well_again_and_one_of_other_data_is_refused(job, tmp_path):
    path = write(job, tmp_path / "job")
    run(load_config(JobConfig, path))
    expected = vector(tmp_path / "job" / "encoder")

    run(load_config(JobConfig, path))

    assert np.array_equal(vector(tmp_path / "job" / "encoder"), expected)
    job["encoder"]["query_prefix"] = "query: "
    with pytest.raises(ConfigError, match="was written with encoder"):
        run(load_config(JobConfig, write(job, tmp_path / "job")))


def test_what_the_machine_refuses_is_one_line_with_the_path_and_exit_code_2(job, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["winnow.training", str(write(job, tmp_path / "job"))])
    (tmp_path / "job").write_text("a file where the folder is to be")

    with pytest.raises(SystemExit) as ended:
        main()

    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("winnow: ")
    assert said.count("\n") == 1
    assert str(tmp_path / "job") in said


@pytest.mark.parametrize("changed", ["passages", "tokenizer"])
def test_other_words_or_another_tokenizer_are_tokenised_anew_and_no_old_checkpoint_is_gone_on_from(
    job, tmp_path, changed
):
    path = write(job, tmp_path / "job")
    run(load_config(JobConfig, path))
    if changed == "passages":
        passages = [Passage(f"p{number}", f"something else {number}") for number in range(len(WORDS))]
        schema.write_dataset(tmp_path / "passages.parquet", schema.to_table(passages, schema.PASSAGES))
    else:
        rules = tmp_path / "base" / "tokenizer.json"
        rules.write_text(rules.read_text() + "\n")

    with pytest.raises(ConfigError, match=r"was written with tokens"):
        run(load_config(JobConfig, path))

    assert len(list((tmp_path / "job" / "tokens").iterdir())) == 2


@pytest.mark.parametrize("setting", [{"stages": [{"name": "a"}]}, {"dev": {}}])
def test_what_needs_more_than_one_stage_is_refused(job, tmp_path, setting):
    job["train"].update(setting)

    with pytest.raises(ConfigError, match="stages and dev questions are for `winnow train`"):
        run(load_config(JobConfig, write(job, tmp_path / "staged")))
