from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given, strategies as st

from agentflow.tools._addresses import Reach, judge, parse

EMBEDDINGS = {
    "mapped": lambda v4: IPv6Address((0xFFFF << 32) | v4),
    "compatible": IPv6Address,
    "NAT64": lambda v4: IPv6Address((0x64FF9B << 96) | v4),
    "6to4": lambda v4: IPv6Address((0x2002 << 112) | (v4 << 80)),
    "Teredo server": lambda v4: IPv6Address((0x20010000 << 96) | (v4 << 64) | (~0x01010101 & 0xFFFFFFFF)),
    "Teredo client": lambda v4: IPv6Address((0x20010000 << 96) | (0x01010101 << 64) | (~v4 & 0xFFFFFFFF)),
}


@pytest.mark.parametrize("text", ["1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e"])
def test_hosts_of_the_internet_are_public(text):
    """Ordinary addresses are public."""
    assert judge(ip_address(text)).reach is Reach.PUBLIC


@pytest.mark.parametrize("text", ["64:ff9b::101:101", "::ffff:1.1.1.1", "2002:101:101::1"])
def test_a_public_address_inside_another_is_public(text):
    """On networks that have only IPv6, every IPv4 site is met in such a form."""
    assert judge(ip_address(text)).reach is Reach.PUBLIC


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("fc00::1", "private"),
        ("fd12:3456::1", "private"),
        ("fec0::1", "private"),
        ("100.64.0.1", "shared"),
        ("100.127.255.255", "shared"),
        ("198.18.0.1", "benchmarking"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:10.0.0.1", "private"),
        ("64:ff9b::7f00:1", "loopback"),
        ("2002:7f00:1::", "loopback"),
    ],
)
def test_private_networks_and_this_machine_are_private(text, kind):
    """What a program may ask for is told apart from what is never reached."""
    verdict = judge(ip_address(text))

    assert (verdict.reach, verdict.kind) == (Reach.PRIVATE, kind)


@pytest.mark.parametrize(
    "text",
    [
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fe80::a9fe:a9fe",
        "::169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:a9fe:a9:fe00::",
        "2002:a9fe:a9fe::",
        "2002:a83f:8110::",
        "2001:0:a9fe:a9fe::",
        "2001:0:101:101:0:0:5601:5601",
    ],
)
def test_metadata_services_are_never_reached_in_any_form(text):
    """The services that hand out a machine's credentials are for nobody, also inside another address."""
    assert judge(ip_address(text)).reach is Reach.NEVER


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "::0.1.2.3",
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        "240.0.0.1",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "192.88.99.1",
        "ff02::1",
        "2001:db8::1",
        "3fff::1",
        "2001:2::1",
        "2001:10::1",
        "100::1",
        "::ffff:0:7f00:1",
        "5f00::1",
        "4000::1",
    ],
)
def test_what_is_no_host_is_never_reached(text):
    """Multicast, reserved, documentation and unspecified addresses are for nobody."""
    assert judge(ip_address(text)).reach is Reach.NEVER


@pytest.mark.parametrize("text", ["fe80::1%lo", "::1%25lo", "127.1", "0x7f.0.0.1", "0177.0.0.1", "2130706433", "", "a"])
def test_only_full_spellings_are_addresses(text):
    """A zone, a short form or another base is not read as an address."""
    assert parse(text) is None


@given(st.integers(2, 2**32 - 1), st.sampled_from(sorted(EMBEDDINGS)))  # ::0 and ::1 mean something of their own
def test_no_embedding_leads_further_than_the_address_inside(bits, embedding):
    """Wrapping an IPv4 address into an IPv6 one never makes it more public than it is."""
    plain, wrapped = judge(IPv4Address(bits)), judge(EMBEDDINGS[embedding](bits))

    assert wrapped.reach >= plain.reach


@given(st.one_of(st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(2**125, 2**126 - 1).map(IPv6Address)))
def test_nothing_is_public_that_python_calls_private(address):
    """The tables refuse at least what the standard library knows to be special."""
    special = not address.is_global or address.is_multicast or address.is_reserved or address.is_link_local

    assert not (special and judge(address).reach is Reach.PUBLIC)
