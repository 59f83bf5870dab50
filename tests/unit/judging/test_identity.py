"""Evidence is found again by the same judge, and by no other."""

from dataclasses import replace

import pytest

from winnow.judging import identity
from winnow.judging.config import AnnotateConfig
from winnow.judging.identity import judge_id
from winnow.judging.templates import load_template

BASE = {"engine": {"kind": "vllm", "model": "org/name"}}


def named(settings, model="name-1234"):
    return judge_id(AnnotateConfig.model_validate(settings), model_id=model)


def test_the_name_says_kind_and_model():
    assert named(BASE).startswith("query_gain-name-1234-")


@pytest.mark.parametrize(
    "change",
    [
        {"engine": {"kind": "vllm", "model": "org/name", "dtype": "float16"}},
        {"engine": {"kind": "vllm", "model": "org/name", "max_tokens": 512}},
        {**BASE, "judge": {"kind": "query_gain", "max_passage_words": 50}},
    ],
)
def test_what_can_change_a_judgment_changes_the_judge(change):
    assert named(change) != named(BASE)


@pytest.mark.parametrize(
    "change",
    [
        {"engine": {"kind": "vllm", "model": "org/name", "threads": 1}},
        {**BASE, "actors": [1, 4]},
        {**BASE, "queries_per_batch": 1},
        {**BASE, "retry_failed": True},
    ],
)
def test_what_changes_only_speed_does_not(change):
    assert named(change) == named(BASE)


def test_another_model_is_another_judge_and_its_place_on_disk_is_not():
    elsewhere = {"engine": {"kind": "vllm", "model": "/models/name"}}

    assert named(BASE, model="name-5678") != named(BASE)
    assert named(elsewhere) == named(BASE)


def test_a_prompt_that_this_kind_never_uses_is_no_part_of_it(monkeypatch):
    before = named(BASE), named({**BASE, "judge": {"kind": "answer_gain"}})
    changed = load_template("answer_gain-v1")
    monkeypatch.setattr(
        identity,
        "load_template",
        lambda name: replace(changed, context="new") if "answer" in name else load_template(name),
    )

    after = named(BASE), named({**BASE, "judge": {"kind": "answer_gain"}})

    assert after[0] == before[0]
    assert after[1] != before[1]
