"""Open files, uploads and odd names through LangChain's methods, and texts that show nothing."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from PIL import Image as Pillow
from starlette.datastructures import UploadFile

from jinaclip import ConfigError, ImagePolicy, InputError, Pair
from langchain_jinaclip import JinaClipRetriever

PIXELS = np.random.default_rng(3).integers(0, 255, (16, 16, 3), np.uint8)


@pytest.fixture
def png(tmp_path, monkeypatch):
    """The bytes of an image that lies in the working directory, under two names."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "IMG:001.png"):
        Pillow.fromarray(PIXELS).save(tmp_path / name, "PNG")
    return (tmp_path / "a.png").read_bytes()


@pytest.fixture
def forms(png, tmp_path):
    """Makes an image in five forms; what it opens is closed after the test."""
    with contextlib.ExitStack() as stack:

        def make():
            opened, received = (stack.enter_context((tmp_path / "a.png").open("rb")) for _ in range(2))
            names = ["IMG:001.png", (tmp_path / "IMG:001.png").as_uri()]
            return [opened, io.BytesIO(png), UploadFile(received), *names]

        yield make


async def test_every_method_takes_them(make, png, forms):
    one = make()
    wanted = one.embed_image(png)
    assert one.embed_images(forms()) == [wanted] * 5
    assert await one.aembed_images(forms()) == [wanted] * 5
    assert one.embed_pairs([("text", form) for form in forms()], weight=0) == one.embed_pairs(
        [("text", png)] * 5, weight=0
    )
    for form, again in zip(forms(), forms(), strict=True):
        assert one.embed_image(form) == wanted, "one vector, and not one for each line"
        assert await one.aembed_image(again) == wanted


async def test_a_page_is_a_pair_of_its_text_and_its_image(make, png):
    class Page:
        def render(self, max_pixels):
            return Pillow.open(io.BytesIO(png))

        def pair(self, weight):
            return Pair("what it says", self, weight)

    one = make()
    wanted = one.embed_pairs([("what it says", png)], weight=0.3)
    assert one.embed_pairs([Page()], weight=0.3) == await one.aembed_pairs([Page()], weight=0.3) == wanted


async def test_a_file_larger_than_the_default_cap_goes_by_the_policy(make, png):
    one = make(image_policy=ImagePolicy(max_bytes=22 * 2**20))
    large = png + bytes(21 * 2**20)
    assert await one.aembed_image(UploadFile(io.BytesIO(large))) == one.embed_image(png)


async def test_queries_and_the_tool(make, forms, tmp_path):
    one = make()
    store = InMemoryVectorStore(one)
    store.add_texts(["about it"], [{"image": "IMG:001.png"}])
    retriever = JinaClipRetriever(vectorstore=store, k=np.int64(1))
    for form, again in zip(forms(), forms(), strict=True):
        (found,) = retriever.invoke({"image": form})
        assert found.page_content == "about it"
        assert await retriever.ainvoke({"image": again}) == [found]
    for name in ("IMG:001.png", (tmp_path / "a.png").as_uri()):
        answer = retriever.as_tool().invoke({"image": name})
        assert [block["type"] for block in answer] == ["text", "image"]
    refused = retriever.as_tool().invoke({"image": "file:///etc/passwd"})
    assert "lies outside" in refused


@pytest.mark.parametrize("text", ["\u200b", "\ufeff", "\0", "\u2060\u00ad"])
async def test_a_text_that_shows_nothing_is_no_query(make, server, png, text):
    one = make()
    retriever = JinaClipRetriever(vectorstore=InMemoryVectorStore(one))
    for query in (text, {"text": text}):
        with pytest.raises(InputError, match="a query needs a text"):
            retriever.invoke(query)
    for method in (one.embed_query, lambda value: one.embed_documents([value])):
        with pytest.raises(InputError, match="blank"):
            method(text)
    assert server.ledger()["requests"] == 0


def test_numbers_of_numpy(make):
    one = make(dimensions=np.int64(64), timeout=np.float32(30), batch_size=np.int32(8))
    assert len(one.embed_query("a")) == 64
    dumped = json.loads(one.model_dump_json(exclude={"api_key", "image_policy"}))
    assert (dumped["dimensions"], dumped["timeout"], dumped["batch_size"]) == (64, 30.0, 8)
    with pytest.raises((ConfigError, ValueError)):
        make(dimensions=np.float64(64.5))


def test_documents_are_not_confused_by_colons(make, png):
    store = InMemoryVectorStore(make())
    store.add_documents([Document("about it", metadata={"image": "IMG:001.png"})])
    (found,) = JinaClipRetriever(vectorstore=store, k=1).invoke("about it")
    assert found.metadata["image"] == "IMG:001.png"
