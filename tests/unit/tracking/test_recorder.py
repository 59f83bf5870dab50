"""What MLflow holds after commands that end well, fail, are killed, or cannot reach it."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import pytest
from mlflow.server.constants import ARTIFACT_ROOT_ENV_VAR, BACKEND_STORE_URI_ENV_VAR
from werkzeug.serving import make_server

from winnow.tracking.journal import Journal
from winnow.tracking.recorder import MlflowRecorder
from winnow.tracking.store import connect


def journal_of(settings, step, fingerprint, *, building=False):
    folder = settings.output / step / (f".building-{fingerprint}" if building else fingerprint)
    folder.mkdir(parents=True, exist_ok=True)
    return Journal(folder / "journal.jsonl")


def test_a_command_is_a_parent_run_with_a_child_per_step(settings, runs, history, tmp_path):
    pool, train = journal_of(settings, "pool", "aa"), journal_of(settings, "train", "bb")
    (train.path.parent / "table.md").write_text("| a |")

    with MlflowRecorder(settings, run_name="demo") as recorder:
        with recorder.following("pool", pool.path):
            pool.params({"depth": 30})
            pool.dataset("queries", path=tmp_path, digest="ab" * 32, context="train", num_rows=240)
        with recorder.following("train", train.path):
            for step in range(3):
                train.metrics({"loss": 3.0 - step}, step=step)
            train.headline({"test.nDCG@10": 0.5})
            train.artifact("table.md")

    found = runs()
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert {name: run.data.tags.get("mlflow.parentRunId") for name, run in found.items()} == {
        "demo": None,
        "pool": found["demo"].info.run_id,
        "train": found["demo"].info.run_id,
    }
    assert found["demo"].data.params["batch_size"] == "8"
    assert found["demo"].data.params["tracking.experiment"] == "winnow"
    assert found["demo"].data.metrics == {"test.nDCG_at_10": 0.5}
    assert found["pool"].data.params == {"depth": "30"}
    dataset = found["pool"].inputs.dataset_inputs[0]
    assert (dataset.dataset.name, dataset.tags[0].value) == ("queries", "train")
    assert json.loads(dataset.dataset.profile)["num_rows"] == 240
    assert history(found["train"], "loss") == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert Path(found["train"].info.artifact_uri.removeprefix("file://"), "table.md").read_text() == "| a |"


def test_secrets_are_not_recorded(settings, runs):
    step = journal_of(settings, "pool", "aa")

    with MlflowRecorder(settings, run_name="demo") as recorder, recorder.following("pool", step.path):
        step.params({"engine.access_token": "t0ken", "url": "http://ann:pw@host/x", "max_tokens": 5})

    assert runs()["demo"].data.params["api_key"] == "(not recorded)"
    assert runs()["pool"].data.params == {
        "engine.access_token": "(not recorded)",
        "url": "http://host/x",
        "max_tokens": "5",
    }


def test_values_arrive_while_the_step_is_still_running(settings, runs):
    step = journal_of(settings, "train", "aa")

    with MlflowRecorder(settings, run_name="demo") as recorder, recorder.following("train", step.path):
        step.metrics({"loss": 1.0})
        deadline = time.monotonic() + 20
        while "train" not in runs() or not runs()["train"].data.metrics:
            assert time.monotonic() < deadline, "nothing arrived in 20 s"
            time.sleep(0.1)
        status = runs()["train"].info.status

    assert status == "RUNNING"
    assert runs()["train"].info.status == "FINISHED"


def test_a_failed_step_marks_its_run_and_the_parent(settings, runs):
    step = journal_of(settings, "train", "aa")

    with pytest.raises(RuntimeError, match="boom"):
        _fail_in_a_step(settings, step)

    assert {name: run.info.status for name, run in runs().items()} == {"demo": "FAILED", "train": "FAILED"}
    assert runs()["train"].data.metrics == {"loss": 1.0}


def test_a_skipped_step_appears_in_the_new_run_too(settings, client):
    step = journal_of(settings, "train", "aa")
    with MlflowRecorder(settings, run_name="first") as recorder, recorder.following("train", step.path):
        step.metrics({"loss": 1.0})

    with MlflowRecorder(settings, run_name="second") as recorder, recorder.following("train", step.path):
        pass

    found = client.search_runs([client.get_experiment_by_name("winnow").experiment_id])
    children = {run.data.tags["mlflow.parentRunId"]: run.data.metrics for run in found if run.info.run_name == "train"}
    parents = {run.info.run_id for run in found if run.info.run_name in ("first", "second")}
    assert children == {run_id: {"loss": 1.0} for run_id in parents}


def test_a_killed_command_goes_on_in_the_same_runs(settings, runs, history, tmp_path):
    """Killed with SIGKILL inside a step; the same command follows the same journal to its end."""
    step = journal_of(settings, "train", "aa", building=True)
    _run_until_killed(settings, step.path, tmp_path)

    with MlflowRecorder(settings, run_name="demo") as recorder:
        assert runs()["train"].info.status == "KILLED"
        with recorder.following("train", step.path):
            step.metrics({"loss": 1.0}, step=2)

    found = runs()
    assert {name: run.info.status for name, run in found.items()} == {"demo": "FINISHED", "train": "FINISHED"}
    assert history(found["train"], "loss") == [(0, 3.0), (1, 2.0), (2, 1.0)]


def test_a_step_forced_to_start_again_gets_a_run_of_its_own(settings, client, history, tmp_path):
    step = journal_of(settings, "train", "aa", building=True)
    _run_until_killed(settings, step.path, tmp_path)
    step.path.unlink()

    with MlflowRecorder(settings, run_name="demo") as recorder, recorder.following("train", step.path):
        step.metrics({"loss": 9.0}, step=0)

    found = client.search_runs([client.get_experiment_by_name("winnow").experiment_id])
    by_status = {run.info.status: history(run, "loss") for run in found if run.info.run_name == "train"}
    assert by_status == {"KILLED": [(0, 3.0), (1, 2.0)], "FINISHED": [(0, 9.0)]}


def test_another_configuration_does_not_go_on_in_a_killed_run(settings, client, tmp_path):
    step = journal_of(settings, "train", "aa", building=True)
    _run_until_killed(settings, step.path, tmp_path)

    with MlflowRecorder(settings.model_copy(update={"batch_size": 16}), run_name="demo"):
        pass

    found = client.search_runs([client.get_experiment_by_name("winnow").experiment_id], "tags.`winnow.role` = 'run'")
    assert sorted((run.info.status, run.data.params["batch_size"]) for run in found) == [
        ("FINISHED", "16"),
        ("KILLED", "8"),
    ]


def test_a_lost_store_stops_nothing_and_the_next_command_carries_all_over_once(settings, runs, history, capsys):
    """The database's place is taken by a directory; what was built meanwhile has been published and moved."""
    database = settings.output / "mlflow.db"
    database.rename(settings.output / "kept.db")
    database.mkdir()
    step = journal_of(settings, "train", "aa", building=True)
    with MlflowRecorder(settings, run_name="offline") as recorder, recorder.following("train", step.path):
        for index in range(3):
            step.metrics({"loss": float(index)}, step=index)
    step.path.parent.rename(settings.output / "train" / "aa")
    warnings = capsys.readouterr().err
    database.rmdir()
    (settings.output / "kept.db").rename(database)

    for name in ("later", "much later"):
        with MlflowRecorder(settings, run_name=name):
            pass

    assert warnings.count("cannot be used now") == 1
    assert "the next command carries the journals over" in warnings
    found = runs()
    assert set(found) == {"offline", "train", "later", "much later"}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert found["train"].data.tags["mlflow.parentRunId"] == found["offline"].info.run_id
    assert history(found["train"], "loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]


def test_a_server_that_is_down_holds_nothing_up_and_gets_everything_when_it_is_back(settings, monkeypatch, history):
    port = _free_port()
    uri = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    step = journal_of(settings, "train", "aa")

    started = time.monotonic()
    with MlflowRecorder(settings, run_name="offline") as recorder, recorder.following("train", step.path):
        step.metrics({"loss": 1.0})
    seconds = time.monotonic() - started
    with _serving(settings.output, port, monkeypatch):
        for name in ("later", "much later"):
            with MlflowRecorder(settings, run_name=name):
                pass

    client = connect(f"sqlite:///{settings.output}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("winnow").experiment_id])
    assert seconds < 30
    assert sorted(run.info.run_name for run in found) == ["later", "much later", "offline", "train"]
    assert [history(run, "loss") for run in found if run.info.run_name == "train"] == [[(0, 1.0)]]


def test_how_to_look_names_the_store_and_the_latest_whole_runs(settings, runs):
    with MlflowRecorder(settings, run_name="first"):
        pass
    with MlflowRecorder(settings, run_name="second") as recorder:
        command, link = recorder.how_to_look()

    assert command.endswith(
        f"mlflow ui --backend-store-uri sqlite:///{settings.output}/mlflow.db --host 127.0.0.1 --port 5000"
    )
    page, _, query = unquote(link.removeprefix("compare: ")).partition("?runs=")
    assert page == "http://127.0.0.1:5000/#/compare-runs"
    listed, _, experiment = query.partition("&experiments=")
    assert set(json.loads(listed)) == {run.info.run_id for run in runs().values()}
    assert json.loads(experiment) == [runs()["first"].info.experiment_id]


def _fail_in_a_step(settings, journal):
    with MlflowRecorder(settings, run_name="demo") as recorder, recorder.following("train", journal.path):
        journal.metrics({"loss": 1.0})
        raise RuntimeError("boom")


def _run_until_killed(settings, journal, tmp_path):
    """Another process follows ``journal``, two metrics arrive in MLflow, then it is killed."""
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        sys.path.insert(0, sys.argv[3])
        from importlib import util
        spec = util.spec_from_file_location("helpers", Path(sys.argv[3]) / "conftest.py")
        helpers = util.module_from_spec(spec)
        spec.loader.exec_module(helpers)
        from winnow.tracking.journal import Journal
        from winnow.tracking.recorder import MlflowRecorder
        journal = Journal(Path(sys.argv[2]))
        with MlflowRecorder(helpers.Settings(output=Path(sys.argv[1])), run_name="demo") as recorder:
            with recorder.following("train", journal.path):
                journal.metrics({"loss": 3.0}, step=0)
                journal.metrics({"loss": 2.0}, step=1)
                while True:
                    time.sleep(1)
        """
    )
    arguments = [sys.executable, "-c", script, str(settings.output), str(journal), str(Path(__file__).parent)]
    process = subprocess.Popen(arguments)
    pending = settings.output / "tracking" / "pending"
    deadline = time.monotonic() + 60
    while not any(json.loads(path.read_text())["offset"] for path in pending.glob("*.train-aa.json")):
        assert process.poll() is None, "the process ended by itself"
        assert time.monotonic() < deadline, "nothing was carried over in 60 s"
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def _serving(folder, port, monkeypatch):
    """MLflow's own server, in a thread: as a process of its own it takes half a minute to start."""
    monkeypatch.setenv(BACKEND_STORE_URI_ENV_VAR, f"sqlite:///{folder}/mlflow.db")
    monkeypatch.setenv(ARTIFACT_ROOT_ENV_VAR, str(folder / "served"))
    from mlflow.server import app

    server = make_server("127.0.0.1", port, app)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
