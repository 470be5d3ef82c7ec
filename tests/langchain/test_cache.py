"""The option `cache`: texts, queries, images and pairs are embedded once, whichever object or store asks."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_core.load import dumpd
from langchain_core.stores import InMemoryByteStore
from PIL import Image
from pydantic import ValidationError

import jinaclip
from jinaclip import Cache, ConfigError, ImagePolicy, JinaClip
from jinaclip.cache import StoreSize
from jinaclip.testing.process import Server
from langchain_jinaclip import JinaClipEmbeddings, JinaClipRetriever
from tests.langchain.conftest import Make, new_chroma

TEXTS = ["a red dress", "a blue coat", "a hat"]


class Memory:
    """The smallest store of one's own: a dictionary."""

    name = "memory"

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}

    def get_many(self, keys: Any) -> dict[bytes, bytes]:
        return {key: self.entries[key] for key in keys if key in self.entries}

    def put_many(self, entries: Any) -> None:
        self.entries.update(entries)

    def delete_many(self, keys: Any) -> None:
        for key in keys:
            self.entries.pop(key, None)

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        return iter([*self.entries.items()])

    def size(self) -> StoreSize:
        return StoreSize(len(self.entries), sum(map(len, self.entries.values())))

    def clear(self) -> None:
        self.entries.clear()

    def close(self) -> None:
        """Nothing is open."""

    def forget(self) -> None:
        """Nothing is shared."""


@pytest.fixture
def cached(make: Make, tmp_path: Path) -> Make:
    """Makes embeddings with the cache of this test, which may read its folder."""
    policy = ImagePolicy(allowed_roots=(tmp_path,))
    return lambda **options: make(**{"cache": tmp_path / "cache" / "vectors.sqlite", "image_policy": policy, **options})


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    names = [str(tmp_path / f"{number}.png") for number in range(3)]
    for number, name in enumerate(names):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (30, 40, 3), np.uint8)).save(name)
    return names


def sent(server: Server) -> tuple[int, int]:
    """Texts and images that were embedded."""
    ledger = server.ledger()
    return ledger["texts"], ledger["images"]


def test_chroma_is_filled_again_for_nothing_texts_and_images(cached: Make, files: list[str], server: Server) -> None:
    answers = []
    for _ in range(2):
        closing: list[Any] = []
        store = new_chroma(cached(), 1024, closing)
        store.add_texts(TEXTS)
        store.add_images(uris=files)
        answers.append([text.page_content for text in store.similarity_search("a dress", k=6)])
        answers.append([text.page_content for text in store.similarity_search_by_image(files[1], k=1)])
        assert sent(server) == (len(TEXTS) + 1, len(files))
    assert answers[:2] == answers[2:]


def test_langchain_s_own_cache_lets_images_through_and_ours_lies_under_it(
    cached: Make, make: Make, files: list[str], server: Server
) -> None:
    theirs = CacheBackedEmbeddings.from_bytes_store(make(), InMemoryByteStore(), key_encoder="sha256")
    assert not hasattr(theirs, "embed_image")
    for _ in range(2):  # both together: a store of theirs for each run, as on another machine
        both = CacheBackedEmbeddings.from_bytes_store(cached(), InMemoryByteStore(), key_encoder="sha256")
        both.embed_documents(TEXTS)
        both.underlying_embeddings.embed_image(files)
    assert sent(server) == (len(TEXTS), len(files))


def test_chroma_adds_images_with_our_cache_where_langchain_s_own_would_hide_how(
    cached: Make, make: Make, files: list[str], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a CacheBackedEmbeddings Chroma finds no `embed_image`, and goes for a text model of its own."""
    theirs = new_chroma(
        CacheBackedEmbeddings.from_bytes_store(make(), InMemoryByteStore(), key_encoder="sha256"), 1, []
    )
    with pytest.raises(ValueError, match="embedding function"):
        theirs.similarity_search_by_image(files[0])
    for _ in range(2):
        ours: Any = new_chroma(cached(), 1024, [])
        ours.add_images(uris=files, metadatas=[{"image": file} for file in files])
        [nearest] = JinaClipRetriever(vectorstore=ours, k=1).invoke({"image": files[2]})
        assert nearest.page_content == nearest.metadata["image"] == files[2]
    assert sent(server) == (0, len(files)), "the second time, and the searches, for nothing"


async def test_every_method_finds_what_another_stored(cached: Make, files: list[str], server: Server) -> None:
    first, second = cached(), cached(timeout=7, batch_size=2, api_key="jina_test_another")
    expected = first.embed_documents(TEXTS), first.embed_query("red"), first.embed_images(files)
    pairs = first.embed_pairs([(TEXTS[0], files[0])], weight=0.3)
    before = sent(server)
    found = await second.aembed_documents(TEXTS), await second.aembed_query("red"), await second.aembed_image(files)
    assert found == expected
    assert second.embed_image(files[2]) == expected[2][2]
    assert await second.aembed_pairs([(TEXTS[0], files[0])], weight=0.3) == pairs
    assert sent(server) == before == (len(TEXTS) + 1, len(files))
    usage = second.clip.usage
    assert (usage.hits, usage.tokens) == (len(TEXTS) + 1 + len(files) + 1 + 2, 0)
    assert usage.tokens_saved > 5 * 4000


def test_the_core_and_other_widths_find_it_too(cached: Make, server: Server, tmp_path: Path) -> None:
    rows = cached().embed_documents(TEXTS)
    narrow = cached(dimensions=64).embed_documents(TEXTS)
    clip = JinaClip(base_url=server.url, cache=tmp_path / "cache" / "vectors.sqlite")  # without a key
    assert clip.embed_documents(TEXTS).tolist() == rows
    np.testing.assert_allclose(narrow, jinaclip.truncate(np.array(rows), 64), atol=2e-6)
    assert sent(server) == (len(TEXTS), 0)


# -- dumps, pickles, copies


@pytest.mark.parametrize("value", [None, True, False, "vectors.sqlite"])
def test_a_dump_has_the_option_as_it_was_given(make: Make, value: Any) -> None:
    dumped = json.loads(make(cache=value).model_dump_json())
    assert dumped["cache"] is value or dumped["cache"] == value
    assert make(cache=dumped["cache"]).cache == value


def test_a_dump_of_a_path_or_a_cache_is_the_path(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    for value in (path, Cache(path, max_bytes=10**9)):
        one = make(cache=value)
        assert one.model_dump(mode="json")["cache"] == str(path)
        assert one.model_dump()["cache"] is value
        assert one.clip.cache is not None and one.clip.cache.path == path
    assert dumpd(make(cache=path))["type"] == "not_implemented", "as of all embeddings"


def test_a_cache_with_a_store_of_its_own_is_in_no_dump(make: Make) -> None:
    one = make(cache=Cache(store=Memory()))
    assert one.model_dump(mode="json")["cache"] is None
    assert json.loads(one.model_dump_json())["cache"] is None


@pytest.mark.parametrize("kind", ["path", "cache", "store"])
def test_pickles_and_copies_carry_it(make: Make, server: Server, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "vectors.sqlite"
    value = {"path": path, "cache": Cache(path), "store": Cache(store=Memory())}[kind]
    one = make(cache=value)
    one.embed_documents(TEXTS)
    assert one.clip.cache is not None and one.clip.cache.flush()
    changed = one.model_copy(update={"timeout": 3})
    for other in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one), copy.copy(one), changed):
        other.embed_documents(TEXTS)
    assert sent(server) == (len(TEXTS), 0)
    assert changed.clip.cache is one.clip.cache
    assert copy.deepcopy(one).clip.cache is one.clip.cache


@pytest.mark.parametrize("value", [3, b"vectors.sqlite", ["vectors.sqlite"], Cache])
def test_what_is_no_cache_is_refused(make: Make, value: Any) -> None:
    with pytest.raises((ValidationError, ConfigError), match="cache"):
        make(cache=value)


def test_the_schema_names_what_json_can_hold() -> None:
    schema = JinaClipEmbeddings.model_json_schema()["properties"]["cache"]
    assert {kind["type"] for kind in schema["anyOf"]} == {"boolean", "string", "null"}
    assert schema["default"] is None


def test_the_environment_turns_it_on(
    make: Make, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JINACLIP_CACHE", str(tmp_path / "shared.sqlite"))
    for _ in range(2):
        make().embed_documents(TEXTS)
    make(cache=False).embed_documents(TEXTS)
    assert sent(server) == (2 * len(TEXTS), 0)
