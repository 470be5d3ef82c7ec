"""Search by a text, an image or both, in any document store that has a retriever by embedding."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Self

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.components.retrievers.types import EmbeddingRetriever
from haystack.core.serialization import component_to_dict

from haystack_integrations.components.embedders.jinaclip import JinaClipQueryEmbedder
from haystack_integrations.components.embedders.jinaclip._component import Closable
from haystack_integrations.components.embedders.jinaclip._queries import ImageInput
from jinaclip import ConfigError
from jinaclip.hosts import Steps, arun_steps, run_steps, wait_for, wait_for_thread, without_arguments


@component
class JinaClipRetriever(Closable):
    """Finds documents, texts and images alike, by a text, an image, or a text and an image together.

    `run` takes what Haystack's text retrievers take, so it stands wherever they do, in a `MultiRetriever` too, and is a
    tool of an agent as `ComponentTool(JinaClipRetriever(...))`.

    Attributes:
        retriever: as it was given.
        embedder: as it was given.
    """

    def __init__(self, *, retriever: EmbeddingRetriever, embedder: JinaClipQueryEmbedder) -> None:
        """Takes the two components that it runs one after the other.

        Args:
            retriever: finds documents by an embedding, such as `InMemoryEmbeddingRetriever` or the one of another
                document store.
            embedder: makes the embedding; its model, `dimensions` and options of images must be those that the
                documents were embedded with.

        Raises:
            ConfigError: one is no such component.
        """
        if not takes_embedding(retriever):
            raise ConfigError(
                f"retriever must be a retriever by embedding, whose run takes query_embedding, not "
                f"{type(retriever).__name__}"
            )
        if not isinstance(embedder, JinaClipQueryEmbedder):
            raise ConfigError(f"embedder must be a JinaClipQueryEmbedder, not {type(embedder).__name__}")
        self.retriever = retriever
        self.embedder = embedder

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    @without_arguments
    def run(
        self,
        query: str | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        image: ImageInput = None,
        weight: float | None = None,
    ) -> dict[str, Any]:
        """Finds the documents nearest to a text, an image or both.

        Args:
            query: what to search for, in words; may be left out if there is an image.
            filters: which documents to search among, as the document store has them.
            top_k: most documents to find.
            image: an image to search with: an image from the conversation, a URL, or a path.
            weight: share of the words, from 0 to 1, where there is an image too.

        Returns:
            `documents`, best first, as the retriever gives them; `meta` with the model and the tokens used.

        Raises:
            TypeError: the query or the image is nothing of the kind.
            ValueError: there is neither, one cannot be embedded, the weight is out of range, or there is no key.
            JinaClipError: the backend failed.
        """
        return run_steps(self._search(query, image, weight, filters=filters, top_k=top_k))

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    @without_arguments
    async def run_async(
        self,
        query: str | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        image: ImageInput = None,
        weight: float | None = None,
    ) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        return await arun_steps(self._search(query, image, weight, filters=filters, top_k=top_k))

    def _search(
        self, query: str | None, image: ImageInput, weight: float | None, **options: Any
    ) -> Steps[dict[str, Any]]:
        embedded = yield from wait_for(self.embedder.run, self.embedder.run_async, query, image, weight)
        found = yield from call(self.retriever, "run", query_embedding=embedded["embedding"], **options)
        return {"documents": found["documents"], "meta": embedded["meta"]}

    def to_dict(self) -> dict[str, Any]:
        """The component as a saved pipeline holds it, with the two that it runs. Raises as their own `to_dict`."""
        parts = {"retriever": self.retriever, "embedder": self.embedder}
        return default_to_dict(self, **{name: component_to_dict(part, name) for name, part in parts.items()})

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component of a saved pipeline."""
        return default_from_dict(cls, data)

    def warm_up(self) -> None:
        """Reads the key or loads the weights, and opens the store. Pipelines do it; once warm it does nothing."""
        run_steps(self._call("warm_up"))

    async def warm_up_async(self) -> None:
        """`warm_up` without blocking the event loop."""
        await arun_steps(self._call("warm_up"))

    def close(self) -> None:
        """Closes what both hold, connections to the document store among it; the next run opens it again."""
        run_steps(self._call("close"))

    async def close_async(self) -> None:
        """`close` without blocking the event loop."""
        await arun_steps(self._call("close"))

    def _call(self, name: str) -> Steps[None]:
        for part in (self.embedder, self.retriever):
            yield from call(part, name)


def takes_embedding(part: Any) -> bool:
    """Whether a component can be given the embedding of a query."""
    run = getattr(part, "run", None)
    inputs = inspect.signature(run).parameters if callable(run) else {}
    return "query_embedding" in inputs or any(one.kind is one.VAR_KEYWORD for one in inputs.values())


def call(part: Any, name: str, **options: Any) -> Steps[Any]:
    """Calls a method of a component of whatever make: in an async method its twin, or in a thread if it has none."""
    method: Callable[..., Any] = getattr(part, name, do_nothing)
    twin: Callable[..., Awaitable[Any]] | None = getattr(part, f"{name}_async", None)
    if twin is None:
        return (yield from wait_for_thread(method, **options))
    return (yield from wait_for(method, twin, **options))


def do_nothing(**_: Any) -> None:
    """For a component that has no `warm_up`, or nothing to close."""
