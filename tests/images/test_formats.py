"""Which formats are taken, what is said of others, and which files are sent as they are."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jinaclip.config import ImagePolicy
from jinaclip.errors import ConfigError, InputError
from jinaclip.images import open_image, size, upload
from jinaclip.inputs import as_image
from tests.core import corpus
from tests.core.corpus import chunk, colours, decoded, encoded, exif, saved_frames
from tests.needs import skip_without

ROOT = Path(__file__).parents[2]
KNOWN = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF", "BMP")
ALL = ImagePolicy(formats=KNOWN)


def see(data, policy=ALL):
    return np.asarray(open_image(as_image(data), policy))


# -- names


@pytest.mark.parametrize("listed", KNOWN)
@pytest.mark.parametrize("given", KNOWN)
def test_only_listed_formats_are_taken(listed, given):
    data, policy = encoded(colours(), given), ImagePolicy(formats=(listed,))
    if given == listed:
        assert see(data, policy).shape == (30, 40, 3)
        return
    with pytest.raises(InputError, match=rf"is {given}, which is not among image_policy\.formats=.*list it: .*{given}"):
        see(data, policy)
    with pytest.raises(InputError, match="not among"):
        size(as_image(data), policy)


def test_png_and_avif_take_no_jpeg():
    policy = ImagePolicy(formats=("PNG", "AVIF"))
    assert see(encoded(colours(), "AVIF"), policy).shape == (30, 40, 3)
    with pytest.raises(InputError, match="is JPEG, which is not among"):
        see(encoded(colours(), "JPEG"), policy)


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (("JPG",), "did you mean 'JPEG'"),
        (("jpg",), "did you mean 'JPEG'"),
        (("TIF", "PNG"), "did you mean 'TIFF'"),
        (("PNGG",), "did you mean 'PNG'"),
        (("WEPB",), "did you mean 'WEBP'"),
        (("JP2",), "did you mean 'JPEG2000'"),
        (("HEIC",), r"pillow-heif, call pillow_heif\.register_heif_opener\(\)"),
        (("heif",), "pillow-heif"),
        (("JXL",), "pillow-jxl-plugin"),
        (("SVG",), "render it to PNG"),
        (("PDF",), "Pdf"),
        (("",), "a plugin for it has to be registered"),
        (("image/png",), "has to be registered|did you mean"),
        ("PNG", "a tuple of"),
        ((), "a tuple of"),
        ((None,), "a tuple of"),
        (None, "a tuple of"),
    ],
)
def test_a_name_that_cannot_be_read_is_refused_when_the_policy_is_made(names, hint):
    with pytest.raises(ConfigError, match=rf"image_policy\.formats=.* must be .*{hint}"):
        ImagePolicy(formats=names)


def test_names_are_taken_in_any_case_and_those_of_pillows_other_plugins():
    assert see(encoded(colours(), "BMP"), ImagePolicy(formats=["png", "Bmp"])).shape == (30, 40, 3)
    assert see(encoded(colours(), "TGA"), ImagePolicy(formats=("TGA",))).shape == (30, 40, 3)
    with pytest.raises(InputError, match=r"cannot be read|max_pixels"):
        see(encoded(colours(), "ICO"), ImagePolicy(formats=("ICO",), max_pixels=10))


def test_the_default_policy_loads_no_pillow():
    code = "import sys, jinaclip; jinaclip.ImagePolicy(formats=('PNG', 'tiff')); print('PIL' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


HEIC = """
import numpy as np, PIL.Image
from io import BytesIO
from PIL import ImageFile
from jinaclip import ImagePolicy, InputError
from jinaclip.images import open_image, size
from jinaclip.inputs import as_image

HEIC = b"\\0\\0\\0\\x18ftypheic\\0\\0\\0\\0mif1heic" + bytes(100)
try:
    ImagePolicy(formats=("HEIC",))
except ValueError as error:
    assert "register_heif_opener" in str(error), error
else:
    raise SystemExit("taken before the plugin was registered")
try:
    open_image(as_image(HEIC), ImagePolicy())
except InputError as error:
    assert "HEIC" in str(error) and "pillow-heif" in str(error), error

class Heif(ImageFile.ImageFile):
    format = "HEIF"
    def _open(self):
        self._mode, self._size = "RGB", (5, 4)
        self.info["exif"] = {exif!r}
    def load(self):
        self.im = PIL.Image.new("RGB", self.size, (1, 2, 3)).im
        self.tile = []
        return super().load()

PIL.Image.register_open("HEIF", Heif, lambda prefix: prefix[4:12] == b"ftypheic")
for name in ("HEIF", "heic"):
    policy = ImagePolicy(formats=("PNG", name))
    assert size(as_image(HEIC), policy) == (4, 5)
    assert (np.asarray(open_image(as_image(HEIC), policy)) == (1, 2, 3)).all()
try:
    open_image(as_image(HEIC), ImagePolicy(formats=("HEIF",), max_pixels=19))
except InputError as error:
    assert "max_pixels" in str(error)
else:
    raise SystemExit("too large")
print("fine")
"""


def test_a_plugin_that_was_registered_reads_heic():
    """pillow-heif registers itself in this way; it turns images itself, this one leaves that to the EXIF block."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", HEIC.replace("{exif!r}", repr(exif(6)))],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stdout.strip() == "fine", done.stderr


# -- what others are


def box(kind: bytes, *brands: bytes) -> bytes:
    body = kind + b"\0\0\0\0" + b"".join(brands)
    return (len(body) + 8).to_bytes(4) + b"ftyp" + body + bytes(64)


LOOKS = [
    ("an HTML page", b"<!doctype html><title>404</title>", "address of a page"),
    ("an HTML page", b"\xef\xbb\xbf\n <!-- x --> <HTML lang=en>", "address of a page"),
    ("an SVG", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "cairosvg"),
    ("an SVG", b'<?xml version="1.0"?>\n<!-- made by hand -->\n<svg width="1">', "cairosvg"),
    ("XML", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "server"),
    ("a PDF", b"%PDF-1.7\n%\xe2\xe3", r"jinaclip\.Pdf\(path\).*jinaclip\[pdf\]"),
    ("a pointer of git-lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n", "git lfs pull"),
    ("a video", box(b"isom", b"mp41"), "PyAV or OpenCV"),
    ("a video", box(b"qt  "), "frame"),
    ("a video", b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\x1fB\x86\x81\1webm", "frame"),
    ("a video", b"RIFF\0\0\1\0AVI LIST", "frame"),
    ("a JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 ", "JPEG2000"),
    ("a JPEG XL", b"\xff\x0a\xfa\x7f\1\x90", "pillow-jxl-plugin"),
    ("HEIC or HEIF", box(b"heic", b"mif1", b"heic"), r"pillow_heif\.register_heif_opener\(\)"),
    ("HEIC or HEIF", box(b"mif1", b"mif1", b"heic"), "pillow-heif"),
    ("JSON", b'{"error": "not found"}', "server"),
    ("JSON", b'[{"a": 1}]', "server"),
    ("a ZIP archive", b"PK\3\4\x14\0", "take the image out"),
    ("a compressed file", b"\x1f\x8b\x08\0", "unpack"),
    ("text", "Grüße aus Köln".encode(), "embed_documents"),
    ("base64", b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ", "from_base64"),
    ("zeros", bytes(100), "again"),
    ("blank text", b" \n\t ", "again"),
    ("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0", "PNG"),
    ("a Photoshop file", b"8BPS\0\1", "PNG"),
    ("an icon", b"\0\0\1\0\1\0", "ICO"),
]


@pytest.mark.parametrize("policy", [ImagePolicy(), ALL, ImagePolicy(formats=("PNG", "TGA"))])
@pytest.mark.parametrize(("name", "data", "remedy"), LOOKS, ids=[name for name, *_ in LOOKS])
def test_what_is_no_image_is_named_with_what_helps(name, data, remedy, policy):
    with pytest.raises(InputError, match=rf"it looks like {name}.*, going by its content; .*{remedy}") as caught:
        see(data, policy)
    assert len(str(caught.value)) < 400


def test_noise_is_none_of_the_formats():
    with pytest.raises(InputError, match=r"none of \('JPEG', .*\), going by its content"):
        see(b"\x93\x01\x02\xff" * 50, ImagePolicy())


# -- TIFF, BMP, AVIF


def test_frames_of_tiff_gif_and_webp():
    first = colours(8, 9)
    for form, options in (("TIFF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        data = saved_frames(form, **options)
        assert (see(data) == first).all()
        assert (see(data, ImagePolicy(formats=KNOWN, frame=1)) == first[::-1]).all()
        with pytest.raises(InputError, match="has no frame 2"):
            see(data, ImagePolicy(formats=KNOWN, frame=2))
    for form in ("BMP", "JPEG"):
        with pytest.raises(InputError, match="has no frame 1"):
            see(encoded(first, form), ImagePolicy(formats=KNOWN, frame=1))


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_is_turned_once(turn, big):
    data = encoded(colours(), "TIFF", tiffinfo={274: turn}, big_tiff=big)
    assert (see(data) == corpus.TURNED[turn](colours())).all()
    assert size(as_image(data), ALL) == see(data).shape[1::-1]
    assert (see(data, ImagePolicy(formats=KNOWN, orient=False)) == colours()).all()
    assert (see(PIL.Image.open(BytesIO(data))) == corpus.TURNED[turn](colours())).all()


@pytest.mark.parametrize("method", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "P", "1"])
def test_a_tiff_is_seen_as_pillow_shows_it(method, mode):
    picture = PIL.Image.fromarray(colours())
    picture = picture.quantize(30) if mode == "P" else picture.convert(mode)
    data = encoded(picture, "TIFF", compression=method)
    assert (see(data) == decoded(data)).all()


def tiff(**changes: object) -> bytes:
    """A grey TIFF of 4 x 4 pixels; entries are tag=(type, count, value or bytes)."""
    entries = {256: (4, 1, 4), 257: (4, 1, 4), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    entries |= {273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, 4), 279: (4, 1, 16)}
    entries |= {int(tag.lstrip("t")): value for tag, value in changes.items()}
    body = b"".join(
        struct.pack("<HHI", tag, kind, count) + (value if isinstance(value, bytes) else struct.pack("<I", value))
        for tag, (kind, count, value) in sorted(entries.items())
        if (kind, count, value) != (0, 0, 0)
    )
    count = len(body) // 12
    return b"II*\0" + struct.pack("<I", 24) + bytes(range(16)) + struct.pack("<H", count) + body + bytes(4)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (tiff(t256=(4, 1, 60000), t257=(4, 1, 60000)), "max_pixels"),
        (tiff(t322=(4, 1, 60000), t323=(4, 1, 60000), t324=(4, 1, 8), t325=(4, 1, 16)), "a tile .*max_pixels"),
        (tiff(t273=(4, 10**9, 8)), "damaged"),
        (tiff(t273=(4, 4, 0)), "should have 1 strips"),
        (tiff(t278=(4, 1, 1)), "should have 4 strips"),
        (tiff(t256=(0, 0, 0)), "tag 256 is missing"),
        (tiff(t256=(4, 2, 8)), "tag 256 is"),
        (tiff(t256=(2, 4, 8)), "tag 256 is"),
        (tiff(t259=(3, 1, 6)), "compressed by method 6"),
        (tiff(t277=(3, 1, 60000)), "cannot be (read|decoded)"),
        (tiff(t279=(4, 1, 16), t273=(4, 1, 190)), "not all of its pixels"),
        (tiff(t279=(4, 1, 4), t273=(4, 1, 130)), "cannot be decoded"),
        (tiff()[:60], "damaged"),
        (tiff(t256=(4, 1, 0)), "no area"),
        (b"II*\0\xff\xff\xff\xff", "damaged"),
        (b"II*\0", "damaged"),
    ],
    ids=range(16),
)
def test_a_hostile_tiff_is_refused_and_warns_nobody(data, error):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=error):
            see(data)


def test_a_tiff_may_have_odd_tags_and_directories_that_loop():
    looping = tiff()[:-4] + struct.pack("<I", 24)
    odd = tiff(t700=(1, 10**9, 5), t34665=(4, 1, 24), t270=(2, 3, 10**9), t65000=(99, 1, 1), t305=(4, 9, 8))
    wanted = np.repeat(np.arange(16, dtype=np.uint8).reshape(4, 4, 1), 3, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data in (looping, odd, tiff()):
            assert (see(data) == wanted).all()
        with pytest.raises(InputError, match="has no frame 1"):
            see(looping, ImagePolicy(formats=KNOWN, frame=1))


def test_planes_and_tiles_of_a_tiff():
    pixels = colours(32, 48)
    planes = b"".join(pixels[..., band].tobytes() for band in range(3))
    entries = {256: (48,), 257: (32,), 258: (8, 8, 8), 259: (1,), 262: (2,), 277: (3,), 284: (2,), 278: (32,)}
    entries |= {273: tuple(8 + band * 48 * 32 for band in range(3)), 279: (48 * 32,) * 3}
    assert (see(packed(planes, entries)) == pixels).all()
    tiles = b"".join(pixels[y : y + 16, x : x + 16].tobytes() for y in (0, 16) for x in (0, 16, 32))
    entries = {256: (48,), 257: (32,), 258: (8, 8, 8), 259: (1,), 262: (2,), 277: (3,), 322: (16,), 323: (16,)}
    entries |= {324: tuple(8 + number * 768 for number in range(6)), 325: (768,) * 6}
    assert (see(packed(tiles, entries)) == pixels).all()


def test_for_a_tile_that_is_larger_than_its_image_room_is_kept():
    """It is decoded whole."""
    entries = {256: (1,), 257: (1,), 258: (8,), 259: (1,), 262: (1,), 277: (1,), 322: (1024,), 323: (512,)}
    entries |= {324: (8,), 325: (1024 * 512,)}
    reserved = []
    data = packed(bytes(1024 * 512), entries)
    assert open_image(as_image(data), ALL, lambda width, height: reserved.append(width * height)).size == (1, 1)
    assert reserved == [1024 * 512]


def packed(data: bytes, entries: dict[int, tuple[int, ...]]) -> bytes:
    """A TIFF of this data, which begins at 8, and these numbers."""
    more, directory, at = b"", b"", 8 + len(data)
    for tag, numbers in sorted(entries.items()):
        kind, each = (3, "H") if tag in (258, 259, 262, 277, 284) else (4, "I")
        values = struct.pack(f"<{len(numbers)}{each}", *numbers)
        if len(values) > 4:
            values, more = struct.pack("<I", at + len(more)), more + values
        directory += struct.pack("<HHI", tag, kind, len(numbers)) + values.ljust(4, b"\0")
    head = b"II*\0" + struct.pack("<I", at + len(more))
    return head + data + more + struct.pack("<H", len(entries)) + directory + bytes(4)


@pytest.mark.parametrize("form", ["TIFF", "BMP", "AVIF"])
def test_too_many_pixels_are_refused_by_the_header(form):
    policy = ImagePolicy(formats=KNOWN, max_pixels=1199)
    with pytest.raises(InputError, match="40 x 30 pixels, more than"):
        see(encoded(colours(), form), policy)
    data = encoded(colours(), form)
    reserved = []

    def reserve(width, height):
        reserved.append((width, height))
        raise InputError("enough")

    with pytest.raises(InputError, match="enough"):
        open_image(as_image(data), ALL, reserve)
    assert reserved == [(40, 30)]


def test_run_lengths_of_a_bmp():
    header = struct.pack("<IiiHHIIiiII", 40, 4, 2, 1, 8, 1, 0, 0, 0, 256, 0)
    colour_map = b"".join(bytes([n, 255 - n, n // 2, 0]) for n in range(256))
    body = bytes([4, 7, 0, 0, 2, 9, 2, 200, 0, 0, 0, 1])
    data = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 40 + 1024) + header + colour_map + body
    wanted = [[(4, 246, 9), (4, 246, 9), (100, 55, 200), (100, 55, 200)], [(3, 248, 7)] * 4]
    assert (see(data) == np.array(wanted)).all()
    with pytest.raises(InputError, match="damaged or cut short"):
        see(data[:-8])


EXTRA = [encoded(colours(), form) for form in ("TIFF", "BMP", "AVIF")]
EXTRA += [encoded(colours(), "TIFF", compression="tiff_lzw"), saved_frames("TIFF"), saved_frames("GIF")]
EXTRA += [saved_frames("PNG"), encoded(PIL.Image.fromarray(colours()).quantize(9), "BMP")]


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from(EXTRA), st.booleans(), st.integers(0, 1))
def test_damaged_files_give_an_input_error_or_an_image(data, file, truncated, frame):
    changed = bytearray(file)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(file), 250) - 1) | st.integers(-250, len(file) - 1))
        changed[at : at + 1] = data.draw(st.binary(max_size=3))
    policy = ImagePolicy(formats=KNOWN, truncated=truncated, frame=frame, max_pixels=1_000_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for action in (open_image, size):
            try:
                seen = action(as_image(bytes(changed)), policy)
            except InputError as error:
                assert len(str(error)) < 400
            else:
                assert isinstance(seen, tuple) or seen.mode == "RGB"


# -- what is sent as it is


def send(data, policy=ALL):
    return upload(as_image(data), policy=policy, mode="none", side=16, quality=None).data


PNG = encoded(colours(), "PNG")
JPEG = encoded(colours(), "JPEG")
ANCILLARY = {
    "gAMA": struct.pack(">I", 10**5),
    "cHRM": bytes(32),
    "sRGB": b"\0",
    "iCCP": b"x\0\0" + zlib.compress(b"profile"),
    "tEXt": b"Raw profile type exif\0x",
    "iTXt": b"XML:com.adobe.xmp\0\0\0\0\0<x/>",
    "eXIf": exif(1)[6:],
    "bKGD": bytes(6),
    "sBIT": b"\5\5\5",
}


@pytest.mark.parametrize("kind", ANCILLARY)
def test_of_a_png_nothing_is_sent_that_readers_may_apply(kind):
    data = corpus.with_chunk(PNG, chunk(kind.encode(), ANCILLARY[kind]))
    sent = send(data)
    assert kind.encode() not in sent
    assert (decoded(sent) == colours()).all()


@pytest.mark.parametrize("tail", [b"PK\3\4" + bytes(50), PNG, b"\0"])
@pytest.mark.parametrize("data", [PNG, JPEG], ids=["PNG", "JPEG"])
def test_what_is_behind_the_end_is_not_sent(data, tail):
    assert send(data + tail) == data


@pytest.mark.parametrize(
    "options",
    [
        {"icc_profile": b"profile" * 99},
        {"xmp": b"<x tiff:Orientation='6'/>"},
        {"exif": exif(1) + exif(6)[6:]},
        {"exif": exif(6)},
    ],
    ids=["profile", "XMP", "two turns", "turned"],
)
def test_of_a_jpeg_nothing_is_sent_that_readers_may_apply(options):
    data = encoded(colours(), "JPEG", **options)
    sent = send(data)
    assert not any(word in sent for word in (b"profile", b"Orientation", b"Exif"))
    assert (decoded(sent) == see(data)).all()


@pytest.mark.parametrize(
    "data",
    [
        encoded(PIL.Image.new("CMYK", (8, 8), (9, 99, 199, 0)), "JPEG"),
        encoded(colours(), "JPEG", keep_rgb=True),
        encoded(colours(30, 40, 4), "PNG"),
        encoded(PIL.Image.new("I;16", (4, 4), 999), "PNG"),
        corpus.palette(clear=b"\0"),
        corpus.off_canvas(),
        encoded(colours(), "WEBP", exif=exif(1)),
        encoded(colours(), "WEBP", icc_profile=b"profile"),
        encoded(colours(), "WEBP") + b"tail",
        encoded(colours(), "GIF") + b"tail",
        encoded(colours(), "BMP"),
        encoded(colours(), "TIFF"),
        encoded(colours(), "AVIF"),
        saved_frames("PNG"),
        saved_frames("GIF"),
        saved_frames("WEBP"),
        saved_frames("TIFF"),
    ],
    ids=[
        *("cmyk", "rgb jpeg", "alpha", "16 bits", "clear palette", "off canvas", "webp exif"),
        *("webp profile", "webp tail", "gif tail", "bmp", "tiff", "avif", "apng", "gif frames", "webp frames", "pages"),
    ],
)
def test_what_readers_may_take_differently_is_sent_as_we_see_it(data):
    sent = send(data)
    assert sent.startswith(corpus.MAGIC)
    assert sent not in data
    assert (decoded(sent) == see(data)).all()


def test_pillow_of_this_machine_has_what_these_tests_need():
    skip_without("PIL")
    from PIL import features

    assert features.check("avif")
    assert features.check("webp")
