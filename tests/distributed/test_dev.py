"""Dev measures are the same however many processes share the work."""

from distributed.dev_world import measure, work_on_dev
from distributed.gloo_world import run_world

from winnow.files import read_json


def test_every_process_has_the_measures_of_a_single_one(tmp_path):
    expected = [measure(tmp_path / "alone", 20), measure(tmp_path / "alone", 1)]

    assert run_world(work_on_dev, 2, tmp_path / "world") == [0, 0]

    assert 0 < expected[0]["RR@10"] < 1
    assert [read_json(tmp_path / "world" / f"dev-{rank}.json") for rank in (0, 1)] == [expected, expected]
