"""The server engine against a real HTTP server on loopback that plays its part badly on purpose."""

import asyncio
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from winnow.engines.config import ServerConfig
from winnow.engines.protocol import ChatRequest, LikelihoodRequest, Message
from winnow.engines.server_engine import ServerEngine
from winnow.errors import ConfigError

KEY = "sk-secret-of-the-user"
REQUEST = ChatRequest((Message("system", "be brief"), Message("user", "which?")), max_output_tokens=8)
CONTEXT_ERROR = "This model's maximum context length is 64 tokens. However, you requested 80 tokens"


class Server(ThreadingHTTPServer):
    """Answers every request well; ``script`` holds the answers that come before."""

    daemon_threads = True

    def __init__(
        self,
        *,
        script=(),
        tokenises=False,
        max_model_len=None,
        refuses_patterns=False,
        pause_s=0.0,
        waits_for=None,
        key=None,
    ):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = list(script)
        self.tokenises = tokenises
        self.max_model_len = max_model_len
        self.refuses_patterns = refuses_patterns
        self.pause_s = pause_s
        self.together = waits_for and threading.Barrier(waits_for)
        self.key = key
        self.bodies = []
        self.keys = []
        self.num_now = self.most_at_a_time = 0
        self.lock = threading.Lock()

    def handle_error(self, request, client_address):
        """A client that hangs up is no news."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.keys.append(self.headers["Authorization"])
        if self.server.key and self.headers["Authorization"] != f"Bearer {self.server.key}":
            return self.answer(401, {"error": {"message": f"wrong key: {self.headers['Authorization']}"}})
        if self.path != "/v1/models":
            return self.answer(404, {})
        model = {"id": "small-llm", "object": "model", "created": 0, "owned_by": "us"}
        return self.answer(200, {"object": "list", "data": [model | {"max_model_len": self.server.max_model_len}]})

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":
            return self.tokenise(body)
        with server.lock:
            server.bodies.append(body)
            server.num_now += 1
            server.most_at_a_time = max(server.most_at_a_time, server.num_now)
            status, reply, headers = server.script.pop(0) if server.script else (200, None, {})
        time.sleep(server.pause_s)
        with server.lock:
            server.num_now -= 1
        if server.refuses_patterns and "structured_outputs" in body:
            return self.answer(400, {"error": {"message": "Unrecognized request argument: structured_outputs"}})
        if reply is None:
            reply = chat_answer() if self.path.endswith("/chat/completions") else scored(body)
        return self.answer(status, reply, headers)

    def tokenise(self, body):
        server = self.server
        with server.lock:
            server.num_now += 1
            server.most_at_a_time = max(server.most_at_a_time, server.num_now)
        # The question at the start, whether the server can count, comes alone.
        if server.together and body.get("prompt") != "one word" and "prompt" in body:
            server.together.wait(timeout=5)
        time.sleep(server.pause_s)
        with server.lock:
            server.num_now -= 1
        ids = list(map(ord, body["prompt"] if "prompt" in body else json.dumps(body["messages"])))
        return self.answer(200, {"tokens": ids}) if server.tokenises else self.answer(404, {})

    def answer(self, status, body, headers=()):
        payload = json.dumps(body).encode()
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


def chat_answer(content="[2]", finish_reason="stop", **message):
    choice = {"index": 0, "finish_reason": finish_reason}
    choice["message"] = {"role": "assistant", "content": content, **message}
    usage = {"prompt_tokens": 21, "completion_tokens": 3, "total_tokens": 24}
    usage["prompt_tokens_details"] = {"cached_tokens": 16}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


def scored(body):
    """A token per character or id, each with the log probability ``-its position``; then the token that is written."""
    prompt = body["prompt"]
    tokens = [*(prompt if isinstance(prompt, str) else map(chr, prompt)), "!"]
    logprobs = {"tokens": tokens, "token_logprobs": [None, *(-float(i) for i in range(1, len(tokens)))]}
    logprobs |= {"text_offset": list(range(len(tokens))), "top_logprobs": [None] * len(tokens)}
    choice = {"index": 0, "finish_reason": "length", "text": "".join(tokens), "logprobs": logprobs}
    usage = {"prompt_tokens": len(tokens) - 1, "completion_tokens": 1, "total_tokens": len(tokens)}
    return {"id": "1", "object": "text_completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


@contextmanager
def running(**settings):
    server = Server(**settings)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def engine_of(server, **settings):
    settings = {"base_url": server.url, "max_retries": 2, "timeout_s": 5, "max_tokens": 64} | settings
    return ServerEngine(ServerConfig(kind="server", model="small-llm", **settings))


def ask(engine, *requests):
    async def together():
        kinds = {ChatRequest: engine.chat, LikelihoodRequest: engine.likelihood}
        return await asyncio.gather(*(kinds[type(request)](request) for request in requests))

    return asyncio.run(together())


def count(engine, texts, messages):
    async def both():
        return await engine.count_tokens(texts), await engine.count_prompt_tokens(messages)

    return asyncio.run(both())


def chat_in_turn(engine, *requests):
    async def one_by_one():
        return [await engine.chat(request) for request in requests]

    return asyncio.run(one_by_one())


def refusal(status, message="out of order", **headers):
    return status, {"error": {"message": message}}, {"retry-after-ms": "10", **headers}


def test_a_reply_says_what_it_cost():
    with running() as server:
        (reply,) = ask(engine_of(server), REQUEST)

    assert (reply.text, reply.finish_reason, reply.error) == ("[2]", "stop", None)
    assert (reply.prompt_tokens, reply.cached_tokens, reply.output_tokens) == (21, 16, 3)
    assert reply.seconds > 0


def test_a_request_carries_model_turns_and_sampling():
    with running() as server:
        ask(engine_of(server), ChatRequest(REQUEST.messages, 8, temperature=0.5, seed=11, pattern=r"\[\d\]"))

    (body,) = server.bodies
    assert body["messages"][0] == {"role": "system", "content": "be brief"}
    assert (body["model"], body["max_tokens"], body["temperature"], body["seed"]) == ("small-llm", 8, 0.5, 11)
    assert body["structured_outputs"] == {"regex": r"\[\d\]"}


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_that_the_server_splits_off_is_kept_apart(field):
    with running(script=[(200, chat_answer(**{field: "let me see"}), {})]) as server:
        (reply,) = ask(engine_of(server), REQUEST)

    assert (reply.text, reply.reasoning) == ("[2]", "let me see")


def test_a_reply_that_was_cut_says_length_and_one_that_was_withheld_is_an_error():
    script = [(200, chat_answer(finish_reason="length"), {}), (200, chat_answer(finish_reason="content_filter"), {})]
    with running(script=script) as server:
        cut, withheld = chat_in_turn(engine_of(server), REQUEST, REQUEST)

    assert cut.finish_reason == "length"
    assert withheld.finish_reason == "error"
    assert "'content_filter'" in withheld.error


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(status):
    with running(script=[refusal(status), refusal(status)]) as server:
        (reply,) = ask(engine_of(server), REQUEST)

    assert reply.finish_reason == "stop"
    assert len(server.bodies) == 3


def test_a_server_that_stays_broken_is_an_error_of_the_request():
    with running(script=[refusal(500)] * 3) as server:
        broken, fine = chat_in_turn(engine_of(server), REQUEST, REQUEST)

    assert broken.finish_reason == "error"
    assert "out of order" in broken.error
    assert fine.finish_reason == "stop"


def test_a_reply_that_is_no_chat_is_an_error_of_the_request():
    with running(script=[(200, {"choices": []}, {}), (200, {"detail": "?"}, {})]) as server:
        replies = ask(engine_of(server), REQUEST, REQUEST)

    assert [reply.finish_reason for reply in replies] == ["error", "error"]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_prompt_that_the_model_cannot_take_is_too_long(status):
    with running(script=[refusal(status, CONTEXT_ERROR)]) as server:
        (reply,) = ask(engine_of(server), REQUEST)

    assert reply.finish_reason == "too_long"
    assert "maximum context length is 64" in reply.error
    assert len(server.bodies) == 1


def test_a_pattern_that_is_refused_is_left_out_from_then_on():
    constrained = ChatRequest(REQUEST.messages, 8, pattern=r"\[\d\]")
    with running(refuses_patterns=True) as server:
        first, second = chat_in_turn(engine_of(server), constrained, constrained)

    assert (first.finish_reason, second.finish_reason) == ("stop", "stop")
    assert ["structured_outputs" in body for body in server.bodies] == [True, False, False]


def test_a_refusal_that_the_pattern_did_not_cause_is_not_blamed_on_it():
    constrained = ChatRequest(REQUEST.messages, 8, pattern=r"\[\d\]")
    with running(script=[refusal(400, "no such role"), refusal(400, "no such role")]) as server:
        refused, _ = chat_in_turn(engine_of(server), constrained, constrained)

    assert "no such role" in refused.error
    assert ["structured_outputs" in body for body in server.bodies] == [True, False, True]


def test_no_more_requests_are_in_flight_than_allowed():
    with running(pause_s=0.02) as server:
        replies = ask(engine_of(server, requests_in_flight=3), *[REQUEST] * 12)

    assert {reply.finish_reason for reply in replies} == {"stop"}
    assert server.most_at_a_time == 3


def test_requests_are_spaced_to_stay_below_so_many_a_minute():
    with running() as server:
        engine = engine_of(server, requests_per_minute=1200)
        started = time.monotonic()
        ask(engine, *[REQUEST] * 6)

    assert time.monotonic() - started >= 5 * 60 / 1200


def test_the_key_is_sent_and_never_shown(monkeypatch):
    monkeypatch.setenv("SOME_KEY", KEY)
    with running(script=[refusal(400, f"the key {KEY} may not do this")], key=KEY) as server:
        engine = engine_of(server, api_key_variable="SOME_KEY")
        (reply,) = ask(engine, REQUEST)

    assert server.keys == [f"Bearer {KEY}"]
    assert "the key [key] may not do this" in reply.error
    assert KEY not in repr(engine) + repr(vars(engine)) + repr(reply)


def test_a_key_of_another_service_is_never_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with running() as server:
        ask(engine_of(server), REQUEST)

    assert server.keys == ["Bearer none"]


def test_a_wrong_key_is_a_configuration_error_that_does_not_show_it(monkeypatch):
    monkeypatch.setenv("SOME_KEY", KEY)
    with running(key="another") as server, pytest.raises(ConfigError, match=r"refuses the key in SOME_KEY") as caught:
        engine_of(server, api_key_variable="SOME_KEY")

    assert KEY not in str(caught.value)


def test_a_key_variable_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("SOME_KEY", raising=False)
    with running() as server, pytest.raises(ConfigError, match="'SOME_KEY', which is not set"):
        engine_of(server, api_key_variable="SOME_KEY")


def test_a_model_that_is_not_served_is_refused_with_those_that_are():
    with running() as server, pytest.raises(ConfigError, match=r"serves \['small-llm'\], expected 'big-llm'"):
        ServerEngine(ServerConfig(kind="server", model="big-llm", base_url=server.url))


def test_a_server_of_a_shorter_context_is_refused():
    with running(max_model_len=32) as server, pytest.raises(ConfigError, match=r"takes 32 tokens.*max_tokens, 64"):
        engine_of(server)


def test_a_server_that_is_not_there_is_named():
    with running() as server:
        url = server.url

    with pytest.raises(ConfigError, match=rf"{url} cannot be reached.*engine\.base_url"):
        ServerEngine(ServerConfig(kind="server", model="small-llm", base_url=url, max_retries=0))


def test_an_address_without_models_is_refused():
    with running() as server, pytest.raises(ConfigError, match=r"no /models \(status 404\).*ends in /v1"):
        engine_of(server, base_url=server.url.removesuffix("/v1"))


def test_a_likelihood_is_the_mean_over_the_continuation():
    for tokenises in (True, False):
        with running(tokenises=tokenises) as server:
            (answer,) = ask(engine_of(server), LikelihoodRequest("abcd", " e"))

        assert answer.mean_logprob == pytest.approx((-4 - 5) / 2)
        assert (answer.num_continuation_tokens, answer.prompt_tokens, answer.output_tokens) == (2, 6, 1)
        assert (answer.finish_reason, answer.error) == ("scored", None)


def test_a_server_that_tokenises_gets_ids_so_that_the_boundary_is_exact():
    with running(tokenises=True) as server:
        ask(engine_of(server), LikelihoodRequest("ab", " c"))

    assert server.bodies[0]["prompt"] == [ord("a"), ord("b"), ord(" "), ord("c")]


@pytest.mark.parametrize("request_", [LikelihoodRequest("", "abc"), LikelihoodRequest("abc", "")])
def test_nothing_has_no_likelihood(request_):
    for tokenises in (True, False):
        with running(tokenises=tokenises) as server:
            (answer,) = ask(engine_of(server), request_)

        assert answer.finish_reason == "error"


def test_a_server_without_log_probabilities_is_said_to_be_one():
    bare = scored({"prompt": "abc"})
    bare["choices"][0]["logprobs"] = None
    with running(script=[(200, bare, {})]) as server:
        (answer,) = ask(engine_of(server), LikelihoodRequest("ab", "c"))

    assert "no log probabilities of the prompt" in answer.error


def test_tokens_are_counted_by_the_server_or_estimated():
    turns = (Message("user", "0123456"),)
    with running(tokenises=True) as server:
        exact = count(engine_of(server), ["0123456", "01"], turns)
    with running() as server:
        estimate = count(engine_of(server), ["0123456", ""], turns)

    assert exact == ([7, 2], len('[{"role": "user", "content": "0123456"}]'))
    assert estimate[0] == [3, 0]
    assert estimate[1] > 3


def test_tokens_of_many_texts_are_counted_at_the_same_time_and_the_event_loop_goes_on():
    with running(tokenises=True, waits_for=4) as server:
        counts = count(engine_of(server, requests_in_flight=8), ["a", "bc", "def", ""], ())[0]

    assert counts == [1, 2, 3, 0]


def test_counting_takes_no_more_places_than_requests_may():
    with running(tokenises=True, pause_s=0.02) as server:
        count(engine_of(server, requests_in_flight=3), ["text"] * 12, ())

    assert server.most_at_a_time == 3
