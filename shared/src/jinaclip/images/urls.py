"""Parses an image URL once, into the parts that are both checked and dialled.

If two parsers disagree about where the host ends, a checked URL can reach another host. So what `parse` returns is
dialled unchanged, and no other parser reads the text again.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from jinaclip import telemetry
from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError
from jinaclip.images.addresses import Address, networks, refusal
from jinaclip.inputs import Image

MAX_URL = 8192
DEFAULT_PORTS = {"https": 443, "http": 80}
SAFE = "/?:@!$&'()*+,;=~-._%"
OTHER_DOTS = "\u3002\uff0e\uff61"
"""IDNA reads these as dots; other parsers may not."""
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029\ud800-\udfff]")
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:]+))(?::(?P<port>[0-9]{0,5}))?", re.ASCII)
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclass(frozen=True, slots=True)
class Location:
    """The URL of one request, in parts.

    Attributes:
        host: a name in ASCII without a trailing dot, or a literal address without brackets.
        target: path and query, as sent.
        given: host and port as they were written, for messages.
    """

    scheme: str
    host: str
    port: int
    target: str
    given: str = field(compare=False)

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    @property
    def url_for_messages(self) -> str:
        """The URL as messages may show it: shortened, and without the query, which may hold a signature."""
        return f"{self.scheme}://{self.given}{self.target.partition('?')[0]}"[:200]


def parse(url: str, policy: ImagePolicy, asked: Location | None = None) -> Location:
    """Parses a URL and checks it against the policy, without touching the network.

    Args:
        url: the URL.
        policy: which schemes, ports and addresses are allowed.
        asked: where the caller's own URL led, if this is one that it redirects to.

    Raises:
        InputError: it is not a URL, or the policy refuses it; the message names the part and the option, but of a host
            that is an address only what `host_error` says.
    """
    if not isinstance(url, str) or len(url) > MAX_URL:
        raise InputError(f"an image URL must be a str of at most {MAX_URL} characters; fetch it and pass the bytes")
    if found := _UNSAFE.search(url):
        raise InputError(f"the image URL holds {found[0]!r} at position {found.start()}; percent-encode it")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise InputError(f"{url[:200]!r} is no valid URL") from None
    scheme = parts.scheme.lower()
    _check_scheme(scheme, url, policy)
    if "@" in parts.netloc:
        raise InputError("the image URL holds a user name or an @ before its host; leave it out")
    authority = _AUTHORITY.fullmatch(parts.netloc)  # urlsplit itself accepts hosts like a[::1]
    if not authority:
        raise InputError(f"{url[:200]!r} names no host, or not as host or host:port")
    port = int(authority["port"] or DEFAULT_PORTS[scheme])
    if port not in policy.ports:
        raise InputError(f"port {port} is not among image_policy.ports={policy.ports}; add it there if you mean it")
    target = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=SAFE)
    given = (authority["v6"] or authority["name"]).lower()
    host, address = _parse_literal(given, ipaddress.IPv6Address) if authority["v6"] else _parse_host(given)
    location = Location(scheme, host, port, target, parts.netloc)
    if problem := find_problem([address] if address else [], policy):
        raise host_error(asked or location, host, problem, policy)
    return location


def find_problem(addresses: Iterable[Address], policy: ImagePolicy) -> str | None:
    """Why a host with these addresses must not be dialled, or None if it may be."""
    allowed = networks(policy.allow_networks)
    reasons = ((address, refusal(address, allowed)) for address in addresses)
    return next((f"it leads to {address}: {reason}" for address, reason in reasons if reason), None)


def host_error(asked: Location, host: str, problem: str, policy: ImagePolicy) -> InputError:
    """The error for a host that must not be dialled or has no address: one text, whatever the problem is.

    Else a model that asks for images could learn from the answers which names and addresses a private network has. The
    problem is told to the telemetry alone, and so to the log.

    Args:
        asked: where the caller's own URL led; it may have redirected to the host.
        host: name or address.
        problem: what is wrong with it, for the log.
        policy: what it was held against.
    """
    if telemetry.wants(telemetry.HostRefused):
        telemetry.emit(telemetry.HostRefused(host=host, reason=problem))
    return InputError(
        f"{asked.url_for_messages} could not be fetched: its host, or one that it redirects to, cannot be resolved "
        f"(the resolver did not answer within image_policy.connect_timeout={policy.connect_timeout} s, perhaps), or "
        "leads to what is not a public address; image_policy.allow_networks can allow networks of your own, and the "
        "log at DEBUG says which it is"
    )


def _check_scheme(scheme: str, url: str, policy: ImagePolicy) -> None:
    if scheme in DEFAULT_PORTS and scheme in policy.schemes:
        return
    remedies = {"file": "open files with Image.from_path", "http": "image_policy.schemes and .ports can allow it"}
    remedy = remedies.get(scheme, "fetch it and pass the bytes")
    shown = str(Image.from_url(url))
    raise InputError(f"image URLs may be {', '.join(policy.schemes)}, not {scheme[:32]!r} as {shown!r}; {remedy}")


def _parse_host(given: str) -> tuple[str, Address | None]:
    """The host in ASCII and, if it is a literal address, that address, else None."""
    name = _to_ascii(given).removesuffix(".")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):  # resolvers read 127.1, 0x7f.1 and 2130706433 as addresses
        return _parse_literal(name, ipaddress.IPv4Address)
    if not _NAME.fullmatch(name) or len(name) > 253:
        raise InputError(f"{given[:100]!r} is no host name")
    if name == "localhost" or name.endswith(".localhost"):
        return name, ipaddress.IPv4Address("127.0.0.1")
    return name, None


def _parse_literal(text: str, kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> tuple[str, Address]:
    try:
        address = kind(text)
    except ValueError:
        raise InputError(f"{text[:100]!r} is no address in its plain form, four decimal numbers or IPv6") from None
    return str(address), address


def _to_ascii(host: str) -> str:
    if host.isascii():
        return host
    import idna

    try:
        if any(dot in host for dot in OTHER_DOTS):
            raise idna.IDNAError("dots of other scripts")
        return idna.encode(host).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise InputError(f"{host[:100]!r} is no international host name; write it in its xn-- form") from None
