"""Traps that LangChain's own pieces set for embedders and that have no better place.

Where the others are: float32 in JSON, Chroma and dumps, caches of queries and documents, requests while building stores
in `test_stores`; loops, threads, cancelling, short answers, generators, empty input, images as text in
`test_embeddings`; copies, keys, misspelt options in `test_options`; base64 as content, paths of agents in `test_tool`;
libraries that report home in `conftest`.
"""

from __future__ import annotations

import asyncio
import io
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jinaclip import InputError
from jinaclip.testing.vectors import expected_vector
from langchain_jinaclip import JinaClipRetriever
from tests.langchain.conftest import Make, new_qdrant
from tests.langchain.test_embeddings import encoded, near, picture


def test_a_file_read_to_its_end_is_still_a_picture(make: Make) -> None:
    """The second `.read()` of a BytesIO gives nothing."""
    embeddings, file = make(), io.BytesIO(encoded(picture(1)))
    file.read()
    assert near(embeddings.embed_image(file), embeddings.embed_image(file))
    assert near(embeddings.embed_images([file, file]), [embeddings.embed_image(picture(1))] * 2)


def test_a_picture_that_changed_under_its_name_gets_a_new_vector(make: Make, tmp_path: Path) -> None:
    embeddings, file = make(), tmp_path / "a.png"
    vectors = []
    for seed in (1, 2):
        picture(seed).save(file)
        vectors.append(embeddings.embed_image(file))
    assert not near(*vectors)


@pytest.mark.parametrize(
    "value", [Path("a.png"), b"a", picture(1), {"type": "image", "url": "https://example.com/a.png"}]
)
def test_an_image_is_never_embedded_as_a_text(make: Make, value: Any) -> None:
    with pytest.raises(InputError, match="must be a str"):
        make().embed_documents(["a", value])
    with pytest.raises(InputError, match="must be a str"):
        make().embed_query(value)


def test_async_search_finds_what_sync_search_finds_in_a_qdrant_in_memory(make: Make) -> None:
    """An async client of its own would see another, empty store."""
    closing: list[Any] = []
    store = new_qdrant(make(), 1024, closing)
    asyncio.run(store.aadd_texts(["a", "b"]))
    retriever = JinaClipRetriever(vectorstore=store)
    found = [document.page_content for document in retriever.invoke("a")]
    assert [document.page_content for document in asyncio.run(retriever.ainvoke("a"))] == found
    assert sorted(found) == ["a", "b"]
    closing[0].close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_forked_worker_uses_what_its_parent_has_used(make: Make) -> None:
    embeddings = make()
    embeddings.embed_query("a")
    context = multiprocessing.get_context("fork")
    reading, writing = context.Pipe(duplex=False)
    worker = context.Process(target=lambda: writing.send(embeddings.embed_documents(["from the child"])))
    worker.start()
    assert reading.poll(30), "the worker hangs"
    assert np.allclose(reading.recv()[0], expected_vector("text", "from the child"), atol=1e-6)
    worker.join()
    assert near(embeddings.embed_documents(["from the parent"])[0], expected_vector("text", "from the parent"))
