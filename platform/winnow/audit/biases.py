"""Biases that a judge shows without any human label: for places in its prompt, for long passages."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from winnow.audit.measures import spearman_of_queries
from winnow.audit.pairs import JudgedPairs
from winnow.audit.resampling import Estimate, Measure, estimate, estimates_of, mean, ratio


@dataclass(frozen=True, slots=True)
class Place:
    """One position of the prompts."""

    position: int
    num_pairs: int
    num_positives: int
    expected: float
    """Positives that would be here if their order said nothing: each prompt's share of positives, added up."""
    share: Estimate
    """Of the passages here that are positive."""


@dataclass(frozen=True, slots=True)
class PositionBias:
    """Positives by position in a prompt. Pools are shuffled, so a judge without this bias shows no pattern."""

    places: tuple[Place, ...]
    chi_square: float
    degrees: int
    p_value: float | None
    """How often chance alone is this uneven; ``None`` where nothing could be uneven."""


@dataclass(frozen=True, slots=True)
class LengthBias:
    """Do longer passages score higher, and do people find them more useful, too?"""

    judge: Estimate
    """Spearman's rho of the judge's score with the number of words, averaged over queries."""
    human: Estimate
    """The same of the human label, on queries that have both kinds of passages."""
    words_of_positives: float | None
    words_of_others: float | None


def position_bias(pairs: JudgedPairs, *, samples: int, seed: int) -> PositionBias:
    """Positives at each position against what chance would put there.

    A window of a pool is a prompt of its own, W of them in all: a judge may be stricter in one than in the next.
    """
    num_places = int(pairs.position_N.max(initial=0))
    prompt_N = (pairs.position_N == 1).cumsum() - 1
    size_W, positives_W = np.bincount(prompt_N), np.bincount(prompt_N, weights=pairs.is_positive_N)
    share_W = positives_W / size_W

    def total(weights_N: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        return np.bincount(pairs.position_N - 1, weights=weights_N, minlength=num_places)

    count_P, observed_P, expected_P = total(), total(pairs.is_positive_N), total(share_W[prompt_N])
    shares = estimates_of(_shares(pairs, num_places), num_queries=pairs.num_queries, samples=samples, seed=seed)
    statistic, degrees = uneven(observed_P - expected_P, size_W, share_W)
    rows = zip(count_P.tolist(), observed_P.tolist(), expected_P.tolist(), shares, strict=True)
    places = tuple(Place(n, int(c), int(o), e, share) for n, (c, o, e, share) in enumerate(rows, start=1))
    return PositionBias(places, statistic, degrees, float(chi2.sf(statistic, degrees)) if degrees else None)


def _shares(pairs: JudgedPairs, num_places: int) -> list[Measure]:
    measures = []
    for position in range(1, num_places + 1):
        is_here_N = pairs.position_N == position
        here_Q = pairs.sums(is_here_N)
        measures.append(ratio(pairs.sums(is_here_N & pairs.is_positive_N), here_Q, num_pairs=int(here_Q.sum())))
    return measures


def uneven(
    surplus_P: NDArray[np.float64], size_W: NDArray[np.int64], share_W: NDArray[np.float64]
) -> tuple[float, int]:
    """Chi-square statistic and degrees of freedom of ``surplus_P``, positives beyond the expected ones.

    Cochran's Q test, extended to prompts of different sizes: given how many positives a prompt has, their places are a
    draw without replacement, whose covariance is known. A plain chi-square test would take the positives of one
    prompt for independent, and mistake the scarcity of positives in large ones for a bias against late positions.
    """
    covariance_PP = np.zeros((len(surplus_P), len(surplus_P)))
    for size in np.unique(size_W[size_W > 1]):
        spread = (share_W * (1 - share_W))[size_W == size].sum() * size / (size - 1)
        covariance_PP[:size, :size] += spread * (np.eye(size) - 1 / size)
    degrees = int(np.linalg.matrix_rank(covariance_PP, hermitian=True)) if len(surplus_P) else 0
    inverse_PP = np.linalg.pinv(covariance_PP, hermitian=True) if degrees else covariance_PP
    return float(surplus_P @ inverse_PP @ surplus_P), degrees


def length_bias(pairs: JudgedPairs, *, samples: int, seed: int) -> LengthBias:
    """Length against the judge's score, and against the human label."""
    words_N = pairs.num_words_N.astype(np.float64)

    def rho(values_N: NDArray[np.float64]) -> Measure:
        return mean(spearman_of_queries(pairs.query_N, values_N, words_N, pairs.num_queries))

    measures = {"judge": rho(pairs.score_N), "human": rho(pairs.is_human_N.astype(np.float64))}
    found = estimate(measures, num_queries=pairs.num_queries, samples=samples, seed=seed)
    return LengthBias(
        judge=found["judge"],
        human=found["human"],
        words_of_positives=_mean(words_N[pairs.is_positive_N]),
        words_of_others=_mean(words_N[~pairs.is_positive_N]),
    )


def _mean(values_N: NDArray[np.float64]) -> float | None:
    return float(values_N.mean()) if len(values_N) else None
