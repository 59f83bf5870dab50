"""What the generator is shown: the question, and passages under numbers, cut so that all of it fits."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Formatter

import yaml

from winnow.engines.markers import defuse
from winnow.engines.protocol import Engine, Message
from winnow.errors import ConfigError
from winnow.judging.cutting import cut_characters
from winnow.records import ScoredPassage

TEMPLATE = "answer-v1"
_FOLDER = Path(__file__).parent / "templates"
_PLACEHOLDERS: Mapping[str, set[str]] = {
    "system": set(),
    "passage": {"number", "title", "text"},
    "passage_without_title": {"number", "text"},
    "question": {"query", "passages"},
}
# A cut passage below this says nothing; then fewer are shown.
_FEWEST_TOKENS = 48
# Parts that are counted apart may be a few tokens more together.
_SPARE_TOKENS = 16
# What would end a passage's block, or begin another.
_BLOCK = re.compile(r"<(?=[\s/]*passage\b)", re.IGNORECASE)


class QuestionTooLongError(Exception):
    """The question leaves no room for passages."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A passage as the generator sees it."""

    passage: ScoredPassage
    text: str

    @property
    def is_cut(self) -> bool:
        """Whether the end of its text was left out."""
        return self.text != self.passage.text


@dataclass(frozen=True, slots=True)
class Prompt:
    """The messages, and the passages in them; ``shown[0]`` has the number 1."""

    messages: tuple[Message, ...]
    shown: tuple[Shown, ...]


async def build_prompt(
    engine: Engine, query: str, passages: Sequence[ScoredPassage], *, reply_tokens: int, share: float = 1.0
) -> Prompt:
    """A prompt that takes ``share`` of the room beside a reply of ``reply_tokens``.

    The longest passages are cut first; where even that leaves too little of each, the last ones are left out.
    Raises ``QuestionTooLongError``.
    """
    fixed = await engine.count_prompt_tokens(_messages(query, ())) + reply_tokens + _SPARE_TOKENS
    room = int((engine.max_tokens - fixed) * share)
    if room < _FEWEST_TOKENS:
        raise QuestionTooLongError(f"the generator takes {engine.max_tokens} tokens, {fixed} are taken already")
    shown = await _fit(engine, [Shown(passage, passage.text) for passage in passages[: room // _FEWEST_TOKENS]], room)
    return Prompt(_messages(query, shown), tuple(shown))


async def _fit(engine: Engine, shown: Sequence[Shown], room: int) -> list[Shown]:
    sizes = await _measure(engine, shown)
    capacity = _capacity(sizes, room)
    fitting = [
        one if size <= capacity else await _cut(engine, one, size, capacity)
        for one, size in zip(shown, sizes, strict=True)
    ]
    return [one for one in fitting if one is not None]


def _capacity(sizes: Sequence[int], room: int) -> int:
    """The most that each part may have so that all fit into ``room``; short ones leave theirs to the others."""
    for num_done, size in enumerate(sorted(sizes)):
        fair = room // (len(sizes) - num_done)
        if size > fair:
            return fair
        room -= size
    return max(sizes, default=0)


async def _cut(engine: Engine, shown: Shown, size: int, capacity: int) -> Shown | None:
    """``shown`` with less text; ``None`` if its title alone is too long."""
    while size > capacity:
        # In proportion, and a little more each time, for the title and for what is not proportional.
        text = cut_characters(shown.text, len(shown.text) * capacity * 9 // (size * 10))
        if not text:
            return None
        shown = Shown(shown.passage, text)
        (size,) = await _measure(engine, [shown])
    return shown


async def _measure(engine: Engine, shown: Sequence[Shown]) -> list[int]:
    # Under a number as long as any, and with the empty line before it.
    return await engine.count_tokens([f"\n\n{_render(1000, one)}" for one in shown])


def _messages(query: str, shown: Sequence[Shown]) -> tuple[Message, ...]:
    texts = _texts()
    passages = "\n\n".join(_render(number, one) for number, one in enumerate(shown, start=1))
    question = texts["question"].format(query=_defuse(query), passages=passages)
    return Message("system", texts["system"]), Message("user", question)


def _render(number: int, shown: Shown) -> str:
    title, text = _defuse(shown.passage.title), _defuse(shown.text)
    return _texts()["passage" if title else "passage_without_title"].format(number=number, title=title, text=text)


def _defuse(text: str) -> str:
    """``text`` without what would read as markup: of ours, or of a model's prompt format."""
    return _BLOCK.sub("(", defuse(text))


@cache
def _texts() -> Mapping[str, str]:
    """The template, checked. Raises ``ConfigError``."""
    texts = yaml.safe_load((_FOLDER / f"{TEMPLATE}.yaml").read_text(encoding="utf-8"))
    found = {key: {name for _, name, _, _ in Formatter().parse(text) if name} for key, text in texts.items()}
    if found != _PLACEHOLDERS:
        raise ConfigError(f"template {TEMPLATE!r} has the placeholders {found}, expected {dict(_PLACEHOLDERS)}")
    return texts
