"""What JinaClipRetriever takes as a query, and what traces get to see of it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage
from langchain_core.messages.content import create_image_block, create_text_block
from langchain_core.runnables import RunnableLambda
from langchain_core.stores import InMemoryByteStore
from langchain_core.tracers.base import BaseTracer
from langchain_core.vectorstores import InMemoryVectorStore

from jinaclip import Image, InputError, fuse
from jinaclip.testing.process import Server
from langchain_jinaclip import JinaClipRetriever
from tests.articles import Article
from tests.langchain.conftest import Make, new_chroma
from tests.langchain.test_embeddings import encoded, picture


class Remembering(InMemoryVectorStore):
    """A store that keeps the vectors it was asked with."""

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        self.asked = np.array(embedding)
        return super().similarity_search_by_vector(embedding, k, **kwargs)


@pytest.fixture
def retriever(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JinaClipRetriever:
    monkeypatch.chdir(tmp_path)
    picture(1).save("a.png")
    return JinaClipRetriever(vectorstore=Remembering(make()), weight=0.3)


def asked(retriever: JinaClipRetriever, query: Any, **options: Any) -> Any:
    """The vector that the store is asked with, the same sync and async."""
    retriever.invoke(query, **options)
    sync = retriever.vectorstore.asked
    asyncio.run(retriever.ainvoke(query, **options))
    assert np.array_equal(retriever.vectorstore.asked, sync)
    return sync


def near(a: Any, b: Any) -> bool:
    return bool(np.allclose(a, b, atol=1e-6))


def test_a_text_is_a_query_with_its_instruction(retriever: JinaClipRetriever) -> None:
    expected = retriever.embeddings.embed_query("a red dress")
    blocks = [create_text_block("a red dress")]
    for query in (
        "a red dress",
        {"text": "a red dress"},
        blocks[0],
        blocks,
        ["a red dress"],
        HumanMessage("a red dress"),
    ):
        assert near(asked(retriever, query), expected)
    assert near(asked(retriever, {"text": "a red dress", "image": None}), expected)
    assert near(asked(retriever, {"text": "a red dress", "image": ""}), expected)


def test_a_path_alone_is_a_text_and_never_guessed_to_be_an_image(retriever: JinaClipRetriever) -> None:
    assert near(asked(retriever, "a.png"), retriever.embeddings.embed_query("a.png"))
    assert near(
        asked(retriever, "see https://example.com/a.png"),
        retriever.embeddings.embed_query("see https://example.com/a.png"),
    )


@pytest.mark.slow
def test_an_image_in_any_form_is_a_query(retriever: JinaClipRetriever, tmp_path: Path) -> None:
    expected = retriever.embeddings.embed_image("a.png")
    data = (tmp_path / "a.png").read_bytes()
    letters = base64.b64encode(data).decode()
    uri, block = f"data:image/png;base64,{letters}", create_image_block(base64=letters, mime_type="image/png")
    old = {"type": "image_url", "image_url": {"url": uri}}
    images = [
        "a.png",
        tmp_path / "a.png",
        uri,
        data,
        picture(1),
        np.asarray(picture(1)),
        Image.from_bytes(data),
        block,
        old,
    ]
    for image in images:
        assert near(asked(retriever, {"image": image}), expected)
        assert near(asked(retriever, {"text": " ", "image": image}), expected)
    for query in (
        tmp_path / "a.png",
        uri,
        data,
        picture(1),
        [picture(1)],
        block,
        old,
        [block],
        HumanMessage([block]),
        HumanMessage([old]),
    ):
        assert near(asked(retriever, query), expected)


def test_a_text_and_an_image_are_fused_by_the_weight_of_the_retriever_or_of_the_call(
    retriever: JinaClipRetriever,
) -> None:
    text, image = retriever.embeddings.embed_query("in blue"), retriever.embeddings.embed_image("a.png")
    block = create_image_block(base64=base64.b64encode(encoded(picture(1))).decode(), mime_type="image/png")
    message = HumanMessage([create_text_block("in"), block, create_text_block("blue")])
    assert near(asked(retriever, {"text": "in blue", "image": "a.png"}), fuse(text, image, 0.3))
    assert near(asked(retriever, {"text": "in blue", "image": "a.png"}, weight=0.9), fuse(text, image, 0.9))
    assert near(asked(retriever, [create_text_block("in blue"), block]), fuse(text, image, 0.3))
    assert near(asked(retriever, message), fuse(retriever.embeddings.embed_query("in\nblue"), image, 0.3))


@pytest.mark.parametrize(("weight", "texts", "images"), [(0, 0, 2), (1, 2, 0), (0.5, 2, 2)])
def test_a_half_of_a_query_without_weight_is_not_paid_for(
    retriever: JinaClipRetriever, server: Server, weight: float, texts: int, images: int
) -> None:
    """The half that is left is searched with; a query of one half has no weights."""
    text, image = retriever.embeddings.embed_query("in blue"), retriever.embeddings.embed_image("a.png")
    before = server.ledger()
    assert near(asked(retriever, {"text": "in blue", "image": "a.png"}, weight=weight), fuse(text, image, weight))
    after = server.ledger()
    assert (after["texts"] - before["texts"], after["images"] - before["images"]) == (texts, images)
    assert near(asked(retriever, {"text": "in blue"}, weight=weight), text)
    assert near(asked(retriever, {"image": "a.png"}, weight=weight), image)


def test_an_address_alone_is_an_image_and_meets_the_policy(retriever: JinaClipRetriever) -> None:
    for address in ("http://example.com/a.png", "https://10.0.0.1/a.png"):
        for query in (address, {"image": address}, create_image_block(url=address)):
            with pytest.raises(InputError, match=r"schemes|public|network"):
                retriever.invoke(query)


REFUSED = [
    ("", "needs a text"),
    ({}, "needs a text"),
    ([], "needs a text"),
    (None, "needs a text"),
    ({"text": None, "image": None}, "needs a text"),
    ({"query": "a"}, "'query'"),
    ({"text": 7}, "must be a str"),
    ({"text": 0}, "must be a str"),
    ({"text": "in blue", "image": "/etc/hostname"}, "allowed_roots"),
    ({"image": 7}, "int is no image"),
    (7, "int is no image"),
    ({"image": "/etc/hostname"}, "allowed_roots"),
    ({"image": "no-such.png"}, "no-such.png"),
    ([b"no image"], "going by its content"),
    ([{"type": "image", "file_id": "f"}], "file_id"),
    ([{"type": "image", "base64": "aaaa"}, {"type": "image", "base64": "aaaa"}], "one image, not 2"),
]


@pytest.mark.parametrize(("query", "said"), REFUSED, ids=lambda value: str(value)[:30])
async def test_an_unusable_query_is_refused_unsent(
    retriever: JinaClipRetriever, server: Server, query: Any, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        retriever.invoke(query)
    with pytest.raises(InputError, match=said):
        await retriever.ainvoke(query)
    assert server.ledger()["answered"] == {}


async def test_a_cancelled_retrieval_ends_while_the_service_is_silent(
    retriever: JinaClipRetriever, server: Server
) -> None:
    server.configure(base_ms=60_000)
    call = asyncio.ensure_future(retriever.ainvoke({"text": "a", "image": "a.png"}))
    while not await asyncio.to_thread(lambda: server.ledger()["received"]):
        assert not call.done()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    server.reset()


def test_it_works_in_chains_and_streams(retriever: JinaClipRetriever) -> None:
    retriever.vectorstore.add_texts(["one", "two"])
    chain = RunnableLambda(lambda name: {"image": name}) | retriever | (lambda documents: len(documents))
    assert chain.invoke("a.png") == 2
    assert [len(part) for part in retriever.stream({"image": "a.png"})] == [2]


# Traces


class Tracer(BaseTracer):
    """Keeps what a tracing backend would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    def _persist_run(self, run: Any) -> None:
        self.kept.append(run)


def test_a_trace_holds_the_text_and_where_the_image_is_but_not_its_bytes(retriever: JinaClipRetriever) -> None:
    letters = base64.b64encode(encoded(picture(1))).decode()
    queries = [
        (f"data:image/png;base64,{letters}", "[image: bytes]"),
        ({"text": "in blue", "image": f"data:image/png;base64,{letters}"}, "in blue [image: bytes]"),
        ({"text": "in blue", "image": "a.png"}, "in blue [image: a.png]"),
        ({"image": encoded(picture(1))}, "[image: bytes]"),
        ({"image": picture(1)}, "[image: pil]"),
        (HumanMessage([create_image_block(base64=letters, mime_type="image/png")]), "[image: bytes]"),
        ("a red dress", "a red dress"),
    ]
    for query, shown in queries:
        tracer = Tracer()
        retriever.invoke(query, {"callbacks": [tracer]})
        asyncio.run(retriever.ainvoke(query, {"callbacks": [tracer]}))
        assert [run.inputs["query"] for run in tracer.kept] == [shown, shown]
        assert letters[40:80] not in json.dumps([run.inputs for run in tracer.kept])


class Collector(BaseHTTPRequestHandler):
    """Takes what LangSmith would be sent."""

    def do_GET(self) -> None:
        self._answer(b"{}")

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))  # type: ignore[attr-defined]
        self._answer(b"{}")

    do_PATCH = do_POST  # noqa: N815  the base class calls it so

    def _answer(self, body: bytes) -> None:
        self.send_response(202)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[ThreadingHTTPServer]:
    running = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    running.bodies = []  # type: ignore[attr-defined]
    threading.Thread(target=running.serve_forever).start()
    yield running
    running.shutdown()
    running.server_close()


TRACED = """
import asyncio, base64, sys
from pathlib import Path
from langchain_core.tracers.langchain import wait_for_all_tracers
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_jinaclip import JinaClipEmbeddings, JinaClipRetriever

embeddings = JinaClipEmbeddings(base_url=sys.argv[1])
data = Path("a.png").read_bytes()
store = InMemoryVectorStore.from_texts(["one", "two"], embeddings)
store.store["a"] = {"id": "a", "vector": embeddings.embed_image("a.png"), "text": "", "metadata": {"image": "a.png"}}
retriever = JinaClipRetriever(vectorstore=store)
uri = "data:image/png;base64," + base64.b64encode(data).decode()
for query in ("a red dress", uri, {"image": data}, {"text": "in blue", "image": uri}):
    retriever.invoke(query)
    asyncio.run(retriever.ainvoke(query))
call = {"type": "tool_call", "id": "1", "name": "image_search", "args": {"text": "a", "image": "a.png"}}
retriever.as_tool(show_images=False).invoke(call)
retriever.as_tool(show_images=False).invoke({**call, "args": {"image": "/etc/hostname"}})
try:
    retriever.invoke({"image": data[:200]})
except ValueError:
    pass
wait_for_all_tracers()
"""


@pytest.mark.slow
def test_langsmith_gets_neither_the_key_nor_image_bytes(
    server: Server, collector: ThreadingHTTPServer, tmp_path: Path
) -> None:
    picture(1).save(tmp_path / "a.png")
    key = "jina_test_langsmith0123456789"
    environment = {
        **os.environ,
        "JINA_API_KEY": key,
        "LANGSMITH_TRACING": "true",
        "LANGSMITH_API_KEY": "lsv2_pt_test",
        "LANGSMITH_ENDPOINT": f"http://127.0.0.1:{collector.server_address[1]}",
        "LANGSMITH_DISABLE_RUN_COMPRESSION": "true",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    done = subprocess.run(
        [sys.executable, "-c", TRACED, server.url], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    sent = b"".join(collector.bodies)  # type: ignore[attr-defined]
    assert b"[image: bytes]" in sent and b"in blue [image: bytes]" in sent and b"result 1" in sent
    data = (tmp_path / "a.png").read_bytes()
    assert key.encode() not in sent
    assert base64.b64encode(data)[40:120] not in sent
    assert repr(data)[60:100].encode() not in sent


def test_a_text_that_begins_like_a_data_uri_is_a_text(retriever: JinaClipRetriever) -> None:
    for text in ("Data: a red dress", "data: red, blue", "data:"):
        assert near(asked(retriever, text), retriever.embeddings.embed_query(text))


def test_a_trace_holds_neither_what_signs_an_address_nor_base64_that_was_meant_as_a_file(make: Make) -> None:
    search, tracer = JinaClipRetriever(vectorstore=InMemoryVectorStore(make(url_mode="forward"))), Tracer()
    search.invoke({"image": "https://example.com/a.png?X-Amz-Signature=abc"}, {"callbacks": [tracer]})
    with pytest.raises(InputError):
        search.invoke({"image": base64.b64encode(encoded(picture(1))).decode()}, {"callbacks": [tracer]})
    assert [run.inputs["query"] for run in tracer.kept] == ["[image: https://example.com/a.png]", "[unusable query]"]


LETTERS = base64.b64encode(encoded(picture(1))).decode()
AS_TEXT = [
    {"text": encoded(picture(1))},
    {"text": np.asarray(picture(1))},
    {"text": create_image_block(base64=LETTERS, mime_type="image/png")},
    {"text": [create_image_block(base64=LETTERS, mime_type="image/png")]},
    {"text": LETTERS},
    {"text": f"data:image/png;base64,{LETTERS}"},
    {"text": f"DATA:image/png;base64,{LETTERS}", "image": "a.png"},
    f"like this ![](data:image/png;base64,{LETTERS})",
    HumanMessage(f"like this <img src='data:image/png;base64,{LETTERS}'>"),
]


@pytest.mark.parametrize("query", AS_TEXT, ids=range(len(AS_TEXT)))
async def test_a_picture_in_the_place_of_a_text_is_refused_unpaid_and_its_trace_shows_nothing_of_it(
    retriever: JinaClipRetriever, server: Server, query: Any
) -> None:
    tracer = Tracer()
    for _ in range(2):
        with pytest.raises(InputError, match=r"must be a str|pass it as .*image") as caught:
            retriever.invoke(query, {"callbacks": [tracer]})
        with pytest.raises(InputError, match=r"must be a str|pass it as .*image"):
            await retriever.ainvoke(query)
    assert LETTERS[40:80] not in str(caught.value)
    assert [run.inputs["query"] for run in tracer.kept] == ["[unusable query]"] * 2
    assert LETTERS[40:80] not in str([(run.inputs, run.error, run.events) for run in tracer.kept])
    assert server.ledger()["received"] == {}


@pytest.mark.parametrize("image", [b"no image", encoded(picture(1))[:200]], ids=len)
async def test_a_picture_that_cannot_be_read_is_refused_before_its_text_is_paid_for(
    retriever: JinaClipRetriever, server: Server, image: Any
) -> None:
    with pytest.raises(InputError, match="the image"):
        retriever.invoke({"text": "in blue", "image": image})
    with pytest.raises(InputError, match="the image"):
        await retriever.ainvoke({"text": "in blue", "image": image})
    assert server.ledger()["received"] == {}


def test_texts_are_looked_up_in_the_cache_of_the_store(
    make: Make, retriever: JinaClipRetriever, server: Server
) -> None:
    kept = InMemoryByteStore()
    cached = CacheBackedEmbeddings.from_bytes_store(
        make(), InMemoryByteStore(), namespace="a", query_embedding_cache=kept, key_encoder="sha256"
    )
    search = JinaClipRetriever(vectorstore=Remembering(cached), weight=0.3)
    assert near(asked(search, "a red dress"), retriever.embeddings.embed_query("a red dress"))
    server.reset()
    asked(search, "a red dress")
    assert server.ledger()["received"] == {}
    both = {"text": "a red dress", "image": "a.png"}
    assert near(asked(search, both), asked(retriever, both))
    assert len(list(kept.yield_keys())) == 1, "pictures go past it"
    other = JinaClipRetriever(vectorstore=Remembering(cached), embeddings=make(dimensions=64))
    assert len(asked(other, "a red dress")) == 64, "a cache around other embeddings holds other vectors"


def test_results_are_traced_as_the_store_holds_them(both: Any, catalogue: list[Article]) -> None:
    """What the README says: no file where the metadata has a path, all of it where the store has nothing else."""
    [shown, *_] = catalogue
    letters = base64.b64encode(shown.picture.read_bytes()).decode()[100:160]
    for facts, traced in (({"image": str(shown.picture)}, False), ({"n": 1}, True)):
        store: Any = new_chroma(both["local"], 128, [])
        store.add_images(uris=[str(shown.picture)], metadatas=[facts])
        tracer = Tracer()
        JinaClipRetriever(vectorstore=store).invoke("a dress", {"callbacks": [tracer]})
        assert (letters in str([run.outputs for run in tracer.kept])) is traced
