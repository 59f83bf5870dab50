"""Retriever versions are registered once, and ``champion`` moves by the rule alone."""

from pathlib import Path

import pytest
from mlflow.artifacts import download_artifacts

from winnow.tracking.config import TrackingConfig
from winnow.tracking.journal import Journal
from winnow.tracking.replay import Replayer
from winnow.tracking.state import RunState


@pytest.fixture
def evaluate(settings, tmp_path):
    """Evaluates a made-up retriever version and carries the journal over."""

    def carry(content: str, dev_value: float | None, *, dev_digest: str | None = "dev-a", attempt: str = "") -> None:
        version = tmp_path / content
        version.mkdir(exist_ok=True)
        (version / "manifest.json").write_text(content)
        folder = settings.output / "evaluate" / f"{content}-{dev_digest}{attempt}"
        folder.mkdir(parents=True)
        journal = Journal(folder / "journal.jsonl")
        journal.retriever_version(
            version, content_hash=content, measure="nDCG@10", dev_value=dev_value, dev_digest=dev_digest
        )
        state = RunState(folder.name, folder.name, "winnow", "sqlite://", str(journal.path))
        config = TrackingConfig(champion_min_gain=0.005)
        Replayer(settings.output, config, f"sqlite:///{settings.output}/mlflow.db").replay(state)

    return carry


@pytest.fixture
def champion(client):
    """The content hash of the version that ``champion`` names now."""

    def read() -> str | None:
        number = client.get_registered_model("winnow").aliases.get("champion")
        return None if number is None else client.get_model_version("winnow", str(number)).tags["content_hash"]

    return read


def versions(client):
    found = client.search_model_versions("name = 'winnow'")
    return sorted(version.tags["content_hash"] for version in found)


def test_champion_moves_only_when_the_gain_is_large_enough(evaluate, champion):
    champions = []
    for content, dev_value in [("first", 0.700), ("worse", 0.650), ("barely", 0.704), ("better", 0.705)]:
        evaluate(content, dev_value)
        champions.append(champion())

    assert champions == ["first", "first", "first", "better"]


def test_champion_does_not_move_for_a_value_on_other_dev_questions(evaluate, champion, capsys):
    evaluate("first", 0.70, dev_digest="dev-a")

    evaluate("second", 0.99, dev_digest="dev-b")

    assert champion() == "first"
    assert "champion stays version 1: it was not measured on these dev questions" in capsys.readouterr().out


def test_champion_can_be_beaten_on_other_dev_questions_once_it_was_measured_there(evaluate, champion):
    evaluate("first", 0.70, dev_digest="dev-a")
    evaluate("first", 0.40, dev_digest="dev-b")

    evaluate("second", 0.50, dev_digest="dev-b")

    assert champion() == "second"


def test_without_dev_questions_no_alias_moves(evaluate, champion, client):
    evaluate("first", None, dev_digest=None)

    assert versions(client) == ["first"]
    assert champion() is None


def test_equal_content_is_one_version_and_is_compared_once(evaluate, champion, client):
    """As when a skipped evaluation is carried over again, after somebody moved the alias by hand."""
    evaluate("first", 0.70)
    evaluate("second", 0.80)
    client.set_registered_model_alias("winnow", "champion", "1")

    evaluate("second", 0.80, attempt="-again")

    assert versions(client) == ["first", "second"]
    assert champion() == "first"


def test_a_version_is_plain_files_that_come_back_unchanged(evaluate, client, settings):
    evaluate("first", 0.70)

    source = client.get_model_version_by_alias("winnow", "champion").source
    folder = Path(download_artifacts(artifact_uri=source, tracking_uri=f"sqlite:///{settings.output}/mlflow.db"))

    assert {path.name: path.read_text() for path in folder.iterdir()} == {"manifest.json": "first"}
    everything = [path.name for path in settings.output.rglob("*") if path.is_file()]
    assert not [name for name in everything if name == "MLmodel" or name.endswith((".pkl", ".pickle"))]


def test_a_version_that_is_gone_is_refused_and_named(settings, tmp_path, capsys):
    folder = settings.output / "evaluate" / "aa"
    folder.mkdir(parents=True)
    journal = Journal(folder / "journal.jsonl")
    journal.retriever_version(tmp_path / "gone", content_hash="x", measure="nDCG@10", dev_value=0.5, dev_digest="dev-a")
    state = RunState("aa", "aa", "winnow", "sqlite://", str(journal.path))

    Replayer(settings.output, TrackingConfig(), f"sqlite:///{settings.output}/mlflow.db").replay(state)

    assert state.refused == 1
    assert f"{str(tmp_path / 'gone')!r} is gone" in capsys.readouterr().err
