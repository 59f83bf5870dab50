"""One version on all replicas: loaded aside by every one of them, then taken by all, or by none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.api.protocol import SwapBusyError
from winnow.serving.rollout import Report, Rollout, Target


class Replica:
    """Obeys orders as ``cluster/replica.py`` does; ``refuses`` are directories it cannot load."""

    def __init__(self, name: str, rollout: Rollout, refuses: frozenset[str] = frozenset()) -> None:
        self.name = name
        self.serving = rollout.target
        self._rollout = rollout
        self._refuses = refuses
        self._prepared: Target | None = None
        self._refused: Target | None = None

    def turn(self, now: float = 0.0) -> None:
        prepared = self._prepared and self._prepared.generation
        refused = self._refused and self._refused.generation
        report = Report(self.serving.generation, self.serving.directory, prepared, refused, refused and "it is broken")
        orders = self._rollout.report(self.name, report, now=now)
        if self._prepared is not None and self._prepared.generation == orders.serve.generation:
            self.serving, self._prepared = orders.serve, None
        for target in (orders.serve, orders.prepare):
            if target is not None and target.generation != self.serving.generation:
                self._load(target)

    def _load(self, target: Target) -> None:
        if target.directory in self._refuses:
            self._refused = target
        else:
            self._prepared = target


@pytest.fixture
def rollout():
    return Rollout(Target("/old", "/old", 1))


def test_no_replica_serves_the_new_version_before_every_one_has_loaded_it(rollout):
    quick, slow = Replica("quick", rollout), Replica("slow", rollout)
    quick.turn()
    slow.turn()
    generation = rollout.propose("/new", "/new")

    quick.turn()
    quick.turn()
    before = quick.serving.directory
    for _ in range(2):
        slow.turn()
        quick.turn()
    slow.turn()

    assert before == "/old"
    assert (quick.serving.directory, slow.serving.directory) == ("/new", "/new")
    assert rollout.is_served(generation) is False, "a replica has not said yet that it serves it"
    quick.turn()
    slow.turn()
    assert rollout.is_served(generation) is True


def test_a_version_that_one_replica_cannot_load_is_served_by_none(rollout):
    able, unable = Replica("able", rollout), Replica("unable", rollout, refuses=frozenset({"/new"}))
    able.turn()
    unable.turn()
    generation = rollout.propose("/new", "/new")

    for _ in range(4):
        able.turn()
        unable.turn()

    assert rollout.failures == {generation: "it is broken"}
    assert (able.serving.directory, unable.serving.directory) == ("/old", "/old")
    assert rollout.candidate is None


def test_a_swap_is_possible_after_one_that_was_refused(rollout):
    replica = Replica("only", rollout, refuses=frozenset({"/broken"}))
    replica.turn()
    rollout.propose("/broken", "/broken")
    for _ in range(3):
        replica.turn()

    rollout.propose("/new", "/new")
    for _ in range(4):
        replica.turn()

    assert replica.serving.directory == "/new"


def test_going_back_is_a_swap_like_any_other(rollout):
    replica = Replica("only", rollout)
    served = []
    for directory in ("/new", "/old"):
        replica.turn()
        rollout.propose(directory, directory)
        for _ in range(4):
            replica.turn()
        served.append(replica.serving.directory)

    assert served == ["/new", "/old"]
    assert rollout.target.generation == 3


def test_a_second_swap_waits_for_the_first(rollout):
    Replica("only", rollout).turn()
    rollout.propose("/new", "/new")

    with pytest.raises(SwapBusyError, match=r"'/new' is being loaded already"):
        rollout.propose("/other", "/other")


def test_a_replica_that_died_does_not_hold_up_the_others(rollout):
    alive, dead = Replica("alive", rollout), Replica("dead", rollout)
    alive.turn(now=0)
    dead.turn(now=0)
    generation = rollout.propose("/new", "/new")

    for second in range(1, 15):
        alive.turn(now=second)

    assert alive.serving.directory == "/new"
    assert rollout.is_served(generation)


def test_a_replica_that_joins_in_the_middle_ends_with_the_same_version(rollout):
    first = Replica("first", rollout)
    first.turn()
    joined = Replica("joined", rollout)
    rollout.propose("/new", "/new")
    first.turn()
    joined.turn()

    for _ in range(4):
        first.turn()
        joined.turn()

    assert (first.serving.directory, joined.serving.directory) == ("/new", "/new")


@given(turns=st.lists(st.integers(0, 3), max_size=60), refusing=st.booleans(), swap_at=st.integers(0, 20))
def test_whatever_the_order_of_reports_all_replicas_end_alike(turns, refusing, swap_at):
    rollout = Rollout(Target("/old", "/old", 1))
    refuses = frozenset({"/new"}) if refusing else frozenset()
    replicas = [Replica(str(n), rollout, refuses if n == 2 else frozenset()) for n in range(4)]
    for replica in replicas:
        replica.turn()
    for step, turn in enumerate(turns):
        if step == swap_at:
            rollout.propose("/new", "/new")
        replicas[turn].turn()

    for _ in range(5):
        for replica in replicas:
            replica.turn()

    proposed = len(turns) > swap_at
    assert {replica.serving.directory for replica in replicas} == {"/new" if proposed and not refusing else "/old"}
