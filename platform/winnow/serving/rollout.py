"""One version on all replicas: every replica loads the new one aside, then all take it.

The rules only; ``cluster/control.py`` is the actor that holds them. Replicas report every second and get orders.
A candidate that one replica cannot load is given up on all of them, and what was served before still is.
"""

from dataclasses import dataclass, field, replace

from winnow.api.protocol import SwapBusyError


@dataclass(frozen=True, slots=True)
class Target:
    """A version to serve: ``version`` is its content, ``directory`` where that content lies.

    ``generation`` counts swaps, so that going back is a step forward.
    """

    reference: str
    directory: str
    version: str
    generation: int
    notice: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a replica has: generations, and why it could not load the candidate."""

    serving: int
    version: str
    prepared: int | None = None
    refused: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Orders:
    """What a replica should have: ``serve`` now, ``prepare`` aside."""

    serve: Target
    prepare: Target | None = None


@dataclass(slots=True)
class _Replica:
    report: Report
    seen: float


@dataclass
class Rollout:
    """Brings all replicas to one version. ``now`` is any steady clock, in seconds."""

    target: Target
    forget_after_s: float = 10.0
    """A replica that has not reported for so long is gone."""
    first_generation: int = 0
    """Swaps are counted from here, so that what replicas have of a rollout before a restart is not taken for this."""
    candidate: Target | None = None
    failures: dict[int, str] = field(default_factory=dict)
    """Why a generation was given up."""
    _replicas: dict[str, _Replica] = field(default_factory=dict)

    def propose(self, reference: str, directory: str, version: str) -> int:
        """The generation under which ``version`` in ``directory`` will be served. Raises ``SwapBusyError``."""
        if self.candidate is not None:
            raise SwapBusyError(f"{self.candidate.reference!r} is being loaded already; wait until that is done")
        generation = max([self.first_generation - 1, self.target.generation, *self.failures]) + 1
        self.candidate = Target(reference, directory, version, generation)
        return generation

    def report(self, replica: str, report: Report, *, now: float) -> Orders:
        """The orders for ``replica`` after what it says of itself."""
        self._replicas[replica] = _Replica(report, now)
        self._forget(now)
        if self.candidate is not None:
            self._decide(self.candidate)
        return Orders(self.target, self.candidate)

    def leave(self, replica: str) -> None:
        """``replica`` has stopped."""
        self._replicas.pop(replica, None)

    def give_up(self, generation: int, reason: str) -> None:
        """Serve what was served before; nothing if ``generation`` is no longer waited for."""
        if self.candidate is not None and self.candidate.generation == generation:
            self.candidate = None
            self.failures[generation] = reason

    def clear_notice(self) -> None:
        """What is served is what the registry names after all."""
        self.target = replace(self.target, notice=None)

    def is_decided(self, generation: int) -> bool:
        """Whether ``generation`` is what replicas are told to serve, or has been already."""
        return self.target.generation >= generation

    def is_served(self, generation: int) -> bool:
        """Whether every replica serves ``generation``."""
        return self.target.generation == generation and all(
            replica.report.serving == generation for replica in self._replicas.values()
        )

    def is_settled_on(self, version: str) -> bool:
        """Whether ``version`` is what replicas are told to serve, and nothing else is being loaded.

        What they report does not count: it may be what they served before they were told.
        """
        return self.candidate is None and self.target.version == version

    def versions(self) -> dict[str, str]:
        """By replica, the version that it serves."""
        return {name: replica.report.version for name, replica in sorted(self._replicas.items())}

    def _decide(self, candidate: Target) -> None:
        reports = [replica.report for replica in self._replicas.values()]
        refusals = [report.reason for report in reports if report.refused == candidate.generation]
        if refusals:
            self.give_up(candidate.generation, refusals[0] or "no reason given")
        elif all(candidate.generation in (report.prepared, report.serving) for report in reports):
            self.target, self.candidate = candidate, None

    def _forget(self, now: float) -> None:
        gone = [name for name, replica in self._replicas.items() if now - replica.seen > self.forget_after_s]
        for name in gone:
            del self._replicas[name]
