"""What a reader of the comparison is told."""

import json
from dataclasses import replace

import pytest
from rich.console import Console

from winnow.config import build_config
from winnow.errors import ConfigError
from winnow.evaluation.config import EvaluateConfig
from winnow.evaluation.plots import plot_report
from winnow.evaluation.significance import PairedTest
from winnow.evaluation.tables import (
    Comparison,
    render_markdown,
    render_notes,
    render_terminal,
    report_collection,
    report_from_json,
    report_to_json,
)

CONFIG = EvaluateConfig(measures=("RR@10", "nDCG@10"))


def systems(bm25, off_the_shelf, trained, hybrid=None):
    def values(numbers):
        return {name: {f"q{index}": value for index, value in enumerate(numbers)} for name in CONFIG.measures}

    numbers = {"BM25": bm25, "off-the-shelf": off_the_shelf, "trained": trained, "hybrid": hybrid or trained}
    return {system: values(numbers[system]) for system in numbers}


def report(*numbers, num_unjudged=0):
    return report_collection("docs", systems(*numbers), CONFIG, num_unjudged=num_unjudged)


USUAL = ([0.0, 0.5, 0.0, 0.5], [0.5, 0.5, 0.25, 0.25], [1.0, 0.5, 0.75, 0.5], [0.5, 1.0, 1.0, 0.5])


def test_rows_are_the_systems_in_order_and_then_the_tests():
    lines = render_markdown(report(*USUAL)).splitlines()

    assert lines[0] == "## docs: 4 questions"
    assert lines[2] == "| system | RR@10 | nDCG@10 |"
    assert lines[4:8] == [
        "| BM25 | 0.250 | 0.250 |",
        "| off-the-shelf | 0.375 | 0.375 |",
        "| trained | 0.688 | 0.688 |",
        "| hybrid | 0.750 | 0.750 |",
    ]
    assert [line.split(" | ")[0] for line in lines[8:12]] == [
        "| p: BM25 vs off-the-shelf",
        "| p: trained vs off-the-shelf",
        "| p: trained vs BM25",
        "| p: hybrid vs trained",
    ]


def test_terminal_shows_the_same_numbers():
    console = Console(width=100)

    with console.capture() as capture:
        console.print(render_terminal(report(*USUAL)))

    assert all(text in capture.get() for text in ["docs: 4 questions", "BM25", "0.375", "0.688", "trained vs BM25"])
    # Below the title, around the header, between the four systems and the four tests, at the end.
    rules = [number for number, line in enumerate(capture.get().splitlines()) if not any(map(str.isalnum, line))]
    assert rules == [1, 3, 8, 13]


def test_notes_say_what_could_have_been_detected():
    """Gains .5, 0, .5, .25: mean .3125, sd .2394, t 2.611; t(.975, 3) + t(.8, 3) = 4.161; .2394 x 4.161 / 2 = .498."""
    notes = render_notes(report(*USUAL, num_unjudged=3))

    assert "+0.312, not significant (p = .080)" in notes[0]
    assert "With 4 questions and the spread seen here, about 0.498 is the smallest difference" in notes[0]
    assert "80 % power" in notes[0]
    assert notes[2].startswith("nDCG@10, hybrid against trained: +0.062, not significant")
    assert notes[-1] == "Questions left out because their qrels name no useful passage: 3."


def test_equal_systems_are_called_so_and_so_is_one_gain_on_every_question():
    equal = render_notes(report([0.0, 0.5], [0.5, 0.5], [0.5, 0.5]))
    shifted = render_notes(report([0.0, 0.5], [0.25, 0.5], [0.5, 0.75]))

    assert "no difference observed" in equal[0]
    assert "+0.250 on every question" in shifted[0]


@pytest.mark.parametrize(
    ("p_value", "cell", "said"),
    [
        (0.0009, "<.001", "significant (p < .001)"),
        (0.001, ".001", "significant (p = .001)"),
        (0.05, ".050", "not significant (p = .050)"),
        (1.0, "1.000", "not significant (p = 1.000)"),
    ],
)
def test_a_p_value_has_three_digits_and_is_significant_below_the_level(p_value, cell, said):
    tests = dict.fromkeys(CONFIG.measures, PairedTest(100, 0.1, p_value, 0.05))
    shown = replace(report(*USUAL), comparisons=(Comparison("trained", "off-the-shelf", tests),))

    assert f"| p: trained vs off-the-shelf | {cell} | {cell} |" in render_markdown(shown)
    assert render_notes(shown)[0].startswith(f"nDCG@10, trained against off-the-shelf: +0.100, {said}. With 100")


def test_one_question_is_called_too_few():
    notes = render_notes(report([0.0], [0.5], [1.0]))

    assert "1 questions cannot show a difference" in notes[0]


def test_report_survives_json():
    original = report(*USUAL, num_unjudged=1)

    assert report_from_json(json.loads(json.dumps(report_to_json(original)))) == original


def test_plot_of_equal_numbers_has_equal_bytes(tmp_path):
    pictures = [plot_report(tmp_path / name, report(*USUAL), systems(*USUAL)) for name in ("a.png", "b.png")]

    assert pictures[0].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert pictures[0].read_bytes() == pictures[1].read_bytes()


@pytest.mark.parametrize(
    "settings",
    [{"measures": ["MRR"]}, {"measures": ["RR@10"]}, {"measures": ["nDCG@10", "nDCG@10"]}, {"primary": "R@5"}],
    ids=["unknown", "primary not measured", "twice", "primary missing"],
)
def test_measures_that_cannot_be_used_are_named(settings):
    with pytest.raises(ConfigError, match=r"MRR|primary"):
        build_config(EvaluateConfig, settings)


@pytest.mark.parametrize(
    ("name", "accepted", "refused"),
    [("significance_level", [0.001, 0.499], [0, 0.5]), ("power", [0.501, 0.999], [0.5, 1])],
)
def test_levels_and_powers_outside_their_range_are_refused(name, accepted, refused):
    for value in accepted:
        assert getattr(build_config(EvaluateConfig, {name: value}), name) == value
    for value in refused:
        with pytest.raises(ConfigError, match=name):
            build_config(EvaluateConfig, {name: value})


def test_search_goes_as_deep_as_the_deepest_measure():
    assert EvaluateConfig(measures=("nDCG@10", "R@50")).depth == 50
