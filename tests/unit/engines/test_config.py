"""What an engine's process starts with."""

import pytest

from winnow.engines.config import EngineConfig, engine_environment


def test_a_model_from_a_package_is_loaded_offline_and_a_hub_id_is_not():
    packaged = engine_environment(EngineConfig(model="package:some_package/model.gguf"))
    from_hub = engine_environment(EngineConfig(model="org/name"))

    assert packaged["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in from_hub


def test_an_engine_on_a_gpu_gets_none_of_the_settings_for_a_cpu():
    environment = engine_environment(EngineConfig(model="org/name", gpus=1))

    assert "TORCH_COMPILE_DISABLE" not in environment
    assert "OMP_NUM_THREADS" not in environment


def test_knobs_of_speed_do_not_change_who_judges():
    slow = EngineConfig(model="org/name", threads=1, max_sequences=8)
    fast = EngineConfig(model="org/name", threads=2, max_sequences=64)

    assert slow.science() == fast.science()


@pytest.mark.parametrize("setting", [{"max_tokens": 4}, {"threads": 0}, {"dtype": "int8"}])
def test_settings_that_cannot_work_are_refused(setting):
    with pytest.raises(ValueError):
        EngineConfig(model="org/name", **setting)
