"""WebP files: what is rebuilt, and what is refused. Pixels as in a browser: test_browser.py."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from jinaclip import Image, ImagePolicy, InputError
from jinaclip.images import open_image, size, upload
from jinaclip.images.containers.webp import MAX_CHUNKS, strip
from tests.images.cases import exif
from tests.images.webp_files import (
    ALPHA_FLAG,
    ANIMATION,
    EXIF,
    ICCP,
    LOSSLESS_ALPHA,
    SMALL,
    VP8,
    VP8L,
    VP8L_ALPHA,
    VP8L_SMALL,
    anim,
    chunk,
    frame,
    header,
    riff,
)

FIRST_SMALL = riff(header(ANIMATION), anim(0xFF0000FF), frame(VP8L_SMALL, at=(4, 2), size=SMALL), frame(VP8L))
HIDDEN = riff(chunk(b"VP8L", LOSSLESS_ALPHA[:4] + bytes([LOSSLESS_ALPHA[4] & ~0x10]) + LOSSLESS_ALPHA[5:]))


def see(data, **policy):
    return np.asarray(open_image(Image.from_bytes(data), ImagePolicy(**policy)))


def test_what_no_frame_covers_is_clear_and_shows_the_background():
    pixels = see(FIRST_SMALL, background=(1, 2, 3)).copy()
    assert (pixels[2:7, 4:10] == see(riff(VP8L_SMALL))).all()
    pixels[2:7, 4:10] = (1, 2, 3)
    assert (pixels == (1, 2, 3)).all()


def test_metadata_is_not_handed_to_the_decoder():
    data = riff(header(EXIF | ICCP), chunk(b"ICCP", b"profile"), VP8, chunk(b"EXIF", exif(6)), chunk(b"what", b"is"))
    rebuilt = strip(data).data
    assert [kind for kind in (b"ICCP", b"EXIF", b"what") if kind in rebuilt] == []
    assert (see(rebuilt) == see(riff(VP8))).all()


def test_the_exif_block_turns_nothing_as_in_browsers():
    data = riff(header(EXIF), VP8, chunk(b"EXIF", exif(6)))
    assert size(Image.from_bytes(data), ImagePolicy()) == (16, 12)
    assert (see(data) == see(riff(VP8))).all()


def test_pixels_that_are_transparent_in_spite_of_the_header_are_refused():
    """Pillow shows the colours that hide under them, Chromium does not."""
    with pytest.raises(InputError, match="says that it has no alpha, and its pixels have"):
        see(HIDDEN)


def test_alpha_that_the_header_denies_is_refused():
    with pytest.raises(InputError, match="header says that it has no alpha, and its image has"):
        see(riff(header(0), VP8L_ALPHA))
    assert see(riff(header(ALPHA_FLAG), VP8L_ALPHA)).shape == (12, 16, 3)


def test_the_chunks_are_counted():
    data = riff(header(0), chunk(b"what", b"") * (MAX_CHUNKS + 1), VP8)
    with pytest.raises(InputError, match="over 100,000 chunks"):
        see(data)


def test_a_canvas_larger_than_the_policy_takes_is_refused_before_it_is_allocated():
    with pytest.raises(InputError, match=r"16384 x 16384 pixels, more than image_policy\.max_pixels"):
        see(riff(header(ANIMATION, 16384, 16384), anim(), frame(VP8L)))


def test_an_image_larger_than_its_canvas_is_refused():
    with pytest.raises(InputError, match="another size than its header says"):
        see(riff(header(0, 8, 8), VP8L))


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_file_cut_short_is_refused(cut):
    with pytest.raises(InputError, match="cut short"):
        see(riff(VP8L)[:-cut])


def test_what_lies_behind_the_file_is_not_read():
    assert (see(riff(VP8L) + riff(VP8)) == see(riff(VP8L))).all()
    whole = riff(VP8L)
    padded = whole[:4] + struct.pack("<I", len(whole) - 8 + 6) + whole[8:] + bytes(6)
    assert (see(padded) == see(whole)).all()


def test_a_plain_file_is_sent_as_it_is_and_others_are_not():
    def send(data):
        return upload(Image.from_bytes(data), policy=ImagePolicy(), mode="none", side=64, quality=None).data

    for plain in (riff(VP8), riff(VP8L)):
        assert send(plain) == plain
    for other in (FIRST_SMALL, riff(header(0), VP8), riff(VP8L_ALPHA)):
        assert send(other) != other
        assert (see(send(other)) == see(other)).all()
