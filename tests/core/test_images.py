"""Opening, resizing and encoding images."""

from __future__ import annotations

import base64
import subprocess
import sys
from io import BytesIO

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ImageFile

from jinaclip.config import ImagePolicy
from jinaclip.errors import ConfigError, InputError
from jinaclip.images import Upload, check, fit, open_image, size, upload
from jinaclip.images.containers import orientation, strip
from jinaclip.inputs import Image, as_image
from tests.core.corpus import TURNED, chunk, colours, decoded, encoded, exif, many_scans, saved_frames

POLICY = ImagePolicy()
SIDES = [
    (1, 1),
    (224, 224),
    (224, 300),
    (225, 224),
    (640, 480),
    (480, 641),
    (37, 990),
    (1000, 31),
    (223, 223),
    (512, 9),
]


def see(value, policy=POLICY):
    return np.asarray(open_image(as_image(value), policy))


def reference(pixels: PIL.Image.Image, side: int) -> PIL.Image.Image:
    """The model's preprocessing up to the crop, word for word."""
    width, height = pixels.size
    if width <= height and width != side:
        pixels = pixels.resize((side, int(side * height / width)), PIL.Image.Resampling.BICUBIC)
    elif height < width and height != side:
        pixels = pixels.resize((int(side * width / height), side), PIL.Image.Resampling.BICUBIC)
    left = round((pixels.width - side) / 2.0)
    top = round((pixels.height - side) / 2.0)
    return pixels.crop((left, top, left + side, top + side))


@pytest.mark.parametrize("side", [224, 512])
@pytest.mark.parametrize("shape", SIDES)
def test_model_mode_is_the_models_own_preprocessing_to_the_last_bit(shape, side):
    pixels = PIL.Image.fromarray(colours(*shape))
    assert fit(pixels, "model", side).tobytes() == reference(pixels, side).tobytes()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 40))
def test_model_mode_agrees_with_the_reference_for_any_small_size(width, height, side):
    pixels = PIL.Image.fromarray(colours(height, width))
    assert fit(pixels, "model", side).tobytes() == reference(pixels, side).tobytes()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["model", "pad", "squash"]))
def test_every_mode_but_none_gives_one_tile(width, height, mode):
    assert fit(PIL.Image.fromarray(colours(height, width)), mode, 64).size == (64, 64)


def test_pad_keeps_everything_in_the_middle_and_gives_the_odd_line_to_the_right():
    pixels = PIL.Image.new("RGB", (64, 33), (255, 255, 255))
    lit = np.asarray(fit(pixels, "pad", 64))[:, 0, 0] > 0
    assert list(np.flatnonzero(lit)) == list(range(15, 48))


def test_pad_rounds_the_shorter_side_half_to_even():
    pixels = PIL.Image.new("RGB", (128, 37), (255, 255, 255))
    lit = np.asarray(fit(pixels, "pad", 64))[:, 0, 0] > 0
    assert lit.sum() == 18  # 18.5


def test_none_leaves_the_pixels_alone():
    pixels = PIL.Image.fromarray(colours())
    assert fit(pixels, "none", 224) is pixels


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_all_four_formats_open_as_pillow_shows_them(form):
    data = encoded(colours(), form)
    assert (see(data) == decoded(data)).all()


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"]
)
def test_an_image_of_any_8_bit_mode_opens(mode):
    pixels = PIL.Image.fromarray(colours(6, 7))
    for step in {"La": ("LA",), "RGBa": ("RGBA",), "PA": ("P",)}.get(mode, ()):
        pixels = pixels.convert(step)
    assert see(pixels.convert(mode)).shape == (6, 7, 3)


@pytest.mark.parametrize("mode", ["I", "F", "I;16", "LAB"])
def test_an_image_of_another_mode_opens_or_is_refused(mode):
    try:
        assert see(PIL.Image.new(mode, (3, 2))).shape == (2, 3, 3)
    except InputError as error:
        assert mode == "LAB"
        assert "cannot be converted" in str(error)


def test_orient_false_shows_the_image_as_it_was_stored():
    data = encoded(colours(), "JPEG", exif=exif(6))
    policy = ImagePolicy(orient=False)
    assert (see(data, policy) == decoded(encoded(colours(), "JPEG"))).all()
    assert size(as_image(data), policy) == (40, 30)
    assert size(as_image(data), POLICY) == (30, 40)


def test_a_pillow_image_is_turned_as_its_exif_says_once():
    stored = PIL.Image.open(BytesIO(encoded(colours(), "PNG", exif=exif(8))))
    assert (see(stored) == TURNED[8](colours())).all()
    assert (see(PIL.ImageOps.exif_transpose(stored)) == TURNED[8](colours())).all()


def test_broken_exif_of_a_pillow_image_warns_nobody():
    stored = PIL.Image.fromarray(colours())
    stored.info["exif"] = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\1" * 50
    assert (see(stored) == colours()).all()


@given(st.binary(max_size=80) | st.builds(lambda tail: exif(6)[:20] + tail, st.binary(max_size=40)))
def test_any_exif_gives_an_orientation(block):
    assert 1 <= orientation(block) <= 8


def test_the_background_is_a_choice():
    clear = np.zeros((2, 2, 4), np.uint8)
    assert (see(clear, ImagePolicy(background=(1, 2, 3))) == (1, 2, 3)).all()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF"])
@pytest.mark.parametrize("others_set_the_flag", [False, True])
def test_a_file_cut_short_shows_what_it_holds_if_that_is_wanted(form, others_set_the_flag, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", others_set_the_flag)
    data = encoded(colours(256, 256), form, **({"interlace": False} if form == "GIF" else {}))
    part = see(data[: len(data) // 2], ImagePolicy(truncated=True))
    assert part.shape == (256, 256, 3)
    assert (part[:64] == decoded(data)[:64]).all()
    assert not (part[-32:] == decoded(data)[-32:]).all()
    with pytest.raises(InputError, match="cut short"):
        see(data[: len(data) // 2])


def test_a_broken_stream_in_sound_chunks_is_an_error_even_if_others_accept_truncation(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encoded(colours(), "PNG")
    start, end = data.index(b"IDAT"), data.index(b"IEND") - 4
    sound = data[: start - 4] + chunk(b"IDAT", data[start + 4 : end - 1000]) + data[end:]
    with pytest.raises(InputError, match="damaged or cut short"):
        see(sound)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_stripping_keeps_the_pixels_and_drops_the_metadata(form):
    data = encoded(colours(), form, exif=exif(3), icc_profile=b"profile" * 99)
    bare, block = strip(data, form, truncated=False)
    assert block.endswith(exif(3)[6:])
    assert b"profile" not in bare
    assert (decoded(bare) == decoded(data)).all()


def test_formats_and_frames_follow_the_policy():
    with pytest.raises(InputError, match=r"is GIF, which is not among image_policy\.formats"):
        see(encoded(colours(), "GIF"), ImagePolicy(formats=("PNG",)))
    assert see(encoded(colours(), "BMP"), ImagePolicy(formats=("PNG", "bmp"))).shape == (30, 40, 3)
    with pytest.raises(InputError, match="has no frame 1"):
        see(encoded(colours(), "PNG"), ImagePolicy(frame=1))


@pytest.mark.parametrize("value", [np.zeros((11, 10, 3), np.uint8), PIL.Image.new("L", (11, 10))])
def test_pil_images_and_arrays_meet_the_pixel_limit_before_anything_is_converted(value):
    policy = ImagePolicy(max_pixels=100)
    for step in (check, open_image):
        with pytest.raises(InputError, match="max_pixels=100"):
            step(as_image(value), policy)


def test_a_later_frame_larger_than_the_canvas_meets_the_pixel_limit():
    data = saved_frames("GIF")
    at = data.rindex(b"\x2c\0\0\0\0") + 5
    grown = data[:at] + (5000).to_bytes(2, "little") * 2 + data[at + 4 :]
    with pytest.raises(InputError, match="max_pixels=1000000"):
        see(grown, ImagePolicy(frame=1, max_pixels=10**6))


def test_the_pixel_limit_is_ours_alone(monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    for form in ("PNG", "JPEG"):
        assert see(encoded(colours(), form)).shape == (30, 40, 3)


@pytest.mark.parametrize("mode", ["model", "pad", "squash", "none"])
@pytest.mark.parametrize("shape", [(30, 40), (224, 224), (300, 7)])
def test_an_upload_without_quality_holds_exactly_the_pixels_of_the_tile(mode, shape):
    pixels = PIL.Image.fromarray(colours(*shape))
    sent = upload(as_image(pixels), policy=POLICY, mode=mode, side=64, quality=None)
    with PIL.Image.open(BytesIO(sent.data)) as received:
        assert received.format == "PNG"
        assert received.size == (sent.width, sent.height)
        assert received.tobytes() == fit(pixels, mode, 64).tobytes()


def test_quality_sends_jpeg_without_chroma_subsampling():
    sent = upload(as_image(colours()), policy=POLICY, mode="squash", side=64, quality=80)
    with PIL.Image.open(BytesIO(sent.data)) as received:
        assert received.format == "JPEG"
        assert {part[1:3] for part in received.layer} == {(1, 1)}
        assert (sent.width, sent.height) == received.size == (64, 64)


@pytest.mark.parametrize(
    "data",
    [
        encoded(colours(), "PNG"),
        encoded(colours(), "JPEG"),
        encoded(colours(), "WEBP"),
        encoded(colours(), "GIF"),
        encoded(colours()[..., 0], "PNG"),
        encoded(colours(), "JPEG", exif=exif(1)),
        many_scans(1),
    ],
    ids=["png", "jpeg", "webp", "gif", "grey", "exif 1", "progressive"],
)
def test_none_sends_the_original_bytes_of_a_plain_file(data, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(data)
    for value in (data, path):
        assert upload(as_image(value), policy=POLICY, mode="none", side=64, quality=None) == Upload(data, 40, 30)


@pytest.mark.parametrize(
    "data",
    [
        encoded(colours(), "JPEG", exif=exif(6)),
        encoded(colours(30, 40, 4), "PNG"),
        encoded(colours(30, 40, 4), "WEBP"),
        encoded(PIL.Image.new("CMYK", (4, 4)), "JPEG"),
        encoded(PIL.Image.new("I;16", (4, 4)), "PNG"),
        *(saved_frames(form) for form in ("PNG", "GIF", "WEBP")),
    ],
    ids=["turned", "alpha png", "alpha webp", "cmyk", "16 bit", "apng", "animated gif", "animated webp"],
)
def test_none_sends_what_we_see_where_others_may_see_something_else(data):
    sent = upload(as_image(data), policy=POLICY, mode="none", side=64, quality=None)
    assert sent.data.startswith(b"\x89PNG")
    assert (decoded(sent.data) == see(data)).all()


def test_metadata_does_not_count_against_the_upload_limit():
    data = encoded(colours(), "JPEG", icc_profile=bytes(100_000))
    policy = ImagePolicy(max_upload_bytes=50_000)
    assert len(upload(as_image(data), policy=policy, mode="none", side=64, quality=None).data) < 50_000


@pytest.mark.parametrize(("mode", "remedy"), [("none", 'image_resize="model"'), ("model", "image_quality")])
def test_an_upload_that_is_too_large_names_the_remedy(mode, remedy):
    with pytest.raises(InputError, match=rf"max_upload_bytes=1000;.*{remedy}"):
        upload(as_image(colours()), policy=ImagePolicy(max_upload_bytes=1000), mode=mode, side=64, quality=None)


def test_size_reads_the_head_of_a_large_file_only(tmp_path, monkeypatch):
    from jinaclip.images import opening

    path = tmp_path / "large.jpg"
    path.write_bytes(encoded(colours(1500, 1600), "JPEG", quality=95, exif=exif(6)))
    monkeypatch.setattr(opening, "read", None)
    assert path.stat().st_size > opening.HEAD
    assert size(Image.from_path(path), POLICY) == (1500, 1600)


def test_an_upload_shows_no_bytes_in_its_repr():
    assert repr(Upload(b"secret", 1, 2)) == "Upload(6 bytes, 1 x 2)"


def test_importing_the_package_loads_neither_pillow_nor_httpx():
    code = "import sys, jinaclip.images; print([m for m in ('PIL', 'httpx', 'httpcore', 'idna') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_networks_of_the_policy_are_checked():
    with pytest.raises(ConfigError, match="allow_networks"):
        check(Image.from_url("https://1.1.1.1/"), ImagePolicy(allow_networks=("home",)))


VALID = [
    encoded(colours(), "PNG"),
    encoded(colours(), "PNG", exif=exif(6)),
    encoded(colours(), "JPEG", exif=exif(3)),
    encoded(colours(), "WEBP"),
    encoded(colours(30, 40, 4), "WEBP", lossless=True),
    encoded(colours(), "GIF"),
    many_scans(2),
    *(saved_frames(form) for form in ("PNG", "GIF", "WEBP", "MPO")),
]


@st.composite
def mutated(draw):
    data = bytearray(draw(st.sampled_from(VALID)))
    near_the_start = st.integers(0, min(200, len(data) - 1))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(near_the_start | st.integers(0, len(data) - 1))
        kind = draw(st.sampled_from(["set", "drop", "put"]))
        new = draw(st.binary(min_size=1, max_size=8))
        data[at : at + (0 if kind == "put" else len(new))] = b"" if kind == "drop" else new
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated(), st.booleans(), st.integers(0, 1))
def test_damaged_files_give_an_input_error_or_an_image(data, truncated, frame):
    policy = ImagePolicy(truncated=truncated, frame=frame, max_pixels=1_000_000)
    for action in (open_image, size):
        try:
            seen = action(as_image(data), policy)
        except InputError as error:
            assert len(str(error)) < 300
        else:
            assert isinstance(seen, tuple) or seen.mode == "RGB"


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_bare_base64_is_told_from_a_path_that_does_not_exist(kind):
    """The base64 of a JPEG begins with a slash, as an absolute path does."""
    buffer = BytesIO()
    PIL.Image.new("RGB", (8, 8)).save(buffer, kind)
    with pytest.raises(InputError, match=r"this one is base64; pass Image\.from_base64"):
        check(as_image(base64.b64encode(buffer.getvalue()).decode()), POLICY)
