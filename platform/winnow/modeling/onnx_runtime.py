"""The encoder on ONNX Runtime: on a CPU faster than torch for single queries, in float32 or with 8-bit weights.

Exported from the torch encoder on first use and kept in a cache. ``benchmarks/encoder_runtimes.py`` measures what it
gains and what it loses. Legend: N texts, D dimension.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from winnow.errors import ConfigError, WinnowError
from winnow.modeling.batches import batches_by_length
from winnow.modeling.encoder import DenseEncoder
from winnow.modeling.onnx_cache import read_models, read_or_export
from winnow.modeling.onnx_export import IDS, MASK, VECTORS, export_encoder, largest_error, quantize
from winnow.modeling.padding import pad
from winnow.modeling.protocol import Side
from winnow.modeling.tokenizing import TextTokenizer

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

OnnxRuntime = Literal["onnx", "onnx-int8"]
"""ONNX Runtime in float32, or with 8-bit integer weights."""

_LARGEST_ERROR: dict[OnnxRuntime, float] = {"onnx": 1e-4, "onnx-int8": 0.5}
"""Of a vector, relative to its length. Trained encoders lose far less to 8 bits (all-MiniLM-L6-v2: .2 at worst)."""

_CPU = torch.device("cpu")

_FORMAT = 1
"""Raised when the exported models change, so that a cache is not read that an older Winnow wrote."""

_BATCH_TOKENS = 256
"""Per run, padding included: activations stay in the processor's cache. 4096, as for torch, is half as fast."""


class OnnxEncoder:
    """Gives the vectors of a torch encoder, whose fingerprint it has: within 1e-4, or nearly with 8-bit weights."""

    def __init__(
        self,
        models: Mapping[str, bytes],
        tokenizer: TextTokenizer,
        *,
        fingerprint: str,
        dimension: int,
        runtime: OnnxRuntime,
        threads: int,
    ) -> None:
        """``models`` are the files that ``export_encoder`` wrote, by name."""
        query = _open_session(models["query.onnx"], threads)
        passage = _open_session(models["passage.onnx"], threads) if "passage.onnx" in models else query
        self.fingerprint = fingerprint
        self.dimension = dimension
        self.runtime = runtime
        self._tokenizer = tokenizer
        self._sessions: dict[Side, InferenceSession] = {"query": query, "passage": passage}

    def tokenize(self, texts: Sequence[str], *, side: Side) -> list[list[int]]:
        """Token ids of each text, with prefix and special tokens, cut to the side's limit."""
        return self._tokenizer.tokenize(texts, side=side)

    def encode(self, texts: Sequence[str], *, side: Side) -> NDArray[np.float32]:
        """``embeddings_ND`` in the order of ``texts``, float32."""
        return self.encode_tokens(self.tokenize(texts, side=side), side=side)

    def encode_tokens(self, token_ids: Sequence[Sequence[int]], *, side: Side) -> NDArray[np.float32]:
        """The same for texts that ``tokenize`` was given already."""
        embeddings_ND = np.empty((len(token_ids), self.dimension), dtype=np.float32)
        for batch in self._batches([len(row) for row in token_ids]):
            embeddings_ND[batch] = self._run([token_ids[position] for position in batch], side)
        return embeddings_ND

    def _batches(self, lengths: Sequence[int]) -> list[list[int]]:
        if self.runtime == "onnx-int8":
            # Activations are scaled by the largest of the batch: together, one text would change another's vector.
            return [[position] for position in range(len(lengths))]
        return batches_by_length(lengths, max_tokens=_BATCH_TOKENS)

    def _run(self, token_ids: Sequence[Sequence[int]], side: Side) -> NDArray[np.float32]:
        tokens = pad(token_ids, pad_token_id=self._tokenizer.pad_token_id, device=_CPU)
        return self._sessions[side].run([VECTORS], {IDS: tokens.ids_NL.numpy(), MASK: tokens.mask_NL.numpy()})[0]


def load_runtime(encoder: DenseEncoder, runtime: OnnxRuntime, *, threads: int, cache: Path) -> OnnxEncoder:
    """``encoder``, which is on the CPU, on ``runtime``; exported models are kept in ``cache``. Raises ``ConfigError``.

    ONNX Runtime computes on the CPU with ``threads`` threads; those of torch are set for the whole process.
    """
    _check_installed(runtime)
    fingerprint = encoder.fingerprint
    open_models = partial(
        OnnxEncoder,
        tokenizer=encoder.tokenizer,
        fingerprint=fingerprint,
        dimension=encoder.dimension,
        runtime=runtime,
        threads=threads,
    )
    kept = cache / f"{fingerprint}-{runtime}-{_FORMAT}"
    return open_models(read_or_export(kept, lambda into: _export(encoder, runtime, into, open_models)))


def _export(
    encoder: DenseEncoder, runtime: OnnxRuntime, into: Path, open_models: Callable[[Mapping[str, bytes]], OnnxEncoder]
) -> None:
    try:
        export_encoder(encoder, into)
        if runtime == "onnx-int8":
            quantize(into)
        error = largest_error(encoder, open_models(read_models(into)))
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
            f"install them with: pip install 'winnow[onnx]'"
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
