"""The vectors that stores keep of documents which they have found, by public means of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

Vectors = list[Any]
"""A vector for each document, in the order of the documents, or None."""


def find_vectors(store: VectorStore, documents: Sequence[Document]) -> Vectors:
    """The vectors of documents by their ids; None for a document that has none, and for all of a store unknown here.

    Blocks, and asks the store once.
    """
    read = find_reader(store)
    ids = [id_of(document) for document in documents]
    known = [*dict.fromkeys(id_ for id_ in ids if id_ is not None)]
    found = read(store, known) if read is not None and known else {}
    return [found.get(str(id_)) for id_ in ids]


def id_of(document: Document) -> Any:
    """The id by which the store knows a document. Qdrant's is in the metadata, LanceDB's if anywhere."""
    own = document.metadata.get("_id", document.id)
    return document.metadata.get("id") if own is None else own


def find_reader(store: VectorStore) -> Reader | None:
    """What reads vectors out of a store of this class, or of one that it inherits from; None for others."""
    return next((READERS[kind.__name__] for kind in type(store).__mro__ if kind.__name__ in READERS), None)


def read_memory(store: Any, ids: list[Any]) -> Mapping[str, Any]:
    """Out of LangChain's InMemoryVectorStore."""
    return {str(id_): store.store[id_]["vector"] for id_ in ids if id_ in store.store}


def read_qdrant(store: Any, ids: list[Any]) -> Mapping[str, Any]:
    """Out of langchain-qdrant's QdrantVectorStore."""
    points = store.client.retrieve(store.collection_name, ids, with_payload=False, with_vectors=True)
    return {
        str(point.id): point.vector.get(store.vector_name) if isinstance(point.vector, Mapping) else point.vector
        for point in points
    }


def read_chroma(store: Any, ids: list[Any]) -> Mapping[str, Any]:
    """Out of langchain-chroma's Chroma."""
    found = store.get(ids=ids, include=["embeddings"])
    return dict(zip(found["ids"], found["embeddings"], strict=True))


def read_faiss(store: Any, ids: list[Any]) -> Mapping[str, Any]:
    """Out of langchain-community's FAISS."""
    places = {id_: place for place, id_ in store.index_to_docstore_id.items()}
    return {str(id_): store.index.reconstruct(places[id_]) for id_ in ids if id_ in places}


def read_lance(store: Any, ids: list[Any]) -> Mapping[str, Any]:
    """Out of langchain-community's LanceDB, with its usual columns."""
    table = store.get_table()
    if not {"id", "vector"} <= set(table.schema.names):
        return {}
    listed = ", ".join("'" + str(id_).replace("'", "''") + "'" for id_ in ids)
    rows = table.search().where(f"id IN ({listed})").limit(len(ids)).select(["id", "vector"]).to_list()
    return {row["id"]: row["vector"] for row in rows}


Reader = Callable[[Any, list[Any]], Mapping[str, Any]]
READERS: dict[str, Reader] = {
    "InMemoryVectorStore": read_memory,
    "QdrantVectorStore": read_qdrant,
    "Chroma": read_chroma,
    "FAISS": read_faiss,
    "LanceDB": read_lance,
}
"""By the name of the class, so that no store has to be installed."""
