"""Which engine is meant, and what its process starts with."""

import datetime
from contextlib import nullcontext

import pytest
from chat_templates import BROKEN, NO_SYSTEM, OPENING, characters

from winnow.config import build_config
from winnow.engines import model_id, prepare_engine
from winnow.engines.config import ServerConfig, TransformersConfig, VllmConfig, engine_environment
from winnow.errors import ConfigError
from winnow.judging.config import AnnotateConfig

SERVER = {"kind": "server", "model": "org/name", "base_url": "http://127.0.0.1:8000/v1"}


def test_kind_says_which_engine_is_meant():
    configs = [
        build_config(AnnotateConfig, {"engine": engine}).engine
        for engine in (
            {"kind": "vllm", "model": "org/name"},
            {"kind": "transformers", "model": "org/name"},
            SERVER,
        )
    ]

    assert [type(config) for config in configs] == [VllmConfig, TransformersConfig, ServerConfig]


@pytest.mark.parametrize(
    "engine",
    [
        {"kind": "openai", "model": "org/name"},
        {"kind": "server", "model": "org/name"},
        {**SERVER, "base_url": "http://user:secret@127.0.0.1:8000/v1"},
        {**SERVER, "base_url": "http://127.0.0.1:8000/v1?api_key=secret"},
        {**SERVER, "base_url": "127.0.0.1:8000"},
        {**SERVER, "api_key": "a key in a file"},
        {"kind": "transformers", "model": "org/name", "quantisation": "awq"},
    ],
)
def test_an_engine_that_is_not_known_or_not_whole_is_refused(engine):
    with pytest.raises(ConfigError, match="engine"):
        build_config(AnnotateConfig, {"engine": engine})


def test_a_model_from_a_package_is_loaded_offline_and_a_hub_id_is_not():
    packaged = engine_environment(VllmConfig(kind="vllm", model="package:some_package/model.gguf"))
    from_hub = engine_environment(VllmConfig(kind="vllm", model="org/name"))

    assert packaged["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in from_hub


@pytest.mark.parametrize("config_class", [VllmConfig, TransformersConfig])
def test_an_engine_on_a_gpu_gets_none_of_the_settings_for_a_cpu(config_class):
    kind = {VllmConfig: "vllm", TransformersConfig: "transformers"}[config_class]
    environment = engine_environment(config_class(kind=kind, model="org/name", gpus=1))

    assert "TORCH_COMPILE_DISABLE" not in environment
    assert "OMP_NUM_THREADS" not in environment


@pytest.mark.parametrize("gpus", [0, 1])
def test_threads_of_an_engine_wait_as_was_chosen_here(monkeypatch, gpus):
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")

    for config_class, kind in ((VllmConfig, "vllm"), (TransformersConfig, "transformers")):
        environment = engine_environment(config_class(kind=kind, model="org/name", gpus=gpus))
        assert environment["OMP_WAIT_POLICY"] == "active"


def test_a_server_needs_no_settings_of_a_local_engine():
    environment = engine_environment(ServerConfig(**SERVER))

    assert not {"OMP_NUM_THREADS", "VLLM_CPU_KVCACHE_SPACE", "HF_HUB_OFFLINE"} & environment.keys()


def test_knobs_of_speed_do_not_change_who_judges():
    slow = VllmConfig(kind="vllm", model="org/name", threads=1, max_sequences=8)
    fast = VllmConfig(kind="vllm", model="org/name", threads=2, max_sequences=64)
    here, there = ServerConfig(**SERVER), ServerConfig(**SERVER | {"base_url": "http://other:1/v1", "max_retries": 0})

    assert slow.science() == fast.science()
    assert here.science() == there.science()


def test_more_fields_for_a_server_change_who_judges_unless_they_only_say_how_urgent_it_is():
    plain, urgent, other = (
        ServerConfig(**SERVER, extra_body=fields)
        for fields in ({}, {"priority": 1, "user": "me"}, {"reasoning_effort": "low"})
    )

    assert plain.science() == urgent.science() != other.science()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"extra_body": {"max_tokens": 3}}, "max_tokens is set by Winnow"),
        ({"extra_body": {"messages": []}}, "messages is set by Winnow"),
        ({"extra_body": {"model": "other"}}, "model is set by Winnow"),
        ({"extra_body": {"n": 2, "stream": True}}, "n, stream is set by Winnow"),
        ({"extra_body": {"structured_outputs": {}}}, "structured_outputs is set by Winnow"),
        ({"extra_body": {"chat_template_kwargs": {}}}, "set engine.chat_template_kwargs"),
        ({"extra_body": {"since": datetime.date(2026, 1, 1)}}, "what JSON can hold"),
        ({"chat_template_kwargs": {"chat_template": "{{ 1 }}"}}, "chat_template is no variable"),
        ({"chat_template_kwargs": {"tokenize": True}}, "tokenize is no variable"),
        ({"reasoning_parser": "my_plugin"}, "reasoning_parser"),
    ],
)
def test_what_would_make_replies_unreadable_is_refused(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        build_config(ServerConfig, {**SERVER, **settings})


def checkpoint(folder, template):
    characters(template, marks=("<think>", "</think>")).save_pretrained(folder)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").touch()
    return folder


@pytest.mark.parametrize(
    ("template", "tokens", "problem"),
    [
        (BROKEN, 0, "cannot render the turns of a judge"),
        (OPENING, 0, "thinks before every reply"),
        (None, 0, "no chat template"),
        (BROKEN, None, None),
        (OPENING, 2048, None),
        (NO_SYSTEM, 0, None),
    ],
)
def test_a_chat_template_is_tried_before_an_actor_starts_if_there_will_be_a_chat(tmp_path, template, tokens, problem):
    config = TransformersConfig(kind="transformers", model=str(checkpoint(tmp_path, template)))
    trial = nullcontext() if problem is None else pytest.raises(ConfigError, match=problem)

    with trial:
        prepare_engine(config, tmp_path / "cache", max_reasoning_tokens=tokens)


@pytest.mark.parametrize(
    ("judge", "tokens"),
    [
        ({"kind": "query_gain"}, None),
        ({"kind": "answer_gain"}, None),
        ({"kind": "answer_gain", "answers": "pseudo"}, 0),
        ({"kind": "qa_gain", "answers": "pseudo", "max_reasoning_tokens": 99}, 99),
        ({"kind": "listwise"}, 0),
        ({"kind": "listwise", "max_reasoning_tokens": 99}, 99),
    ],
)
def test_a_judge_says_whether_it_chats_and_how_much_the_model_may_think(judge, tokens):
    assert build_config(AnnotateConfig, {"engine": SERVER, "judge": judge}).judge.reasoning_tokens == tokens


@pytest.mark.parametrize("setting", [{"max_tokens": 4}, {"threads": 0}, {"dtype": "int8"}])
def test_settings_that_cannot_work_are_refused(setting):
    with pytest.raises(ValueError):
        VllmConfig(kind="vllm", model="org/name", **setting)


def test_a_served_model_is_called_what_the_server_calls_it():
    assert model_id(ServerConfig(**SERVER)) == "org/name"


def test_a_server_that_cannot_be_used_is_said_so_before_an_actor_starts(tmp_path):
    nobody = ServerConfig(**{**SERVER, "base_url": "http://127.0.0.1:9/v1"}, max_retries=0)

    with pytest.raises(ConfigError, match=r"127.0.0.1:9/v1 cannot be reached"):
        prepare_engine(nobody, tmp_path / "cache")
