"""Judging on Ray: what is judged, what survives a kill, what is asked again."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from scripted import ScriptedEngine

from winnow import schema
from winnow.cluster.annotating import ActorPool, judge_pools, pool_keys
from winnow.cluster.sink import EvidenceSink
from winnow.config import build_config
from winnow.errors import ConfigError, TooManyFailuresError
from winnow.judging.build import build_judge
from winnow.judging.config import AnnotateConfig
from winnow.judging.rows import pools_of, unfold
from winnow.records import Candidate, CandidatePool

pytestmark = pytest.mark.usefixtures("ray_cluster")

CONFIG = build_config(AnnotateConfig, {"engine": {"kind": "vllm", "model": "org/never-loaded"}})
ACTORS = ActorPool(num_cpus=1, queries_per_batch=2, batches_in_flight=2)
IN_FLIGHT = ACTORS.queries_per_batch * ACTORS.batches_in_flight
WORDS = ["alpha", "beta", "gamma", "delta"]


def write_pools(path: Path, num_queries: int, *, empty: int | None = None) -> Path:
    """Pools of three passages; number ``empty`` has none."""
    pools = [_pool(i, 0 if i == empty else 3) for i in range(num_queries)]
    rows = [{**asdict(pool), "pool_id": pool.pool_id} for pool in pools]
    return schema.write_dataset(path, schema.to_table(rows, schema.CANDIDATE_POOLS))


def _pool(i: int, num_passages: int) -> CandidatePool:
    texts = [" ".join(WORDS[: (i + j) % 5]) for j in range(num_passages)]
    passages = tuple(Candidate(f"p{i}-{j}", "", text, ()) for j, text in enumerate(texts))
    return CandidatePool(f"q{i:03d}", f"item{i} alpha beta", passages)


def scripted(config, cache, **settings) -> ScriptedEngine:
    return ScriptedEngine(**settings)


def judge(
    pools: Path,
    sink: EvidenceSink,
    *,
    max_failures: int = 0,
    actors: ActorPool = ACTORS,
    model_id: str | None = None,
    build=scripted,
    **settings,
):
    known = sink.statuses()
    pending = frozenset(key for key in pool_keys(pools) if key not in known)
    factory = partial(build_judge, CONFIG, Path("unused"), partial(build, **settings), model_id=model_id)
    return judge_pools(pools, pending, factory, sink, actors=actors, max_failures=max_failures)


def start_badly(config, cache, *, starts: Path, how: str, times: int) -> ScriptedEngine:
    """An engine whose first ``times`` starts fail."""
    with starts.open("a") as file:
        file.write("x")
    if len(starts.read_text()) <= times:
        if how == "raise":
            raise RuntimeError("no memory for the model")
        if how == "exit":
            sys.exit("no device")
        os._exit(9)
    return ScriptedEngine()


def judge_without_ray(pools: Path, sink: EvidenceSink) -> None:
    """What an undisturbed run comes to."""
    judge = build_judge(CONFIG, Path("unused"), scripted)
    sink.write([asyncio.run(judge.judge(each)) for each in pools_of(pq.read_table(pools))])


def published(pools: Path, sink: EvidenceSink, folder: Path) -> tuple[bytes, bytes]:
    """The bytes of the two datasets that labels are made from."""
    tables = unfold(pa.concat_tables(sink.read(pool_keys(pools))))
    paths = [
        schema.write_dataset(folder / "judged_queries.parquet", tables.judged_queries),
        schema.write_dataset(folder / "judgments.parquet", tables.judgments),
    ]
    return paths[0].read_bytes(), paths[1].read_bytes()


def judged_in(log: Path) -> list[tuple[int, str]]:
    """Process and query of every finished call in the log, in order, one per query."""
    lines = [line.split("\t") for line in log.read_text().splitlines()] if log.exists() else []
    return list(dict.fromkeys((int(pid), query.split()[0]) for pid, query in lines))


def wait_for(condition, *, timeout_s: float = 200) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def test_every_pending_pool_is_judged_once_whatever_some_of_them_do(tmp_path):
    few, pools = write_pools(tmp_path / "few.parquet", 3), write_pools(tmp_path / "pools.parquet", 12, empty=5)
    sink, log = EvidenceSink(tmp_path / "sink"), tmp_path / "log"
    judge_without_ray(few, sink)

    now = judge(pools, sink, max_failures=3, log=log, script={"item6": "raise", "item7": "too_long", "item9": "kill"})

    assert dict(now.statuses) == {"ok": 5, "engine_error": 2, "too_long": 1, "empty_pool": 1}
    assert {key[0]: status for key, status in sink.statuses().items() if status != "ok"} == {
        "q005": "empty_pool",
        "q006": "engine_error",
        "q007": "too_long",
        "q009": "engine_error",  # it kills its process every time
    }
    assert sorted({query for _, query in judged_in(log)}) == sorted(f"item{i}" for i in (3, 4, 6, 7, 8, 9, 10, 11))
    assert sum(unfold(rows).judgments.num_rows for rows in sink.read(pool_keys(pools))) == 3 * 8
    assert judge(pools, sink, max_failures=3, log=log).num_queries == 0


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raise", "RuntimeError: no memory for the model"),
        ("exit", "SystemExit: no device"),
        ("die", "its process died while it was loaded"),
    ],
)
def test_an_engine_that_never_starts_ends_the_job_after_a_few_tries_with_the_reason(tmp_path, how, reason):
    pools, starts = write_pools(tmp_path / "pools.parquet", 4), tmp_path / "starts"

    with pytest.raises(ConfigError, match=f"no query can be judged on node .*could not be started, 3 times: {reason}"):
        judge(pools, EvidenceSink(tmp_path / "sink"), build=start_badly, starts=starts, how=how, times=99)

    assert len(starts.read_text()) == 3


@pytest.mark.parametrize("how", ["raise", "exit", "die"])
def test_an_engine_that_starts_at_the_second_try_judges_everything(tmp_path, how):
    pools = write_pools(tmp_path / "pools.parquet", 4)

    now = judge(pools, EvidenceSink(tmp_path / "sink"), build=start_badly, starts=tmp_path / "starts", how=how, times=1)

    assert dict(now.statuses) == {"ok": 4}


def test_too_many_failures_stop_the_job_and_what_was_judged_stays(tmp_path):
    pools, sink = write_pools(tmp_path / "pools.parquet", 30), EvidenceSink(tmp_path / "sink")
    script = {"item0 ": "raise", "item3 ": "raise"}

    with pytest.raises(TooManyFailuresError, match=r"2 queries failed.*max_failed_share.*run the same command again"):
        judge(pools, sink, max_failures=1, script=script, pause_s=0.05)

    statuses = list(sink.statuses().values())
    assert 2 <= len(statuses) < 30
    assert statuses.count("engine_error") == 2


@pytest.mark.parametrize("max_failures", [259, 260])
def test_a_judge_that_fails_on_nearly_all_of_the_first_queries_is_stopped_unless_all_may_fail(tmp_path, max_failures):
    pools, sink = write_pools(tmp_path / "pools.parquet", 260), EvidenceSink(tmp_path / "sink")
    actors = ActorPool(num_cpus=1, queries_per_batch=20, batches_in_flight=1)
    script = {f"item{number} ": "score" for number in range(0, 260, 11)} | {"item": "error"}

    if max_failures == 260:
        now = judge(pools, sink, max_failures=max_failures, actors=actors, script=script)
        assert dict(now.statuses) == {"ok": 24, "engine_error": 236}
    else:
        with pytest.raises(
            TooManyFailuresError, match=r"18\d of the first 200 queries failed .*scripted error.*regardless"
        ):
            judge(pools, sink, max_failures=max_failures, actors=actors, script=script)


def test_an_actor_that_has_loaded_another_model_ends_the_job_and_stores_nothing(tmp_path):
    pools, sink = write_pools(tmp_path / "pools.parquet", 4), EvidenceSink(tmp_path / "sink")

    with pytest.raises(ConfigError, match=r"no query can be judged on node '.+': .*is scripted-1 here.*judge-0a1b2c3d"):
        judge(pools, sink, model_id="judge-0a1b2c3d")

    assert sink.statuses() == {}


def test_an_engine_that_dies_is_started_again_and_the_labels_are_the_same(tmp_path):
    pools, log = write_pools(tmp_path / "pools.parquet", 20), tmp_path / "log"
    calm, killed = EvidenceSink(tmp_path / "calm"), EvidenceSink(tmp_path / "killed")
    judge_without_ray(pools, calm)

    def kill_one() -> None:
        wait_for(lambda: len(judged_in(log)) >= 6)
        os.kill(judged_in(log)[0][0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    judge(pools, killed, log=log, pause_s=0.1)
    killer.join()

    processes = {pid for pid, _ in judged_in(log)}
    assert len(processes) == 2
    assert published(pools, killed, tmp_path / "b") == published(pools, calm, tmp_path / "a")


DRIVER = """
import sys
from pathlib import Path
import ray
import test_annotate as t

address, pools, sink, log = sys.argv[1:]
paths = {"PYTHONPATH": ":".join(sys.path)}
ray.init(address=address, log_to_driver=False, logging_level="error", runtime_env={"env_vars": paths})
t.judge(Path(pools), t.EvidenceSink(Path(sink)), log=Path(log), pause_s=0.1)
"""


def test_after_a_killed_driver_only_what_is_missing_is_judged_and_the_labels_are_byte_identical(tmp_path):
    pools, log = write_pools(tmp_path / "pools.parquet", 40), tmp_path / "log"
    calm, killed = EvidenceSink(tmp_path / "calm"), EvidenceSink(tmp_path / "killed")
    judge_without_ray(pools, calm)

    address = ray.get_runtime_context().gcs_address
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    command = [sys.executable, "-c", DRIVER, address, str(pools), str(tmp_path / "killed"), str(log)]
    driver = subprocess.Popen(command, env=environment)
    wait_for(lambda: len(judged_in(log)) >= 12 or driver.poll() is not None)
    driver.kill()
    driver.wait()
    engine = judged_in(log)[0][0]
    wait_for(lambda: not psutil.pid_exists(engine))
    stored = len(killed.statuses())
    rest = judge(pools, killed, log=log)

    assert 8 <= stored < 40
    assert rest.num_queries == 40 - stored
    judged_twice = len(judged_in(log)) - 40
    assert judged_twice <= IN_FLIGHT
    assert published(pools, killed, tmp_path / "b") == published(pools, calm, tmp_path / "a")
