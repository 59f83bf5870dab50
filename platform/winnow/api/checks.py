"""Limits of the configuration that a request must keep. What is beyond one is refused, never cut."""

from collections.abc import Sequence

from winnow.api.config import ApiConfig
from winnow.api.errors import refuse


def check_texts(field: str, texts: Sequence[str], *, most: int, max_chars: int) -> None:
    """Refuses too many texts, and a text that is empty or too long."""
    if len(texts) > most:
        raise refuse(422, f"{field}: {len(texts)} in one request, at most {most} are allowed")
    for position, text in enumerate(texts):
        check_text(f"{field}.{position}", text, max_chars=max_chars)


def check_text(field: str, text: str, *, max_chars: int) -> None:
    """Refuses a text that is empty or too long."""
    if not text or text.isspace():
        raise refuse(422, f"{field} is empty; expected a text")
    if len(text) > max_chars:
        raise refuse(422, f"{field} has {len(text)} characters, at most {max_chars} are allowed")


def check_k(k: int, config: ApiConfig, *, num_queries: int = 1) -> None:
    """Refuses to give more passages than allowed, for a query or in one answer."""
    if k > config.max_k:
        raise refuse(422, f"k: {k} is more than the {config.max_k} passages allowed per query")
    if k * num_queries > config.max_results:
        raise refuse(
            422,
            f"k: {k} for each of {num_queries} queries is {k * num_queries} passages, at most {config.max_results} are "
            f"allowed in one answer; ask for fewer, or in several requests",
        )
