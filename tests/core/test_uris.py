"""Strings that name images: nothing outside the allowed roots is read, nothing but public addresses is dialled."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import ipaddress
import os
import socket
import ssl
import threading
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

import httpx
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError
from jinaclip.images import check, open_image
from jinaclip.images.addresses import refusal
from jinaclip.images.fetch import fetch
from jinaclip.images.urls import parse
from jinaclip.inputs import Image, as_image
from tests.core.corpus import colours, encoded

POLICY = ImagePolicy()
PICTURE = encoded(colours(), "PNG")
RESOLVE = socket.getaddrinfo

# ---------------------------------------------------------------- addresses

_V4 = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 127.0.0.1 127.8.8.8 169.254.0.1
169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1
192.168.0.1 192.168.255.255 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 224.0.1.1
239.255.255.255 240.0.0.1 255.255.255.255 168.63.129.16
"""
INSIDE_V4 = _V4.split()
_V6 = """
:: ::1 100::1 2001::1 2001:2::1 2001:10::1 2001:20::1 2001:db8::1 3fff::1 4000::1 5f00::1 fc00::1
fd00:ec2::254 fe80::1 febf::1 fec0::1 feff::1 ff02::1 ff0e::1
"""
INSIDE_V6 = _V6.split()
TUNNELS = {
    "compatible": lambda v4: v4,
    "mapped": lambda v4: 0xFFFF << 32 | v4,
    "siit": lambda v4: 0xFFFF << 48 | v4,
    "nat64": lambda v4: 0x64FF9B << 96 | v4,
    "nat64 local": lambda v4: 0x64FF9B0001 << 80 | v4,
    "nat64 local as rfc 6052 spreads it": lambda v4: 0x64FF9B0001 << 80 | (v4 >> 16) << 64 | (v4 & 0xFFFF) << 40,
    "6to4": lambda v4: 0x2002 << 112 | v4 << 80 | 1,
    "teredo": lambda v4: 0x20010000 << 96 | (v4 ^ 0xFFFFFFFF),
    "isatap": lambda v4: 0x26064700 << 96 | 0x5EFE << 32 | v4,
    "isatap, universal": lambda v4: 0x26064700 << 96 | 0x02005EFE << 32 | v4,
}
INSIDE = [
    *INSIDE_V4,
    *INSIDE_V6,
    *(
        str(ipaddress.IPv6Address(wrap(int(ipaddress.IPv4Address(v4)))))
        for wrap in TUNNELS.values()
        for v4 in INSIDE_V4[2:]
    ),
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001::1"]


def test_the_list_of_inside_addresses_is_long_enough():
    assert len(set(INSIDE)) >= 300


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_dialled(address):
    assert refusal(ipaddress.ip_address(address)) is None


def test_no_inside_address_may_be_dialled():
    assert [address for address in INSIDE if not refusal(ipaddress.ip_address(address))] == []


@pytest.mark.parametrize("wrap", [lambda v4: v4, *TUNNELS.values()], ids=["plain", *TUNNELS])
def test_link_local_is_never_allowed_in_any_form(wrap):
    number = wrap(int(ipaddress.IPv4Address("169.254.169.254")))
    everything = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
    assert "never" in refusal(ipaddress.ip_address(number), everything)
    assert "never" in refusal(ipaddress.ip_address("fe80::1"), everything)


@pytest.mark.parametrize(("address", "network"), [("10.1.2.3", "10.0.0.0/8"), ("64:ff9b::808:808", "64:ff9b::/96")])
def test_allowed_networks_may_be_dialled_and_nothing_beside_them(address, network):
    allowed = (ipaddress.ip_network(network),)
    assert refusal(ipaddress.ip_address(address), allowed) is None
    assert refusal(ipaddress.ip_address("192.168.0.1"), allowed)


# ---------------------------------------------------------------- the tripwire, and a server behind it


@dataclass
class Wire:
    dialled: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    names: dict[str, list[str]] = field(default_factory=dict)
    open_to: set[int] = field(default_factory=set)


@pytest.fixture
def wire(monkeypatch):
    """Every address dialled and every name looked up; names answer from `wire.names`, literals as they are."""

    found = Wire()
    connect = socket.socket.connect

    def dial(self, address):
        if address[1] in found.open_to:
            return connect(self, address)
        found.dialled.append(address[0])
        raise ConnectionRefusedError("the tripwire")

    def resolve(host, port, *args, **kwargs):
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(host)
            return RESOLVE(host, port, *args, **kwargs)
        found.asked.append(host)
        if host not in found.names:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        answers = found.names[host]
        family = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [(family[ipaddress.ip_address(a).version], socket.SOCK_STREAM, 6, "", (a, port)) for a in answers]

    monkeypatch.setattr(socket.socket, "connect", dial)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return found


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path; keeps the headers and the TLS server name it was asked with."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers)))
        kind, _, rest = self.path[1:].partition("/")
        getattr(self, f"answer_{kind}")(unquote(rest))

    def send(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)
        self.close_connection = True

    def answer_picture(self, _):
        self.send(200, PICTURE, Content_Type="text/html", Set_Cookie="a=b")

    def answer_to(self, target):
        self.send(302, Location=target)

    def answer_status(self, status):
        self.send(int(status))

    def answer_loop(self, _):
        self.send(307, Location=self.path)

    def answer_packed(self, coding):
        self.send(200, PICTURE, Content_Encoding=coding)

    def answer_endless(self, _):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")

    def answer_drip(self, _):
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.stopping.wait(0.02):
                self.wfile.write(b"x")

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


@functools.cache
def authority() -> trustme.CA:
    return trustme.CA()


@contextlib.contextmanager
def serving(*, tls: bool):
    server = Server(("127.0.0.1", 0), Handler)
    server.seen, server.names, server.stopping = [], [], threading.Event()
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority().issue_cert("pictures.example", "xn--bcher-kva.example", "127.0.0.1").configure_cert(context)
        context.sni_callback = lambda _, name, __: server.names.append(name)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def secure():
    with serving(tls=True) as server:
        yield server


@pytest.fixture(scope="module")
def plain():
    with serving(tls=False) as server:
        yield server


@pytest.fixture
def local(secure, plain, wire, monkeypatch):
    """A policy under which the local servers, and only they, may be dialled."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    monkeypatch.setattr("jinaclip.images.fetch._tls", lambda: context)
    secure.seen.clear(), secure.names.clear(), plain.seen.clear()
    wire.open_to |= {secure.server_port, plain.server_port}
    wire.names |= {"pictures.example": ["127.0.0.1"], "xn--bcher-kva.example": ["127.0.0.1"]}
    return ImagePolicy(
        schemes=("https", "http"),
        ports=(443, secure.server_port, plain.server_port),
        allow_networks=("127.0.0.1/32",),
    )


def at(server, path, host="pictures.example"):
    scheme = "https" if isinstance(server.socket, ssl.SSLSocket) else "http"
    return f"{scheme}://{host}:{server.server_port}{path}"


# ---------------------------------------------------------------- the corpus, 62 to 91

REFUSED = {
    62: ("file:///etc/passwd", "outside the current working directory"),
    63: ("FILE:/etc/passwd", "does not exist"),
    64: ("../outside.png", "outside the current working directory"),
    65: ("{root}-sibling/picture.png", "outside the current working directory"),
    66: ("link-out.png", "outside the current working directory"),
    67: ("fifo", "not a regular file"),
    68: ("/dev/zero", "outside the current working directory"),
    69: ("picture.png\0.txt", "NUL"),
    70: ("https://127.1/", "no address in its plain form"),
    71: ("https://2130706433/", "no address in its plain form"),
    72: ("https://0177.0.0.1/", "no address in its plain form"),
    73: ("https://0x7f.1/", "no address in its plain form"),
    74: ("https://[::ffff:7f00:1]/", "not a public address"),
    75: ("https://[2002:a9fe:a9fe::]/", "not a public address"),
    76: ("https://[64:ff9b::a9fe:a9fe]/", "not a public address"),
    77: ("https://localhost./", "not a public address"),
    78: ("https://\uff11\uff12\uff17.\uff10.\uff10.\uff11/", "no international host name"),
    79: ("https://user@pictures.example/", "user name"),
    80: ("https://pictures.example\\@127.0.0.1/", r"holds '\\\\' at position 24"),
    81: ("https://pictures\t.example/", r"holds '\\t' at position 16"),
    82: ("https://pictures.example:22/", "port 22 is not among image_policy.ports"),
    86: ("ftp://pictures.example/a.png", "not 'ftp'"),
    87: ("data:image/png;base64", "needs a comma"),
    88: ("data:image/png;base64,iVBORw0KGgo=AAAA", "base64|going by its content"),
    90: ("data:image/png;base64," + base64.b64encode(bytes(50_000_000)).decode(), "image_policy.max_bytes"),
    91: ("data:text/html,<img>", "'text/html' is no image"),
    # beyond the numbers
    701: ("https://127.0.0.1/", "not a public address"),
    702: ("https://127.0.0.1./", "not a public address"),
    703: ("https://0/", "no address in its plain form"),
    704: ("https://1.2.3.4.5/", "no address in its plain form"),
    705: ("https://[::1%25lo]/", "names no host"),
    706: ("https://[fe80::1%eth0]/", "names no host"),
    707: ("https://169.254.169.254/latest/", "not a public address"),
    708: ("https://pictures\u3002example/", "no international host name"),
    709: ("https://a..b/", "no host name"),
    710: ("https://%31%32%37.0.0.1/", "no address in its plain form|no host name"),
    711: ("https:///picture.png", "names no host"),
    712: ("https:picture.png", "does not exist"),
    713: ("https://pictures.example:x/", "names no host, or not as host or host:port"),
    714: ("https://[::1/", "no valid URL"),
    715: (" https://pictures.example/", "at position 0"),
    716: ("https://pictures.example/\n", "at position 25"),
    717: ("http://pictures.example/", "image_policy.schemes"),
    718: ("https://" + "a" * 9000, "at most 8192"),
    719: ("https://sub.localhost/", "not a public address"),
    725: ("https://pictures.example[::1]/", "no valid URL|names no host"),
    726: ("https://[1.1.1.1]/", "no valid URL|no address in its plain form"),
    720: ("gopher://pictures.example/", "not 'gopher'"),
    721: ("missing.png", "does not exist"),
    722: (".", "is a folder"),
    723: ("swap/../../outside.png", "outside the current working directory"),
    724: ("x" * 5000, "cannot be read"),
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The working directory: one picture inside, traps around it."""
    folder = tmp_path / "root"
    for path in (folder, tmp_path / "root-sibling"):
        path.mkdir()
        (path / "picture.png").write_bytes(PICTURE)
    (tmp_path / "outside.png").write_bytes(PICTURE)
    (folder / "link-out.png").symlink_to(tmp_path / "outside.png")
    (folder / "link-in.png").symlink_to(folder / "picture.png")
    os.mkfifo(folder / "fifo")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("number", REFUSED)
def test_a_string_is_refused_before_anything_is_read_or_dialled(number, root, wire):
    text, message = REFUSED[number]
    with pytest.raises(InputError, match=message) as caught:
        check(as_image(text.replace("{root}", str(root))), POLICY)
    assert len(str(caught.value)) < 600
    with pytest.raises(InputError):
        open_image(as_image(text.replace("{root}", str(root))), POLICY)
    assert wire.dialled == wire.asked == []


def test_89_base64_of_the_urlsafe_alphabet_opens():
    text = base64.urlsafe_b64encode(PICTURE).decode()
    assert set("-_") & set(text)
    assert open_image(as_image("data:image/png;base64," + text), POLICY).size == (40, 30)


def test_the_corpus_of_uris_is_complete():
    assert set(range(62, 92)) - set(REFUSED) == {83, 84, 85, 89}, "83 to 85 are redirects, 89 opens; all have tests"


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("text", ["picture.png", "./picture.png", "link-in.png", "{root}/picture.png"])
def test_strings_under_the_working_directory_open(text, root):
    assert open_image(as_image(text.replace("{root}", str(root))), POLICY).size == (40, 30)


def test_allowed_roots_open_other_folders_and_close_this_one(root):
    policy = ImagePolicy(allowed_roots=(root.parent / "root-sibling",))
    assert open_image(as_image(str(root.parent / "root-sibling" / "picture.png")), policy).size == (40, 30)
    with pytest.raises(InputError, match=r"outside image_policy.allowed_roots"):
        check(as_image("picture.png"), policy)
    assert open_image(as_image("../outside.png"), ImagePolicy(allowed_roots="any")).size == (40, 30)


def test_paths_from_code_open_anywhere_but_must_be_regular_files_of_fair_size(root):
    assert open_image(as_image(root / "link-out.png"), POLICY).size == (40, 30)
    for path in (root / "fifo", root, "/dev/zero"):
        with pytest.raises(InputError, match=r"not a regular file"):
            open_image(Image.from_path(path), POLICY)
    with pytest.raises(InputError, match=r"max_bytes=100"):
        check(as_image(root / "picture.png"), ImagePolicy(max_bytes=100))


def test_files_that_lie_about_their_size_are_read_up_to_the_limit():
    with pytest.raises(InputError, match=r"max_bytes=10"):
        open_image(Image.from_path("/proc/self/maps"), ImagePolicy(max_bytes=10))


def test_whether_a_file_outside_exists_is_not_told(root):
    messages = []
    for name in ("outside.png", "missing.png"):
        with pytest.raises(InputError) as caught:
            check(as_image(f"../{name}"), POLICY)
        messages.append(str(caught.value).replace(name, ""))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_path_that_becomes_a_link_between_check_and_open_is_refused(what, root, monkeypatch):
    (root / "inner").mkdir()
    (root / "inner" / "outside.png").write_bytes(PICTURE)
    opening = os.open

    def swap(path, flags, *args, **kwargs):
        victim = root / "inner" / "outside.png"
        victim.unlink()
        if what == "folder":
            victim.parent.rmdir()
            victim.parent.symlink_to(root.parent)
        else:
            victim.symlink_to(root.parent / "outside.png")
        return opening(path, flags, *args, **kwargs)

    image = as_image("inner/outside.png")
    monkeypatch.setattr(os, "open", swap)
    with pytest.raises(InputError, match=r"outside|cannot be read|changed"):
        open_image(image, POLICY)


def test_a_path_from_code_that_becomes_a_pipe_between_check_and_open_is_refused(root, monkeypatch):
    opening = os.open

    def swap(path, flags, *args, **kwargs):
        (root / "picture.png").unlink()
        os.mkfifo(root / "picture.png")
        return opening(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", swap)
    with pytest.raises(InputError, match="not a regular file"):
        open_image(Image.from_path("picture.png"), POLICY)


# ---------------------------------------------------------------- fetching


def test_a_picture_is_fetched_with_its_own_name_and_without_anything_of_ours(secure, local, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("SSLKEYLOGFILE", "")
    url = at(secure, "/picture/a?size=1")
    assert fetch(url, local) == PICTURE
    assert fetch(url, local) == PICTURE
    path, headers = secure.seen[1]
    assert secure.names == ["pictures.example"] * 2
    assert path == "/picture/a?size=1"
    assert headers["Host"] == f"pictures.example:{secure.server_port}"
    assert headers["Accept-Encoding"] == "identity"
    assert not {"Cookie", "Authorization", "Referer"} & set(headers)


def test_an_international_name_and_path_are_sent_in_ascii(secure, local):
    assert fetch(at(secure, "/picture/\u00fc b".replace(" ", "%20"), "B\u00fccher.example."), local) == PICTURE
    assert secure.seen[0][0] == "/picture/%C3%BC%20b"
    assert secure.names == ["xn--bcher-kva.example"]


def test_a_picture_opens_from_its_url(secure, local):
    assert open_image(as_image(at(secure, "/picture/")), local).size == (40, 30)


@pytest.mark.parametrize("hops", [0, 1, 3])
def test_redirects_are_followed_up_to_the_limit(hops, secure, local):
    path = "/picture/"
    for _ in range(hops):
        path = "/to/" + quote(path, safe="")
    assert fetch(at(secure, path), local) == PICTURE
    with pytest.raises(InputError, match=r"redirects more than image_policy.max_redirects=3 times"):
        fetch(at(secure, "/to/" * (4 - hops) + quote(path, safe="") if hops == 3 else "/loop/"), local)


@pytest.mark.slow
def test_83_redirects_to_inside_addresses_dial_nothing(secure, local, wire):
    targets = [f"https://{f'[{one}]' if ':' in one else one}/latest/meta-data" for one in INSIDE if one != "127.0.0.1"]
    for target in [*targets, "//169.254.169.254/", "https://localhost.:22/", "file:///etc/passwd", "https://0x7f.1/"]:
        with pytest.raises(InputError):
            fetch(at(secure, "/to/" + quote(target, safe="")), local)
    assert wire.dialled == []
    assert set(wire.asked) == {"pictures.example"}


def test_84_a_redirect_loop_ends(secure, local):
    with pytest.raises(InputError, match=r"redirects more than"):
        fetch(at(secure, "/loop/"), local)
    assert len(secure.seen) == local.max_redirects + 1


def test_85_no_redirect_leads_from_https_to_http(secure, plain, local):
    with pytest.raises(InputError, match=r"from https to http"):
        fetch(at(secure, "/to/" + quote(at(plain, "/picture/"), safe="")), local)
    assert plain.seen == []
    assert fetch(at(plain, "/to/" + quote(at(secure, "/picture/"), safe="")), local) == PICTURE


def test_no_inside_literal_is_dialled(wire):
    for address in INSIDE:
        url = f"https://[{address}]/" if ":" in address else f"https://{address}/"
        for step in (lambda u: check(Image.from_url(u), POLICY), lambda u: fetch(u, POLICY)):
            with pytest.raises(InputError):
                step(url)
    assert wire.dialled == wire.asked == []


@pytest.mark.slow
def test_no_name_that_leads_inside_is_dialled_even_beside_public_addresses(wire):
    for address in INSIDE:
        for answers in ([address], ["1.1.1.1", address], [address, "2606:4700::1111"]):
            wire.names["evil.example"] = answers
            with pytest.raises(InputError, match=r"leads to"):
                fetch("https://evil.example/", POLICY)
    assert wire.dialled == []


def test_a_name_is_resolved_once_and_that_very_address_dialled(wire):
    answers = iter([["1.1.1.1"], ["127.0.0.1"], ["127.0.0.1"]])

    class Rebinding(dict):
        def __getitem__(self, name):
            return next(answers)

    wire.names = Rebinding({"evil.example": None})
    with pytest.raises(InputError, match=r"could not be fetched"):
        fetch("https://evil.example/", POLICY)
    assert wire.asked == ["evil.example"]
    assert wire.dialled == ["1.1.1.1"]


def test_all_public_addresses_of_a_name_are_tried(wire):
    wire.names["pictures.example"] = ["2606:4700::1111", "1.1.1.1"]
    with pytest.raises(InputError, match=r"could not be fetched"):
        fetch("https://pictures.example/", POLICY)
    assert wire.dialled == ["2606:4700::1111", "1.1.1.1"]


def test_a_name_that_does_not_exist_is_an_input_error(wire):
    with pytest.raises(InputError, match=r"missing.example/ could not be fetched.*cannot be resolved"):
        fetch("https://missing.example/", POLICY)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/status/404", "status 404"),
        ("/status/204", "status 204"),
        ("/status/302", "status 302"),
        ("/packed/gzip", "compressed"),
        ("/endless/", "max_bytes=20971520"),
    ],
)
def test_answers_that_are_no_plain_picture_are_refused(path, message, secure, local):
    with pytest.raises(InputError, match=message):
        fetch(at(secure, path), local)


def test_a_server_that_drips_meets_the_total_deadline(secure, local):
    policy = ImagePolicy(
        schemes=local.schemes, ports=local.ports, allow_networks=local.allow_networks, fetch_timeout=0.3
    )
    with pytest.raises(InputError, match=r"did not answer within image_policy.fetch_timeout"):
        fetch(at(secure, "/drip/"), policy)


def test_a_resolver_that_hangs_meets_the_deadline(monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(30) and [])
    with pytest.raises(InputError, match=r"did not answer within"):
        fetch("https://slow.example/", ImagePolicy(connect_timeout=0.05))
    released.set()


def test_a_certificate_for_another_name_is_refused(secure, local, wire):
    wire.names["other.example"] = ["127.0.0.1"]
    with pytest.raises(InputError, match=r"CERTIFICATE_VERIFY_FAILED"):
        fetch(at(secure, "/picture/", "other.example"), local)
    assert secure.seen == []


def test_messages_leave_out_the_query(secure, local):
    with pytest.raises(InputError) as caught:
        fetch(at(secure, "/status/500?signature=canary"), local)
    assert "canary" not in str(caught.value)


# ---------------------------------------------------------------- one reading of a URL

HOSTS = st.sampled_from(
    ["a.example", "A.Example.", "b\u00fccher.example", "1.1.1.1", "[2606:4700::1111]", "127.0.0.1", "a"]
)
PIECES = st.sampled_from(
    [*"@:/\\?#[]%.\t\n \u3002\uff0e\uff11\u00df\u200d;&=", "//", "%2e", "%00", "xn--", "443", "0x7f"]
)
URLS = st.builds(
    lambda scheme, parts, path: scheme + "".join(parts) + path,
    st.sampled_from(["https://", "HTTPS://", "https:", "https:/", "//", "http://", "https:///"]),
    st.lists(HOSTS | PIECES, max_size=5),
    st.sampled_from(["", "/", "/a?b=https://c.example/#d", "?x", "#x", "/%zz"]),
)


@pytest.mark.slow
@settings(max_examples=4000, deadline=None)
@given(URLS | st.text(max_size=40).map("https://".__add__) | st.text(max_size=40))
def test_urllib_and_httpx_see_the_same_host_in_every_url_that_is_accepted(url):
    try:
        location = parse(url, POLICY)
    except InputError:
        return
    host = location.host
    seen = httpx.URL(url)
    assert seen.raw_host.decode().removesuffix(".").strip("[]") in (host, str(_address(host)))
    assert httpx.URL(host=urlsplit(url).hostname).raw_host.decode().removesuffix(".") in (host, str(_address(host)))
    assert urlsplit(str(location)).hostname == host
    assert httpx.URL(str(location)).port in (None, location.port)
    assert parse(str(location), POLICY) == location, "reading it again changes nothing"


def _address(host):
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host)
    return None


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=60))
def test_any_string_is_accepted_or_an_input_error(text):
    with contextlib.suppress(InputError):
        check(as_image(text), POLICY)
