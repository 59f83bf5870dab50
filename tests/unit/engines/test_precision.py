"""A model computes in what its processor is quick at, unless it is told otherwise."""

import pytest

from winnow.engines import precision
from winnow.engines.config import TransformersConfig, VllmConfig


@pytest.mark.parametrize(
    ("description", "gpus", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16", 0, "bfloat16"),
        ("flags\t\t: fpu avx2 avx512f amx_bf16", 0, "bfloat16"),
        ("Features\t: fp asimd bf16", 0, "bfloat16"),
        ("flags\t\t: fpu avx2 avx512f", 0, "float32"),
        ("model name\t: a processor with avx512_bf16", 0, "float32"),
        ("", 0, "float32"),
        ("flags\t\t: fpu avx2", 1, "bfloat16"),
    ],
)
def test_arithmetic_is_what_the_processor_is_quick_at(monkeypatch, description, gpus, expected):
    monkeypatch.setattr(precision, "_cpu_description", lambda: description)

    for config in (VllmConfig, TransformersConfig):
        kind = "vllm" if config is VllmConfig else "transformers"
        assert config(kind=kind, model="org/name", gpus=gpus).dtype == expected
        assert config(kind=kind, model="org/name", gpus=gpus, dtype="float16").dtype == "float16"
