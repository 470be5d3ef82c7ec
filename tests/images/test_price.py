"""What an image costs: work and memory follow what is kept of it, whatever its shape and however small its file."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
from io import BytesIO
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jinaclip.backends.local.preprocess import PreprocessConfig, resize
from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError
from jinaclip.images import fit, open_image, scaled_size
from jinaclip.images.resize import resize_crop, resize_squash
from jinaclip.images.windows import exact_box, scale_window
from jinaclip.inputs import as_image
from jinaclip.specs import SPECS
from tests.core.corpus import chunk, colours, png
from tests.needs import long

FILTERS = [PIL.Image.Resampling.BILINEAR, PIL.Image.Resampling.BICUBIC]
OBLONG = [(1, 190), (190, 1), (2, 90), (9, 400), (400, 9), (70, 700), (700, 70), (33, 3000), (3000, 33)]
LINES = [(1, 2_000_000), (2_000_000, 1), (3, 700_000), (700_000, 3)]
"""What scaling by the shorter side would blow up to 10**11 pixels and more."""


def noise(width: int, height: int) -> PIL.Image.Image:
    return PIL.Image.fromarray(colours(height, width))


def crop_all(pixels: PIL.Image.Image, side: int, resample: int) -> PIL.Image.Image:
    """Scales everything, then crops, as the published preprocessing does."""
    size = scaled_size(pixels.size, "model", side)
    left, top = (round((length - side) / 2.0) for length in size)
    whole = pixels if pixels.size == size else pixels.resize(size, resample)
    return whole.crop((left, top, left + side, top + side))


@pytest.mark.parametrize("resample", FILTERS, ids=lambda filter_: filter_.name)
@pytest.mark.parametrize("size", OBLONG, ids=str)
@pytest.mark.parametrize("side", [64, 61])
def test_an_oblong_image_gives_the_bits_of_scaling_all_of_it(size: Any, side: int, resample: int) -> None:
    pixels = noise(*size)
    assert resize_crop(pixels, side, resample).tobytes() == crop_all(pixels, side, resample).tobytes()


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 70), st.sampled_from(FILTERS))
def test_so_does_an_image_of_any_size(width: int, height: int, side: int, resample: int) -> None:
    pixels = noise(width, height)
    assert resize_crop(pixels, side, resample).tobytes() == crop_all(pixels, side, resample).tobytes()


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_window_is_a_crop_of_the_whole(data: Any) -> None:
    width, height, wide, high = (data.draw(st.integers(1, 90)) for _ in range(4))
    left, top = data.draw(st.integers(0, wide - 1)), data.draw(st.integers(0, high - 1))
    right, bottom = data.draw(st.integers(left + 1, wide)), data.draw(st.integers(top + 1, high))
    pixels, resample = noise(width, height), data.draw(st.sampled_from(FILTERS))
    window = scale_window(pixels, (wide, high), (left, top, right, bottom), resample)
    whole = pixels.resize((wide, high), resample)
    assert window.tobytes() == whole.crop((left, top, right, bottom)).tobytes()


def test_pillow_scales_a_part_only_where_float32_holds_its_box() -> None:
    assert exact_box((1500, 1000), (768, 512), (128, 0, 640, 512)) == (250, 0, 1250, 1000)
    assert exact_box((1600, 1200), (682, 512), (85, 0, 597, 512)) is None
    photo = noise(150, 100)
    assert exact_box(photo.size, (96, 64), (16, 0, 80, 64)) is not None
    assert resize_crop(photo, 64).tobytes() == crop_all(photo, 64, FILTERS[1]).tobytes()


@pytest.mark.parametrize("mode", ["model", "pad", "squash"])
@pytest.mark.parametrize("size", LINES, ids=str)
def test_a_line_costs_no_more_than_a_photo(size: Any, mode: Any) -> None:
    line = PIL.Image.new("RGB", size, (9, 99, 199))
    began_at = time.thread_time()
    square = fit(line, mode, 512)
    assert time.thread_time() - began_at < 1
    assert square.size == (512, 512)
    assert square.getpixel((255, 255)) == (9, 99, 199)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", SPECS)
def test_it_costs_no_more_by_the_config_of_a_checkpoint(mode: Any, interpolation: str, name: str) -> None:
    config = PreprocessConfig(SPECS[name].image_size, resize_mode=mode, interpolation=interpolation)
    began_at = time.thread_time()
    for size in LINES:
        assert resize(PIL.Image.new("RGB", size), config).size == (config.size, config.size)
    assert time.thread_time() - began_at < 4


def test_a_narrow_image_is_squashed_within_a_level() -> None:
    """Its columns are shortened first, which rounds otherwise; here on broad shapes, as noise overshoots."""
    shapes = noise(4, 5).resize((30, 900), PIL.Image.Resampling.BICUBIC)
    wanted = shapes.resize((64, 900), PIL.Image.Resampling.BICUBIC).resize((64, 64), PIL.Image.Resampling.BICUBIC)
    squashed = resize_squash(shapes, 64)
    assert np.abs(np.asarray(squashed, int) - np.asarray(wanted, int)).max() <= 1


# -- files that are small for what they declare


def webp(width: int, height: int, colour: tuple[int, ...] = (200, 10, 10, 90)) -> bytes:
    """One colour, in forty bytes."""
    buffer = BytesIO()
    PIL.Image.new("RGBA", (9, 9), colour).save(buffer, "WEBP", lossless=True)
    data = bytearray(buffer.getvalue())
    at = data.index(b"VP8L") + 9
    bits = int.from_bytes(data[at : at + 4], "little") & ~(2**28 - 1)
    data[at : at + 4] = (bits | (width - 1) | (height - 1) << 14).to_bytes(4, "little")
    return bytes(data)


def gif(width: int, height: int, value: int = 0) -> bytes:
    """A frame of one pixel on a canvas."""
    buffer = BytesIO()
    PIL.Image.new("P", (1, 1), value).save(buffer, "GIF", transparency=0)
    data = bytearray(buffer.getvalue())
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def saved(pixels: PIL.Image.Image, form: str, **options: Any) -> bytes:
    buffer = BytesIO()
    pixels.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("make", [webp, gif], ids=lambda make: make.__name__)
def test_a_file_too_small_for_its_pixels_is_refused_before_they_take_memory(make: Any) -> None:
    with pytest.raises(InputError, match=r"10000 x 10000 pixels in a file of \d+ bytes.*max_pixels_per_byte=8256"):
        open_image(as_image(make(10_000, 10_000)), ImagePolicy())
    assert open_image(as_image(make(1024, 1024)), ImagePolicy()).size == (1024, 1024)


def test_the_option_that_the_message_names_lifts_it() -> None:
    assert open_image(as_image(webp(1100, 1000)), ImagePolicy(max_pixels_per_byte=10**6)).size == (1100, 1000)


@pytest.mark.parametrize(
    ("mode", "form", "options"),
    [
        ("1", "PNG", {"compress_level": 9}),
        ("P", "PNG", {"bits": 1, "compress_level": 9}),
        ("RGB", "PNG", {}),
        ("P", "GIF", {}),
        ("L", "JPEG", {"quality": 1, "optimize": True, "progressive": True}),
        ("RGB", "JPEG", {"quality": 30}),
        ("RGB", "WEBP", {"quality": 1, "method": 0}),
    ],
    ids=lambda value: str(value),
)
def test_a_blank_page_as_encoders_write_it_opens(mode: str, form: str, options: Any) -> None:
    page = PIL.Image.new(mode, (2480, 3508), 1 if mode != "RGB" else "white")
    if mode == "P":
        page.putpalette([0, 0, 0, 255, 255, 255])
    page = saved(page, form, **options)
    assert open_image(as_image(page), ImagePolicy()).size == (2480, 3508)


def test_a_photo_of_50_megapixels_opens() -> None:
    photo = saved(PIL.Image.new("L", (8160, 6144), 99), "JPEG", quality=30)
    assert open_image(as_image(photo), ImagePolicy()).size == (8160, 6144)
    with pytest.raises(InputError, match="max_pixels=120000000"):
        open_image(as_image(png(12_001, 10_000, b"\0", depth=1, kind=0)), ImagePolicy())


def hundred_bytes() -> list[bytes]:
    """64 different images in a hundred bytes or so each that cost as much as such may."""
    rows = 7000
    tall = [png(1, rows + number, bytes(2 * (rows + number)), depth=1, kind=0) for number in range(8)]
    wide = [png(100_000 + 8 * number, 1, bytes(12_501 + number), depth=1, kind=0) for number in range(8)]
    row = [png(1, 190 + number, bytes(2 * (190 + number)), depth=1, kind=0) for number in range(8)]
    flat = [webp(1008 + number, 1024) for number in range(16)]
    canvas = [gif(1008 + number, 1024) for number in range(16)]
    huge = [webp(16_000, 7_000 + number) for number in range(4)] + [gif(60_000, 1_900 + number) for number in range(4)]
    return [*tall, *wide, *row, *flat, *canvas, *huge]


WORST = """
import json, os, sys, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jinaclip

url, mode = sys.argv[1:]
files = [bytes.fromhex(line) for line in sys.stdin]
clip = jinaclip.JinaClip(api_key="jina_test_worst", base_url=url, image_resize=mode)
clip.embed_query("warm")
before = time.process_time()
results = clip.embed([jinaclip.Image.from_bytes(file) for file in files])
seconds = time.process_time() - before
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([len(results.errors), seconds, peak * 1024]))
"""


def run_with_files(script: str, files: list[bytes], *arguments: str) -> Any:
    """What a script prints, in a process of its own that reads the files from its input."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        input="\n".join(file.hex() for file in files),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and keeps to one core")
@pytest.mark.parametrize("mode", ["model", long("pad"), long("squash")])
def test_64_of_the_worst_files_of_a_hundred_bytes(server: Any, mode: str) -> None:
    files = hundred_bytes()
    assert len(set(files)) == 64
    assert max(map(len, files)) <= 110
    refused, seconds, peak = run_with_files(WORST, files, server.url, mode)
    assert refused == 8, "those that declare over a hundred megapixels"
    assert seconds < 5
    assert peak < 300 * 10**6


LIMITED = """
import json, resource, sys
import numpy as np
import jinaclip

url, threads, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
files = [bytes.fromhex(line) for line in sys.stdin]
jinaclip.configure(prepare_threads=threads, pixel_budget=count)
clip = jinaclip.JinaClip(api_key="jina_test_limited", base_url=url)
clip.embed_images([np.full((9, 9, 3), value, np.uint8) for value in range(8 * threads)])
data = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData"))
stacks = 64 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (data * 1024 + 24 * max(count, threads * count) + stacks,) * 2)
results = clip.embed([jinaclip.Image.from_bytes(file) for file in files])
print(json.dumps([str(error) for error in results.errors.values()]))
"""


def clear_png(width: int, height: int, value: int) -> bytes:
    """Grey of 16 bits with transparency, which takes most memory a pixel."""
    extra = chunk(b"tRNS", struct.pack(">H", value))
    return png(width, height, bytes(height * (1 + 2 * width)), depth=16, kind=0, extra=extra)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit that others do not keep")
@pytest.mark.parametrize("size", [(1, 400_000), long((400_000, 1)), (1500, 1500), long((300, 9000))], ids=str)
@pytest.mark.parametrize("threads", [1, long(3)])
def test_the_formula_of_memory_holds_in_a_process_that_is_given_no_more(server: Any, size: Any, threads: int) -> None:
    width, height = size
    pixels = height * (width + 2) + 4 * 512 * 512
    files = [clear_png(width, height, value) for value in range(9)]
    assert run_with_files(LIMITED, files, server.url, str(threads), str(pixels)) == []
