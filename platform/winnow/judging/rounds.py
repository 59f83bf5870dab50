"""The rounds of the listwise judge in their two layouts (arXiv 2504.05220). Both speak of positions in the pool."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from winnow.engines.protocol import Message
from winnow.judging.dialogue import Dialogue, Question, UnansweredError
from winnow.judging.parsing import labels_pattern, parse_answer, parse_ranking, parse_selection
from winnow.judging.showing import ShownPool
from winnow.judging.templates import ListwiseTemplate, Round
from winnow.judging.windows import Room, count_fitting, split_windows
from winnow.seeding import derive_seed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Selection:
    """Positions that were selected. ``windows`` are the prompts it took: places in what was to select from."""

    positions: list[int]
    windows: list[range]


class Rounds(Protocol):
    """What a layout can ask. Each round raises ``UnansweredError``."""

    async def select_relevant(self) -> Selection:
        """Relevance selection: the passages that are about the query."""

    async def answer(self, kept: Sequence[int]) -> str:
        """A pseudo-answer from the passages ``kept``."""

    async def select_useful(self, kept: Sequence[int], answer: str) -> list[int]:
        """Utility selection: those of ``kept`` that help to answer."""

    async def rank_useful(self, kept: Sequence[int], answer: str) -> list[int]:
        """Utility ranking: ``kept`` from most to least useful, without those that the judge leaves out."""


class Conversation:
    """The rounds as turns of one chat: each prompt starts with the one before, so passages are prefilled once.

    For pools that fit into one prompt. Passages keep the pool's numbers.
    """

    def __init__(self, dialogue: Dialogue, template: ListwiseTemplate, shown: ShownPool) -> None:
        self._dialogue = dialogue
        self._template = template
        self._shown = shown
        self._history = (Message("system", template.system),)

    async def select_relevant(self) -> Selection:
        everything = range(len(self._shown))
        return Selection(await self._name("relevance_selection", everything), [everything])

    async def answer(self, kept: Sequence[int]) -> str:
        return await self._take_turn(_ask_answer(self._messages("pseudo_answer")))

    async def select_useful(self, kept: Sequence[int], answer: str) -> list[int]:
        return await self._name("utility_selection", kept)

    async def rank_useful(self, kept: Sequence[int], answer: str) -> list[int]:
        return await self._name("utility_ranking", kept)

    async def _name(self, round: Round, among: Sequence[int]) -> list[int]:
        messages = self._messages(round)
        return await self._take_turn(_ask_labels(round, messages, pool_size=len(self._shown), among=among))

    def _messages(self, round: Round) -> tuple[Message, ...]:
        passages = self._template.render_passages(self._shown.passages)
        turn = self._template.render_round("conversation", round, query=self._shown.query, passages=passages)
        return (*self._history, Message("user", turn))

    async def _take_turn(self, question: Question[T]) -> T:
        """The reply, read. A first reply that was no use does not become part of the chat."""
        heard = await self._dialogue.ask(question)
        self._history = (*question.messages, Message("assistant", heard.text))
        return heard.value


class SeparatePrompts:
    """Each round as a prompt of its own, its passages numbered from 1; in windows where they do not fit together."""

    def __init__(self, dialogue: Dialogue, template: ListwiseTemplate, shown: ShownPool, room: Room) -> None:
        self._dialogue = dialogue
        self._template = template
        self._shown = shown
        self._room = room

    async def select_relevant(self) -> Selection:
        return await self._select("relevance_selection", range(len(self._shown)), answer="")

    async def answer(self, kept: Sequence[int]) -> str:
        """From as many of ``kept`` as one prompt takes, the first ones; what is left out is noted."""
        num_fitting = count_fitting(self._sizes(kept), await self._capacity("pseudo_answer", ""))
        is_cut = num_fitting < len(kept)
        if is_cut:
            self._dialogue.notes.append(f"pseudo-answer from the first {num_fitting} of {len(kept)} relevant passages")
        messages = self._messages("pseudo_answer", kept[:num_fitting], answer="")
        return (await self._dialogue.ask(_ask_answer(messages, window=0 if is_cut else None))).value

    async def select_useful(self, kept: Sequence[int], answer: str) -> list[int]:
        return (await self._select("utility_selection", kept, answer)).positions

    async def rank_useful(self, kept: Sequence[int], answer: str) -> list[int]:
        """Ranks windows that share nothing; their better halves meet again, until one prompt takes all that are left.

        Who meets whom is drawn, so every passage has the same chances. Where windows slide, those of the last one have
        more, and where they are neighbours, those of a smaller one fewer.
        """
        capacity = await self._capacity("utility_ranking", answer)
        left, settled, num_asked = self._drawn(kept, num_asked=0), [], 0
        while len(windows := split_windows(self._sizes(left), capacity=capacity)) > 1:
            if len(windows) == len(left):
                raise UnansweredError("too_long", "utility_ranking: no prompt has room for two passages")
            better, worse = [], []
            for number, window in enumerate(windows, start=num_asked):
                shown = sorted(left[place] for place in window)
                order = await self._name("utility_ranking", shown, answer, window=number)
                half = (len(window) + 1) // 2
                better += order[:half]
                worse += list(enumerate(order[half:]))
            num_asked += len(windows)
            # Those of different windows were not compared: by place, and among equal places by the draw.
            settled = [position for _, position in sorted(worse, key=lambda each: each[0])] + settled
            left = self._drawn(better, num_asked=num_asked)
        if not left:
            return settled
        return await self._name("utility_ranking", sorted(left), answer, window=num_asked or None) + settled

    def _drawn(self, positions: Sequence[int], *, num_asked: int) -> list[int]:
        return sorted(positions, key=lambda position: derive_seed(num_asked, self._shown.query, position))

    async def _select(self, round: Round, positions: Sequence[int], answer: str) -> Selection:
        """What the windows select, in the order of the pool."""
        capacity = await self._capacity(round, answer)
        windows = split_windows(self._sizes(positions), capacity=capacity)
        selected: list[int] = []
        for number, window in enumerate(windows):
            shown = [positions[place] for place in window]
            selected += sorted(await self._name(round, shown, answer, window=number if len(windows) > 1 else None))
        return Selection(selected, windows)

    async def _name(self, round: Round, shown: Sequence[int], answer: str, *, window: int | None) -> list[int]:
        messages = self._messages(round, shown, answer)
        places = range(len(shown))
        question = _ask_labels(round, messages, pool_size=len(shown), among=places, window=window)
        return [shown[place] for place in (await self._dialogue.ask(question)).value]

    def _messages(self, round: Round, shown: Sequence[int], answer: str) -> tuple[Message, ...]:
        passages = self._template.render_passages(self._shown.passages[position] for position in shown)
        query = self._shown.query
        turn = self._template.render_round("separate", round, query=query, passages=passages, answer=answer)
        return Message("system", self._template.system), Message("user", turn)

    def _sizes(self, positions: Sequence[int]) -> list[int]:
        return [self._shown.sizes[position] for position in positions]

    async def _capacity(self, round: Round, answer: str) -> int:
        return await self._room.in_prompt(round, self._shown.query, answer=answer)


def _ask_labels(
    round: Round, messages: tuple[Message, ...], *, pool_size: int, among: Sequence[int], window: int | None = None
) -> Question[list[int]]:
    is_ranking = round == "utility_ranking"
    parse = parse_ranking if is_ranking else parse_selection
    return Question(
        round,
        messages,
        form="ranking" if is_ranking else "selection",
        read=partial(parse, pool_size=pool_size, among=among),
        pattern=labels_pattern([position + 1 for position in sorted(among)], separator=" > " if is_ranking else ", "),
        window=window,
    )


def _ask_answer(messages: tuple[Message, ...], *, window: int | None = None) -> Question[str]:
    return Question("pseudo_answer", messages, form="answer", read=parse_answer, window=window)
