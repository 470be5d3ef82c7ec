"""`add_documents`: what succeeded is stored under its own vector, what failed is named, nothing is paid for twice."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_core.documents import Document
from langchain_core.stores import InMemoryByteStore
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore

from jinaclip import ConfigError, ImagePolicy, InputError, fuse
from jinaclip.errors import ItemError, ServerError
from jinaclip.testing.process import Server
from langchain_jinaclip import JinaClipEmbeddings, JinaClipRetriever, aadd_documents, add_documents
from langchain_jinaclip.stores import find_vectors
from tests.articles import Article
from tests.langchain.conftest import Make
from tests.langchain.test_embeddings import encoded, near, picture

NewStore = Callable[..., VectorStore]
WAYS = ["sync", "async"]


def added(way: str, store: VectorStore, documents: Any, *args: Any, **options: Any) -> Any:
    if way == "sync":
        return add_documents(store, documents, *args, **options)
    return asyncio.run(aadd_documents(store, documents, *args, **options))


def uuid_of(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012}"


@pytest.fixture
def shop(make: Make, tmp_path: Path) -> JinaClipEmbeddings:
    for seed in range(4):
        picture(seed, (30, 20)).save(tmp_path / f"{seed}.png")
    (tmp_path / "broken.png").write_bytes(encoded(picture(9))[:300])
    return make(image_policy=ImagePolicy(allowed_roots=(tmp_path,)))


def rows(store: VectorStore, ids: list[str]) -> list[Any]:
    """Content, metadata and vector of stored documents."""
    found = found_by(store, ids)
    return [
        {"text": one.page_content, "metadata": one.metadata, "vector": vector}
        for one, vector in zip(found, find_vectors(store, found), strict=True)
    ]


def found_by(store: VectorStore, ids: list[str]) -> list[Document]:
    documents = {str(one.metadata.get("_id", one.id)): one for one in store.get_by_ids(ids)}
    return [documents[id_] for id_ in ids]


@pytest.mark.parametrize("way", WAYS)
def test_every_store_gets_the_vector_of_the_image_or_else_of_the_text(
    new_store: NewStore, shop: JinaClipEmbeddings, tmp_path: Path, way: str
) -> None:
    store = new_store(shop, 1024)
    image, other = str(tmp_path / "0.png"), str(tmp_path / "1.png")
    documents = [
        Document("a text", id=uuid_of(1), metadata={"n": 1}),
        Document("a title", id=uuid_of(2), metadata={"image": image}),
        Document("a title", id=uuid_of(3), metadata={"image": other}),
        Document("", id=uuid_of(4), metadata={"image": other}),
        Document("a title", id=uuid_of(5), metadata={"n": 1}),
    ]
    ids, failed = added(way, store, documents)
    assert (ids, failed) == ([uuid_of(n) for n in (1, 2, 3, 4, 5)], [])
    texts, images = shop.embed_documents(["a text", "a title"]), shop.embed_images([image, other])
    kept = rows(store, ids)
    assert near([row["vector"] for row in kept], [texts[0], images[0], images[1], images[1], texts[1]])
    assert [row["text"] for row in kept] == ["a text", "a title", "a title", other, "a title"]
    assert [row["metadata"].get("embedded_as") for row in kept] == [None, "image", "image", "image", None]
    assert [one.metadata for one in documents][1] == {"image": image}, "the caller's own stay as they are"
    assert JinaClipRetriever(vectorstore=store, k=1).invoke({"image": image})[0].metadata["image"] == image


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("weight", "kind", "billed"), [(0, "image", (0, 1)), (0.3, "pair", (1, 1)), (1, "text", (1, 0))]
)
def test_a_weight_fuses_text_and_image_and_bills_only_what_counts(
    shop: JinaClipEmbeddings, server: Server, tmp_path: Path, way: str, weight: float, kind: str, billed: Any
) -> None:
    store, image = InMemoryVectorStore(shop), str(tmp_path / "0.png")
    [[id_], _] = added(way, store, [Document("a title", metadata={"image": image})], weight=weight)
    assert (server.ledger()["texts"], server.ledger()["images"]) == billed
    assert near(store.store[id_]["vector"], fuse(shop.embed_documents(["a title"])[0], shop.embed_image(image), weight))
    assert store.store[id_]["metadata"]["embedded_as"] == kind


def mixed(tmp_path: Path) -> list[Document]:
    """Two of seven are unusable, one is refused by the service."""
    return [
        Document("good", id=uuid_of(0), metadata={"n": 0}),
        Document(" ", id=uuid_of(1)),
        Document("", id=uuid_of(2), metadata={"image": str(tmp_path / "0.png")}),
        Document("", id=uuid_of(3), metadata={"image": str(tmp_path / "broken.png")}),
        Document("poison", id=uuid_of(4)),
        Document("a title", id=uuid_of(5), metadata={"image": "/etc/hostname"}),
        Document("last", id=uuid_of(6), metadata={"n": 6}),
    ]


@pytest.mark.parametrize("way", WAYS)
def test_skipping_stores_what_has_a_vector_and_names_the_rest_with_reasons(
    new_store: NewStore, shop: JinaClipEmbeddings, server: Server, tmp_path: Path, way: str
) -> None:
    server.configure(poison={"poison": "bad_item_400"})
    store, documents = new_store(shop, 1024), mixed(tmp_path)
    ids, failed = added(way, store, documents, "skip")
    assert ids == [uuid_of(n) for n in (0, 2, 6)]
    assert near(
        [row["vector"] for row in rows(store, ids)],
        [shop.embed_documents(["good"])[0], shop.embed_image(tmp_path / "0.png"), shop.embed_documents(["last"])[0]],
    )
    assert [one.index for one in failed] == [1, 3, 4, 5]
    words = [str(one) for one in failed]
    assert words[0].startswith(f"document 1 ({uuid_of(1)}): ") and "blank" in words[0]
    assert "document 3 (" in words[1] and "broken.png" in words[1]
    assert isinstance(failed[2].reason, ItemError)
    assert "/etc/hostname" in words[3] and "allowed_roots" in words[3]
    assert len(store.get_by_ids([uuid_of(n) for n in range(7)])) == 3


@pytest.mark.parametrize("way", WAYS)
def test_raising_stores_nothing_and_the_cache_has_what_was_embedded(
    shop: JinaClipEmbeddings, server: Server, tmp_path: Path, way: str
) -> None:
    server.configure(poison={"poison": "bad_item_400"})
    store = InMemoryVectorStore(shop.model_copy(update={"cache": tmp_path / "vectors.sqlite"}))
    good = [Document(f"text {n}") for n in range(5)]
    with pytest.raises(ItemError, match=r"^document 2") as caught:
        added(way, store, [*good[:2], Document("poison"), *good[2:]])
    assert (caught.value.index, store.store) == (2, {})
    assert caught.value.partial.ok.sum() == 5
    server.reset()
    assert len(added(way, store, good).ids) == len(store.store) == 5
    assert server.ledger()["texts"] == 0, "paid for before"


@pytest.mark.parametrize("way", WAYS)
def test_what_is_known_to_be_unusable_is_refused_before_anything_is_sent(
    shop: JinaClipEmbeddings, server: Server, tmp_path: Path, way: str
) -> None:
    store = InMemoryVectorStore(shop)
    with pytest.raises(InputError, match=r"^document 1"):
        added(way, store, [*mixed(tmp_path)[:2], Document("poison")])
    assert server.ledger()["received"] == {} and store.store == {}


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("way", WAYS)
def test_an_outage_is_raised_and_nothing_is_stored(make: Make, server: Server, way: str, on_error: Any) -> None:
    server.configure(fault_rate=1.0, faults=["status_503"])
    store = InMemoryVectorStore(make(max_retries=0))
    with pytest.raises(ServerError):
        added(way, store, [Document("a"), Document("b")], on_error)
    assert store.store == {}


def test_ids_go_with_their_documents(shop: JinaClipEmbeddings) -> None:
    store = InMemoryVectorStore(shop)
    documents = [Document("a"), Document(""), Document("c")]
    assert add_documents(store, documents, "skip", ids=["x", "y", "z"]).ids == ["x", "z"]
    assert {id_: row["text"] for id_, row in store.store.items()} == {"x": "a", "z": "c"}
    assert add_documents(store, [], "skip") == ([], [])


def test_a_document_without_an_id_gets_one_beside_others_that_have_one(
    shop: JinaClipEmbeddings, new_store: Callable[..., VectorStore]
) -> None:
    """LangChain hands None to a store then, of which Qdrant makes no id, after all was paid for."""
    store = new_store(shop, 1024)
    ids, _ = add_documents(store, [Document("a", id=uuid_of(0), metadata={"n": 1}), Document("b", metadata={"n": 2})])
    assert ids[0] == uuid_of(0)
    assert [one.page_content for one in found_by(store, ids)] == ["a", "b"]


def test_one_document_in_place_of_several_is_refused(shop: JinaClipEmbeddings) -> None:
    with pytest.raises(InputError, match=r"pass \[document\]"):
        add_documents(InMemoryVectorStore(shop), Document("a"))


def test_chroma_s_base64_content_is_embedded_as_the_image_that_it_is(shop: JinaClipEmbeddings, tmp_path: Path) -> None:
    store = InMemoryVectorStore(shop)
    letters = base64.b64encode((tmp_path / "0.png").read_bytes()).decode()
    [id_] = add_documents(store, [Document(letters)]).ids
    assert near(store.store[id_]["vector"], shop.embed_image(tmp_path / "0.png"))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"on_error": "ignore"}, "on_error='ignore'"),
    ({"weight": 2}, "weight"),
    ({"ids": ["a", "b"]}, "2 ids for 1 documents"),
]


@pytest.mark.parametrize(("options", "said"), WRONG, ids=["on_error", "weight", "ids"])
def test_wrong_options_are_refused_unsent(make: Make, server: Server, options: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        add_documents(InMemoryVectorStore(make()), [Document("a")], **options)
    with pytest.raises(InputError, match="item 0 is no Document but str"):
        add_documents(InMemoryVectorStore(make()), ["a"])  # type: ignore[list-item]
    assert server.ledger()["received"] == {}


def test_a_cache_of_langchain_s_would_keep_images_under_their_titles_and_is_refused(make: Make) -> None:
    cached = CacheBackedEmbeddings.from_bytes_store(make(), InMemoryByteStore(), key_encoder="sha256")
    with pytest.raises(ConfigError, match=r"CacheBackedEmbeddings.*cache="):
        add_documents(InMemoryVectorStore(cached), [Document("a")])


def test_calls_at_once_do_not_take_each_other_s_vectors(shop: JinaClipEmbeddings, tmp_path: Path) -> None:
    """The same title for different images, from threads and from tasks of a loop, beside a plain text of that title."""
    store = InMemoryVectorStore(shop)
    images = [str(tmp_path / f"{n}.png") for n in range(4)]
    vectors = [*shop.embed_images(images), shop.embed_documents(["a title"])[0]]

    def document(n: int) -> Document:
        return Document("a title", id=str(n), metadata={"image": images[n]} if n < 4 else {})

    def check() -> None:
        assert near([store.store[str(n)]["vector"] for n in range(5)], vectors)
        store.store.clear()

    start = threading.Barrier(5)

    def work(n: int) -> None:
        start.wait()
        add_documents(store, [document(n)]) if n < 4 else store.add_documents([document(n)])

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(work, range(5)))
    check()

    async def together() -> None:
        calls = [aadd_documents(store, [document(n)]) for n in range(4)]
        await asyncio.gather(*calls, store.aadd_documents([document(4)]))

    asyncio.run(together())
    check()


class Upper(InMemoryVectorStore):
    """A store that changes texts before it embeds them."""

    def add_documents(self, documents: list[Document], ids: Any = None, **_: Any) -> list[str]:
        return super().add_documents([Document(one.page_content.upper()) for one in documents])


class Aside(InMemoryVectorStore):
    """A store that embeds in a thread that does not have the context of its caller."""

    def add_documents(self, documents: list[Document], ids: Any = None, **options: Any) -> list[str]:
        done: list[Any] = []
        call = super().add_documents
        thread = threading.Thread(target=lambda: done.append(call(documents, ids, **options)))
        thread.start()
        thread.join()
        return done[0]


@pytest.mark.parametrize(("kind", "said"), [(Upper, "changes texts"), (Aside, "Aside did not ask")])
def test_a_store_that_would_embed_the_title_in_place_of_the_image_is_an_error(
    shop: JinaClipEmbeddings, tmp_path: Path, kind: Any, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        add_documents(kind(shop), [Document("a title", metadata={"image": str(tmp_path / "0.png")})])


def test_what_was_added_at_home_is_found_by_text_and_by_image(both: Any, catalogue: list[Article]) -> None:
    """Over the small local model, images with titles as content."""
    store, chosen = InMemoryVectorStore(both["local"]), catalogue[:12]
    documents = [Document(one.title, id=one.id, metadata={"image": str(one.picture)}) for one in chosen]
    assert add_documents(store, documents).ids == [one.id for one in chosen]
    retriever = JinaClipRetriever(vectorstore=store, k=1)
    assert all(retriever.invoke({"image": one.picture})[0].id == one.id for one in chosen)
    assert sum(retriever.invoke(one.title)[0].id == one.id for one in chosen) >= 9
    vectors = np.array([row["vector"] for row in store.store.values()])
    assert np.allclose(vectors, both["local"].embed_images([one.picture for one in chosen]), atol=1e-5)
