"""The paired test against SciPy's and worked numbers; detectable effects against published sample sizes."""

import math
import random

import pytest
from scipy.stats import nct, t, ttest_1samp, ttest_rel

from winnow.evaluation.significance import compare, detectable_effect, mean_interval


def by_query(values):
    return {f"q{index}": value for index, value in enumerate(values)}


def test_equals_a_worked_example():
    """Differences 1, 2, 3, 4: mean 2.5, sd sqrt(5/3), t = 2.5 / (sd / 2) = 3.873, p = .0305 at 3 degrees of freedom."""
    found = compare(by_query([2, 4, 6, 8]), by_query([1, 2, 3, 4]))

    assert found.num_queries == 4
    assert found.difference == 2.5
    assert found.p_value == pytest.approx(0.0305, abs=5e-5)


@pytest.mark.parametrize("num_queries", [2, 3, 60, 100])
def test_equals_scipy_whatever_the_order_of_the_questions(num_queries):
    draw = random.Random(num_queries)
    system = by_query(draw.random() for _ in range(num_queries))
    baseline = by_query(draw.random() for _ in range(num_queries))

    found = compare(system, dict(reversed(baseline.items())))

    expected = ttest_rel(list(system.values()), list(baseline.values()))
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)


@pytest.mark.parametrize(
    ("effect", "num_queries"),
    [(0.2, 199), (0.5, 34), (0.8, 15)],
    ids=["small", "medium", "large"],
)
def test_detectable_effect_agrees_with_published_sample_sizes(effect, num_queries):
    """Pairs that G*Power and Cohen's tables ask for at 80 % power, two-sided .05: the fewest that detect the effect."""
    assert detectable_effect(num_queries) <= effect < detectable_effect(num_queries - 1)


@pytest.mark.parametrize(("num_queries", "level", "power"), [(10, 0.05, 0.8), (100, 0.05, 0.8), (60, 0.01, 0.9)])
def test_detectable_effect_has_the_power_it_claims(num_queries, level, power):
    shift = detectable_effect(num_queries, level=level, power=power) * math.sqrt(num_queries)

    true_power = nct.sf(t.isf(level / 2, num_queries - 1), num_queries - 1, shift)

    assert true_power == pytest.approx(power, abs=0.005)


def test_a_hundred_questions_detect_about_seven_hundredths():
    """With the usual spread of paired nDCG@10 differences, .25: .25 x 2.83 / 10."""
    half = 0.25 * math.sqrt(99 / 100)
    found = compare(by_query([half, -half] * 50), by_query([0.0] * 100))

    assert found.detectable == pytest.approx(0.0707, abs=5e-4)
    assert found.p_value == pytest.approx(1.0)


def test_equal_systems_have_nothing_to_test():
    found = compare(by_query([0.5, 0.25]), by_query([0.5, 0.25]))

    assert (found.difference, found.p_value, found.detectable) == (0.0, None, None)


def test_one_question_has_a_difference_and_no_test():
    found = compare(by_query([0.75]), by_query([0.5]))

    assert (found.num_queries, found.difference, found.p_value, found.detectable) == (1, 0.25, None, None)


def test_no_question_has_no_difference():
    assert math.isnan(compare({}, {}).difference)


def test_other_questions_are_refused():
    with pytest.raises(ValueError, match="same questions"):
        compare({"q1": 1.0}, {"q2": 1.0})


@pytest.mark.parametrize("values", [[0.1, 0.9, 0.4, 0.7, 0.3], [0.2, 0.6]])
def test_interval_of_the_mean_equals_scipys(values):
    expected = ttest_1samp(values, 0).confidence_interval(0.95)

    assert mean_interval(values) == pytest.approx((expected.low, expected.high))


def test_interval_of_one_value_is_the_value():
    assert mean_interval([0.4]) == (0.4, 0.4)
