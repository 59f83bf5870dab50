"""How many tokens a backbone has positions for, by its config.json."""

from collections.abc import Mapping
from typing import Any

COUNTS_FROM_PADDING = frozenset(
    {
        *("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "data2vec-text"),
        *("mpnet", "longformer", "xmod", "ibert", "luke", "mluke"),
    }
)
"""Architectures whose first position is the padding token's id plus one: a table of 514 holds 512 tokens."""

_OTHERS_WITH_A_TABLE = frozenset({"bert", "distilbert", "electra", "albert", "ernie", "convbert", "mobilebert"})


def most_tokens(config: Mapping[str, Any]) -> int | None:
    """What the table of positions holds; ``None`` without a table, or where nobody knows.

    >>> most_tokens({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1})
    512
    """
    kind, size = config.get("model_type"), config.get("max_position_embeddings")
    if size is None or config.get("position_embedding_type", "absolute") != "absolute":
        return None
    if kind in COUNTS_FROM_PADDING:
        padding = config.get("pad_token_id")
        return size - (1 if padding is None else padding) - 1
    return size if kind in _OTHERS_WITH_A_TABLE else None
