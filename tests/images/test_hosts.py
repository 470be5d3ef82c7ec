"""What a private network looks like is not told to whoever names URLs: one text for every host that is not dialled."""

from __future__ import annotations

import http.server
import ipaddress
import logging
import socket
import threading
import traceback
from collections.abc import Iterator
from urllib.parse import quote, unquote

import pytest

from jinaclip import ImagePolicy, InputError, JinaClip, telemetry
from jinaclip.images import check
from jinaclip.images.fetch import MOST_ADDRESSES, fetch
from jinaclip.inputs import Image

RESOLVE = socket.getaddrinfo
NAMES = {
    "private.corp": ["10.20.30.40"],
    "link-local.corp": ["169.254.169.254"],
    "v6.corp": ["fd00::1"],
    "mixed.corp": ["1.1.1.1", "10.0.0.5"],
    "empty.corp": [],
    "many.corp": [f"1.1.{number // 256}.{number % 256}" for number in range(MOST_ADDRESSES + 1)],
}
UNRESOLVED = ["broken.corp", "nowhere.corp", "missing.corp", "slow.corp", f"{'a' * 60}.{'b' * 60}.corp"]
LITERALS = ["10.20.30.40", "10.20.30.41", "127.0.0.1", "169.254.169.254", "[::1]", "[fd00::1]", "[::ffff:10.0.0.1]"]
HOSTS = [*NAMES, *UNRESOLVED, *LITERALS, "localhost", "db.localhost"]


@pytest.fixture(autouse=True)
def network(monkeypatch) -> Iterator[None]:
    """Names of a private network, and one whose resolver never answers."""
    ended = threading.Event()

    def resolve(host, port, *args, **kwargs):
        if host == "slow.corp":
            ended.wait(60)
        if host == "broken.corp":  # resolvers of other libraries raise and give what they like
            raise ValueError("no such name")
        if host == "nowhere.corp":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("nowhere", port))]
        if host not in NAMES and host.endswith(".corp"):
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        if host not in NAMES:
            return RESOLVE(host, port, *args, **kwargs)
        family = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [
            (family[ipaddress.ip_address(one).version], socket.SOCK_STREAM, 6, "", (one, port)) for one in NAMES[host]
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    yield
    ended.set()


@pytest.fixture(scope="module")
def redirecting() -> Iterator[int]:
    """The port of a server that redirects to the URL that its path is."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", unquote(self.path[1:]))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server.server_port
        server.shutdown()


def said_of(step, url: str, *args) -> str:
    with pytest.raises(InputError) as caught:
        step(url, *args)
    assert type(caught.value) is InputError
    return str(caught.value)


def without(host: str, text: str) -> str:
    """Without the host as it was asked for, in which alone texts may differ, and nowhere but in the URL."""
    url, rest = text.split(" ", 1)
    assert not any(one.strip("[]") in rest for one in HOSTS)
    assert not any(address in rest for addresses in NAMES.values() for address in addresses)
    return url.replace(host, "host") + " " + rest


def test_one_text_for_every_host_that_is_refused_or_unknown():
    policy = ImagePolicy(connect_timeout=0.2)
    texts = {without(host, said_of(fetch, f"https://{host}/a.png?b=c", policy)) for host in HOSTS}
    assert len(texts) == 1
    (text,) = texts
    for word in ("https://host/a.png could not be fetched", "resolved", "public", "allow_networks", "DEBUG"):
        assert word in text


def test_a_literal_address_is_refused_in_that_text_before_it_is_fetched():
    policy = ImagePolicy()
    for host in [*LITERALS, "localhost"]:
        early = said_of(lambda url: check(Image.from_url(url), policy), f"https://{host}/a.png")
        assert without(host, early) == without("missing.corp", said_of(fetch, "https://missing.corp/a.png", policy))


def test_where_a_redirect_leads_is_not_told_either(redirecting):
    policy = ImagePolicy(
        schemes=("https", "http"), ports=(443, redirecting), allow_networks=("127.0.0.2/32", "127.0.0.1/32"),
        connect_timeout=0.2,
    )  # fmt: skip
    texts = set()
    for host in set(HOSTS) - {"127.0.0.1", "localhost", "db.localhost"}:
        url = f"http://127.0.0.1:{redirecting}/{quote(f'https://{host}/a.png', safe='')}"
        asked, rest = said_of(fetch, url, policy).split(" ", 1)
        assert url.startswith(asked)
        texts.add(rest)
    assert texts == {said_of(fetch, "https://missing.corp/", policy).split(" ", 1)[1]}


@pytest.mark.parametrize("door", ["embed_image", "embed_images", "preview"])
def test_calls_say_no_more(door):
    with JinaClip(api_key="none", image_policy=ImagePolicy(connect_timeout=0.2)) as clip:
        step = {
            "embed_image": clip.embed_image,
            "embed_images": lambda url: clip.embed_images([url]),
            "preview": clip.preview,
        }[door]
        texts = set()
        for host in HOSTS:
            texts.add(said_of(step, f"https://{host}/a.png").replace(f"//{host}/", "//host/"))
    assert len(texts) == 1


def test_whoever_runs_the_program_can_see_why(caplog):
    """In the log at DEBUG, or by a hook: the host and the reason, not the path."""
    caplog.set_level(logging.DEBUG, "jinaclip")
    seen: list[object] = []
    telemetry.set_hooks(*telemetry.get_hooks(), seen.append)
    try:
        for host in ("private.corp", "missing.corp", "empty.corp", "many.corp", "slow.corp", "10.20.30.40"):
            seconds = 0.2 if host == "slow.corp" else 60
            policy = ImagePolicy(connect_timeout=seconds, fetch_timeout=60)
            said_of(fetch, f"https://{host}/canary.png?canary", policy)
    finally:
        telemetry.set_hooks(None)
    assert caplog.messages == [
        "no image is fetched from private.corp: it leads to 10.20.30.40: not a public address",
        "no image is fetched from missing.corp: it cannot be resolved",
        "no image is fetched from empty.corp: it has no address",
        f"no image is fetched from many.corp: it has {MOST_ADDRESSES + 1} addresses",
        "no image is fetched from slow.corp: it was not resolved in time",
        "no image is fetched from 10.20.30.40: it leads to 10.20.30.40: not a public address",
    ]
    assert [type(event) for event in seen] == [telemetry.HostRefused] * 6


def test_the_traceback_holds_no_more_than_the_text():
    """Agents show models the traceback, too."""
    with pytest.raises(InputError) as caught:
        fetch("https://private.corp/a.png", ImagePolicy())
    assert "10.20.30.40" not in "".join(traceback.format_exception(caught.value))
