"""Who reserves no GPU uses none, on a machine that has some: there Ray shows all of them to everybody."""

from types import SimpleNamespace

import pytest
import torch
from tiny_models import tiny_encoder
from tiny_versions import PASSAGES, write_tiny_version

from winnow import schema
from winnow.api.config import ApiConfig
from winnow.cluster import training
from winnow.cluster.config import ClusterConfig
from winnow.cluster.encoding import embed_corpus
from winnow.errors import ConfigError
from winnow.modeling.config import EncoderConfig
from winnow.modeling.encoder import DenseEncoder, build_encoder
from winnow.serving.loading import load_version


@pytest.fixture
def gpu(monkeypatch):
    """torch says that there is one; whatever goes there ends in an error, where there is none."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_a_served_version_is_encoded_on_the_cpu_unless_the_gpu_is_asked_for(tmp_path, gpu):
    version = write_tiny_version(tmp_path / "v", encoder=tiny_encoder())

    served = load_version(version, ApiConfig(), 1)

    assert not isinstance(served.encoder, DenseEncoder), "frozen, as it is on a CPU only"


def test_a_few_passages_are_encoded_here_on_the_cpu(tmp_path, gpu):
    encoder = EncoderConfig(model=str(tiny_encoder().save(tmp_path / "encoder")))
    corpus = schema.write_dataset(tmp_path / "corpus.parquet", schema.to_table(PASSAGES, schema.PASSAGES))

    assert embed_corpus(encoder, corpus, output=tmp_path, cluster=ClusterConfig()).exists()


@pytest.mark.parametrize(("gpus", "device"), [(0, "cpu"), (1, "cuda:3")])
def test_a_worker_trains_on_the_gpu_that_it_was_given_and_else_on_the_cpu(monkeypatch, gpus, device):
    monkeypatch.setattr(training, "get_device", lambda: torch.device("cuda:3"))
    monkeypatch.setattr(training, "train_encoder", lambda job, *, device: device)

    found = training._work({"job": SimpleNamespace(config=SimpleNamespace(gpus_per_worker=gpus))})

    assert found == torch.device(device)


@pytest.mark.parametrize("runtime", ["onnx", "onnx-int8"])
def test_a_runtime_for_cpus_is_not_put_on_a_gpu(runtime):
    with pytest.raises(ValueError, match=f"encoder_runtime='{runtime}' is for CPUs; set encoder_device to cpu"):
        ApiConfig(encoder_runtime=runtime, encoder_device="cuda")

    assert ApiConfig(encoder_runtime=runtime).num_gpus == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(tmp_path):
    directory = tiny_encoder().save(tmp_path / "encoder")
    version = write_tiny_version(tmp_path / "v")

    with pytest.raises(ConfigError, match="an encoder on cuda needs a CUDA device"):
        build_encoder(EncoderConfig(model=str(directory)), device="cuda")
    with pytest.raises(ConfigError, match="an encoder on cuda needs a CUDA device"):
        load_version(version, ApiConfig(encoder_device="cuda"), 1)
