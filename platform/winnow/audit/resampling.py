"""Measures of queries with 95 % intervals: the queries are drawn again, with replacement, many times."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_PERCENTILES = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measure with its interval. ``None`` where it is not defined, or one query says nothing of the spread."""

    value: float | None
    low: float | None
    high: float | None
    num_queries: int
    """Queries it was measured on."""
    num_pairs: int | None = None
    """Query-passage pairs, or pairs of passages for an AUC."""


@dataclass(frozen=True)
class Measure:
    """A function of sums over queries, so that a resample costs one product of matrices."""

    columns_QK: NDArray[np.float64]
    of_sums: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    """From sums ``(..., K)`` to values ``(...)``."""
    num_queries: int
    num_pairs: int | None = None


def ratio(
    numerator_Q: NDArray[np.float64], denominator_Q: NDArray[np.float64], *, num_pairs: int | None = None
) -> Measure:
    """One sum over another: pairs are pooled, and queries with more pairs count more."""
    columns_QK = np.stack([numerator_Q, denominator_Q], axis=1).astype(np.float64)
    return Measure(columns_QK, _divide, int((denominator_Q > 0).sum()), num_pairs)


def mean(values_Q: NDArray[np.float64], *, num_pairs: int | None = None) -> Measure:
    """The mean over the queries that have a value; NaN is none."""
    is_defined_Q = ~np.isnan(values_Q)
    return ratio(np.where(is_defined_Q, values_Q, 0.0), is_defined_Q.astype(np.float64), num_pairs=num_pairs)


def kappa(first_N: NDArray[np.bool_], second_N: NDArray[np.bool_], query_N: NDArray[np.int64], num: int) -> Measure:
    """Cohen's kappa of two yes-or-no labels, over the pooled pairs of ``num`` queries."""
    cells = [first_N & second_N, first_N & ~second_N, ~first_N & second_N, ~first_N & ~second_N]
    columns_QK = np.stack([np.bincount(query_N, weights=cell, minlength=num) for cell in cells], axis=1)
    return Measure(columns_QK, kappa_of_counts, len(np.unique(query_N)), len(query_N))


def kappa_of_counts(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cohen's kappa of counts ``(..., 4)``: both yes, only the first, only the second, neither.

    NaN where chance alone agrees always, as when both say yes to everything.

    >>> kappa_of_counts(np.array([20.0, 5.0, 10.0, 15.0])).round(3).item()
    0.4
    """
    both, first, second, neither = np.moveaxis(counts, -1, 0)
    total = counts.sum(axis=-1)
    by_chance = _share((both + first) * (both + second) + (neither + first) * (neither + second), total**2)
    return _share(_share(both + neither, total) - by_chance, 1.0 - by_chance)


def estimate(measures: Mapping[str, Measure], *, num_queries: int, samples: int, seed: int) -> dict[str, Estimate]:
    """Every measure with the percentile interval of ``samples`` resamples, which all measures share."""
    columns = [measure.columns_QK for measure in measures.values()]
    stacked_QK = np.concatenate(columns, axis=1) if columns else np.zeros((num_queries, 0))
    sums_BK = _resampled_sums(stacked_QK, num_queries=num_queries, samples=samples, seed=seed)
    ends = np.cumsum([column.shape[1] for column in columns])
    parts = np.split(sums_BK, ends[:-1], axis=1) if columns else []
    return {name: _estimate(measures[name], part) for name, part in zip(measures, parts, strict=True)}


def estimates_of(values: Sequence[Measure], *, num_queries: int, samples: int, seed: int) -> tuple[Estimate, ...]:
    """The same for measures without names, in their order."""
    named = {str(number): measure for number, measure in enumerate(values)}
    return tuple(estimate(named, num_queries=num_queries, samples=samples, seed=seed).values())


def _resampled_sums(
    columns_QK: NDArray[np.float64], *, num_queries: int, samples: int, seed: int
) -> NDArray[np.float64]:
    if num_queries == 0:
        return np.zeros((samples, columns_QK.shape[1]))
    draws = np.random.default_rng(seed)
    counts = (np.bincount(draws.integers(num_queries, size=num_queries), minlength=num_queries) for _ in range(samples))
    return np.stack([count_Q.astype(np.float64) @ columns_QK for count_Q in counts])


def _estimate(measure: Measure, sums_BK: NDArray[np.float64]) -> Estimate:
    value = measure.of_sums(measure.columns_QK.sum(axis=0)).item()
    if np.isnan(value):
        return Estimate(None, None, None, measure.num_queries, measure.num_pairs)
    values_B = measure.of_sums(sums_BK)
    values_B = values_B[~np.isnan(values_B)]
    if measure.num_queries < 2 or not len(values_B):
        return Estimate(value, None, None, measure.num_queries, measure.num_pairs)
    low, high = np.quantile(values_B, _PERCENTILES).tolist()
    return Estimate(value, low, high, measure.num_queries, measure.num_pairs)


def _divide(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return _share(sums[..., 0], sums[..., 1])


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """``part / whole``, NaN where ``whole`` is 0."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) != 0)
