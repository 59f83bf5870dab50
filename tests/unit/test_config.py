"""Configuration: precedence, unknown keys, relative paths, and what a fingerprint depends on."""

from pathlib import Path

import pytest

from winnow.config import Config, InputPath, build_config, fingerprint, load_config, speed_knob
from winnow.errors import ConfigError


class Inner(Config):
    rate: float = 0.5


class Outer(Config):
    inner: Inner = Inner()
    text: InputPath | None = None
    workers: int = speed_knob(1, ge=1)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_an_override_wins_over_the_file_and_the_file_over_the_default(tmp_path):
    path = write(tmp_path / "run.yaml", "workers: 2\n")

    config = load_config(Outer, path, ["inner.rate=0.25"])

    assert (config.workers, config.inner.rate) == (2, 0.25)


def test_an_unknown_key_is_refused_by_its_full_name(tmp_path):
    path = write(tmp_path / "run.yaml", "inner: {rat: 1}\n")

    with pytest.raises(ConfigError, match=r"inner\.rat"):
        load_config(Outer, path)


@pytest.mark.parametrize("text", ["- a list", "a: [", "just words", ""])
def test_a_file_that_is_no_mapping_is_refused_by_name(tmp_path, text):
    path = write(tmp_path / "run.yaml", text)

    with pytest.raises(ConfigError, match=r"run\.yaml"):
        load_config(Outer, path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_config(Outer, tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("override", ["workers", "=3", "workers.deep=3", "inner.rate=[", "workers=none"])
def test_an_unusable_override_is_quoted(tmp_path, override):
    path = write(tmp_path / "run.yaml", "workers: 2\n")

    with pytest.raises(ConfigError, match=r"workers|rate|=3"):
        load_config(Outer, path, [override])


def test_input_paths_are_relative_to_the_file_that_names_them(tmp_path):
    path = write(tmp_path / "run.yaml", "text: data/corpus.jsonl\n")

    assert load_config(Outer, path).text == tmp_path / "data/corpus.jsonl"


def test_paths_and_speed_knobs_stay_out_of_the_science():
    one = build_config(Outer, {"text": "a.txt", "workers": 1, "inner": {"rate": 0.1}})
    other = build_config(Outer, {"text": "b.txt", "workers": 8, "inner": {"rate": 0.1}})

    assert one.science() == other.science() == {"inner": {"rate": 0.1}}


def test_a_fingerprint_depends_on_values_and_not_on_key_order():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("text: a\nother: {}\ntext: b\n", r"some\.yaml.*'text' stands twice in one section, in line 1 and in line 3"),
        ("a:\n  b: 1\n  c: 2\n  'b': 3\n", "'b' stands twice in one section, in line 2 and in line 4"),
        ("list:\n  - {x: 1, x: 1}\n", "'x' stands twice in one section, in line 2 and in line 2"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path, text, complaint):
    path = tmp_path / "some.yaml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=complaint):
        load_config(Outer, path)


def test_a_key_may_stand_in_two_sections_and_what_is_merged_in_may_be_replaced(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text("text: a\ninner: &base {rate: 0.5}\n")
    load_config(Outer, path, ["inner={<<: {rate: 0.5}, rate: 0.25}"])

    with pytest.raises(ConfigError, match="'rate' stands twice"):
        load_config(Outer, path, ["inner={rate: 1, rate: 2}"])
