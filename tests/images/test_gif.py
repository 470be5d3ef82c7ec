"""GIF files: what is composed, what is refused, and what costs nothing. Pixels as in a browser: test_browser.py."""

from __future__ import annotations

import time

import numpy as np
import PIL.Image
import pytest

from jinaclip import Image, ImagePolicy, InputError
from jinaclip.images import open_image, size, upload
from jinaclip.images.containers.gif import MAX_SUB_BLOCKS, Blocks
from tests.images.gif_files import (
    COLOURS,
    PIXELS,
    SMALL,
    TRAILER,
    WHOLE,
    blocks,
    control,
    extension,
    frame,
    lzw,
    screen,
)

RED, GREEN, BLUE, YELLOW = (tuple(COLOURS[at : at + 3]) for at in (0, 3, 6, 9))
PAINT = np.array([RED, GREEN, BLUE, YELLOW], np.uint8)
SHORT = screen(16, 12) + control(0, 1) + frame(PIXELS, data=b"\2" + blocks(lzw(PIXELS.ravel()[:80]))) + TRAILER


def see(data, **policy):
    return np.asarray(open_image(Image.from_bytes(data), ImagePolicy(**policy)))


def send_as_it_is(data):
    return upload(Image.from_bytes(data), policy=ImagePolicy(), mode="none", side=64, quality=None).data


def test_what_no_frame_covers_is_clear_and_shows_the_background():
    pixels = see(screen(16, 12) + frame(SMALL, (7, 4)) + TRAILER, background=(1, 2, 3))
    assert (pixels[4:9, 7:13] == PAINT[SMALL]).all()
    pixels = pixels.copy()
    pixels[4:9, 7:13] = (1, 2, 3)
    assert (pixels == (1, 2, 3)).all()


def test_of_a_frame_cut_short_what_was_decoded_is_kept_and_the_rest_is_clear():
    with pytest.raises(InputError, match="damaged or cut short"):
        see(SHORT)
    pixels = see(SHORT, truncated=True, background=(1, 2, 3)).reshape(-1, 3)
    wanted = PAINT[PIXELS].reshape(-1, 3)
    wanted[PIXELS.ravel() == 1] = (1, 2, 3)
    assert (pixels[:80] == wanted[:80]).all()
    assert (pixels[80:] == (1, 2, 3)).all()


def test_a_damaged_frame_spoils_those_after_it():
    data = SHORT[:-1] + frame(SMALL) + TRAILER
    with pytest.raises(InputError, match="damaged or cut short"):
        see(data, frame=1)
    assert (see(data, frame=1, truncated=True)[:5, :6] == PAINT[SMALL]).all()


@pytest.mark.parametrize(("number", "wanted"), [(1, "has no frame 1"), (5, "has no frame 5")])
def test_a_frame_that_the_file_has_not_is_refused(number, wanted):
    with pytest.raises(InputError, match=wanted):
        see(WHOLE, frame=number)


def test_what_comes_behind_the_frame_is_not_read():
    assert (see(WHOLE[:-1] + b"junk") == see(WHOLE)).all()
    assert (see(WHOLE[:-1] + frame(SMALL)[:9]) == see(WHOLE)).all()


def test_the_blocks_are_counted():
    """A million of them, so that the walk is short whatever the file."""
    data = screen(16, 12) + b"!\xfe" + b"\1x" * (MAX_SUB_BLOCKS + 1) + b"\0" + WHOLE[25:]
    with pytest.raises(InputError, match="over 1,000,000 blocks"):
        see(data)


def test_a_long_comment_costs_a_step_for_255_bytes():
    data = screen(16, 12) + extension(0xFE, *[bytes(255)] * 70_000) + WHOLE[25:]
    read = Blocks(data)
    assert next(read.frames()).size == (16, 12)
    assert (see(data) == see(WHOLE)).all()


@pytest.mark.parametrize("number", [0, 1])
def test_a_frame_of_more_pixels_than_the_policy_takes_is_refused_before_it_is_decoded(number, monkeypatch):
    large = frame(None, size=(9000, 9000), data=b"\2\0")
    data = screen(16, 12) + (large if number == 0 else frame(PIXELS) + large) + TRAILER
    monkeypatch.setattr(PIL.Image.Image, "frombytes", None)
    with pytest.raises(InputError, match="max_pixels"):
        see(data, frame=number, max_pixels=10**6)


def test_the_size_is_that_of_the_canvas():
    data = screen(6, 5) + frame(PIXELS, (3, 4)) + TRAILER
    assert size(Image.from_bytes(data), ImagePolicy()) == (19, 16)
    assert see(data).shape == (16, 19, 3)


@pytest.mark.parametrize(
    ("data", "reusable"),
    [
        (WHOLE, True),
        (screen(16, 12) + control(0, 1) + frame(PIXELS) + TRAILER, False),
        (screen(16, 12) + frame(SMALL) + TRAILER, False),
        (screen(6, 5) + frame(PIXELS) + TRAILER, False),
        (WHOLE[:-1] + frame(SMALL) + TRAILER, False),
        (WHOLE + b"junk", False),
        (screen(16, 12, COLOURS[:6]) + frame(PIXELS) + TRAILER, False),
    ],
    ids=["plain", "transparent", "small frame", "small canvas", "animated", "trailing", "index beyond the palette"],
)
def test_a_file_is_sent_as_it_is_only_if_every_program_shows_the_same(data, reusable):
    sent = send_as_it_is(data)
    assert (sent == data) == reusable
    assert (see(sent) == see(data)).all()


EMPTY = {"comments": b"!\xfe\0", "controls": b"!\xf9\4" + bytes(5), "images": b",\0\0\0\0\1\0\1\0\0\2\2D\1\0"}


@pytest.mark.parametrize("kind", EMPTY)
def test_blocks_are_counted_also_where_they_hold_nothing(kind):
    """2 million of them would take 10 s."""
    policy = ImagePolicy(max_bytes=10**8, frame=2_000_000 if kind == "images" else 0)
    data = screen(1, 1) + EMPTY[kind] * 2_000_000 + EMPTY["images"] + TRAILER
    began = time.process_time()
    with pytest.raises(InputError, match="over 100,000 blocks"):
        open_image(Image.from_bytes(data), policy)
    assert time.process_time() - began < 5


def test_what_follows_the_image_is_not_walked_to_its_end():
    began = time.process_time()
    data = screen(1, 1) + EMPTY["images"] + EMPTY["comments"] * 2_000_000
    assert open_image(Image.from_bytes(data), ImagePolicy()).size == (1, 1)
    assert time.process_time() - began < 5
