"""The actor without Ray: what it stores, and how a query that kills its process is found."""

import asyncio
import socket
from threading import Event, Thread

import pyarrow as pa
import pytest

from winnow import schema
from winnow.cluster.in_hand import InHand, in_hand
from winnow.cluster.judge_actor import MOST_DEATHS, JudgeActor
from winnow.cluster.sink import EvidenceSink
from winnow.errors import ConfigError
from winnow.records import Candidate, CandidatePool, JudgedQuery


class Killed(BaseException):
    """Stands for the death of the process: nothing after it runs, notes included."""


class ListingJudge:
    """Judges everything ok, and remembers how many it had at a time."""

    judge_id = "j"

    def __init__(self):
        self.at_work = 0
        self.most_at_work = 0
        self.judged = []

    async def judge(self, pool):
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        await asyncio.sleep(0.01)
        self.at_work -= 1
        self.judged.append(pool.query_id)
        return JudgedQuery(pool.query_id, pool.pool_id, "j", "ok")

    def close(self):
        self.judged = []


def pool(number):
    return CandidatePool(f"q{number}", "a query", (Candidate("p", "", "text", ()),))


def table(*pools):
    rows = [
        {"query_id": p.query_id, "query": p.query, "pool_id": p.pool_id, "passages": [], "answers": []} for p in pools
    ]
    return pa.Table.from_pylist(rows, schema=schema.CANDIDATE_POOLS)


def as_they_are(pools):
    return pools


def key(number):
    return f"q{number}", CandidatePool(f"q{number}", "a query", ()).pool_id


@pytest.fixture
def judge():
    return ListingJudge()


def sink_in(tmp_path):
    """Rows of an earlier reading of replies do not count here."""
    return EvidenceSink(tmp_path / "sink", reading=2)


@pytest.fixture
def actor(tmp_path, judge):
    return JudgeActor(lambda: judge, sink_in(tmp_path), InHand(tmp_path / "in_hand"), as_they_are)


def leave_note(tmp_path, *numbers, alone=False):
    """What a process leaves that dies with these queries in hand."""
    holding = InHand(tmp_path / "in_hand").holding(list(map(key, numbers)), alone=alone)
    holding.__enter__()
    return holding  # kept by the caller: a note that is collected would be taken away


def test_a_batch_is_judged_together_and_stored_as_one_part(actor, judge, tmp_path):
    receipts = actor(table(*map(pool, range(5))))

    assert judge.most_at_work == 5
    assert receipts["status"].to_pylist() == ["ok"] * 5
    assert len(list((tmp_path / "sink").glob("part-*"))) == 1
    assert list((tmp_path / "in_hand").iterdir()) == []


def test_a_batch_that_two_processes_died_with_is_judged_one_by_one(actor, judge, tmp_path):
    notes = [leave_note(tmp_path, 0, 1, 2)]
    actor(table(*map(pool, range(3))))
    after_one_death = judge.most_at_work
    notes.append(leave_note(tmp_path, 0, 1, 2))
    judge.most_at_work = 0

    receipts = actor(table(*map(pool, range(3))))

    assert (len(notes), after_one_death, judge.most_at_work) == (2, 3, 1)
    assert receipts["status"].to_pylist() == ["ok"] * 3


def test_a_query_that_killed_processes_alone_is_given_up_and_its_neighbours_are_judged(actor, judge, tmp_path):
    notes = [
        *(leave_note(tmp_path, 0, 1, 2) for _ in range(MOST_DEATHS)),
        *(leave_note(tmp_path, 1, alone=True) for _ in range(MOST_DEATHS)),
    ]

    actor(table(*map(pool, range(3))))

    statuses = {key[0]: status for key, status in sink_in(tmp_path).statuses().items()}
    assert len(notes) == 2 * MOST_DEATHS
    assert statuses == {"q0": "ok", "q1": "engine_error", "q2": "ok"}
    assert judge.judged == ["q0", "q2"]


def test_other_batches_are_not_under_suspicion(actor, judge, tmp_path):
    note = leave_note(tmp_path, 0, 1)

    actor(table(*map(pool, range(2, 6))))

    assert note is not None
    assert judge.most_at_work == 4


def test_an_empty_batch_is_no_work(actor, tmp_path):
    assert actor(table()).num_rows == 0
    assert not (tmp_path / "sink").exists()


def test_receipts_name_the_file_and_the_node_that_hold_the_evidence(actor, tmp_path):
    receipts = actor(table(*map(pool, range(3))))

    (part,) = (tmp_path / "sink").glob("part-*")
    assert receipts["part"].to_pylist() == [part.name] * 3
    assert receipts["node"].to_pylist() == [socket.gethostname()] * 3


def test_a_judge_that_cannot_be_built_refuses_work_and_its_process_lives(tmp_path):
    def build():
        raise ConfigError("the weights are others here")

    actor = JudgeActor(build, EvidenceSink(tmp_path / "sink"), InHand(tmp_path / "in_hand"), as_they_are)
    receipts = actor(table(pool(0), pool(1))).to_pylist()

    assert [(row["node"], row["refusal"]) for row in receipts] == [
        (socket.gethostname(), "the weights are others here")
    ]
    assert not (tmp_path / "sink").exists()


class SlowJudge(ListingJudge):
    """Waits with its first query until it is let go."""

    def __init__(self):
        super().__init__()
        self.has_begun, self.may_end = Event(), Event()

    async def judge(self, pool):
        self.has_begun.set()
        while not self.may_end.is_set():
            await asyncio.sleep(0.01)
        return await super().judge(pool)


def test_two_runs_of_one_judge_at_once_do_not_break_each_other(tmp_path, judge):
    """The first has a batch in hand while the second starts, judges the same and ends."""
    sink, slow = EvidenceSink(tmp_path / "judge"), SlowJudge()
    with in_hand(sink.directory) as first:
        working = Thread(target=JudgeActor(lambda: slow, sink, first, as_they_are), args=(table(pool(0), pool(1)),))
        working.start()
        assert slow.has_begun.wait(60)
        with in_hand(sink.directory) as second:
            JudgeActor(lambda: judge, EvidenceSink(sink.directory), second, as_they_are)(
                table(pool(0), pool(1), pool(2))
            )
        in_the_first_hand = first.deaths(list(map(key, (0, 1))))
        slow.may_end.set()
        working.join(60)

    assert judge.most_at_work == 3  # nothing was under suspicion
    assert in_the_first_hand == 1  # its note has outlived the other run, and would be found
    assert {key[0]: status for key, status in sink.statuses().items()} == {"q0": "ok", "q1": "ok", "q2": "ok"}
    assert sum(rows.num_rows for rows in sink.read(sink.statuses())) == 3
