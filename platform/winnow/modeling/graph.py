"""An encoder as graphs, one for each tower, that run in a single call: ids and mask in, vectors out.

Legend: N texts, L tokens of the longest, D dimension.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from winnow.modeling.batches import batches_by_length
from winnow.modeling.encoder import DenseEncoder
from winnow.modeling.module import EncoderModule
from winnow.modeling.padding import PaddedTokens, pad
from winnow.modeling.protocol import Side
from winnow.modeling.tokenizing import TextTokenizer

Run = Callable[[Tensor, Tensor], NDArray[np.float32]]
"""``ids_NL`` and ``mask_NL`` to ``vectors_ND``."""

EncodeTokens = Callable[[Sequence[Sequence[int]], Side], NDArray[np.float32]]
"""Token ids of N texts to ``vectors_ND``."""

_BATCH_TOKENS = 256
"""Per run, padding included: activations stay in the processor's cache. 4096 takes up to twice as long."""

_CPU = torch.device("cpu")

_PROBES = [["copy"], ["how do I copy a file?", "", "a b c"], ["every word of a long text " * 200, "short"]]
"""Batches of unlike sizes: a graph that took a size for a constant shows."""


class GraphEncoder:
    """Gives the vectors of the torch encoder that its graphs were made from, whose fingerprint it has."""

    def __init__(
        self,
        tokenizer: TextTokenizer,
        runs: Mapping[Side, Run],
        *,
        fingerprint: str,
        dimension: int,
        batch_tokens: int = _BATCH_TOKENS,
    ) -> None:
        """``batch_tokens`` is the most for one run; a text longer than that goes alone."""
        self.fingerprint = fingerprint
        self.dimension = dimension
        self._tokenizer = tokenizer
        self._runs = runs
        self._batch_tokens = batch_tokens

    def tokenize(self, texts: Sequence[str], *, side: Side) -> list[list[int]]:
        """Token ids of each text, with prefix and special tokens, cut to the side's limit."""
        return self._tokenizer.tokenize(texts, side=side)

    def tokenize_with_cuts(self, texts: Sequence[str], *, side: Side) -> tuple[list[list[int]], list[bool]]:
        """As ``tokenize``, and whether each text was cut."""
        return self._tokenizer.tokenize_with_cuts(texts, side=side)

    def encode(self, texts: Sequence[str], *, side: Side) -> NDArray[np.float32]:
        """``embeddings_ND`` in the order of ``texts``, float32."""
        return self.encode_tokens(self.tokenize(texts, side=side), side=side)

    def encode_tokens(self, token_ids: Sequence[Sequence[int]], *, side: Side) -> NDArray[np.float32]:
        """The same for texts that ``tokenize`` was given already."""
        embeddings_ND = np.empty((len(token_ids), self.dimension), dtype=np.float32)
        for batch in batches_by_length([len(row) for row in token_ids], max_tokens=self._batch_tokens):
            embeddings_ND[batch] = self.run([token_ids[position] for position in batch], side)
        return embeddings_ND

    def run(self, token_ids: Sequence[Sequence[int]], side: Side) -> NDArray[np.float32]:
        """The same in one run, however many tokens these are."""
        tokens = pad(token_ids, pad_token_id=self._tokenizer.pad_token_id, device=_CPU)
        return self._runs[side](tokens.ids_NL, tokens.mask_NL)


class TracedModule(nn.Module):
    """The encoder as a function of two tensors, for one side."""

    def __init__(self, module: EncoderModule, side: Side) -> None:
        super().__init__()
        self._module = module
        self._side: Side = side

    def forward(self, ids_NL: Tensor, mask_NL: Tensor) -> Tensor:
        return self._module(PaddedTokens(ids_NL, mask_NL), side=self._side)


def sides(encoder: DenseEncoder) -> tuple[Side, ...]:
    """The sides that have a graph of their own; tied towers share that of the queries."""
    return ("query",) if encoder.module.passage_backbone is None else ("query", "passage")


def example_inputs(encoder: DenseEncoder, side: Side) -> tuple[Tensor, Tensor]:
    """``ids_NL`` and ``mask_NL`` to trace with: several texts, of which one is empty."""
    tokens = pad(
        encoder.tokenize(_PROBES[1], side=side), pad_token_id=encoder.tokenizer.pad_token_id, device=encoder.device
    )
    return tokens.ids_NL, tokens.mask_NL


def largest_error(encoder: DenseEncoder, exact: EncodeTokens, other: EncodeTokens) -> float:
    """How far a vector of ``other`` is from the ``exact`` one, relative to its length; ``encoder`` tokenises.

    The worst of a few texts; infinity if a vector is not finite.
    """
    errors = [
        _relative_error(exact(token_ids, side), other(token_ids, side))
        for side in sides(encoder)
        for token_ids in (encoder.tokenize(texts, side=side) for texts in _PROBES)
    ]
    return max(errors) if np.isfinite(errors).all() else np.inf


def embed_exactly(encoder: DenseEncoder, token_ids: Sequence[Sequence[int]], side: Side) -> NDArray[np.float32]:
    """``vectors_ND`` of ``encoder`` itself in one run: in float32, or as ``torch.autocast`` says at the moment."""
    with torch.inference_mode():
        return encoder.embed(token_ids, side=side).numpy()


def _relative_error(exact_ND: NDArray[np.float32], other_ND: NDArray[np.float32]) -> float:
    distances_N = np.linalg.norm(exact_ND - other_ND, axis=1)
    return float((distances_N / np.maximum(np.linalg.norm(exact_ND, axis=1), 1e-12)).max())
