"""The encoder frozen for a CPU: the same vectors, each batch in one call that leaves Python's interpreter to others.

Module by module, an encoder takes the interpreter's lock back a hundred times per batch, and waits for it each time
another thread reads requests; and it casts its weights to half precision for every batch. Frozen, it does neither.
"""

import logging
import tempfile
import warnings
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.modeling.encoder import DenseEncoder
from winnow.modeling.graph import (
    GraphEncoder,
    Run,
    TracedModule,
    embed_exactly,
    example_inputs,
    largest_error,
    sides,
)
from winnow.modeling.protocol import Side, TokenEncode

_LARGEST_ERROR = 1e-3
"""Of a vector, relative to its length. Where both run the same kernels there is none at all (all-MiniLM-L6-v2)."""

_log = logging.getLogger(__name__)


def freeze_encoder(encoder: DenseEncoder) -> TokenEncode:
    """``encoder`` as frozen graphs; itself on a GPU, and where its graphs cannot be made or give other vectors."""
    if encoder.device.type != "cpu":
        return encoder
    try:
        frozen = _freeze(encoder)
        error = largest_error(encoder, partial(_embed_as_trained, encoder), frozen.run)
    except Exception as failure:  # what an unknown architecture fails with cannot be foreseen
        return _as_it_is(encoder, f"it cannot be traced ({type(failure).__name__}: {str(failure)[:200]})")
    if error > _LARGEST_ERROR:
        return _as_it_is(encoder, f"traced, its vectors are {error:.1%} off")
    return frozen


def _as_it_is(encoder: DenseEncoder, why: str) -> DenseEncoder:
    _log.warning("the encoder is served module by module, which is slower: %s", why)
    return encoder


def _freeze(encoder: DenseEncoder) -> GraphEncoder:
    own: dict[Side, Run] = {side: partial(_run, _freeze_tower(encoder, side)) for side in sides(encoder)}
    return GraphEncoder(
        encoder.tokenizer,
        {"passage": own["query"], **own},
        fingerprint=encoder.fingerprint,
        dimension=encoder.dimension,
    )


def _freeze_tower(encoder: DenseEncoder, side: Side) -> torch.jit.ScriptModule:
    with torch.no_grad(), encoder.autocast(), warnings.catch_warnings():
        # About tracing, which torch would like to see replaced by what needs a C++ compiler where it runs.
        warnings.simplefilter("ignore")
        module = TracedModule(encoder.module, side).eval()
        traced = torch.jit.trace(module, example_inputs(encoder, side), check_trace=False)
        return torch.jit.freeze(_copied(traced))


def _copied(traced: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """The same with classes of its own.

    Those that tracing makes belong to the process, and would keep the weights of every version it ever served. They
    are dropped, with all others of their kind: what serves has no TorchScript but this.
    """
    with tempfile.TemporaryDirectory(prefix="winnow-frozen-") as folder:
        torch.jit.save(traced, f"{folder}/traced")
        copied = torch.jit.load(f"{folder}/traced")
    torch._C._jit_clear_class_registry()
    torch.jit._state._clear_class_state()
    return copied


def _embed_as_trained(encoder: DenseEncoder, token_ids: Sequence[Sequence[int]], side: Side) -> NDArray[np.float32]:
    # The frozen graph has its casts in it, and is compared as it is used: without autocast around it.
    with encoder.autocast():
        return embed_exactly(encoder, token_ids, side)


def _run(graph: torch.jit.ScriptModule, ids_NL: Tensor, mask_NL: Tensor) -> NDArray[np.float32]:
    with torch.inference_mode():
        return graph(ids_NL, mask_NL).numpy()
