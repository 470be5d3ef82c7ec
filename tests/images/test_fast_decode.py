"""`image_decode="fast"`: the decoder of a JPEG shrinks it, never below what the model sees; no other file does."""

from __future__ import annotations

from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
import PIL.Image
import pytest

from jinaclip import ConfigError, InputError, JinaClip
from jinaclip.config import EmbedderConfig, ImagePolicy
from jinaclip.images import open_image, scaled_size
from jinaclip.inputs import as_image
from tests.core.corpus import colours, exif
from tests.needs import skip_without

POLICY = ImagePolicy()
FAST = {"image_decode": "fast"}


def photo(width: int, height: int) -> PIL.Image.Image:
    """Broad shapes and some grain."""
    shapes = PIL.Image.fromarray(colours(7, 9)).resize((width, height), PIL.Image.Resampling.BICUBIC)
    grain = np.random.default_rng(0).normal(0, 4, (height, width, 1))
    return PIL.Image.fromarray(np.clip(np.asarray(shapes) + grain, 0, 255).astype(np.uint8))


def file_of(pixels: PIL.Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    buffer = BytesIO()
    pixels.save(buffer, form, **options)
    return buffer.getvalue()


def see(data: Any, mode: Any = "model", side: int = 64, policy: ImagePolicy = POLICY) -> PIL.Image.Image:
    return open_image(as_image(data), policy, target=partial(scaled_size, mode=mode, side=side))


@pytest.mark.parametrize(
    ("size", "mode", "seen"),
    [
        ((160, 128), "model", (80, 64)),
        ((168, 120), "model", (168, 120)),  # a half would be less than 64 high
        ((320, 256), "model", (80, 64)),
        ((640, 512), "model", (80, 64)),
        ((1280, 1024), "model", (160, 128)),  # an eighth is the least that the decoder makes
        ((640, 480), "model", (160, 120)),
        ((161, 128), "model", (161, 128)),  # half a pixel would be left over
        ((256, 1600), "model", (64, 400)),
        ((256, 16), "pad", (64, 4)),
        ((512, 128), "squash", (256, 64)),
        ((640, 512), "none", (640, 512)),
    ],
)
def test_a_jpeg_shrinks_to_what_is_no_smaller_than_the_model_sees(size: Any, mode: Any, seen: Any) -> None:
    assert see(file_of(photo(*size)), mode).size == seen


@pytest.mark.parametrize("orientation", range(1, 9))
def test_one_that_lies_on_its_side_shrinks_upright(orientation: int) -> None:
    """The model sees 64 x 160 of 128 x 320."""
    upright = photo(128, 320)
    turned = {6: PIL.Image.Transpose.ROTATE_90, 8: PIL.Image.Transpose.ROTATE_270, 5: PIL.Image.Transpose.TRANSPOSE}
    turned |= {7: PIL.Image.Transpose.TRANSVERSE, 2: PIL.Image.Transpose.FLIP_LEFT_RIGHT}
    turned |= {3: PIL.Image.Transpose.ROTATE_180, 4: PIL.Image.Transpose.FLIP_TOP_BOTTOM}
    stored = upright.transpose(turned[orientation]) if orientation in turned else upright
    got = see(file_of(stored, quality=95, exif=exif(orientation)))
    assert got.size == (64, 160)
    wanted = np.asarray(upright.resize((64, 160), PIL.Image.Resampling.BOX), int)
    assert np.abs(np.asarray(got, int) - wanted).mean() < 3


def test_as_it_was_stored_it_shrinks_too() -> None:
    data = file_of(photo(320, 128), exif=exif(6))
    assert see(data, policy=ImagePolicy(orient=False)).size == (160, 64)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_the_colours_stay(mode: str, progressive: bool) -> None:
    data = file_of(photo(256, 256).convert(mode), quality=95, progressive=progressive)
    exact = open_image(as_image(data), POLICY).resize((64, 64), PIL.Image.Resampling.BOX)
    assert np.abs(np.asarray(see(data), int) - np.asarray(exact, int)).mean() < 3


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF"])
def test_other_files_are_not_affected(form: str) -> None:
    data = file_of(photo(256, 256), form)
    assert see(data).tobytes() == open_image(as_image(data), POLICY).tobytes()


def test_neither_are_pixels() -> None:
    pixels = photo(256, 256)
    assert see(pixels).size == see(np.asarray(pixels)).size == (256, 256)
    assert see(PIL.Image.open(BytesIO(file_of(pixels)))).size == (256, 256)


def test_a_damaged_file_is_refused_as_ever() -> None:
    whole = file_of(photo(256, 256))
    with pytest.raises(InputError, match="cut short"):
        see(whole[: len(whole) // 2])


def test_fast_contradicts_none() -> None:
    with pytest.raises(ConfigError, match=r"image_decode='fast' must be 'exact' with image_resize='none'") as caught:
        EmbedderConfig(image_resize="none", image_decode="fast")
    assert caught.value.option == "image_decode"


def test_it_is_a_space_of_its_own_and_the_same_over_both_backends() -> None:
    assert JinaClip(**FAST).space == "jina_clip_v2_1024_62f70ff5f43d"
    assert JinaClip(image_decode="exact").space == JinaClip().space
    skip_without("torch")
    assert JinaClip(backend="local", **FAST).space == JinaClip(**FAST).space


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["model", "pad", "squash"])
async def test_vectors_are_those_of_the_shrunk_image_over_both_backends(
    modelled: Any, catalogue_checkpoint: str, run: Any, mode: Any
) -> None:
    """The service is sent 512 x 512, of which its small model makes 64 x 64; so here are images of one colour each."""
    files = [file_of(PIL.Image.new("RGB", (1024, 1024), colour)) for colour in ((200, 0, 0), (0, 90, 160))]
    with JinaClip(catalogue_checkpoint, backend="local", device="cpu", image_resize=mode, **FAST) as here:
        near = await run(here, "embed_images", files)
    key = {"api_key": "jina_test_fast", "base_url": modelled.url}
    with JinaClip(**key, image_resize=mode, **FAST) as hosted:
        far = await run(hosted, "embed_images", files)
    assert ((near * far[:, : near.shape[1]]).sum(axis=1) > 0.999).all()


@pytest.mark.slow
def test_vectors_of_the_catalogue_stay_close(catalogue_checkpoint: str, catalogue: Any) -> None:
    from examples.catalogue.drawing import draw
    from examples.catalogue.products import products

    files = [file_of(draw(product, 256), quality=88) for product in products("test", 40)]
    files += [file_of(photo(320, 256)), file_of(photo(256, 384))]
    exact, fast = (
        JinaClip(catalogue_checkpoint, backend="local", device="cpu", image_decode=how).embed_images(files)
        for how in ("exact", "fast")
    )
    cosines = (exact * fast).sum(axis=1)
    assert cosines.min() > 0.99
    assert (exact != fast).any(axis=1).all(), "they were decoded otherwise"
