"""Answers with bytes too many or too few give nobody the row of another item, however the client is called.

A second answer that arrives once the next request has gone out cannot be told from the answer to that one: the wire has
nothing that names the request. docs/reliability.md says so.
"""

import asyncio
import json

import numpy as np
import pytest

from jinaclip import JinaClip
from jinaclip.errors import BadResponseError
from tests import raw
from tests.needs import long, skip_without

pytestmark = pytest.mark.usefixtures("hasty")
WIDTH = 64
KEY = "jina_surplus"


def body(asked):
    return raw.answer_body(asked.contents, width=WIDTH)


def another_body(asked):
    """What would do for the items of another request of the same size."""
    return raw.answer_body([f"another {number}" for number in range(len(asked.contents))], width=WIDTH)


KINDS = {
    "twice in one packet": lambda asked: raw.http(body(asked)) * 2,
    "another answer behind it": lambda asked: raw.http(body(asked)) + raw.http(another_body(asked)),
    "another answer before it": lambda asked: raw.http(another_body(asked)[:-7]) + raw.http(body(asked)),
    "a length too short": lambda asked: raw.http(body(asked), length=len(body(asked)) - 9),
    "a length of nothing": lambda asked: raw.http(body(asked), length=0),
    "a length too long, and the end": lambda asked: raw.Sent([raw.http(body(asked), length=10**6)], close=True),
    "a second document": lambda asked: raw.http(body(asked) + another_body(asked)),
    "a second document before it": lambda asked: raw.http(another_body(asked) + b"\n" + body(asked)),
    "a second list": lambda asked: raw.http(
        json.dumps({**json.loads(body(asked)), "more": json.loads(another_body(asked))["data"]}).encode()
    ),
}
PASSING = [kind for kind in KINDS if "document" not in kind]
"""An answer that is two documents is asked for three times at most."""


def now_and_then(kind):
    """Every third answer is odd, the others are right."""
    return lambda asked: KINDS[kind](asked) if asked.number % 3 == 0 else raw.right(asked)


def check(texts, results):
    """No row is another item's; an item without a row has an error."""
    good = np.flatnonzero(results.ok)
    assert raw.are_vectors_of([texts[place] for place in good], results.vectors[good]).all()
    assert len(good) + len(results.errors) == len(texts)
    return len(good)


def names(count):
    return [f"text {number}" for number in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize("count", [500, long(2_500)])
@pytest.mark.parametrize("slots", [1, 8])
@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_row_is_another_item_s(kind, way, slots, count):
    texts = names(count)
    options = {"dimensions": WIDTH, "batch_size": 16, "max_concurrency": slots, "max_retries": 20}
    with (
        raw.serving(now_and_then(kind)) as server,
        JinaClip(api_key=KEY, base_url=server.url, **options) as clip,
    ):
        results = clip.embed(texts) if way == "sync" else asyncio.run(clip.aembed(texts))
        assert check(texts, results) >= 0.95 * count, "what was odd is asked for again"


def query(clip, text):
    """Its vector, or None: what is no JSON document but two is not asked for again where it was one query's."""
    try:
        return clip.embed_query(text)
    except BadResponseError:
        return None


@pytest.mark.parametrize("kind", KINDS)
def test_queries_one_at_a_time_over_one_connection(kind):
    texts = names(30)
    with (
        raw.serving(now_and_then(kind)) as server,
        JinaClip(api_key=KEY, base_url=server.url, dimensions=WIDTH) as clip,
    ):
        rows = {text: row for text in texts if (row := query(clip, text)) is not None}
        assert raw.are_vectors_of([*rows], np.stack([*rows.values()])).all()
        assert len(rows) >= len(texts) / 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", PASSING)
def test_through_langchain(kind):
    skip_without("langchain_jinaclip")
    from langchain_jinaclip import JinaClipEmbeddings

    texts = names(300)
    with raw.serving(now_and_then(kind)) as server:
        made = JinaClipEmbeddings(api_key=KEY, base_url=server.url, dimensions=WIDTH, batch_size=16, max_retries=20)
        assert raw.are_vectors_of(texts, np.array(made.embed_documents(texts))).all()
        assert raw.are_vectors_of(texts, np.array(asyncio.run(made.aembed_documents(texts)))).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", PASSING)
def test_through_llamaindex(kind):
    skip_without("llamaindex_jinaclip")
    from llamaindex_jinaclip import JinaClipEmbedding

    texts = names(300)
    with raw.serving(now_and_then(kind)) as server:
        made = JinaClipEmbedding(api_key=KEY, base_url=server.url, dimensions=WIDTH, embed_batch_size=16)
        assert raw.are_vectors_of(texts, np.array(made.get_text_embedding_batch(texts))).all()
        assert raw.are_vectors_of(texts, np.array(asyncio.run(made.aget_text_embedding_batch(texts)))).all()


@pytest.mark.parametrize("kind", PASSING)
def test_through_haystack(kind):
    skip_without("haystack_jinaclip")
    from haystack import Document
    from haystack.utils import Secret

    from haystack_integrations.components.embedders.jinaclip import JinaClipDocumentEmbedder

    texts = names(300)
    with raw.serving(now_and_then(kind)) as server:
        key = Secret.from_token(KEY)
        made = JinaClipDocumentEmbedder(api_key=key, base_url=server.url, dimensions=WIDTH, batch_size=16)
        documents = made.run([Document(content=text) for text in texts])["documents"]
        assert raw.are_vectors_of(texts, np.array([document.embedding for document in documents])).all()
