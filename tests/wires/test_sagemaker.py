"""SageMaker's wire, before a server that signs each request again with botocore and compares."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest
from PIL import Image as Pillow

from jinaclip import AuthenticationError, ConfigError, Image, JinaClip
from jinaclip.backends.api.wires import sagemaker
from jinaclip.errors import ItemError, MissingDependencyError, ServerError
from jinaclip.testing import expected_vector
from tests.wires.services import ACCESS_KEY, ENDPOINT, REGION, SECRET_KEY, Said, Service

Make = Callable[..., JinaClip]
BASE = f"sagemaker://{REGION}/{ENDPOINT}"


@pytest.fixture
def make(sagemaker_service: Service, aws: Callable[[Service], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    aws(sagemaker_service.reset())
    monkeypatch.delenv("JINACLIP_CACHE", raising=False)
    monkeypatch.setenv("JINA_API_KEY", "jina_test_of_the_environment")
    made: list[JinaClip] = []

    def make(model: str = "jina-clip-v2", **options: object) -> JinaClip:
        made.append(JinaClip(model, **{"base_url": BASE, "max_retries": 0, **options}))
        return made[-1]

    yield make
    for clip in made:
        clip.close()


def test_a_request_is_signed_and_holds_no_key_of_jina(make: Make, sagemaker_service: Service) -> None:
    vectors = make(dimensions=256).embed_documents(["a", "b"])
    (asked,) = sagemaker_service.asked
    assert asked.path == f"/endpoints/{ENDPOINT}/invocations"
    assert asked.body == {"data": [{"text": "a"}, {"text": "b"}], "parameters": {"dimensions": 256}}
    assert asked.headers["authorization"].startswith(f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/")
    assert "jina_test" not in str(asked.headers)
    assert np.allclose(vectors[0], expected_vector("text", "a", dimensions=256), atol=1e-6)


def test_queries_name_their_task_and_documents_nothing(make: Make, sagemaker_service: Service) -> None:
    clip = make()
    assert np.allclose(clip.embed_query("a"), expected_vector("text", "a", task="retrieval.query"), atol=1e-6)
    clip.embed_documents(["a"])
    assert [asked.body.get("parameters") for asked in sagemaker_service.asked] == [{"task": "retrieval.query"}, None]


def test_raw_vectors_come_as_the_container_makes_them_and_others_at_length_1(make: Make) -> None:
    raw, usual = make(normalized=False).embed_documents(["a"]), make().embed_documents(["a"])
    assert abs(np.linalg.norm(raw) - 1) > 0.1
    assert np.allclose(raw / np.linalg.norm(raw), usual, atol=1e-6)


def test_bills_of_items_add_up(make: Make) -> None:
    clip = make()
    clip.embed_documents(["one two three", "four"])
    assert clip.usage.requests == 1 and clip.usage.tokens > 4


def test_images_go_by_the_field_that_the_address_names(make: Make, sagemaker_service: Service) -> None:
    image = Pillow.new("RGB", (8, 8), "red")
    address = Image.from_url("https://example.org/a.png")
    older = make(url_mode="forward").embed([image, address, "a text"])
    assert fields_of(sagemaker_service) == [["bytes"], ["text"], ["url"]]
    sagemaker_service.reset()
    newer = make(url_mode="forward", base_url=f"{BASE}?images=image").embed([image, address, "a text"])
    assert fields_of(sagemaker_service) == [["image"], ["image"], ["text"]]
    assert older.ok.all() and (older.vectors == newer.vectors).all()


def fields_of(service: Service) -> list[list[str]]:
    """What each item was sent as, in however many requests."""
    return sorted([*item] for asked in service.asked for item in asked.body["data"])


def test_the_field_of_images_does_not_change_the_space(make: Make) -> None:
    assert make().space == make(base_url=f"{BASE}?images=image").space != make(base_url=f"{BASE}-2").space


def test_jinas_own_envelope_is_read_by_its_indices() -> None:
    rows = np.eye(3, 4, dtype=np.float32)
    data = [{"index": i, "object": "embedding", "embedding": rows[i].tolist()} for i in (2, 0, 1)]
    answer = sagemaker.read_answer(orjson.dumps({"data": data, "usage": {"total_tokens": 7}}), 3, 4)
    assert (answer.rows == rows).all() and answer.tokens == 7


@pytest.mark.parametrize(
    "data",
    [
        [{"embedding": [1.0, 0.0]}],
        [{"embedding": [1.0, 0.0]}] * 3,
        [{"embedding": [1.0, 0.0]}, 3],
        [{"embedding": [1.0, 0.0], "index": 1}, {"embedding": [1.0, 0.0]}],
        [{"embedding": [1.0, 0.0], "index": 1}] * 2,
    ],
    ids=["too few", "too many", "no object", "one index", "one twice"],
)
def test_an_answer_that_does_not_say_whose_rows_they_are_is_not_read(data: list[object]) -> None:
    with pytest.raises(sagemaker.WrongIndices):
        sagemaker.read_answer(orjson.dumps({"data": data}), 2, 2)


def test_a_wrong_secret_is_refused_and_neither_it_nor_the_token_is_shown(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong, token = "wrong" + SECRET_KEY, "the/session+token/of+this+test"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", wrong)
    monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    with pytest.raises(AuthenticationError, match="sagemaker:InvokeEndpoint") as caught:
        make().embed_documents(["a"])
    assert "Canonical String" in str(caught.value), "the server repeats what it signed"
    assert token not in str(caught.value) and wrong not in str(caught.value)


def test_without_credentials_nothing_is_sent(make: Make, sagemaker_service: Service, monkeypatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AuthenticationError, match="no AWS credentials"):
        make().embed_documents(["a"])
    assert not sagemaker_service.asked


def test_each_attempt_is_signed_anew_with_the_credentials_of_that_moment(
    make: Make, sagemaker_service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hasty: None
) -> None:
    """A program gives credentials that are about to expire, each time with another token."""
    program, count = tmp_path / "credentials.py", tmp_path / "count"
    program.write_text(
        "import datetime, json, pathlib\n"
        f"count = pathlib.Path({str(count)!r})\n"
        "count.write_text(count.read_text() + '+' if count.exists() else '+')\n"
        "soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=60)\n"
        f"print(json.dumps(dict(Version=1, AccessKeyId={ACCESS_KEY!r}, SecretAccessKey={SECRET_KEY!r},\n"
        "    SessionToken=f'token-{len(count.read_text())}', Expiration=soon.isoformat())))\n"
    )
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {sys.executable} {program}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    sagemaker_service.replies.append(
        lambda _: Said(503, {"message": "busy"}, {"x-amzn-errortype": "ServiceUnavailable"})
    )
    make(max_retries=1).embed_documents(["a"])
    first, second = (asked.headers["x-amz-security-token"] for asked in sagemaker_service.asked)
    assert first != second


def wrapped(status: int, message: str, code: str = "") -> Said:
    """What a container said, as SageMaker wraps it."""
    original = orjson.dumps({"detail": message, "code": code}).decode()
    return Said(424, {"OriginalStatusCode": status, "OriginalMessage": original}, {"x-amzn-errortype": "ModelError"})


REFUSALS = {
    "of an input": (wrapped(400, "too long", "INPUT_TOKEN_LIMIT_EXCEEDED"), ItemError, "too long"),
    "of a container that failed": (wrapped(500, "out of memory"), ServerError, "HTTP 500: out of memory"),
    "of an endpoint": (
        Said(400, {"message": "Endpoint x of account 1 not found."}, {"x-amzn-errortype": "ValidationError"}),
        ConfigError,
        "not found",
    ),
    "of a user": (
        Said(403, {"Message": "is not authorized"}, {"x-amzn-errortype": "AccessDeniedException:http://a"}),
        AuthenticationError,
        "AccessDeniedException",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_what_it_wraps(make: Make, sagemaker_service: Service, name: str) -> None:
    said, error, words = REFUSALS[name]
    sagemaker_service.replies.extend([lambda _: said] * 4)
    with pytest.raises(error, match=words) as caught:
        make().embed_documents(["a"])
    assert "truncate=True" not in str(caught.value), "which this wire cannot say"


def test_throttling_which_comes_as_400_is_waited_for(make: Make, sagemaker_service: Service, hasty: None) -> None:
    slow = Said(400, {"message": "Rate exceeded"}, {"x-amzn-errortype": "ThrottlingException", "Retry-After": "0.05"})
    sagemaker_service.replies.append(lambda _: slow)
    assert make().embed_documents(["a"]).shape == (1, 1024)


def test_a_request_stays_under_five_megabytes(make: Make, sagemaker_service: Service) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (8, 512, 512, 3), np.uint8)  # 0.8 MB each, as PNG
    assert make().embed_images(list(noise)).shape == (8, 1024)
    assert max(len(asked.raw) for asked in sagemaker_service.asked) < 5_000_000
    assert len(sagemaker_service.asked) > 1


def test_a_model_is_named_by_the_caller_and_not_by_the_endpoint(make: Make) -> None:
    assert make("jina-clip-v1", base_url=f"sagemaker://{REGION}/jina-clip-v2").spec.name == "jina-clip-v1"


def test_botocore_is_imported_with_the_first_object_that_needs_it_and_its_extra_is_named() -> None:
    code = (
        "import sys, jinaclip\n"
        "jinaclip.JinaClip(api_key='jina_x', base_url='http://a.b', wire='openai')\n"
        "assert 'botocore' not in sys.modules\n"
        "sys.modules['botocore'] = None\n"
        "try:\n    jinaclip.JinaClip(base_url='sagemaker://eu-west-1/a')\n"
        "except jinaclip.MissingDependencyError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'jinaclip[sagemaker]'" in done.stdout
    assert issubclass(MissingDependencyError, ImportError)


def test_addresses_are_those_that_botocore_knows(monkeypatch: pytest.MonkeyPatch, aws: object) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", raising=False)
    assert sagemaker.url("sagemaker://eu-west-1/a") == (
        "https://runtime.sagemaker.eu-west-1.amazonaws.com/endpoints/a/invocations"
    )
    assert ".amazonaws.com.cn/" in sagemaker.url("sagemaker://cn-north-1/a")
