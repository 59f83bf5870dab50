"""What one replica serves, has loaded aside and could not load, and what it does about its orders.

Decisions only: ``cluster/replica.py`` loads and swaps, and says here what became of it.
"""

from typing import NamedTuple

from winnow.serving.rollout import Orders, Report, Target


class Actions(NamedTuple):
    """What follows from orders, to be done in this order."""

    activate: Target | None = None
    """Serve this one, which is loaded aside."""
    discard: bool = False
    """Free what is loaded aside: nobody wants it any more."""
    load: Target | None = None
    """Load this one aside; then call ``loaded`` or ``could_not_load``."""


class ReplicaState:
    """One replica between two reports. One version is loaded at a time, and one is kept aside."""

    def __init__(self, served: Target) -> None:
        self.served = self.wanted = served
        self._prepared: Target | None = None
        self._refused: tuple[int, str] | None = None
        self._loading: Target | None = None

    @property
    def is_behind(self) -> bool:
        """Whether this replica serves something else than it was told to serve."""
        return self.served.generation != self.wanted.generation

    @property
    def refusal(self) -> str | None:
        """Why what this replica was told to serve cannot be loaded."""
        return self._refused[1] if self._refused is not None and self._refused[0] == self.wanted.generation else None

    def report(self) -> Report:
        """What the actor that orders the replicas has to know."""
        return Report(
            serving=self.served.generation,
            version=self.served.version,
            prepared=self._prepared and self._prepared.generation,
            refused=self._refused and self._refused[0],
            reason=self._refused and self._refused[1],
        )

    def obey(self, orders: Orders) -> Actions:
        """What is to be done now. What it tells to activate counts as served from here on."""
        self.wanted = orders.serve
        activate = self._activated(orders.serve)
        load = self._missing(orders)
        discard = self._prepared is not None and orders.prepare is None and self._loading is None
        if load is not None or discard:
            self._prepared = None
        if load is not None:
            self._loading = load
        return Actions(activate, discard, load)

    def loaded(self, target: Target) -> None:
        """``target`` is loaded aside, in place of what was there."""
        self._prepared, self._loading = target, None

    def could_not_load(self, target: Target, reason: str) -> None:
        """``target`` is refused, and nothing is loaded aside."""
        self._refused, self._prepared, self._loading = (target.generation, reason), None, None

    def _activated(self, wanted: Target) -> Target | None:
        if wanted.generation == self.served.generation:
            # Its notice may have changed.
            self.served = wanted
            return None
        if self._prepared is None or self._prepared.generation != wanted.generation:
            return None
        self.served, self._prepared = wanted, None
        return wanted

    def _missing(self, orders: Orders) -> Target | None:
        """What is to be loaded next: what is to be served comes first."""
        if self._loading is not None:
            return None
        known = {self.served.generation}
        known |= {self._prepared.generation} if self._prepared is not None else set()
        known |= {self._refused[0]} if self._refused is not None else set()
        wanted = (orders.serve, orders.prepare)
        return next((target for target in wanted if target is not None and target.generation not in known), None)
