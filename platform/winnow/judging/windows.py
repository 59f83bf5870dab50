"""How many passages fit into a prompt, and how a pool is split where they do not all fit.

Sizes are tokens of passages as they are rendered; capacities are tokens that a prompt leaves for them.
"""

from collections.abc import Sequence

from winnow.engines.protocol import Engine, Message
from winnow.judging.config import ListwiseJudgeConfig
from winnow.judging.templates import ListwiseTemplate, Round

# Stands for a reply where only the turns around it are measured.
_ANY_REPLY = "[none]"


def split_windows(sizes: Sequence[int], *, capacity: int) -> list[range]:
    """Consecutive positions that fit together: as few windows as possible, of numbers as equal as possible.

    No two share a position, so that no passage has a second chance to be selected. A passage that does not fit on its
    own gets a window of its own.

    >>> split_windows([5, 5, 5, 5], capacity=15)
    [range(0, 2), range(2, 4)]
    """
    # For the first n passages: windows, the sum of their squared lengths, where the last one starts.
    best = [(0, 0, 0)]
    for stop in range(1, len(sizes) + 1):
        best.append(min((best[s][0] + 1, best[s][1] + (stop - s) ** 2, s) for s in _starts(sizes, stop, capacity)))
    windows: list[range] = []
    stop = len(sizes)
    while stop:
        windows.append(range(best[stop][2], stop))
        stop = best[stop][2]
    return windows[::-1]


def _starts(sizes: Sequence[int], stop: int, capacity: int) -> range:
    """Where a window that ends before ``stop`` may start."""
    return range(stop - count_fitting(sizes[:stop][::-1], capacity), stop)


def count_fitting(sizes: Sequence[int], capacity: int) -> int:
    """How many of the first ``sizes`` fit together; at least one.

    >>> count_fitting([5, 5, 5], 12), count_fitting([20, 5], 12)
    (2, 1)
    """
    taken = 0
    for number, size in enumerate(sizes):
        taken += size
        if taken > capacity:
            return max(number, 1)
    return len(sizes)


class Room:
    """Tokens that are left for passages, after instructions, the longest replies and a second attempt."""

    def __init__(self, engine: Engine, template: ListwiseTemplate, config: ListwiseJudgeConfig) -> None:
        self._engine = engine
        self._template = template
        self._max_output_tokens = config.max_output_tokens
        self._max_reply_tokens = config.max_output_tokens + config.max_reasoning_tokens

    async def in_prompt(self, round: Round, query: str, *, answer: str | None = None) -> int:
        """Room in a prompt of its own. An answer that is not known yet may become as long as a reply."""
        turn = self._template.render_round("separate", round, query=query, answer=answer or "")
        return await self._left([turn], num_replies=1 if answer is not None or round in _BEFORE_ANSWER else 2)

    async def in_conversation(self, rounds: Sequence[Round], query: str) -> int:
        """Room in a chat of which ``rounds`` are the turns."""
        turns = [self._template.render_round("conversation", round, query=query) for round in rounds]
        return await self._left(turns, num_replies=len(rounds))

    async def _left(self, turns: Sequence[str], *, num_replies: int) -> int:
        """``num_replies`` stand in the prompt, with the one that could not be read; another one is to come."""
        messages = [Message("system", self._template.system)]
        for turn in (*turns, self._longest_again()):
            messages += [Message("user", turn), Message("assistant", _ANY_REPLY)]
        taken = await self._engine.count_prompt_tokens(messages[:-1])
        return self._engine.max_tokens - taken - num_replies * self._max_output_tokens - self._max_reply_tokens

    def _longest_again(self) -> str:
        problems, forms = ("malformed", "truncated"), ("selection", "ranking", "answer")
        return max((self._template.render_again(problem, form) for problem in problems for form in forms), key=len)


_BEFORE_ANSWER = ("relevance_selection", "pseudo_answer")
