"""A canary key and a canary picture are looked for wherever things are shown, logged, copied or kept."""

import copy
import dataclasses
import io
import itertools
import json
import logging
import pickle
import pprint
import socket
import ssl
import sys
import threading
import traceback
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import trustme
from PIL import Image

import jinaclip
from jinaclip import JinaClip, JinaClipError
from jinaclip.backends.api import hub as hubs
from jinaclip.backends.api.route import remember_secrets, secrets_of_environment
from jinaclip.backends.api.steps import Outcome, Reply, Send
from jinaclip.config import EmbedderConfig
from jinaclip.secret import Secret

CANARY = "jina_test_canary0123456789abcdefCANARY"
NUMBERS = itertools.count()
"""Behind the key, so that no test meets what another's account learnt."""
PLAIN_CANARY = "canary-without-a-prefix-0123456789"

pytestmark = pytest.mark.usefixtures("hasty")


@pytest.fixture
def make(server):
    def make(key=None, **options):
        made.append(
            JinaClip(**{"api_key": key or f"{CANARY}{next(NUMBERS)}", "base_url": server.url, "timeout": 10, **options})
        )
        return made[-1]

    made = []
    yield make
    for one in made:
        one.close()


def shown(error):
    """Everything about an error that ends up in a report: itself, its causes, the variables of every frame."""
    lines = traceback.TracebackException.from_exception(error, capture_locals=True, compact=False).format()
    return "\n".join(
        [*own_frames(lines), repr(error), str(error), repr(error.args), repr(vars(error)), repr(error.partial)]
    )


def own_frames(lines):
    """Without the frames of this file, whose variables hold the key by right."""
    return [line for line in lines if f'File "{__file__}"' not in line]


def assert_clean(text, *secrets):
    for secret in secrets or (CANARY, PLAIN_CANARY):
        assert secret not in text
        assert secret[8:] not in text, "not in part either"


FAULTS = ["auth_401", "forbidden_403", "balance_402", "balance_403", "not_found_404", "redirect_302", "reject_all_422"]
FAULTS += ["status_503", "status_502_html", "not_json", "trailing_bytes", "deep_json", "wrong_dimension_all"]
FAULTS += ["retry_after_huge", "rate_token", "bad_item_400", "bad_item_unnamed_400", "too_large_413", "nan_row"]
FAULTS += [
    "reset_before_headers",
    "reset_mid_body",
    "hang",
    "slow_headers",
    "oversize_body",
    "gzip_bomb",
    "short_reply",
]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
async def test_errors_of_every_kind(server, make, run, fault, caplog):
    caplog.set_level(logging.DEBUG)
    server.configure(faults=[fault], fault_rate=1, drip_s=10)
    timeout = 0.1 if fault in ("hang", "slow_headers") else 5
    with pytest.raises(JinaClipError) as caught:
        await run(make(timeout=timeout, deadline=2), "embed_documents", ["a", "b"])
    assert_clean(shown(caught.value))
    assert_clean(shown(pickle.loads(pickle.dumps(copy.copy(plain(caught.value))))))
    assert_clean(caplog.text)


def plain(error):
    """Errors are pickled by worker pools, without traceback."""
    return error.with_traceback(None)


@pytest.mark.parametrize("key", [CANARY.replace("test", "wrong"), PLAIN_CANARY], ids=["prefixed", "plain"])
async def test_a_refusal_that_echoes_the_key(server, make, run, key, caplog):
    caplog.set_level(logging.DEBUG)
    server.configure(echo_key=True)
    with pytest.raises(jinaclip.AuthenticationError, match=r"\*\*\*") as caught:
        await run(make(key), "embed_query", "a")
    assert_clean(shown(caught.value), key)
    assert_clean(caplog.text, key)


async def test_a_refusal_that_echoes_the_picture(server, make, run, caplog):
    caplog.set_level(logging.DEBUG)
    server.configure(faults=["bad_item_400"], fault_rate=1)
    pixels = np.random.default_rng(3).integers(0, 255, (512, 512, 3), np.uint8)
    with pytest.raises(jinaclip.errors.ItemError) as caught:
        await run(make(), "embed_images", [pixels])
    pieces = base64_pieces(pixels)
    message = f"{caught.value} {caught.value!r} {vars(caught.value)} {caplog.text}"
    assert not any(piece in message for piece in pieces)
    assert len(str(caught.value)) < 500
    assert "array(" not in message


def base64_pieces(pixels):
    """What the picture looks like on the wire, cut up."""
    import base64

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    for data in (base64.b64encode(file.getvalue()).decode(), base64.b64encode(pixels.tobytes()).decode()):
        yield from (data[start : start + 24] for start in range(0, 2000, 24))


def test_success_leaves_no_trace_in_the_logs(make, caplog):
    caplog.set_level(logging.DEBUG)
    one = make()
    one.embed_documents(["a"])
    assert "HTTP" in caplog.text, "somebody logs"
    assert_clean(caplog.text)


@contextmanager
def nobody():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@contextmanager
def untrusted():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                context.wrap_socket(connection, server_side=True).close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("where", [nobody, untrusted])
async def test_errors_on_the_way(make, run, where, caplog):
    caplog.set_level(logging.DEBUG)
    with where() as url, pytest.raises(JinaClipError) as caught:
        await run(make(base_url=url), "embed_query", "a")
    assert_clean(shown(caught.value))
    assert_clean(caplog.text)


async def test_a_broken_proxy_variable(make, run, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"gopher://user:{PLAIN_CANARY}@proxy")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(jinaclip.ConfigError, match=r"variable http_proxy names a proxy of scheme 'gopher'") as caught:
        await run(make(), "embed_query", "a")
    assert_clean(str(caught.value))
    assert_clean(shown(caught.value), CANARY)


BAD_OPTIONS = [
    {"dimensions": 0},
    {"dimensions": 5000},
    {"batch_size": "many"},
    {"base_url": "ftp://example.org"},
    {"backend": "none"},
    {"backend": "local"},
    {"model": "jina-clip-v9"},
    {"timeout": float("nan")},
    {"image_policy": {}},
]


@pytest.mark.parametrize("options", BAD_OPTIONS)
@pytest.mark.parametrize("factory", [JinaClip, EmbedderConfig])
def test_errors_of_constructors(factory, options):
    try:
        factory(api_key=CANARY, **options)
    except (JinaClipError, TypeError) as error:
        lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
        assert_clean("\n".join(own_frames(lines)))


@pytest.mark.parametrize("key", [f"{CANARY}é", f"{CANARY} x{PLAIN_CANARY}"], ids=["not ASCII", "blank"])
async def test_errors_about_the_key_itself(make, run, key):
    with pytest.raises(jinaclip.AuthenticationError) as caught:
        await run(make(key), "embed_query", "a")
    assert_clean(shown(caught.value))


def hub_objects():
    """What the hub holds for the calls of late, and what is in it."""
    hub = hubs._hub
    found = [hub, vars(hub)]
    for lane in hub._lanes.values():
        found += [lane, vars(lane), lane.limits, vars(lane.scheduler), *lane.scheduler._queues]
        for endpoint, exchange in lane._exchanges.items():
            found += [endpoint, exchange, vars(exchange)["_endpoint"], vars(exchange)["_transport"]]
    assert len(found) > 5
    return found


async def test_what_objects_show(make):
    one = make()
    one.embed_documents(["a"])
    await one.aembed_documents(["a"])
    objects = [
        one,
        one.config,
        one.usage,
        one.spec,
        one.self_test(),
        one.estimate(["a"]),
        one._backend,
        one._backend._destination.limits,
    ]
    objects += [vars(one), vars(one.config), vars(one._backend), *hub_objects()]
    objects += [one.config.options(), dataclasses.asdict(one.config), one.config.replace(batch_size=3)]
    objects += [copy.copy(one), copy.deepcopy(one), copy.deepcopy(one.config), one.fingerprint, one.config.api_key]
    objects += [vars(copy.deepcopy(one)), JinaClip.__init__, EmbedderConfig.__init__]
    for thing in objects:
        assert_clean(repr(thing))
        assert_clean(str(thing))
        assert_clean(pprint.pformat(thing))
    assert_clean(json.dumps(dataclasses.asdict(one.config), default=str))


def test_a_pickle_holds_the_key_that_was_given_and_shows_it_nowhere(make):
    one = make()
    one.embed_documents(["a"])
    opened = pickle.loads(pickle.dumps(one))
    assert opened.config.key.reveal().startswith(CANARY)
    for thing in (opened, opened.config, vars(opened), vars(opened.config), opened.config.options()):
        assert_clean(repr(thing))
    assert_clean(json.dumps(dataclasses.asdict(opened.config), default=str))
    for thing in (one.usage, one.embed(["a"]), one.self_test(), one.estimate(["a"])):
        assert CANARY.encode() not in pickle.dumps(thing)


def test_the_environment_s_key_is_not_kept(server, monkeypatch):
    monkeypatch.setenv("JINA_API_KEY", CANARY)
    with JinaClip(base_url=server.url) as one:
        one.embed_documents(["a"])
        assert not one.config.api_key
        assert CANARY.encode() not in pickle.dumps(one)
        assert_clean(repr(vars(one._backend)))
        for thing in hub_objects():
            assert_clean(repr(thing))


def test_secrets_of_other_libraries_are_unwrapped():
    class SecretStr:
        def get_secret_value(self):
            return f" {CANARY}\n"

    config = EmbedderConfig(api_key=SecretStr())
    assert config.key.reveal() == CANARY
    assert config == EmbedderConfig(api_key=Secret(CANARY))
    assert_clean(repr(config))


def test_bodies_are_not_shown():
    assert_clean(repr(Reply(401, {"echo": CANARY}, CANARY.encode())))
    assert_clean(repr(Send((), CANARY.encode(), 1, 1, 1)))
    assert_clean(repr(Outcome(Reply(401, {"echo": CANARY}, CANARY.encode()), 0.0)))


def test_what_requests_were_made_with_is_known_in_every_thread_at_any_time():
    over = threading.Event()

    def remember() -> None:
        while not over.is_set():
            remember_secrets([PLAIN_CANARY])

    remember_secrets([PLAIN_CANARY])
    threads = [threading.Thread(target=remember) for _ in range(2)]
    seconds = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        missing = sum(PLAIN_CANARY not in secrets_of_environment() for _ in range(500))
    finally:
        sys.setswitchinterval(seconds)
        over.set()
        for thread in threads:
            thread.join()
    assert not missing
