"""Which network addresses an image may be fetched from.

"Public" is stricter here than `ipaddress.is_global`, which accepts addresses that lead back into a private network:
6to4, NAT64, site-local, multicast, a cloud's metadata host. In IPv6 only 2000::/3 is public, so the rest needs no list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from jinaclip.errors import ConfigError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

PUBLIC_IPV6 = IPv6Network("2000::/3")
NOT_PUBLIC = tuple(
    ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments; one is Oracle's metadata host
        "192.88.99.0/24",  # 6to4 relays
        "168.63.129.16/32",  # Azure's metadata host
        "2001::/23",  # protocol assignments, Teredo and ORCHID among them
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)
LINK_LOCAL = (IPv4Network("169.254.0.0/16"), IPv6Network("fe80::/10"))
ENDS_IN_IPV4 = tuple(
    IPv6Network(network) for network in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
)
"""Networks whose last 32 bits are an IPv4 address: compatible, mapped, translated (SIIT), and both NAT64 prefixes."""
NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")
SIX_TO_FOUR = IPv6Network("2002::/16")
TEREDO = IPv6Network("2001::/32")
ISATAP = (0x0000_5EFE, 0x0200_5EFE)
LOW_32 = 0xFFFF_FFFF


def networks(values: Iterable[str | Network]) -> tuple[Network, ...]:
    """Parses `image_policy.allow_networks`.

    Raises:
        ConfigError: a value is not a network.
    """
    found = []
    for value in values:
        try:
            found.append(ip_network(value, strict=False))
        except ValueError:
            raise ConfigError(f"image_policy.allow_networks holds {value!r}, which is no network") from None
    return tuple(found)


def refusal(address: Address, allowed: Iterable[Network] = ()) -> str | None:
    """The reason why this address must not be dialled, or None if it may be.

    Args:
        address: the address that a name resolved to, or that the URL itself holds.
        allowed: networks that may be dialled even though they are not public.
    """
    inner = list(_inner_addresses(address)) if isinstance(address, IPv6Address) else []
    if any(form in network for form in (address, *inner) for network in LINK_LOCAL):
        return "link-local, where metadata services live; that is never allowed"
    if any(address in network for network in allowed):
        return None
    if inner:
        return f"an IPv6 form of {inner[0]}, not a public address"
    return None if _is_public(address) else "not a public address"


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in PUBLIC_IPV6:
        return False
    listed = any(address in network for network in NOT_PUBLIC)
    return address.is_global and not address.is_multicast and not address.is_reserved and not listed


def _inner_addresses(address: IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that a router or a host may translate this IPv6 address to."""
    bits = int(address)
    if any(address in network for network in ENDS_IN_IPV4) or bits >> 32 & LOW_32 in ISATAP:
        yield IPv4Address(bits & LOW_32)
    if address in NAT64_LOCAL:
        yield IPv4Address((bits >> 64 & 0xFFFF) << 16 | bits >> 40 & 0xFFFF)  # RFC 6052 leaves out bits 64 to 71
    if address in SIX_TO_FOUR:
        yield IPv4Address(bits >> 80 & LOW_32)
    if address in TEREDO:
        yield IPv4Address(~bits & LOW_32)
