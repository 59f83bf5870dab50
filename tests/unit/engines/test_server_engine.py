"""The server engine against a real HTTP server on loopback that plays its part badly on purpose."""

import asyncio
import json
import math
import re
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from chat_templates import HYBRID, NO_SYSTEM, OPENING, SILENT, characters

from winnow.engines.config import ServerConfig
from winnow.engines.protocol import ChatRequest, LikelihoodRequest, Message
from winnow.engines.server_connection import ServerConnection
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
        refuses=None,
        owned_by="us",
        template=None,
        model="small-llm",
        pause_s=0.0,
        waits_for=None,
        key=None,
    ):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = list(script)
        self.tokenises = tokenises
        self.max_model_len = max_model_len
        self.refuses = refuses or (lambda body: None)
        self.owned_by = owned_by
        self.template = template and characters(template, marks=("<think>", "</think>"))
        self.model = model
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
        model = {"id": self.server.model, "object": "model", "created": 0, "owned_by": self.server.owned_by}
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
        problem = server.refuses(body)
        if problem is not None:
            return self.answer(400, {"error": {"message": problem}})
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
        if not server.tokenises:
            return self.answer(404, {})
        text = body.get("prompt")
        try:
            text = self.render(body) if text is None else text
        except Exception as error:
            return self.answer(400, {"error": {"message": str(error)}})
        strings = re.findall(r"</?think>|[\s\S]", text)
        ids = [ord(string[0]) for string in strings]
        return self.answer(200, {"tokens": ids, "token_strs": strings if body.get("return_token_strs") else None})

    def render(self, body):
        if self.server.template is None:
            return json.dumps(body["messages"])
        settings = body.get("chat_template_kwargs") or {}
        return self.server.template.apply_chat_template(
            body["messages"], add_generation_prompt=True, tokenize=False, **settings
        )

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
    return ServerEngine(ServerConfig(kind="server", model=server.model, **settings))


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


def refuses_field(field, problem):
    return lambda body: problem if field in body else None


def refuses_system(body):
    return "System role not supported" if body["messages"][0]["role"] == "system" else None


SYSTEM_FOLDED = [{"role": "user", "content": "be brief\n\nwhich?"}]
CONSTRAINED = ChatRequest(REQUEST.messages, 8, pattern=r"\[\d\]")


@pytest.mark.parametrize(
    ("refuses", "left_out", "sent_instead"),
    [
        (
            refuses_field("structured_outputs", "Unrecognized request argument: structured_outputs"),
            "structured_outputs",
            {},
        ),
        (
            refuses_field("max_tokens", "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
            "max_tokens",
            {"max_completion_tokens": 8},
        ),
        (
            refuses_field("chat_template_kwargs", "Unrecognized request argument: chat_template_kwargs"),
            "chat_template_kwargs",
            {},
        ),
        (refuses_system, None, {"messages": SYSTEM_FOLDED}),
    ],
)
def test_what_a_server_does_not_take_is_sent_as_it_wants_it_from_then_on(refuses, left_out, sent_instead):
    with running(refuses=refuses) as server:
        replies = chat_in_turn(engine_of(server), CONSTRAINED, CONSTRAINED)

    first, *others = server.bodies
    assert [reply.finish_reason for reply in replies] == ["stop", "stop"]
    assert len(others) == 2
    assert left_out is None or left_out in first
    for body in others:
        assert left_out not in body
        assert body.items() >= sent_instead.items()
    assert ("structured_outputs" in others[0]) == (left_out != "structured_outputs")


def test_requests_that_are_refused_at_the_same_time_for_two_reasons_are_all_answered():
    def refuses(body):
        if "max_tokens" in body:
            return "Use 'max_completion_tokens' instead of 'max_tokens'"
        return refuses_field("structured_outputs", "structured_outputs: extra fields not permitted")(body)

    with running(refuses=refuses, pause_s=0.02) as server:
        replies = ask(engine_of(server), *[CONSTRAINED] * 6)

    assert {reply.finish_reason for reply in replies} == {"stop"}
    assert len(server.bodies) == 3 * 6


def test_one_pattern_that_is_refused_goes_without_and_the_others_keep_theirs():
    odd = ChatRequest(REQUEST.messages, 8, pattern="(")

    def refuses(body):
        return "invalid regex" if body.get("structured_outputs") == {"regex": "("} else None

    with running(refuses=refuses) as server:
        replies = chat_in_turn(engine_of(server), odd, CONSTRAINED, odd, CONSTRAINED)

    assert {reply.finish_reason for reply in replies} == {"stop"}
    patterns = [body.get("structured_outputs", {}).get("regex") for body in server.bodies]
    assert patterns == ["(", None, r"\[\d\]", "(", None, r"\[\d\]"]


def test_a_setting_that_the_user_asks_for_is_not_left_out():
    refuses = refuses_field("chat_template_kwargs", "Unrecognized request argument: chat_template_kwargs")
    with running(refuses=refuses) as server:
        (reply,) = ask(engine_of(server, chat_template_kwargs={"reasoning_effort": "low"}), REQUEST)

    assert reply.finish_reason == "error"
    assert "chat_template_kwargs" in reply.error


@pytest.mark.parametrize(
    ("settings", "request_", "fields"),
    [
        ({}, REQUEST, {"chat_template_kwargs": {"enable_thinking": False}, "max_tokens": 8}),
        ({}, ChatRequest(REQUEST.messages, 8, max_reasoning_tokens=100), {"max_tokens": 108}),
        (
            {"chat_template_kwargs": {"reasoning_effort": "low"}},
            REQUEST,
            {"chat_template_kwargs": {"enable_thinking": False, "reasoning_effort": "low"}},
        ),
        ({"extra_body": {"provider": {"order": ["a"]}, "temperature": 1}}, REQUEST, {"provider": {"order": ["a"]}}),
        ({"extra_body": {"temperature": 1}}, REQUEST, {"temperature": 1}),
        ({}, CONSTRAINED, {"structured_outputs": {"regex": r"\[\d\]"}}),
    ],
)
def test_a_request_carries_what_is_configured(settings, request_, fields):
    with running() as server:
        ask(engine_of(server, **settings), request_)

    (body,) = server.bodies
    assert body.items() >= fields.items()


def test_within_a_pattern_nobody_can_think_unless_the_server_sees_where_a_thought_ends():
    thinking = ChatRequest(REQUEST.messages, 8, pattern=r"\[\d\]", max_reasoning_tokens=100)
    with running() as server:
        ask(engine_of(server), thinking)
        ask(engine_of(server, reasoning_parser="qwen3"), thinking)

    assert ["structured_outputs" in body for body in server.bodies] == [False, True]
    assert all("chat_template_kwargs" not in body for body in server.bodies)


def test_only_vllm_is_told_to_leave_a_models_own_sampling_alone():
    with running() as other, running(owned_by="vllm") as vllm:
        ask(engine_of(other), REQUEST)
        ask(engine_of(vllm), REQUEST)

    neutral = {"repetition_penalty": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
    assert vllm.bodies[0].items() >= neutral.items()
    assert not neutral.keys() & other.bodies[0].keys()


def test_more_fields_go_along_with_likelihoods_too():
    with running() as server:
        ask(engine_of(server, extra_body={"priority": 3}), LikelihoodRequest("ab", "c"))

    assert server.bodies[0]["priority"] == 3


THINKING = ChatRequest(REQUEST.messages, 8, max_reasoning_tokens=100)
CHANNELS = "<|channel|>analysis<|message|>[1]?<|end|><|start|>assistant<|channel|>final<|message|>[2]"


@pytest.mark.parametrize(
    ("server", "settings", "request_", "message", "thought", "said"),
    [
        ({}, {}, THINKING, {"content": "<think>hm</think>[2]"}, "hm", "[2]"),
        ({}, {}, THINKING, {"content": "<think>hm"}, "hm", ""),
        ({"model": "org/QwQ-32B"}, {}, THINKING, {"content": "[1]? hm"}, "[1]? hm", ""),
        ({"model": "org/QwQ-32B"}, {}, THINKING, {"content": "hm</think>[2]"}, "hm", "[2]"),
        ({"model": "org/QwQ-32B"}, {}, THINKING, {"content": "[2]", "reasoning": "hm"}, "hm", "[2]"),
        ({"model": "org/QwQ-32B"}, {"reasoning_parser": "qwen3"}, THINKING, {"content": "[2]"}, None, "[2]"),
        ({"template": OPENING, "tokenises": True}, {}, THINKING, {"content": "[1]? hm"}, "[1]? hm", ""),
        ({"template": HYBRID, "tokenises": True}, {}, THINKING, {"content": "[2]"}, None, "[2]"),
        ({"template": HYBRID, "tokenises": True}, {}, REQUEST, {"content": "[2]"}, None, "[2]"),
        ({"model": "openai/gpt-oss-20b"}, {}, THINKING, {"content": CHANNELS}, "[1]?", "[2]"),
        ({"model": "openai/gpt-oss-20b"}, {}, THINKING, {"content": "analysis[1]?"}, "analysis[1]?", ""),
        ({}, {}, THINKING, {"content": None, "reasoning_content": "hm"}, "hm", ""),
        ({}, {"reasoning_parser": "seed_oss"}, THINKING, {"content": "<seed:think>hm</seed:think>[2]"}, "hm", "[2]"),
    ],
)
def test_what_was_thought_is_told_from_what_was_said_whoever_splits(server, settings, request_, message, thought, said):
    with running(script=[(200, chat_answer(**message), {})], **server) as running_server:
        (reply,) = ask(engine_of(running_server, max_tokens=500, **settings), request_)

    assert (reply.reasoning, reply.text) == (thought, said)


@pytest.mark.parametrize("template", [NO_SYSTEM, SILENT])
def test_a_template_without_a_system_turn_is_found_out_before_the_first_request(template):
    async def ask_and_count(engine):
        await engine.chat(REQUEST)
        return await engine.count_prompt_tokens(REQUEST.messages)

    with running(template=template, tokenises=True) as server:
        counted = asyncio.run(ask_and_count(engine_of(server)))

    assert [body["messages"] for body in server.bodies] == [SYSTEM_FOLDED]
    assert counted == len("<user>be brief\n\nwhich?</s><assistant>")


@pytest.mark.parametrize(
    ("server", "thinks", "problem"),
    [
        ({"template": OPENING, "tokenises": True}, False, r"thinks before every reply.*max_reasoning_tokens"),
        ({"model": "org/QwQ-32B"}, False, r"thinks before every reply.*max_reasoning_tokens"),
        ({"model": "openai/gpt-oss-20b"}, False, r"thinks before every reply.*max_reasoning_tokens"),
        ({"refuses": lambda body: "no such template"}, True, "refuses what a judge asks.*no such template"),
    ],
)
def test_a_server_that_cannot_serve_a_judge_is_said_so_before_the_first_query(server, thinks, problem):
    with running(**server) as running_server, pytest.raises(ConfigError, match=problem):
        engine_of(running_server).check_chat(thinks=thinks)


@pytest.mark.parametrize(
    ("server", "thinks"),
    [
        ({"template": OPENING, "tokenises": True}, True),
        ({"template": HYBRID, "tokenises": True}, False),
        ({"template": NO_SYSTEM, "tokenises": True}, False),
        ({"refuses": refuses_system}, False),
        ({"script": [(500, {}, {})] * 3}, False),
    ],
)
def test_other_servers_pass_or_are_asked_again_later(server, thinks):
    with running(**server) as running_server:
        engine_of(running_server, max_retries=0).check_chat(thinks=thinks)


def test_a_refusal_that_the_pattern_did_not_cause_is_not_blamed_on_it():
    constrained = ChatRequest(REQUEST.messages, 8, pattern=r"\[\d\]")
    with running(script=[refusal(400, "no such user"), refusal(400, "no such user")]) as server:
        refused, _ = chat_in_turn(engine_of(server), constrained, constrained)

    assert "no such user" in refused.error
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


def test_a_score_of_a_prompt_that_came_from_a_cache_in_part_is_an_error():
    """Servers answer so when prefix caching is on: the score depends on what was asked before."""
    answer = scored({"prompt": "abcd e"})
    answer["usage"]["prompt_tokens_details"] = {"cached_tokens": 4}
    with running(script=[(200, answer, {})]) as server:
        (found,) = ask(engine_of(server), LikelihoodRequest("abcd", " e"))

    assert (found.finish_reason, math.isnan(found.mean_logprob)) == ("error", True)
    assert found.error.startswith("4 tokens of a scored prompt came from the engine's prefix cache")


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


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "socks://127.0.0.1:1", "nonsense://x"])
def test_a_proxy_that_cannot_be_used_is_a_configuration_error_with_the_way_out(monkeypatch, proxy):
    monkeypatch.setenv("ALL_PROXY", proxy)

    with pytest.raises(ConfigError, match=r"ALL_PROXY.*cannot be used.*unset it, set NO_PROXY"):
        ServerConnection(ServerConfig(kind="server", model="m", base_url="http://127.0.0.1:9/v1"))
