"""What all components share: the options of the core, in Haystack's words where it has its own, and the life cycle."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, Self

from haystack import default_from_dict, default_to_dict
from haystack.utils import ComponentDevice, Secret

from jinaclip import ConfigError, ImagePolicy, JinaClip, Results
from jinaclip.hosts import SPECS, Backend, EmbedderConfig, Headers, TransportFactory, run_in_thread
from jinaclip.hosts import Secret as CoreSecret

API_KEY = Secret.from_env_var(["JINA_API_KEY", "JINAAI_API_KEY"])
CORE_OPTIONS = frozenset(option.name for option in fields(EmbedderConfig))
_assigning = threading.Lock()


@dataclass(eq=False, repr=False)
class JinaClipComponent:
    """Options of every component; those not described here mean what they mean in `jinaclip.hosts.EmbedderConfig`.

    Args:
        api_key: resolved at warm-up, and never for the local backend or where `headers` have an Authorization.
        headers: HTTP headers of every request, by name. Values are Secrets, resolved at warm-up, or str, which are
            refused by `to_dict` and left out of pickles.
        transport: not part of what is saved.
        token_budget: tokens this component may spend; `close` does not fill it up again.
        device: for the local backend, saved as given; None takes the best there is when the weights are loaded.

    Raises:
        TypeError: `api_key` is no Secret.
        ConfigError: an option is of the wrong type or out of range (a ValueError).
    """

    api_key: Secret = API_KEY
    model: str = EmbedderConfig.model
    _: KW_ONLY
    backend: Backend = EmbedderConfig.backend
    dimensions: int | None = EmbedderConfig.dimensions
    normalized: bool = EmbedderConfig.normalized
    max_concurrency: int | None = EmbedderConfig.max_concurrency
    max_retries: int = EmbedderConfig.max_retries
    timeout: float = EmbedderConfig.timeout
    deadline: float | None = EmbedderConfig.deadline
    base_url: str = EmbedderConfig.base_url
    headers: Mapping[str, Secret | str] | None = None
    transport: TransportFactory | None = None
    requests_per_minute: int | None = EmbedderConfig.requests_per_minute
    tokens_per_minute: int | None = EmbedderConfig.tokens_per_minute
    token_budget: int | None = EmbedderConfig.token_budget
    device: ComponentDevice | str | None = None
    dtype: str | None = EmbedderConfig.dtype
    revision: str | None = EmbedderConfig.revision

    def __post_init__(self) -> None:
        self._clip: JinaClip | None = None
        if not isinstance(self.api_key, Secret):
            raise TypeError(f"api_key must be a haystack Secret, not {type(self.api_key)}; see Secret.from_env_var")
        self.headers = wrap_headers(self.headers)
        check_options(self._options())
        self._config()  # which checks the options of the core

    # -- saving

    def to_dict(self) -> dict[str, Any]:
        """The component as a saved pipeline holds it, without `transport`.

        Raises:
            ValueError: the key is a token, or the value of a header is one or a str; these are never saved.
        """
        saved = {name: value for name, value in self._options().items() if name != "transport"}
        if isinstance(self.headers, dict):
            saved["headers"] = {name: save_header(name, value) for name, value in self.headers.items()}
        return default_to_dict(self, **saved)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component of a saved pipeline."""
        return default_from_dict(cls, data)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_clip": None}  # a copy opens its own connections, and has its own budget

    def _get_telemetry_data(self) -> dict[str, Any]:
        """The model if it is a published one; a folder or a hub id of one's own is nobody's business."""
        return {"model": self.model if self.model.removeprefix("jinaai/") in SPECS else "custom"}

    # -- life

    def warm_up(self) -> JinaClip:
        """Reads the key or loads the weights. Pipelines and `run` call it; once warm it does nothing.

        Returns:
            The core's object in use.

        Raises:
            ValueError: no key is set, or the options do not fit the model.
            JinaClipError: the weights cannot be loaded.
        """
        return self.get_clip()

    async def warm_up_async(self) -> JinaClip:
        """`warm_up` without blocking the event loop."""
        return await self.get_clip_async()

    def close(self) -> None:
        """Closes connections and lets go of the weights; the next run opens and loads them again."""
        if self._clip is not None:
            self._clip.close()

    async def close_async(self) -> None:
        """`close`, with the connections of the running loop."""
        if self._clip is not None:
            await self._clip.aclose()

    def get_clip(self) -> JinaClip:
        """The component's JinaClip, ready for use; made by the first call."""
        clip = self._clip or JinaClip(**self._config(self._key(), self._headers()).options())
        clip.load()
        with _assigning:  # of threads that start together, all use the first one's
            first = self._clip or clip
            self._clip = first
        return first

    async def get_clip_async(self) -> JinaClip:
        """`get_clip` without blocking the event loop."""
        if self._clip is not None:
            return self._clip
        return await run_in_thread(self.get_clip)

    # -- options

    def _options(self) -> dict[str, Any]:
        """The arguments of `__init__` by name."""
        return {option.name: getattr(self, option.name) for option in fields(self)}

    def _config(self, key: CoreSecret | None = None, headers: Headers | None = None) -> EmbedderConfig:
        """The options in the words of the core; the names of headers alone, unless these are given too."""
        given = self._options()
        config = {name: value for name, value in given.items() if name in CORE_OPTIONS}
        device = self.device.to_torch_str() if isinstance(self.device, ComponentDevice) else self.device
        # a path in the meta of a document may come from anybody, so the policy keeps it under the root
        policy = {"allowed_roots": given.get("root_path")} | (given.get("image_policy") or {})
        config |= {"api_key": key, "headers": self._header_names() if headers is None else headers}
        config |= {"device": device or EmbedderConfig.device, "image_policy": ImagePolicy(**policy)}
        return EmbedderConfig(**config, show_progress=given.get("progress_bar", False))

    def _key(self) -> CoreSecret | None:
        """The key; None for the local backend, and where an Authorization among the headers replaces it."""
        if self.backend != "api" or "Authorization" in (self._header_names() or {}):
            return None
        key = CoreSecret.wrap(self.api_key.resolve_value())
        if not key:
            raise ConfigError(f"{self.api_key!r} gives no API key; set the variable, or use backend='local'")
        return key

    def _header_names(self) -> Headers | None:
        """The headers, without the values that are yet to be resolved."""
        return Headers.wrap(self._resolve_headers(lambda _: CoreSecret(None)))

    def _headers(self) -> Headers | None:
        """The headers of requests; None for the local backend, which makes none."""
        if self.backend != "api":
            return None
        return Headers.wrap(self._resolve_headers(lambda secret: secret.resolve_value()))

    def _resolve_headers(self, resolve: Callable[[Secret], Any]) -> Any:
        if not isinstance(self.headers, dict):
            return self.headers
        return {name: resolve(value) if isinstance(value, Secret) else value for name, value in self.headers.items()}


def wrap_headers(headers: Any) -> Any:
    """Headers as a component keeps them: a dict of Haystack's Secrets and, for values given as str, the core's.

    None stays, and what cannot be headers becomes `Headers` that say so.
    """
    if not isinstance(headers, Mapping):
        return Headers.wrap(headers)
    given = {name: Secret.from_dict(value) if is_saved(value) else value for name, value in headers.items()}
    secrets = {name: value for name, value in given.items() if isinstance(value, Secret)}
    wrapped = Headers({**given, **dict.fromkeys(secrets, CoreSecret(None))})
    return wrapped if wrapped.problem else {**wrapped, **secrets}


def is_saved(value: Any) -> bool:
    """Whether it is a Secret as `to_dict` gives it."""
    return isinstance(value, dict) and value.get("type") == "env_var"


def save_header(name: str, value: Any) -> dict[str, Any]:
    """The value of a header as a saved pipeline holds it. Raises ValueError if it is no reference to a variable."""
    if isinstance(value, Secret):
        return value.to_dict()
    raise ValueError(f"Cannot serialize the value of the header {name!r}; give it as Secret.from_env_var")


def usage_meta(clip: JinaClip, results: Results) -> dict[str, Any]:
    """The `meta` of a run: the model, and the tokens of this run alone."""
    tokens = results.usage.tokens
    return {"model": clip.spec.name, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def _is_str(value: Any) -> bool:
    return isinstance(value, str)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_str_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_names(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(_is_str, value)))


def _is_fields(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(map(_is_str, value)))


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "prefix": (_is_str, "a str"),
    "suffix": (_is_str, "a str"),
    "embedding_separator": (_is_str, "a str"),
    "file_path_meta_field": (_is_str, "a str"),
    "root_path": (_is_str_or_none, "a str or None"),
    "meta_fields_to_embed": (_is_names, "a list of str, or None"),
    "image_policy": (_is_fields, "a dict of fields of jinaclip.ImagePolicy by name, or None"),
    "progress_bar": (_is_bool, "a bool"),
    "raise_on_failure": (_is_bool, "a bool"),
}
"""Of options that the core does not have, or not in this form."""


def check_options(options: dict[str, Any]) -> None:
    """Refuses an option of the wrong type with a ConfigError that names it."""
    for name, value in options.items():
        fits, wanted = _CHECKS.get(name, (None, ""))
        if fits is not None and not fits(value):
            raise ConfigError(f"{name}={value!r} must be {wanted}")
