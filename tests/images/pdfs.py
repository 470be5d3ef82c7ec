"""PDF files, written by hand so that a test says what is in them."""

from __future__ import annotations

from hashlib import md5
from struct import pack

PADDING = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")
HELVETICA = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
A6 = (298, 420)


def pdf(objects: dict[int, bytes], trailer: bytes = b"") -> bytes:
    """A file of numbered objects, of which 1 is the catalog."""
    file, at = bytearray(b"%PDF-1.7\n"), {}
    for number, body in objects.items():
        at[number] = len(file)
        file += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table, size = len(file), max(objects) + 1
    file += b"xref\n0 %d\n" % size
    for number in range(size):
        file += b"%010d 00000 n \n" % at[number] if number in at else b"0000000000 65535 f \n"
    return b"%strailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (file, size, trailer, table)


def stream(data: bytes, entries: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), entries, data)


def pages(*contents: bytes, size=A6, entries: bytes = b"", catalog: bytes = b"", more=None, trailer=b"") -> bytes:
    """A file with a page for each content; `entries` are in every page, `more` are further objects from 100."""
    kids = b" ".join(b"%d 0 R" % (10 + 2 * n) for n in range(len(contents)))
    objects = {
        1: b"<< /Type /Catalog /Pages 2 0 R %s >>" % catalog,
        2: b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(contents)),
        3: HELVETICA,
    }
    for n, content in enumerate(contents):
        objects[10 + 2 * n] = (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %.4f %.4f] /Resources << /Font << /F 3 0 R >> "
            b"/XObject << /X 100 0 R >> >> /Contents %d 0 R %s >>" % (*size, 11 + 2 * n, entries)
        )
        objects[11 + 2 * n] = stream(content)
    return pdf({**objects, **(more or {})}, trailer)


def words(text: bytes) -> bytes:
    """Content that shows a text."""
    return b"BT /F 24 Tf 40 200 Td (%s) Tj ET" % text


def filled(red: float, green: float, blue: float, box: bytes = b"0 0 2000 2000") -> bytes:
    """Content that fills a rectangle: left, bottom, width, height."""
    return b"%g %g %g rg %s re f" % (red, green, blue, box)


ENDLESS = b"/X Do"
"""Content that takes for ever, of a file with `NESTED`."""


def nested(depth: int = 24, times: int = 10) -> dict[int, bytes]:
    """Forms within forms, each drawn several times by the next: times^depth rectangles."""
    objects = {}
    for level in range(100, 100 + depth):
        inner = b"/Resources << /XObject << /X %d 0 R >> >>" % (level + 1)
        objects[level] = stream(b"/X Do " * times, b"/Type /XObject /Subtype /Form /BBox [0 0 612 792] " + inner)
    objects[100 + depth] = stream(b"0 0 9 9 re f", b"/Type /XObject /Subtype /Form /BBox [0 0 612 792]")
    return objects


def endless(*others: bytes) -> bytes:
    """A file whose first page takes for ever, and others."""
    return pages(ENDLESS, *others, more=nested(12))


def field(value: bytes, *, kind: bytes = b"/FT /Tx", appearance: bytes | None = None, need: bool = False) -> bytes:
    """A file with one field of a form."""
    flags = b"/NeedAppearances true" if need else b""
    drawn = b"" if appearance is None else b"/AP << /N 102 0 R >>"
    form = b"/AcroForm << /Fields [101 0 R] /DA (/F 24 Tf 0 g) /DR << /Font << /F 3 0 R >> >> %s >>" % flags
    widget = b"<< /Type /Annot /Subtype /Widget %s /T (name) /F 4 /Rect [20 80 280 120] /DA (/F 24 Tf 0 g) %s %s >>" % (
        kind,
        b"/V " + value if value else b"",
        drawn,
    )
    look = stream(
        b"/Tx BMC q BT /F 24 Tf 0 g 4 8 Td (%s) Tj ET Q EMC" % (appearance or b""),
        b"/Type /XObject /Subtype /Form /BBox [0 0 260 40] /Resources << /Font << /F 3 0 R >> >>",
    )
    more = {101: widget, 102: look}
    return pages(b"", size=(300, 200), entries=b"/Annots [101 0 R]", catalog=form, more=more)


def annotated(annotation: bytes) -> bytes:
    """A file whose page has an annotation."""
    return pages(b"", size=(300, 200), entries=b"/Annots [%s]" % annotation)


def locked(password: bytes, content: bytes) -> bytes:
    """A file that is encrypted as in 1994, with 40 bits: one page."""
    owner = rc4(md5(padded(b"owner")).digest()[:5], padded(password))
    name, rights = b"0123456789abcdef", -4
    key = md5(padded(password) + owner + pack("<i", rights) + name).digest()[:5]
    content = rc4(md5(key + pack("<I", 11)[:3] + b"\0\0").digest()[:10], content)
    encrypt = b"<< /Filter /Standard /V 1 /R 2 /O <%s> /U <%s> /P %d >>" % (
        owner.hex().encode(),
        rc4(key, PADDING).hex().encode(),
        rights,
    )
    identity = name.hex().encode()
    return pages(content, more={101: encrypt}, trailer=b"/Encrypt 101 0 R /ID [<%s> <%s>]" % (identity, identity))


def padded(password: bytes) -> bytes:
    return (password + PADDING)[:32]


def rc4(key: bytes, data: bytes) -> bytes:
    state, j = list(range(256)), 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out, i, j = bytearray(), 0, 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)
