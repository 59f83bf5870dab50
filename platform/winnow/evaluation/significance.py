"""Is a difference more than luck, and how small a difference could have been seen?

All comparisons are paired: the same questions, two systems.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.stats import t as student_t


@dataclass(frozen=True, slots=True)
class PairedTest:
    """A system minus its baseline on ``num_queries`` questions, with the two-sided paired t-test.

    ``p_value`` is ``None`` where there is nothing to test (fewer than two questions, or all differences
    equal), ``detectable`` (the smallest detectable difference) where it cannot be told from such data.
    """

    num_queries: int
    difference: float
    p_value: float | None
    detectable: float | None


def compare(
    system: Mapping[str, float], baseline: Mapping[str, float], *, level: float = 0.05, power: float = 0.8
) -> PairedTest:
    """``system`` against ``baseline``, values by query id. Both must hold the same questions."""
    if system.keys() != baseline.keys():
        raise ValueError(f"a paired test needs the same questions, got {len(system)} and {len(baseline)} of them")
    differences = [system[query_id] - baseline[query_id] for query_id in system]
    num_queries = len(differences)
    if num_queries < 2:
        return PairedTest(num_queries, differences[0] if differences else math.nan, None, None)
    difference, deviation = fmean(differences), stdev(differences)
    if deviation == 0:
        return PairedTest(num_queries, difference, None, None)
    statistic = difference / (deviation / math.sqrt(num_queries))
    p_value = 2 * float(student_t.sf(abs(statistic), num_queries - 1))
    detectable = deviation * detectable_effect(num_queries, level=level, power=power)
    return PairedTest(num_queries, difference, p_value, detectable)


def detectable_effect(num_queries: int, *, level: float = 0.05, power: float = 0.8) -> float:
    """The smallest true mean difference, in standard deviations, that the test finds with probability ``power``.

    The sum of the two t quantiles over ``sqrt(n)``; from ten questions on it agrees with the noncentral t
    distribution to 1 %, and for many questions it nears ``2.80 / sqrt(n)`` at the usual level and power.

    >>> round(detectable_effect(100), 3)
    0.283
    """
    freedom = num_queries - 1
    quantiles = student_t.isf(level / 2, freedom) + student_t.ppf(power, freedom)
    return float(quantiles) / math.sqrt(num_queries)


def mean_interval(values: Sequence[float], *, level: float = 0.05) -> tuple[float, float]:
    """The two-sided ``1 - level`` confidence interval of the mean; just the mean for fewer than two values."""
    centre = fmean(values)
    if len(values) < 2:
        return centre, centre
    half = float(student_t.isf(level / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return centre - half, centre + half
