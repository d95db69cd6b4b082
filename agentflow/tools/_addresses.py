"""Where an IP address leads: to the public internet, into a private network, or to nothing a page is read from.

Decided by the tables of IANA's special-purpose registries written out here, not by `ipaddress.is_global`, whose answers
differ between Python releases and which takes IPv6 spellings of `169.254.169.254` for global addresses.
Nothing here resolves a name or opens a connection.
"""

from __future__ import annotations

from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Address", "Reach", "Verdict", "judge", "parse"]

Address: TypeAlias = IPv4Address | IPv6Address


class Reach(IntEnum):
    """How far an address leads; the larger, the less it may be connected to."""

    PUBLIC = 0
    """A host on the internet."""
    PRIVATE = 1
    """A host of a private network, or this machine: only for those who ask for it."""
    NEVER = 2
    """A cloud's metadata service, or no host at all: for nobody."""


@attrs.frozen
class Verdict:
    """What an address is.

    Attributes:
        reach: How far it leads.
        kind: The same for a reader, such as `"loopback"`.
    """

    reach: Reach
    kind: str


# The first match decides, so single addresses stand before the networks they are in.
_TABLE: Final[tuple[tuple[str, Reach, str], ...]] = (
    # Metadata services hand out credentials of the machine. Those of most clouds are link-local; these are not.
    ("100.100.100.200/32", Reach.NEVER, "cloud metadata"),  # Alibaba, inside the shared space
    ("168.63.129.16/32", Reach.NEVER, "cloud metadata"),  # Azure's wire server, otherwise a public address
    ("192.0.0.192/32", Reach.NEVER, "cloud metadata"),  # Oracle
    ("fd00:ec2::/32", Reach.NEVER, "cloud metadata"),  # AWS, all its local services
    ("fd00:c1::a9fe:a9fe/128", Reach.NEVER, "cloud metadata"),  # Oracle
    ("fd00:42::42/128", Reach.NEVER, "cloud metadata"),  # Scaleway
    ("fd20:ce::254/128", Reach.NEVER, "cloud metadata"),  # Google
    ("169.254.0.0/16", Reach.NEVER, "link-local"),
    ("fe80::/10", Reach.NEVER, "link-local"),
    ("0.0.0.0/8", Reach.NEVER, "unspecified"),  # Linux connects 0.0.0.0 to this machine
    ("::/128", Reach.NEVER, "unspecified"),
    ("224.0.0.0/4", Reach.NEVER, "multicast"),
    ("ff00::/8", Reach.NEVER, "multicast"),
    ("192.0.0.0/24", Reach.NEVER, "reserved"),
    ("192.0.2.0/24", Reach.NEVER, "documentation"),
    ("198.51.100.0/24", Reach.NEVER, "documentation"),
    ("203.0.113.0/24", Reach.NEVER, "documentation"),
    ("2001:db8::/32", Reach.NEVER, "documentation"),
    ("3fff::/20", Reach.NEVER, "documentation"),
    ("192.88.99.0/24", Reach.NEVER, "reserved"),  # the withdrawn 6to4 relays (RFC 7526)
    ("240.0.0.0/4", Reach.NEVER, "reserved"),
    # NAT64 of a local network (RFC 8215): where it leads is known only there.
    ("64:ff9b:1::/48", Reach.NEVER, "local NAT64"),
    ("127.0.0.0/8", Reach.PRIVATE, "loopback"),
    ("::1/128", Reach.PRIVATE, "loopback"),
    ("10.0.0.0/8", Reach.PRIVATE, "private"),
    ("172.16.0.0/12", Reach.PRIVATE, "private"),
    ("192.168.0.0/16", Reach.PRIVATE, "private"),
    ("fc00::/7", Reach.PRIVATE, "private"),
    ("fec0::/10", Reach.PRIVATE, "private"),  # site-local, deprecated but still routed somewhere
    ("100.64.0.0/10", Reach.PRIVATE, "shared"),  # carrier-grade NAT, and overlay networks
    ("198.18.0.0/15", Reach.PRIVATE, "benchmarking"),
)

# After the embedded forms: of IPv6 only 2000::/3 is handed out for the internet. The rest is reserved, so also the
# withdrawn IPv4-compatible form `::169.254.169.254`, whatever is in it.
_IPV6_REST: Final[tuple[tuple[str, Reach, str], ...]] = (
    ("2001::/23", Reach.NEVER, "reserved"),
    ("2000::/3", Reach.PUBLIC, "public"),
    ("::/0", Reach.NEVER, "reserved"),
)

_Row: TypeAlias = tuple[IPv4Network | IPv6Network, Verdict]


def _rows(table: tuple[tuple[str, Reach, str], ...]) -> tuple[_Row, ...]:
    return tuple((ip_network(network), Verdict(reach, kind)) for network, reach, kind in table)


_SPECIAL: Final = _rows(_TABLE)
_REST: Final = (*_rows(_IPV6_REST), *_rows((("0.0.0.0/0", Reach.PUBLIC, "public"),)))

_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_6TO4: Final = IPv6Network("2002::/16")
_TEREDO: Final = IPv6Network("2001::/32")


def parse(text: str) -> Address | None:
    """Return the address that a text spells in full, or None; a zone (`fe80::1%eth0`) is not part of an address."""
    try:
        return None if "%" in text else ip_address(text)
    except ValueError:
        return None


def judge(address: Address) -> Verdict:
    """Say where an address leads; an IPv6 address that carries IPv4 ones leads where the worst of those does.

    ```python
    from ipaddress import ip_address
    from agentflow.tools._addresses import Reach, judge

    assert judge(ip_address("1.1.1.1")).reach is Reach.PUBLIC
    assert judge(ip_address("64:ff9b::a9fe:a9fe")).kind == "link-local"
    ```
    """
    own = _first(_SPECIAL, address)
    if own is not None:
        return own
    carried = [judge(inner) for inner in _carried(address)]
    if carried:
        return max(carried, key=lambda verdict: verdict.reach)
    return _first(_REST, address) or Verdict(Reach.NEVER, "reserved")


def _first(rows: tuple[_Row, ...], address: Address) -> Verdict | None:
    """Return the verdict of the first network that holds the address."""
    return next((verdict for network, verdict in rows if address in network), None)


def _carried(address: Address) -> Iterator[IPv4Address]:
    """Yield the IPv4 addresses inside an IPv6 address."""
    if isinstance(address, IPv4Address):
        return
    bits = int(address)
    if address in _MAPPED or address in _NAT64:
        yield _low(bits)
    elif address in _6TO4:
        yield _low(bits >> 80)
    elif address in _TEREDO:  # the server, and the client with its bits inverted (RFC 4380)
        yield _low(bits >> 64)
        yield _low(~bits)


def _low(bits: int) -> IPv4Address:
    """Return the address in the lowest 32 bits."""
    return IPv4Address(bits & 0xFFFFFFFF)
