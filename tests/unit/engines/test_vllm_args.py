"""What may be passed to vLLM, compared with the arguments of the vLLM that is installed (read, not imported)."""

import ast
import importlib.util
from pathlib import Path

import pytest

from winnow.config import build_config
from winnow.engines.config import VllmConfig
from winnow.engines.vllm_args import OURS, REFUSED, SCIENCE, SPEED
from winnow.errors import ConfigError

VLLM = {"kind": "vllm", "model": "org/name"}


def test_every_argument_of_the_installed_vllm_was_looked_at_and_is_in_one_list():
    source = Path(importlib.util.find_spec("vllm").origin).parent / "engine/arg_utils.py"
    (arguments,) = (
        {field.target.id for field in node.body if isinstance(field, ast.AnnAssign)}
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == "EngineArgs"
    )

    assert sorted([*SPEED, *SCIENCE, *OURS, *REFUSED]) == sorted(arguments)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"trust_remote_code": True}, "trust_remote_code is not passed on: it can load code"),
        ({"worker_cls": "evil.Worker"}, "worker_cls is not passed on"),
        ({"worker_extension_cls": "evil.Worker"}, "is not passed on"),
        ({"scheduler_cls": "evil.Scheduler"}, "is not passed on"),
        ({"logits_processors": ["evil:Processor"]}, "is not passed on"),
        ({"reasoning_parser_plugin": "evil.py"}, "is not passed on"),
        ({"io_processor_plugin": "evil"}, "is not passed on"),
        ({"distributed_executor_backend": "evil.Executor"}, "is not passed on"),
        ({"model_class_overrides": {"Qwen3ForCausalLM": "evil:Model"}}, "is not passed on"),
        ({"kv_transfer_config": {"kv_connector_module_path": "evil"}}, "is not passed on"),
        ({"compilation_config": {"backend": "evil.compile"}}, "is not passed on"),
        ({"speculative_config": {"method": "custom_class"}}, "holds 'custom_class'"),
        ({"speculative_config": {"model": "other/model"}}, "holds 'model'"),
        ({"hf_overrides": {"text_config": {"auto_map": {}}}}, "holds 'auto_map'"),
        ({"structured_outputs_config": {"reasoning_parser_plugin": "evil.py"}}, "holds 'reasoning_parser_plugin'"),
        ({"load_format": "pt"}, "expected one of auto, safetensors"),
        ({"load_format": "npcache"}, "expected one of auto, safetensors"),
        ({"load_format": "dummy"}, "expected one of auto, safetensors"),
        ({"model": "other/model"}, "set engine.model"),
        ({"tokenizer": "other/model"}, "another model, tokenizer or revision"),
        ({"max_model_len": 4096}, "set engine.max_tokens"),
        ({"pipeline_parallel_size": 2}, "has not been given"),
        ({"download_dir": "/etc"}, "has not been given"),
        ({"kv-cache-dtype": "fp8"}, "has no engine argument 'kv-cache-dtype'"),
        ({"seed": float("nan")}, "what JSON can hold"),
    ],
)
def test_what_could_run_foreign_code_or_is_no_argument_is_refused(arguments, problem):
    with pytest.raises(ConfigError, match=f"engine_args.*{problem}"):
        build_config(VllmConfig, {**VLLM, "engine_args": arguments})


@pytest.mark.parametrize(
    ("arguments", "part_of_the_judge"),
    [
        ({"kv_cache_dtype": "fp8"}, {"kv_cache_dtype": "fp8"}),
        ({"speculative_config": {"method": "ngram", "num_speculative_tokens": 3}}, None),
        ({"hf_overrides": {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}}, None),
        ({"enforce_eager": True, "cpu_offload_gb": 4, "load_format": "safetensors"}, {}),
        ({"enforce_eager": True, "seed": 3}, {"seed": 3}),
    ],
)
def test_an_argument_is_part_of_who_judges_unless_it_changes_speed_only(arguments, part_of_the_judge):
    config = build_config(VllmConfig, {**VLLM, "engine_args": arguments})

    assert config.science()["engine_args"] == (arguments if part_of_the_judge is None else part_of_the_judge)
