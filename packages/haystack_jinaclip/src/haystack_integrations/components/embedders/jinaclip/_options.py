"""The options of the components, each declared once: the core's, and Haystack's own words and options.

Those that only the ranker has stand beside it. A component holds its options as `options`. It does not inherit from
them: `take_options` makes them the parameters of its `__init__`. A new option of the core is one line of `ClipOptions`,
or of another class where only some take it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, get_type_hints

from haystack.utils import ComponentDevice, Secret

from haystack_integrations.components.embedders.jinaclip._headers import name_headers, save_headers, wrap_headers
from jinaclip import ConfigError, ImagePolicy
from jinaclip.hosts import (
    SPECS,
    Backend,
    CacheOption,
    EmbedderConfig,
    EngineName,
    Headers,
    ImageDecode,
    ImageResize,
    TransportFactory,
    UrlMode,
    WireName,
    check_model,
    describe_options,
    is_whole,
    plain,
    refuse_unknown,
    save_cache,
    without_options,
)
from jinaclip.hosts import Secret as CoreSecret

P = ParamSpec("P")
Owner = TypeVar("Owner")
Options = TypeVar("Options", bound="ClipOptions")

API_KEY = Secret.from_env_var(["JINA_API_KEY", "JINAAI_API_KEY"])
CORE_OPTIONS = frozenset(option.name for option in fields(EmbedderConfig))
WORDS = {"progress_bar": "show_progress"}
"""Haystack's words for options of the core."""
PYTHON_ONLY = frozenset({"transport"})
"""Options that are not part of what is saved."""


@dataclass(frozen=True, repr=False)
class ClipOptions:
    """Options of every component; those not described here mean what they mean in `jinaclip.hosts.EmbedderConfig`.

    Args:
        api_key: a Secret with the key, resolved at warm-up, and never for the local backend or where `headers` have an
            Authorization. Of several variables the first that is not blank counts. The default is for Jina's hosts and
            this machine; another server gets what is given here, or JINACLIP_API_KEY, or no key.
        headers: HTTP headers of every request, by name. Values are Secrets, resolved at warm-up, or str, which are
            refused by `to_dict`; a pickle holds those.
        transport: makes the transport that requests go through; not part of what is saved.
        cache: keeps vectors, so that nothing is paid for twice; saved as True, False, None or a path; of a
            `jinaclip.Cache` with a store of its own None is saved.
        token_budget: tokens this component may spend; `close` does not fill it up again.
        device: of the local backend, saved as given; None takes the best there is when the weights are loaded.

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
    wire: WireName | None = EmbedderConfig.wire
    space: str | None = EmbedderConfig.space
    requests_per_minute: int | None = EmbedderConfig.requests_per_minute
    tokens_per_minute: int | None = EmbedderConfig.tokens_per_minute
    token_budget: int | None = EmbedderConfig.token_budget
    cache: CacheOption = EmbedderConfig.cache
    engine: EngineName = EmbedderConfig.engine
    device: ComponentDevice | str | None = None
    dtype: str | None = EmbedderConfig.dtype
    revision: str | None = EmbedderConfig.revision
    threads: int | None = EmbedderConfig.threads

    def __post_init__(self) -> None:
        if not isinstance(self.api_key, Secret):
            raise TypeError(f"api_key must be a haystack Secret, not {type(self.api_key)}; see Secret.from_env_var")
        for name, value in self.by_name().items():  # so that NumPy's numbers can be saved
            object.__setattr__(self, name, plain(value))
        object.__setattr__(self, "headers", wrap_headers(self.headers))
        check_options(self.by_name())
        config = self.to_config(None, name_headers(self.headers))  # which checks the options of the core
        check_model(config.model, config.dimensions, hosted=config.backend == "api")

    def by_name(self) -> dict[str, Any]:
        """The options and their values."""
        return {option.name: getattr(self, option.name) for option in fields(self)}

    @functools.cached_property
    def policy(self) -> ImagePolicy:
        """Which images are accepted. Made once, when the options are, since relative folders count from then.

        A path in the meta of a document may come from anybody, so it stays under the root.
        """
        given = self.by_name()
        root = given.get("root_path")
        roots = None if root is None else (root,)  # and so a folder called "any" is one
        return ImagePolicy(**({"allowed_roots": roots} | (given.get("image_policy") or {})))

    def to_save(self) -> dict[str, Any]:
        """The options as `default_to_dict` takes them, without those that only Python can hold.

        Raises:
            ValueError: the value of a header is no reference to a variable.
        """
        saved = {name: value for name, value in self.by_name().items() if name not in PYTHON_ONLY}
        return saved | {"headers": save_headers(self.headers), "cache": save_cache(self.cache)}

    def to_config(self, key: CoreSecret | None, headers: Headers | None) -> EmbedderConfig:
        """The options in the words of the core.

        Args:
            key: the API key; None where none is needed.
            headers: the headers that are sent.

        Raises:
            ConfigError: an option is of the wrong type or out of range.
        """
        given = self.by_name()
        config = {name: value for name, value in given.items() if name in CORE_OPTIONS}
        device = self.device.to_torch_str() if isinstance(self.device, ComponentDevice) else self.device
        config |= {"api_key": key, "headers": headers, "device": device or EmbedderConfig.device}
        config |= {"image_policy": self.policy, "show_progress": given.get("progress_bar", False)}
        return EmbedderConfig(**config)

    def telemetry(self) -> dict[str, Any]:
        """The model if it is a published one; a folder or a hub id of one's own is nobody's business."""
        return {"model": self.model if self.model.removeprefix("jinaai/") in SPECS else "custom"}


@dataclass(frozen=True, repr=False, kw_only=True)
class TextOptions(ClipOptions):
    """Options of what embeds texts.

    Args:
        prefix: goes before each text.
        suffix: goes after each text.
    """

    prefix: str = ""
    suffix: str = ""
    truncate: bool = EmbedderConfig.truncate


@dataclass(frozen=True, repr=False, kw_only=True)
class ImageOptions(ClipOptions):
    """Options of what embeds images.

    Args:
        image_policy: fields of `jinaclip.ImagePolicy` by name, as plain values that YAML can hold.
    """

    image_policy: dict[str, Any] | None = None
    image_resize: ImageResize = EmbedderConfig.image_resize
    image_quality: int | None = EmbedderConfig.image_quality
    image_decode: ImageDecode = EmbedderConfig.image_decode
    url_mode: UrlMode = EmbedderConfig.url_mode


@dataclass(frozen=True, repr=False, kw_only=True)
class PairOptions(TextOptions, ImageOptions):
    """Options of what embeds a text and an image together.

    Args:
        weight: share of the text, from 0 (the image alone is sent) to 1 (the text alone is sent).
    """

    weight: float = 0.5


@dataclass(frozen=True, repr=False, kw_only=True)
class QueryOptions(PairOptions):
    """Options of what embeds a query of a text, an image or both."""


@dataclass(frozen=True, repr=False, kw_only=True)
class DocumentOptions(ClipOptions):
    """Options of what embeds documents.

    Args:
        raise_on_failure: False puts a document that cannot be embedded into the output `failed_documents`, with the
            reason in `meta["embedding_error"]`, and logs it; during an outage that may be all of them. A wrong key, an
            empty balance or budget, a wrong option, weights that cannot be loaded and a missing extra are raised all
            the same.
    """

    batch_size: int | None = EmbedderConfig.batch_size
    progress_bar: bool = True
    raise_on_failure: bool = True


@dataclass(frozen=True, repr=False, kw_only=True)
class TextDocumentOptions(DocumentOptions, TextOptions):
    """Options of what embeds documents by their text.

    Args:
        meta_fields_to_embed: fields of `meta` that go before the content.
        embedding_separator: stands between them.
    """

    meta_fields_to_embed: list[str] | None = None
    embedding_separator: str = "\n"


@dataclass(frozen=True, repr=False, kw_only=True)
class ImageDocumentOptions(DocumentOptions, ImageOptions):
    """Options of what embeds documents by their image.

    Args:
        file_path_meta_field: field of `meta` with the path or the address of the image, for documents without `blob`.
        root_path: folder that these paths start from and may not leave, unless `image_policy["allowed_roots"]` names
            others; None is the working directory.
    """

    file_path_meta_field: str = "file_path"
    root_path: str | None = None


@dataclass(frozen=True, repr=False, kw_only=True)
class FusedDocumentOptions(TextDocumentOptions, ImageDocumentOptions, PairOptions):
    """Options of what embeds documents by their text and their image."""


def take_options(
    make: Callable[P, Options],
) -> Callable[[Callable[[Owner, Options], None]], Callable[Concatenate[Owner, P], None]]:
    """Gives `__init__(self, options)` of a component the parameters of its options.

    Type checkers see them, and so does Haystack, which refuses saved values for parameters that a signature lacks.

    Args:
        make: the class of the options.
    """
    signature = own_signature(make)

    def decorate(init: Callable[[Owner, Options], None]) -> Callable[Concatenate[Owner, P], None]:
        @without_options
        @functools.wraps(init)
        def init_with_options(self: Owner, /, *args: P.args, **options: P.kwargs) -> None:
            component = type(self).__name__
            refuse_unknown(options, signature.parameters, WORDS)
            check_arguments(component, signature, self, *args, **options)
            init(self, make(*args, **options))

        init_with_options.__signature__ = signature  # type: ignore[attr-defined]
        init_with_options.__doc__ = describe(make, signature)
        return init_with_options

    return decorate


def check_arguments(component: str, signature: inspect.Signature, /, *args: Any, **options: Any) -> None:
    """Raises TypeError for arguments that do not fit; Python's own would name the class of the options."""
    try:
        signature.bind(*args, **options)
    except TypeError as error:
        raise TypeError(f"{component}: {error}") from None


def describe(make: Callable[..., Any], signature: inspect.Signature) -> str:
    """The docstring of an `__init__` with these parameters, in the words of the options and of the core."""
    core = describe_options(EmbedderConfig)
    told = {**core, **{word: core[option] for word, option in WORDS.items()}, **describe_options(cast("type", make))}
    lines = [f"    {name}: {told[name]}" for name in signature.parameters if name in told]
    return "\n".join(["Takes options, which are fixed from then on.", "", "Args:", *lines])


def own_signature(make: Callable[..., Any]) -> inspect.Signature:
    """The signature of an `__init__` with the parameters of `make`, their types and their defaults."""
    hints = get_type_hints(make)
    parameters = [item.replace(annotation=hints[name]) for name, item in inspect.signature(make).parameters.items()]
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return inspect.Signature([this, *parameters], return_annotation=None)


def _is_str(value: Any) -> bool:
    return isinstance(value, str)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_str_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_names(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(_is_str, value)))


def _is_labels(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_str, value))


def _is_store(value: Any) -> bool:
    return value is None or (callable(getattr(value, "filter_documents", None)) and not isinstance(value, type))


def _is_fields(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(map(_is_str, value)))


def _is_count(value: Any) -> bool:
    return value is None or (is_whole(value) and value >= 1)


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
    "labels": (_is_labels, "a list of str"),
    "embed_missing": (_is_bool, "a bool"),
    "document_store": (_is_store, "a document store, or None"),
    "top_k": (_is_count, "a whole number of at least 1, or None"),
}
"""Of options that the core does not have, or not in this form."""


def check_options(options: dict[str, Any]) -> None:
    """Refuses an option of the wrong type with a ConfigError that names it."""
    for name, value in options.items():
        fits, wanted = _CHECKS.get(name, (None, ""))
        if fits is not None and not fits(value):
            raise ConfigError(f"{name}={value!r} must be {wanted}")
