"""The ledger against sums done by hand."""

import pytest

from winnow import schema
from winnow.judging.config import PriceConfig
from winnow.judging.ledger import Ledger, cost, render, summary


def traces(*rows):
    names = ["round", "prompt_tokens", "cached_tokens", "output_tokens", "seconds"]
    common = {
        "query_id": "q",
        "pool_id": "p",
        "judge_id": "j",
        "attempt": 1,
        "prompt_sha": "x",
        "finish_reason": "stop",
    }
    return schema.to_table([{**common, **dict(zip(names, row, strict=True))} for row in rows], schema.JUDGE_TRACES)


@pytest.fixture
def ledger():
    ledger = Ledger()
    ledger.add(traces(("select", 1000, 0, 10, 2.0), ("answer", 500, 400, 40, 1.0)), num_queries=1)
    ledger.add(traces(("select", 3000, 0, 10, 5.0)), num_queries=1)
    return ledger


def test_totals_are_sums_by_round_and_over_all(ledger):
    assert ledger.num_queries == 2
    assert (ledger.rounds["select"].calls, ledger.rounds["select"].prompt_tokens) == (2, 4000)
    total = ledger.total
    assert (total.calls, total.prompt_tokens, total.cached_tokens, total.output_tokens) == (3, 4500, 400, 60)
    assert total.tokens_per_s == pytest.approx(4560 / 8)


def test_a_gpu_hour_is_paid_for_every_gpu_of_the_engine(ledger):
    assert cost(ledger.total, PriceConfig(per_gpu_hour=36.0), gpus=4) == pytest.approx(8 / 3600 * 4 * 36)
    assert cost(ledger.total, PriceConfig(per_gpu_hour=36.0), gpus=0) == pytest.approx(8 / 3600 * 36)


def test_cached_tokens_have_their_own_price_or_that_of_the_others(ledger):
    dear = PriceConfig(per_million_prompt_tokens=10.0, per_million_output_tokens=100.0)
    cheap = PriceConfig(per_million_prompt_tokens=10.0, per_million_cached_tokens=1.0, per_million_output_tokens=100.0)

    assert cost(ledger.total, dear, gpus=1) == pytest.approx((4500 * 10 + 60 * 100) / 1e6)
    assert cost(ledger.total, cheap, gpus=1) == pytest.approx((4100 * 10 + 400 * 1 + 60 * 100) / 1e6)


def test_without_a_price_there_is_no_cost_rather_than_none_of_it(ledger):
    values = summary(ledger, PriceConfig(), gpus=1)

    assert values["cost"] is None
    assert values["cost_per_1000_queries"] is None
    assert "USD" not in render(values)


def test_the_summary_prices_a_thousand_queries(ledger):
    values = summary(ledger, PriceConfig(per_gpu_hour=3600.0, currency="EUR"), gpus=1)

    assert values["cost"] == pytest.approx(8.0)
    assert values["cost_per_1000_queries"] == pytest.approx(4000.0)
    assert "8.00 EUR, 4,000.00 per 1,000 queries" in render(values)


def test_a_sample_is_scaled_to_all_queries(ledger):
    scaled = ledger.scaled(100)

    assert scaled.num_queries == 100
    assert scaled.total.prompt_tokens == 4500 * 50
    assert scaled.total.seconds == pytest.approx(8 * 50)


def test_nothing_judged_is_nothing_spent():
    values = summary(Ledger(), PriceConfig(per_gpu_hour=1.0), gpus=1)

    assert (values["calls"], values["cost"], values["tokens_per_s"]) == (0, 0.0, None)
    assert "0 calls" in render(values)
