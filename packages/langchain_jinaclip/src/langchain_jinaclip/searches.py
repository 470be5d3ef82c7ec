"""Search by a vector in any store: which method does it, as stores have no common name for every kind of search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

from jinaclip import ConfigError
from jinaclip.hosts import Steps, wait_for, wait_for_thread
from langchain_jinaclip.embeddings import JinaClipEmbeddings
from langchain_jinaclip.vector_table import Vector, answer_from

SearchType: TypeAlias = Literal["similarity", "mmr", "similarity_score_threshold"]
ScoredDocuments: TypeAlias = list[tuple[Document, float | None]]
"""Documents, each with the store's score, None where none was asked for."""
THRESHOLD: SearchType = "similarity_score_threshold"
METHODS: dict[tuple[SearchType, bool], tuple[str, ...]] = {
    ("similarity", False): ("similarity_search_by_vector",),
    ("similarity", True): (
        "similarity_search_with_score_by_vector",
        "similarity_search_by_vector_with_relevance_scores",
        "similarity_search_by_vector_with_score",
    ),
    ("mmr", False): ("max_marginal_relevance_search_by_vector",),
    ("mmr", True): ("max_marginal_relevance_search_with_score_by_vector",),
}
"""Names of methods that take a vector, by the kind of search and whether scores are wanted; the first that is there."""


def check_search(store: VectorStore, search_type: SearchType, *, scored: bool) -> None:
    """Finds out, without a request, whether a store can search so.

    Raises:
        ConfigError: it cannot.
    """
    if search_type == THRESHOLD:
        check_threshold(store)
    else:
        find_method(store, search_type, scored=scored)


def search(
    store: VectorStore, search_type: SearchType, vector: Vector, text: str, options: dict[str, Any], *, scored: bool
) -> Steps[ScoredDocuments]:
    """The documents nearest to a vector, with scores where they are wanted.

    Args:
        store: searches.
        search_type: as LangChain's retrievers have it.
        vector: of the query.
        text: of the query, for stores that look at words too.
        options: for the store.
        scored: whether the store's score of each document is wanted.
    """
    if search_type == THRESHOLD:
        found: ScoredDocuments = yield from wait_for(search_above, asearch_above, store, text, vector, options)
        return found
    name = find_method(store, search_type, scored=scored)
    method, amethod = getattr(store, name), getattr(store, f"a{name}", None)
    results: list[Any] = yield from (
        wait_for(method, amethod, vector, **options) if amethod else wait_for_thread(method, vector, **options)
    )
    return results if scored else [(document, None) for document in results]


def find_method(store: VectorStore, search_type: SearchType, *, scored: bool) -> str:
    """The name of the method.

    Raises:
        ConfigError: the store has none.
    """
    for name in METHODS[search_type, scored]:
        if getattr(type(store), name, None) not in (None, getattr(VectorStore, name, None)):
            return name
    scores = " and give scores; leave out score_key" if scored else ""
    raise ConfigError(f"{type(store).__name__} cannot do a {search_type!r} search by a vector{scores}")


# -- only what is above a threshold: how near a score is to 1 a store tells of its own searches by text alone


class ProbeEnd(Exception):
    """The store got as far as asking for the vector of the query."""


class ProbeTable(Mapping[str, Vector]):
    """A table that nobody may ask."""

    def __getitem__(self, text: str) -> Vector:
        raise ProbeEnd

    def __iter__(self) -> Any:
        raise ProbeEnd

    def __len__(self) -> int:
        raise ProbeEnd


def check_threshold(store: VectorStore) -> None:
    """Whether a store has relevance scores from 0 to 1, and asks our embeddings for the vector of a query.

    Raises:
        ConfigError: it has none, or embeds queries by other means.
    """
    name, embeddings = type(store).__name__, store.embeddings
    if not isinstance(embeddings, JinaClipEmbeddings):
        raise ConfigError(
            f"search_type={THRESHOLD!r} needs a store whose embeddings are JinaClipEmbeddings, and those of {name} are "
            f"{type(embeddings).__name__}"
        )
    try:
        with answer_from(ProbeTable()):
            store.similarity_search_with_relevance_scores("", k=1)
    except NotImplementedError:
        raise ConfigError(
            f"{name} has no relevance scores from 0 to 1 to hold against score_threshold; take "
            "search_type='similarity' with score_key, and look at the scores that it has"
        ) from None
    except Exception:  # noqa: BLE001  `ProbeEnd`, or what a store makes of it: it did not refuse this kind of search
        return


def search_above(store: VectorStore, text: str, vector: Vector, options: dict[str, Any]) -> ScoredDocuments:
    """The documents that are near enough, with their relevance from 0 to 1."""
    with answer_from({text: vector}):
        return [*store.similarity_search_with_relevance_scores(text, **options)]


async def asearch_above(store: VectorStore, text: str, vector: Vector, options: dict[str, Any]) -> ScoredDocuments:
    """`search_above` without blocking the event loop."""
    with answer_from({text: vector}):
        return [*await store.asimilarity_search_with_relevance_scores(text, **options)]
