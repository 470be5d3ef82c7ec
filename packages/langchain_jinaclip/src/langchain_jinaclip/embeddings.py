"""JinaClipEmbeddings: the core as LangChain's `Embeddings`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Self, overload

from langchain_core.embeddings import Embeddings
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    SecretStr,
    WithJsonSchema,
)

from jinaclip import AuthenticationError, ImagePolicy, JinaClip, Pair, hosts
from jinaclip.hosts import (
    Backend,
    CacheOption,
    Closing,
    Drawable,
    EmbedderConfig,
    EngineName,
    Headers,
    ImageDecode,
    ImageResize,
    Secret,
    TransportFactory,
    UrlMode,
    WireName,
    check_weight,
    refuse_unknown,
    run_in_thread,
    save_cache,
    without_arguments,
    without_options,
)
from langchain_jinaclip.inputs import ImageInput, is_single, resolve_image, resolve_pair, unwrap_block
from langchain_jinaclip.vector_table import current_table, query_vector

OTHER_NAMES = ("model_name", "jina_api_key")
"""Names that LangChain's older Jina class has for options."""
WRAP_HEADERS = PlainValidator(Headers.wrap)
MASK_HEADERS = PlainSerializer(lambda headers: dict.fromkeys(headers, "**********"), when_used="json-unless-none")
HEADERS_SCHEMA = WithJsonSchema(
    {"anyOf": [{"type": "object", "additionalProperties": {"type": "string"}}, {"type": "null"}]}
)
KEEP_CACHE = PlainValidator(lambda cache: cache)  # the core checks it
SAVE_CACHE = PlainSerializer(save_cache, when_used="json")
CACHE_SCHEMA = WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "string"}, {"type": "null"}]})


def key_from_environment() -> SecretStr | None:
    """JINA_API_KEY, else JINAAI_API_KEY, else None."""
    try:
        return SecretStr(EmbedderConfig().key.reveal())
    except AuthenticationError:
        return None  # the local backend needs no key; the API backend asks again and says what is wrong


def hide_secrets(options: dict[str, Any], plain: set[str]) -> dict[str, Any]:
    """The options with headers and all else wrapped that can be a secret, so that no `ValidationError` shows it.

    Args:
        options: by name.
        plain: options that hold no secret. What has any other name is wrapped: a misspelt `api_key` is a key too.
    """
    hidden = {name: wrap_secret(value) for name, value in options.items() if name not in plain}
    headers = {"headers": Headers.wrap(options["headers"])} if "headers" in options else {}
    return {**options, **hidden, **headers}


def wrap_secret(value: Any) -> Any:
    """A key as a SecretStr; what cannot be one as a `Secret` that knows no more than its type. None stays."""
    if value is None or isinstance(value, SecretStr):
        return value
    return SecretStr(value) if isinstance(value, str) else Secret.wrap(value)


async def to_lists(vectors: Any) -> list[list[float]]:
    """Rows as Python floats, in a thread and one by one, so that the event loop gets its turn between them."""
    return await run_in_thread(lambda: [row.tolist() for row in vectors])


class JinaClipEmbeddings(Closing, BaseModel, Embeddings):
    """jina-clip-v1 and jina-clip-v2 as LangChain embeddings, for texts, images and pairs of both.

    The fields are the options of `jinaclip.JinaClip`, with its meanings and defaults. They cannot be changed
    afterwards; `model_copy(update=...)` gives another object. Safe to use from many threads and event loops at once.
    Vectors are lists of Python floats, `dimensions` long, at length 1 unless `normalized=False`.

    Images are paths, https or data: URLs, bytes, BytesIO, open binary files, PIL images, uint8 arrays of RGB,
    `jinaclip.Image`, or image content blocks with `url` or `base64`.

    `model` is also taken by the name `model_name`, `api_key` by `jina_api_key`.

    Args:
        api_key: for `backend="api"`; read from JINA_API_KEY, then JINAAI_API_KEY, when the object is made. A str
            becomes a SecretStr. A `base_url` that is neither Jina's nor on this machine gets JINACLIP_API_KEY, or none.
        headers: HTTP headers of every request by name, values as str or SecretStr. They become
            `jinaclip.hosts.Headers`, whose values are in no dump. An Authorization replaces the key.
        transport: makes the transport that requests go through; in no dump; in a pickle, if it can be pickled.
        cache: keeps vectors of texts, images and pairs, so that nothing is embedded twice. In JSON a `Cache` is its
            path, and None if it has a store of its own.

    A pickle holds the `api_key` and the headers that were given, as worker processes need them. A key of the
    environment is read again by the process that opens it.

    Raises:
        ValidationError: an option is of the wrong type.
        ConfigError: an option does not exist, is out of range, or does not fit the model.
        AuthenticationError: `backend="api"` at Jina's, and there is neither a key nor an Authorization among `headers`.
    """

    # hidden, as a misspelt api_key has a key for its value
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, json_schema_extra=hosts.describe_fields
    )

    model: str = Field(default=EmbedderConfig.model, validation_alias=AliasChoices("model", "model_name"))
    backend: Backend = EmbedderConfig.backend
    dimensions: int | None = EmbedderConfig.dimensions
    normalized: bool = EmbedderConfig.normalized
    truncate: bool = EmbedderConfig.truncate
    batch_size: int | None = EmbedderConfig.batch_size
    max_concurrency: int | None = EmbedderConfig.max_concurrency
    max_retries: int = EmbedderConfig.max_retries
    timeout: float = EmbedderConfig.timeout
    deadline: float | None = EmbedderConfig.deadline
    api_key: SecretStr | str | None = Field(  # a str is for callers; what is kept is a SecretStr
        default_factory=key_from_environment, validation_alias=AliasChoices("api_key", "jina_api_key")
    )
    base_url: str = EmbedderConfig.base_url
    headers: Annotated[Headers | Mapping[str, str] | None, WRAP_HEADERS, MASK_HEADERS, HEADERS_SCHEMA] = None
    transport: Annotated[TransportFactory | None, WithJsonSchema({"type": "null"})] = Field(
        default=None, exclude=True, repr=False
    )
    wire: WireName | None = EmbedderConfig.wire
    space: str | None = EmbedderConfig.space
    requests_per_minute: int | None = EmbedderConfig.requests_per_minute
    tokens_per_minute: int | None = EmbedderConfig.tokens_per_minute
    token_budget: int | None = EmbedderConfig.token_budget
    cache: Annotated[CacheOption, KEEP_CACHE, SAVE_CACHE, CACHE_SCHEMA] = EmbedderConfig.cache
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

    _clip: JinaClip = PrivateAttr()

    if not TYPE_CHECKING:  # type checkers make the signature from the fields

        @without_options
        def __init__(self, **options: Any) -> None:
            refuse_unknown(options, [*type(self).model_fields, *OTHER_NAMES])
            options = hide_secrets(options, {*type(self).model_fields, "model_name"} - {"api_key"})
            super().__init__(**options)
            self._clip = JinaClip(**self._core_options(options))
            if self.backend == "api":
                _ = self._clip.config.authorization  # a missing one is reported here, not by the first search

    def _core_options(self, given: dict[str, Any]) -> dict[str, Any]:
        """The options of the core, as they were given: it checks them, while pydantic makes a number of "64"."""
        options = {name: given.get(name, getattr(self, name)) for name in JinaClipEmbeddings.model_fields}
        if "api_key" not in self.model_fields_set:
            options["api_key"] = Secret(Secret.wrap(self.api_key).reveal() or None, travels=False)
        return {**options, "image_policy": self.image_policy}

    @property
    def clip(self) -> JinaClip:
        """The core's object, for `embed`, `usage`, `estimate`, `self_test`, `dimensions`, `close` and `space`."""
        return self._clip

    def embed_documents(self, texts: Iterable[str]) -> list[list[float]]:
        """Texts as vectors, in their order; no texts give [] and no request.

        Raises:
            InputError: an item is no text; `.index` says which, `.partial` holds the results of the others.
            JinaClipError: the backend failed; `.partial` holds what was already embedded.
        """
        table = current_table()
        return self._clip.embed_documents(texts).tolist() if table is None else table.documents(texts)

    async def aembed_documents(self, texts: Iterable[str]) -> list[list[float]]:
        """`embed_documents` without blocking the event loop; ends at once when cancelled."""
        table = current_table()
        return await to_lists(await self._clip.aembed_documents(texts)) if table is None else table.documents(texts)

    def embed_query(self, text: str) -> list[float]:
        """A query as a vector, on v2 after the model's instruction for queries. Raises as `embed_documents`."""
        return query_vector(text) or self._clip.embed_query(text).tolist()

    async def aembed_query(self, text: str) -> list[float]:
        """`embed_query` without blocking the event loop; ends at once when cancelled."""
        return query_vector(text) or (await self._clip.aembed_query(text)).tolist()

    @without_arguments
    def embed_images(self, images: Iterable[ImageInput]) -> list[list[float]]:
        """Images as vectors, in their order; no images give [] and no request. Raises as `embed_documents`."""
        convert = partial(resolve_image, self._clip)
        return hosts.embed(self._clip, images, convert, kind="image", strict=True).unwrap().tolist()

    @without_arguments
    async def aembed_images(self, images: Iterable[ImageInput]) -> list[list[float]]:
        """`embed_images` without blocking the event loop; ends at once when cancelled."""
        convert = partial(resolve_image, self._clip)
        return await to_lists((await hosts.aembed(self._clip, images, convert, kind="image", strict=True)).unwrap())

    @overload
    def embed_image(self, uris: ImageInput) -> list[float]: ...  # type: ignore[overload-overlap]  # a str is one image
    @overload
    def embed_image(self, uris: Iterable[ImageInput]) -> list[list[float]]: ...
    @without_arguments
    def embed_image(self, uris: Any) -> list[float] | list[list[float]]:
        """The name that Chroma and LanceDB call: a list gives a list of vectors, one image gives one vector.

        Raises as `embed_documents`.
        """
        return self._clip.embed_image(unwrap_block(uris)).tolist() if is_single(uris) else self.embed_images(uris)

    @overload
    async def aembed_image(self, uris: ImageInput) -> list[float]: ...  # type: ignore[overload-overlap]
    @overload
    async def aembed_image(self, uris: Iterable[ImageInput]) -> list[list[float]]: ...
    @without_arguments
    async def aembed_image(self, uris: Any) -> list[float] | list[list[float]]:
        """`embed_image` without blocking the event loop; ends at once when cancelled."""
        if not is_single(uris):
            return await self.aembed_images(uris)
        image = await run_in_thread(unwrap_block, hosts.take(uris, self._clip))
        return (await self._clip.aembed_image(image)).tolist()

    @without_arguments
    def embed_pairs(
        self, pairs: Iterable[tuple[str, ImageInput] | Pair | Drawable], *, weight: float = 0.5
    ) -> list[list[float]]:
        """The text and the image of each pair as one vector at length 1.

        Args:
            pairs: (text, image) each, `jinaclip.Pair`s with a weight of their own, or pages of a `jinaclip.Pdf`.
            weight: the text's share, from 0 to 1.

        Raises as `embed_documents`, and ConfigError if the weight is out of range.
        """
        convert = partial(resolve_pair, self._clip, weight=check_weight(weight))
        return hosts.embed(self._clip, pairs, convert, kind="pair", strict=True).unwrap().tolist()

    @without_arguments
    async def aembed_pairs(
        self, pairs: Iterable[tuple[str, ImageInput] | Pair | Drawable], *, weight: float = 0.5
    ) -> list[list[float]]:
        """`embed_pairs` without blocking the event loop; ends at once when cancelled."""
        convert = partial(resolve_pair, self._clip, weight=check_weight(weight))
        return await to_lists((await hosts.aembed(self._clip, pairs, convert, kind="pair", strict=True)).unwrap())

    @without_options
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Another object with some options changed, and checked. Without an `api_key`, it reads the environment."""
        return type(self)(**{**{name: getattr(self, name) for name in self.model_fields_set}, **(update or {})})

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        if "api_key" in self.model_fields_set:
            return state
        return {**state, "__dict__": {**state["__dict__"], "api_key": None}}  # the other process has an environment
