"""Which of a query's passages comes first where nobody said which is better."""

from collections.abc import Mapping
from dataclasses import dataclass

from winnow.seeding import derive_seed

_INFINITY = float("inf")


@dataclass(frozen=True, slots=True)
class PoolOrder:
    """The best rank in a list of the pool decides, then a draw by the seed.

    Neither an id nor a place in the prompt says anything about a passage.
    """

    query_id: str
    best_ranks: Mapping[str, int | None]
    """``None`` for a passage that no list found; what is not in the pool is not in here."""
    seed: int

    def key(self, passage_id: str) -> tuple[float, int]:
        """Sorts passages, the first one lowest."""
        rank = self.best_ranks.get(passage_id)
        draw = derive_seed(self.seed, "pool order", self.query_id, passage_id)
        return _INFINITY if rank is None else rank, draw
