"""The named actor that all replicas follow: wanted version, keys, rates.

It does no search and no request waits for it: replicas report once a second, and lease the right to answer keys
with a limit several requests at a time. Its state survives it: what is wanted in a file, keys in theirs, and
what is served in the replicas, which go on without it until it is back.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle

from winnow import __version__
from winnow.api.access import LocalAccess
from winnow.api.aside import aside
from winnow.api.config import ServeConfig
from winnow.api.protocol import SwapRefusedError
from winnow.api.rates import RateLimiter
from winnow.config import fingerprint
from winnow.errors import WinnowError
from winnow.files import read_json, write_json
from winnow.retrieval.keeping import keep_version
from winnow.retrieval.reference import Located
from winnow.serving.claims import Claim
from winnow.serving.following import AliasFollower
from winnow.serving.rollout import Orders, Report, Rollout, Target
from winnow.tracking.fetching import RetrieverFetcher

NAMESPACE = "winnow"
_POLL_S = 0.1
_LONELY_AFTER_S = 600.0


@dataclass(frozen=True, slots=True)
class ServingPlan:
    """What an endpoint is made from; the same for all its processes."""

    reference: str
    config: ServeConfig
    tracking_uri: str
    cache: Path
    """Directory, readable by all nodes, for what is fetched from the registry."""
    endpoint: str
    """Name of this endpoint, its own among those that share ``cache``; it stays when the endpoint is deployed again."""

    @property
    def memory(self) -> Path:
        """What the actor must know after a restart."""
        return self.cache / f"wanted-{self.endpoint}.json"

    @property
    def actor(self) -> str:
        """Name of the actor of this very plan: replicas of an endpoint that is deployed otherwise follow another."""
        return f"control-{self.endpoint}-{self.digest[:8]}"

    @property
    def digest(self) -> str:
        """Changes with anything that the endpoint is made from."""
        config = self.config.model_dump(mode="json")
        return fingerprint(self.reference, config, self.tracking_uri, str(self.cache), self.endpoint, __version__)


@dataclass(frozen=True, slots=True)
class Synced:
    """What a replica learns from a report."""

    orders: Orders
    keys: str | None
    """The keys in force, as JSON; ``None`` if none are asked for, or if the replica has these already."""


class Control:
    """See the module's docstring. Every method is asynchronous; none blocks the actor for long."""

    def __init__(self, plan: ServingPlan) -> None:
        self._plan = plan
        self._fetcher = RetrieverFetcher(plan.tracking_uri, plan.cache)
        self._claim = Claim(plan.cache, plan.endpoint)
        self._claimed: str | None = None
        """The version that was served by all when this was last looked at."""
        self._rates = RateLimiter()
        self._starting = asyncio.Lock()
        self._access: LocalAccess | None = None
        self._rollout: Rollout | None = None
        self._located: Located | None = None
        """What the reference named at the start; remembered as good once a replica serves it."""
        self._follower = AliasFollower(
            self._fetcher,
            plan.reference,
            seen=None,
            take=self._take,
            unmoved=lambda: self._started().clear_notice(),
            moved=lambda: self._save(self._started().target),
        )
        self._heard = time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> Target:
        """What a replica that starts should serve. Raises ``ConfigError``, ``DataError``, and may be asked again."""
        async with self._starting:
            if self._rollout is None:
                self._access = LocalAccess(self._plan.config.keys)
                target = await aside(self._first_target)
                self._rollout = Rollout(target, first_generation=time.time_ns() // 10**6)
                following = self._follower.follow(every_s=self._plan.config.follow_registry_s)
                running = (self._end_when_lonely(), following, self._claim.keep_renewing())
                self._tasks = [asyncio.create_task(task) for task in running]
        return self._rollout.target

    async def report(self, replica: str, report: Report, keys: str | None = None) -> Synced:
        """The orders for ``replica``, and the keys in force unless ``keys`` is the digest of these."""
        await self.start()
        rollout, self._heard = self._started(), time.monotonic()
        served = rollout.target.generation
        orders = rollout.report(replica, report, now=self._heard)
        if rollout.target.generation != served:
            self._save(rollout.target)
        if rollout.is_served(rollout.target.generation) and rollout.target.version != self._claimed:
            self._claimed = rollout.target.version
            self._tasks.append(asyncio.create_task(aside(self._claim.serve, self._claimed)))
        if self._located is not None and report.serving == rollout.target.generation:
            self._fetcher.remember(self._plan.reference, self._located)
            self._located = None
        assert self._access is not None
        ring = self._access.keys
        return Synced(orders, None if ring is None or ring.digest == keys else ring.to_json())

    async def leave(self, replica: str) -> None:
        """``replica`` has stopped."""
        if self._rollout is not None:
            self._rollout.leave(replica)

    async def lease(self, key_id: str, per_minute: float, amount: int) -> tuple[int, float]:
        """How many of ``amount`` requests the key may make now, and the seconds to wait if it is none."""
        return self._rates.lease(key_id, per_minute, amount)

    async def swap(self, reference: str) -> tuple[int, str]:
        """Number of replicas and version, once all of them serve ``reference``.

        Raises ``SwapRefusedError``, ``SwapBusyError``.
        """
        await self.start()
        try:
            located = await aside(self._fetcher.fetch, reference)
        except (WinnowError, OSError) as error:
            raise SwapRefusedError(f"{reference!r:.80} cannot be served: {error}") from None
        if located.notice is not None:
            raise SwapRefusedError(f"{reference!r:.80} cannot be served: {located.notice}")
        return await self._take(reference, located)

    async def _take(self, reference: str, located: Located) -> tuple[int, str]:
        try:
            kept = await aside(keep_version, located.directory, self._plan.cache)
        except (WinnowError, OSError) as error:
            raise SwapRefusedError(f"{reference!r:.80} cannot be served: {error}") from None
        await aside(self._claim.want, kept.name)
        # What they are told to serve counts, not what they say: that may be from before they were told.
        if not self._started().is_settled_on(kept.name):
            self._started().propose(reference, str(kept), kept.name)
        outcome = await self._until_served(reference)
        self._fetcher.remember(reference, located)
        return outcome

    async def describe(self) -> Mapping[str, Any]:
        """What is wanted, and what each replica serves."""
        await self.start()
        rollout = self._started()
        return {
            "wanted": asdict(rollout.target),
            "loading": None if rollout.candidate is None else asdict(rollout.candidate),
            "replicas": rollout.versions(),
            "refused": {str(generation): reason for generation, reason in rollout.failures.items()},
        }

    async def _until_served(self, reference: str) -> tuple[int, str]:
        """Number of replicas and version, once all serve the newest target. Raises ``SwapRefusedError``."""
        rollout = self._started()
        target = rollout.candidate or rollout.target
        deadline = time.monotonic() + self._plan.config.start_timeout_s
        while not rollout.is_served(target.generation):
            if target.generation in rollout.failures:
                raise SwapRefusedError(f"{reference!r:.80} cannot be served: {rollout.failures[target.generation]}")
            if time.monotonic() > deadline:
                if rollout.is_decided(target.generation):
                    # Too late to go back: who does not serve it yet is replaced, or does so soon.
                    break
                reason = f"not every replica had it after {self._plan.config.start_timeout_s:g} s"
                rollout.give_up(target.generation, reason)
            await asyncio.sleep(_POLL_S)
        return len(rollout.versions()), target.version

    def _first_target(self) -> Target:
        with contextlib.suppress(FileNotFoundError):
            known = read_json(self._plan.memory)
            # Deployed with another reference, the endpoint has another target, whatever was served before.
            if known["reference"] == self._plan.reference and Path(known["target"]["directory"]).exists():
                self._follower.seen = known["seen"]
                target = Target(**known["target"])
                self._claim.want(target.version)
                return target
        located = self._fetcher.fetch(self._plan.reference)
        self._located, self._follower.seen = located, located.number
        kept = keep_version(located.directory, self._plan.cache)
        self._claim.want(kept.name)
        target = Target(self._plan.reference, str(kept), kept.name, 1, located.notice)
        self._save(target)
        return target

    def _save(self, target: Target) -> None:
        known = {"reference": self._plan.reference, "target": asdict(target), "seen": self._follower.seen}
        write_json(self._plan.memory, known)

    def _started(self) -> Rollout:
        assert self._rollout is not None
        return self._rollout

    async def _end_when_lonely(self) -> None:
        """Nobody else would end the actor of a deployment that was replaced or deleted."""
        while time.monotonic() - self._heard < _LONELY_AFTER_S:
            await asyncio.sleep(_LONELY_AFTER_S / 10)
        stop_control(self._plan)


def control_actor(plan: ServingPlan) -> ActorHandle:
    """The actor of ``plan``'s endpoint, started if it is not there."""
    return (
        ray.remote(Control)
        .options(
            name=plan.actor,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            max_concurrency=1000,
        )
        .remote(plan)
    )


def stop_control(plan: ServingPlan) -> None:
    """End the actor of ``plan``'s endpoint, if there is one, and forget what it knew."""
    plan.memory.unlink(missing_ok=True)
    with contextlib.suppress(ValueError):
        ray.kill(ray.get_actor(plan.actor, namespace=NAMESPACE))
