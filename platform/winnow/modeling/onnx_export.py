"""A torch encoder as ONNX models, one for each tower: token ids to vectors, pooling and projection included."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from winnow.errors import ConfigError
from winnow.modeling.encoder import DenseEncoder
from winnow.modeling.graph import TracedModule, example_inputs, sides
from winnow.modeling.protocol import Side

IDS, MASK, VECTORS = "ids", "mask", "vectors"
"""Names of the inputs and of the output."""

_OPSET = 17
_LARGEST_BYTES = 2**31 - 2**24
"""What one ONNX file can hold is 2 GiB, the graph included."""


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


def _export_tower(encoder: DenseEncoder, side: Side, path: Path) -> None:
    with torch.inference_mode(), _quiet():
        # By tracing: the newer way (dynamo=True) takes ten times as long and three more packages,
        # and its models are no faster. What tracing might get wrong, `largest_error` finds.
        torch.onnx.export(
            TracedModule(encoder.module, side).eval(),
            example_inputs(encoder, side),
            path,
            dynamo=False,
            opset_version=_OPSET,
            input_names=[IDS, MASK],
            output_names=[VECTORS],
            dynamic_axes={IDS: {0: "N", 1: "L"}, MASK: {0: "N", 1: "L"}, VECTORS: {0: "N"}},
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings about tracing, and no advice: what is made is compared with the encoder anyway."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.setLevel(level)
