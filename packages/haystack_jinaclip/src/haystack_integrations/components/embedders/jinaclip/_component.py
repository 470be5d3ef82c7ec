"""What components do alike: they are saved, warmed up, closed, and embed lists of documents.

Plain bases, no components: what one of ours inherits is spelled out here once, and a ranker is no embedder.
"""

from __future__ import annotations

from typing import Any, Generic, Self, TypeVar

from haystack import Document, component, default_from_dict, default_to_dict

from haystack_integrations.components.embedders.jinaclip._documents import (
    EmbeddedDocuments,
    check_documents,
    embed_documents,
)
from haystack_integrations.components.embedders.jinaclip._handle import ClipHandle
from haystack_integrations.components.embedders.jinaclip._options import ClipOptions, DocumentOptions
from haystack_integrations.components.embedders.jinaclip._sources import Source
from jinaclip.hosts import Steps, arun_steps, run_steps, without_arguments

Options = TypeVar("Options", bound=ClipOptions)
ListOptions = TypeVar("ListOptions", bound=DocumentOptions)


class Closable:
    """`with` and `async with` for a component."""

    def close(self) -> None:
        """Closes what it holds; the next run opens it again."""

    async def close_async(self) -> None:
        """`close` without blocking the event loop."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close_async()


class ClipComponent(Closable, Generic[Options]):
    """A component that holds options and a JinaClip.

    Attributes:
        options: as they were given, and the defaults of the others.
        handle: holds the component's JinaClip.
    """

    options: Options
    handle: ClipHandle

    def to_dict(self) -> dict[str, Any]:
        """The component as a saved pipeline holds it, without `transport`.

        Raises:
            ValueError: the key is a token, or the value of a header is one or a str; these are never saved.
        """
        return default_to_dict(self, **self.options.to_save())

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component of a saved pipeline."""
        return default_from_dict(cls, data)

    def close(self) -> None:
        """Closes connections and lets go of the weights; the next run opens and loads them again."""
        self.handle.close()

    async def close_async(self) -> None:
        """`close` without blocking the event loop."""
        await self.handle.close_async()

    def _get_telemetry_data(self) -> dict[str, Any]:
        return self.options.telemetry()


class EmbeddingComponent(ClipComponent[Options]):
    """A component whose every run embeds something, so that pipelines warm it up."""

    def warm_up(self) -> None:
        """Reads the key or loads the weights. Pipelines and `run` do it; once warm it does nothing.

        Raises:
            ValueError: no key is set, or the options do not fit the model.
            JinaClipError: the weights cannot be loaded.
        """
        self.handle.warm_up()

    async def warm_up_async(self) -> None:
        """`warm_up` without blocking the event loop."""
        await self.handle.warm_up_async()


class DocumentComponent(EmbeddingComponent[ListOptions]):
    """A component that embeds lists of documents.

    Attributes:
        source: finds what is embedded of a document.
    """

    source: Source

    @component.output_types(documents=list[Document], failed_documents=list[Document], meta=dict[str, Any])
    @without_arguments
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Embeds documents.

        Args:
            documents: stay as they are.

        Returns:
            `documents`, copies in order with `embedding` set to a list of floats; of what is made of an image
            `meta["embedding_source"]` says so. `failed_documents`, only with `raise_on_failure=False`: copies of those
            that cannot be embedded, with the reason in `meta["embedding_error"]`. `meta` with the model and the tokens
            of this run, empty where there was nothing to do.

        Raises:
            TypeError: it is no list of Documents.
            ValueError: a document has nothing that can be embedded, or there is no key.
            RuntimeError: a page of a PDF file cannot be rendered.
            JinaClipError: the backend failed; `.partial` holds what was embedded, a `jinaclip.Results`.
        """
        return run_steps(self._embed(documents)).output()

    @component.output_types(documents=list[Document], failed_documents=list[Document], meta=dict[str, Any])
    @without_arguments
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        return (await arun_steps(self._embed(documents))).output()

    def _embed(self, documents: list[Document]) -> Steps[EmbeddedDocuments]:
        check_documents(documents, type(self).__name__)
        strict = self.options.raise_on_failure
        return (yield from embed_documents(self.handle, self.source, documents, raise_on_failure=strict))
