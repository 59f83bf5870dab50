"""Replicas as the endpoint has them, without what they load: real state, and loads that end when a test says so."""

from collections.abc import Collection

from winnow.serving.obeying import ReplicaState
from winnow.serving.rollout import Orders, Report, Target


class ObedientReplica:
    """Does what ``cluster/replica.py`` does with its orders. ``refuses`` are versions it cannot load."""

    def __init__(self, name: str, target: Target, *, refuses: Collection[str] = ()) -> None:
        self.name = name
        self.state = ReplicaState(target)
        self.aside: str | None = None
        """The version in memory beside the served one."""
        self.loading: Target | None = None
        self._refuses = refuses

    @property
    def version(self) -> str:
        return self.state.served.version

    def report(self) -> Report:
        return self.state.report()

    def obey(self, orders: Orders) -> None:
        actions = self.state.obey(orders)
        if actions.activate is not None:
            assert self.aside == actions.activate.version, "only what is loaded can be activated"
            self.aside = None
        if actions.discard:
            self.aside = None
        if actions.load is not None:
            assert self.loading is None, "one version is loaded at a time"
            self.loading, self.aside = actions.load, None

    def finish_loading(self) -> None:
        """The load that is going on ends, well or not."""
        if self.loading is None:
            return
        target, self.loading = self.loading, None
        if target.version in self._refuses:
            self.state.could_not_load(target, "it is broken")
        else:
            self.aside = target.version
            self.state.loaded(target)
