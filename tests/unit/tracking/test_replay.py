"""Every journal line reaches MLflow once, whatever happens between two batches."""

import json
import subprocess
import sys

import pytest

from winnow.tracking.config import TrackingConfig
from winnow.tracking.journal import Journal
from winnow.tracking.replay import Replayer, read_batch
from winnow.tracking.state import RunState, StateStore


@pytest.fixture
def journal(settings):
    folder = settings.output / "train" / "aa"
    folder.mkdir(parents=True)
    return Journal(folder / "journal.jsonl")


def new_replayer(settings):
    return Replayer(settings.output, TrackingConfig(), f"sqlite:///{settings.output}/mlflow.db")


def new_state(journal):
    return RunState("train-aa", "train", "winnow", "sqlite://", str(journal.path))


def test_a_batch_repeated_after_a_kill_changes_nothing(settings, journal, runs, history):
    """The process died after MLflow had the lines and before the offset and the run's id were written down."""
    (journal.path.parent / "table.md").write_text("| a |")
    journal.params({"objective": "LSEPair"})
    journal.metrics({"loss": 2.0, "skipped": float("nan")}, step=0)
    journal.metrics({"loss": 1.0}, step=1)
    journal.dataset("examples", path=journal.path, digest="abc", context="training", num_rows=3)
    journal.artifact("table.md")
    state = new_state(journal)
    new_replayer(settings).replay(state)

    state.offset, state.run_id = 0, None
    new_replayer(settings).replay(state)

    run = runs()["train"]
    assert history(run, "loss") == [(0, 2.0), (1, 1.0)]
    assert len(history(run, "skipped")) == 1
    assert run.data.params == {"objective": "LSEPair"}
    assert len(run.inputs.dataset_inputs) == 1


def test_only_what_is_new_is_sent(settings, journal, history, runs):
    state, replayer = new_state(journal), new_replayer(settings)
    journal.metrics({"loss": 2.0}, step=0)
    replayer.replay(state)
    first = state.offset

    journal.metrics({"loss": 1.0}, step=1)
    replayer.replay(state)

    assert first == len(journal.path.read_bytes().splitlines(keepends=True)[0])
    assert state.offset == journal.path.stat().st_size
    assert history(runs()["train"], "loss") == [(0, 2.0), (1, 1.0)]


def test_thousands_of_metrics_and_hundreds_of_parameters_fit_mlflows_limits(settings, journal, runs, history):
    journal.params({f"p{index}": index for index in range(250)})
    journal.metrics({f"m{index}": index for index in range(1500)})
    for step in range(700):
        journal.metrics({"loss": 1.0 / (step + 1)}, step=step)

    new_replayer(settings).replay(new_state(journal))

    run = runs()["train"]
    assert len(run.data.params) == 250
    assert len(run.data.metrics) == 1501
    assert [step for step, _ in history(run, "loss")] == list(range(700))


def test_a_line_that_is_still_being_written_waits(settings, journal):
    journal.params({"a": 1})
    whole = journal.path.stat().st_size
    with journal.path.open("a") as file:
        file.write('{"kind": "params", "val')

    batch = read_batch(journal.path, 0)

    assert [entry["values"] for entry in batch.entries] == [{"a": "1"}]
    assert batch.end == whole


def test_lines_that_nobody_can_use_are_counted_and_the_others_go_on(settings, journal, runs, capsys):
    journal.params({"before": 1})
    with journal.path.open("a") as file:
        file.write("not json\n")
        file.write(json.dumps({"kind": "confetti", "time": 0}) + "\n")
    journal.artifact("missing.png")
    journal.params({"after": 2})
    state = new_state(journal)
    state.status, state.ended = "FINISHED", 1.0

    new_replayer(settings).replay(state)

    assert runs()["train"].data.params == {"before": "1", "after": "2"}
    said = capsys.readouterr().err
    assert "'confetti'" in said
    assert "missing.png" in said
    assert "3 journal lines of train were not accepted" in said


def test_a_parameter_said_again_with_another_value_keeps_the_first_and_shows_the_second(settings, journal, runs):
    replayer, state = new_replayer(settings), new_state(journal)
    journal.params({"workers": 2})
    replayer.replay(state)
    journal.params({"workers": 4})
    journal.params({"host": "a"})
    journal.params({"host": "b"})

    new_replayer(settings).replay(state)

    run = runs()["train"]
    assert run.data.params == {"workers": "2", "host": "a"}
    assert {key: run.data.tags[key] for key in ("changed.workers", "changed.host")} == {
        "changed.workers": "4",
        "changed.host": "b",
    }


def test_an_ended_run_leaves_nothing_pending(settings, journal):
    states = StateStore(settings.output)
    state = new_state(journal)
    states.save(state)
    state.status, state.ended = "FINISHED", 1.0

    new_replayer(settings).replay(state)

    assert states.pending() == []
    assert states.find("train-aa").run_id == state.run_id


def test_mlflow_is_not_imported_before_something_is_carried_over():
    program = "import sys, winnow.tracking.recorder; sys.exit('mlflow' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
