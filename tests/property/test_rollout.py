"""Any order of telling, loading, reporting, failing and restarting ends with what was asked for last, everywhere."""

from hypothesis import given
from hypothesis import strategies as st
from obedient import ObedientReplica

from winnow.api.protocol import SwapBusyError
from winnow.serving.rollout import Rollout, Target

VERSIONS = ("v1", "v2", "v3", "broken")
NUM_REPLICAS = 3

events = st.one_of(
    st.tuples(st.just("swap"), st.sampled_from(VERSIONS)),
    st.tuples(st.just("report"), st.integers(0, NUM_REPLICAS - 1)),
    st.tuples(st.just("hear late"), st.integers(0, NUM_REPLICAS - 1)),
    st.tuples(st.just("load"), st.integers(0, NUM_REPLICAS - 1)),
    st.tuples(st.just("restart"), st.integers(0, NUM_REPLICAS - 1)),
    st.tuples(st.just("restart the actor"), st.just(0)),
)


class Endpoint:
    """An actor with its replicas."""

    def __init__(self) -> None:
        self.rollout = Rollout(Target("v1", "/v1", "v1", 1))
        self.replicas = [ObedientReplica(str(n), self.rollout.target, refuses={"broken"}) for n in range(NUM_REPLICAS)]
        self.letters = [None] * NUM_REPLICAS
        """Orders that are on their way to each replica."""
        self.restarts = 0

    def swap(self, version: str) -> None:
        # As ``cluster/control.py`` does it.
        if self.rollout.is_settled_on(version):
            return
        try:
            self.rollout.propose(version, f"/{version}", version)
        except SwapBusyError:
            return

    def report(self, number: int) -> None:
        self.hear(number)
        replica = self.replicas[number]
        self.letters[number] = self.rollout.report(replica.name, replica.report(), now=0)
        self.hear(number)

    def report_and_hear_late(self, number: int) -> None:
        self.hear(number)
        replica = self.replicas[number]
        self.letters[number] = self.rollout.report(replica.name, replica.report(), now=0)

    def hear(self, number: int) -> None:
        if self.letters[number] is not None:
            self.replicas[number].obey(self.letters[number])
            self.letters[number] = None

    def restart(self, number: int) -> None:
        self.letters[number] = None
        self.replicas[number] = ObedientReplica(str(number), self.rollout.target, refuses={"broken"})

    def restart_the_actor(self) -> None:
        """It remembers what it told all to serve, and no more."""
        self.restarts += 1
        self.rollout = Rollout(self.rollout.target, first_generation=1000 * self.restarts)

    def do(self, event: tuple[str, str | int]) -> None:
        name, argument = event
        {
            "swap": self.swap,
            "report": self.report,
            "hear late": self.report_and_hear_late,
            "load": lambda number: self.replicas[number].finish_loading(),
            "restart": self.restart,
            "restart the actor": lambda _: self.restart_the_actor(),
        }[name](argument)

    def settle(self) -> None:
        for _ in range(8):
            for number, replica in enumerate(self.replicas):
                self.report(number)
                replica.finish_loading()


@given(history=st.lists(events, max_size=60))
def test_all_replicas_end_with_what_they_were_told_last_and_none_with_what_one_refused(history):
    endpoint = Endpoint()
    for event in history:
        told = endpoint.rollout.target.version
        endpoint.do(event)
        assert told == endpoint.rollout.target.version or event[0] in ("report", "hear late")

    endpoint.settle()

    served = {replica.version for replica in endpoint.replicas}
    assert served == {endpoint.rollout.target.version}
    assert "broken" not in served
    assert endpoint.rollout.candidate is None
    assert {replica.aside for replica in endpoint.replicas} == {None}, "nothing is kept in memory for nobody"


@given(history=st.lists(events, max_size=60), version=st.sampled_from(VERSIONS[:3]))
def test_a_swap_at_rest_is_served_whatever_happened_before(history, version):
    """Also where the caller is told that it is served already."""
    endpoint = Endpoint()
    for event in history:
        endpoint.do(event)
    if endpoint.rollout.candidate is not None:
        endpoint.settle()

    endpoint.swap(version)
    endpoint.settle()

    assert {replica.version for replica in endpoint.replicas} == {version}


@given(history=st.lists(events, max_size=60))
def test_no_replica_serves_what_was_not_decided(history):
    endpoint = Endpoint()
    decided = {"v1"}
    for event in history:
        endpoint.do(event)
        decided.add(endpoint.rollout.target.version)
        assert {replica.version for replica in endpoint.replicas} <= decided
