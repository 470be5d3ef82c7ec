"""JPEG files show what browsers show, or are refused."""

from __future__ import annotations

import struct
from functools import partial
from io import BytesIO

import numpy as np
import PIL.Image
import pytest

from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError
from jinaclip.images import open_image
from jinaclip.images.containers import jpeg as container
from jinaclip.images.containers import orientation, strip
from jinaclip.images.containers.scans import MAX_SCANS_OF_LARGE, Frame, Scans
from jinaclip.inputs import as_image
from tests.core.corpus import TURNED, encoded, exif, resized, saved_frames, ycck
from tests.images.costs import cpu_seconds, peak_bytes, strip_or_refuse

POLICY = ImagePolicy()
SMOOTH = np.stack(np.broadcast_arrays(*np.ogrid[0:200:40j, 0:240:50j], 99.0), -1).astype(np.uint8)
CLOSE = 20 * 2**20 - 2**17
"""Bytes that a file of the default limit can hold beside an image."""


def see(data, policy=POLICY):
    return np.asarray(open_image(as_image(data), policy))


def segment(marker, body=b""):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def cut(data):
    """The segments before the first scan, by marker, and the rest."""
    at, found = 2, {}
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        found[data[at + 1]] = data[at:end]
        at = end
    return found, data[at:]


def put(at, extra, data):
    return data[:at] + extra + data[at:]


def before_scan(extra, data):
    return put(data.index(b"\xff\xda"), extra, data)


def before_end(extra, data):
    return put(len(data) - 2, extra, data)


def after_start(extra, data):
    return put(2, extra, data)


def adobe(transform):
    return segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))


def turn(*entries, name=b"Exif\0\0", more=b""):
    """An EXIF segment of entries (tag, type, count, value)."""
    directory = b"".join(struct.pack("<HHIHH", *entry, 0) for entry in entries)
    return segment(0xE1, name + b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + bytes(4) + more)


def orient(number, kind=3, count=1):
    return 0x0112, kind, count, number


PLAIN = encoded(SMOOTH, "JPEG", quality=95)
HEADER, SCAN = cut(PLAIN)
BODY = 2 + int.from_bytes(SCAN[2:4])
RESTARTS = encoded(SMOOTH, "JPEG", quality=95, restart_marker_blocks=1)
PLACES = [at for at in range(len(RESTARTS)) if b"\xff\xd0" <= RESTARTS[at : at + 2] <= b"\xff\xd7"]
PROGRESSIVE = encoded(SMOOTH, "JPEG", quality=95, progressive=True)
SCANS = [at for at in range(len(PROGRESSIVE)) if PROGRESSIVE[at : at + 2] == b"\xff\xda"]
NO_JFIF = PLAIN.replace(HEADER[0xE0], b"")
FRAME = HEADER[0xC0]
SIX, THREE = turn(orient(6)), turn(orient(3))

NO_PLACE = {f"marker {code:02X}": code for code in (0x01, 0x02, 0x50, 0xBF, 0xC8, 0xD8, 0xDC, 0xF0, 0xFD)}
REFUSED = {
    **{
        f"{name} {where}": (add(bytes([0xFF, code, 0, 2]), PLAIN), f"has the marker {code:02X} where none should be")
        for name, code in NO_PLACE.items()
        for where, add in {"before the scan": before_scan, "behind the scan": before_end}.items()
    },
    **{
        f"{code:02X} at a restart": (put(PLACES[5], segment(code), RESTARTS), "has 5 restart markers, not 11")
        for code in (0x02, 0xBF, 0xE0, 0xFE, 0xC4)
    },
    "frame behind the scan": (before_end(FRAME, PLAIN), "two frames"),
    "two frames": (before_scan(FRAME, PLAIN), "two frames"),
    "no frame": (PLAIN.replace(FRAME, b""), "scan before its frame"),
    "lossless": (PLAIN.replace(FRAME, b"\xff\xc3" + FRAME[2:]), "lossless or hierarchical"),
    "arithmetic": (PLAIN.replace(FRAME, b"\xff\xc9" + FRAME[2:]), "arithmetic"),
    "12 bits": (PLAIN.replace(FRAME, FRAME[:4] + b"\x0c" + FRAME[5:]), "12 bits a sample"),
    "two components of one number": (PLAIN.replace(FRAME, FRAME[:13] + FRAME[10:11] + FRAME[14:]), "one number"),
    "sampling 5": (PLAIN.replace(FRAME, FRAME[:11] + b"\x51" + FRAME[12:]), "sampling factors"),
    "no height": (resized(PLAIN, 0, 50), "cannot be read"),
    "restart missing": (RESTARTS[: PLACES[5]] + RESTARTS[PLACES[5] + 2 :], "out of order"),
    "restart twice": (put(PLACES[5], b"\xff\xd5", RESTARTS), "out of order"),
    "restarts cut out": (RESTARTS[: PLACES[2]] + RESTARTS[PLACES[10] :], "2 restart markers|restart markers, not 11"),
    "restarts unannounced": (RESTARTS.replace(segment(0xDD, b"\0\1"), b""), "has 11 restart markers, not 0"),
    "restarts announced": (before_scan(segment(0xDD, b"\0\1"), PLAIN), "has 0 restart markers, not 11"),
    "restart interval of 3 bytes": (before_scan(segment(0xDD, bytes(3)), PLAIN), "restart interval has a wrong"),
    "fill within the data": (put(PLAIN.index(b"\xff\0", len(PLAIN) - len(SCAN)), b"\xff", PLAIN), "fill bytes within"),
    "data between segments": (before_scan(b"ab\xff\0c", PLAIN), "data between its segments"),
    "comment in the scan": (
        put(len(PLAIN) - len(SCAN) + BODY + 60, segment(0xFE), PLAIN),
        "between its segments|damaged",
    ),
    "second image": (before_end(cut(encoded(SMOOTH[::-1], "JPEG", quality=95))[1][:-2], PLAIN), "same data twice"),
    "scan twice": (before_end(SCAN[:-2], PLAIN), "same data twice"),
    "scan of a stranger": (PLAIN.replace(SCAN[:BODY], SCAN[:5] + b"\x09" + SCAN[6:BODY]), "does not fit its frame"),
    "one scan of three": (PLAIN.replace(SCAN[:BODY], segment(0xDA, b"\1" + SCAN[5:7] + b"\0\x3f\0")), "cut short"),
    "progressive, coarse": (PROGRESSIVE[: SCANS[1]] + b"\xff\xd9", "cut short"),
    "progressive, last scan missing": (PROGRESSIVE[: SCANS[-1]] + b"\xff\xd9", "cut short"),
    "progressive, last scan twice": (before_end(PROGRESSIVE[SCANS[-1] : -2], PROGRESSIVE), "same data twice"),
    "progressive, second scan missing": (PROGRESSIVE[: SCANS[1]] + PROGRESSIVE[SCANS[2] :], "same data twice, or out"),
    "JFIF against Adobe": (before_scan(adobe(0), PLAIN), "YCbCr, its Adobe segment that it is RGB"),
    "Adobe against Adobe": (after_start(adobe(0) + adobe(1), NO_JFIF), "two Adobe segments"),
    "two turns": (after_start(SIX + THREE, PLAIN), "EXIF blocks turn it in different ways"),
    "two turns, one empty": (after_start(turn() + SIX, PLAIN), "EXIF blocks turn it in different ways"),
    "no end": (PLAIN[:-2], "cut short"),
}
SHOWN = {
    "junk behind the end": PLAIN + b"junk" + encoded(SMOOTH[::-1], "JPEG"),
    "junk before a segment": before_scan(b"junk", PLAIN),
    "junk before the end": before_end(b"junk", PLAIN),
    "fill before a segment": before_scan(b"\xff" * 999, PLAIN),
    "fill before the end": before_end(b"\xff" * 999, PLAIN),
    "fill before a restart": put(PLACES[5], b"\xff\xff", RESTARTS),
    "one more restart": before_end(bytes([0xFF, 0xD0 + len(PLACES) % 8]), RESTARTS),
    "comments everywhere": before_end(segment(0xFE, b"x"), before_scan(segment(0xFE, b"\xff\xd9"), PLAIN)),
    "frame in a comment": before_scan(segment(0xFE, FRAME), PLAIN),
    "tables again": before_end(HEADER[0xC4], before_scan(HEADER[0xDB], PLAIN)),
    "JFIF and Adobe": before_scan(adobe(1), PLAIN),
    "Adobe twice": after_start(adobe(1) * 2, NO_JFIF),
    "Adobe too late": before_end(adobe(0), NO_JFIF),
    "turn too late": before_end(SIX, PLAIN),
    "turn as a long number": after_start(turn(orient(6, kind=4)), PLAIN),
    "turn of two numbers": after_start(turn(orient(6, count=2)), PLAIN),
    "turn 9": after_start(turn(orient(9)), PLAIN),
}
TURNS = {
    "first of two": turn(orient(6), orient(3)),
    "first that means anything": turn(orient(0), orient(9), orient(6)),
    "sixth byte 1": turn(orient(6), name=b"Exif\0\1"),
    "in the EXIF directory": turn((0x8769, 4, 1, 26), more=struct.pack("<HHHIHH", 1, *orient(6), 0)),
    "before the EXIF directory": turn(orient(6), (0x8769, 4, 1, 38), more=struct.pack("<HHHIHH", 1, *orient(3), 0)),
    "before its continuation": SIX + segment(0xE1, b"Exif\0\0more"),
    "twice the same": SIX + SIX,
    "behind XMP": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>") + SIX,
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_programs_show_differently_or_not_at_all_is_refused(name):
    data, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        see(data)


@pytest.mark.parametrize("name", SHOWN)
def test_what_no_browser_minds_is_shown_as_browsers_do(name):
    assert (see(SHOWN[name]) == see(PLAIN)).all()


@pytest.mark.parametrize("name", TURNS)
def test_the_turn_that_counts_is_the_one_of_browsers(name):
    assert (see(after_start(TURNS[name], PLAIN)) == TURNED[6](see(PLAIN))).all()


ORDINARY = {
    "plain": PLAIN,
    "restarts": RESTARTS,
    "progressive": PROGRESSIVE,
    "progressive, restarts": encoded(SMOOTH, "JPEG", progressive=True, restart_marker_rows=1),
    "halved colours": encoded(SMOOTH, "JPEG", subsampling=2),
    "optimised": encoded(SMOOTH, "JPEG", optimize=True, subsampling=1),
    "RGB": encoded(SMOOTH, "JPEG", keep_rgb=True),
    "grey": encoded(PIL.Image.fromarray(SMOOTH).convert("L"), "JPEG"),
    "CMYK": encoded(PIL.Image.fromarray(SMOOTH).convert("CMYK"), "JPEG"),
    "YCCK": ycck(),
    "RGB by its numbers": NO_JFIF.replace(
        FRAME, FRAME[:10] + b"R" + FRAME[11:13] + b"G" + FRAME[14:16] + b"B\x11\1"
    ).replace(SCAN[:BODY], SCAN[:5] + b"R" + SCAN[6:7] + b"G" + SCAN[8:9] + b"B" + SCAN[10:BODY]),
    "metadata": encoded(SMOOTH, "JPEG", icc_profile=bytes(200_000), comment=b"c", exif=exif(3), xmp=b"<x/>"),
    "second image": saved_frames("MPO"),
    "one pixel": encoded(SMOOTH[:1, :1], "JPEG"),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_stripping_an_ordinary_file_changes_no_pixel(name):
    bare, block = strip(ORDINARY[name], "JPEG", truncated=False)
    with PIL.Image.open(BytesIO(ORDINARY[name])) as whole, PIL.Image.open(BytesIO(bare)) as opened:
        assert opened.mode == whole.mode
        assert opened.tobytes() == whole.tobytes()
    assert len(bare) <= len(ORDINARY[name])
    assert orientation(block) == (3 if name == "metadata" else 1)


def test_a_file_that_breaks_off_shows_what_it_holds_if_that_is_wanted():
    policy = ImagePolicy(truncated=True)
    assert (see(PROGRESSIVE[: SCANS[-1] + 20], policy).shape) == SMOOTH.shape
    assert (see(RESTARTS[: PLACES[8]], policy)[:16] == see(RESTARTS)[:16]).all()
    with pytest.raises(InputError, match="out of order"):
        see(REFUSED["restart twice"][0][: PLACES[9]], policy)


def scans_of(width, height):
    body = struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0"
    return Scans(Frame(0xC2, body))


@pytest.mark.parametrize(("side", "most"), [(100, 100), (7000, 48), (20_000, MAX_SCANS_OF_LARGE)])
def test_the_scans_of_a_large_image_are_fewer(side, most):
    scans = scans_of(side, side)
    for _ in range(most):
        scans.add(b"\1\1\0\0\0\0")
    with pytest.raises(InputError, match=f"over {most} scans"):
        scans.add(b"\1\1\0\0\0\0")


WIDE = resized(RESTARTS, 40_000, 40_000)
EIGHT = b"".join(bytes([0xFF, 0xD0 + number]) for number in range(8))
HOSTILE = {
    "empty segments": (after_start(segment(0xE0) * (CLOSE // 4), PLAIN), f"over {container.MAX_SEGMENTS} segments"),
    "comments": (after_start(segment(0xFE) * (CLOSE // 4), PLAIN), f"over {container.MAX_SEGMENTS} segments"),
    "comments behind the scan": (before_end(segment(0xFE) * (CLOSE // 4), PLAIN), "segments, which no encoder makes"),
    "restart intervals": (after_start(segment(0xDD, b"\0\0") * (CLOSE // 6), PLAIN), "segments|bytes of tables"),
    "tables": (after_start(segment(0xDB, (b"\0" + b"\1" * 64) * 1000) * (CLOSE // 65_004), PLAIN), "bytes of tables"),
    "fill": (after_start(b"\xff" * CLOSE, PLAIN), "fill bytes"),
    "fill in the scan": (before_end(b"\xff" * CLOSE, PLAIN), "fill bytes"),
    "FF00 before the scan": (before_scan(b"\xff\0" * (CLOSE // 2), PLAIN), "between its segments"),
    "restarts": (WIDE[: PLACES[0]] + EIGHT * (CLOSE // 16) + b"\xff\xd9", "restart markers, not|max_pixels"),
    "turns": (
        after_start(segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\1" * 65_517) * (CLOSE // 65_537), PLAIN),
        f"over {container.MAX_EXIF_BLOCKS} EXIF blocks",
    ),
}
LARGE = {
    "metadata": after_start(segment(0xE5, bytes(65_533)) * (CLOSE // 65_537), PLAIN),
    "junk": before_scan(bytes(CLOSE), PLAIN),
    "FF00 behind the scan": before_end(b"\xff\0" * (CLOSE // 2), PLAIN),
    "zeros behind the scan": before_end(bytes(CLOSE), PLAIN),
    "tables behind the scan": before_end(segment(0xDB, (b"\0" + b"\1" * 64) * 1000) * (CLOSE // 65_004), PLAIN),
    "junk behind the end": PLAIN + b"\xff" * CLOSE,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_encoder_makes_is_refused_before_it_costs_anything(name):
    data, message = HOSTILE[name]
    with pytest.raises(InputError, match=message):
        see(data)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*HOSTILE, *LARGE])
def test_a_file_of_20_mb_costs_little_time_and_at_most_itself_again(name):
    data = HOSTILE[name][0] if name in HOSTILE else LARGE[name]
    measure = partial(strip_or_refuse, data, "JPEG")
    assert cpu_seconds(measure) < 2
    assert peak_bytes(measure) < 1.1 * len(data) + 2**21


@pytest.mark.parametrize("name", LARGE)
def test_what_is_large_and_sound_is_decoded_in_little_time(name):
    def decode():
        assert (see(LARGE[name]) == see(PLAIN)).all()

    assert cpu_seconds(decode) < 3
