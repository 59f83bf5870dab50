"""The encoder on ONNX Runtime: on a CPU faster than torch for single queries, in float32 or with 8-bit weights.

Exported from the torch encoder on first use and kept in a cache. ``benchmarks/encoder_runtimes.py`` measures what it
gains and what it loses. Legend: N texts, D dimension.
"""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from winnow.errors import ConfigError, WinnowError
from winnow.modeling.encoder import DenseEncoder
from winnow.modeling.graph import GraphEncoder, Run, embed_exactly, largest_error
from winnow.modeling.onnx_cache import read_models, read_or_export
from winnow.modeling.onnx_export import IDS, MASK, VECTORS, export_encoder, quantize
from winnow.modeling.protocol import Side

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

OnnxRuntime = Literal["onnx", "onnx-int8"]
"""ONNX Runtime in float32, or with 8-bit integer weights."""

_LARGEST_ERROR: dict[OnnxRuntime, float] = {"onnx": 1e-4, "onnx-int8": 0.5}
"""Of a vector, relative to its length. Trained encoders lose far less to 8 bits (all-MiniLM-L6-v2: .2 at worst)."""

_FORMAT = 1
"""Raised when the exported models change, so that a cache is not read that an older Winnow wrote."""


def load_runtime(encoder: DenseEncoder, runtime: OnnxRuntime, *, threads: int, cache: Path) -> GraphEncoder:
    """``encoder``, which is on the CPU, on ``runtime``; exported models are kept in ``cache``. Raises ``ConfigError``.

    ONNX Runtime computes on the CPU with ``threads`` threads; those of torch are set for the whole process.
    """
    _check_installed(runtime)
    fingerprint = encoder.fingerprint
    # Activations are scaled by the largest of a batch: together, one text would change another's 8-bit vector.
    alone = {"batch_tokens": 1} if runtime == "onnx-int8" else {}

    def open_models(models: Mapping[str, bytes]) -> GraphEncoder:
        runs = _open_runs(models, threads)
        return GraphEncoder(encoder.tokenizer, runs, fingerprint=fingerprint, dimension=encoder.dimension, **alone)

    kept = cache / export_name(fingerprint, runtime)
    return open_models(read_or_export(kept, lambda into: _export(encoder, runtime, into, open_models)))


def export_name(fingerprint: str, runtime: OnnxRuntime) -> str:
    """The folder of an encoder's exported models: changes with its weights, tokenizer and contract, and the runtime."""
    return f"{fingerprint}-{runtime}-{_FORMAT}"


def _open_runs(models: Mapping[str, bytes], threads: int) -> dict[Side, Run]:
    """``models`` are the files that ``export_encoder`` wrote, by name."""
    query = partial(_run, _open_session(models["query.onnx"], threads))
    own = models.get("passage.onnx")
    return {"query": query, "passage": query if own is None else partial(_run, _open_session(own, threads))}


def _run(session: "InferenceSession", ids_NL: Tensor, mask_NL: Tensor) -> NDArray[np.float32]:
    return session.run([VECTORS], {IDS: ids_NL.numpy(), MASK: mask_NL.numpy()})[0]


def _export(
    encoder: DenseEncoder, runtime: OnnxRuntime, into: Path, open_models: Callable[[Mapping[str, bytes]], GraphEncoder]
) -> None:
    try:
        export_encoder(encoder, into)
        if runtime == "onnx-int8":
            quantize(into)
        exported = open_models(read_models(into))
        error = largest_error(
            encoder, partial(embed_exactly, encoder), lambda ids, side: exported.encode_tokens(ids, side=side)
        )
    except (WinnowError, OSError):
        raise
    except Exception as error:  # what an unknown architecture fails with cannot be foreseen
        raise ConfigError(
            f"a {_name(encoder)} cannot be exported to ONNX; set serve.encoder_runtime: torch "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        ) from error
    if error > _LARGEST_ERROR[runtime]:
        raise ConfigError(
            f"a {_name(encoder)} on {runtime} gives vectors that are {error:.0%} off, "
            f"expected at most {_LARGEST_ERROR[runtime]:.2%}; set serve.encoder_runtime: torch"
        )


def _name(encoder: DenseEncoder) -> str:
    return type(encoder.module.backbone).__name__


def _check_installed(runtime: OnnxRuntime) -> None:
    absent = [name for name in ("onnxruntime", "onnx") if find_spec(name) is None]
    if absent:
        raise ConfigError(
            f"serve.encoder_runtime: {runtime} needs {' and '.join(absent)}; "
            f"install what is missing: pip install {' '.join(absent)}"
        )


def _open_session(model: bytes, threads: int) -> "InferenceSession":
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle threads would spin, in every replica on the machine, and gain nothing that was measurable.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return InferenceSession(model, options, providers=["CPUExecutionProvider"])
