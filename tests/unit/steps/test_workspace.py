"""Steps are skipped, redone, resumed and locked by what they would compute."""

import pytest
from filelock import FileLock

from winnow.errors import ConfigError, DataError
from winnow.files import read_json
from winnow.steps.workspace import StepContext, StepOptions, StepPlan, find, produce


def plan(tmp_path, **settings) -> StepPlan:
    return StepPlan("demo", "1", tmp_path, settings, {"input": "abc"})


class Counting:
    """A builder that counts its calls and can be made to fail after its first file."""

    def __init__(self, *, text: str = "done", fails: bool = False) -> None:
        self.calls, self.text, self.fails = 0, text, fails

    def __call__(self, context: StepContext) -> dict[str, int]:
        self.calls += 1
        (context.directory / "first.txt").write_text(self.text)
        if self.fails:
            raise RuntimeError("killed")
        return {"rows": 3}


def test_a_step_whose_output_is_there_is_skipped_and_says_so(tmp_path, capsys):
    build = Counting()
    first = produce(plan(tmp_path), build)

    again = produce(plan(tmp_path), build)

    assert build.calls == 1
    assert (first.skipped, again.skipped) == (False, True)
    assert (again.content_hash, again.summary) == (first.content_hash, {"rows": 3})
    assert "skipped" in capsys.readouterr().out


def test_force_does_it_again(tmp_path):
    build = Counting()
    produce(plan(tmp_path), build)
    build.text = "other"

    again = produce(plan(tmp_path), build, StepOptions(force=True))

    assert build.calls == 2
    assert (again.directory / "first.txt").read_text() == "other"


def test_other_settings_have_another_directory_and_the_old_output_stays(tmp_path):
    one = produce(plan(tmp_path, rate=1), Counting())
    two = produce(plan(tmp_path, rate=2), Counting())

    assert one.directory != two.directory
    assert one.directory.is_dir()


def test_a_failed_step_publishes_nothing_and_the_next_attempt_finds_its_files(tmp_path):
    with pytest.raises(RuntimeError):
        produce(plan(tmp_path), Counting(fails=True))
    found = []

    produce(plan(tmp_path), lambda context: found.append((context.directory / "first.txt").exists()) or {})

    assert found == [True]


def test_a_failed_force_leaves_the_published_output_alone(tmp_path):
    published = produce(plan(tmp_path), Counting(text="good"))
    with pytest.raises(RuntimeError):
        produce(plan(tmp_path), Counting(text="bad", fails=True), StepOptions(force=True))

    assert (find(plan(tmp_path)).directory / "first.txt").read_text() == "good"
    assert find(plan(tmp_path)).content_hash == published.content_hash


def test_the_content_hash_follows_the_files(tmp_path):
    one = produce(plan(tmp_path, name="a"), Counting(text="same"))
    two = produce(plan(tmp_path, name="b"), Counting(text="same"))
    three = produce(plan(tmp_path, name="c"), Counting(text="different"))

    assert one.content_hash == two.content_hash != three.content_hash


def test_a_second_run_on_the_same_directory_is_told_who_has_it(tmp_path):
    mine = plan(tmp_path)
    lock = mine.building.with_name(f".lock-{mine.fingerprint}")
    lock.parent.mkdir(parents=True)

    with (
        FileLock(lock),
        pytest.raises(ConfigError, match="being built"),
    ):
        produce(mine, Counting())


def test_a_missing_input_names_the_verb_that_makes_it(tmp_path):
    with pytest.raises(DataError, match="winnow demo"):
        find(plan(tmp_path))


def test_run_json_says_how_the_output_was_made(tmp_path):
    result = produce(plan(tmp_path, rate=1), Counting())

    record = read_json(result.directory / "run.json")
    assert record["settings"] == {"rate": 1}
    assert record["inputs"] == {"input": "abc"}
    assert set(record["files"]) == {"first.txt"}
    assert {"git_sha", "packages", "seconds", "fingerprint"} <= set(record)
