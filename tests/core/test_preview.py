"""Images made small for people and chat models."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image as Pillow

from jinaclip import ImagePolicy, InputError, JinaClip


@pytest.fixture
def clip() -> JinaClip:
    return JinaClip(api_key="jina_test_preview")


def open_bytes(data: bytes) -> Pillow.Image:
    return Pillow.open(io.BytesIO(data))


@pytest.mark.parametrize(
    ("given", "side", "shown"),
    [
        ((1600, 1200), 512, (512, 384)),
        ((1200, 1600), 300, (225, 300)),
        ((90, 70), 512, (90, 70)),
        ((4000, 2), 100, (100, 1)),
    ],
)
def test_a_preview_is_the_whole_image_as_a_jpeg_no_larger_than_asked(clip: JinaClip, given, side, shown) -> None:
    preview = open_bytes(clip.preview(Pillow.new("RGB", given, "red"), side=side))
    assert (preview.format, preview.size) == ("JPEG", shown)
    red, green, blue = preview.convert("RGB").getpixel((0, 0))
    assert red > 250 and green < 5 and blue < 5


def test_a_preview_is_upright_and_on_white(clip: JinaClip, tmp_path: Path) -> None:
    turned = Pillow.new("RGB", (60, 20))
    exif = turned.getexif()
    exif[274] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert open_bytes(clip.preview(tmp_path / "turned.jpg")).size == (20, 60)
    assert open_bytes(clip.preview(Pillow.new("RGBA", (8, 8), (0, 0, 0, 0)))).getpixel((4, 4)) == (255, 255, 255)


def test_a_preview_obeys_the_image_policy(clip: JinaClip, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Pillow.new("RGB", (8, 8)).save(file)
    with pytest.raises(InputError, match="allowed_roots"):
        clip.preview(str(file))
    with pytest.raises(InputError, match="max_pixels"):
        JinaClip(api_key="jina_test", image_policy=ImagePolicy(max_pixels=10)).preview(file)
    with pytest.raises(InputError, match="going by its content"):
        clip.preview(b"no image")
    allowed = JinaClip(api_key="jina_test", image_policy=ImagePolicy(allowed_roots=(tmp_path,)))
    assert open_bytes(allowed.preview(str(file))).size == (8, 8)
