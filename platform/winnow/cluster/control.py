"""The named actor that all replicas follow: wanted version, keys, rates.

It does no search and no request waits for it: replicas report once a second, and lease the right to answer keys
with a limit several requests at a time. Its state survives it: the wanted version in a file, keys in theirs, and
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

from winnow.api.config import ServeConfig
from winnow.api.guard import LocalAccess
from winnow.api.protocol import SwapBusyError, SwapRefusedError
from winnow.api.rates import RateLimiter
from winnow.errors import WinnowError
from winnow.files import read_json, write_json
from winnow.retrieval.reference import RegistryEntry, parse_reference
from winnow.serving.rollout import Orders, Report, Rollout, Target
from winnow.tracking.fetching import Fetched, RetrieverFetcher

NAMESPACE = "winnow"
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class ServingPlan:
    """What an endpoint is made from; the same for all its processes."""

    reference: str
    config: ServeConfig
    tracking_uri: str
    cache: Path
    """Directory, readable by all nodes, for what is fetched from the registry."""
    endpoint: str
    """Unique name of this deployment."""


@dataclass(frozen=True, slots=True)
class Synced:
    """What a replica learns from a report. ``keys`` are those in force, as JSON; ``None`` if none are asked for."""

    orders: Orders
    keys: str | None


class Control:
    """See the module's docstring. Every method is asynchronous; none blocks the actor for long."""

    def __init__(self, plan: ServingPlan) -> None:
        self._plan = plan
        self._fetcher = RetrieverFetcher(plan.tracking_uri, plan.cache)
        self._access = LocalAccess(plan.config.keys)
        self._rates = RateLimiter()
        self._starting = asyncio.Lock()
        self._rollout: Rollout | None = None
        self._following: asyncio.Task[None] | None = None
        self._seen: str | None = None
        """What the alias named when it was last looked at: only a move swaps, so a rollback by hand stays."""

    async def start(self) -> Target:
        """What a replica that starts should serve. Raises ``ConfigError``, ``DataError``."""
        async with self._starting:
            if self._rollout is None:
                self._rollout = Rollout(await asyncio.to_thread(self._first_target))
                self._follow()
        return self._rollout.target

    async def report(self, replica: str, report: Report) -> Synced:
        """The orders for ``replica``, and the keys in force."""
        await self.start()
        rollout = self._started()
        served = rollout.target.generation
        orders = rollout.report(replica, report, now=time.monotonic())
        if rollout.target.generation != served:
            self._remember(rollout.target)
        keys = self._access.keys
        return Synced(orders, None if keys is None else keys.to_json())

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
            fetched = await asyncio.to_thread(self._fetcher.fetch, reference)
        except WinnowError as error:
            raise SwapRefusedError(f"{reference!r} cannot be served: {error}") from None
        return await self._propose(reference, fetched)

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

    async def _propose(self, reference: str, fetched: Fetched) -> tuple[int, str]:
        rollout = self._started()
        generation = rollout.propose(reference, str(fetched.directory), notice=fetched.notice)
        deadline = time.monotonic() + self._plan.config.start_timeout_s
        while not rollout.is_served(generation):
            if generation in rollout.failures:
                raise SwapRefusedError(f"{reference!r} cannot be served: {rollout.failures[generation]}")
            if time.monotonic() > deadline:
                waited = f"not every replica had it within {self._plan.config.start_timeout_s:g} s"
                rollout.give_up(generation, waited)
                raise SwapRefusedError(f"{reference!r} is not served: {waited}")
            await asyncio.sleep(_POLL_S)
        versions = rollout.versions()
        return len(versions), next(iter(versions.values()), "")

    def _first_target(self) -> Target:
        with contextlib.suppress(FileNotFoundError):
            return Target(**read_json(self._memory))
        fetched = self._fetcher.fetch(self._plan.reference)
        self._seen = fetched.number
        return Target(self._plan.reference, str(fetched.directory), 1, fetched.notice)

    def _remember(self, target: Target) -> None:
        write_json(self._memory, asdict(target))

    @property
    def _memory(self) -> Path:
        return self._plan.cache / f"wanted-{self._plan.endpoint}.json"

    def _started(self) -> Rollout:
        assert self._rollout is not None
        return self._rollout

    def _follow(self) -> None:
        entry = parse_reference(self._plan.reference)
        if isinstance(entry, RegistryEntry) and entry.alias is not None:
            self._following = asyncio.create_task(self._follow_alias())

    async def _follow_alias(self) -> None:
        while True:
            await asyncio.sleep(self._plan.config.follow_registry_s)
            number = await asyncio.to_thread(self._fetcher.number, self._plan.reference)
            if number is None:
                continue
            if number == self._seen:
                self._started().clear_notice()
                continue
            with contextlib.suppress(SwapBusyError):
                await self._follow_to(number)

    async def _follow_to(self, number: str) -> None:
        try:
            await self.swap(self._plan.reference)
        except SwapRefusedError as error:
            print(f"[serve] {error}; the version served before goes on", flush=True)
        self._seen = number


def control_actor(plan: ServingPlan) -> ActorHandle:
    """The actor of ``plan``'s endpoint, started if it is not there; only ``stop_control`` ends it."""
    return (
        ray.remote(Control)
        .options(
            name=f"control-{plan.endpoint}",
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
    """End the actor of ``plan``'s endpoint, if there is one."""
    try:
        ray.kill(ray.get_actor(f"control-{plan.endpoint}", namespace=NAMESPACE))
    except ValueError:
        return
    finally:
        (plan.cache / f"wanted-{plan.endpoint}.json").unlink(missing_ok=True)
