"""What judging cost: tokens, engine time and money, by round, from the traces of every call."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import pyarrow as pa

from winnow.judging.config import PriceConfig


@dataclass
class Totals:
    """Sums over calls. ``seconds`` are those in which an engine was at work, shared out among its calls."""

    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0

    def add(self, other: "Totals", *, times: float = 1) -> None:
        """Add ``other``, that many times over."""
        for each in fields(self):
            total = getattr(self, each.name) + getattr(other, each.name) * times
            setattr(self, each.name, total if each.name == "seconds" else round(total))

    @property
    def tokens_per_s(self) -> float | None:
        """Prompt and output tokens together, cached ones included; ``None`` before a second was spent."""
        return (self.prompt_tokens + self.output_tokens) / self.seconds if self.seconds else None


@dataclass
class Ledger:
    """Totals by round, added up trace by trace."""

    num_queries: int = 0
    rounds: dict[str, Totals] = field(default_factory=lambda: defaultdict(Totals))

    def add(self, traces: pa.Table, *, num_queries: int) -> None:
        """Count ``traces``, the calls that judging ``num_queries`` took."""
        self.num_queries += num_queries
        sums = traces.group_by("round").aggregate([(name, "sum") for name in _SUMMED] + [("round", "count")])
        for row in sums.to_pylist():
            values = {name: row[f"{name}_sum"] for name in _SUMMED}
            self.rounds[row["round"]].add(Totals(calls=row["round_count"], **values))

    @property
    def total(self) -> Totals:
        """All rounds together."""
        total = Totals()
        for each in self.rounds.values():
            total.add(each)
        return total

    def scaled(self, num_queries: int) -> "Ledger":
        """What ``num_queries`` would take, if they are like those counted."""
        scaled = Ledger(num_queries)
        for name, each in self.rounds.items():
            scaled.rounds[name].add(each, times=num_queries / max(1, self.num_queries))
        return scaled


_SUMMED = [each.name for each in fields(Totals) if each.name != "calls"]


def cost(totals: Totals, price: PriceConfig, *, gpus: int) -> float | None:
    """What ``totals`` cost in ``price.currency``; ``None`` without a price.

    An engine's hour is that of its GPUs, or of its machine where it has none.
    """
    fresh = totals.prompt_tokens - totals.cached_tokens
    cached_price = price.per_million_cached_tokens
    parts = [
        (totals.seconds / 3600 * max(1, gpus), price.per_gpu_hour),
        (fresh / 1e6, price.per_million_prompt_tokens),
        (totals.cached_tokens / 1e6, price.per_million_prompt_tokens if cached_price is None else cached_price),
        (totals.output_tokens / 1e6, price.per_million_output_tokens),
    ]
    priced = [amount * each for amount, each in parts if each is not None]
    return sum(priced) if priced else None


def summary(ledger: Ledger, price: PriceConfig, *, gpus: int) -> dict[str, Any]:
    """``ledger`` as plain values: totals, tokens/s, cost, and the totals of each round."""
    total = ledger.total
    amount = cost(total, price, gpus=gpus)
    return {
        "queries": ledger.num_queries,
        **_values(total),
        "cost": None if amount is None else round(amount, 6),
        "cost_per_1000_queries": None if amount is None else round(1000 * amount / max(1, ledger.num_queries), 6),
        "currency": price.currency,
        "rounds": {name: _values(each) for name, each in sorted(ledger.rounds.items())},
    }


def _values(totals: Totals) -> dict[str, float | None]:
    speed = totals.tokens_per_s
    values = {each.name: getattr(totals, each.name) for each in fields(totals)}
    return {**values, "seconds": round(totals.seconds, 3), "tokens_per_s": None if speed is None else round(speed, 1)}


def render(values: Mapping[str, Any]) -> str:
    """One sentence of what ``summary`` holds."""
    cached = values["cached_tokens"] / values["prompt_tokens"] if values["prompt_tokens"] else 0.0
    speed = "" if values["tokens_per_s"] is None else f" ({values['tokens_per_s']:,.0f} tokens/s)"
    time = "" if values["seconds"] is None else f" in {values['seconds']:,.1f} engine seconds{speed}"
    money = ""
    if values["cost"] is not None:
        per_thousand = f"{values['cost_per_1000_queries']:,.2f} per 1,000 queries"
        money = f"; {values['cost']:,.2f} {values['currency']}, {per_thousand}"
    return (
        f"{values['calls']:,} calls, {values['prompt_tokens']:,} prompt tokens ({cached:.0%} from the prefix cache), "
        f"{values['output_tokens']:,} output tokens{time}{money}"
    )
