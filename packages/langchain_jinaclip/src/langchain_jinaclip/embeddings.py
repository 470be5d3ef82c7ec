"""JinaClipEmbeddings: the core as LangChain's `Embeddings`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from langchain_core.embeddings import Embeddings
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr

from jinaclip import AuthenticationError, EmbedderConfig, ImagePolicy, JinaClip
from langchain_jinaclip.inputs import as_image, as_pair, each, is_several


def key_of_environment() -> SecretStr | None:
    """JINA_API_KEY, else JINAAI_API_KEY, else None."""
    try:
        return SecretStr(EmbedderConfig().key.reveal())
    except AuthenticationError:
        return None  # the local backend needs none; the API backend asks again and says what is wrong


async def as_lists(vectors: Awaitable[Any]) -> list[list[float]]:
    """Rows as Python floats, in a thread and one by one, so that the event loop gets its turn between them."""
    rows = await vectors
    return await asyncio.to_thread(lambda: [row.tolist() for row in rows])


class JinaClipEmbeddings(BaseModel, Embeddings):
    """jina-clip-v1 and jina-clip-v2 as LangChain embeddings, for texts, images and pairs of both.

    The fields are the options of `jinaclip.EmbedderConfig`, with its meanings and defaults. They cannot be changed
    afterwards; `model_copy(update=...)` gives another object. Safe to use from many threads and event loops at once.
    Vectors are lists of Python floats, `dimensions` long, at length 1 unless `normalized=False`.

    Images are paths, https or data: URLs, bytes, BytesIO, PIL pictures, uint8 arrays, `jinaclip.Image`, or image
    content blocks with `url` or `base64`.

    Args:
        api_key: for `backend="api"`; read from JINA_API_KEY, then JINAAI_API_KEY, when the object is made.

    Raises:
        ValidationError: an option does not exist or is of the wrong type.
        ConfigError: an option is out of range, or does not fit the model.
        AuthenticationError: `backend="api"`, and there is no key.
    """

    # hidden, as a misspelt api_key has a key for its value
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    model: str = Field(default="jina-clip-v2", validation_alias=AliasChoices("model", "model_name"))
    backend: Literal["api", "local"] = "api"
    dimensions: int | None = None
    normalized: bool = True
    truncate: bool = False
    batch_size: int = 64
    max_concurrency: int = 8
    max_retries: int = 4
    timeout: float = 60.0
    api_key: SecretStr | None = Field(
        default_factory=key_of_environment, validation_alias=AliasChoices("api_key", "jina_api_key")
    )
    base_url: str = "https://api.jina.ai/v1/embeddings"
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    token_budget: int | None = None
    device: str = "auto"
    dtype: str | None = None
    revision: str | None = None
    image_policy: ImagePolicy = Field(default_factory=ImagePolicy)
    image_resize: Literal["model", "pad", "squash", "none"] = "model"
    image_quality: int | None = None
    url_mode: Literal["fetch", "forward"] = "fetch"
    show_progress: bool = False

    _clip: JinaClip

    if not TYPE_CHECKING:  # type checkers make the signature from the fields

        def __init__(self, **options: Any) -> None:
            plain = {*type(self).model_fields, "model_name"} - {"api_key"}
            for name in [name for name, value in options.items() if isinstance(value, str) and name not in plain]:
                options[name] = SecretStr(options[name])  # before anything can fail with the key among its variables
            super().__init__(**options)
            # the core looks at what was given: pydantic makes a number of True and of "64"
            given = {name: options.get(name, getattr(self, name)) for name in JinaClipEmbeddings.model_fields}
            self._clip = JinaClip(**{**given, "image_policy": self.image_policy})
            if self.backend == "api":
                _ = self._clip.config.key  # a missing one is told here, not by the first search

    @property
    def clip(self) -> JinaClip:
        """The core's object, for `usage`, `estimate`, `check`, `dimensions`, `close`, and for caches `fingerprint`."""
        return self._clip

    def embed_documents(self, texts: Iterable[str]) -> list[list[float]]:
        """Texts as vectors, in their order; no texts give [] and no request.

        Raises:
            InputError: an item is no text; `.index` says which, `.partial` holds what the others became.
            JinaClipError: the backend failed; `.partial` holds what was already embedded.
        """
        return self._clip.embed_documents(texts).tolist()

    async def aembed_documents(self, texts: Iterable[str]) -> list[list[float]]:
        """`embed_documents` without blocking the event loop; ends at once when cancelled."""
        return await as_lists(self._clip.aembed_documents(texts))

    def embed_query(self, text: str) -> list[float]:
        """A query as a vector, on v2 after the model's instruction for queries. Raises as `embed_documents`."""
        return self._clip.embed_query(text).tolist()

    async def aembed_query(self, text: str) -> list[float]:
        """`embed_query` without blocking the event loop; ends at once when cancelled."""
        return (await self._clip.aembed_query(text)).tolist()

    def embed_images(self, images: Iterable[Any]) -> list[list[float]]:
        """Images as vectors, in their order; no images give [] and no request. Raises as `embed_documents`."""
        return self._clip.embed_images(each(as_image, images)).tolist()

    async def aembed_images(self, images: Iterable[Any]) -> list[list[float]]:
        """`embed_images` without blocking the event loop; ends at once when cancelled."""
        return await as_lists(self._clip.aembed_images(await asyncio.to_thread(each, as_image, images)))

    def embed_image(self, uris: Any) -> Any:
        """The name that Chroma and LanceDB call: a list gives a list of vectors, one image gives one vector.

        Raises as `embed_documents`.
        """
        return self.embed_images(uris) if is_several(uris) else self._clip.embed_image(as_image(uris)).tolist()

    async def aembed_image(self, uris: Any) -> Any:
        """`embed_image` without blocking the event loop; ends at once when cancelled."""
        if is_several(uris):
            return await self.aembed_images(uris)
        return (await self._clip.aembed_image(await asyncio.to_thread(as_image, uris))).tolist()

    def embed_pairs(self, pairs: Iterable[tuple[str, Any]], *, weight: float = 0.5) -> list[list[float]]:
        """Each (text, image) as one vector at length 1; `weight` is the text's share. Raises as `embed_documents`."""
        return self._clip.embed_pairs(each(as_pair, pairs), weight=weight).tolist()

    async def aembed_pairs(self, pairs: Iterable[tuple[str, Any]], *, weight: float = 0.5) -> list[list[float]]:
        """`embed_pairs` without blocking the event loop; ends at once when cancelled."""
        return await as_lists(self._clip.aembed_pairs(await asyncio.to_thread(each, as_pair, pairs), weight=weight))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Another object with some options changed, and checked."""
        return type(self)(**{**{name: getattr(self, name) for name in type(self).model_fields}, **(update or {})})

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()  # keys do not travel: the other process reads its own environment
        return {**state, "__dict__": {**state["__dict__"], "api_key": None}}
