"""``POST /v1/embeddings``, asked with the official ``openai`` package."""

import base64
import struct

import openai
import pytest
from fakes import HashEncoder, OverlapSearcher
from fastapi.testclient import TestClient

from winnow.api.access import LocalAccess
from winnow.api.app import build_app
from winnow.api.config import ApiConfig
from winnow.api.keys import create_key
from winnow.api.prometheus import PrometheusMetrics
from winnow.api.protocol import NotReadyError

URL = "http://localhost/v1"


def serve(searcher, config=ApiConfig(), *, keys=None):
    app = build_app(searcher, config, access=LocalAccess(keys), versions=None, metrics=PrometheusMetrics())
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


def ask_with_openai(http, *, api_key="none"):
    return openai.OpenAI(base_url=URL, api_key=api_key, http_client=http, max_retries=0)


@pytest.fixture(scope="module")
def http():
    return serve(OverlapSearcher([], version="v1"))


@pytest.fixture(scope="module")
def client(http):
    return ask_with_openai(http)


def expected(*texts, side="query"):
    return HashEncoder(dimension=8).encode([f"{side} {text}" for text in texts], side=side).tolist()


def test_the_official_client_gets_the_vectors_of_a_list_in_order(client):
    answer = client.embeddings.create(model="winnow", input=["copy a file", "sort"])

    assert [item.embedding for item in answer.data] == expected("copy a file", "sort")
    assert [item.index for item in answer.data] == [0, 1]
    assert (answer.object, answer.data[0].object, answer.model) == ("list", "embedding", "v1")
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (4, 4)


def test_the_official_client_may_ask_for_numbers_and_for_one_text(client):
    answer = client.embeddings.create(model="v1", input="copy a file", encoding_format="float", user="somebody")

    assert answer.data[0].embedding == pytest.approx(expected("copy a file")[0], abs=1e-7)


def test_passages_are_encoded_as_passages(client):
    answer = client.embeddings.create(model="winnow", input="sort", extra_body={"input_type": "passage"})

    assert answer.data[0].embedding == expected("sort", side="passage")[0]


def test_base64_is_float32_in_little_endian(http):
    reply = http.post("/v1/embeddings", json={"model": "winnow", "input": "sort", "encoding_format": "base64"})

    packed = base64.b64decode(reply.json()["data"][0]["embedding"])
    assert list(struct.unpack("<8f", packed)) == expected("sort")[0]


def test_numbers_are_the_vector_to_the_last_bit(http):
    reply = http.post("/v1/embeddings", json={"model": "winnow", "input": "a b c d e"})

    (vector,) = (item["embedding"] for item in reply.json()["data"])
    assert struct.pack("<8f", *vector) == struct.pack("<8f", *expected("a b c d e")[0])


def test_the_encoders_own_dimension_may_be_asked_for(client):
    answer = client.embeddings.create(model="winnow", input="sort", dimensions=8)

    assert len(answer.data[0].embedding) == 8


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"input": ""}, "input.0 is empty"),
        ({"input": ["sort", " "]}, "input.1 is empty"),
        ({"input": []}, "at least 1 item"),
        ({"input": [1, 2, 3]}, "token ids are not taken"),
        ({"input": [[1, 2], [3]]}, "token ids are not taken"),
        ({"input": ["x"] * 65}, "input: 65 in one request, at most 64"),
        ({"input": "x" * 20_001}, "input.0 has 20001 characters, at most 20000"),
        ({"input": "sort", "dimensions": 4}, "dimensions: vectors have 8 and are not cut, got 4"),
        ({"input": "sort", "dimensions": 0}, "dimensions: Input should be greater"),
        ({"input": "sort", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "sort", "input_type": "title"}, "input_type"),
        ({"input": "sort", "truncate": "no"}, "truncate: Input should be a valid boolean"),
        ({"input": "sort", "truncation": True}, "truncation is not a known field"),
        ({}, "input is missing"),
    ],
)
def test_what_cannot_be_embedded_is_refused_and_the_client_knows_why(http, body, message):
    client = ask_with_openai(http)

    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.post("/embeddings", body={"model": "winnow", **body}, cast_to=object)

    assert caught.value.type == "invalid_request"
    assert message in caught.value.body["message"]


LONG = "word " * 101


@pytest.mark.parametrize(("texts", "truncated"), [(["sort"], 0), ([LONG, "sort", LONG], 2)])
def test_an_answer_says_how_many_texts_were_cut(http, texts, truncated):
    reply = http.post("/v1/embeddings", json={"model": "winnow", "input": texts})

    assert reply.json()["truncated"] == truncated


def test_where_nothing_may_be_cut_a_text_that_is_too_long_is_refused(http):
    wanted = {"model": "winnow", "truncate": False}

    refused = http.post("/v1/embeddings", json={**wanted, "input": ["sort", LONG]})
    kept = http.post("/v1/embeddings", json={**wanted, "input": ["sort", "word " * 100]})

    assert (refused.status_code, refused.json()["error"]["type"]) == (413, "body_too_large")
    assert "input.1 has more than 100 words" in refused.json()["error"]["message"]
    assert (kept.status_code, kept.json()["truncated"]) == (200, 0)


def test_another_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError, match="'text-embedding-3' is not served; expected 'winnow' or 'v1'"):
        client.embeddings.create(model="text-embedding-3", input="sort")


def test_a_body_that_is_no_json_is_a_bad_request(http):
    client = ask_with_openai(http)

    with pytest.raises(openai.BadRequestError) as caught:
        client.post(
            "/embeddings", content=b"{", options={"headers": {"content-type": "application/json"}}, cast_to=object
        )

    assert caught.value.type == "invalid_json"


def test_a_wrong_key_is_an_authentication_error_and_the_right_one_works(tmp_path):
    token = create_key(tmp_path / "keys.json", name="app", scopes=("search",))
    http = serve(OverlapSearcher([]), keys=tmp_path / "keys.json")

    with pytest.raises(openai.AuthenticationError) as caught:
        ask_with_openai(http, api_key="wn_wrong").embeddings.create(model="winnow", input="sort")
    answer = ask_with_openai(http, api_key=token).embeddings.create(model="winnow", input="sort")

    assert caught.value.type == "unauthorized"
    assert answer.model == "v1"


def test_a_key_over_its_rate_is_a_rate_limit_error(tmp_path):
    token = create_key(tmp_path / "keys.json", name="app", scopes=("search",), rate_per_minute=1)
    client = ask_with_openai(serve(OverlapSearcher([]), keys=tmp_path / "keys.json"), api_key=token)

    client.embeddings.create(model="winnow", input="sort")
    with pytest.raises(openai.RateLimitError) as caught:
        client.embeddings.create(model="winnow", input="sort")

    assert int(caught.value.response.headers["retry-after"]) >= 1


def test_an_encoder_that_is_not_there_yet_is_an_error_to_retry():
    class LoadingSearcher(OverlapSearcher):
        async def embed(self, texts, side, *, truncate=True):
            raise NotReadyError("no version is loaded yet")

    with pytest.raises(openai.InternalServerError) as caught:
        ask_with_openai(serve(LoadingSearcher([]))).embeddings.create(model="winnow", input="sort")

    assert (caught.value.status_code, caught.value.type) == (503, "overloaded")
    assert caught.value.request_id
