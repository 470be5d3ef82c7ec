"""LlamaIndex's cache of text vectors, made safe to share."""
# ruff: noqa: D102 - the methods of a store do what their names say

from __future__ import annotations

from typing import Any

from llama_index.core.storage.kvstore.types import DEFAULT_COLLECTION, BaseKVStore

from jinaclip import JinaClip


class Query(str):
    """A text that is embedded as a query. LlamaIndex looks up both kinds under the bare text."""

    __slots__ = ()


@BaseKVStore.register  # in name: only these are called
class KeyedCache:
    """A store in which a vector is found only by what would make it again.

    LlamaIndex's key is the text alone: a query would answer for a document, and one model or width for another. Here
    each kind of text and each fingerprint has a collection of its own.
    """

    def __init__(self, store: BaseKVStore, clip: JinaClip) -> None:
        self.store = store
        self._clip = clip

    def _collection(self, collection: str, key: str) -> str:
        kind = "query" if isinstance(key, Query) else "document"
        cut = "-cut" if self._clip.config.truncate else ""  # else a text that is to be refused would have a vector
        return f"{collection}-{kind}-{self._clip.fingerprint}{cut}"

    def persist(self, *args: Any, **options: Any) -> None:
        self.store.persist(*args, **options)  # type: ignore[attr-defined]  # of those that hold it in memory

    def put(self, key: str, val: dict[str, Any], collection: str = DEFAULT_COLLECTION) -> None:
        self.store.put(str(key), val, self._collection(collection, key))

    async def aput(self, key: str, val: dict[str, Any], collection: str = DEFAULT_COLLECTION) -> None:
        await self.store.aput(str(key), val, self._collection(collection, key))

    def get(self, key: str, collection: str = DEFAULT_COLLECTION) -> dict[str, Any] | None:
        return self.store.get(str(key), self._collection(collection, key))

    async def aget(self, key: str, collection: str = DEFAULT_COLLECTION) -> dict[str, Any] | None:
        return await self.store.aget(str(key), self._collection(collection, key))
