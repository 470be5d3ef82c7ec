"""OpenAI's wire, as servers of that shape speak it, kinder and less kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO

import numpy as np
import pytest
from PIL import Image as Pillow

from jinaclip import (
    AuthenticationError,
    ConfigError,
    JinaClip,
    truncate,
)
from jinaclip.backends.api.wires import openai
from jinaclip.backends.api.wires.base import Reason
from jinaclip.errors import ItemError, QuotaError
from jinaclip.specs import JINA_CLIP_V2
from jinaclip.testing import expected_vector
from tests.wires.services import Asked, Said, Service, refusal

Make = Callable[..., JinaClip]


@pytest.fixture
def make(openai_service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    for name in ("JINA_API_KEY", "JINAAI_API_KEY", "JINACLIP_API_KEY", "JINACLIP_CACHE"):
        monkeypatch.delenv(name, raising=False)
    openai_service.reset()
    made: list[JinaClip] = []

    def make(model: str = "jina-clip-v2", **options: object) -> JinaClip:
        made.append(JinaClip(model, **{"base_url": openai_service.url, "wire": "openai", "max_retries": 0, **options}))
        return made[-1]

    yield make
    for clip in made:
        clip.close()


def replace_data(change: Callable[[dict], object], service: Service) -> None:
    """Lets the next answer be another."""

    def answer(asked: Asked) -> Said:
        said = service.answer(asked)
        change(said.body)
        return said

    service.replies.append(answer)


def test_a_request_holds_model_input_and_encoding_alone(make: Make, openai_service: Service) -> None:
    make("jinaai/jina-clip-v2").embed_documents(["a", "b"])
    (asked,) = openai_service.asked
    assert asked.path == "/v1/embeddings"
    assert asked.body == {"model": "jinaai/jina-clip-v2", "encoding_format": "base64", "input": ["a", "b"]}
    assert "authorization" not in asked.headers


def test_the_instruction_goes_before_a_query_and_before_no_document(make: Make, openai_service: Service) -> None:
    clip = make()
    vector = clip.embed_query("red")
    clip.embed_documents(["red"])
    assert [asked.body["input"] for asked in openai_service.asked] == [
        [JINA_CLIP_V2.query_instruction + "red"],
        ["red"],
    ]
    assert np.allclose(vector, expected_vector("text", JINA_CLIP_V2.query_instruction + "red"), atol=1e-6)


def test_an_image_is_an_object_with_a_data_uri_and_never_a_text(make: Make, openai_service: Service) -> None:
    image = Pillow.new("RGB", (8, 8), "red")
    assert make().embed(["a text", image]).ok.all()
    assert make(image_quality=90).embed([image]).ok.all()
    sent = [one for asked in openai_service.asked for one in asked.body["input"]]
    assert [one for one in sent if isinstance(one, str)] == ["a text"]
    lossless, lossy = [one["image"] for one in sent if isinstance(one, dict)]
    assert lossless.startswith("data:image/png;base64,iVBOR")
    assert lossy.startswith("data:image/jpeg;base64,/9j/")


def test_whole_vectors_are_cut_and_normalised_here(make: Make, openai_service: Service) -> None:
    whole = make().embed_documents(["a", "b"])

    def double(body: dict) -> None:
        for item in body["data"]:
            item["embedding"] = openai.pybase64.b64encode(
                3 * np.frombuffer(openai.pybase64.b64decode(item["embedding"]), "<f4")
            ).decode()

    replace_data(double, openai_service)
    narrow = make(dimensions=64).embed_documents(["a", "b"])
    assert "dimensions" not in openai_service.asked[-1].body
    assert np.allclose(narrow, truncate(whole, 64), atol=1e-6)


def test_numbers_are_read_where_a_server_knows_no_base64_and_a_bill_may_be_missing(
    make: Make, openai_service: Service
) -> None:
    expected = make().embed_documents(["a", "b"])

    def as_numbers(body: dict) -> None:
        del body["usage"]
        for item in body["data"]:
            item["embedding"] = np.frombuffer(openai.pybase64.b64decode(item["embedding"]), "<f4").tolist()
        body["data"].reverse()

    replace_data(as_numbers, openai_service)
    clip = make()
    assert (clip.embed_documents(["a", "b"]) == expected).all()
    assert clip.usage.tokens > 0, "an answer without a bill costs its estimate"


def test_vectors_of_another_width_name_model_and_address(make: Make, openai_service: Service) -> None:
    def shorten(body: dict) -> None:
        for item in body["data"]:
            item["embedding"] = [1.0] * 8

    for _ in range(4):
        replace_data(shorten, openai_service)
    with pytest.raises(ConfigError, match="vectors of 8 numbers where 1024 were asked for"):
        make().embed_documents(["a"])


REFUSALS = {
    "key": (
        refusal(401, "Incorrect API key", "invalid_request_error", "invalid_api_key"),
        AuthenticationError,
        "none was sent",
    ),
    "quota": (
        refusal(429, "You exceeded your quota", "insufficient_quota", "insufficient_quota"),
        QuotaError,
        "balance",
    ),
    "model": (
        refusal(404, "The model does not exist", "invalid_request_error", "model_not_found"),
        ConfigError,
        "model",
    ),
    "length": (
        refusal(400, "maximum context length is 8192 tokens", "invalid_request_error", "context_length_exceeded"),
        ItemError,
        "context_length_exceeded",
    ),
    "setting": (
        refusal(400, "Unknown", "invalid_request_error", param="encoding_format"),
        ConfigError,
        "encoding_format",
    ),
    "Jina's shape": (Said(403, {"detail": "empty", "code": "AUTHZ_INSUFFICIENT_BALANCE"}), QuotaError, "balance"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_means_what_its_code_says(make: Make, openai_service: Service, name: str) -> None:
    said, error, words = REFUSALS[name]
    openai_service.replies.extend([lambda _: said] * 4)
    with pytest.raises(error, match=words) as caught:
        make().embed_documents(["a"])
    assert "truncate=True" not in str(caught.value)


def test_a_rate_limit_is_waited_for(make: Make, openai_service: Service) -> None:
    limit = refusal(429, "Rate limit reached", "tokens", "rate_limit_exceeded", **{"Retry-After": "0.05"})
    openai_service.replies.append(lambda _: limit)
    assert make().embed_documents(["a"]).shape == (1, 1024)
    assert len(openai_service.asked) == 2


def test_a_refusal_names_limit_input_and_request() -> None:
    def read(**fields: object):
        return openai.read_refusal(openai.orjson.dumps({"error": fields}), 429, {"x-request-id": "r1"})

    assert read(type="tokens", code="rate_limit_exceeded").reason is Reason.TOKENS
    assert read(type="requests", code=None).reason is Reason.REQUESTS
    assert (read(param="input[3]").index, read(param="input[3]").field) == (3, None)
    assert (read(param="input").index, read(param="dimensions").field) == (None, "dimensions")
    assert read(message=3, code=["x"], param={}) == openai.Refusal("", "", "r1", None, None, None, 429)


def test_files_of_every_kind_are_named_by_what_they_hold() -> None:
    for kind in ("PNG", "JPEG", "WEBP", "GIF"):
        buffer = BytesIO()
        Pillow.new("RGB", (2, 2)).save(buffer, kind)
        assert openai.image_input(buffer.getvalue())["image"].startswith(f"data:image/{kind.lower()};base64,")


def test_a_server_without_keys_gets_none_and_one_with_keys_the_one_that_is_meant_for_it(
    make: Make, openai_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    make().embed_documents(["a"])
    monkeypatch.setenv("JINACLIP_API_KEY", "mine")
    make().embed_documents(["a"])
    make(api_key="given").embed_documents(["a"])
    assert [asked.headers.get("authorization") for asked in openai_service.asked] == [
        None,
        "Bearer mine",
        "Bearer given",
    ]
