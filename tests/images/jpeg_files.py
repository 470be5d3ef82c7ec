"""JPEG files that are odd in one way each, changed segment by segment from files that libjpeg once made."""

from __future__ import annotations

import struct
from base64 import b64decode

from tests.images.cases import Crafted, craft, exif

BASELINE = b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5a"
    "YVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wAAR"
    "CAAUABgDASIAAhEBAxEB/8QAFwABAQEBAAAAAAAAAAAAAAAAAAUGAf/EACAQAAIBAwUBAQAAAAAAAAAAAAADAQIEIQUSMVFhcRH/xAAaAQAB"
    "BQEAAAAAAAAAAAAAAAACAQMEBQYH/8QAIBEAAgAFBQEAAAAAAAAAAAAAAAEDBBESEwIFIjFBUf/aAAwDAQACEQMRAD8AxNtp+6qI/Ij6UVaf"
    "tmIxPwposeMFFFj4R3rdQ5HcIWKjTu++EpFj4DSoseMATIX8Ge49nEJo6KCE0YwAMHOZNsooTR0AATSwW7T/2Q=="
)
FULL = b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5a"
    "YVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wAAR"
    "CAAUABgDAREAAhEBAxEB/8QAGAABAAMBAAAAAAAAAAAAAAAABQEDBAb/xAAgEAABAwMFAQAAAAAAAAAAAAADAAEEAgUhEjFRYXER/8QAGgEA"
    "AgMBAQAAAAAAAAAAAAAAAwUAAgcBBP/EAB8RAAIDAAICAwAAAAAAAAAAAAABAgMRBBIhMVFhcf/aAAwDAQACEQMRAD8A4mNb9VTN8ZvUKU8W"
    "heD2vsVcX5YiK36XZsP4qxtUvQ6sqs42d2vPwbwQelbseum8sBB2whN6Z7xuVKElKDx/QiCD0q6l6HEebZZneTf69EAQdsKdhjTeQANHCHpn"
    "9M2IADRjC5o2pmxEAaOFNGtM2f/Z"
)
GREY = b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5a"
    "YVpQYEpRUk//wAALCAAUABgBAREA/8QAGAABAAMBAAAAAAAAAAAAAAAABQEDBAb/xAAgEAABAwMFAQAAAAAAAAAAAAADAAEEAgUhEjFRYXER"
    "/9oACAEBAAA/AOJjW/VUzfGb1Iit+l2bD+LeCD0rAQdsJEEHpIAg7YUADRwkABoxhIgDRwv/2Q=="
)
PROGRESSIVE = b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5a"
    "YVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wgAR"
    "CAAUABgDASIAAhEBAxEB/8QAFgABAQEAAAAAAAAAAAAAAAAAAAQF/8QAGAEAAgMAAAAAAAAAAAAAAAAAAQUCAwb/2gAMAwEAAhADEAAAAcSi"
    "qisytIGCghnKAGX/xAAXEAEBAQEAAAAAAAAAAAAAAAABAAID/9oACAEBAAEFAs845xiMRiMQQQX/xAAbEQACAQUAAAAAAAAAAAAAAAAAAgME"
    "EiExYf/aAAgBAwEBPwGCoW3ok+CETR//xAAXEQADAQAAAAAAAAAAAAAAAAAAEBES/9oACAECAQE/Aaaf/8QAFBABAAAAAAAAAAAAAAAAAAAA"
    "MP/aAAgBAQAGPwIf/8QAFxABAQEBAAAAAAAAAAAAAAAAAAERIP/aAAgBAQABPyHSsOf+aab/2gAMAwEAAgADAAAAEFTgPf/EABkRAQEAAwEA"
    "AAAAAAAAAAAAAAEAIUFRYf/aAAgBAwEBPxDBo+tXRJkz/8QAFhEBAQEAAAAAAAAAAAAAAAAAAREg/9oACAECAQE/EF3D/8QAGxAAAgIDAQAA"
    "AAAAAAAAAAAAAAERITFRYXH/2gAIAQEAAT8QiFCXpMSp+HIxUcjFRqlWjVP/2Q=="
)
RESTARTS = b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5a"
    "YVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wAAR"
    "CAAUABgDAREAAhEBAxEB/8QAFwAAAwEAAAAAAAAAAAAAAAAABAUGAf/EACAQAAEDAwUBAAAAAAAAAAAAAAMAAQQCBSESMVFhcRH/xAAYAQAD"
    "AQEAAAAAAAAAAAAAAAADBAUGAP/EAB8RAAIDAAICAwAAAAAAAAAAAAABAgMRBBIhMVFhcf/dAAQAAf/aAAwDAQACEQMRAD8AiY1v1VM3xm9Q"
    "pTxaF4Pa+xVxfln/0JoVv0uzYfxAjapei/ZVZxs7tefg/9FSCD0hdjVU3n//0loIO2Eq3pH43KlCSlB4/o//08BB6Sepejo82yzO8m/16f/U"
    "PBB2wk+xRpvP/9U4AaOFP0yFM2f/1nwA0Ywp2kambP/XrwBo4U7QdM2f/9k="
)
INK = b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwANCQoLCggNCwoLDg4NDxMgFRMSEhMnHB4XIC4pMTAuKS0sMzpKPjM2RjcsLUBXQUZMTlJTUjI+WmFa"
    "UGBKUVJP/8AAFAgAFAAYBEMRAE0RAFkRAEsRAP/EABsAAAICAwEAAAAAAAAAAAAAAAAGBAUCAwcB/8QAKRAAAQMDAgQGAwAAAAAAAAAAAQAC"
    "AwQFETFBEhMUUQYVIVJhYiIykf/aAA4EQwBNAFkASwAAPwBu8UV8Vrt81bUNe6OPGQwAn1IG5HdO8NxdNKI2OHEdMlP0k5c7APqV05I0d6pr"
    "w2Z1MyZgixnmADXPYnss6itkp+HmOH5ZxgqFVSOjALiPVCoLputPm32VbNU/KF1+9wxVET4qiJksbtWPaHA76FIzLy5jg5kha4aEHBW6WqIO"
    "Q4g/CEl1lJTUoeKanhhDteWwNz/F7Je5Zcc2Z78acTicKDUVjnfs8nGmShKl03WHm32VfNU/KF2O6bpN6mX3KTNI7uhJt03R1MvuUCaR3dCT"
    "rpujqZfcoE0ju6F//9k="
)
SOI, EOI = b"\xff\xd8", b"\xff\xd9"
DHT, DQT, SOS, DRI, DNL = 0xC4, 0xDB, 0xDA, 0xDD, 0xDC
SOF0, SOF1, SOF2 = 0xC0, 0xC1, 0xC2

Part = tuple[int, bytes, bytes]
"""A segment: its marker, its content, and the data of the scan behind it."""


def parts(data: bytes) -> list[Part]:
    """The segments between start and end."""
    found, at = [], 2
    while data[at + 1] != 0xD9:
        marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4])
        following = end
        if marker == SOS:
            while data[following] != 0xFF or data[following + 1] == 0 or 0xD0 <= data[following + 1] <= 0xD7:
                following += 1
        found.append((marker, data[at + 4 : end], data[end:following]))
        at = following
    return found


def segment(marker: int, body: bytes = b"", scan: bytes = b"") -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body + scan


def jpeg(*segments: Part | bytes, end: bytes = EOI) -> bytes:
    return SOI + b"".join(one if isinstance(one, bytes) else segment(*one) for one in segments) + end


def of(data: bytes, marker: int) -> Part:
    """The first segment of a kind."""
    return next(part for part in parts(data) if part[0] == marker)


def without(data: bytes, *markers: int) -> list[Part]:
    return [part for part in parts(data) if part[0] not in markers]


def before(data: bytes, marker: int, *extra: Part | bytes) -> bytes:
    """The file with segments put before the first of a kind."""
    found = parts(data)
    at = next(number for number, part in enumerate(found) if part[0] == marker)
    return jpeg(*found[:at], *extra, *found[at:])


def changed(data: bytes, marker: int, body: bytes) -> bytes:
    """The file with another content of the first segment of a kind."""
    found = parts(data)
    at = next(number for number, part in enumerate(found) if part[0] == marker)
    found[at] = (marker, body, found[at][2])
    return jpeg(*found)


def in_scan(data: bytes, at: int, junk: bytes) -> bytes:
    """The file with bytes put into the data of its first scan."""
    found = parts(data)
    number = next(number for number, part in enumerate(found) if part[0] == SOS)
    marker, body, scan = found[number]
    found[number] = (marker, body, scan[:at] + junk + scan[at:])
    return jpeg(*found)


def turn(orientation: int, order: str = "<") -> Part:
    return 0xE1, b"Exif\0\0" + exif(orientation, order=order), b""


def adobe(transform: int) -> Part:
    return 0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]), b""


Row = tuple[str, bytes, int]
"""Name, file and frame."""


def _row(name: str, data: bytes, at: int = 0) -> Row:
    return name, data, at


def cases() -> list[Crafted]:
    made = [*_forms(), *_colours(), *_scans(), *_segments(), *_metadata(), *_ends()]
    return craft("JPEG", made, REFUSED, LEVELS)


def _forms() -> list[Row]:
    sof = of(BASELINE, SOF0)[1]
    return [
        _row("baseline", BASELINE),
        _row("no subsampling", FULL),
        _row("grey", GREY),
        _row("progressive", PROGRESSIVE),
        _row("restarts", RESTARTS),
        _row(
            "extended",
            jpeg(
                *(
                    (SOF1, body, scan) if marker == SOF0 else (marker, body, scan)
                    for marker, body, scan in parts(BASELINE)
                )
            ),
        ),
        _row(
            "baseline named progressive",
            jpeg(
                *(
                    (SOF2, body, scan) if marker == SOF0 else (marker, body, scan)
                    for marker, body, scan in parts(BASELINE)
                )
            ),
        ),
        _row(
            "lossless",
            jpeg(
                *(
                    (0xC3, body, scan) if marker == SOF0 else (marker, body, scan)
                    for marker, body, scan in parts(BASELINE)
                )
            ),
        ),
        _row(
            "arithmetic",
            jpeg(
                *(
                    (0xC9, body, scan) if marker == SOF0 else (marker, body, scan)
                    for marker, body, scan in parts(BASELINE)
                )
            ),
        ),
        _row("12 bits", changed(BASELINE, SOF0, b"\x0c" + sof[1:])),
        _row("no height", changed(BASELINE, SOF0, sof[:1] + b"\0\0" + sof[3:])),
        _row(
            "no height, named behind the scan",
            changed(BASELINE, SOF0, sof[:1] + b"\0\0" + sof[3:])[:-2] + segment(DNL, sof[1:3]) + EOI,
        ),
        _row("height named again behind the scan", BASELINE[:-2] + segment(DNL, b"\0\x08") + EOI),
        _row("height lower", changed(BASELINE, SOF0, sof[:1] + b"\0\x0c" + sof[3:])),
        _row("height larger", changed(BASELINE, SOF0, sof[:1] + b"\0\x30" + sof[3:])),
        _row("width lower", changed(BASELINE, SOF0, sof[:3] + b"\0\x10" + sof[5:])),
        _row("sampling 3", changed(BASELINE, SOF0, sof[:7] + b"\x31" + sof[8:])),
        _row("sampling 5", changed(BASELINE, SOF0, sof[:7] + b"\x55" + sof[8:])),
        _row("frame too long", changed(BASELINE, SOF0, sof + b"\0")),
        _row("frame too short", changed(BASELINE, SOF0, sof[:-1])),
        _row("two components of one number", changed(BASELINE, SOF0, sof[:9] + b"\1" + sof[10:])),
        _row("quantisation table that is not there", changed(BASELINE, SOF0, sof[:8] + b"\3" + sof[9:])),
    ]


def _colours() -> list[Row]:
    ink = without(INK, 0xEE)
    plain = without(FULL, 0xE0)
    letters = of(FULL, SOF0)[1]
    lettered = letters[:6] + b"R" + letters[7:9] + b"G" + letters[10:12] + b"B" + letters[13:]
    scan = of(FULL, SOS)
    scan_letters = b"\3R" + scan[1][2:3] + b"G" + scan[1][4:5] + b"B" + scan[1][6:]
    named = [
        (marker, lettered if marker == SOF0 else scan_letters if marker == SOS else body, data)
        for marker, body, data in plain
    ]
    return [
        _row("ink", INK),
        *(_row(f"ink, adobe {transform}", jpeg(adobe(transform), *ink)) for transform in (0, 1, 2, 3)),
        _row("ink, no adobe", jpeg(*ink)),
        *(_row(f"adobe {transform}", jpeg(adobe(transform), *plain)) for transform in (0, 1, 2)),
        _row("no marker of colours", jpeg(*plain)),
        _row("jfif and adobe 0", jpeg(of(FULL, 0xE0), adobe(0), *plain)),
        _row("adobe 0, then 1", jpeg(adobe(0), adobe(1), *plain)),
        _row("adobe 1, then 0", jpeg(adobe(1), adobe(0), *plain)),
        _row("adobe behind the frame", before(jpeg(*plain), SOS, adobe(0))),
        _row("adobe behind the scan", jpeg(*plain, adobe(0))),
        _row("adobe short", jpeg((0xEE, b"Adobe\0\x64\0\0", b""), *plain)),
        _row("components named RGB", jpeg(*named)),
        _row("components named RGB, jfif", jpeg(of(FULL, 0xE0), *named)),
        _row("jfif twice", jpeg(of(FULL, 0xE0), of(FULL, 0xE0), *plain)),
        _row("jfif short", jpeg((0xE0, b"JFIF\0\1\1", b""), *plain)),
        _row("jfif with density", jpeg((0xE0, b"JFIF\0\1\1\1\0\x48\0\x90\0\0", b""), *plain)),
    ]


def _scans() -> list[Row]:
    scan = of(FULL, SOS)
    restart = RESTARTS.index(b"\xff\xd0")
    start = RESTARTS.index(scan_start := of(RESTARTS, SOS)[2])
    sos = of(BASELINE, SOS)
    return [
        _row("marker 02 in the scan", RESTARTS[:restart] + b"\xff\2\0\2" + RESTARTS[restart:]),
        _row("marker 02 inside a unit", in_scan(BASELINE, 20, b"\xff\2\0\2")),
        _row("comment in the scan", RESTARTS[:restart] + b"\xff\xfe\0\2" + RESTARTS[restart:]),
        _row("marker APP5 in the scan", in_scan(BASELINE, 20, b"\xff\xe5\0\4ab")),
        _row("restart out of order", RESTARTS.replace(b"\xff\xd1", b"\xff\xd3", 1)),
        _row("restart missing", RESTARTS.replace(b"\xff\xd1", b"", 1)),
        _row("restart twice", RESTARTS.replace(b"\xff\xd1", b"\xff\xd1\xff\xd1", 1)),
        _row("restart where none is due", in_scan(BASELINE, 20, b"\xff\xd0")),
        _row("restarts without their interval", jpeg(*without(RESTARTS, DRI))),
        _row("restart interval twice", before(RESTARTS, SOS, (DRI, b"\0\0", b""))),
        _row("restart interval too long", changed(RESTARTS, DRI, b"\0\1\0")),
        _row("fill bytes in the scan", RESTARTS[:restart] + b"\xff\xff\xff" + RESTARTS[restart:]),
        _row("zeros in the scan", in_scan(BASELINE, 20, bytes(9))),
        _row("bytes missing in the scan", jpeg(*without(BASELINE, SOS), (SOS, sos[1], sos[2][:20] + sos[2][40:]))),
        _row("bytes behind the scan", jpeg(*without(BASELINE, SOS), (SOS, sos[1], sos[2] + b"\x55" * 30))),
        _row("scan short", jpeg(*without(BASELINE, SOS), (SOS, sos[1], sos[2][:-30]))),
        _row("scan empty", jpeg(*without(BASELINE, SOS), (SOS, sos[1], b""))),
        _row("scan twice", jpeg(*parts(BASELINE), sos)),
        _row("second scan of one component", jpeg(*parts(FULL), (SOS, b"\1\1\0\0\x3f\0", scan[2]))),
        _row("scan of too many components", changed(BASELINE, SOS, b"\4" + sos[1][1:])),
        _row("scan of an unknown component", changed(BASELINE, SOS, sos[1][:1] + b"\x09" + sos[1][2:])),
        _row("scan of a missing table", changed(BASELINE, SOS, sos[1][:2] + b"\x22" + sos[1][3:])),
        _row("scan of odd limits", changed(BASELINE, SOS, sos[1][:-3] + b"\0\x10\0")),
        _row("one scan of three", jpeg(*without(FULL, SOS), (SOS, b"\1\1\0\0\x3f\0", scan[2]))),
        _row("progressive, first scan alone", _first_scan(PROGRESSIVE)),
        _row(
            "progressive, last scan twice",
            jpeg(*parts(PROGRESSIVE), [part for part in parts(PROGRESSIVE) if part[0] == SOS][-1]),
        ),
        _row("progressive, first scan twice", jpeg(*parts(PROGRESSIVE), of(PROGRESSIVE, SOS))),
        _row("progressive, a scan missing", _without_scan(PROGRESSIVE, 2)),
        _row("first byte of the scan", RESTARTS[:start] + bytes([scan_start[0] ^ 0x40]) + RESTARTS[start + 1 :]),
    ]


def _first_scan(data: bytes) -> bytes:
    found = parts(data)
    at = next(number for number, part in enumerate(found) if part[0] == SOS)
    return jpeg(*found[: at + 1])


def _without_scan(data: bytes, which: int) -> bytes:
    found = parts(data)
    at = [number for number, part in enumerate(found) if part[0] == SOS][which]
    return jpeg(*found[:at], *found[at + 1 :])


def _segments() -> list[Row]:
    sof, dqt, dht = of(BASELINE, SOF0), of(BASELINE, DQT), of(BASELINE, DHT)
    smaller = (SOF0, sof[1][:1] + b"\0\x10\0\x10" + sof[1][5:], b"")
    return [
        _row("frame twice", before(BASELINE, SOF0, sof)),
        _row("frame twice, other size", before(BASELINE, SOF0, smaller)),
        _row("frame again behind the scan", jpeg(*parts(BASELINE), sof)),
        _row("no frame", jpeg(*without(BASELINE, SOF0))),
        _row("no quantisation", jpeg(*without(BASELINE, DQT))),
        _row("no huffman table", jpeg(*without(BASELINE, DHT))),
        _row("quantisation twice, other", before(BASELINE, SOF0, (DQT, dqt[1][:1] + b"\1" * 64, b""))),
        _row("quantisation behind the frame", before(jpeg(*parts(BASELINE)), SOS, (DQT, dqt[1][:1] + b"\1" * 64, b""))),
        _row("quantisation short", changed(BASELINE, DQT, dqt[1][:40])),
        _row("huffman table twice", before(BASELINE, SOS, dht)),
        _row("huffman table damaged", changed(BASELINE, DHT, dht[1][:1] + b"\xff" * 16 + dht[1][17:])),
        _row("unknown segment", before(BASELINE, SOF0, (0xE9, b"what is this", b""))),
        _row("comment", before(BASELINE, SOF0, (0xFE, b"a comment", b""))),
        _row("99 comments", before(BASELINE, SOF0, *[(0xFE, b"a comment", b"")] * 99)),
        _row("reserved marker 02", before(BASELINE, SOF0, (2, b"what", b""))),
        _row("reserved marker F0", before(BASELINE, SOF0, (0xF0, b"what", b""))),
        _row("standalone marker 01", before(BASELINE, SOF0, b"\xff\1")),
        _row("restart before the frame", before(BASELINE, SOF0, b"\xff\xd0")),
        _row("start again", before(BASELINE, SOF0, SOI)),
        _row("file in the file", BASELINE[:2] + BASELINE),
        _row("fill bytes before a segment", before(BASELINE, SOF0, b"\xff\xff\xff")),
        _row("junk between segments", before(BASELINE, SOF0, b"junk")),
        _row("zeros between segments", before(BASELINE, SOF0, bytes(5))),
        _row("segment of length 0", before(BASELINE, SOF0, b"\xff\xe5\0\0")),
        _row("segment of length 1", before(BASELINE, SOF0, b"\xff\xe5\0\1")),
        _row("segment beyond the file", before(BASELINE, SOF0, b"\xff\xe5\xff\xff")),
        _row("expansion segment", before(BASELINE, SOF0, (0xDF, b"\x11", b""))),
        _row("hierarchy segment", before(BASELINE, SOF0, (0xDE, sof[1], b""))),
    ]


def _metadata() -> list[Row]:
    turns = [_row(f"exif {number}", before(BASELINE, DQT, turn(number))) for number in range(10)]
    jfxx = (0xE0, b"JFXX\0\x10" + GREY, b"")
    profile = (0xE2, b"ICC_PROFILE\0\1\1" + b"junk" * 40, b"")
    number = struct.pack(">HHIHH", 0x0112, 4, 1, 0, 6)
    long = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + number + bytes(4)
    return [
        *turns,
        _row("exif 6, big endian", before(BASELINE, DQT, turn(6, ">"))),
        _row("exif 6 before jfif", before(BASELINE, 0xE0, turn(6))),
        _row("exif 3, then 6", before(BASELINE, DQT, turn(3), turn(6))),
        _row("exif 6 twice", before(BASELINE, DQT, turn(6), turn(6))),
        _row("exif empty, then 6", before(BASELINE, DQT, (0xE1, b"Exif\0\0", b""), turn(6))),
        _row("exif behind the frame", before(BASELINE, SOS, turn(6))),
        _row("exif behind the scan", jpeg(*parts(BASELINE), turn(6))),
        _row("exif of junk", before(BASELINE, DQT, (0xE1, b"Exif\0\0" + b"\xff" * 40, b""))),
        _row("exif of a long number", before(BASELINE, DQT, (0xE1, long, b""))),
        _row("exif in APP2", before(BASELINE, DQT, (0xE2, turn(6)[1], b""))),
        _row("exif with a byte instead of zero", before(BASELINE, DQT, (0xE1, b"Exif\0\1" + exif(6), b""))),
        _row("exif in lower case", before(BASELINE, DQT, (0xE1, b"exif\0\0" + exif(6), b""))),
        _row("xmp", before(BASELINE, DQT, (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>", b""))),
        _row("thumbnail", before(BASELINE, DQT, jfxx)),
        _row("profile of junk", before(BASELINE, DQT, profile)),
    ]


def _ends() -> list[Row]:
    return [
        _row("no end", BASELINE[:-2]),
        _row("trailing data", BASELINE + b"PK\3\4" + bytes(30)),
        _row("second file behind", BASELINE + GREY),
        _row("cut in the scan", BASELINE[:-60]),
        _row("cut in the scan, progressive", PROGRESSIVE[:-150]),
        _row("cut before the scan", BASELINE[: BASELINE.index(b"\xff\xda")]),
        _row("cut in the header", BASELINE[:60]),
        _row("start alone", SOI + b"\xff"),
        _row("start and end alone", SOI + EOI),
        _row("no second frame", BASELINE, at=1),
    ]


REFUSED = """
baseline named progressive
lossless
arithmetic
12 bits
no height
no height, named behind the scan
height named again behind the scan
sampling 5
frame too long
frame too short
two components of one number
quantisation table that is not there
jfif and adobe 0
adobe 0, then 1
adobe 1, then 0
marker 02 in the scan
marker 02 inside a unit
comment in the scan
restart out of order
restart missing
restart twice
restarts without their interval
restart interval twice
restart interval too long
scan twice
second scan of one component
scan of too many components
scan of an unknown component
scan of a missing table
one scan of three
progressive, first scan alone
progressive, last scan twice
progressive, first scan twice
progressive, a scan missing
frame twice
frame twice, other size
frame again behind the scan
no frame
no quantisation
quantisation short
huffman table damaged
reserved marker 02
reserved marker F0
standalone marker 01
restart before the frame
start again
file in the file
segment of length 0
segment of length 1
segment beyond the file
expansion segment
hierarchy segment
exif 3, then 6
exif empty, then 6
no end
cut in the scan
cut in the scan, progressive
cut before the scan
cut in the header
start alone
start and end alone
no second frame @1
"""
"""What we refuse, line by line; @1 is the second frame."""
LEVELS = {"": 3}
"""Levels between us and the browser, whose libjpeg may round otherwise; equal where this was written."""
