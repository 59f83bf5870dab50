"""What a judge's configuration fills in by itself, and what it refuses."""

import pytest

from winnow.config import build_config
from winnow.errors import ConfigError
from winnow.judging.config import AnnotateConfig


def engine_for(judge, **engine):
    settings = {"engine": {"model": "org/name", **engine}, **({"judge": judge} if judge else {})}
    return build_config(AnnotateConfig, settings).engine.kind


def test_likelihoods_on_a_cpu_are_left_to_transformers_and_everything_else_to_vllm():
    assert engine_for(None) == "transformers"
    assert engine_for({"kind": "qa_gain", "answer_weight": 0.7}) == "transformers"
    assert engine_for({"kind": "query_gain"}, gpus=1) == "vllm"
    assert engine_for({"kind": "answer_gain", "answers": "pseudo"}) == "vllm"
    assert engine_for({"kind": "listwise"}) == "vllm"


def test_an_engine_that_is_named_is_taken():
    assert engine_for({"kind": "query_gain"}, kind="vllm") == "vllm"
    assert engine_for({"kind": "listwise"}, kind="transformers") == "transformers"


def test_the_choice_is_part_of_who_judges():
    default = build_config(AnnotateConfig, {"engine": {"model": "org/name"}})
    named = build_config(AnnotateConfig, {"engine": {"kind": "vllm", "model": "org/name"}})

    assert default.science() != named.science()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": {"kind": "vlm", "model": "m"}}, "'vllm', 'transformers', 'server'"),
        ({"engine": {"model": "m"}, "judge": {"kind": "pointwise"}}, "'query_gain', 'answer_gain'"),
        ({"engine": {"kind": "server", "model": "m"}}, "base_url"),
        ({"engine": {"model": "m"}, "judge": {"kind": "listwise", "answers": "human"}}, "answers"),
        (
            {"engine": {"model": "m"}, "judge": {"kind": "query_gain", "answer_weight": 0.7}},
            "answer_weight has no effect",
        ),
        ({"engine": {"model": "m"}, "judge": {"kind": "answer_gain", "query_template": "x"}}, "query_template has no"),
        ({"engine": {"model": "m"}, "actors": [3, 1]}, "fewest <= most"),
        ({"engine": {"model": "m"}, "price": {"per_gpu_hour": -1}}, "per_gpu_hour"),
    ],
)
def test_settings_that_cannot_work_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        build_config(AnnotateConfig, settings)
