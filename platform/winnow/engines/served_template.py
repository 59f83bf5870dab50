"""What a server's chat template does with turns, found out once, as far as the server or the model's name tells."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from winnow.engines.answers import ServerError
from winnow.engines.chat_template import fold_system, template_settings, turns_of
from winnow.engines.config import ServerConfig
from winnow.engines.protocol import Message
from winnow.engines.reasoning import ReasoningParser, marks_of, parser_of_name
from winnow.engines.server_connection import ServerConnection

_QUESTION = (Message("system", "Be brief."), Message("user", "Say yes."))
# Their templates open the thought, whatever they are told.
_OPENING_NAMES = re.compile(r"deepseek-r1|r1-distill|qwq|thinking-2507", re.IGNORECASE)
_SPACES = str.maketrans("", "", "\u0120\u010a\u2581 \n")  # as vocabularies write them


@dataclass(frozen=True, slots=True)
class ServedTemplate:
    """What is known of a served model's chat template before it is asked anything."""

    parser: ReasoningParser | None
    takes_system: bool
    opens_when_thinking: bool
    opens_otherwise: bool

    @classmethod
    def ask(cls, connection: ServerConnection, config: ServerConfig) -> Self:
        """By vLLM's ``/tokenize``, which renders a chat; by the model's name where there is none."""
        parser = config.reasoning_parser or parser_of_name(config.model)
        by_name = bool(_OPENING_NAMES.search(config.model))
        takes_system = not connection.can_tokenise or _takes_system(connection, config)
        question = _QUESTION if takes_system else fold_system(_QUESTION)
        ends = {thinks: _end(connection, config, question, thinks=thinks) for thinks in (True, False)}
        opening = marks_of(parser).opening
        opens = {thinks: by_name if end is None else end.endswith(opening) for thinks, end in ends.items()}
        return cls(parser, takes_system, opens[True], opens[False])

    @property
    def always_thinks(self) -> bool:
        """Whether the model thinks though it is told not to; gpt-oss does, in channels."""
        return self.opens_otherwise or self.parser == "openai_gptoss"

    def opens_thought(self, *, thinks: bool) -> bool:
        """Whether a reply begins within a thought."""
        return self.opens_when_thinking if thinks else self.opens_otherwise


def _takes_system(connection: ServerConnection, config: ServerConfig) -> bool:
    """Whether what the system says is in the prompt; a template may refuse it, or leave it out without a word."""
    if _render(connection, config, _QUESTION[1:], thinks=False) is None:
        # Where not even the user can be rendered, it is not the system's turn that is wrong.
        return True
    said, said_otherwise = (
        _render(connection, config, (Message("system", words), *_QUESTION[1:]), thinks=False)
        for words in ("Be brief.", "Be polite.")
    )
    # Not their lengths: where there is no system turn, many templates write one of their own, which may be longer.
    return said is not None and said != said_otherwise


def _end(
    connection: ServerConnection, config: ServerConfig, messages: Sequence[Message], *, thinks: bool
) -> str | None:
    """How the prompt ends, without spaces; ``None`` if that is not known."""
    tokens = _render(connection, config, messages, thinks=thinks) if connection.can_tokenise else None
    text = "".join(tokens[-8:]).translate(_SPACES) if tokens else ""
    return text or None


def _render(
    connection: ServerConnection, config: ServerConfig, messages: Sequence[Message], *, thinks: bool
) -> list[str] | None:
    settings = {**template_settings(thinks=thinks), **config.chat_template_kwargs}
    body = {"model": config.model, "messages": turns_of(messages), "chat_template_kwargs": settings}
    try:
        return connection.render(body)
    except (ServerError, AttributeError, KeyError, TypeError):
        return None
