"""Parses an image URL once, into the parts that are both checked and dialled.

If two parsers disagree about where the host ends, a checked URL can reach another host. So what `parse` returns is
dialled unchanged, and no other parser reads the text again.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

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
    """

    scheme: str
    host: str
    port: int
    target: str

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
        return f"{self.scheme}://{self.authority}{self.target.partition('?')[0]}"[:200]


def parse(url: str, policy: ImagePolicy) -> Location:
    """Parses a URL and checks it against the policy, without touching the network.

    Raises:
        InputError: it is not a URL, or the policy refuses it; the message names the part and the option.
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
    check_address(address, given, policy)
    return Location(scheme, host, port, target)


def check_address(address: Address | None, name: str, policy: ImagePolicy) -> None:
    """Checks an address against the policy; `name` is its host, for the message.

    Raises:
        InputError: the address must not be dialled.
    """
    reason = refusal(address, networks(policy.allow_networks)) if address else None
    if reason:
        remedy = "" if "never" in reason else "; image_policy.allow_networks can allow it"
        raise InputError(f"the host of the image URL, {name!r}, leads to {address}: {reason}{remedy}")


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
