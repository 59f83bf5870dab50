"""Notes on what is in hand: those of the dead are found, those of the living left alone, whoever else runs."""

from contextlib import suppress

import pytest

from winnow.cluster.in_hand import in_hand, is_at_work
from winnow.cluster.sink import EvidenceSink
from winnow.errors import ConfigError, TooManyFailuresError
from winnow.records import JudgedQuery

BATCH = [("q1", "pool-1"), ("q2", "pool-2")]
_kept_alive = []


class Killed(BaseException):
    """Stands for kill -9 of a driver: its lock is gone, its files are not."""


def hold_for_ever(notes, keys, *, alone=False):
    """What an actor leaves that dies with ``keys`` in hand."""
    holding = notes.holding(keys, alone=alone)
    holding.__enter__()
    _kept_alive.append(holding)  # a generator that is collected would take its note away


def die_with(judge, keys, *, alone=False):
    """A run that is killed, actors and all, while it has ``keys`` in hand."""
    with suppress(Killed), in_hand(judge) as notes:
        hold_for_ever(notes, keys, alone=alone)
        raise Killed


def test_what_a_killed_run_had_in_hand_is_known_to_the_next_in_whatever_batch(tmp_path):
    die_with(tmp_path, BATCH)
    die_with(tmp_path, BATCH)

    with in_hand(tmp_path) as notes:
        same, other_batch = notes.deaths(BATCH), notes.deaths([("q2", "pool-2"), ("q3", "pool-3")])
        not_held, alone = notes.deaths([("q3", "pool-3")]), notes.deaths(BATCH[:1], alone=True)

    assert (same, other_batch, not_held, alone) == (2, 2, 0, 0)


def test_a_query_that_was_alone_when_its_run_died_is_known_as_that(tmp_path):
    die_with(tmp_path, BATCH[:1], alone=True)

    with in_hand(tmp_path) as notes:
        deaths = notes.deaths(BATCH[:1], alone=True), notes.deaths(BATCH[:1]), notes.deaths(BATCH[1:], alone=True)

    assert deaths == (1, 0, 0)


@pytest.mark.parametrize("end", [None, TooManyFailuresError])
def test_a_run_that_ends_by_itself_leaves_no_suspicion(tmp_path, end):
    die_with(tmp_path, BATCH)

    try:
        with in_hand(tmp_path) as notes:
            hold_for_ever(notes, BATCH)
            before = notes.deaths(BATCH)
            if end is not None:
                raise end("enough")
    except TooManyFailuresError:
        pass

    with in_hand(tmp_path) as notes:
        assert (before, notes.deaths(BATCH)) == (2, 0)


def test_two_runs_of_one_judge_do_not_see_each_others_work_and_do_not_clear_it(tmp_path):
    with suppress(Killed), in_hand(tmp_path) as first:
        hold_for_ever(first, BATCH)
        with in_hand(tmp_path) as second:
            # The same batch, since both have the same pools; and more than one at a time.
            hold_for_ever(second, BATCH)
            while_both_work = first.deaths(BATCH), second.deaths(BATCH)
        after_the_second = first.deaths(BATCH)
        raise Killed

    with in_hand(tmp_path) as third:
        assert while_both_work == (1, 1)
        assert after_the_second == 1
        assert third.deaths(BATCH) == 1


def test_everything_is_not_judged_again_while_another_run_writes(tmp_path):
    sink = EvidenceSink(tmp_path / "judge")
    sink.write([JudgedQuery("q1", "pool-1", "j", "ok")])

    with in_hand(sink.directory):
        assert is_at_work(sink.directory)
        with pytest.raises(ConfigError, match=r"another run of this judge is writing to .*judge.*wait for its end"):
            sink.set_aside()
    sink.set_aside()

    assert sink.statuses() == {}
    assert not is_at_work(sink.directory)


def test_nothing_is_left_of_runs_that_ended(tmp_path):
    die_with(tmp_path, BATCH)

    with in_hand(tmp_path):
        pass

    assert list((tmp_path / ".in_hand").iterdir()) == []
