"""What pooling, indexing, evaluation and serving ask of an encoder."""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Side = Literal["query", "passage"]
"""Queries and passages may have their own prefix, length limit and tower."""


class Encode(Protocol):
    """Texts in, vectors out. Equal fingerprints mean equal vectors."""

    @property
    def fingerprint(self) -> str:
        """Hash of weights, tokenizer and contract (pooling, prefixes, lengths, normalisation)."""

    @property
    def dimension(self) -> int:
        """D."""

    def encode(self, texts: Sequence[str], *, side: Side) -> NDArray[np.float32]:
        """``embeddings_ND`` in the order of ``texts``, float32."""


class TokenEncode(Encode, Protocol):
    """An encoder that takes tokens too: serving counts them before it decides what is encoded together."""

    def tokenize(self, texts: Sequence[str], *, side: Side) -> list[list[int]]:
        """Token ids of each text, with prefix and special tokens, cut to the side's limit."""

    def tokenize_with_cuts(self, texts: Sequence[str], *, side: Side) -> tuple[list[list[int]], list[bool]]:
        """As ``tokenize``, and whether each text was cut."""

    def encode_tokens(self, token_ids: Sequence[Sequence[int]], *, side: Side) -> NDArray[np.float32]:
        """What ``encode`` gives for the texts of ``token_ids``."""
