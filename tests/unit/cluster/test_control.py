"""The actor that orders the replicas, called directly: what it wants, what it remembers, when it ends."""

import asyncio
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes import MovableAlias
from obedient import ObedientReplica
from tiny_versions import PASSAGES, write_tiny_version

from winnow.api import access
from winnow.api.config import ServeConfig
from winnow.api.keys import KeyRing, create_key, revoke_key
from winnow.api.protocol import SwapRefusedError
from winnow.cluster import control, replica
from winnow.cluster.control import Control, ServingPlan
from winnow.errors import ConfigError
from winnow.retrieval.manifest import read_manifest
from winnow.serving import claims
from winnow.serving.claims import Claim


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("versions")
    return write_tiny_version(folder / "first"), write_tiny_version(folder / "second", PASSAGES[::-1])


@pytest.fixture
def plan(versions, tmp_path):
    config = ServeConfig(start_timeout_s=20)
    return ServingPlan(str(versions[0]), config, str(tmp_path / "mlflow.db"), tmp_path / "cache", endpoint="test")


class Replica(ObedientReplica):
    """Reports as often as it is asked to, and loads in between."""

    async def report_to(self, ordering):
        self.obey((await ordering.report(self.name, self.report())).orders)
        self.finish_loading()


async def swapped(ordering, replicas, reference):
    """What the swap returns while ``replicas`` go on reporting."""
    swap = asyncio.create_task(ordering.swap(str(reference)))
    while not swap.done():
        for each in replicas:
            await each.report_to(ordering)
        await asyncio.sleep(0.01)
    return await swap


def test_a_swap_ends_when_every_replica_serves_the_version_and_a_restart_remembers_it(plan, versions):
    second = read_manifest(versions[1]).version

    async def act():
        ordering = Control(plan)
        target = await ordering.start()
        replicas = [Replica(name, target) for name in ("a", "b")]
        outcome = await swapped(ordering, replicas, versions[1])
        return outcome, [each.version for each in replicas], await Control(plan).start()

    outcome, served, remembered = asyncio.run(act())

    assert outcome == (2, second)
    assert served == [second, second]
    assert (remembered.version, Path(remembered.directory).parent) == (second, plan.cache / "versions")


def test_one_replica_that_cannot_load_the_version_keeps_all_on_the_one_before(plan, versions):
    first, second = (read_manifest(version).version for version in versions)

    async def act():
        ordering = Control(plan)
        target = await ordering.start()
        replicas = [Replica("a", target), Replica("b", target, refuses={second})]
        with pytest.raises(SwapRefusedError, match="it is broken"):
            await swapped(ordering, replicas, versions[1])
        for each in replicas:
            await each.report_to(ordering)
        return [each.version for each in replicas], await ordering.describe()

    served, described = asyncio.run(act())

    assert served == [first, first]
    assert described["wanted"]["version"] == first
    assert list(described["refused"].values()) == ["it is broken"]


def test_going_back_before_replicas_have_said_that_they_swapped_is_a_swap(plan, versions):
    first, second = (read_manifest(version).version for version in versions)

    async def act():
        ordering = Control(plan)
        one = Replica("a", await ordering.start())
        await one.report_to(ordering)
        forward = asyncio.create_task(ordering.swap(str(versions[1])))
        while (await ordering.describe())["wanted"]["version"] != second:
            await one.report_to(ordering)
            await asyncio.sleep(0)
        back = asyncio.create_task(ordering.swap(str(versions[0])))
        while not back.done():
            await asyncio.sleep(0.01)
            await one.report_to(ordering)
        return await back, one.version, forward

    outcome, served, forward = asyncio.run(act())

    assert outcome == (1, first)
    assert served == first
    assert forward.done() or forward.cancelled()


def kept_in(plan):
    return {path.name for path in (plan.cache / "versions").iterdir() if not path.name.startswith(".")}


async def until(is_so):
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.01)


def test_after_a_swap_what_no_endpoint_needs_any_more_is_deleted(plan, versions, tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "_ASKED_FOR_S", 0)
    third = write_tiny_version(tmp_path / "third", PASSAGES[1:])
    first, second, last = (read_manifest(version).version for version in (*versions, third))

    async def act():
        ordering = Control(plan)
        one = Replica("a", await ordering.start())
        await swapped(ordering, [one], versions[1])
        with_the_one_before = kept_in(plan)
        await swapped(ordering, [one], third)
        await until(lambda: kept_in(plan) != {first, second, last})
        return with_the_one_before

    assert asyncio.run(act()) == {first, second}
    assert kept_in(plan) == {second, last}


def test_another_endpoint_deletes_nothing_that_this_one_is_about_to_serve(plan, versions, monkeypatch):
    monkeypatch.setattr(claims, "_ASKED_FOR_S", 0)
    both = {read_manifest(version).version for version in versions}

    async def act():
        ordering = Control(plan)
        one = Replica("a", await ordering.start())
        swap = asyncio.create_task(ordering.swap(str(versions[1])))
        while (await ordering.describe())["loading"] is None:
            await asyncio.sleep(0.01)
        Claim(plan.cache, "other").serve("another")
        left = kept_in(plan)
        while not swap.done():
            await one.report_to(ordering)
            await asyncio.sleep(0.01)
        return left

    assert asyncio.run(act()) == both


def test_an_endpoint_that_was_started_again_is_heard_of_and_keeps_its_version(plan, versions, monkeypatch):
    monkeypatch.setattr(claims, "_ASKED_FOR_S", 0)
    monkeypatch.setattr(claims, "_RENEW_EVERY_S", 0.01)
    claim = plan.cache / "claim-test.json"

    async def act():
        await Control(plan).start()
        claim.unlink()
        ordering = Control(plan)
        await ordering.start()
        an_hour_ago = round(time.time()) - 3600
        os.utime(claim, (an_hour_ago, an_hour_ago))
        await until(lambda: claim.stat().st_mtime > an_hour_ago)
        Claim(plan.cache, "other").serve("another")

    asyncio.run(act())

    assert kept_in(plan) == {read_manifest(versions[0]).version}


def test_a_version_that_is_rebuilt_in_its_place_changes_nothing_that_is_served(plan, versions, tmp_path):
    rebuilt = tmp_path / "rebuilt"
    shutil.copytree(versions[0], rebuilt)
    plan = replace(plan, reference=str(rebuilt))
    first = read_manifest(rebuilt).version

    async def act():
        before = await Control(plan).start()
        shutil.rmtree(rebuilt)
        shutil.copytree(versions[1], rebuilt)
        return before, await Control(plan).start()

    before, after = asyncio.run(act())

    assert before == after
    assert read_manifest(Path(after.directory)).version == after.version == first


def test_an_endpoint_deployed_with_another_reference_serves_that_and_not_what_it_remembers(plan, versions):
    deployed_again = replace(plan, reference=str(versions[1]))

    async def act():
        return [(await Control(each).start()).version for each in (plan, plan, deployed_again, deployed_again)]

    first, second = (read_manifest(version).version for version in versions)
    assert asyncio.run(act()) == [first, first, second, second]


def test_a_moved_alias_is_served_once_also_after_a_restart(versions, tmp_path, monkeypatch):
    registry = MovableAlias({"1": versions[0], "2": versions[1]})
    monkeypatch.setattr(control, "RetrieverFetcher", lambda uri, cache: registry)
    config = ServeConfig(start_timeout_s=20, follow_registry_s=0.02)
    plan = ServingPlan("winnow@champion", config, "", tmp_path, endpoint="test")

    async def act():
        ordering = Control(plan)
        target = await ordering.start()
        one = Replica("a", target)
        await one.report_to(ordering)
        registry.named = "2"
        async with asyncio.timeout(20):
            while registry.remembered != "2":
                await one.report_to(ordering)
                await asyncio.sleep(0.01)
        moved, generation = one.version, one.state.served.generation
        restarted = Control(plan)
        await restarted.start()
        for _ in range(20):
            await one.report_to(restarted)
            await asyncio.sleep(0.01)
        return moved, generation, one.state.served.generation, (await restarted.describe())["wanted"]

    moved, generation, after_restart, wanted = asyncio.run(act())

    assert moved == read_manifest(versions[1]).version
    assert after_restart == generation
    assert wanted["version"] == moved


def test_it_ends_itself_when_no_replica_has_reported_for_long_and_not_before(plan, versions, monkeypatch):
    ended = []
    monkeypatch.setattr(control, "_LONELY_AFTER_S", 0.3)
    monkeypatch.setattr(control, "stop_control", ended.append)

    async def act():
        ordering = Control(plan)
        target = await ordering.start()
        reporting = Replica("a", target)
        for _ in range(20):
            await reporting.report_to(ordering)
            await asyncio.sleep(0.03)
        while_reporting = list(ended)
        async with asyncio.timeout(10):
            while not ended:
                await asyncio.sleep(0.05)
        return while_reporting

    assert asyncio.run(act()) == []
    assert ended == [plan]


@pytest.mark.parametrize(("host", "is_refused"), [("0.0.0.0", True), ("10.0.0.7", True), ("127.0.0.1", False)])
def test_a_replica_without_keys_starts_only_where_serve_listens_on_loopback(plan, monkeypatch, host, is_refused):
    """``serve deploy`` decides where Serve listens, and does not ask Winnow."""
    client = SimpleNamespace(http_config=SimpleNamespace(host=host))
    monkeypatch.setattr(replica, "get_global_client", lambda: client)

    if is_refused:
        with pytest.raises(ConfigError, match=f"Ray Serve listens on '{host}'.*winnow keys create"):
            replica._check_keys(plan)
    else:
        replica._check_keys(plan)


def test_keys_are_sent_when_they_change_and_then_never_again(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(access, "_LOOK_EVERY_S", 0)
    path = tmp_path / "keys.json"
    token = create_key(path, name="app", scopes=["search"])
    plan = replace(plan, config=ServeConfig(keys=path))

    async def act():
        ordering = Control(plan)
        target = await ordering.start()
        a, b = (Replica(name, target) for name in "ab")
        first = await ordering.report("a", a.report())
        ring = KeyRing.from_json(first.keys)
        again = [(await ordering.report("a", a.report(), ring.digest)).keys for _ in range(3)]
        revoke_key(path, ring.keys[0].key_id)
        revoked = KeyRing.from_json((await ordering.report("a", a.report(), ring.digest)).keys)
        new = KeyRing.from_json((await ordering.report("b", b.report())).keys)
        return ring, again, revoked, new

    ring, again, revoked, new = asyncio.run(act())

    assert ring.find(token) is not None
    assert again == [None, None, None]
    assert (revoked.find(token), new.find(token)) == (None, None)
