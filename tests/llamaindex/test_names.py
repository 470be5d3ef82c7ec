"""What people write: the model first, `with`, the words of other plugins."""

from __future__ import annotations

import threading

import pytest

from jinaclip import ConfigError
from jinaclip.errors import ClosedError
from jinaclip.hosts import Closing
from llamaindex_jinaclip import JinaClipDiversifier, JinaClipEmbedding, JinaClipRetriever
from tests.llamaindex.test_retriever import index_of

KEY = "jina_test_very_secret"


def test_the_model_may_go_first_without_a_name():
    assert JinaClipEmbedding("jina-clip-v1").model_name == "jina-clip-v1"
    assert JinaClipEmbedding("jina-clip-v2", dimensions=64).dimensions == 64
    for wrong in (("jina-clip-v1", "api"), ("jina-clip-v3",), (KEY.replace("test_", ""),)):
        with pytest.raises(ConfigError):
            JinaClipEmbedding(*wrong)
    for twice in ({"model_name": "jina-clip-v2"}, {"model": "jina-clip-v2"}):
        with pytest.raises(ConfigError):
            JinaClipEmbedding("jina-clip-v1", **twice)


WORDS = {
    "jina_api_key": "did you mean 'api_key'",
    "jinaai_api_key": "did you mean 'api_key'",
    "api_token": "did you mean 'api_key'",
    "embedding_dimension": "did you mean 'dimensions'",
    "truncate_dim": "did you mean 'dimensions'",
    "batchsize": "did you mean 'batch_size'",
    "max_batch_size": "did you mean 'embed_batch_size'",
    "model_id": "did you mean 'model_name'",
    "normalize": "did you mean 'normalized'",
    "api_base": "did you mean 'base_url'",
    "cache_folder": "HF_HOME",
    "query_instruction": "the model's own instruction",
    "text_instruction": "the model's own instruction",
    "trust_remote_code": "no code of a model repository is run",
    "encoding_queries": "floats",
    "task": "by the method",
    "on_eror": "did you mean 'on_error'",
    "fusion_weigth": "did you mean 'fusion_weight'",
}
"""Options of today's plugins and misspelt ones, and what is said of them."""


@pytest.mark.parametrize("word", WORDS)
def test_words_of_other_plugins_are_refused_with_ours(word):
    """In LlamaIndex's words where it has its own; no value is shown."""
    with pytest.raises(ConfigError, match=f"no option '{word}'.*{WORDS[word]}") as caught:
        JinaClipEmbedding(**{word: KEY})
    assert KEY not in str(caught.value)


@pytest.fixture(params=["embedding", "retriever", "diversifier"])
def adapter(request, embed, files):
    """Each class that embeds, with what it embeds by, sync and async."""
    made = embed()
    if request.param == "embedding":
        return made
    if request.param == "diversifier":
        return JinaClipDiversifier(embed_model=made)
    return JinaClipRetriever(index_of(made, files[:1]), made)


async def test_every_class_closes_and_works_again(adapter):
    """By `with`, `async with`, `close` and `aclose`; twice is once."""
    assert isinstance(adapter, Closing)
    with adapter as one:
        assert one is adapter
        assert one.clip.embed_query("a").shape == (1024,)
    async with adapter as one:
        assert one is adapter
        assert (await one.clip.aembed_query("b")).shape == (1024,)
    for _ in range(2):
        adapter.close()
        await adapter.aclose()
    assert adapter.clip.embed_query("c").shape == (1024,)


def test_closing_ends_calls_under_way(embed, server):
    """They fail with a word for it, rather than wait for an answer."""
    server.configure(script=["hang"])
    made, errors = embed(), []

    def call():
        try:
            made.get_query_embedding("a")
        except ClosedError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    while server.ledger()["requests"] == 0:
        pass
    made.close()
    thread.join()
    assert len(errors) == 1
