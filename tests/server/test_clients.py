"""The clients that people have, unchanged, against a real server: the vectors are those of the same weights at home.

What a client sends is its own affair: older names of fields, images as `bytes`, `url` or a data URI in a plain string.
"""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jinaclip import JinaClip
from jinaclip.testing import Server
from tests.articles import Article
from tests.needs import skip_without
from tests.server.processes import Serve, gateway_to, serving

MODEL = "jina-clip-v2"
WIDTH = 128
QUERY = "a red dress"
KEY = "jina_test_of_a_client"
QUERY_TASK = "retrieval.query"
SAME = 1e-5
NO_FETCHING = "this server fetches no images; send the file itself, in base64"
TOKENS = "token ids"


@pytest.fixture(scope="module")
def local(catalogue_checkpoint: str) -> Iterator[JinaClip]:
    """The same weights in this process."""
    with JinaClip(catalogue_checkpoint, backend="local", device="cpu", cache=False) as clip:
        yield clip


@pytest.fixture(scope="module")
def titles(catalogue: list[Article]) -> list[str]:
    return [*(article.title for article in catalogue[:4]), "格纹衬衫"]


@pytest.fixture(scope="module")
def paths(catalogue: list[Article]) -> list[str]:
    return [str(article.picture) for article in catalogue[:3]]


@pytest.fixture(scope="module")
def documents(local: JinaClip, titles: list[str]) -> np.ndarray:
    return local.embed_documents(titles)


@pytest.fixture(scope="module")
def pictures(local: JinaClip, paths: list[str]) -> np.ndarray:
    return local.embed_images(map(Path, paths))


@pytest.fixture(scope="module")
def query(local: JinaClip) -> np.ndarray:
    return local.embed_query(QUERY)


@pytest.fixture(scope="module")
def locked(modelled: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A server that wants a key which nobody has; it starts in a moment, as it has no weights."""
    folder = tmp_path_factory.mktemp("locked")
    keys = folder / "keys"
    keys.write_text(f"{'0' * 64} somebody\n")
    keys.chmod(0o600)
    with serving(folder / "log", *gateway_to(modelled.url), "--keys", str(keys)) as running:
        yield running


def assert_same(found: Any, expected: np.ndarray) -> None:
    rows = np.asarray(found, np.float32)
    assert rows.shape == expected.shape
    assert np.abs(rows - expected).max() <= SAME


# -- openai-python


@pytest.fixture(scope="module")
def openai(served: Serve) -> Any:
    skip_without("openai")
    from openai import OpenAI

    with OpenAI(base_url=f"{served.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def vectors_of(answer: Any) -> list[list[float]]:
    return [row.embedding for row in sorted(answer.data, key=lambda row: row.index)]


def test_openai_gets_lists_of_floats(openai: Any, titles: list[str], documents: np.ndarray) -> None:
    answer = openai.embeddings.create(model=MODEL, input=titles, encoding_format="float")
    assert_same(vectors_of(answer), documents)
    assert answer.usage.total_tokens > len(titles)
    assert answer.model == MODEL


def test_openai_asks_for_base64_unless_told_and_decodes_it(
    openai: Any, titles: list[str], documents: np.ndarray
) -> None:
    assert_same(vectors_of(openai.embeddings.create(model=MODEL, input=titles)), documents)


def test_openai_gets_base64_as_such(openai: Any, titles: list[str], documents: np.ndarray) -> None:
    answer = openai.embeddings.create(model=MODEL, input=titles, encoding_format="base64")
    assert_same([np.frombuffer(base64.b64decode(text), "<f4") for text in vectors_of(answer)], documents)


def test_openai_may_send_a_single_string_and_say_who_its_user_is(
    openai: Any, titles: list[str], documents: np.ndarray
) -> None:
    answer = openai.embeddings.create(model=MODEL, input=titles[0], user="somebody")
    assert_same(vectors_of(answer), documents[:1])


def test_openai_gets_the_dimensions_that_it_asks_for(openai: Any, titles: list[str], catalogue_checkpoint: str) -> None:
    answer = openai.embeddings.create(model=MODEL, input=titles, dimensions=64)
    with JinaClip(catalogue_checkpoint, backend="local", device="cpu", dimensions=64, cache=False) as clip:
        assert_same(vectors_of(answer), clip.embed_documents(titles))


def test_openai_says_by_task_that_a_text_is_a_query(openai: Any, query: np.ndarray, local: JinaClip) -> None:
    answer = openai.embeddings.create(model=MODEL, input=QUERY, extra_body={"task": QUERY_TASK})
    assert_same(vectors_of(answer), query[None])
    assert np.abs(query - local.embed_documents([QUERY])[0]).max() > 100 * SAME


def test_openai_may_send_images_beside_texts(
    openai: Any, titles: list[str], paths: list[str], documents: np.ndarray, pictures: np.ndarray
) -> None:
    encoded = base64.b64encode(Path(paths[0]).read_bytes()).decode()
    mixed: Any = [titles[0], {"image": f"data:image/png;base64,{encoded}"}, {"image": encoded}]
    answer = openai.embeddings.create(model=MODEL, input=mixed)
    assert_same(vectors_of(answer), np.stack([documents[0], pictures[0], pictures[0]]))


async def test_openai_from_an_event_loop(served: Serve, titles: list[str], documents: np.ndarray) -> None:
    skip_without("openai")
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key=KEY, max_retries=0) as client:
        ask = client.embeddings.create
        answers = await asyncio.gather(*(ask(model=MODEL, input=title) for title in titles))
    assert_same([vectors_of(answer)[0] for answer in answers], documents)


def test_openai_lists_the_model_and_its_space(openai: Any, local: JinaClip) -> None:
    (model,) = openai.models.list().data
    assert (model.id, model.space) == (MODEL, local.space)
    assert openai.models.retrieve(MODEL).id == MODEL


@pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2], [3]]], ids=["one", "list"])
def test_openai_is_told_that_token_ids_are_not_taken(openai: Any, tokens: Any) -> None:
    from openai import UnprocessableEntityError

    with pytest.raises(UnprocessableEntityError, match=TOKENS) as refused:
        openai.embeddings.create(model=MODEL, input=tokens)
    assert (refused.value.param, refused.value.code) == ("input", "INPUT_INVALID")


def test_openai_is_told_which_input_is_no_image(openai: Any) -> None:
    from openai import APIStatusError

    broken: Any = ["a text", {"image": base64.b64encode(b"not an image").decode()}]
    with pytest.raises(APIStatusError) as refused:
        openai.embeddings.create(model=MODEL, input=broken)
    assert refused.value.param == "input.1"
    assert "not an image" not in str(refused.value)


def test_openai_is_told_the_name_of_the_model(openai: Any) -> None:
    from openai import BadRequestError

    with pytest.raises(BadRequestError, match=f"this is '{MODEL}'"):
        openai.embeddings.create(model="text-embedding-3-small", input="a text")


def test_openai_is_told_that_its_key_is_not_known(locked: Serve) -> None:
    skip_without("openai")
    from openai import AuthenticationError, OpenAI

    client = OpenAI(base_url=f"{locked.url}/v1", api_key=KEY, max_retries=0)
    with client, pytest.raises(AuthenticationError, match="key") as refused:
        client.embeddings.create(model=MODEL, input="a text")
    assert refused.value.code == "AUTH_INVALID_API_KEY"
    assert KEY not in str(refused.value)


# -- langchain-community


@pytest.fixture
def langchain(served: Serve, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Its address is a constant of its module, and nothing of its public surface changes that."""
    skip_without("langchain_community")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the whole package
        from langchain_community.embeddings import jina

    monkeypatch.setattr(jina, "JINA_API_URL", f"{served.url}/v1/embeddings")
    embeddings = jina.JinaEmbeddings(jina_api_key=KEY, model_name=MODEL)
    yield embeddings
    embeddings.session.close()


def test_langchain_community_embeds_texts(langchain: Any, titles: list[str], documents: np.ndarray) -> None:
    assert_same(langchain.embed_documents(titles), documents)
    assert_same(langchain.embed_query(titles[0]), documents[0])  # it has no task: its queries are documents


def test_langchain_community_embeds_files_of_images(langchain: Any, paths: list[str], pictures: np.ndarray) -> None:
    assert_same(langchain.embed_images(paths), pictures)


def test_langchain_community_raises_what_the_server_says(langchain: Any) -> None:
    with pytest.raises(RuntimeError, match=NO_FETCHING):
        langchain.embed_images(["https://shop.example/dress.jpg"])
    langchain.model_name = "jina-embeddings-v3"
    with pytest.raises(RuntimeError, match=f"this is '{MODEL}'"):
        langchain.embed_query(QUERY)


# -- llama-index-embeddings-jinaai


@pytest.fixture
def llamaindex(served: Serve) -> Any:
    """Makes embeddings. The address is a default of a class that they make themselves, so it is set there."""
    skip_without("llama_index.embeddings.jinaai")
    from llama_index.embeddings.jinaai import JinaEmbedding

    made = []

    def make(**options: Any) -> Any:
        embedding = JinaEmbedding(model=MODEL, api_key=KEY, **options)
        embedding._api.api_url = f"{served.url}/v1/embeddings"
        made.append(embedding._api._session)
        return embedding

    yield make
    for session in made:
        session.close()


def test_llamaindex_jinaai_embeds_texts(llamaindex: Any, titles: list[str], documents: np.ndarray) -> None:
    embedding = llamaindex()
    assert_same(embedding.get_text_embedding_batch(titles), documents)
    assert_same(embedding.get_query_embedding(titles[0]), documents[0])


def test_llamaindex_jinaai_embeds_queries_of_fewer_dimensions(llamaindex: Any, catalogue_checkpoint: str) -> None:
    found = llamaindex(task=QUERY_TASK, dimensions=64).get_query_embedding(QUERY)
    with JinaClip(catalogue_checkpoint, backend="local", device="cpu", dimensions=64, cache=False) as clip:
        assert_same(found, clip.embed_query(QUERY))


async def test_llamaindex_jinaai_embeds_texts_from_an_event_loop(
    llamaindex: Any, titles: list[str], documents: np.ndarray
) -> None:
    assert_same(await llamaindex().aget_text_embedding_batch(titles), documents)


@pytest.mark.parametrize("encoding", ["binary", "ubinary"])
def test_llamaindex_jinaai_reads_the_signs_of_the_numbers(
    llamaindex: Any, titles: list[str], documents: np.ndarray, encoding: str
) -> None:
    found = llamaindex(encoding_documents=encoding).get_text_embedding_batch(titles)
    clear = np.abs(documents) > SAME
    assert ((np.asarray(found) == 1) == (documents > 0))[clear].all()


def test_llamaindex_jinaai_embeds_files_of_images(llamaindex: Any, paths: list[str], pictures: np.ndarray) -> None:
    assert_same(llamaindex().get_image_embedding_batch(paths), pictures)


def test_llamaindex_jinaai_raises_what_the_server_says(llamaindex: Any) -> None:
    with pytest.raises(RuntimeError, match=NO_FETCHING):
        llamaindex().get_image_embedding("https://shop.example/dress.jpg")
    with pytest.raises(RuntimeError, match=r"task must be 'retrieval\.query'"):
        llamaindex(task="text-matching").get_text_embedding(QUERY)


# -- jina-haystack


@pytest.fixture
def haystack(served: Serve) -> dict[str, Any]:
    """What its components take."""
    skip_without("haystack_integrations.components.embedders.jina")
    from haystack.utils import Secret

    return {"api_key": Secret.from_token(KEY), "model": MODEL, "base_url": f"{served.url}/v1/embeddings"}


def test_haystack_embeds_texts_and_queries(
    haystack: dict[str, Any], titles: list[str], documents: np.ndarray, query: np.ndarray
) -> None:
    from haystack_integrations.components.embedders.jina import JinaTextEmbedder

    answer = JinaTextEmbedder(**haystack).run(titles[0])
    assert_same(answer["embedding"], documents[0])
    assert answer["meta"]["model"] == MODEL
    assert_same(JinaTextEmbedder(**haystack, task=QUERY_TASK).run(QUERY)["embedding"], query)


async def test_haystack_embeds_documents_in_batches(
    haystack: dict[str, Any], titles: list[str], documents: np.ndarray
) -> None:
    from haystack import Document
    from haystack_integrations.components.embedders.jina import JinaDocumentEmbedder

    embedder = JinaDocumentEmbedder(**haystack, batch_size=2, progress_bar=False)
    held = [Document(content=title) for title in titles]
    for answer in (embedder.run(held), await embedder.run_async(held)):
        assert_same([document.embedding for document in answer["documents"]], documents)
        assert answer["meta"]["usage"]["total_tokens"] > len(titles)


def test_haystack_embeds_images_which_it_sends_as_plain_strings(
    haystack: dict[str, Any], paths: list[str], pictures: np.ndarray
) -> None:
    from haystack import Document
    from haystack_integrations.components.embedders.jina import JinaDocumentImageEmbedder

    held = [Document(meta={"file_path": path}) for path in paths]
    found = JinaDocumentImageEmbedder(**haystack).run(held)["documents"]
    assert_same([document.embedding for document in found], pictures)


def test_haystack_raises_what_the_server_says(haystack: dict[str, Any]) -> None:
    from haystack_integrations.components.embedders.jina import JinaTextEmbedder

    with pytest.raises(RuntimeError, match="dimensions must be a whole number"):
        JinaTextEmbedder(**haystack, dimensions=4096).run(QUERY)


# -- curl


def test_curl_gets_vectors_for_the_json_of_a_manual(served: Serve, titles: list[str], documents: np.ndarray) -> None:
    body = json.dumps({"model": MODEL, "input": titles})
    command = ["curl", "--silent", "--fail", f"{served.url}/v1/embeddings", "--json", body]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    assert_same([row["embedding"] for row in answer["data"]], documents)


# -- our own


HOSTS = ("langchain", "llamaindex", "haystack")


@pytest.mark.slow
@pytest.mark.parametrize("host", HOSTS)
def test_our_adapters_over_the_server_give_the_vectors_and_the_order_of_those_at_home(
    host: str, served: Serve, local: JinaClip, catalogue: list[Article], catalogue_checkpoint: str
) -> None:
    from tests.contract import test_frameworks as contract

    shop = contract.Shop(catalogue[:6])
    at_home = {"model": catalogue_checkpoint, "backend": "local", "device": "cpu", "image_resize": "none"}
    over_there = {"base_url": served.url, "api_key": KEY, "dimensions": WIDTH, "image_resize": "none"}
    expected = contract.core(shop, at_home)
    found = contract.HOSTS[host](shop, {"model": MODEL, "space": local.space, **over_there})
    for name, rows in expected.vectors.items():
        assert_same(found.vectors[name], rows)
    assert found.best == expected.best


async def test_our_core_over_the_server_sends_tiles_that_the_model_sees_alike(
    served: Serve, local: JinaClip, titles: list[str], paths: list[str], documents: np.ndarray, pictures: np.ndarray
) -> None:
    options: dict[str, Any] = {"api_key": KEY, "dimensions": WIDTH, "space": local.space, "cache": False}
    async with JinaClip(MODEL, base_url=served.url, **options) as clip:
        assert_same(await clip.aembed_documents(titles), documents)
        assert_same(await clip.aembed_query(QUERY), local.embed_query(QUERY))
        assert (
            np.abs(await clip.aembed_images(map(Path, paths)) - pictures).max() < 0.1
        )  # tiles of 512, shrunk once more
