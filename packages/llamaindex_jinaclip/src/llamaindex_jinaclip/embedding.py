"""JinaClipEmbedding: jina-clip as LlamaIndex's multi-modal embedding."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, Self

from llama_index.core.base.embeddings.base import Embedding
from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr, SecretStr, ValidationError
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # not said to be public
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent, EmbeddingStartEvent
from llama_index.core.schema import BaseNode
from llama_index.core.storage.kvstore.types import BaseKVStore

from jinaclip import Batches, ConfigError, EmbedderConfig, ImagePolicy, JinaClip
from llamaindex_jinaclip.cache import KeyedCache, Query
from llamaindex_jinaclip.nodes import Halves, pictures_being_hashed, public

Vectors = list[Embedding]
OPTIONS = {item.name: item.name for item in fields(EmbedderConfig)}
OPTIONS |= {"model_name": OPTIONS.pop("model"), "embed_batch_size": OPTIONS.pop("batch_size")}
"""Our fields, and the core's words for them: LlamaIndex has two words of its own."""
PAYLOAD = ("backend", "dimensions", "normalized", "image_resize", "fusion_weight")
"""Fields that say something about the vectors and can hold no secret."""

dispatcher = get_dispatcher(__name__)


class JinaClipEmbedding(MultiModalEmbedding):
    """Texts, pictures and nodes as vectors of jina-clip-v1 or jina-clip-v2: lists of d floats, by default of length 1.

    Takes the options of `jinaclip.EmbedderConfig` under the same names, except that LlamaIndex's own words win:
    `model_name` and `embed_batch_size` (`model` and `batch_size` are understood too). `num_workers`,
    `callback_manager`, `rate_limiter` and `embeddings_cache` are LlamaIndex's. Async calls have `num_workers` batches
    under way at once, by default `max_concurrency`. A field that is set later takes effect, through a new core object:
    `clip.usage` and `token_budget` start afresh, and local weights are loaded again. A copy shares the core object
    until a field of either is set; a pickle makes one of its own.

    A picture is a path, an https or data: URL, bytes, `BytesIO`, a PIL picture or a `jinaclip.Image`. Called on nodes,
    as a transformation, it embeds `ImageNode`s and nodes with an `image_resource` by their picture, other nodes by
    their text, and nodes with both by the two fused.

    Raises:
        ConfigError: an option is wrong or unknown.
        MissingDependencyError: `backend="local"` without `jinaclip[local]`.
    """

    model_config = ConfigDict(validate_assignment=True)

    model_name: str = EmbedderConfig.model
    backend: Literal["api", "local"] = EmbedderConfig.backend
    dimensions: int | None = EmbedderConfig.dimensions
    normalized: bool = EmbedderConfig.normalized
    truncate: bool = EmbedderConfig.truncate
    embed_batch_size: int = EmbedderConfig.batch_size
    max_concurrency: int = EmbedderConfig.max_concurrency
    max_retries: int = EmbedderConfig.max_retries
    timeout: float = EmbedderConfig.timeout
    api_key: SecretStr | None = Field(default=None, exclude=True, repr=False)
    """None reads JINA_API_KEY, then JINAAI_API_KEY. Never dumped; a pickle holds it, for worker processes."""
    base_url: str = EmbedderConfig.base_url
    requests_per_minute: int | None = EmbedderConfig.requests_per_minute
    tokens_per_minute: int | None = EmbedderConfig.tokens_per_minute
    token_budget: int | None = EmbedderConfig.token_budget
    device: str = EmbedderConfig.device
    dtype: str | None = EmbedderConfig.dtype
    revision: str | None = EmbedderConfig.revision
    image_policy: ImagePolicy = Field(default_factory=ImagePolicy)
    image_resize: Literal["model", "pad", "squash", "none"] = EmbedderConfig.image_resize
    image_quality: int | None = EmbedderConfig.image_quality
    url_mode: Literal["fetch", "forward"] = EmbedderConfig.url_mode
    show_progress: bool = EmbedderConfig.show_progress
    fusion_weight: float = Field(default=0.5, ge=0, le=1)
    """Share of the text in nodes that have a picture too: 0 is the picture alone, 1 the text alone."""
    embeddings_cache: Any | None = Field(default=None, exclude=True)
    """A key-value store of LlamaIndex for text vectors; queries, documents and settings are kept apart in it."""
    num_workers: int | None = Field(default=None, ge=0)

    _clip: JinaClip = PrivateAttr()

    if not TYPE_CHECKING:  # type checkers take the signature from the fields

        def __init__(self, **options: Any) -> None:
            options = hidden(options)
            options.pop("class_name", None)  # from a dump inside another's
            own = {name: options.pop(name) for name in type(self).model_fields if name in options.keys() - OPTIONS}
            clip = open_clip(options)
            with checked():
                super().__init__(**own, **shown(clip))
            self._clip = clip
            self.embeddings_cache = self.embeddings_cache  # with the core object in hand, see `__setattr__`

    def __setattr__(self, name: str, value: Any) -> None:
        if name in OPTIONS:
            return self._change(name, value)
        if name == "embeddings_cache" and isinstance(value, BaseKVStore):
            value = KeyedCache(value.store if isinstance(value, KeyedCache) else value, self._clip)
        with checked():
            return super().__setattr__(name, value)

    def _change(self, name: str, value: Any) -> None:
        clip = open_clip(hidden({**{option: getattr(self, option) for option in OPTIONS}, name: value}))
        if self.token_budget is not None and self._clip.usage.tokens and name != "token_budget":
            raise ConfigError(f"{name} cannot be set while part of token_budget is spent; set token_budget anew first")
        super().__setattr__(name, shown(clip)[name])
        self._clip = clip  # the connections of the one before close when nobody holds it any more
        self.embeddings_cache = self.embeddings_cache

    @property
    def clip(self) -> JinaClip:
        """The core object: `clip.usage`, `clip.fingerprint`, `clip.check()`, `clip.close()`."""
        return self._clip

    # -- dumps and copies

    @classmethod
    def class_name(cls) -> str:
        """The name in dumps and events."""
        return "JinaClipEmbedding"

    def to_payload(self) -> dict[str, Any]:
        """What events tell of this object; no secret among it."""
        return {**super().to_payload(), **{name: getattr(self, name) for name in PAYLOAD}}

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """All fields but key, cache, limiter and callbacks, fit for JSON and `from_dict`."""
        return {**super().to_dict(**{"mode": "json", **kwargs}), **pictures_being_hashed()}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        shared = (self._clip, self.rate_limiter, self.callback_manager, self.embeddings_cache)  # one budget, one store
        return super().__deepcopy__({**(memo or {}), **{id(service): service for service in shared}})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, with some fields changed."""
        copied = super().model_copy(deep=deep)
        for name, value in (update or {}).items():
            setattr(copied, name, value)
        return copied

    # -- texts

    def get_query_embedding(self, query: str) -> Embedding:
        """A query as a vector; on v2 the model's instruction for queries goes before it."""
        return super().get_query_embedding(Query(query) if isinstance(query, str) else query)

    async def aget_query_embedding(self, query: str) -> Embedding:
        """`get_query_embedding` without blocking the event loop."""
        return await super().aget_query_embedding(Query(query) if isinstance(query, str) else query)

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._clip.embed_query(query).tolist()

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return (await self._clip.aembed_query(query)).tolist()

    def get_text_embedding_batch(self, texts: Iterable[str], show_progress: bool = False, **kwargs: Any) -> Vectors:
        """Texts as vectors in their order, `embed_batch_size` to a request. None may be blank; lengths show later.

        Raises:
            InputError: one cannot be embedded; `.index` says which.
            JinaClipError: the backend failed; no further batch is sent, and `.partial` holds what all have become.
        """
        work = Batches(self._clip, "texts", texts)
        return work.run(super().get_text_embedding_batch, show_progress).result()

    async def aget_text_embedding_batch(
        self, texts: Iterable[str], show_progress: bool = False, **kwargs: Any
    ) -> Vectors:
        """`get_text_embedding_batch` without blocking the event loop; `num_workers` or `max_concurrency` at once."""
        work = await asyncio.to_thread(Batches, self._clip, "texts", texts)
        return (await work.arun(super().aget_text_embedding_batch, self.num_workers, show_progress)).result()

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> Vectors:
        with Batches.sending(texts):
            return self._clip.embed_documents(texts).tolist()

    async def _aget_text_embeddings(self, texts: list[str]) -> Vectors:
        with Batches.sending(texts):
            return (await self._clip.aembed_documents(texts)).tolist()

    # -- images

    def get_image_embedding_batch(self, img_file_paths: Iterable[Any], show_progress: bool = False) -> Vectors:
        """Pictures as vectors in their order, `embed_batch_size` to a request. Raises as `get_text_embedding_batch`."""
        work = Batches(self._clip, "images", img_file_paths)
        return work.run(super().get_image_embedding_batch, show_progress).result()

    async def aget_image_embedding_batch(self, img_file_paths: Iterable[Any], show_progress: bool = False) -> Vectors:
        """`get_image_embedding_batch` without blocking the event loop; `num_workers` or `max_concurrency` at once."""
        work = await asyncio.to_thread(Batches, self._clip, "images", img_file_paths)
        return (await work.arun(super().aget_image_embedding_batch, self.num_workers, show_progress)).result()

    def _get_image_embedding(self, img_file_path: Any) -> Embedding:
        return self._get_image_embeddings([img_file_path])[0]

    async def _aget_image_embedding(self, img_file_path: Any) -> Embedding:
        return (await self._aget_image_embeddings([img_file_path]))[0]

    def _get_image_embeddings(self, img_file_paths: list[Any]) -> Vectors:
        if self.rate_limiter is not None:  # LlamaIndex asks it for texts alone, and sends events for texts alone
            self.rate_limiter.acquire()
        dispatcher.event(EmbeddingStartEvent(model_dict=self.to_payload()))
        return told(img_file_paths, self._clip.embed_images(img_file_paths).tolist())

    async def _aget_image_embeddings(self, img_file_paths: list[Any]) -> Vectors:
        if self.rate_limiter is not None:
            await self.rate_limiter.async_acquire()
        dispatcher.event(EmbeddingStartEvent(model_dict=self.to_payload()))
        return told(img_file_paths, (await self._clip.aembed_images(img_file_paths)).tolist())

    # -- nodes

    def __call__(self, nodes: Iterable[BaseNode], show_progress: bool = False, **kwargs: Any) -> Sequence[BaseNode]:
        """Gives nodes their vectors, in place: of their picture, their text, or both fused by `fusion_weight`.

        Args:
            nodes: several, of any kind. A text that is fused is what LlamaIndex embeds of it, metadata included.
            show_progress: with a bar for the texts and one for the pictures.
            **kwargs: whatever else a pipeline passes on; it changes nothing.

        Blank texts, and paths, addresses and base64 of pictures that cannot be used, are found before the first
        request; texts are not counted then, and pictures not opened. If something fails later, the nodes that are done
        have their vectors, which `.partial` holds too, by the node's index; of a node with both, a half that was made
        is lost.

        Returns:
            The same nodes; a list of them where an iterator was given.

        Raises:
            InputError: it is one node, or a node has nothing to embed or an unusable picture; `.index` says which.
            JinaClipError: the backend failed; no further batch is sent.
        """
        work = Halves(nodes, self.fusion_weight, self._clip)
        if not work.texts.run(super().get_text_embedding_batch, show_progress).error:
            work.pictures.run(super().get_image_embedding_batch, show_progress)
        return work.place()

    async def acall(self, nodes: Iterable[BaseNode], show_progress: bool = False, **kwargs: Any) -> Sequence[BaseNode]:
        """`__call__` without blocking the event loop."""
        work = await asyncio.to_thread(Halves, nodes, self.fusion_weight, self._clip)
        if not (await work.texts.arun(super().aget_text_embedding_batch, self.num_workers, show_progress)).error:
            await work.pictures.arun(super().aget_image_embedding_batch, self.num_workers, show_progress)
        return work.place()


def hidden(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the key wrapped, before anything can fail and show it."""
    return {name: SecretStr(v) if "key" in name.lower() and isinstance(v, str) else v for name, v in options.items()}


@contextmanager
def checked() -> Iterator[None]:
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
    try:
        return JinaClip(**named)
    except ConfigError as error:
        raise ConfigError(re.sub(r"\b(?<!embed_)batch_size\b", "embed_batch_size", str(error))) from None


def shown(clip: JinaClip) -> dict[str, Any]:
    """The options of a core object as our fields."""
    options = clip.config.options()
    options["api_key"] = SecretStr(options["api_key"].reveal()) if options["api_key"] else None
    return {ours: options[theirs] for ours, theirs in OPTIONS.items()}


def told(images: Sequence[Any], embeddings: Vectors) -> Vectors:
    """The vectors, once an event has told of them; it names files and addresses, and holds no picture or secret."""
    names = [public(i) if isinstance(i, str) and "data:" not in i[:99] else type(i).__name__ for i in images]
    dispatcher.event(EmbeddingEndEvent(chunks=names, embeddings=embeddings))
    return embeddings
