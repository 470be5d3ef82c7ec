"""Images written as text: base64, `data:` and `file:` URIs, and images that stand in a longer text."""

from __future__ import annotations

import binascii
import mimetypes
import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np

from jinaclip.errors import ImageTooLargeError, InputError

DATA_HEADER = 256
"""Longest header of a data: URI; longer ones are not headers."""
LONGEST_NAME, LONGEST_PATH = 255, 32_767
"""Longest name and longest path of a file that any usual system takes, in characters."""
LONGEST_SHOWN = 200
"""Longest name of an image that is shown whole."""
MOST_BLANKS = 9 / 8
"""How much longer base64 of an image of the largest size may be for its line breaks and indents."""
BLOCK = 2**16
"""Characters that are decoded at a time, so that the memory it takes does not grow with the text."""
_LETTER, _GAP = r"[A-Za-z0-9+/=_%-]", r"(?:\s|\\[nr]){1,64}"
ENCODED_IMAGE = re.compile(
    # the header of a data: URI, or how JPEG, PNG, GIF and WebP begin; JSON has its line breaks as \n
    rf"(?:(?i:data:(?:image/|application/octet-stream|;)[^,\s]{{0,250}},)(?:{_GAP})?"
    r"|(?=(?:(?<![A-Za-z0-9])|(?<=\\n))[/_]9j[/_]|iVBORw0KGgo|R0lGOD|UklGR))"
    # lines of base64, and one that is not full where it stands alone; or all of it in one,
    # where percent encoding keeps . and ~
    rf"(?:(?:{_LETTER}{{60,76}}(?![A-Za-z0-9+/=_%.~-])|{_LETTER}{{16,}}{_GAP}{_LETTER}{{40,}})(?:{_GAP}{_LETTER}{{40,}})*"
    rf"(?:{_GAP}{_LETTER}{{1,75}}(?=\s*\Z|[ \t]*[\r\n\\\"'<>)]))?|[A-Za-z0-9+/=_%.~-]{{40,}}(?<![.~]))"
)
"""An image file in base64 within a text."""
_HEADER = re.compile(r"\s*data:(?P<mime>[^,;/\s]*/[^,;\s]*|)\s*(?P<parameters>(?:;[^,]*)?),", re.IGNORECASE)
"""The header of a data: URI. Its type, if it has one, has a slash, which no name of a file has."""
_OF_IMAGE = re.compile(r"\s*data:(?:image/|application/octet-stream|;)[^,\s]{0,250},", re.IGNORECASE)
_GAP_IN_LINE = re.compile(r"[^\S\r\n]")
SLASHES = "/\\" if os.name == "nt" else "/"
_WHITESPACE = b" \t\n\r\v\f"
_STANDARD = bytes.maketrans(b"-_", b"+/")
_DIGITS = np.full(256, 255, np.uint8)
"""Values of hexadecimal digits, by byte; 255 of what is none."""
for _digit in b"0123456789abcdefABCDEF":
    _DIGITS[_digit] = int(chr(_digit), 16)


# -- base64


def decode_base64(text: str | bytes, max_bytes: int | None = None, start: int = 0) -> bytes:
    """What base64 holds: of the standard or the URL-safe alphabet, in lines or not, with or without padding.

    Takes time linear in the text, and at most twice its memory.

    Args:
        text: the base64.
        max_bytes: the cap `image_policy.max_bytes`, which the length of the text is held against before any work; None
            is no cap.
        start: where the base64 begins.

    Raises:
        InputError: it is no base64, or would hold too much.
    """
    check_bytes(_count_base64(text, start, max_bytes), max_bytes)
    raw = text[start:]
    if isinstance(raw, str):
        raw = raw.encode("ascii", "replace")
    raw = raw.translate(_STANDARD, _WHITESPACE)
    if not raw.endswith(b"="):
        raw += b"=" * (-len(raw) % 4)
    try:
        return binascii.a2b_base64(raw, strict_mode=True)
    except binascii.Error:
        raise InputError("the base64 of an image cannot be decoded; is it complete?") from None


def check_bytes(size: int, max_bytes: int | None) -> None:
    """Raises ImageTooLargeError if an image of so many bytes is larger than the cap; None is no cap."""
    if max_bytes is not None and size > max_bytes:
        raise ImageTooLargeError(f"the image is larger than image_policy.max_bytes={max_bytes} bytes")


def _count_base64(text: str | bytes, start: int, max_bytes: int | None) -> int:
    """How many bytes base64 stands for, or far more than the cap; 0 if there is none."""
    length = len(text) - start
    size = length * 3 // 4
    if max_bytes is None:
        return 0
    if size <= max_bytes or size > max_bytes * MOST_BLANKS:
        return size
    return (length - _count_blanks(text, start)) * 3 // 4


def _count_blanks(text: str | bytes, start: int) -> int:
    """Characters of base64 that stand for nothing: whitespace and padding."""
    beside = _WHITESPACE + b"="
    if isinstance(text, str):
        return sum(text.count(letter, start) for letter in beside.decode())
    return sum(text.count(letter, start) for letter in beside)


# -- data: URIs


def find_header(text: str) -> re.Match[str] | None:
    """The header of a str that is a data: URI, or None."""
    return _HEADER.match(text, 0, DATA_HEADER + len("data:,"))


def decode_data_uri(text: str, header: re.Match[str], max_bytes: int | None = None) -> bytes:
    """The content of a data: URI of an image.

    Takes time linear in the text, and at most three times its memory.

    Args:
        text: the URI.
        header: where it ends, as `find_header` gives it.
        max_bytes: the cap `image_policy.max_bytes`, which the length is held against before any work; None is no cap.

    Raises:
        InputError: it is of another type, cannot be decoded, or would hold too much.
    """
    mime, start = header["mime"].lower(), header.end()
    if mime and not mime.startswith("image/") and mime != "application/octet-stream":
        is_known = mimetypes.guess_extension(mime) is not None  # another may be anything, a secret say
        raise InputError(f"a data: URI of {f'type {mime!r}' if is_known else 'another type'} is no image")
    is_base64 = "base64" in [part.strip().lower() for part in header["parameters"].split(";")]
    check_bytes((len(text) - start) // (4 if is_base64 else 3), max_bytes)  # so many characters a byte are the most
    if not text.isascii():
        raise InputError("a data: URI holds ASCII alone; percent-encode the rest, or pass the bytes")
    if not is_base64:
        return unquote(text, start, max_bytes)
    if text.find("%", start) < 0:
        return decode_base64(text, max_bytes, start)
    return decode_base64(unquote(text, start), max_bytes)


def unquote(text: str, start: int = 0, max_bytes: int | None = None) -> bytes:
    """The bytes that a percent-encoded text stands for, as a browser reads it: line breaks and tabs are left out.

    Args:
        text: ASCII.
        start: where it begins.
        max_bytes: as for `decode_data_uri`.

    Raises:
        InputError: it would hold too much.
    """
    end = len(text.rstrip())
    if max_bytes is not None:
        beside = 2 * text.count("%", start, end) + sum(text.count(other, start, end) for other in "\t\r\n")
        check_bytes(end - start - beside, max_bytes)
    found, rest = bytearray(), b""
    for at in range(start, end, BLOCK):
        block = rest + text[at : min(at + BLOCK, end)].encode("ascii").translate(None, b"\t\r\n")
        cut = block.find(b"%", max(0, len(block) - 2))  # an escape that may go on in the next block
        block, rest = (block, b"") if cut < 0 else (block[:cut], block[cut:])
        found += _unquote_block(block)
    found += rest
    check_bytes(len(found), max_bytes)
    return bytes(found)


def _unquote_block(block: bytes) -> bytes:
    if b"%" not in block:
        return block
    letters = np.frombuffer(block, np.uint8)
    digits = _DIGITS[letters]
    (escapes,) = np.nonzero((letters[:-2] == ord("%")) & (digits[1:-1] < 16) & (digits[2:] < 16))
    decoded, keeps = letters.copy(), np.ones(len(letters), bool)
    decoded[escapes] = digits[escapes + 1] << 4 | digits[escapes + 2]
    keeps[escapes + 1] = keeps[escapes + 2] = False
    return decoded[keeps].tobytes()


def is_data_uri(text: str) -> bool:
    """Whether the whole of a str is the data: URI of an image."""
    header = _OF_IMAGE.match(text)
    return header is not None and _GAP_IN_LINE.search(text.rstrip(), header.end()) is None


# -- file: URIs


def path_of(uri: str) -> Path:
    """The path that a `file://` URI names, percent-decoded.

    Raises:
        InputError: it names another machine, no absolute path, or has a query or a fragment.
    """
    shown = repr(uri[:LONGEST_SHOWN])
    host, slash, path = uri.strip()[len("file://") :].partition("/")
    if "?" in path or "#" in path:
        raise InputError(f"{shown} has a query or a fragment; in the name of a file write %3F for ? and %23 for #")
    name = _unquote_path(path) if len(path) <= 3 * LONGEST_PATH else ""
    # a second slash, written as it is or as %2F, begins the name of another machine on Windows
    if not slash or host.lower() not in ("", "localhost") or not name or "\0" in name or name[0] in SLASHES:
        raise InputError(
            f"{shown} names no file of this machine; write file:///absolute/path, or pass the path as it is"
        )
    has_drive = os.name == "nt" and name[1:2] in (":", "|")
    return Path(f"{name[0]}:{name[2:]}" if has_drive else f"/{name}")


def _unquote_path(path: str) -> str:
    """The path, percent-decoded; "" for one that the system cannot write down."""
    try:
        return os.fsdecode(unquote_to_bytes(os.fsencode(path)))
    except UnicodeError:
        return ""


# -- images in a text


def remove_images(text: str, instead: str = "[image]") -> str:
    """The text with `instead` for every image in it, for models and traces, which have no use for base64.

    An image is a `data:` URI, or the bare base64 of a JPEG, PNG, GIF or WebP file, also when it is wrapped into lines,
    of the standard or the URL-safe alphabet; with fewer than 40 letters it stays.
    """
    return ENCODED_IMAGE.sub(lambda _: instead, text)
