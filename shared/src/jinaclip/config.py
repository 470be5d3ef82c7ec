"""Every option of jinaclip, declared once."""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar
from urllib.parse import urlsplit

from jinaclip.errors import AuthenticationError, ConfigError
from jinaclip.secret import KEY_SHAPE, Secret

API_URL = "https://api.jina.ai/v1/embeddings"
KEY_VARIABLES = ("JINA_API_KEY", "JINAAI_API_KEY")
MAX_BATCH = 512
"""Items per request the service was seen to enforce."""

Backend = Literal["api", "local"]
ImageResize = Literal["model", "pad", "squash", "none"]
UrlMode = Literal["fetch", "forward"]

P = ParamSpec("P")
Owner = TypeVar("Owner")
Check = Callable[[Any], str | None]
"""Gives what a value should be, or None if it is."""


RENAMED = {"truncate_dim": "dimensions", "truncate_dimension": "dimensions", "concurrency": "max_concurrency"}
"""Names that other libraries use."""


def hide_key(init: Callable[Concatenate[Owner, P], None]) -> Callable[Concatenate[Owner, P], None]:
    """Wraps `api_key` before `init` runs, so that no frame of a later traceback holds it in clear."""

    @functools.wraps(init)
    def hidden(self: Owner, /, *args: P.args, **options: P.kwargs) -> None:
        if "api_key" in options:
            options["api_key"] = Secret.wrap(options["api_key"])
        problem = _misplaced(args, options)
        if problem:
            args, options = (), {}  # type: ignore[assignment]
            raise ConfigError(problem)
        init(self, *args, **options)

    return hidden


def _misplaced(args: tuple[Any, ...], options: dict[str, Any]) -> str | None:
    """What is wrong with the form of a call: unknown options, and a key where none belongs."""
    known = [item.name for item in fields(EmbedderConfig)]
    for name in options.keys() - set(known):
        close = RENAMED.get(name) or next(iter(difflib.get_close_matches(name, known, 1)), None)
        return f"there is no option {name!r}" + (f"; did you mean {close!r}?" if close else "")
    if len(args) > 1:
        return "only the model goes without a name; give the other options as name=value"
    if any(isinstance(value, str) and KEY_SHAPE.match(value) for value in [*args, *options.values()]):
        return "an API key stands where another option belongs; pass it as api_key=..."
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePolicy:
    """What images may be, and where text may make us look for them.

    Strings can come from an agent or from a document's metadata, so they only reach `allowed_roots` and public https
    addresses. Paths, bytes, pictures and arrays come from code and meet the size limits alone.
    """

    max_bytes: int = 20 * 2**20
    """Of an encoded image as it comes in."""
    max_upload_bytes: int = 5_000_000
    """Of an encoded image as it is sent; Jina documents 5 MB in one place, 8 MB in another."""
    max_pixels: int = 50_000_000
    """Before and after resizing."""
    formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "GIF")
    """By content, in Pillow's names."""
    allowed_roots: tuple[str | Path, ...] | Literal["any"] | None = None
    """Folders that string paths must lie under; None is the current working directory, "any" lifts the limit."""
    schemes: tuple[str, ...] = ("https",)
    ports: tuple[int, ...] = (443,)
    allow_networks: tuple[str | IPv4Network | IPv6Network, ...] = ()
    """Non-public networks that may be dialled all the same; link-local ones never."""
    max_redirects: int = 3
    connect_timeout: float = 3.0
    fetch_timeout: float = 15.0
    """Seconds for one image, redirects included."""
    orient: bool = True
    """Turn the picture as its EXIF says."""
    background: tuple[int, int, int] = (255, 255, 255)
    """Shown where the picture is transparent."""
    frame: int = 0
    """Of an animated picture."""
    truncated: bool = False
    """Accept a file that ends early, with what it holds."""

    def __post_init__(self) -> None:
        if isinstance(self.allowed_roots, str | Path) and self.allowed_roots != "any":
            object.__setattr__(self, "allowed_roots", (self.allowed_roots,))
        check_options(self, _POLICY_CHECKS, "image_policy.")


@dataclass(frozen=True)
class EmbedderConfig:
    """All options. JinaClip and the adapters take the same names and defaults.

    Raises:
        ConfigError: a value is out of range or of the wrong type; the message names the option.
    """

    model: str = "jina-clip-v2"
    """`jina-clip-v1`, `jina-clip-v2`, or for the local backend also a folder or a hub id."""
    _: KW_ONLY
    backend: Backend = "api"
    dimensions: int | None = None
    """Width of the vectors: 1 to 1024 on v2, None for the model's own."""
    normalized: bool = True
    truncate: bool = False
    """Cut texts over 8192 tokens instead of refusing them."""
    batch_size: int = 64
    """Most items in one request or one pass."""
    max_concurrency: int = 8
    """Most requests in flight, over all objects of this process with the same key and base URL."""
    max_retries: int = 4
    """For each request; a query gets at most 2. Waiting for a rate limit does not count."""
    timeout: float = 60.0
    """Seconds one attempt may take in all. A query gives up after half of it, a longer call after five times this
    without progress."""
    api_key: Secret | str | None = field(default=None, repr=False)
    """None reads JINA_API_KEY, then JINAAI_API_KEY, when the first request is made."""
    base_url: str = API_URL
    """Host, prefix or full endpoint."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    token_budget: int | None = None
    """Tokens this object may spend; a call that would exceed it is refused before it is sent."""
    device: str = "auto"
    dtype: str | None = None
    revision: str | None = None
    image_policy: ImagePolicy = field(default_factory=ImagePolicy)
    image_resize: ImageResize = "model"
    """What is done to a picture before it is sent: what the model would do ("model": shorter side to S, centre crop),
    longer side to S on black ("pad"), S x S ("squash"), or nothing ("none": every started tile is billed)."""
    image_quality: int | None = None
    """None sends lossless PNG, 1 to 100 JPEG 4:4:4."""
    url_mode: UrlMode = "fetch"
    """"fetch" downloads image URLs here, under `image_policy`; "forward" lets the service download them."""
    show_progress: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "api_key", Secret.wrap(self.api_key))
        check_options(self, _CHECKS)
        object.__setattr__(self, "base_url", endpoint(self.base_url))

    def __repr__(self) -> str:
        """All that is set yet: a traceback may show an object that is half made."""
        shown = ((item.name, vars(self).get(item.name)) for item in fields(self) if item.repr)
        return f"EmbedderConfig({', '.join(f'{name}={value!r}' for name, value in shown)})"

    @property
    def key(self) -> Secret:
        """The key to use now.

        Raises:
            AuthenticationError: there is none, or it cannot be a key.
        """
        given = Secret.wrap(self.api_key)
        key = given or next((found for name in KEY_VARIABLES if (found := Secret.wrap(os.environ.get(name)))), None)
        if not key:
            raise AuthenticationError(
                f"no API key: pass api_key or set {KEY_VARIABLES[0]} (keys do not travel in pickles; "
                "set the variable in the other process)"
            )
        if not re.fullmatch(r"[\x21-\x7e]+", key.reveal()):
            raise AuthenticationError("the API key holds blanks or characters outside ASCII; it cannot be a key")
        return key

    def options(self) -> dict[str, Any]:
        """The options as keywords, the key as a Secret."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def updated(self, **changes: Any) -> EmbedderConfig:
        """A copy with some options changed."""
        return replace(self, **changes)


EmbedderConfig.__init__ = hide_key(EmbedderConfig.__init__)  # type: ignore[method-assign, assignment]


def configured(
    make: Callable[P, EmbedderConfig],
) -> Callable[[Callable[[Owner, EmbedderConfig], None]], Callable[Concatenate[Owner, P], None]]:
    """Gives an `__init__(self, config)` the signature of EmbedderConfig, so that no option is declared twice."""

    def decorate(init: Callable[[Owner, EmbedderConfig], None]) -> Callable[Concatenate[Owner, P], None]:
        @hide_key
        @functools.wraps(init)
        def configured_init(self: Owner, /, *args: P.args, **options: P.kwargs) -> None:
            init(self, make(*args, **options))

        signature = inspect.signature(make)
        this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        own = signature.replace(parameters=[this, *signature.parameters.values()], return_annotation=None)
        configured_init.__signature__ = own  # type: ignore[attr-defined]
        return configured_init

    return decorate


def check_options(options: object, checks: Mapping[str, Check], prefix: str = "") -> None:
    """Looks at every option that has a check; numbers of other libraries become Python's.

    Raises:
        ConfigError: one is wrong; the message names it.
    """
    for name, check in checks.items():
        value = getattr(options, name)
        if isinstance(value, Integral | Real) and not isinstance(value, bool | int | float):
            value = int(value) if isinstance(value, Integral) else float(value)
            object.__setattr__(options, name, value)
        problem = check(value)
        if problem:
            raise ConfigError(f"{prefix}{name}={value!r} must be {problem}")


def endpoint(base_url: str) -> str:
    """The full endpoint for a host, a host with a path, or the endpoint itself.

    Raises:
        ConfigError: it is no http(s) URL, or carries a user name, a query or a fragment.
    """
    url = base_url.strip()
    given = url if "://" in url else f"https://{url}"
    try:
        parts = urlsplit(given)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and parts.username is None
    except ValueError:
        parts, sound = urlsplit(""), False
    if not sound or parts.query or parts.fragment or re.search(r"[\s\\\x00-\x1f\x7f]", url):
        raise ConfigError("base_url must be an http(s) URL without user name, query or fragment")
    path = parts.path.rstrip("/")
    if not path.endswith("/embeddings"):
        path = f"{path or '/v1'}/embeddings"
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    usual = parts.port in (None, {"http": 80, "https": 443}[parts.scheme])
    return f"{parts.scheme}://{host}{'' if usual else f':{parts.port}'}{path}"


def _whole(low: int, high: float = float("inf"), *, none: bool = False) -> Callable[[Any], str | None]:
    """A check that a value is an int within bounds; gives what it should be, or None if it is."""
    wanted = f"a whole number from {low} to {high}" if high < float("inf") else f"a whole number of at least {low}"

    def check(value: Any) -> str | None:
        if value is None and none:
            return None
        fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return None if fits else wanted + (" or None" if none else "")

    return check


def _is(*kinds: type, none: bool = False) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        fits = isinstance(value, kinds) or (none and value is None)
        return None if fits else " or ".join(kind.__name__ for kind in kinds) + (" or None" if none else "")

    return check


def _one_of(*choices: str) -> Callable[[Any], str | None]:
    return lambda value: (
        None if isinstance(value, str) and value in choices else "one of " + ", ".join(map(repr, choices))
    )


def _seconds(value: Any) -> str | None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
    return None if fits else "a positive number of seconds"


def _several(check: Check, wanted: str, *, some: bool = True) -> Check:
    """A check that a value is a tuple or list of what another check lets pass; a lone str is none."""

    def check_all(value: Any) -> str | None:
        fits = isinstance(value, tuple | list) and (value or not some) and not any(map(check, value))
        return None if fits else f"a tuple of {wanted}"

    return check_all


def _roots(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and value == "any"):
        return None
    return _several(_is(str, Path), 'folders, "any" or None')(value)


def _network(value: Any) -> str | None:
    try:
        ip_network(value, strict=False)
    except ValueError:
        return "a network"
    return None


_POLICY_CHECKS: dict[str, Check] = {
    "max_bytes": _whole(1),
    "max_upload_bytes": _whole(1),
    "max_pixels": _whole(1),
    "formats": _several(_is(str), "Pillow's format names"),
    "allowed_roots": _roots,
    "schemes": _several(_one_of("http", "https"), '"https", "http"'),
    "ports": _several(_whole(1, 65535), "port numbers"),
    "allow_networks": _several(_network, "networks like '10.0.0.0/8'", some=False),
    "max_redirects": _whole(0, 20),
    "connect_timeout": _seconds,
    "fetch_timeout": _seconds,
    "orient": _is(bool),
    "background": lambda value: (
        None if len(value) == 3 and not _several(_whole(0, 255), "")(value) else "three numbers from 0 to 255"
    ),
    "frame": _whole(0),
    "truncated": _is(bool),
}
_CHECKS: dict[str, Check] = {
    "model": lambda value: None if isinstance(value, str) and value.strip() else "a model name",
    "backend": _one_of("api", "local"),
    "dimensions": _whole(1, none=True),
    "normalized": _is(bool),
    "truncate": _is(bool),
    "batch_size": _whole(1, MAX_BATCH),
    "max_concurrency": _whole(1, 512),
    "max_retries": _whole(0, 100),
    "timeout": _seconds,
    "api_key": lambda value: None if value.kind == "str" else f"a str, not {value.kind}",
    "base_url": _is(str),
    "requests_per_minute": _whole(1, none=True),
    "tokens_per_minute": _whole(1, none=True),
    "token_budget": _whole(0, none=True),
    "device": _is(str),
    "dtype": _is(str, none=True),
    "revision": _is(str, none=True),
    "image_policy": _is(ImagePolicy),
    "image_resize": _one_of("model", "pad", "squash", "none"),
    "image_quality": _whole(1, 100, none=True),
    "url_mode": _one_of("fetch", "forward"),
    "show_progress": _is(bool),
}
