"""A model's own chat template, tried out before anything depends on it.

Templates differ in what they take: some know no system turn and raise, or leave it out without a word; some think
unless they are told not to, and some open the thought themselves.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from winnow.engines.protocol import Message
from winnow.engines.reasoning import Marks
from winnow.errors import ConfigError

Turns = list[dict[str, str]]

ALWAYS_THINKS = (
    "this model thinks before every reply, whatever it is told (its chat template has no enable_thinking); "
    "set max_reasoning_tokens, to 2048 for example"
)
_NO_THINKING = {"enable_thinking": False}
_QUESTION = (Message("system", "winnow-system"), Message("user", "winnow-question"))
_CONVERSATION = (*_QUESTION, Message("assistant", "winnow-reply"), Message("user", "winnow-again"))


class ChatTemplate:
    """Renders turns as the text that the model gets, up to where it speaks."""

    def __init__(self, tokenizer: Any, settings: Mapping[str, Any], marks: Marks) -> None:
        """``settings`` go to the template. Raises ``ConfigError`` if it cannot render a judge's turns."""
        if not tokenizer.chat_template:
            raise ConfigError("this model has no chat template; name an instruction-tuned one as engine.model")
        self._tokenizer = tokenizer
        self._settings = settings
        self._marks = marks
        self.takes_system = self._tries(_QUESTION) is None
        problem = None if self.takes_system else self._tries(fold_system(_QUESTION))
        turns = _CONVERSATION if self.takes_system else fold_system(_CONVERSATION)
        problem = problem or self._tries(turns)
        if problem is not None:
            raise ConfigError(
                f"the model's chat template cannot render the turns of a judge ({problem}); correct the template in "
                f"the model's directory, or what engine.chat_template_kwargs gives it"
            )

    def render(self, messages: Sequence[Message], *, thinks: bool) -> str:
        """``messages`` as text; the model is told not to think unless it ``thinks``."""
        if not self.takes_system:
            messages = fold_system(messages)
        return self._apply(turns_of(messages), thinks=thinks)

    def opens_thought(self, rendered: str) -> bool:
        """Whether what comes next is within a thought, because the prompt has begun one."""
        return rendered.rstrip().endswith(self._marks.opening)

    def _tries(self, messages: Sequence[Message]) -> str | None:
        """What is wrong with ``messages`` in this template; ``None`` if all of them are in what it makes of them."""
        try:
            rendered = self._apply(turns_of(messages), thinks=False)
        except Exception as error:  # whatever a template raises
            return f"{type(error).__name__}: {error}"
        missing = [message.role for message in messages if message.content not in rendered]
        return f"it leaves out what the {missing[0]} says" if missing else None

    def _apply(self, turns: Turns, *, thinks: bool) -> str:
        settings = {**template_settings(thinks=thinks), **self._settings}
        return self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False, **settings)


def template_settings(*, thinks: bool) -> dict[str, Any]:
    """What every template is given; one that has no such variable does not notice."""
    return {} if thinks else dict(_NO_THINKING)


def fold_system(messages: Sequence[Message]) -> tuple[Message, ...]:
    """``messages`` with what the system says at the start of the user's first turn.

    >>> fold_system([Message("system", "Be brief."), Message("user", "Why?")])
    (Message(role='user', content='Be brief.\\n\\nWhy?'),)
    """
    system = [message.content for message in messages if message.role == "system"]
    others = [message for message in messages if message.role != "system"]
    if not system or not others:
        return tuple(messages)
    first, *rest = others
    return (Message(first.role, "\n\n".join([*system, first.content])), *rest)


def turns_of(messages: Sequence[Message]) -> Turns:
    """``messages`` as templates and servers take them."""
    return [{"role": message.role, "content": message.content} for message in messages]
