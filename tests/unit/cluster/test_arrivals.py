"""The driver relies on no evidence that it cannot see: a stale listing is waited for, a lost file is an error."""

import shutil

import pyarrow as pa
import pytest

from winnow.cluster import sink as sink_module
from winnow.cluster.arrivals import Arrivals
from winnow.cluster.judge_actor import RECEIPT
from winnow.cluster.sink import EvidenceSink
from winnow.errors import DataError
from winnow.records import JudgedQuery


class Hours:
    """A clock that only sleeping moves; ``then`` happens when it has come to a time."""

    def __init__(self):
        self.now = 1000.0
        self.then = {}

    def sleep(self, seconds):
        self.now += seconds
        for due in [time for time in self.then if time <= self.now]:
            self.then.pop(due)()


@pytest.fixture
def hours():
    return Hours()


@pytest.fixture
def node(tmp_path):
    """The sink as an actor on another machine has it."""
    return EvidenceSink(tmp_path / "on the node" / "judge")


@pytest.fixture
def arrivals(tmp_path, hours):
    return Arrivals(
        EvidenceSink(tmp_path / "here" / "judge"), patience_s=60, clock=lambda: hours.now, sleep=hours.sleep
    )


def judge_on(node, *query_ids):
    """The receipts of an actor."""
    part = node.write([JudgedQuery(query_id, "pool", "j", "ok") for query_id in query_ids])
    rows = [{"query_id": each, "status": "ok", "num_calls": 1, "part": part, "node": "node-7"} for each in query_ids]
    return pa.Table.from_pylist(rows, schema=RECEIPT)


def copy_over(source, target):
    shutil.copytree(source.directory, target.directory, dirs_exist_ok=True)


def test_evidence_that_is_seen_at_once_is_not_waited_for(arrivals, hours):
    arrivals.expect(judge_on(arrivals.sink, "q1", "q2"))
    arrivals.wait()

    assert hours.now == 1000.0


def test_a_listing_that_is_stale_for_half_a_minute_costs_that_and_no_more(arrivals, node, hours):
    arrivals.expect(judge_on(node, "q1"))
    hours.then[1030.0] = lambda: copy_over(node, arrivals.sink)

    arrivals.wait()

    assert 1030.0 <= hours.now <= 1031.0


def test_evidence_on_an_output_that_is_not_shared_is_an_error_that_names_node_file_and_way_out(arrivals, node, hours):
    receipts = judge_on(node, "q1", "q2", "q3")
    part = receipts["part"][0].as_py()
    arrivals.expect(receipts)

    with pytest.raises(DataError) as caught:
        arrivals.wait()

    message = str(caught.value)
    assert "node 'node-7' has judged 3 queries" in message
    assert part in message
    assert "give `output` a folder that every machine shares" in message
    assert 1060.0 <= hours.now <= 1061.0


def test_a_long_job_is_not_finished_first(arrivals, node, hours):
    arrivals.expect(judge_on(node, "q1"))
    hours.now += 55
    arrivals.expect(judge_on(arrivals.sink, "q2"))
    hours.now += 5

    with pytest.raises(DataError, match="node-7"):
        arrivals.expect(judge_on(arrivals.sink, "q3"))


def test_a_part_that_another_run_has_merged_away_is_there(arrivals, hours, monkeypatch):
    monkeypatch.setattr(sink_module, "_PARTS_MERGED", 2)
    receipts = [judge_on(arrivals.sink, f"q{number}") for number in range(3)]
    EvidenceSink(arrivals.sink.directory).compact()

    for each in receipts:
        arrivals.expect(each)
    arrivals.wait()

    assert hours.now == 1000.0
    assert len(list(arrivals.sink.directory.glob("part-*"))) == 1


def test_an_earlier_row_of_the_same_query_does_not_stand_for_its_retry(arrivals, node):
    arrivals.sink.write([JudgedQuery("q1", "pool", "j", "engine_error")])
    arrivals.expect(judge_on(node, "q1"))

    with pytest.raises(DataError, match="cannot be seen"):
        arrivals.wait()
