"""What workers on other machines wrote is counted before it passes for all."""

import pytest

from winnow.cluster.sink import EvidenceSink
from winnow.errors import DataError
from winnow.steps import annotate

KEYS = [("q1", "a"), ("q2", "b"), ("q3", "c")]


def test_evidence_with_one_row_for_each_pool_is_complete(tmp_path):
    annotate._check_complete(KEYS, KEYS[::-1], EvidenceSink(tmp_path))


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (KEYS[:2], r"2 rows of evidence .* for 3 queries; 1 have none, such as 'q3'"),
        ([], r"0 rows .* for 3 queries; 3 have none, such as 'q1'"),
        ([*KEYS[:2], ("q3", "another pool")], r"3 rows .* for 3 queries; 1 have none, such as 'q3'"),
        ([*KEYS, KEYS[0]], r"4 rows .* for 3 queries; check that"),
    ],
)
def test_evidence_that_lacks_a_pool_or_has_one_twice_is_not_published(tmp_path, found, told):
    with pytest.raises(DataError, match=told):
        annotate._check_complete(KEYS, found, EvidenceSink(tmp_path))
