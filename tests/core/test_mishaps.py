"""Things that happen to people: shared pictures, slow sources, odd strings, misplaced keys, cancelled calls."""

import asyncio
import enum
import io
import itertools
import socket
import subprocess
import sys
import threading
import time
import traceback

import numpy as np
import pytest
from PIL import Image as Pillow

from jinaclip import ConfigError, Image, ImagePolicy, InputError, JinaClip, JinaClipError
from jinaclip.call.estimate import image_tokens
from jinaclip.config import EmbedderConfig, endpoint

KEY = "jina_test_misplaced_0123456789"


def lazy_picture(seed=0, kind="JPEG"):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (600, 800, 3), np.uint8)
    Pillow.fromarray(pixels).save(buffer, kind)
    return Pillow.open(io.BytesIO(buffer.getvalue()))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
async def test_one_unread_picture_may_stand_in_many_places(clip, run, kind):
    rows = await run(clip(), "embed_images", [lazy_picture(1, kind)] * 8)
    assert (rows == rows[0]).all()
    shared = lazy_picture(1, kind)
    pairs = await run(clip(), "embed_pairs", [("a", shared), ("b", shared), ("c", shared)])
    assert pairs.shape[0] == 3


def test_threads_may_embed_one_unread_picture_at_once(clip):
    maker, shared, rows = clip(), lazy_picture(2), []
    threads = [threading.Thread(target=lambda: rows.append(maker.embed_image(shared))) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(rows) == 8 and all((row == rows[0]).all() for row in rows)


async def test_unread_pictures_are_not_decoded_before_they_are_needed(clip):
    pictures = [lazy_picture(seed) for seed in range(3)]
    assert all(picture.tile for picture in pictures)
    from jinaclip.call.request import Reader, draft_many

    planned = draft_many(pictures, Reader(ImagePolicy()).image, "image").request()
    assert all(picture.tile for picture in pictures)
    assert planned.total == 3


async def test_a_closed_picture_of_a_list_is_named_before_anything_is_sent(clip, server, run):
    broken = lazy_picture(1)
    broken.fp.close()
    with pytest.raises(InputError, match=r"image 1.*closed") as caught:
        await run(clip(), "embed_images", [lazy_picture(0), broken, lazy_picture(2)])
    assert caught.value.index == 1
    assert server.ledger()["requests"] == 0


class Colour(str, enum.Enum):  # noqa: UP042  as people write it
    RED = "red"


def test_an_enum_is_embedded_by_its_text(clip):
    maker = clip()
    assert (maker.embed_documents([Colour.RED]) == maker.embed_documents(["red"])).all()


@pytest.fixture
def silent_port():
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


def endless_duplicates():
    return itertools.repeat("the same text")


async def test_an_endless_source_ends_with_its_cancelled_call(clip):
    task = asyncio.create_task(clip().aembed_documents(endless_duplicates()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    others = [other for other in asyncio.all_tasks() if other is not asyncio.current_task()]
    assert not others or not (await asyncio.wait(others, timeout=10))[1]


def test_hanging_pictures_hold_up_neither_cancelling_nor_the_end_of_the_program(server, silent_port):
    code = (
        "import asyncio, sys; from jinaclip import ImagePolicy, JinaClip\n"
        "url, port = sys.argv[1:]\n"
        "policy = ImagePolicy(schemes=('http',), ports=(int(port),), allow_networks=('127.0.0.0/8',),\n"
        "                     fetch_timeout=300)\n"
        "clip = JinaClip(api_key='jina_test', base_url=url, image_policy=policy)\n"
        "async def main():\n"
        "    call = clip.aembed_images([f'http://127.0.0.1:{port}/{i}' for i in range(50)])\n"
        "    try: await asyncio.wait_for(call, 0.3)\n"
        "    except TimeoutError: print('timed out')\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", code, server.url, str(silent_port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("timed out\n", "")


async def test_what_a_source_raises_comes_back_with_what_was_paid_for(clip, server, run):
    """That which is in flight at that moment, too; what waits is not sent."""
    server.configure(base_ms=300)
    one = clip(batch_size=20, max_concurrency=3)

    def source():
        yield from (f"text {i}" for i in range(200))
        while server.ledger()["requests"] < 3:
            pass
        raise ValueError("row 201 is unreadable")

    with pytest.raises(ValueError, match="row 201") as caught:
        await run(one, "embed_documents", source())
    totals = server.ledger()
    assert totals["requests"] == one.usage.requests == 3
    assert caught.value.partial.ok.sum() == one.usage.items == totals["texts"]
    assert (one.usage.maybe_billed, one.usage.tokens) == (0, totals["tokens"])


@pytest.mark.parametrize("fault", ["auth_401", "balance_402"])
async def test_what_is_in_flight_when_a_call_fails_is_kept(clip, server, run, fault):
    """It is paid for: the call that goes on from there must not pay for it again."""
    server.configure(base_ms=300, poison={"text 0": fault})
    one = clip(batch_size=1, max_concurrency=3)
    with pytest.raises(JinaClipError) as caught:
        await run(one, "embed_documents", [f"text {i}" for i in range(9)])
    assert caught.value.partial.successes()[0].tolist() == [1, 2]
    assert (one.usage.items, one.usage.maybe_billed, server.ledger()["requests"]) == (2, 0, 3)


async def test_an_interrupt_inside_a_source_waits_for_nothing(clip, server):
    server.configure(script=["hang"])

    def source():
        yield "text"
        while not server.ledger()["requests"]:
            pass
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        clip().embed_documents(source())
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_inside_a_source_reaches_the_caller(clip, kind):
    def source():
        yield from (f"text {i}" for i in range(500))
        raise kind

    with pytest.raises(kind):
        clip().embed_documents(source())


async def test_a_failed_call_that_was_cancelled_leaves_no_noise(clip, server, caplog):
    server.configure(base_ms=200, script=["auth_401"] * 20)
    maker = clip(batch_size=1)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(maker.aembed_documents([f"text {i}" for i in range(30)]), 0.05)
    others = [other for other in asyncio.all_tasks() if other is not asyncio.current_task()]
    if others:
        await asyncio.wait(others, timeout=10)
    assert "never retrieved" not in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        {"schemes": "https"},
        {"formats": "PNG"},
        {"formats": (1,)},
        {"formats": ()},
        {"allowed_roots": 5},
        {"allowed_roots": (5,)},
        {"max_bytes": "5"},
        {"max_pixels": None},
        {"frame": -1},
        {"background": (300, -1, 0)},
        {"background": "red!"},
        {"orient": "no"},
        {"max_redirects": -1},
        {"fetch_timeout": "a"},
        {"ports": 443},
        {"allow_networks": ("home",)},
    ],
)
def test_a_wrong_policy_is_refused_when_it_is_made(options):
    with pytest.raises(ConfigError, match=f"image_policy.{next(iter(options))}"):
        ImagePolicy(**options)


def test_a_lone_root_is_one_folder_not_its_letters(clip, tmp_path):
    Pillow.new("RGB", (8, 8)).save(tmp_path / "in.png")
    maker = clip(image_policy=ImagePolicy(allowed_roots=str(tmp_path)))
    assert maker.embed_image(str(tmp_path / "in.png")).shape == (1024,)
    with pytest.raises(InputError, match="allowed_roots"):
        maker.embed_image("/etc/hostname")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Image.from_path(None),
        lambda: Image.from_bytes("x"),
        lambda: Image.from_bytes(10**10),
        lambda: Image.from_base64(None),
        lambda: Image.from_base64(5),
        lambda: Image.from_pil(5),
        lambda: Image.from_array([[1, 2], [3]]),
        lambda: Image.from_url(5),
        lambda: Image("bytes", "text"),
        lambda: Image("unknown", b""),
        lambda: image_tokens("a", 1),
        lambda: image_tokens(float("nan"), 1),
        lambda: image_tokens(512, 512, None),
    ],
)
def test_misuse_of_a_constructor_is_an_error_of_ours(make):
    with pytest.raises(JinaClipError):
        make()


def test_a_single_item_has_no_index(clip):
    with pytest.raises(InputError, match="the image") as caught:
        clip().embed_image(b"no picture")
    assert caught.value.index is None


@pytest.mark.parametrize(
    "call",
    [
        lambda: JinaClip(KEY),
        lambda: JinaClip("jina-clip-v2", KEY),
        lambda: JinaClip(apikey=KEY),
        lambda: JinaClip(device=KEY),
        lambda: EmbedderConfig(KEY),
        lambda: EmbedderConfig(api_key=KEY.encode()),
    ],
)
def test_a_misplaced_key_stays_out_of_the_traceback(call):
    with pytest.raises(ConfigError) as caught:
        call()
    frames = list(traceback.walk_tb(caught.value.__traceback__))[2:]  # past this test's own
    shown = "".join(f"{name}={value!r}" for frame, _ in frames for name, value in frame.f_locals.items())
    assert KEY not in shown + str(caught.value)


@pytest.mark.parametrize("url", ["https://API.jina.ai", "https://api.jina.ai:443/v1", "api.jina.ai/v1/embeddings/"])
def test_one_endpoint_has_one_spelling(url):
    assert endpoint(url) == "https://api.jina.ai/v1/embeddings"


def test_a_dead_proxy_is_named(clip, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret-word@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(JinaClipError, match="HTTP_PROXY") as caught:
        clip(max_retries=0).embed_query("a")
    assert "secret-word" not in str(caught.value)


def test_numbers_of_numpy_are_numbers():
    config = EmbedderConfig(dimensions=np.int64(64), timeout=np.float32(2))
    assert (config.dimensions, type(config.dimensions), type(config.timeout)) == (64, int, float)
