"""A torch encoder as ONNX models, one for each tower: token ids to vectors, pooling and projection included.

Legend: N texts, L tokens of the longest, D dimension.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from winnow.errors import ConfigError
from winnow.modeling.encoder import DenseEncoder
from winnow.modeling.module import EncoderModule
from winnow.modeling.padding import PaddedTokens, pad
from winnow.modeling.protocol import Side, TokenEncode

IDS, MASK, VECTORS = "ids", "mask", "vectors"
"""Names of the inputs and of the output."""

_OPSET = 17
_LARGEST_BYTES = 2**31 - 2**24
"""What one ONNX file can hold is 2 GiB, the graph included."""

_PROBES = [["copy"], ["how do I copy a file?", "", "a b c"], ["every word of a long text " * 200, "short"]]
"""Batches of unlike sizes: an export that took a size for a constant shows."""


def export_encoder(encoder: DenseEncoder, directory: Path) -> None:
    """Write ``query.onnx``, and ``passage.onnx`` where passages have their own tower; ``encoder`` is on the CPU.

    Raises ``ConfigError`` for one that is too large, and whatever torch raises for what it cannot export.
    """
    num_bytes = sum(weight.nbytes for weight in encoder.module.parameters())
    if num_bytes > _LARGEST_BYTES:
        raise ConfigError(
            f"this encoder has {num_bytes / 2**30:.1f} GiB of weights and an ONNX file holds 2 GiB; "
            f"set serve.encoder_runtime: torch"
        )
    for side in sides(encoder):
        _export_tower(encoder, side, directory / f"{side}.onnx")


def quantize(directory: Path) -> None:
    """Replace the weights of the models in ``directory`` by 8-bit integers, each output channel scaled on its own."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    for path in list(directory.glob("*.onnx")):
        exact = path.rename(path.with_suffix(".float32"))
        with _quiet():
            # 7 of the 8 bits: with all of them, sums overflow on processors without VNNI instructions.
            quantize_dynamic(exact, path, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
        exact.unlink()


def sides(encoder: DenseEncoder) -> tuple[Side, ...]:
    """The sides that have a model of their own; tied towers share that of the queries."""
    return ("query",) if encoder.module.passage_backbone is None else ("query", "passage")


def largest_error(encoder: DenseEncoder, exported: TokenEncode) -> float:
    """How far a vector of ``exported`` is from that of ``encoder`` in float32, relative to its length.

    The worst of a few texts; infinity if a vector is not finite.
    """
    errors = [
        _relative_error(_exactly(encoder, token_ids, side), exported.encode_tokens(token_ids, side=side))
        for side in sides(encoder)
        for token_ids in (encoder.tokenize(texts, side=side) for texts in _PROBES)
    ]
    return max(errors) if np.isfinite(errors).all() else np.inf


class _Graph(nn.Module):
    """The encoder as a function of two tensors."""

    def __init__(self, module: EncoderModule, side: Side) -> None:
        super().__init__()
        self._module = module
        self._side: Side = side

    def forward(self, ids_NL: Tensor, mask_NL: Tensor) -> Tensor:
        return self._module(PaddedTokens(ids_NL, mask_NL), side=self._side)


def _export_tower(encoder: DenseEncoder, side: Side, path: Path) -> None:
    token_ids = encoder.tokenize(_PROBES[1], side=side)
    tokens = pad(token_ids, pad_token_id=encoder.tokenizer.pad_token_id, device=encoder.device)
    with torch.inference_mode(), _quiet():
        # By tracing: the newer way (dynamo=True) takes ten times as long and three more packages,
        # and its models are no faster. What tracing might get wrong, `largest_error` finds.
        torch.onnx.export(
            _Graph(encoder.module, side).eval(),
            (tokens.ids_NL, tokens.mask_NL),
            path,
            dynamo=False,
            opset_version=_OPSET,
            input_names=[IDS, MASK],
            output_names=[VECTORS],
            dynamic_axes={IDS: {0: "N", 1: "L"}, MASK: {0: "N", 1: "L"}, VECTORS: {0: "N"}},
        )


def _exactly(encoder: DenseEncoder, token_ids: Sequence[Sequence[int]], side: Side) -> NDArray[np.float32]:
    with torch.inference_mode():
        return encoder.embed(token_ids, side=side).numpy()


def _relative_error(exact_ND: NDArray[np.float32], other_ND: NDArray[np.float32]) -> float:
    distances_N = np.linalg.norm(exact_ND - other_ND, axis=1)
    return float((distances_N / np.maximum(np.linalg.norm(exact_ND, axis=1), 1e-12)).max())


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings about tracing, and no advice: what was made is compared with the encoder anyway."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.setLevel(level)
