"""One version on all replicas: loaded aside by every one of them, then taken by all, or by none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from obedient import ObedientReplica

from winnow.api.protocol import SwapBusyError
from winnow.serving.rollout import Rollout, Target


class Replica(ObedientReplica):
    """Loads within the second."""

    def __init__(self, name: str, rollout: Rollout, refuses: frozenset[str] = frozenset()) -> None:
        super().__init__(name, rollout.target, refuses=refuses)
        self._rollout = rollout

    def turn(self, now: float = 0.0) -> None:
        self.obey(self._rollout.report(self.name, self.report(), now=now))
        self.finish_loading()


@pytest.fixture
def rollout():
    return Rollout(Target("/old", "/old", "old", 1))


def test_no_replica_serves_the_new_version_before_every_one_has_loaded_it(rollout):
    quick, slow = Replica("quick", rollout), Replica("slow", rollout)
    quick.turn()
    slow.turn()
    generation = rollout.propose("/new", "/new", "new")

    quick.turn()
    quick.turn()
    before = quick.version
    for _ in range(2):
        slow.turn()
        quick.turn()
    slow.turn()

    assert before == "old"
    assert (quick.version, slow.version) == ("new", "new")
    assert rollout.is_served(generation) is False, "a replica has not said yet that it serves it"
    quick.turn()
    slow.turn()
    assert rollout.is_served(generation) is True


def test_a_version_that_one_replica_cannot_load_is_served_by_none(rollout):
    able, unable = Replica("able", rollout), Replica("unable", rollout, refuses=frozenset({"new"}))
    able.turn()
    unable.turn()
    generation = rollout.propose("/new", "/new", "new")

    for _ in range(4):
        able.turn()
        unable.turn()

    assert rollout.failures == {generation: "it is broken"}
    assert (able.version, unable.version) == ("old", "old")
    assert rollout.candidate is None


def test_a_swap_is_possible_after_one_that_was_refused(rollout):
    replica = Replica("only", rollout, refuses=frozenset({"broken"}))
    replica.turn()
    rollout.propose("/broken", "/broken", "broken")
    for _ in range(3):
        replica.turn()

    rollout.propose("/new", "/new", "new")
    for _ in range(4):
        replica.turn()

    assert replica.version == "new"


def test_going_back_is_a_swap_like_any_other(rollout):
    replica = Replica("only", rollout)
    served = []
    for version in ("new", "old"):
        replica.turn()
        rollout.propose(f"/{version}", f"/{version}", version)
        for _ in range(4):
            replica.turn()
        served.append(replica.version)

    assert served == ["new", "old"]
    assert rollout.target.generation == 3


def test_what_replicas_were_told_is_settled_before_they_say_that_they_serve_it(rollout):
    """Going back within that second is a swap, or the endpoint would go on to what it was to leave."""
    replica = Replica("only", rollout)
    replica.turn()
    rollout.propose("/new", "/new", "new")
    replica.turn()
    rollout.report(replica.name, replica.report(), now=0)

    assert rollout.versions() == {"only": "old"}
    assert (rollout.is_settled_on("old"), rollout.is_settled_on("new")) == (False, True)


def test_a_second_swap_waits_for_the_first(rollout):
    Replica("only", rollout).turn()
    rollout.propose("/new", "/new", "new")

    with pytest.raises(SwapBusyError, match=r"'/new' is being loaded already"):
        rollout.propose("/other", "/other", "other")


def test_a_replica_that_died_does_not_hold_up_the_others(rollout):
    alive, dead = Replica("alive", rollout), Replica("dead", rollout)
    alive.turn(now=0)
    dead.turn(now=0)
    generation = rollout.propose("/new", "/new", "new")

    for second in range(1, 15):
        alive.turn(now=second)

    assert alive.version == "new"
    assert rollout.is_served(generation)


def test_a_replica_that_joins_in_the_middle_ends_with_the_same_version(rollout):
    first = Replica("first", rollout)
    first.turn()
    joined = Replica("joined", rollout)
    rollout.propose("/new", "/new", "new")
    first.turn()
    joined.turn()

    for _ in range(4):
        first.turn()
        joined.turn()

    assert (first.version, joined.version) == ("new", "new")


@given(turns=st.lists(st.integers(0, 3), max_size=60), refusing=st.booleans(), swap_at=st.integers(0, 20))
def test_whatever_the_order_of_reports_all_replicas_end_alike(turns, refusing, swap_at):
    rollout = Rollout(Target("/old", "/old", "old", 1))
    refuses = frozenset({"new"}) if refusing else frozenset()
    replicas = [Replica(str(n), rollout, refuses if n == 2 else frozenset()) for n in range(4)]
    for replica in replicas:
        replica.turn()
    for step, turn in enumerate(turns):
        if step == swap_at:
            rollout.propose("/new", "/new", "new")
        replicas[turn].turn()

    for _ in range(5):
        for replica in replicas:
            replica.turn()

    proposed = len(turns) > swap_at
    assert {replica.version for replica in replicas} == {"new" if proposed and not refusing else "old"}
