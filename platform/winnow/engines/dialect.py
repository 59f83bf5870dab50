"""What one server takes, learned from what it refuses. The same for every request from then on.

Servers agree on the main fields only. A refusal that names a field is believed; one that names none changes nothing, so
that a single odd request does not change how all others are asked.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from winnow.engines.chat_template import fold_system, template_settings, turns_of
from winnow.engines.config import ServerConfig
from winnow.engines.protocol import ChatRequest

_NO_FIELD = re.compile(
    r"unrecogni[sz]ed|unknown|unexpected|unsupported|not supported|not permitted|not allowed|additional propert|extra",
    re.IGNORECASE,
)
_NO_SYSTEM = re.compile(
    r"system.{0,20}(role|message|prompt|instruction)|(role|message).{0,20}system|roles? must alternate", re.IGNORECASE
)
# What vLLM takes from a model's generation_config.json where a request does not say otherwise, and our own engines do
# not: a repetition penalty changes even a greedy reply.
_NEUTRAL = {"repetition_penalty": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a server is asked."""

    is_vllm: bool = False
    takes_system: bool = True
    takes_patterns: bool = True
    takes_template_settings: bool = True
    limit_field: str = "max_tokens"

    def after(self, refusal: str, config: ServerConfig) -> "Dialect":
        """How it is asked after ``refusal``: as before, if that names nothing that could be left out."""
        if "max_completion_tokens" in refusal:
            return replace(self, limit_field="max_completion_tokens")
        if "structured_outputs" in refusal and _NO_FIELD.search(refusal):
            return replace(self, takes_patterns=False)
        # What the user asks for is not left out: an error is better than another model behaviour.
        if "chat_template" in refusal and not config.chat_template_kwargs:
            return replace(self, takes_template_settings=False)
        if _NO_SYSTEM.search(refusal):
            return replace(self, takes_system=False)
        return self

    def fields(self, request: ChatRequest, config: ServerConfig) -> dict[str, Any]:
        """The fields of ``request`` that every server knows."""
        messages = request.messages if self.takes_system else fold_system(request.messages)
        return {
            "model": config.model,
            "messages": turns_of(messages),
            "temperature": request.temperature,
            "seed": request.seed,
            self.limit_field: request.max_reply_tokens,
        }

    def extra_fields(self, request: ChatRequest, config: ServerConfig, *, pattern: str | None) -> dict[str, Any]:
        """The fields beyond those."""
        extra: dict[str, Any] = dict(_NEUTRAL) if self.is_vllm else {}
        settings = self.template_settings(config, thinks=request.thinks)
        if settings:
            extra["chat_template_kwargs"] = settings
        if pattern is not None:
            extra["structured_outputs"] = {"regex": pattern}
        return {**extra, **config.extra_body}

    def template_settings(self, config: ServerConfig, *, thinks: bool) -> Mapping[str, Any]:
        """Variables for the chat template."""
        ours = template_settings(thinks=thinks) if self.takes_template_settings else {}
        return {**ours, **config.chat_template_kwargs}

    def obeys_pattern(self, request: ChatRequest, config: ServerConfig) -> bool:
        """Whether a pattern leaves room to think: only a server with a parser of its own sees where a thought ends."""
        return self.takes_patterns and (not request.thinks or config.reasoning_parser is not None)
