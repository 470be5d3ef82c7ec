"""What all embedders share: options, key, life, serialisation."""

from __future__ import annotations

import asyncio
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, ClassVar, Literal, Self

from haystack import default_from_dict, default_to_dict
from haystack.utils import ComponentDevice, Secret

from jinaclip import SPECS, ConfigError, EmbedderConfig, ImagePolicy, JinaClip

KINDS = {"str": str, "bool": bool, "list[str]": list, "dict[str, Any]": dict}
"""What options of these types may be; the core looks at numbers and choices."""


@dataclass(eq=False, repr=False)
class Embedder:
    """Options of every embedder; those not described here mean what they mean in `jinaclip.EmbedderConfig`.

    Args:
        api_key: resolved at warm-up, and never for the local backend.
        token_budget: tokens this component may spend; `close` does not fill it up again.
        device: for the local backend, saved as given; None takes the best there is when the weights are loaded.

    Raises:
        TypeError: `api_key` is no Secret.
        ConfigError: an option is of the wrong type or out of range (a ValueError).
    """

    _clip: ClassVar[JinaClip | None] = None
    """Of an embedder that was warm once, its own."""

    api_key: Secret = Secret.from_env_var(["JINA_API_KEY", "JINAAI_API_KEY"])  # noqa: RUF009  it is immutable
    model: str = "jina-clip-v2"
    _: KW_ONLY
    backend: Literal["api", "local"] = "api"
    dimensions: int | None = None
    normalized: bool = True
    max_concurrency: int = 8
    max_retries: int = 4
    timeout: float = 60.0
    base_url: str = "https://api.jina.ai/v1/embeddings"
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    token_budget: int | None = None
    device: ComponentDevice | str | None = None
    dtype: str | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.api_key, Secret):
            raise TypeError(f"api_key must be a haystack Secret, not {type(self.api_key)}; see Secret.from_env_var")
        for option in fields(self):
            value, (kind, none, _) = getattr(self, option.name), str(option.type).partition(" | None")
            members = value if isinstance(value, list | dict) else ()
            fits = isinstance(value, KINDS.get(kind, object)) and all(isinstance(each, str) for each in members)
            if not fits and not (none and value is None):
                raise ConfigError(f"{option.name}={value!r} must be {option.type}")
        EmbedderConfig(**self._options())  # a wrong option is told where it is given, not at the first run

    def to_dict(self) -> dict[str, Any]:
        """The embedder as a saved pipeline holds it. Raises ValueError for a token, which is never saved."""
        return default_to_dict(self, **{item.name: getattr(self, item.name) for item in fields(self)})

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The embedder of a saved pipeline."""
        return default_from_dict(cls, data)

    def warm_up(self) -> JinaClip:
        """Reads the key or loads the weights. Pipelines and `run` call it; once warm it does nothing.

        Returns:
            The core's object in use.

        Raises:
            ValueError: no key is set, or the options do not fit the model.
            JinaClipError: the weights cannot be loaded.
        """
        clip = self._clip or JinaClip(**self._options(self._key()))
        clip.estimate(["warm up"])  # to count tokens, the local backend loads its weights
        return vars(self).setdefault("_clip", clip)  # of threads that start together, all use the first one's

    async def warm_up_async(self) -> JinaClip:
        """`warm_up` without blocking the event loop."""
        return await asyncio.to_thread(Embedder.warm_up, self) if self._clip is None else self._clip

    def close(self) -> None:
        """Closes connections and lets go of the weights; the next run opens and loads them again."""
        if self._clip:
            self._clip.close()

    async def close_async(self) -> None:
        """`close`, with the connections of the running loop."""
        if self._clip:
            await self._clip.aclose()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_clip"}

    def _get_telemetry_data(self) -> dict[str, Any]:
        """The model if it is a published one; a folder or a hub id of one's own is nobody's business."""
        return {"model": self.model if self.model.removeprefix("jinaai/") in SPECS else "custom"}

    def usage(self, clip: JinaClip, before: int) -> dict[str, Any]:
        """The `meta` of a run that began at so many tokens. Runs at the same time count each other's."""
        tokens = clip.usage.tokens - before
        return {"model": clip.spec.name, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}

    def answer(self, clip: JinaClip, before: int, vector: Any) -> dict[str, Any]:
        """What an embedder of queries gives."""
        return {"embedding": vector.tolist(), "meta": self.usage(clip, before)}

    def _options(self, key: str | None = None) -> dict[str, Any]:
        """Options of the core."""
        options = {i.name: getattr(self, i.name) for i in fields(EmbedderConfig) if hasattr(self, i.name)}
        device = self.device.to_torch_str() if isinstance(self.device, ComponentDevice) else self.device
        # paths in the meta of documents are strangers' strings, which the policy keeps under the root
        policy = {"allowed_roots": getattr(self, "root_path", None)} | (options.get("image_policy") or {})
        own = {"api_key": key, "device": device or "auto", "image_policy": ImagePolicy(**policy)}
        return options | own | {"show_progress": getattr(self, "progress_bar", False)}

    def _key(self) -> str | None:
        """The key; none for the local backend, which needs none."""
        key = (self.api_key.resolve_value() or "").strip() if self.backend == "api" else None
        if key == "":
            raise ConfigError(f"{self.api_key!r} gives no API key; set the variable, or use backend='local'")
        return key


@dataclass(eq=False, repr=False, kw_only=True)
class TextOptions(Embedder):
    """Options of whatever embeds texts.

    Args:
        prefix: goes before each text.
        suffix: goes after each text.
    """

    prefix: str = ""
    suffix: str = ""
    truncate: bool = False


@dataclass(eq=False, repr=False, kw_only=True)
class PictureOptions(Embedder):
    """Options of whatever embeds pictures.

    Args:
        image_policy: fields of `jinaclip.ImagePolicy` by name, as plain values that YAML can hold.
    """

    image_policy: dict[str, Any] | None = None
    image_resize: Literal["model", "pad", "squash", "none"] = "model"
    image_quality: int | None = None
