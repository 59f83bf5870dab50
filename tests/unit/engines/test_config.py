"""Which engine is meant, and what its process starts with."""

from pathlib import Path

import pytest

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


def test_a_server_needs_no_settings_of_a_local_engine():
    environment = engine_environment(ServerConfig(**SERVER))

    assert not {"OMP_NUM_THREADS", "VLLM_CPU_KVCACHE_SPACE", "HF_HUB_OFFLINE"} & environment.keys()


def test_knobs_of_speed_do_not_change_who_judges():
    slow = VllmConfig(kind="vllm", model="org/name", threads=1, max_sequences=8)
    fast = VllmConfig(kind="vllm", model="org/name", threads=2, max_sequences=64)
    here, there = ServerConfig(**SERVER), ServerConfig(**SERVER | {"base_url": "http://other:1/v1", "max_retries": 0})

    assert slow.science() == fast.science()
    assert here.science() == there.science()


@pytest.mark.parametrize("setting", [{"max_tokens": 4}, {"threads": 0}, {"dtype": "int8"}])
def test_settings_that_cannot_work_are_refused(setting):
    with pytest.raises(ValueError):
        VllmConfig(kind="vllm", model="org/name", **setting)


def test_a_served_model_is_called_what_the_server_calls_it():
    assert model_id(ServerConfig(**SERVER), Path("unused")) == "org/name"


def test_a_server_that_cannot_be_used_is_said_so_before_an_actor_starts(tmp_path):
    nobody = ServerConfig(**{**SERVER, "base_url": "http://127.0.0.1:9/v1"}, max_retries=0)

    with pytest.raises(ConfigError, match=r"127.0.0.1:9/v1 cannot be reached"):
        prepare_engine(nobody, tmp_path / "cache")
