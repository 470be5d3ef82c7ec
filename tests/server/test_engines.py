"""Engines without a server around them: which one works, what they share, what is fetched, how spaces are called."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import PIL.Image
import pytest

from jinaclip import ConfigError, ImagePolicy
from jinaclip.config import SPACE_NAME
from jinaclip.errors import DeadlineError, InputError
from jinaclip.server.app import make_defaults, names_of
from jinaclip.server.engines import FEW_AT_ONCE, Engines, shorten
from jinaclip.server.requests import EmbeddingsRequest, ImageAddress, read_request
from jinaclip.server.settings import Settings


def options_of(checkpoint: str, **options: object) -> dict[str, object]:
    return {"model": checkpoint, "backend": "local", "device": "cpu", **options}


def request_of(engines: Engines, *inputs: object, **fields: object) -> EmbeddingsRequest:
    import orjson

    defaults = make_defaults(Settings(fetch=True), engines)
    body = {"model": defaults.names[0], "input": list(inputs), **fields}
    return read_request(orjson.dumps(body), defaults)


def picture() -> bytes:
    """The file of a red square."""
    file = io.BytesIO()
    PIL.Image.new("RGB", (40, 40), (200, 30, 30)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def pictures() -> Iterator[tuple[str, list[str]]]:
    """A server of one picture on this machine, and the paths that it was asked for."""
    file, asked = picture(), list[str]()

    class Picture(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(file)))
            self.end_headers()
            self.wfile.write(file)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Picture) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/red.png", asked
        server.shutdown()
        thread.join()


async def test_several_devices_are_one_engine_with_turns_for_each(catalogue_checkpoint: str) -> None:
    engines = Engines(options_of(catalogue_checkpoint, device="cpu, cpu"))
    engines.warm()
    assert engines.engine.devices == ["cpu", "cpu#2"]
    one = Engines(options_of(catalogue_checkpoint))
    found = [(await each.embed(request_of(each, "a"))).unwrap() for each in (engines, one)]
    assert (found[0] == found[1]).all()
    for _ in range(2 * FEW_AT_ONCE):
        assert not engines.engine.turns[True].locked()
        await engines.engine.turns[True].acquire()
    assert engines.engine.turns[True].locked()
    engines.close()
    one.close()


async def test_images_wait_for_their_turn_and_texts_for_none(catalogue_checkpoint: str) -> None:
    engines = Engines(options_of(catalogue_checkpoint))
    engine, image = engines.engine, {"image": base64.b64encode(picture()).decode()}
    taken = [await engine.turns[True].acquire() for _ in range(FEW_AT_ONCE)]
    waiting = asyncio.create_task(engines.embed(request_of(engines, image)))
    assert (await engines.embed(request_of(engines, "a"))).unwrap().shape == (1, 128)
    assert (await engines.embed(request_of(engines, *[image] * 9))).unwrap().shape == (9, 128)
    assert not waiting.done()
    for _ in taken:
        engine.turns[True].release()
    assert (await waiting).unwrap().shape == (1, 128)


async def test_a_request_with_images_waits_for_its_turn_no_longer_than_its_deadline(catalogue_checkpoint: str) -> None:
    engines = Engines(options_of(catalogue_checkpoint, deadline=0.05))
    engine, image = engines.engine, {"image": base64.b64encode(picture()).decode()}
    taken = [await engine.turns[True].acquire() for _ in range(FEW_AT_ONCE)]
    with pytest.raises(DeadlineError, match="turn"):
        await engines.embed(request_of(engines, image))
    for _ in taken:
        engine.turns[True].release()
    assert not engine.turns[True].locked()


async def test_an_address_is_fetched_under_the_image_policy(
    catalogue_checkpoint: str, pictures: tuple[str, list[str]]
) -> None:
    url, asked = pictures
    port = int(url.split(":")[2].split("/")[0])
    policy = ImagePolicy(schemes=("https", "http"), ports=(port,), allow_networks=("127.0.0.0/8",))
    engines = Engines(options_of(catalogue_checkpoint, image_policy=policy))
    results = await engines.embed(request_of(engines, {"image": url}))
    assert results.unwrap().shape == (1, 128)
    assert asked == ["/red.png"]


async def test_an_address_of_this_machine_is_not_fetched_by_default(
    catalogue_checkpoint: str, pictures: tuple[str, list[str]]
) -> None:
    url, asked = pictures
    engines = Engines(options_of(catalogue_checkpoint))
    request = request_of(engines, {"image": url.replace("http:", "https:")})
    assert request.inputs == [ImageAddress(url.replace("http:", "https:"))]
    results = await engines.embed(request)
    assert isinstance(results.errors[0].reason, InputError)
    assert not asked


def test_one_meter_counts_what_all_settings_of_requests_use(catalogue_checkpoint: str) -> None:
    engines = Engines(options_of(catalogue_checkpoint))
    clips = [*engines.engine.clips.values()]
    clips[0].embed_documents(["a"])
    assert clips[3].usage.items == clips[0].usage.items == 1


def test_the_options_of_a_width_are_what_requests_get_that_name_none(catalogue_checkpoint: str) -> None:
    engines = Engines(options_of(catalogue_checkpoint, dimensions=32, normalized=False, truncate=True))
    request = request_of(engines, "a")
    assert (request.dimensions, request.normalized, request.truncate) == (32, False, True)
    assert request_of(engines, "a", dimensions=128).dimensions == 128


def test_a_space_that_was_named_is_that_of_what_requests_get_by_default(catalogue_checkpoint: str) -> None:
    engines = Engines(options_of(catalogue_checkpoint, space="shop"))
    names = [engines.space(width, normalized=normalized) for width in (128, 32) for normalized in (True, False)]
    assert names == ["shop", "shop_128_raw", "shop_32", "shop_32_raw"]


def test_long_names_of_spaces_stay_names_and_stay_apart() -> None:
    names = [shorten("x" * 36 + f"_{width}", 36) for width in (32, 64)]
    assert names[0] != names[1]
    assert all(SPACE_NAME.fullmatch(name) for name in names)


@pytest.mark.parametrize(
    ("options", "served_name", "expected"),
    [
        ({"model": "jina-clip-v2"}, None, ("jina-clip-v2", "jinaai/jina-clip-v2")),
        ({"model": "jinaai/jina-clip-v2"}, None, ("jina-clip-v2", "jinaai/jina-clip-v2")),
        ({"model": "jina-clip-v1"}, "pictures", ("pictures", "jinaai/pictures")),
    ],
)
def test_a_model_is_known_by_its_names(options: dict[str, str], served_name: str | None, expected: object) -> None:
    assert names_of(Settings(served_name=served_name), Engines({**options, "api_key": "jina_test"})) == expected


def test_the_path_of_a_folder_is_no_name_of_the_model(catalogue_checkpoint: str) -> None:
    names = names_of(Settings(), Engines(options_of(catalogue_checkpoint)))
    assert names == ("checkpoint", "jinaai/checkpoint")


@pytest.mark.parametrize(
    "setting",
    [
        {"port": -1},
        {"port": True},
        {"max_body": 0},
        {"body_timeout": "1"},
        {"drain_timeout": float("inf")},
        {"drain_delay": -1},
        {"keys": 5},
    ],
    ids=str,
)
def test_a_setting_out_of_range_is_refused_by_name(setting: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        Settings(**setting)  # type: ignore[arg-type]
