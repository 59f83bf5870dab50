"""Texts of a batch to embeddings with gradient, in micro-batches of like length.

Legend: N texts, D dimension.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from winnow.modeling.batches import batches_by_length
from winnow.modeling.protocol import Side
from winnow.training.config import Precision
from winnow.training.half import MICRO_BATCHES_PER_SUM, HalfWeights
from winnow.training.protocol import TrainableEncoder
from winnow.training.tokens import TokenStore

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class MicroBatch:
    """Texts that the encoder takes at once."""

    positions: list[int]
    token_ids: list[list[int]]
    random_state: Tensor | None
    """Torch's generator before the first time they were encoded, where they are to be encoded again with dropout."""


@dataclass(frozen=True)
class Encoded:
    """Embeddings in the order of the texts, and what computing them took."""

    side: Side
    embeddings_ND: Tensor
    micro_batches: tuple[MicroBatch, ...]
    num_tokens: int
    num_padding: int


class TextEncoding:
    """Encodes texts of a token store; with ``use_cache`` in two passes, of which only the second keeps activations."""

    def __init__(
        self,
        encoder: TrainableEncoder,
        tokens: TokenStore,
        *,
        micro_batch_tokens: int,
        precision: Precision = "fp32",
        use_cache: bool = False,
    ) -> None:
        self._encoder = encoder
        self._tokens = tokens
        self._micro_batch_tokens = micro_batch_tokens
        self._half = _HALF.get(precision)
        self._use_cache = use_cache
        reference = next(encoder.module.parameters())
        self._device, self._dtype = reference.device, reference.dtype

    def encode(self, side: Side, ids: Sequence[str]) -> Encoded:
        """The embeddings of ``ids``; with a cache they are leaves, and ``backward`` has to follow."""
        if not ids:
            # Requires gradient, so that the backward pass reaches the collective of ``gather_rows`` here too.
            shape = 0, self._encoder.dimension
            nothing = torch.zeros(shape, dtype=self._dtype, device=self._device, requires_grad=True)
            return Encoded(side, nothing, (), 0, 0)
        rows = [self._tokens.tokens(side, text_id) for text_id in ids]
        lengths = [len(row) for row in rows]
        with_gradient = torch.is_grad_enabled() and not self._use_cache
        with self._autocast():
            packed = self._encoder.packs
        batches = batches_by_length(lengths, max_tokens=self._micro_batch_tokens, packed=packed)
        in_half = self._in_half()
        done = []
        for start in range(0, len(batches), MICRO_BATCHES_PER_SUM):
            with in_half(), torch.set_grad_enabled(with_gradient):
                few = batches[start : start + MICRO_BATCHES_PER_SUM]
                done += [self._encode(side, batch, rows) for batch in few]
        order = torch.tensor([position for batch in batches for position in batch], device=self._device)
        embeddings_ND = torch.cat([vectors for _, vectors in done])[order.argsort()]
        if self._use_cache:
            embeddings_ND = embeddings_ND.detach().requires_grad_()
        num_computed = sum(lengths) if packed else sum(len(b) * lengths[b[0]] for b in batches)
        micro_batches = tuple(micro_batch for micro_batch, _ in done)
        return Encoded(side, embeddings_ND, micro_batches, sum(lengths), num_computed - sum(lengths))

    def backward(self, encoded: Encoded) -> None:
        """Pass the gradient of cached embeddings on to the parameters. Without a cache there is nothing left to do."""
        if not self._use_cache or not encoded.micro_batches:
            return
        gradient_ND = encoded.embeddings_ND.grad
        in_half = self._in_half()
        for batch in encoded.micro_batches:
            with self._as_before(batch.random_state), in_half():
                vectors = self._embed(batch.token_ids, encoded.side)
            vectors.backward(gradient_ND[batch.positions])

    def _encode(self, side: Side, positions: list[int], rows: Sequence[list[int]]) -> tuple[MicroBatch, Tensor]:
        batch = MicroBatch(positions, [rows[position] for position in positions], self._random_state())
        return batch, self._embed(batch.token_ids, side)

    def _embed(self, token_ids: Sequence[Sequence[int]], side: Side) -> Tensor:
        return self._encoder.embed(token_ids, side=side).to(self._dtype)

    def _in_half(self) -> Callable[[], AbstractContextManager[None]]:
        """Contexts for a few micro-batches each, in the precision asked for; weights are copied once for all."""
        if self._half is None:
            return nullcontext
        weights = HalfWeights(self._encoder.module, self._half)

        @contextmanager
        def in_half() -> Iterator[None]:
            with self._autocast(), weights.in_use():
                yield

        return in_half

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, dtype=self._half or torch.bfloat16, enabled=self._half is not None)

    def _random_state(self) -> Tensor | None:
        if not (self._use_cache and self._encoder.module.training):
            return None
        return torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else torch.get_rng_state()

    @contextmanager
    def _as_before(self, state: Tensor | None) -> Iterator[None]:
        """Dropout drops what it dropped the first time."""
        if state is None:
            yield
            return
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            if self._device.type == "cuda":
                torch.cuda.set_rng_state(state, self._device)
            else:
                torch.set_rng_state(state)
            yield
