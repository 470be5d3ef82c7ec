"""JinaClipEmbedding: jina-clip as LlamaIndex's multi-modal embedding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Self

from llama_index.core.base.embeddings.base import Embedding
from llama_index.core.bridge.pydantic import (
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    WithJsonSchema,
    field_validator,
)
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import BaseNode
from llama_index.core.storage.kvstore.types import BaseKVStore

from jinaclip import ConfigError, ImagePolicy, JinaClip
from jinaclip.hosts import (
    MAX_BATCH,
    Backend,
    EmbedderConfig,
    Headers,
    ImageLike,
    ImageResize,
    TransportFactory,
    UrlMode,
)
from llamaindex_jinaclip.cache import KeyedCache, Query
from llamaindex_jinaclip.calls import embed_entries, embed_entry
from llamaindex_jinaclip.entries import Entry, as_sequence, image_entry, text_entry
from llamaindex_jinaclip.nodes import hash_supplement, node_entry, place_vectors, read_node
from llamaindex_jinaclip.steps import Steps, arun, blocking, run

Vectors = list[Embedding]
OPTIONS = {item.name: item.name for item in fields(EmbedderConfig)}
OPTIONS |= {"model_name": OPTIONS.pop("model"), "embed_batch_size": OPTIONS.pop("batch_size")}
"""Our fields, and the core's words for them: LlamaIndex has two words of its own."""
HEADERS_SCHEMA = WithJsonSchema(
    {"anyOf": [{"type": "object", "additionalProperties": {"type": "string"}}, {"type": "null"}]}
)
PAYLOAD = ("backend", "dimensions", "normalized", "image_resize", "fusion_weight")
"""Fields that say something about the vectors and can hold no secret."""


class JinaClipEmbedding(MultiModalEmbedding):
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

    An image is a path, an https or data: URL, bytes, `BytesIO`, a PIL image, an array or a `jinaclip.Image`. Called on
    nodes, as a transformation, it embeds `ImageNode`s and nodes with an `image_resource` by their image, other nodes by
    their text, and nodes with both by the two fused.

    Raises:
        ConfigError: an option is wrong or unknown.
        MissingDependencyError: `backend="local"` without `jinaclip[local]`.
    """

    model_config = ConfigDict(validate_assignment=True)

    model_name: str = EmbedderConfig.model
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
    """None reads JINA_API_KEY, then JINAAI_API_KEY. Read back it is a SecretStr, however it was given. Never dumped; a
    pickle holds it, for worker processes."""
    base_url: str = EmbedderConfig.base_url
    headers: Annotated[Headers | Mapping[str, str] | None, HEADERS_SCHEMA] = Field(default=None, exclude=True)
    """HTTP headers of every request, by name; values are str or SecretStr. Read back they are `jinaclip.hosts.Headers`,
    which show no value. Never dumped, and a pickle holds names alone: set them again in the other process."""
    transport: Annotated[TransportFactory | None, WithJsonSchema({"type": "null"})] = Field(
        default=None, exclude=True, repr=False
    )
    """Never dumped; a pickle holds it, if it can be pickled."""
    requests_per_minute: int | None = EmbedderConfig.requests_per_minute
    tokens_per_minute: int | None = EmbedderConfig.tokens_per_minute
    token_budget: int | None = EmbedderConfig.token_budget
    device: str = EmbedderConfig.device
    dtype: str | None = EmbedderConfig.dtype
    revision: str | None = EmbedderConfig.revision
    image_policy: ImagePolicy = Field(default_factory=ImagePolicy)
    image_resize: ImageResize = EmbedderConfig.image_resize
    image_quality: int | None = EmbedderConfig.image_quality
    url_mode: UrlMode = EmbedderConfig.url_mode
    show_progress: bool = EmbedderConfig.show_progress
    fusion_weight: float = Field(default=0.5, ge=0, le=1)
    """Share of the text in nodes that have an image too: 0 is the image alone, 1 the text alone."""
    embeddings_cache: Any | None = Field(default=None, exclude=True)
    """A key-value store of LlamaIndex for text vectors; queries, documents and settings are kept apart in it."""
    num_workers: int | None = Field(default=None, ge=0)
    """LlamaIndex's; changes nothing here, where `max_concurrency` bounds the requests in flight."""

    _clip: JinaClip = PrivateAttr()
    if not TYPE_CHECKING:  # type checkers take the signature from the fields

        def __init__(self, **options: Any) -> None:
            options = wrap_secrets(options)
            options.pop("class_name", None)  # from a dump inside another's
            own = {name: options.pop(name) for name in type(self).model_fields if name in options.keys() - OPTIONS}
            clip = open_clip(options)
            with config_errors():
                super().__init__(**own, **clip_fields(clip))
            self._clip = clip
            self.embeddings_cache = self.embeddings_cache  # with the core object in hand, see `__setattr__`

    def __setattr__(self, name: str, value: Any) -> None:
        if name in OPTIONS:
            return self._change(name, value)
        if name == "embeddings_cache" and isinstance(value, BaseKVStore):
            value = KeyedCache(value.store if isinstance(value, KeyedCache) else value, self._clip)
        with config_errors():
            return super().__setattr__(name, value)

    def _change(self, name: str, value: Any) -> None:
        clip = open_clip(wrap_secrets({**{option: getattr(self, option) for option in OPTIONS}, name: value}))
        if self.token_budget is not None and self._clip.usage.tokens and name != "token_budget":
            raise ConfigError(f"{name} cannot be set while part of token_budget is spent; set token_budget anew first")
        super().__setattr__(name, clip_fields(clip)[name])
        self._clip = clip  # the connections of the one before close when nobody holds it any more
        self.embeddings_cache = self.embeddings_cache

    @property
    def clip(self) -> JinaClip:
        """The core object: `clip.usage`, `clip.fingerprint`, `clip.self_test()`, `clip.close()`."""
        return self._clip

    @field_validator("headers", mode="plain")
    @classmethod
    def _wrap_headers(cls, headers: Any) -> Headers | None:
        return Headers.wrap(headers)

    # -- dumps and copies

    @classmethod
    def class_name(cls) -> str:
        """The name in dumps and events."""
        return "JinaClipEmbedding"

    def to_payload(self) -> dict[str, Any]:
        """What events say of this object; no secret is among it."""
        return {**super().to_payload(), **{name: getattr(self, name) for name in PAYLOAD}}

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """All fields but key, headers, transport, cache, limiter and callbacks, fit for JSON and `from_dict`."""
        return {**super().to_dict(**{"mode": "json", **kwargs}), **hash_supplement()}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        shared = (
            self._clip,
            self.rate_limiter,
            self.callback_manager,
            self.embeddings_cache,
            self.transport,
        )  # one budget, one store
        return super().__deepcopy__({**(memo or {}), **{id(service): service for service in shared}})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, with some fields changed."""
        copied = super().model_copy(deep=deep)
        for name, value in (update or {}).items():
            setattr(copied, name, value)
        return copied

    # -- texts

    def get_query_embedding(self, query: str) -> Embedding:
        """A query as a vector; on v2 the model's instruction for queries goes before it.

        Raises:
            InputError: it cannot be embedded.
            JinaClipError: the backend failed.
        """
        entry = text_entry(query, Query)
        return run(embed_entry(self, entry, self._get_query_embedding, self._aget_query_embedding))

    async def aget_query_embedding(self, query: str) -> Embedding:
        """`get_query_embedding` without blocking the event loop."""
        entry = text_entry(query, Query)
        return await arun(embed_entry(self, entry, self._get_query_embedding, self._aget_query_embedding))

    def get_text_embedding(self, text: str) -> Embedding:
        """A text as a vector. Raises as `get_query_embedding`."""
        return run(embed_entry(self, text_entry(text), self._get_text_embedding, self._aget_text_embedding))

    async def aget_text_embedding(self, text: str) -> Embedding:
        """`get_text_embedding` without blocking the event loop."""
        return await arun(embed_entry(self, text_entry(text), self._get_text_embedding, self._aget_text_embedding))

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
        return run(self._embed_texts(texts, show_progress))

    async def aget_text_embedding_batch(
        self, texts: Iterable[str], show_progress: bool = False, **kwargs: Any
    ) -> Vectors:
        """`get_text_embedding_batch` without blocking the event loop."""
        return await arun(self._embed_texts(texts, show_progress))

    # -- images

    def get_image_embedding(self, img_file_path: ImageLike) -> Embedding:
        """An image, in any form, as a vector.

        Raises:
            InputError: it cannot be opened, or `image_policy` does not allow it.
            JinaClipError: the backend failed.
        """
        entry = image_entry(img_file_path)
        return run(embed_entry(self, entry, self._get_image_embedding, self._aget_image_embedding))

    async def aget_image_embedding(self, img_file_path: ImageLike) -> Embedding:
        """`get_image_embedding` without blocking the event loop."""
        entry = image_entry(img_file_path)
        return await arun(embed_entry(self, entry, self._get_image_embedding, self._aget_image_embedding))

    def get_image_embedding_batch(self, img_file_paths: Iterable[ImageLike], show_progress: bool = False) -> Vectors:
        """Images as vectors in their order; for arguments and errors see `get_text_embedding_batch`."""
        return run(self._embed_images(img_file_paths, show_progress))

    async def aget_image_embedding_batch(
        self, img_file_paths: Iterable[ImageLike], show_progress: bool = False
    ) -> Vectors:
        """`get_image_embedding_batch` without blocking the event loop."""
        return await arun(self._embed_images(img_file_paths, show_progress))

    # -- nodes

    def __call__(self, nodes: Iterable[BaseNode], show_progress: bool = False, **kwargs: Any) -> Sequence[BaseNode]:
        """Gives nodes their vectors, in place: of their image, their text, or both fused by `fusion_weight`.

        Args:
            nodes: several, of any kind. A text that is fused is what LlamaIndex embeds of it, metadata included.
            show_progress: draw a bar, as the option of that name does for all calls.
            **kwargs: whatever else a pipeline passes on; it changes nothing.

        Blank texts, and paths, addresses and base64 of images that cannot be used, are found before the first
        request; texts are not counted then, and images not opened. If a node fails later, all others get their vectors
        before the error is raised.

        Returns:
            The same nodes; a list of them where an iterator was given.

        Raises:
            InputError: it is one node, or a node has nothing to embed or an unusable image; `.index` says which, and
                the message names its id.
            JinaClipError: the backend failed. `.partial`, a `jinaclip.Results`, says what came of each node.
        """
        return run(self._embed_nodes(nodes, show_progress))

    async def acall(self, nodes: Iterable[BaseNode], show_progress: bool = False, **kwargs: Any) -> Sequence[BaseNode]:
        """`__call__` without blocking the event loop."""
        return await arun(self._embed_nodes(nodes, show_progress))

    # -- the same for sync and async

    def _embed_texts(self, texts: Iterable[str], show_progress: bool) -> Steps[Vectors]:
        entries = [text_entry(text) for text in (yield blocking(as_sequence, texts, "text"))]
        read = self._clip.reader().text
        return (yield from embed_entries(self, self._clip, entries, read, {}, show_progress))

    def _embed_images(self, images: Iterable[ImageLike], show_progress: bool) -> Steps[Vectors]:
        entries = [image_entry(image) for image in (yield blocking(as_sequence, images, "image"))]
        read = self._clip.resolve_image
        return (yield from embed_entries(self, self._clip, entries, read, {}, show_progress))

    def _embed_nodes(self, nodes: Iterable[BaseNode], show_progress: bool) -> Steps[Sequence[BaseNode]]:
        listed, entries = yield blocking(self._read_nodes, nodes)
        read = partial(read_node, weight=self.fusion_weight, clip=self._clip)
        vectors: dict[int, Embedding] = {}
        try:
            yield from embed_entries(self, self._clip, entries, read, vectors, show_progress)
        finally:
            place_vectors(entries, vectors)
        return listed

    def _read_nodes(self, nodes: Iterable[BaseNode]) -> tuple[Sequence[BaseNode], list[Entry]]:
        listed = as_sequence(nodes, "node")
        return listed, [node_entry(node, self.fusion_weight) for node in listed]

    # -- what LlamaIndex's classes want of an embedding: the core alone, without events, cache and limiter

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._clip.embed_query(query).tolist()

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return (await self._clip.aembed_query(query)).tolist()

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> Vectors:
        return self._clip.embed_documents(texts).tolist()

    async def _aget_text_embeddings(self, texts: list[str]) -> Vectors:
        return (await self._clip.aembed_documents(texts)).tolist()

    def _get_image_embedding(self, img_file_path: ImageLike) -> Embedding:
        return self._clip.embed_image(img_file_path).tolist()

    async def _aget_image_embedding(self, img_file_path: ImageLike) -> Embedding:
        return (await self._clip.aembed_image(img_file_path)).tolist()

    def _get_image_embeddings(self, img_file_paths: Sequence[ImageLike]) -> Vectors:
        return self._clip.embed_images(img_file_paths).tolist()

    async def _aget_image_embeddings(self, img_file_paths: Sequence[ImageLike]) -> Vectors:
        return (await self._clip.aembed_images(img_file_paths)).tolist()


def wrap_secrets(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with key and headers wrapped, before anything can fail and a traceback show them."""
    wrapped = {name: Headers.wrap(v) if name == "headers" else v for name, v in options.items()}
    return {name: SecretStr(v) if "key" in name.lower() and isinstance(v, str) else v for name, v in wrapped.items()}


@contextmanager
def config_errors() -> Iterator[None]:
    """Turns Pydantic's refusals, which show what they refuse, into those of other options.

    Raises:
        ConfigError: a field does not fit.
    """
    problems: list[Any] = []
    try:
        yield
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
    if problems:
        raise ConfigError("; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in problems))


def open_clip(options: Mapping[str, Any]) -> JinaClip:
    """The core object for options in either's words.

    Raises:
        ConfigError: an option is wrong, unknown, or given in both words.
    """
    named = {OPTIONS.get(name, name): value for name, value in options.items()}
    if len(named) < len(options):
        raise ConfigError("give each option once: model is model_name here, batch_size is embed_batch_size")
    policy: Any = named.get("image_policy")
    if isinstance(policy, dict):  # from a dump, where tuples are lists
        policy = {name: tuple(value) if isinstance(value, list) else value for name, value in policy.items()}
        named["image_policy"] = ImagePolicy(**policy)
    if named.get("batch_size") == MAX_BATCH:
        named["batch_size"] = None
    try:
        return JinaClip(**named)
    except ConfigError as error:
        if error.option != "batch_size":
            raise
        wrong = f"embed_batch_size={named['batch_size']!r} must be {error.requirement}"
        raise ConfigError(wrong, option="embed_batch_size", requirement=error.requirement) from None


def clip_fields(clip: JinaClip) -> dict[str, Any]:
    """The options of a core object as our fields."""
    options = clip.config.options()
    options["api_key"] = SecretStr(options["api_key"].reveal()) if options["api_key"] else None
    options["batch_size"] = options["batch_size"] or MAX_BATCH
    return {ours: options[theirs] for ours, theirs in OPTIONS.items()}
