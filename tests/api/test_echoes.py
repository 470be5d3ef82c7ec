"""Services, proxies and libraries repeat the key in every form and place: no piece of it leaves the package."""

import base64
import binascii
import dataclasses
import html
import itertools
import json
import logging
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from urllib.parse import quote, unquote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jinaclip import JinaClip, JinaClipError, telemetry
from jinaclip.secret import Redactor
from tests.needs import long
from tests.raw import Sent, http, serving

ROOT = Path(__file__).parents[2]
PIECE = 8
"""Characters of the key that must be nowhere."""
NUMBERS = itertools.count(100)
"""In the keys, so that no test meets what another's account learnt."""
ECHOES = {
    "bare": lambda key: key,
    "with Bearer": lambda key: f"Bearer {key}",
    "in capitals": str.upper,
    "in small letters": str.lower,
    "percent-encoded": lambda key: "".join(f"%{ord(letter):02X}" for letter in key),
    "percent-encoded twice": lambda key: quote("".join(f"%{ord(letter):02x}" for letter in key)),
    "escaped for JSON": lambda key: "".join(f"\\u{ord(letter):04x}" for letter in key),
    "escaped for JSON twice": lambda key: "".join(f"\\\\u{ord(letter):04X}" for letter in key),
    "escaped for HTML": lambda key: "".join(f"&#{ord(letter)};" for letter in key),
    "escaped for HTML twice": lambda key: "".join(f"&amp;#x{ord(letter):x};" for letter in key),
    "as bytes of Python": lambda key: "".join(f"\\x{ord(letter):02x}" for letter in key),
    "in hex": lambda key: key.encode().hex(),
    "in base64": lambda key: base64.b64encode(key.encode()).decode(),
    "in base64 with a user": lambda key: base64.b64encode(f"user:{key}!".encode()).decode(),
    "in base64 of the header": lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
    "in base64 for URLs": lambda key: base64.urlsafe_b64encode(f"ÿþ{key}".encode("latin-1")).decode(),
    "in base64, percent-encoded": lambda key: quote(base64.b64encode(key.encode()).decode(), safe=""),
    "its beginning": lambda key: f"{key[: len(key) // 2]}...",
    "its end": lambda key: f"...{key[-12:]}",
    "behind escapes": lambda key: f"100%{key} \\{key} &{key}",
    "often": lambda key: " ".join([key] * 50),
}


def new_key():
    """A key that no other test has."""
    return f"jina_Zq7x-W2_vB9kLm4TnRs{next(NUMBERS)}Y8dPu3GhJc6Fe"


def readings(text):
    """A text as people who look for a key in it may read it."""
    yield from (text, unquote(unquote(text)), html.unescape(html.unescape(text)))
    yield re.sub(r"\\+(?:u00|x)([0-9a-fA-F]{2})", lambda match: chr(int(match[1], 16)), text)
    for run in re.findall(r"[A-Za-z0-9+/]{10,}", unquote(text).translate(str.maketrans("-_", "+/"))):
        for part in (run[offset:] for offset in range(4)):
            yield base64.b64decode(part[: len(part) // 4 * 4]).decode("latin-1")
            with suppress(binascii.Error):
                yield binascii.unhexlify(part[: len(part) // 2 * 2]).decode("latin-1")


def holds(text, key):
    """Whether a text gives a piece of a key away."""
    pieces = {key[i : i + PIECE].lower() for i in range(len(key) - PIECE + 1)}
    return any(not pieces.isdisjoint(windows(reading.lower())) for reading in readings(text))


def windows(text):
    """All pieces of a text."""
    return {text[i : i + PIECE] for i in range(len(text) - PIECE + 1)}


def texts_of(thing, seen=None):
    """All text in an object: in what it holds, in its repr, and for an error in its chain and the frames behind it."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, str):
        yield thing
        return
    yield from (repr(thing), str(thing))
    if isinstance(thing, bytes):
        yield thing.decode("latin-1")
    parts = [*thing, *thing.values()] if isinstance(thing, Mapping) else []
    parts += thing if isinstance(thing, list | tuple | set | frozenset) else []
    if dataclasses.is_dataclass(thing):
        parts += [getattr(thing, item.name) for item in dataclasses.fields(thing)]
    if isinstance(thing, logging.LogRecord):
        parts += [thing.getMessage(), vars(thing)]
    if isinstance(thing, BaseException):
        parts += [thing.args, vars(thing), thing.__cause__, thing.__context__, thing.__traceback__]
        parts += [pickle.dumps(thing.with_traceback(None))] if not thing.__traceback__ else []
    if isinstance(thing, TracebackType):
        own = thing.tb_frame.f_code.co_filename in (__file__, logging.__file__)
        parts += [thing.tb_next] if own else [thing.tb_next, *map(repr, thing.tb_frame.f_locals.values())]
    for part in parts:
        yield from texts_of(part, seen)


def assert_hidden(thing, *keys):
    texts = set(texts_of(thing))
    for key in keys:
        if holds("\n".join(texts), key):
            assert [text for text in texts if holds(text, key)] == []


@pytest.fixture
def events(caplog):
    """What loggers and hooks are told meanwhile."""
    told = []
    caplog.set_level(logging.DEBUG)
    telemetry.set_hooks(telemetry.log_event, told.append)
    yield told
    telemetry.set_hooks(None)


def refused(status, **body):
    return lambda echo: http(json.dumps(body).replace("ECHO", json.dumps(echo)[1:-1]).encode(), status)


def unescaped(status, template):
    """JSON in which the echo stands as it is; it may not be JSON then."""
    return lambda echo: http(template.replace("ECHO", echo).encode("latin-1"), status)


PLACES = {
    "message": refused(401, detail="the key ECHO is wrong"),
    "message, unescaped": unescaped(401, '{"detail": "the key ECHO is wrong"}'),
    "nested": refused(403, detail={"message": "ECHO", "code": "ECHO", "request_id": "ECHO"}),
    "balance": refused(402, detail="ECHO has no balance", code="ECHO", request_id="ECHO"),
    "field": refused(422, detail="no", request_id="ECHO", errors=[{"field": "body -> ECHO", "message": "ECHO"}]),
    "input": refused(422, request_id="ECHO", errors=[{"field": "body -> input -> 0", "message": "ECHO"}]),
    "all inputs": refused(400, detail="ECHO", request_id="ECHO", code="ECHO"),
    "size": refused(413, detail="ECHO", request_id="ECHO"),
    "list": refused(422, detail=[{"loc": ["body", "ECHO"], "msg": "ECHO"}], request_id="ECHO"),
    "address": refused(404, detail="ECHO"),
    "failure": refused(503, detail="ECHO", request_id="ECHO"),
    "unknown status": refused(418, message="ECHO", request_id="ECHO"),
    "far beyond what is shown": refused(401, detail="x" * 450 + "ECHO", request_id="y" * 495 + "ECHO"),
    "rate limit": lambda echo: http(
        json.dumps({"detail": echo, "request_id": echo}).encode(), 429, [("Retry-After", "60"), ("X-Id", echo)]
    ),
    "headers": lambda echo: http(b"", 401, [("WWW-Authenticate", echo), ("Retry-After", echo), ("Location", echo)]),
    "redirect": lambda echo: http(b"", 302, [("Location", f"http://127.0.0.1/{echo}")]),
    "encoding": lambda echo: http(b"x", 401, [("Content-Encoding", echo)]),
    "page": lambda echo: http(f"<html>{echo}".encode(), 401),
    "cut JSON": lambda echo: http(f'{{"detail": "{echo}'.encode(), 401),
    "answer": lambda echo: http(json.dumps({"data": echo, "usage": echo}).encode()),
    "answer of no JSON": lambda echo: http(echo.encode()),
    "status line": lambda echo: Sent([f"HTTP/1.1 {echo}\r\n\r\n".encode("latin-1")], close=True),
    "header without colon": lambda echo: Sent([f"HTTP/1.1 401 {echo}\r\n{echo}\r\n\r\n".encode()], close=True),
    "length": lambda echo: Sent([f"HTTP/1.1 401 X\r\nContent-Length: {echo}\r\n\r\n".encode()], close=True),
    "instead of an answer": lambda echo: Sent([echo.encode()], close=True),
    "and a broken connection": lambda echo: Sent([http(echo.encode(), 401, length=100_000)], close=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("every", [4, long(1)], ids=["some", "all"])
@pytest.mark.parametrize("place", PLACES)
async def test_no_echo_of_the_key_leaves_the_package(place, every, events, caplog):
    """Neither in results nor in errors, their attributes, pickles, chains and frames, nor in logs and events.

    Each place has every fourth of the echoes, the next place the next ones, so that all are seen; the long run has all.
    """
    key, echoes, found = new_key(), iter([]), []
    forms = [*ECHOES.values()][[*PLACES].index(place) % every :: every]
    with serving(lambda _: PLACES[place](next(echoes))) as server:
        for number, echo in enumerate(forms):
            echoes = itertools.repeat(echo(key))
            url = f"{server.url}/{number}"  # with limits of its own
            with JinaClip(api_key=key, base_url=url, max_retries=0, timeout=5, dimensions=64) as clip:
                results = clip.embed(["a", "b"])
                with pytest.raises(JinaClipError) as caught:
                    await clip.aembed_documents(["a", "b"])
            assert not results.ok.any()
            found += [results, caught.value, pickle.dumps(results)]
    found += [pickle.dumps(error.with_traceback(None)) for error in found if isinstance(error, JinaClipError)]
    assert_hidden([*found, events, caplog.records], key)


async def refuse(run, clip):
    """What a refused call raises, and what it shows."""
    with pytest.raises(JinaClipError) as caught:
        await run(clip, "embed_documents", ["a", "b"])
    return caught.value


@pytest.mark.parametrize("echo", ["bare", "in base64 of the header", "percent-encoded"])
async def test_a_key_of_10_kilobytes_is_found_too(echo, run):
    """Whatever is cut is cut afterwards."""
    key = "jina_" + "".join(f"{number:x}Qz" for number in range(2000, 4000))
    assert len(key) > 10_000
    with serving(
        lambda _: refused(401, detail="the key ECHO is wrong", request_id="ECHO")(ECHOES[echo](key))
    ) as server:
        error = await refuse(run, JinaClip(api_key=key, base_url=server.url))
    assert_hidden(error, key)
    assert len(str(error)) < 400


async def test_the_old_key_and_the_new_one_are_hidden_while_the_environment_changes(run, monkeypatch):
    """A request that was sent with one is refused when the environment has the other, and speaks of both."""
    old, new = new_key(), new_key()

    def rotate(asked):
        monkeypatch.setenv("JINA_API_KEY", new)
        return refused(401, detail="ECHO", request_id="ECHO")(f"not {asked.headers['authorization']} but {new}")

    monkeypatch.setenv("JINA_API_KEY", old)
    with serving(rotate) as server, JinaClip(base_url=server.url) as clip:
        error = await refuse(run, clip)
        assert server.asked[0].headers["authorization"] == f"Bearer {old}"
    assert "***" in error.request_id
    assert_hidden(error, old, new)


HEADERS = {
    "a key": "kPz2Lw9QxT5vNc8R",
    "of Latin-1": "Schlüssel-Wörter-Größe",
    "two words": "northern-lights lanterns-in-fog",
    "several words": "team blue of the north",
    "Basic": "Basic " + base64.b64encode(b"someone:kPz2Lw9QxT5vNc8R").decode(),
}


@pytest.mark.parametrize("kind", HEADERS)
async def test_values_of_headers_are_hidden_as_the_key(kind, run):
    value = HEADERS[kind]
    said = f"{value} | {quote(value)} | {quote(value.encode('latin-1'))} | {base64.b64encode(value.encode()).decode()}"
    said += f" | {base64.b64decode(value[6:]).decode()}" if kind == "Basic" else ""
    name = "Authorization" if kind == "Basic" else "X-Team"
    with serving(lambda _: refused(400, detail="ECHO", request_id="ECHO")(said)) as server:
        error = await refuse(run, JinaClip(api_key=new_key(), base_url=server.url, headers={name: value}))
        assert server.asked[0].headers[name.lower()] == value
    assert "***" in error.request_id
    assert_hidden(error, value, "kPz2Lw9QxT5vNc8R")


@pytest.mark.parametrize("place", ["status line", "message", "header without colon"])
async def test_the_password_of_a_proxy_is_hidden_also_after_it_changed(place, run, monkeypatch):
    password = "pW7xQ2zR9kT4"
    pair = base64.b64encode(f"user:{password}".encode()).decode()

    def change(_):
        monkeypatch.setenv("http_proxy", "http://user:another-password@127.0.0.1:1")
        return PLACES[place](f"{password} {pair}")

    with serving(change) as proxy:
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", f"//user:{password}@"))
        error = await refuse(run, JinaClip(api_key=new_key(), base_url="http://gpu-box:8000", max_retries=0))
        assert proxy.asked[0].headers["proxy-authorization"] == f"Basic {pair}"
    assert "***" in str(error)
    assert_hidden(error, password)


async def test_what_a_transport_of_the_caller_s_raises_is_cleaned(run):
    key = new_key()

    class Broken(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            raise RuntimeError(f"{'x' * 290} {request.headers}, {request.headers['authorization']}")

    def fail():
        raise RuntimeError(f"cannot use {ECHOES['in base64'](key)}")

    for transport in (Broken, fail):
        assert_hidden(await refuse(run, JinaClip(api_key=key, base_url="http://gpu-box", transport=transport)), key)


async def test_what_the_caller_s_iterator_raises_shows_the_key_in_no_frame(run):
    """Its traceback stays whole, and goes through frames of ours."""
    key = new_key()

    def texts():
        yield "a"
        raise OSError("the disk is gone")

    with serving() as server, JinaClip(api_key=key, base_url=server.url, headers={"X-Team": HEADERS["a key"]}) as clip:
        with pytest.raises(OSError, match="the disk is gone") as caught:
            await run(clip, "embed", texts())
        assert_hidden(caught.value, key, HEADERS["a key"])


@pytest.mark.parametrize(
    ("key", "said", "shown"),
    [
        ("test", "a test of testing, Bearer test", "a *** of testing, ***"),
        ("test", "QmVhcmVyIHRlc3Q= and dGVzdA==", "***= and ***=="),
        ("abc", "abc is no word: Bearer abc", "abc is no word: ***"),
        ("abcdefg", "abcdef", "abcdef"),
        ("abcdefgh", "100%abcdefgh", "100%***"),
        ("a-key-of-mine", "jina_another0123 was revoked", "*** was revoked"),
    ],
)
def test_short_keys_are_found_as_words_and_what_looks_like_a_key_is_hidden(key, said, shown):
    assert Redactor([f"Bearer {key}"]).clean(said) == shown


def test_the_time_that_a_text_takes_does_not_grow_with_it():
    """Of a megabyte the beginning is looked at, and the rest is not shown."""
    redactor = Redactor([new_key()])
    for text in ("x", "\\", "%25", "&amp;", "Bearer ", "&#"):
        assert redactor.clean(text * 2**20) == redactor.clean(text * 2**15)


printable = st.characters(codec="ascii", min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="*")


@given(key=st.text(printable, min_size=PIECE, max_size=60), before=st.text(printable, max_size=5))
def test_a_key_of_any_characters_is_found_in_every_form(key, before):
    redactor = Redactor([f"Bearer {key}"])
    for echo in (*ECHOES.values(), quote, html.escape, json.dumps, repr):
        assert not holds(redactor.clean(f"{before}{echo(key)} is wrong"), key)


LOUD = """
import asyncio, logging
from PIL import Image
from jinaclip import JinaClip
from tests.api.test_echoes import assert_hidden, new_key, refused
from tests.raw import Sent, right, serving

class Keep(logging.Handler):
    def emit(self, record):
        records.append(record)

async def call(clip):
    await asyncio.gather(*[clip.aembed([f"text {number}", Image.new("RGB", (9, 9))]) for number in range(2)])
    task = asyncio.create_task(clip.aembed(["a"]))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

records, key, team = [], new_key(), "kPz2Lw9QxT5vNc8R"
logging.basicConfig(level=1, handlers=[Keep()])
for respond in (right, lambda _: refused(503, detail="ECHO")(key), lambda _: Sent([key.encode()], close=True)):
    with serving(respond) as server:
        with JinaClip(api_key=key, headers={"X-Team": team}, base_url=server.url, max_retries=1) as clip:
            clip.embed(["a", "b"])
            asyncio.run(call(clip))
assert {"asyncio", "jinaclip"} <= {record.name for record in records}
assert_hidden(records, key, team)
"""


@pytest.mark.slow
def test_no_log_shows_the_key_though_every_logger_and_asyncio_tell_all():
    environment = {**os.environ, "PYTHONASYNCIODEBUG": "1"}
    done = subprocess.run([sys.executable, "-c", LOUD], cwd=ROOT, env=environment, capture_output=True, timeout=300)
    assert not done.returncode, done.stderr.decode()
