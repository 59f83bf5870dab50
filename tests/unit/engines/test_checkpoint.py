"""Where an engine finds its model, and what it is called."""

import pytest

from winnow.engines.checkpoint import checkpoint_directory, checkpoint_id
from winnow.engines.config import VllmConfig
from winnow.errors import ConfigError


def checkpoint(directory, weights=b"weights"):
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(weights)
    return VllmConfig(kind="vllm", model=str(directory))


def test_a_checkpoint_directory_is_used_where_it_is(tmp_path):
    config = checkpoint(tmp_path / "judge")

    assert checkpoint_directory(config, tmp_path / "cache") == tmp_path / "judge"
    assert not (tmp_path / "cache").exists()


def test_equal_content_has_an_equal_name_and_another_weight_another(tmp_path):
    here, there = checkpoint(tmp_path / "a" / "judge"), checkpoint(tmp_path / "b" / "judge")
    other = checkpoint(tmp_path / "c" / "judge", weights=b"other weights")

    assert checkpoint_id(here) == checkpoint_id(there)
    assert checkpoint_id(other) != checkpoint_id(here)
    assert checkpoint_id(here).startswith("judge-")


def test_a_missing_directory_is_named_with_the_way_out(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing at .*nowhere.*expected a model directory"):
        checkpoint_id(VllmConfig(kind="vllm", model=str(tmp_path / "nowhere")))


def test_a_directory_without_a_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no config\.json"):
        checkpoint_directory(VllmConfig(kind="vllm", model=str(tmp_path)), tmp_path / "cache")


def test_weights_that_the_models_name_says_nothing_of_are_refused(tmp_path):
    config = checkpoint(tmp_path / "judge")
    (tmp_path / "judge" / "model.safetensors").rename(tmp_path / "judge" / "pytorch_model.bin")

    with pytest.raises(ConfigError, match=r"no weights in \*\.safetensors.*save_pretrained"):
        checkpoint_directory(config, tmp_path / "cache")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"?")

    with pytest.raises(ConfigError, match=r"'\.bin' file"):
        checkpoint_directory(VllmConfig(kind="vllm", model=str(tmp_path / "model.bin")), tmp_path / "cache")


def test_a_broken_gguf_file_is_refused_and_leaves_nothing_behind(tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF but not really")

    with pytest.raises(ConfigError, match="cannot be converted"):
        checkpoint_directory(VllmConfig(kind="vllm", model=str(broken)), tmp_path / "cache")

    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []
