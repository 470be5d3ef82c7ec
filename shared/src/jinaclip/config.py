"""All options of jinaclip, each declared once."""

from __future__ import annotations

import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Literal, ParamSpec, Protocol, TypeVar, get_args
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from jinaclip.errors import AuthenticationError, ConfigError
from jinaclip.formats import USUAL, find_problem
from jinaclip.frames import without_options
from jinaclip.hints import find_unknown
from jinaclip.numeric import is_number, is_whole, plain
from jinaclip.secret import KEY_SHAPE, Headers, Secret

API_URL = "https://api.jina.ai/v1/embeddings"
JINA_HOSTS = re.compile(r"([a-z0-9-]+\.)*jina\.ai")
"""Names, not all that ends like one: the zone of an IPv6 address may."""
KEY_VARIABLES = ("JINA_API_KEY", "JINAAI_API_KEY")
"""Of keys that Jina gave out: they go to Jina's hosts, and to this machine where no proxy is in between."""
OTHER_KEY_VARIABLE = "JINACLIP_API_KEY"
"""Of a key for whatever else `base_url` names."""
SPACE_LENGTH = 36
SPACE_NAME = re.compile(rf"[A-Za-z][A-Za-z0-9_]{{0,{SPACE_LENGTH - 1}}}")
"""What every vector store takes as the name of a collection, also with a short word before it: Pinecone's have 45."""
OFF, ON = ("0", "off", "false", "no"), ("1", "on", "true", "yes")
"""What the variable JINACLIP_CACHE may say beside a path, in any case."""
MAX_BATCH = 512
"""Most items per request, as the service was seen to enforce."""
MAX_THREADS = 1024
"""More threads than this for one engine are a mistake."""

Backend = Literal["api", "local"]
ImageResize = Literal["model", "pad", "squash", "none"]
ImageDecode = Literal["exact", "fast"]
UrlMode = Literal["fetch", "forward"]
WireName = Literal["jina", "openai", "sagemaker"]
EngineName = Literal["auto", "torch", "onnx"]


class VectorCache(Protocol):
    """A `jinaclip.Cache`, as far as options know it."""

    path: Path | None
    """Of its file; None if it has a store of its own."""

    def stats(self) -> object:
        """What it holds."""


if TYPE_CHECKING:
    import httpx

    TransportFactory = Callable[[], httpx.AsyncBaseTransport]
    CacheOption = bool | str | os.PathLike[str] | VectorCache | None
else:
    TransportFactory = Callable[[], Any]  # the same, for those who read annotations while httpx is not loaded
    CacheOption = Any  # pydantic has no schema for a protocol; the core checks what is given

P = ParamSpec("P")
Owner = TypeVar("Owner")
Check = Callable[[Any], str | None]
"""Takes a value. Returns what it should be, in words, or None if it is fine."""


NO_HEADERS = Headers({})


def hide_key(init: Callable[Concatenate[Owner, P], None]) -> Callable[Concatenate[Owner, P], None]:
    """Wraps `api_key` and `headers` before `init` runs; of what it refuses, no frame of a traceback shows an option."""

    @without_options
    @functools.wraps(init)
    def hide_and_init(self: Owner, /, *args: P.args, **options: P.kwargs) -> None:
        if "api_key" in options:
            options["api_key"] = Secret.wrap(options["api_key"])
        if "headers" in options:
            options["headers"] = Headers.wrap(options["headers"])
        problem = _find_misuse(args, options)
        if problem:
            raise ConfigError(problem)
        init(self, *args, **options)

    return hide_and_init


def _find_misuse(args: tuple[Any, ...], options: dict[str, Any]) -> str | None:
    """What is wrong with the arguments of a call, or None: an unknown option, or a key passed as another option."""
    unknown = find_unknown(options, [item.name for item in fields(EmbedderConfig)], {})
    if unknown:
        return unknown
    if len(args) > 1:
        return "only the model goes without a name; give the other options as name=value"
    if any(isinstance(value, str) and KEY_SHAPE.match(value) for value in [*args, *options.values()]):
        return "an API key stands where another option belongs; pass it as api_key=..."
    return None


@dataclass(frozen=True, slots=True)
class Scheme:
    """A scheme of `base_url` that names a wire, which then takes no other.

    Attributes:
        wire: the wire.
        form: what such an address looks like, for people.
        pattern: the same, to check one.
    """

    wire: WireName
    form: str
    pattern: re.Pattern[str]


SCHEMES = {
    "sagemaker": Scheme(
        "sagemaker",
        "sagemaker://region/endpoint, or sagemaker://region/endpoint?images=image",
        re.compile(r"sagemaker://[a-z]{2}[a-z0-9-]{3,30}/[A-Za-z0-9](-?[A-Za-z0-9]){0,62}(\?images=(bytes|image))?"),
    )
}
"""All others than http and https."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePolicy:
    """Which images are accepted, and which files and addresses a str may lead to.

    A str can come from an agent or from a document's metadata, so it only reaches `allowed_roots` and public https
    addresses. Paths, bytes, open files, PIL images and arrays come from code, so only the size limits apply to them.
    """

    # of hosts whose models hold a policy
    __pydantic_config__: ClassVar = {"extra": "forbid", "hide_input_in_errors": True, "use_attribute_docstrings": True}

    max_bytes: int = 20 * 2**20
    """Most bytes of an encoded image that is opened."""
    max_upload_bytes: int = 5_000_000
    """Most bytes of an encoded image that is sent. Jina documents 5 MB in one place, 8 MB in another."""
    max_pixels: int = 120_000_000
    """Most pixels of an image."""
    max_pixels_per_byte: int = 8_256
    """Most pixels for each byte of a file, if it has more than a megapixel. Without this, forty bytes may cost as
    much as the largest photo. A file that holds all its pixels stays under it, but for one colour in lossless WebP."""
    formats: tuple[str, ...] = USUAL
    """Accepted formats, by Pillow's names, and no others; unless set JPEG, PNG, WebP and GIF. Also "AVIF", "TIFF" and
    "BMP", what else Pillow reads, and formats of plugins that were registered with Pillow before, such as pillow-heif's
    "HEIF". The content of a file decides, not its name."""
    allowed_roots: Sequence[str | Path] | None = None
    """Folders that paths given as str must lie under: one, or several. A relative one counts from the working directory
    of the moment when the policy is made. None is the working directory of each call, unless that is "/". The str "any"
    lifts the limit; a folder of that name is Path("any") or ["any"]."""
    schemes: tuple[str, ...] = ("https",)
    """Of image URLs: "https", "http"."""
    ports: tuple[int, ...] = (443,)
    """Ports that image URLs may name."""
    allow_networks: tuple[str | IPv4Network | IPv6Network, ...] = ()
    """Networks that may be dialled even though they are not public. Link-local ones never may."""
    max_redirects: int = 3
    """Most redirects that are followed for one image; each is held to the policy."""
    connect_timeout: float = 3.0
    """Seconds to connect to the server of an image."""
    fetch_timeout: float = 15.0
    """Seconds for one image, redirects included."""
    orient: bool = True
    """Turn the image as its EXIF says. WebP images are not turned: browsers do not either."""
    background: tuple[int, int, int] = (255, 255, 255)
    """Colour (red, green, blue) that replaces transparency."""
    frame: int = 0
    """Which frame of an animated image is used, from 0."""
    truncated: bool = False
    """Accept a file that is cut short, with the pixels it has."""

    def __post_init__(self) -> None:
        if isinstance(self.allowed_roots, str | Path) and self.allowed_roots != "any":
            object.__setattr__(self, "allowed_roots", (self.allowed_roots,))
        check_options(self, _POLICY_CHECKS, "image_policy.")
        if isinstance(self.allowed_roots, tuple | list):
            object.__setattr__(self, "allowed_roots", tuple(map(_absolute_root, self.allowed_roots)))


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
    """"api" is the hosted API, "local" the weights on this machine (needs the extra `local`, or `onnx`)."""
    dimensions: int | None = None
    """Width of the vectors: 1 to 1024 on v2, None for the model's own."""
    normalized: bool = True
    """Whether vectors have length 1. Fused ones always have."""
    truncate: bool = False
    """Cut texts over 8192 tokens instead of refusing them."""
    batch_size: int | None = None
    """Most items in one request or one pass; None is learnt, up to 512 (on the local backend: the engine's own, 64)."""
    max_concurrency: int | None = None
    """Most requests of this object in flight; None is learnt, for all objects of this process with the same key and
    base URL together. Means nothing on the local backend."""
    max_retries: int = 4
    """For each request; a query gets at most 2. Waiting for a rate limit does not count."""
    timeout: float = 60.0
    """Seconds one attempt may take in all. A call gives up after five times this without progress."""
    deadline: float | None = None
    """Seconds the whole call may take, queue and pauses included; None is 30 for `embed_query` and `embed_queries`, and
    no limit for others. Loading weights does not count."""
    api_key: Secret | str | None = field(default=None, repr=False)
    """None reads JINA_API_KEY, then JINAAI_API_KEY, when a request is made; for a `base_url` that is neither Jina's nor
    on this machine JINACLIP_API_KEY, and without one no key is sent. A pickle holds a key that was given, as workers
    need it, and never one of the environment."""
    base_url: str = API_URL
    """Host, prefix or full endpoint; "sagemaker://region/endpoint" for Amazon SageMaker."""
    headers: Headers | Mapping[str, str] | None = None
    """More HTTP headers of every request to the API. Their values are secrets, as the key is: shown nowhere, in no
    dump, held by pickles. An Authorization among them replaces the key."""
    transport: TransportFactory | None = field(default=None, repr=False)
    """Makes the transport that requests to the API go through; None is our own. A pickle needs one that can be pickled,
    such as a function of a module."""
    wire: WireName | None = None
    """What is spoken at `base_url`: "jina", also for `jinaclip serve`; "openai" for other servers, see docs/clouds.md;
    "sagemaker". None is "sagemaker" for an address of that scheme, else "jina"."""
    space: str | None = None
    """Name of the vector space, taken as it is: for an endpoint that is known to serve the weights of that space.
    Choose another when the width, the normalisation or an image setting changes. None: see `JinaClip.space`."""
    requests_per_minute: int | None = None
    """Requests that the key's tier allows, if you know it; None is learnt."""
    tokens_per_minute: int | None = None
    """Tokens that the key's tier allows, if you know it; None is learnt."""
    token_budget: int | None = None
    """Tokens this object may spend; a call that would exceed it is refused before it is sent."""
    cache: CacheOption = None
    """Keeps vectors, so that nothing is embedded, or paid for, twice: a path or a `jinaclip.Cache`; True is the user's
    own file, False none; None goes by the variable JINACLIP_CACHE. See docs/cache.md."""
    engine: EngineName = "auto"
    """Of the local backend, what computes: "torch" runs checkpoints, "onnx" runs folders made by `jinaclip export` with
    ONNX Runtime, without PyTorch. "auto" goes by what `model` is; on a CPU it takes the export that a folder of weights
    holds of itself. See docs/engines.md."""
    device: str | Sequence[str] = "auto"
    """Of the local backend: "cpu", "cuda", "cuda:1" or "mps"; "auto" takes the best there is. Several share the work:
    "cuda:0,cuda:1", a list of such names, or "cuda:all" for every card."""
    dtype: str | None = None
    """Of the local backend: "float32", "bfloat16" or "float16"; None is what suits the device."""
    revision: str | None = None
    """Of the local backend: a commit, tag or branch of the model's repository at the hub; None is the one that was
    tested."""
    threads: int | None = None
    """Of the local backend, on a CPU: threads that the model computes with. None is as many as the engine takes by
    itself, which is all that the process may use."""
    image_policy: ImagePolicy = field(default_factory=ImagePolicy)
    """Which images are accepted, and which files and addresses a str may lead to."""
    image_resize: ImageResize = "model"
    """How an image is resized before it is sent, for a model that sees S x S pixels. "model": as the model would do it,
    shorter side to S, then a centre crop. "pad": longer side to S, on black. "squash": to S x S. "none": not at all;
    every started tile is billed."""
    image_quality: int | None = None
    """None sends lossless PNG; 1 to 100 sends JPEG 4:4:4 of that quality."""
    image_decode: ImageDecode = "exact"
    """"fast" lets the decoder of a JPEG file shrink it, to a half, a quarter or an eighth, where it stays as large as
    the model sees it and its sides can be divided so. A large photo then takes a third of the time or less; its vector
    is close to the exact one, not equal: another `space`. Other files, arrays and PIL images are not affected."""
    url_mode: UrlMode = "fetch"
    """"fetch" downloads image URLs here, under `image_policy`; "forward" lets the service download them."""
    show_progress: bool = False
    """Draw a progress bar."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "api_key", Secret.wrap(self.api_key))
        object.__setattr__(self, "headers", Headers.wrap(self.headers))
        if isinstance(self.device, list | tuple) and self.device and all(isinstance(name, str) for name in self.device):
            object.__setattr__(self, "device", ",".join(self.device))
        check_options(self, _CHECKS)
        if (self.image_decode, self.image_resize) == ("fast", "none"):
            problem = "'exact' with image_resize='none', which leaves images as they are"
            raise ConfigError(f"image_decode='fast' must be {problem}", option="image_decode", requirement=problem)
        object.__setattr__(self, "base_url", endpoint(self.base_url))
        check_wire(self.wire, self.base_url)

    def __repr__(self) -> str:
        """Names the options that are set so far: a traceback may show an object that is not complete."""
        values = ((item.name, vars(self).get(item.name)) for item in fields(self) if item.repr)
        return f"EmbedderConfig({', '.join(f'{name}={value!r}' for name, value in values)})"

    @property
    def devices(self) -> tuple[str, ...]:
        """The names in `device`, at least one."""
        names = self.device if isinstance(self.device, str) else ",".join(self.device)
        return tuple(name.strip() for name in names.split(","))

    @property
    def wire_name(self) -> WireName:
        """The wire that is spoken: the option, or what `base_url` implies."""
        return self.wire or implied_wire(self.base_url)

    @property
    def is_hosted(self) -> bool:
        """Whether `base_url` is a host of Jina's, where nothing goes without a key."""
        parts = urlsplit(self.base_url)
        return parts.scheme == "https" and JINA_HOSTS.fullmatch(parts.hostname or "") is not None

    @property
    def key(self) -> Secret:
        """The key to use now; an empty Secret if `headers` have an Authorization, or a server of another is asked.

        A key of the environment goes where its variable says: one of Jina's to Jina, and to this machine by no proxy.

        Raises:
            AuthenticationError: there is no key for Jina's hosts, or it cannot be a key.
        """
        if "Authorization" in self.extra_headers:
            return Secret(None)
        key = self._find_key()
        if not key and self.is_hosted:
            raise AuthenticationError(
                f"no API key: pass api_key, or set {KEY_VARIABLES[0]} in the environment of each process (a pickled "
                "object leaves that key behind); backend='local' needs none"
            )
        if key and not re.fullmatch(r"[\x21-\x7e]+", key.reveal()):
            raise AuthenticationError("the API key holds blanks or characters outside ASCII; it cannot be a key")
        return key

    def _find_key(self) -> Secret:
        """The key that was given, else that of the environment; what a host read there does not travel either."""
        given = Secret.wrap(self.api_key)
        if given and given.travels:
            return given
        if self.is_hosted:
            return given or Secret.from_environment(*KEY_VARIABLES)
        own = Secret.from_environment(OTHER_KEY_VARIABLE)
        host = urlsplit(self.base_url).hostname or ""
        if own or not is_loopback(host) or is_by_proxy(self.base_url):
            return own
        return given or Secret.from_environment(*KEY_VARIABLES)

    @property
    def authorization(self) -> Secret:
        """The value of the header Authorization to send now: that of `headers`, else the key's; empty without a key.

        Raises:
            AuthenticationError: there is neither for Jina's hosts, or the key cannot be a key.
        """
        own = self.extra_headers.get("Authorization")
        if own is None:
            key = self.key
            return Secret(f"Bearer {key.reveal()}") if key else key
        if not own:
            raise AuthenticationError("the header 'Authorization' has no value in this process; set headers again")
        return own

    @property
    def extra_headers(self) -> Headers:
        """`headers`, empty if there are none."""
        return Headers.wrap(self.headers) or NO_HEADERS

    def options(self) -> dict[str, Any]:
        """The options by name, the key as a Secret, the headers as Headers."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def replace(self, **changes: Any) -> EmbedderConfig:
        """A copy with some options changed."""
        return replace(self, **changes)


EmbedderConfig.__init__ = hide_key(EmbedderConfig.__init__)  # type: ignore[method-assign, assignment]


def configured(
    make: Callable[P, EmbedderConfig],
) -> Callable[[Callable[[Owner, EmbedderConfig], None]], Callable[Concatenate[Owner, P], None]]:
    """Gives an `__init__(self, config)` the signature of `make`, so that no option is declared twice."""

    def decorate(init: Callable[[Owner, EmbedderConfig], None]) -> Callable[Concatenate[Owner, P], None]:
        @hide_key
        @functools.wraps(init)
        def init_with_config(self: Owner, /, *args: P.args, **options: P.kwargs) -> None:
            init(self, make(*args, **options))

        signature = inspect.signature(make)
        this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        own = signature.replace(parameters=[this, *signature.parameters.values()], return_annotation=None)
        init_with_config.__signature__ = own  # type: ignore[attr-defined]
        return init_with_config

    return decorate


def refuse_unknown(names: Iterable[str], known: Collection[str], words: Mapping[str, str] | None = None) -> None:
    """For a host: refuses options that there are not, with the one that is meant, if it can be guessed.

    Args:
        names: of the options that were given.
        known: names that are taken here, in the order in which they are to be guessed.
        words: the host's own words for options of the core, such as {"model_name": "model"}: they are recommended.

    Raises:
        ConfigError: there are such options; no value is shown.
    """
    problem = find_unknown(names, known, words or {})
    if problem:
        raise ConfigError(problem)


def check_options(options: object, checks: Mapping[str, Check], prefix: str = "") -> None:
    """Runs the check of each option that has one. Numbers and texts of other types, NumPy's say, become Python's.

    Raises:
        ConfigError: an option is wrong; the message names it.
    """
    for name, check in checks.items():
        value = plain(getattr(options, name))
        object.__setattr__(options, name, value)
        problem = check(value)
        if problem:
            message = f"{prefix}{name}={value!r} must be {problem}"
            raise ConfigError(message, option=f"{prefix}{name}", requirement=problem)


def endpoint(base_url: str) -> str:
    """The full URL of the endpoint, from a host, a host with a path, or that URL itself.

    Raises:
        ConfigError: it is not an http(s) URL, or it has a user name, a query or a fragment; or its scheme is another's,
            and it has not that one's form.
    """
    url = base_url.strip()
    scheme = SCHEMES.get(url.partition("://")[0])
    if scheme is not None:
        if not scheme.pattern.fullmatch(url):
            raise ConfigError(f"base_url must be {scheme.form}")
        return url.removesuffix("?images=bytes")
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


def is_loopback(host: str) -> bool:
    """Whether a host, as an address or name, is this machine alone."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_by_proxy(url: str) -> bool:
    """Whether requests to an address go to a proxy of the environment, which reads those to http."""
    parts, proxies = urlsplit(url), getproxies()
    is_named = bool(proxies.get(parts.scheme) or proxies.get("all"))
    return is_named and not proxy_bypass(parts.hostname or "")


def implied_wire(base_url: str) -> WireName:
    """The wire of an endpoint where no other is named."""
    scheme = SCHEMES.get(base_url.partition("://")[0])
    return "jina" if scheme is None else scheme.wire


def check_wire(wire: WireName | None, base_url: str) -> None:
    """Raises ConfigError for a wire that is not spoken at addresses of this form."""
    if wire is None or wire == implied_wire(base_url):
        return
    own = SCHEMES.get(base_url.partition("://")[0])
    forms = [scheme.form for scheme in SCHEMES.values() if scheme.wire == wire]
    if own is not None or forms:
        problem = f"of the form {forms[0]}" if forms else "an http(s) URL"
        raise ConfigError(f"wire={wire!r} needs a base_url that is {problem}", option="wire", requirement=problem)


def whole_number(low: int, high: float = float("inf"), *, optional: bool = False) -> Callable[[Any], str | None]:
    """A check that a value is an int from `low` to `high`, or None if it is optional."""
    wanted = f"a whole number from {low} to {high}" if high < float("inf") else f"a whole number of at least {low}"

    def check(value: Any) -> str | None:
        if value is None and optional:
            return None
        fits = is_whole(value) and low <= value <= high
        return None if fits else wanted + (" or None" if optional else "")

    return check


def is_cache(value: Any) -> bool:
    """Whether a value is a `jinaclip.Cache`, which this module must not know."""
    methods = all(callable(getattr(value, name, None)) for name in ("vectors", "keep_vectors", "stats"))
    return methods and not isinstance(value, type)


def read_choice(text: str) -> bool | str:
    """What a word of the environment or of a command line means for the option `cache`: on, off, or a path."""
    word = text.strip()
    return word.lower() in ON if word.lower() in ("", *OFF, *ON) else word


def save_cache(option: CacheOption) -> bool | str | None:
    """The option `cache` as a dump holds it: a `Cache` is its path, without its limit; None if it has its own store."""
    if option is None or isinstance(option, bool | str):
        return option
    path = option if isinstance(option, os.PathLike) else option.path
    return None if path is None else os.fspath(path)


def instance_of(*kinds: type, optional: bool = False) -> Callable[[Any], str | None]:
    """A check that a value is of one of these types, or None if it is optional."""

    def check(value: Any) -> str | None:
        fits = isinstance(value, kinds) or (optional and value is None)
        return None if fits else " or ".join(kind.__name__ for kind in kinds) + (" or None" if optional else "")

    return check


def _choice(*choices: str) -> Callable[[Any], str | None]:
    """A check that a value is one of these strings."""
    return lambda value: (
        None if isinstance(value, str) and value in choices else "one of " + ", ".join(map(repr, choices))
    )


def seconds(value: Any) -> str | None:
    """A check that a value is a finite number of seconds, above 0."""
    fits = is_number(value) and 0 < value <= sys.float_info.max
    return None if fits else "a positive number of seconds"


def _sequence(check: Check, wanted: str, *, allow_empty: bool = False) -> Check:
    """A check that a value is a tuple or list, not a str, and that each of its values passes another check."""

    def check_all(value: Any) -> str | None:
        fits = isinstance(value, tuple | list) and (value or allow_empty) and not any(map(check, value))
        return None if fits else f"a tuple of {wanted}"

    return check_all


def _roots(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and value == "any"):
        return None
    return _sequence(instance_of(str, Path), 'folders, "any" or None')(value)


def _absolute_root(root: str | Path) -> str | Path:
    """A folder as it is now, whatever the working directory becomes.

    Raises:
        ConfigError: it is relative, and comes to every file of the machine, or the working directory is gone; or no
            folder can have such a name.
    """
    if "\0" in str(root):
        raise ConfigError(f"image_policy.allowed_roots holds {root!r}, which is no name of a folder")
    if Path(root).is_absolute():
        return root
    try:
        absolute = Path(root).absolute()
    except OSError:
        raise ConfigError(f"image_policy.allowed_roots holds {root!r}, and there is no working directory") from None
    if absolute.resolve() == Path(absolute.anchor):
        raise ConfigError(f"image_policy.allowed_roots holds {root!r}, which is {absolute.anchor!r} here: name it so")
    return type(root)(absolute)


def _network(value: Any) -> str | None:
    try:
        ip_network(value, strict=False)
    except ValueError:
        return "a network"
    return None


_POLICY_CHECKS: dict[str, Check] = {
    "max_bytes": whole_number(1),
    "max_upload_bytes": whole_number(1),
    "max_pixels": whole_number(1),
    "max_pixels_per_byte": whole_number(1),
    "formats": find_problem,
    "allowed_roots": _roots,
    "schemes": _sequence(_choice("http", "https"), '"https", "http"'),
    "ports": _sequence(whole_number(1, 65535), "port numbers"),
    "allow_networks": _sequence(_network, "networks like '10.0.0.0/8'", allow_empty=True),
    "max_redirects": whole_number(0, 20),
    "connect_timeout": seconds,
    "fetch_timeout": seconds,
    "orient": instance_of(bool),
    "background": lambda value: (
        None if not _sequence(whole_number(0, 255), "")(value) and len(value) == 3 else "three numbers from 0 to 255"
    ),
    "frame": whole_number(0),
    "truncated": instance_of(bool),
}
_CHECKS: dict[str, Check] = {
    "model": lambda value: None if isinstance(value, str) and value.strip() else "a model name",
    "backend": _choice("api", "local"),
    "dimensions": whole_number(1, optional=True),
    "normalized": instance_of(bool),
    "truncate": instance_of(bool),
    "batch_size": whole_number(1, MAX_BATCH, optional=True),
    "max_concurrency": whole_number(1, 512, optional=True),
    "max_retries": whole_number(0, 100),
    "timeout": seconds,
    "deadline": lambda value: None if value is None else seconds(value),
    "api_key": lambda value: None if value.kind == "str" else f"a str, not {value.kind}",
    "headers": lambda value: None if value is None else value.problem,
    "transport": lambda value: (
        None if value is None or callable(value) else "a function that makes an httpx.AsyncBaseTransport, or None"
    ),
    "base_url": instance_of(str),
    "wire": lambda value: None if value is None else _choice(*get_args(WireName))(value),
    "space": lambda value: (
        None
        if value is None or (isinstance(value, str) and SPACE_NAME.fullmatch(value))
        else f"a letter and up to {SPACE_LENGTH - 1} more letters, digits or underscores, or None"
    ),
    "requests_per_minute": whole_number(1, optional=True),
    "tokens_per_minute": whole_number(1, optional=True),
    "token_budget": whole_number(0, optional=True),
    "cache": lambda value: (
        None
        if value is None
        or isinstance(value, bool | os.PathLike)
        or is_cache(value)
        or (isinstance(value, str) and value.strip())
        else "True, False, None, a path or a jinaclip.Cache"
    ),
    "engine": _choice(*get_args(EngineName)),
    "device": lambda value: None if isinstance(value, str) else "a str, or a list of str",
    "dtype": instance_of(str, optional=True),
    "revision": instance_of(str, optional=True),
    "threads": whole_number(1, MAX_THREADS, optional=True),
    "image_policy": lambda value: (
        None if isinstance(value, ImagePolicy) else "an ImagePolicy, such as ImagePolicy(max_pixels=10_000_000)"
    ),
    "image_resize": _choice("model", "pad", "squash", "none"),
    "image_quality": whole_number(1, 100, optional=True),
    "image_decode": _choice("exact", "fast"),
    "url_mode": _choice("fetch", "forward"),
    "show_progress": instance_of(bool),
}
