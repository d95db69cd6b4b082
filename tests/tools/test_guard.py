import contextlib
import copy
import gzip
import os
import pickle
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import traceback
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpcore
import pytest

from agentflow.exceptions import AgentflowError, ModelRetry
from agentflow.tools._failures import PageRefused, PageTimeout, PageUnavailable, shown
from agentflow.tools._guard import Fetcher

PUBLIC = "1.1.1.1"
OTHER_PUBLIC = "2606:4700:4700::1111"

FORMS = [
    "http://127.0.0.1:{port}/",
    "HTTP://127.0.0.1:{port}/",
    " http://127.0.0.1:{port}/\n",
    "http://localhost:{port}/",
    "http://LOCALHOST:{port}/",
    "http://localhost.:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7F.0.0.1:{port}/",
    "http://0x7f.1:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://017700000001:{port}/",
    "http://127.0.0.01:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://127.0.0.2:{port}/",
    "http://[::1]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://[0000::0001]:{port}/",
    "http://[::]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::127.0.0.1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[::1%lo]:{port}/",
    "http://[::1%25lo]:{port}/",
    "http://127\u30020\u30020\u30021:{port}/",
    "http://127\uff0e0\uff0e0\uff0e1:{port}/",
    "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11:{port}/",
    "http://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460:{port}/",
    "http://loca\u00adlhost:{port}/",
    "http://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3:{port}/",
    "http://%31%32%37.0.0.1:{port}/",
    "http://127%2e0%2e0%2e1:{port}/",
    "http://%6c%6f%63%61%6c%68%6f%73%74:{port}/",
    "http://127.0.0.1%00.public.test:{port}/",
    "http://user:s3cret@127.0.0.1:{port}/",
    "http://public.test@127.0.0.1:{port}/",
    "http://public.test:80@127.0.0.1:{port}/",
    "http://public.test\\@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@public.test/",
    "http://127.0.0.1:{port}#@public.test/",
    "http://127.0.0.1:{port}?@public.test/",
    "http://127.0.0.1:{port}\t/",
    "http://127.0.0\n.1:{port}/",
    "http://127.0.0.1\u2028:{port}/",
    "http:127.0.0.1:{port}/",
    "http:/127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/",
    "http:\\\\127.0.0.1:{port}\\",
    "//127.0.0.1:{port}/",
    "127.0.0.1:{port}/",
    "http://127.0.0.1:{port}:80/",
    "http://127.0.0.1:0{port}/",
    "http://inside.test:{port}/",
    "http://INSIDE.test.:{port}/",
    "http://half-inside.test:{port}/",
    "http://inside6.test:{port}/",
    "http://zoned.test:{port}/",
    "http://\ud800:{port}/",
]

REACHING = [  # of those above, the ones that do lead to the site if private networks may be read
    "http://127.0.0.1:{port}/",
    "HTTP://127.0.0.1:{port}/",
    " http://127.0.0.1:{port}/\n",
    "http://localhost:{port}/",
    "http://LOCALHOST:{port}/",
    "http://localhost.:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://[::1]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://127\u30020\u30020\u30021:{port}/",
    "http://127.0.0.1:{port}#@public.test/",
    "http://127.0.0.1:0{port}/",
    "http://inside.test:{port}/",
    "http://INSIDE.test.:{port}/",
]

LITERALS = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "ff02::1",
]


def inside(names):
    """Names as an attacker's name server gives them."""
    return names(
        localhost=[["127.0.0.1"]],
        inside_test=[["127.0.0.1"]],
        inside6_test=[["::1"]],
        zoned_test=[["fe80::1%lo"]],
        **{"half-inside_test": [[PUBLIC, "127.0.0.1"]]},
        public_test=[[PUBLIC]],
    )


def public(names, network, **options):
    """A fetcher in a world where public.test and other.test are public and lead to the site."""
    found = names(public_test=[[PUBLIC]], other_test=[[OTHER_PUBLIC]], inside_test=[["127.0.0.1"]])
    return Fetcher(resolve=found, network=network, **options)


@pytest.mark.parametrize("form", FORMS)
def test_no_form_of_a_url_reaches_this_machine(site, names, form):
    """However loopback is spelled, the page is refused and nothing is connected to."""
    site.page("/", b"inside")

    with pytest.raises(PageRefused):
        Fetcher(resolve=inside(names)).fetch(form.format(port=site.port))

    assert site.connections == 0


@pytest.mark.parametrize("form", REACHING)
def test_allow_private_reads_this_machine_by_its_plain_forms(site, names, form):
    """The same forms do lead to the site when private networks are allowed, so the refusals above are the guard's."""
    site.page("/", b"inside")
    if "[::1]" in form or "[0:" in form:
        site.has_ipv6 or pytest.skip("no IPv6 loopback here")

    page = Fetcher(resolve=inside(names), allow_private=True).fetch(form.format(port=site.port))

    assert page.body == b"inside"


@pytest.mark.parametrize("address", LITERALS)
def test_an_address_that_is_not_public_is_never_connected_to(network, names, address):
    """As a literal and behind a name, the refusal comes before any connection."""
    fetcher = Fetcher(resolve=names(evil_test=[[address]]), network=network)
    literal = f"[{address}]" if ":" in address else address

    for url in (f"http://{literal}/", "http://evil.test/", "https://evil.test/"):
        with pytest.raises(PageRefused, match="only public ones"):
            fetcher.fetch(url)

    assert network.attempts == []


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "168.63.129.16", "100.100.100.200", "0.0.0.0"])
def test_metadata_services_are_refused_even_if_private_networks_are_allowed(network, names, address):
    """`allow_private` opens the intranet, never the machine's credentials."""
    fetcher = Fetcher(resolve=names(evil_test=[[address]]), network=network, allow_private=True)

    with pytest.raises(PageRefused):
        fetcher.fetch("http://evil.test/latest/meta-data/")

    assert network.attempts == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://public.test/",
        "gopher://public.test/",
        "data:text/html,hello",
        "jar:http://public.test/",
        "unix:///run/docker.sock",
        "javascript:alert(1)",
        "",
        "http://",
        "http://?",
        "public.test",
        "http://public.test:0/",
        "http://public.test:65536/",
        "http://public.test:-1/",
        "http://public.test:http/",
        "http://.public.test/",
        "http://public..test/",
        "http://public.test../",
        "http://" + "a" * 64 + ".test/",
        "http://" + "a." * 130 + "test/",
        "http://pub lic.test/",
        "http://public.test/\\127.0.0.1",
        "http://public.test/a\u2028b",
        "http://public.test/a b",
        "http://[public.test]/",
        "http://[1.1.1.1]/",
        "http://[::1/",
        "http://1.1.1.1.1/",
        "http://0x01010101/",
        "http://1.1.257/",
        "http://" + "a" * 70000,
    ],
)
def test_what_is_no_plain_http_url_is_refused(network, names, url):
    """Other schemes and malformed hosts and ports are refused before a name is asked for."""
    fetcher = public(names, network)

    with pytest.raises(PageRefused):
        fetcher.fetch(url)

    assert (network.attempts, fetcher.resolve.asked) == ([], [])


def test_a_public_page_is_fetched_with_its_own_name(site, names, network):
    """The connection goes to the address that was checked, the request names the host of the URL."""
    site.page("/a%20b?q=%C3%A4", b"<p>hello</p>", content_type='text/html; charset="ISO-8859-1"')

    page = public(names, network).fetch("http://Public.test./a%20b?q=ä#part")

    assert (page.body, page.media_type, page.charset) == (b"<p>hello</p>", "text/html", "ISO-8859-1")
    assert (network.attempts, site.hosts) == ([PUBLIC], ["public.test"])


def test_an_address_in_a_url_needs_no_name_service(site, names, network):
    """Address literals, also those of IPv6, are checked and connected to as they are."""
    site.page("/", b"x")
    fetcher = public(names, network)

    fetcher.fetch(f"http://{PUBLIC}:8080/")
    fetcher.fetch(f"http://[{OTHER_PUBLIC}]/")

    assert network.attempts == [PUBLIC, OTHER_PUBLIC]
    assert site.hosts == [f"{PUBLIC}:8080", f"[{OTHER_PUBLIC}]"]
    assert fetcher.resolve.asked == []


def test_a_name_that_changes_its_mind_is_asked_only_once(site, names, network):
    """DNS rebinding: the address that was checked is the one that is connected to."""
    site.page("/", b"public")
    rebinding = names(evil_test=[[PUBLIC], ["127.0.0.1"]])

    page = Fetcher(resolve=rebinding, network=network).fetch("http://evil.test/")

    assert page.body == b"public"
    assert (rebinding.asked, network.attempts) == (["evil.test"], [PUBLIC])


def test_a_name_that_changes_its_mind_in_a_redirect_is_refused(site, names, network):
    """Each hop is checked anew, also on the same host."""
    site.redirect("/", "/again")
    rebinding = names(evil_test=[[PUBLIC], ["127.0.0.1"]])

    with pytest.raises(PageRefused, match="loopback"):
        Fetcher(resolve=rebinding, network=network).fetch("http://evil.test/")

    assert (network.attempts, site.requests) == ([PUBLIC], ["/"])


def test_one_private_address_refuses_the_whole_name(network, names):
    """A name with a public and a private address is not tried by its public one."""
    mixed = names(evil_test=[[PUBLIC, "10.0.0.1"]])

    with pytest.raises(PageRefused):
        Fetcher(resolve=mixed, network=network).fetch("http://evil.test/")

    assert network.attempts == []


def test_a_silent_address_leaves_time_for_the_next(site, names, network):
    """Where a name has two addresses, the first may use half of the time."""
    site.page("/", b"second")
    network.dead.add(OTHER_PUBLIC)
    two = names(two_test=[[OTHER_PUBLIC, PUBLIC]])

    page = Fetcher(resolve=two, network=network, timeout=10).fetch("http://two.test/")

    assert (page.body, network.attempts) == (b"second", [OTHER_PUBLIC, PUBLIC])
    assert network.patience[0] <= 5 < network.patience[1]


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{port}/inside",
        "//127.0.0.1:{port}/inside",
        "http://inside.test/inside",
        "http://[::1]:{port}/inside",
        "http://[::ffff:127.0.0.1]:{port}/inside",
        "http://2130706433:{port}/inside",
        "http://169.254.169.254/latest/meta-data/",
        "http://user@public.test/inside",
        "http:\\\\127.0.0.1:{port}\\inside",
        "\\\\127.0.0.1:{port}\\inside",
        "/\\inside",
        "http://public.test:port/inside",
        "/in\u2028side",
        "file:///etc/passwd",
        "gopher://public.test/",
        "//[",
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_what_is_refused_is_refused(site, names, network, location, status):
    """A public page cannot send the reader where its URL could not."""
    site.redirect("/start", location.format(port=site.port), status)
    site.page("/inside", b"secret")

    with pytest.raises(PageRefused):
        public(names, network).fetch("http://public.test/start")

    assert (network.attempts, site.requests) == ([PUBLIC], ["/start"])


def test_redirects_between_public_pages_are_followed(site, names, network):
    """Relative and absolute ones; the page says where it was found."""
    site.redirect("/a", "b?x=1")
    site.redirect("/b?x=1", "http://other.test/ä")
    site.page("/%C3%A4", b"found")

    page = public(names, network).fetch("http://public.test/a")

    assert (page.url, page.body) == ("http://other.test/%C3%A4", b"found")
    assert network.attempts == [PUBLIC, PUBLIC, OTHER_PUBLIC]


def test_five_redirects_are_followed_and_no_sixth(site, names, network):
    """A chain of five ends at its page; one more is refused."""
    for hop in range(6):
        site.redirect(f"/{hop}", f"/{hop + 1}")
    site.page("/6", b"found")
    fetcher = public(names, network)

    assert fetcher.fetch("http://public.test/1").body == b"found"
    site.requests.clear()
    with pytest.raises(PageRefused, match="redirects more than 5 times"):
        fetcher.fetch("http://public.test/0")

    assert site.requests == ["/0", "/1", "/2", "/3", "/4", "/5"]


def test_proxies_of_the_environment_are_not_used(site, names, network, monkeypatch):
    """A proxy would connect for us, to addresses nobody checked."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, site.url)
    site.page("/", b"direct")

    public(names, network).fetch("http://public.test/")

    assert (site.requests, network.attempts) == (["/"], [PUBLIC])


def test_a_bomb_is_cut_at_the_limit(site, names, network):
    """200 MB packed into 200 kB are refused without being unpacked."""
    site.page("/", gzip.compress(bytes(200_000_000), 9), content_encoding="gzip")
    fetcher = public(names, network, max_bytes=1_000_000)

    tracemalloc.start()
    try:
        with pytest.raises(PageRefused, match="larger than 1000000 bytes"):
            fetcher.fetch("http://public.test/")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 5_000_000


def test_many_small_packings_are_one_body(site, names, network):
    """gzip may be written in several members."""
    site.page("/", gzip.compress(b"one ") + gzip.compress(b"two"), content_encoding="gzip")

    assert public(names, network).fetch("http://public.test/").body == b"one two"


@pytest.mark.parametrize("packed", [False, True])
def test_the_limit_is_exact(site, names, network, packed):
    """A body of just the limit is read, one byte more is refused, packed or not."""
    options = {"content_encoding": "gzip"} if packed else {"content_length": None}
    for size in (1000, 1001):
        body = os.urandom(size // 2).hex().encode().ljust(size, b"x")
        site.page(f"/{size}", gzip.compress(body) if packed else body, **options)
    fetcher = public(names, network, max_bytes=1000)

    assert len(fetcher.fetch("http://public.test/1000").body) == 1000
    with pytest.raises(PageRefused, match="larger than"):
        fetcher.fetch("http://public.test/1001")


def test_an_endless_body_ends_at_the_limit(site, names, network):
    """A page without a length is read up to the limit and not further."""
    hung_up = threading.Event()

    def endless(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "text/html")
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"x" * 65536)
        except OSError:
            hung_up.set()

    site.pages["/"] = endless
    with pytest.raises(PageRefused, match="larger than"):
        public(names, network).fetch("http://public.test/")

    assert hung_up.wait(10)


def test_an_endless_packing_of_nothing_ends_at_the_limit(site, names, network):
    """Packed bytes count too, so that a body which unpacks to nothing cannot go on for ever."""
    site.page("/", gzip.compress(b"") * 100, content_encoding="gzip", content_length=None)

    with pytest.raises(PageRefused, match="larger than"):
        public(names, network, max_bytes=1000).fetch("http://public.test/")


def test_a_body_announced_as_too_large_is_not_read(site, names, network):
    """The length in the head is enough to refuse it."""
    site.page("/", b"", content_length="10000001")

    with pytest.raises(PageRefused, match="larger than"):
        public(names, network).fetch("http://public.test/")


@pytest.mark.parametrize(
    ("fields", "error", "reason"),
    [
        ({"content_type": "application/pdf"}, PageRefused, "application/pdf"),
        ({"content_type": "application/json"}, PageRefused, "application/json"),
        ({"content_type": "image/svg+xml"}, PageRefused, "svg"),
        ({"content_type": None}, PageRefused, "no stated type"),
        ({"content_type": "text/html, application/pdf"}, PageRefused, "only HTML"),
        ({"content_encoding": "br"}, PageRefused, "compressed"),
        ({"content_encoding": "gzip, gzip"}, PageRefused, "compressed"),
        ({"content_encoding": "gzip"}, PageUnavailable, "damaged"),
        ({"status": 404}, PageRefused, "status 404"),
        ({"status": 403}, PageRefused, "status 403"),
        ({"status": 302}, PageRefused, "status 302"),
        ({"status": 206}, PageRefused, "status 206"),
        ({"status": 429}, PageUnavailable, "status 429"),
        ({"status": 503}, PageUnavailable, "status 503"),
        ({"content_length": "100"}, PageUnavailable, "without"),
    ],
)
def test_an_answer_that_is_no_page_says_what_it_is(site, names, network, fields, error, reason):
    """Errors that will not pass are told apart from those that may."""
    site.page("/", b"not packed", **fields)

    with pytest.raises(error, match=reason) as caught:
        public(names, network).fetch("http://public.test/")

    assert type(caught.value) is error


@pytest.mark.parametrize(
    "kind", ["text/html", "Text/HTML;charset=utf-8", "application/xhtml+xml", "text/plain", "text/xml"]
)
def test_pages_of_text_are_read(site, names, network, kind):
    """HTML, XHTML, XML and plain text are what articles come in."""
    site.page("/", b"text", content_type=kind)

    assert public(names, network).fetch("http://public.test/").body == b"text"


def test_a_cut_packing_is_not_a_page(site, names, network):
    """A compressed body that ends early is an error, not half a page."""
    site.page("/", gzip.compress(b"a whole page" * 100)[:-9], content_encoding="gzip")

    with pytest.raises(PageUnavailable, match="cut off"):
        public(names, network).fetch("http://public.test/")


def drip(head, pieces):
    """Serve so that something always comes, a little, for some seconds."""

    def answer(handler: BaseHTTPRequestHandler):
        handler.wfile.write(head)
        for piece in pieces:
            handler.wfile.write(piece)
            threading.Event().wait(0.02)

    return answer


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 250\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n", b"X: y\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["body", "headers", "interim answers"],
)
def test_a_slow_drip_ends_at_the_deadline(site, names, network, head, piece):
    """The time is for the whole page, so a server that keeps sending a little does not stretch it."""
    site.pages["/"] = drip(head, [piece] * 250)

    with pytest.raises(PageTimeout, match=r"within 0\.2 seconds"):
        public(names, network, timeout=0.2).fetch("http://public.test/")


def test_silence_ends_at_the_deadline(site, names, network):
    """A server that accepts and says nothing."""
    silent = threading.Event()
    site.pages["/"] = lambda handler: silent.wait(10)

    with pytest.raises(PageTimeout):
        public(names, network, timeout=0.1).fetch("http://public.test/")

    silent.set()


def test_redirects_share_one_deadline(site, names, network):
    """Each hop being quick does not make the chain longer than the time."""

    def slow(handler):
        threading.Event().wait(0.15)
        handler.send_response(302)
        handler.send_header("Location", "/")
        handler.end_headers()

    site.pages["/"] = slow

    with pytest.raises(PageTimeout):
        public(names, network, timeout=0.4).fetch("http://public.test/")


def test_a_name_service_without_an_answer_ends_at_the_deadline(network):
    """Name resolution cannot be interrupted, but it is not waited for longer than the page."""
    asked_to_end, ended = threading.Event(), []

    def hanging(host, port):
        ended.append(asked_to_end.wait(3))
        return [PUBLIC]

    with pytest.raises(PageTimeout):
        Fetcher(resolve=hanging, network=network, timeout=0.1).fetch("http://slow.test/")

    assert (ended, network.attempts) == ([], [])
    asked_to_end.set()


def test_a_name_that_does_not_exist_is_unavailable(names, network):
    """No answer of the name service may be its failure, so it is an error that may pass."""
    with pytest.raises(PageUnavailable, match="cannot be resolved"):
        public(names, network).fetch("http://missing.test/")


def test_a_name_without_addresses_is_unavailable(names, network):
    """An empty answer leads nowhere."""
    with pytest.raises(PageUnavailable, match="no address"):
        Fetcher(resolve=names(empty_test=[[]]), network=network).fetch("http://empty.test/")


def test_a_refused_connection_is_unavailable(names, site):
    """Nobody listens: an error that may pass."""
    site.close()

    with pytest.raises(PageUnavailable, match="refused"):
        Fetcher(allow_private=True).fetch(site.url)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:s3cret@public.test/page?key=s3cret#s3cret",
        "http://public.test/missing?key=s3cret#s3cret",
        "http://public.test/away?key=s3cret",
        "http://inside.test/?key=s3cret",
        "http://missing.test/?key=s3cret",
        "http://public.test:99999/?key=s3cret",
        "ftp://user:s3cret@public.test/?key=s3cret",
        "http:user:s3cret@public.test",
        "http://public.test/a b?s3cret",
    ],
)
def test_errors_show_no_query_and_no_password(site, names, network, url):
    """What stands in a query may be a secret, so neither message, attributes nor traceback repeat it."""
    site.page("/missing?key=s3cret", status=404)
    site.redirect("/away?key=s3cret", "http://inside.test/?token=s3cret")

    with pytest.raises((PageRefused, PageUnavailable)) as caught:
        public(names, network).fetch(url)

    told = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert "s3cret" not in told
    assert caught.value.reason in str(caught.value)
    assert caught.value.url in str(caught.value)


def test_errors_keep_internal_addresses_to_themselves(names, network):
    """Who asks may be mapping the network: the kind of the address is enough."""
    with pytest.raises(PageRefused) as caught:
        Fetcher(resolve=names(evil_test=[["10.20.30.40"]]), network=network).fetch("http://evil.test/")

    assert "10.20.30.40" not in str(caught.value)
    assert "private address" in str(caught.value)


def test_errors_speak_to_a_model_only_if_they_will_not_pass():
    """A refusal is also a `ModelRetry`; an outage is not, so that nobody takes it for an answer."""
    assert issubclass(PageRefused, ModelRetry)
    assert not issubclass(PageUnavailable, ModelRetry)
    assert issubclass(PageTimeout, TimeoutError)
    for kind in (PageRefused, PageUnavailable):
        assert issubclass(kind, AgentflowError)
        assert issubclass(kind, OSError)


@pytest.mark.parametrize("kind", [PageRefused, PageUnavailable, PageTimeout])
def test_errors_survive_copying_and_pickling(kind):
    """They travel between threads and processes with what they carry."""
    error = kind("cannot read x: why", url="x", reason="why")

    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (type(twin), str(twin), twin.url, twin.reason) == (kind, "cannot read x: why", "x", "why")


@pytest.mark.parametrize(
    ("url", "visible"),
    [
        ("https://a.test/b@c/d?e#f", "https://a.test/b@c/d"),
        ("https://user:pw@a.test/b", "https://a.test/b"),
        ("user:pw@a.test/b", "user://a.test/b"),
        ("http://a.test/\x1b[31m", "http://a.test/\ufffd[31m"),
        ("x" * 500, "x" * 200),
    ],
)
def test_a_url_is_shown_without_what_may_harm(url, visible):
    """No query, no password, no escape for the terminal, and not without end."""
    assert shown(url) == visible


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for secure.test and nothing else, made for this test."""
    openssl = shutil.which("openssl") or pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        + ["-subj", "/CN=secure.test", "-addext", "subjectAltName=DNS:secure.test"]
        + ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
def secure_site(certificate, site):
    """The site again, behind TLS; tells which names its clients asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    asked = []
    context.sni_callback = lambda connection, name, context: asked.append(name)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"secure")

        def log_message(self, *args):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *args):
            pass  # a client that does not trust us

    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    site.port = server.server_port
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield asked
    server.shutdown()
    server.server_close()


def trusting(certificate):
    return ssl.create_default_context(cafile=certificate / "cert.pem")


def test_tls_is_verified_for_the_name_although_an_address_is_connected_to(secure_site, certificate, names, network):
    """The certificate of the name in the URL is asked for and checked."""
    found = names(secure_test=[[PUBLIC]])
    fetcher = Fetcher(resolve=found, network=network, ssl_context=trusting(certificate))

    page = fetcher.fetch("https://secure.test./")

    assert (page.body, secure_site, network.attempts) == (b"secure", ["secure.test"], [PUBLIC])


def test_a_certificate_for_another_name_is_refused(secure_site, certificate, names, network):
    """The right address with the wrong name is not the page."""
    found = names(other_test=[[PUBLIC]])
    fetcher = Fetcher(resolve=found, network=network, ssl_context=trusting(certificate))

    with pytest.raises(PageUnavailable, match="[Cc]ertificate|mismatch"):
        fetcher.fetch("https://other.test/")


def test_an_unknown_certificate_is_refused(secure_site, names, network):
    """By default only the authorities that httpx trusts are trusted."""
    with pytest.raises(PageUnavailable, match="[Cc]ertificate|CERTIFICATE"):
        Fetcher(resolve=names(secure_test=[[PUBLIC]]), network=network).fetch("https://secure.test/")


def test_a_server_that_never_answers_the_handshake_ends_at_the_deadline(names, network, site):
    """Encrypting the connection is inside the same time as all else."""
    asked_to_end, ended = threading.Event(), []
    fetcher = Fetcher(resolve=names(secure_test=[[PUBLIC]]), network=network, timeout=0.1)

    def accept_and_wait(server):
        with contextlib.suppress(TimeoutError):  # where the machine is too slow to connect before the deadline
            connection, _ = server.accept()
            with connection:
                ended.append(asked_to_end.wait(3))

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(3)
        site.port = server.getsockname()[1]
        silent = threading.Thread(target=accept_and_wait, args=[server])
        silent.start()
        with pytest.raises(PageTimeout):
            fetcher.fetch("https://secure.test/")
        assert ended == []
        asked_to_end.set()
        silent.join()


def test_the_guard_holds_on_httpx2_as_well(site):
    """It is written against what httpx and httpx2 share."""
    site.page("/", b"inside")
    site.redirect("/away", "http://169.254.169.254/")
    program = f"""
        import sys, httpx2, httpcore2
        sys.modules["httpx"], sys.modules["httpcore"] = httpx2, httpcore2
        from agentflow.tools._failures import PageRefused
        from agentflow.tools._guard import Fetcher
        assert Fetcher(allow_private=True).fetch("{site.url}/").body == b"inside"
        for fetcher, path in ((Fetcher(), "/"), (Fetcher(allow_private=True), "/away")):
            try:
                fetcher.fetch("{site.url}" + path)
            except PageRefused as error:
                print(error.reason)
    """

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stderr == ""
    assert ["loopback" in line or "link-local" in line for line in done.stdout.splitlines()] == [True, True]
    assert site.requests == ["/", "/away"]


def test_the_network_of_a_fetcher_is_the_plain_one_by_default():
    """Nothing stands between the guard and the sockets unless it is put there."""
    assert isinstance(Fetcher().network, httpcore.SyncBackend)
