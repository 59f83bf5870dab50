"""What the model gets to see of a candidate pool: query, titles and texts, cut to what fits.

Ids, human labels, human answers and the ranks of retrieval stay behind.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from winnow.engines.protocol import Engine
from winnow.judging.cutting import cut_characters, cut_passages
from winnow.judging.templates import ListwiseTemplate
from winnow.records import CandidatePool


class PassageTooLongError(Exception):
    """A passage that does not fit, however much of its text is cut off."""


@dataclass(frozen=True, slots=True)
class ShownPool:
    """Titles and texts in the order of the pool, with their tokens as they are rendered."""

    query: str
    passages: tuple[tuple[str, str], ...]
    sizes: tuple[int, ...]
    num_cut: int

    def __len__(self) -> int:
        return len(self.passages)


class Showing:
    """Cuts passages, first at a number of words, then at the room that a prompt has for a single one."""

    def __init__(self, engine: Engine, template: ListwiseTemplate, *, max_words: int) -> None:
        self._engine = engine
        self._template = template
        self._max_words = max_words

    async def show(self, pool: CandidatePool, *, capacity: int) -> ShownPool:
        """``pool`` with each passage at most ``capacity`` tokens. Raises ``PassageTooLongError``."""
        texts = await cut_passages(self._engine, [each.text for each in pool.passages], max_words=self._max_words)
        passages = [(each.title, text) for each, text in zip(pool.passages, texts, strict=True)]
        sizes = await self._measure(passages, label=len(passages))
        for position, size in enumerate(sizes):
            if size > capacity:
                passages[position], sizes[position] = await self._cut(passages[position], size, capacity, len(passages))
        num_cut = sum(shown[1] != passage.text for shown, passage in zip(passages, pool.passages, strict=True))
        return ShownPool(pool.query, tuple(passages), tuple(sizes), num_cut)

    async def _cut(self, passage: tuple[str, str], size: int, capacity: int, label: int) -> tuple[tuple[str, str], int]:
        title, text = passage
        while size > capacity:
            # In proportion, and a little more each time, for the title and for what is not proportional.
            text = cut_characters(text, len(text) * max(capacity, 0) * 9 // (size * 10))
            if not text:
                raise PassageTooLongError(
                    f"passage {title[:60]!r} cannot be cut to the {capacity} tokens that a prompt has for passages; "
                    f"raise engine.max_tokens or lower judge.max_output_tokens"
                )
            (size,) = await self._measure([(title, text)], label=label)
        return (title, text), size

    async def _measure(self, passages: Sequence[tuple[str, str]], *, label: int) -> list[int]:
        """Tokens of each passage under ``label``, the longest there is, and of the empty line before it.

        Line ends that are followed by text can be more tokens than at the end, so they are measured in front.
        """
        blocks = [self._template.render_passage(label, *passage) for passage in passages]
        return await self._engine.count_tokens([f"\n\n{block}" for block in blocks])
