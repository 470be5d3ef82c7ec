"""JinaClipEmbedding: jina-clip as LlamaIndex's multi-modal embedding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, TypeVar
from uuid import uuid4

from llama_index.core.base.embeddings.base import Embedding
from llama_index.core.bridge.pydantic import Field, PlainSerializer, SecretStr, WithJsonSchema, field_validator
from llama_index.core.schema import BaseNode

from jinaclip import ImagePolicy, Results
from jinaclip.hosts import (
    MAX_BATCH,
    Backend,
    CacheOption,
    EmbedderConfig,
    EngineName,
    Headers,
    ImageDecode,
    ImageLike,
    ImageResize,
    Steps,
    TransportFactory,
    UrlMode,
    WireName,
    arun_steps,
    run_steps,
    save_cache,
    wait_for_thread,
    without_arguments,
)
from llamaindex_jinaclip.calls import embed_entries, embed_items, embed_query
from llamaindex_jinaclip.entries import Entry, as_list, check_nodes, image_entry, text_entry
from llamaindex_jinaclip.holder import ClipHolder
from llamaindex_jinaclip.images import HOLDERS, AnyImage, open_image
from llamaindex_jinaclip.nodes import name_node, node_entry, place_vectors, read_node
from llamaindex_jinaclip.options import Dump
from llamaindex_jinaclip.skipping import SkippedNode, check_retried, skip_failures, stand_in

T = TypeVar("T")
Vectors = list[Embedding]
HEADERS_SCHEMA = WithJsonSchema(
    {"anyOf": [{"type": "object", "additionalProperties": {"type": "string"}}, {"type": "null"}]}
)
CACHE_SCHEMA = WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "string"}, {"type": "null"}]})
SAVE_CACHE = PlainSerializer(save_cache, when_used="json")
PAYLOAD = ("backend", "dimensions", "normalized", "image_resize", "fusion_weight")
"""Fields that say something about the vectors and can hold no secret."""


class JinaClipEmbedding(ClipHolder):
    """Texts, images and nodes as vectors of jina-clip-v1 or jina-clip-v2: lists of d floats, by default of length 1.

    Takes the options of `jinaclip.hosts.EmbedderConfig` under the same names, except that LlamaIndex's own words win:
    `model_name` and `embed_batch_size` (`model` and `batch_size` are understood too). `callback_manager`,
    `rate_limiter` and `embeddings_cache` are LlamaIndex's. A field that is set later takes effect, through a new core
    object: `clip.usage` and `token_budget` start afresh, and local weights are loaded again. A copy shares the core
    object until a field of either is set; a pickle makes one of its own.

    Every method hands all that it was given to the core in one call, which makes batches of up to `embed_batch_size`
    and sends up to `max_concurrency` at once, sync or async. Around the call, as LlamaIndex does around a batch: events
    for the dispatcher and the callback manager, one pair a call; `embeddings_cache`, for texts; and a permit of
    `rate_limiter` for every `embed_batch_size` texts and images, all taken before the first request.

    An image is a path, an https, file: or data: URL, bytes, `BytesIO`, an open binary file, a PIL image, an array of
    RGB, a `jinaclip.Image`, or what holds one in LlamaIndex: an `ImageBlock`, a `MediaResource`, a node. Called on
    nodes, as a transformation, it embeds `ImageNode`s and nodes with an `image_resource` by their image, other nodes by
    their text, and nodes with both by the two fused. Nodes with an image need the label of `label_images`.

    Args:
        callback_manager: LlamaIndex's; gets an event for each call, with what was embedded.

    Raises:
        ConfigError: an option is wrong or unknown.
        MissingDependencyError: `backend="local"` without `jinaclip[local]`.
    """

    model_name: str = Field(default=EmbedderConfig.model, kw_only=False)
    backend: Backend = EmbedderConfig.backend
    dimensions: int | None = EmbedderConfig.dimensions
    normalized: bool = EmbedderConfig.normalized
    truncate: bool = EmbedderConfig.truncate
    embed_batch_size: int = MAX_BATCH
    """Most items in one request or one pass; 512 is learnt, as None is in the core. Never None when read."""
    max_concurrency: int | None = EmbedderConfig.max_concurrency
    max_retries: int = EmbedderConfig.max_retries
    timeout: float = EmbedderConfig.timeout
    deadline: float | None = EmbedderConfig.deadline
    api_key: SecretStr | str | None = Field(default=None, exclude=True, repr=False)
    """None reads JINA_API_KEY, then JINAAI_API_KEY; for a `base_url` that is neither Jina's nor on this machine
    JINACLIP_API_KEY, if it is there. Read back it is a SecretStr, however it was given. Never dumped; a pickle holds
    one that was given, for worker processes, and reads one of the environment there."""
    base_url: str = EmbedderConfig.base_url
    headers: Annotated[Headers | Mapping[str, str] | None, HEADERS_SCHEMA] = Field(default=None, exclude=True)
    """HTTP headers of every request, by name; values are str or SecretStr. Read back they are `jinaclip.hosts.Headers`,
    which show no value. Never dumped; a pickle holds them, as the key."""
    transport: Annotated[TransportFactory | None, WithJsonSchema({"type": "null"})] = Field(
        default=None, exclude=True, repr=False
    )
    """Makes the transport that requests go through. Never dumped; a pickle holds it, and cannot be made if it cannot be
    pickled."""
    wire: WireName | None = EmbedderConfig.wire
    space: str | None = EmbedderConfig.space
    requests_per_minute: int | None = EmbedderConfig.requests_per_minute
    tokens_per_minute: int | None = EmbedderConfig.tokens_per_minute
    token_budget: int | None = EmbedderConfig.token_budget
    cache: Annotated[CacheOption, SAVE_CACHE, CACHE_SCHEMA] = EmbedderConfig.cache
    """Keeps vectors of texts, queries, images and pairs, for all hosts. A dump holds the path of a `jinaclip.Cache`;
    None if it has a store of its own. A pickle holds it, and cannot be made if the store cannot be pickled."""
    engine: EngineName = EmbedderConfig.engine
    device: str | Sequence[str] = EmbedderConfig.device
    dtype: str | None = EmbedderConfig.dtype
    revision: str | None = EmbedderConfig.revision
    threads: int | None = EmbedderConfig.threads
    image_policy: ImagePolicy = Field(default_factory=ImagePolicy)
    image_resize: ImageResize = EmbedderConfig.image_resize
    image_quality: int | None = EmbedderConfig.image_quality
    image_decode: ImageDecode = EmbedderConfig.image_decode
    url_mode: UrlMode = EmbedderConfig.url_mode
    show_progress: bool = EmbedderConfig.show_progress
    fusion_weight: float = Field(default=0.5, ge=0, le=1)
    """Share of the text in nodes that have an image too: 0 is the image alone, 1 the text alone."""
    on_error: Literal["raise", "skip"] = "raise"
    """What becomes of nodes that cannot be embedded: "skip" leaves them out, so that they cost the others nothing."""
    embeddings_cache: Any | None = Field(default=None, exclude=True)
    """A key-value store of LlamaIndex for text vectors; queries, documents and spaces are kept apart in it."""
    num_workers: int | None = Field(default=None, ge=0)
    """LlamaIndex's; changes nothing here, where `max_concurrency` bounds the requests in flight."""

    @field_validator("headers", mode="plain")
    @classmethod
    def _wrap_headers(cls, headers: Any) -> Headers | None:
        return Headers.wrap(headers)

    # -- dumps

    @classmethod
    def class_name(cls) -> str:
        """The name in dumps and events."""
        return "JinaClipEmbedding"

    def to_payload(self) -> dict[str, Any]:
        """What events say of this object; no secret is among it."""
        return {**super().to_payload(), **{name: getattr(self, name) for name in PAYLOAD}}

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """All fields but key, headers, transport, LlamaIndex's cache, limiter and callbacks, for JSON and `from_dict`.

        As a str, which LlamaIndex's ingestion cache hashes, it says what the vectors of nodes depend on and nothing
        else: `clip.space`, `truncate` and `fusion_weight`. With `on_error="skip"` it is never the same twice: that
        cache would give what a run skipped to the next one, which would not try it again. The option `cache` does not.
        """
        return Dump(super().to_dict(**{"mode": "json", **kwargs}), self._identify)

    def _identify(self) -> str:
        name = f"{self.class_name()} {self._clip.space} truncate={self.truncate} fusion_weight={self.fusion_weight}"
        return name if self.on_error == "raise" else f"{name} {uuid4()}"

    # -- texts

    def get_query_embedding(self, query: str) -> Embedding:
        """A query as a vector; on v2 the model's instruction for queries goes before it.

        Raises:
            InputError: it cannot be embedded.
            JinaClipError: the backend failed.
        """
        return run_steps(self._embed_query(query))

    async def aget_query_embedding(self, query: str) -> Embedding:
        """`get_query_embedding` without blocking the event loop."""
        return await arun_steps(self._embed_query(query))

    def get_text_embedding(self, text: str) -> Embedding:
        """A text as a vector. Raises as `get_query_embedding`."""
        return run_steps(self._embed_texts([text]))[0]

    async def aget_text_embedding(self, text: str) -> Embedding:
        """`get_text_embedding` without blocking the event loop."""
        return (await arun_steps(self._embed_texts([text])))[0]

    def get_text_embedding_batch(self, texts: Iterable[str], show_progress: bool = False, **kwargs: Any) -> Vectors:
        """Texts as vectors in their order.

        Args:
            texts: several; not one may be blank.
            show_progress: draw a bar, as the option of that name does for all calls.
            **kwargs: changes nothing.

        Raises:
            InputError: a text cannot be embedded; `.index` says which. Nothing is sent if that is known beforehand.
            JinaClipError: the backend failed. `.partial`, a `jinaclip.Results`, has the vectors of the others.
        """
        return run_steps(self._embed_texts(texts, show_progress=show_progress))

    async def aget_text_embedding_batch(
        self, texts: Iterable[str], show_progress: bool = False, **kwargs: Any
    ) -> Vectors:
        """`get_text_embedding_batch` without blocking the event loop."""
        return await arun_steps(self._embed_texts(texts, show_progress=show_progress))

    # -- images

    @without_arguments
    def get_image_embedding(self, img_file_path: AnyImage) -> Embedding:
        """An image, in any form, as a vector.

        Raises:
            InputError: it cannot be opened, or `image_policy` does not allow it.
            JinaClipError: the backend failed.
        """
        return run_steps(self._embed_images([img_file_path]))[0]

    @without_arguments
    async def aget_image_embedding(self, img_file_path: AnyImage) -> Embedding:
        """`get_image_embedding` without blocking the event loop."""
        return (await arun_steps(self._embed_images([img_file_path])))[0]

    @without_arguments
    def get_image_embedding_batch(self, img_file_paths: Iterable[AnyImage], show_progress: bool = False) -> Vectors:
        """Images as vectors in their order; for arguments and errors see `get_text_embedding_batch`."""
        return run_steps(self._embed_images(img_file_paths, show_progress=show_progress))

    @without_arguments
    async def aget_image_embedding_batch(
        self, img_file_paths: Iterable[AnyImage], show_progress: bool = False
    ) -> Vectors:
        """`get_image_embedding_batch` without blocking the event loop."""
        return await arun_steps(self._embed_images(img_file_paths, show_progress=show_progress))

    # -- nodes

    @without_arguments
    def __call__(
        self,
        nodes: Iterable[BaseNode],
        show_progress: bool = False,
        failed: list[SkippedNode] | None = None,
        **kwargs: Any,
    ) -> Sequence[BaseNode]:
        """Gives nodes their vectors, in place: of their image, their text, or both fused by `fusion_weight`.

        Args:
            nodes: several, of any kind; those with an image from `label_images`. A text that is fused is what
                LlamaIndex embeds of it, metadata included.
            show_progress: draw a bar, as the option of that name does for all calls.
            failed: gets a `SkippedNode` for each node that `on_error="skip"` leaves out; the log names them in any
                case. Whoever passes it sees to it that a docstore does not take their documents for done.
            **kwargs: whatever else a pipeline passes on; it changes nothing.

        Blank texts, images without label, and paths, addresses and base64 that cannot be used are found before the
        first request; texts are not counted then, and images not opened. If a node fails later, all others get their
        vectors before the error is raised.

        With `on_error="skip"` nothing is looked for beforehand, and nodes that cannot be embedded are left out of what
        is returned. In a list that was given, a pipeline's, an empty node of the same id takes the place of each, so
        that a docstore sees the node as changed in the next run. Without `failed`, the error of a node that a docstore
        would take for done all the same is raised, after all others have got their vectors: of one that was made of a
        document and is not blank, and of any in a worker process.

        Returns:
            The same nodes; a list of them where an iterator was given, or some were skipped.

        Raises:
            InputError: it is one node, or a node has nothing to embed, an unusable image or one without label;
                `.index` says which, and the message names its id.
            JinaClipError: the backend failed. `.partial`, a `jinaclip.Results`, says what came of each node.
        """
        return run_steps(self._embed_nodes(nodes, failed, show_progress=show_progress))

    @without_arguments
    async def acall(
        self,
        nodes: Iterable[BaseNode],
        show_progress: bool = False,
        failed: list[SkippedNode] | None = None,
        **kwargs: Any,
    ) -> Sequence[BaseNode]:
        """`__call__` without blocking the event loop."""
        return await arun_steps(self._embed_nodes(nodes, failed, show_progress=show_progress))

    # -- the same for sync and async

    def _embed_query(self, query: str) -> Steps[Embedding]:
        embed = partial(embed_query, self._clip)
        return (yield from embed_entries(embed, self, self._clip, [text_entry(query, "query")], {}))[0]

    def _embed_texts(self, texts: Iterable[str], *, show_progress: bool = False) -> Steps[Vectors]:
        listed = yield from list_items(texts, "text")
        embed = partial(embed_items, self._clip, kind="text", show_progress=show_progress)
        return (yield from embed_entries(embed, self, self._clip, [text_entry(text) for text in listed], {}))

    def _embed_images(self, images: Iterable[AnyImage], *, show_progress: bool = False) -> Steps[Vectors]:
        listed = yield from list_items(images, "image")
        held = any(isinstance(image, HOLDERS) for image in listed)
        convert = partial(open_image, clip=self._clip) if held else None
        embed = partial(embed_items, self._clip, convert=convert, kind="image", show_progress=show_progress)
        return (yield from embed_entries(embed, self, self._clip, [image_entry(image) for image in listed], {}))

    def _embed_nodes(
        self, nodes: Iterable[BaseNode], failed: list[SkippedNode] | None, *, show_progress: bool = False
    ) -> Steps[Sequence[BaseNode]]:
        listed = yield from list_items(nodes, "node")
        check_nodes(listed)
        entries = yield from wait_for_thread(self._read_nodes, listed)
        read, strict = partial(read_node, weight=self.fusion_weight, clip=self._clip), self.on_error == "raise"
        embed = partial(
            embed_items, self._clip, convert=read, name=name_node, strict=strict, show_progress=show_progress
        )
        settle = Results.unwrap if strict else partial(self._skip, nodes=listed, failed=failed)
        vectors: dict[int, Embedding] = {}
        try:
            yield from embed_entries(embed, self, self._clip, entries, vectors, settle)
        finally:
            place_vectors(entries, vectors)
        if len(vectors) < len(listed):
            stand_in(nodes, set(range(len(listed))) - vectors.keys())
            return [listed[index] for index in sorted(vectors)]
        return nodes if isinstance(nodes, Sequence) else listed

    def _skip(self, results: Results, nodes: Sequence[BaseNode], failed: list[SkippedNode] | None) -> None:
        skipped = skip_failures(results, nodes)
        if failed is None:
            check_retried(skipped, results)
        else:
            failed += skipped

    def _read_nodes(self, nodes: Sequence[BaseNode]) -> list[Entry]:
        return [node_entry(node, self.fusion_weight) for node in nodes]

    # -- the core alone, without events, cache and limiter: abstract in LlamaIndex's classes, or called by others of its
    # classes, which else would block the event loop (_aget_text_embedding) or send a request for each text

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._clip.embed_query(query).tolist()

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return (await self._clip.aembed_query(query)).tolist()

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return (await self._clip.aembed_documents([text]))[0].tolist()

    def _get_text_embeddings(self, texts: list[str]) -> Vectors:
        return self._clip.embed_documents(texts).tolist()

    def _get_image_embedding(self, img_file_path: ImageLike) -> Embedding:
        return self._clip.embed_image(img_file_path).tolist()

    async def _aget_image_embedding(self, img_file_path: ImageLike) -> Embedding:
        return (await self._clip.aembed_image(img_file_path)).tolist()


def list_items(items: Iterable[T], kind: str) -> Steps[list[T]]:
    """The items as they are now; an iterator, which may take a while, is read in a thread for an async method.

    Raises:
        InputError: it is one item and not several.
    """
    if isinstance(items, Sequence):
        return as_list(items, kind)
    return (yield from wait_for_thread(as_list, items, kind))
