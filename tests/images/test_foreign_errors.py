"""Whatever a decoder, a plugin, an odd object or the system raises is an error of that one image."""

from __future__ import annotations

import re
import struct
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ImageFile

from jinaclip import Image, InputError, JinaClip
from jinaclip.config import ImagePolicy
from jinaclip.images import open_image, open_tile, preview, size, upload
from jinaclip.inputs import as_image
from tests.core.corpus import MAGIC, chunk, colours, encoded
from tests.needs import skip_without

MAGIC_BAD = b"BADBADBAD"
POLICY = ImagePolicy()
GOOD = [encoded(colours(20, 30), "PNG"), encoded(colours(31, 20), "PNG")]
"""Images around the bad one."""


class Mute(Exception):
    """Raises when it is shown."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


ERRORS = [
    ValueError,
    TypeError,
    KeyError,
    AssertionError,
    AttributeError,
    OSError,
    EOFError,
    IndexError,
    SyntaxError,
    RuntimeError,
    RecursionError,
    MemoryError,
    SystemError,
    ZeroDivisionError,
    StopIteration,
    StopAsyncIteration,
    DeprecationWarning,
    struct.error,
    PIL.UnidentifiedImageError,
    PIL.Image.DecompressionBombError,
    Mute,
    lambda: ExceptionGroup("several", [ValueError()]),
    lambda: UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
]
STAGES = ["accept", "open", "seek", "load", "convert", "size", "mode"]


class Plan:
    """What the plugin below raises next, and where."""

    stage, error = "", Exception

    @classmethod
    def reach(cls, stage: str) -> None:
        if stage == cls.stage:
            raise cls.error()


class BadFile(ImageFile.ImageFile):
    """Of a plugin that somebody wrote."""

    format = "BAD"

    def _open(self) -> None:
        self._mode, self._size = "RGB", (4, 4)
        Plan.reach("open")

    def seek(self, frame: int) -> None:
        Plan.reach("seek")

    def load(self):
        Plan.reach("load")
        self.im = PIL.Image.new("RGB", (4, 4)).im

    def convert(self, *arguments, **options):
        Plan.reach("convert")
        return PIL.Image.new("RGB", (4, 4)).convert(*arguments, **options)

    @property
    def size(self):
        Plan.reach("size")
        return self._size

    @property
    def mode(self):
        Plan.reach("mode")
        return "RGB" if Plan.stage != "convert" else "CMYK"


def accept(prefix: bytes) -> bool:
    if prefix.startswith(MAGIC_BAD):
        Plan.reach("accept")
    return prefix.startswith(MAGIC_BAD)


@pytest.fixture(scope="module")
def policy():
    """With the plugin, which is registered for these tests alone."""
    PIL.Image.register_open("BAD", BadFile, accept)
    yield ImagePolicy(formats=("PNG", "BAD"), frame=0)
    del PIL.Image.OPEN["BAD"]
    PIL.Image.ID.remove("BAD")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    skip_without("torch")
    from tests.tiny import make_checkpoint

    return make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "v1", "v1")


@pytest.fixture(params=["api", "local"])
def make(request, server):
    """Makes a JinaClip of either backend."""

    def made(**options):
        if request.param == "local":
            return JinaClip(str(request.getfixturevalue("checkpoint")), backend="local", device="cpu", **options)
        return JinaClip("jina-clip-v1", api_key="jina_test_foreign", base_url=server.url, **options)

    return made


async def expect_one_bad(clip, run, bad):
    """The image in the middle fails alone, with its index."""
    results = await run(clip, "embed", [Image.from_bytes(GOOD[0]), bad, Image.from_bytes(GOOD[1])])
    assert results.ok.tolist() == [True, False, True]
    assert isinstance(results.errors[1].reason, InputError)
    assert re.match("image 1", str(results.errors[1])) or not isinstance(bad, Image)


@pytest.mark.parametrize("stage", ["accept", "open", "load", "convert", "size"])
async def test_a_plugin_that_raises_fails_its_own_image(make, run, policy, stage):
    with make(image_policy=policy) as clip:
        for error in (KeyError, MemoryError, Mute):
            Plan.stage, Plan.error = stage, error
            await expect_one_bad(clip, run, Image.from_bytes(MAGIC_BAD))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: getattr(error, "__name__", "error"))
def test_each_error_at_each_stage_is_an_input_error(policy, stage, error):
    Plan.stage, Plan.error = stage, error
    image, second = as_image(MAGIC_BAD), ImagePolicy(formats=("PNG", "BAD"), frame=1)
    options = {"policy": second, "mode": "none", "side": 8, "quality": None}
    for action in (lambda: open_image(image, second), lambda: upload(image, **options)):
        with pytest.raises(InputError) as caught:
            action()
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
        assert len(str(caught.value)) < 300


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(STAGES), st.sampled_from(ERRORS), st.sampled_from([open_image, size, preview, open_tile]))
def test_every_door_raises_input_errors_alone(policy, stage, error, door):
    Plan.stage, Plan.error = stage, error
    calls = {
        open_image: lambda: open_image(as_image(MAGIC_BAD), policy),
        size: lambda: size(as_image(MAGIC_BAD), policy),
        preview: lambda: preview(as_image(MAGIC_BAD), policy=policy, side=4),
        open_tile: lambda: open_tile(as_image(MAGIC_BAD), policy, lambda pixels: 1 / 0),
    }
    try:
        calls[door]()
    except InputError as raised:
        assert len(str(raised)) < 300


class OddImage(PIL.Image.Image):
    """A PIL image of a class of somebody's."""

    fails: frozenset[str] = frozenset()

    def __getattribute__(self, name: str):
        if name in type(self).fails:
            raise ZeroDivisionError
        return super().__getattribute__(name)


@pytest.mark.parametrize("name", ["copy", "load", "size", "mode", "info", "tile", "fp", "convert"])
async def test_a_pil_image_that_raises_fails_alone(make, run, name):
    odd = type("Odd", (OddImage,), {"fails": frozenset()})()
    odd.im = PIL.Image.new("CMYK", (4, 4)).im
    odd._mode, odd._size = "CMYK", (4, 4)
    type(odd).fails = frozenset([name])
    with make() as clip:
        results = await run(clip, "embed", [Image.from_bytes(GOOD[0]), odd, Image.from_bytes(GOOD[1])])
    assert results.ok.tolist()[::2] == [True, True]
    assert all(isinstance(error.reason, InputError) for error in results.errors.values())


class OddArray(np.ndarray):
    """An array of a class that raises whatever is done with it."""

    def copy(self, *_, **__):
        raise ZeroDivisionError

    __copy__ = __deepcopy__ = tobytes = astype = copy


async def test_an_array_of_a_class_of_somebodys_is_taken_as_its_values(make, run):
    odd = colours(9, 9).view(OddArray)
    with make() as clip:
        results = await run(clip, "embed_images", [odd, colours(9, 9)])
    np.testing.assert_array_equal(results[0], results[1])


class Drawing:
    """Draws itself, or fails to."""

    def __init__(self, render=lambda: PIL.Image.new("RGB", (4, 4)), measure=lambda: (4, 4)):
        self.parts = render, measure

    def render(self, max_pixels):
        return self.parts[0]()

    def measure(self, max_pixels):
        return self.parts[1]()


def fail(error=ZeroDivisionError):
    raise error


@pytest.mark.parametrize(
    "drawing",
    [
        Drawing(render=fail),
        Drawing(measure=fail),
        Drawing(render=lambda: 7),
        Drawing(measure=lambda: None),
        Drawing(measure=lambda: ("x", 1)),
        Drawing(measure=lambda: (float("nan"), 1)),
    ],
    ids=["render", "measure", "no image", "no size", "text", "nan"],
)
async def test_what_draws_itself_fails_alone(make, run, drawing):
    with make() as clip:
        await expect_one_bad(clip, run, drawing)


@pytest.mark.parametrize(
    ("answer", "taken"), [(re.match("", ""), True), (1, True), ("needs a library", False), (0, False)]
)
def test_what_a_plugin_says_to_a_file_is_taken_as_pillow_takes_it(monkeypatch, policy, answer, taken):
    """Anything that is true, but for a str, which says what is missing."""
    Plan.stage = ""
    monkeypatch.setitem(PIL.Image.OPEN, "BAD", (BadFile, lambda prefix: answer))
    if taken:
        assert open_image(as_image(MAGIC_BAD), policy).size == (4, 4)
    else:
        with pytest.raises(InputError, match="none of"):
            open_image(as_image(MAGIC_BAD), policy)


class Panic(BaseException):
    """As of a decoder in Rust: no Exception."""


async def test_a_panic_of_a_plugin_or_a_drawing_fails_its_own_image(make, run, policy):
    with make(image_policy=policy) as clip:
        for stage in ("open", "load"):
            Plan.stage, Plan.error = stage, Panic
            await expect_one_bad(clip, run, Image.from_bytes(MAGIC_BAD))
        for drawing in (Drawing(render=lambda: fail(Panic)), Drawing(measure=lambda: fail(Panic))):
            await expect_one_bad(clip, run, drawing)


async def test_an_array_larger_than_memory_fails_its_own_image(make, run):
    """A view of one byte that claims 10 TB: it is not copied."""
    with make() as clip:
        await expect_one_bad(clip, run, np.broadcast_to(np.uint8(0), (2**21, 2**21, 3)))


async def test_an_interrupt_of_a_drawing_passes(make, run):
    """It is no error of an image: Ctrl-C and the like are the program's."""
    with make() as clip, pytest.raises(KeyboardInterrupt):
        await run(clip, "embed", [Drawing(render=lambda: fail(KeyboardInterrupt))])


@pytest.mark.skipif(sys.platform != "linux", reason="files of Linux's kernel")
@pytest.mark.parametrize(
    "path", ["/proc/kmsg", "/proc/self/mem", "/proc/self/maps", "/proc", "/dev/zero", "/proc/self/fd/0"]
)
async def test_an_odd_file_fails_alone(make, run, path):
    with make() as clip:
        await expect_one_bad(clip, run, Path(path))


def palette_without_colours(colour_type=3):
    """69 bytes: a palette PNG without its palette."""
    return (
        MAGIC
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, colour_type, 0, 0, 0))
        + chunk(b"IDAT", bytes.fromhex("789c6360000000020001"))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("mode", ["none", "model", "pad"])
async def test_a_palette_without_colours_fails_alone(make, run, mode):
    with make(image_resize=mode) as clip:
        await expect_one_bad(clip, run, Image.from_bytes(palette_without_colours()))
