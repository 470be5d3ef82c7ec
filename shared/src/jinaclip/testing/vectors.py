"""Vectors that encode what they stand for, so that a test can check every row it gets.

The first numbers of a vector come from a digest of its input; the rest is one of a few fixed rows, so that the service
can keep their base64 and tens of thousands of vectors a second cost it little.
"""

from __future__ import annotations

import functools
import io
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal

import numpy as np
import orjson
import pybase64
from PIL import Image

from jinaclip.backends.api.wires.jina import write_answer
from jinaclip.specs import ModelSpec, find_spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Kind = Literal["text", "image", "url"]
HEAD = 6  # numbers from the digest: 24 bytes are 32 base64 letters, so a tail's letters can follow them
HEAD_NORM = 0.8
ROWS = 64
WIDEST = 1024


def expected_vector(
    kind: Kind,
    content: str | bytes | Image.Image,
    model: str = "jina-clip-v2",
    task: str | None = None,
    dimensions: int | None = None,
    *,
    normalized: bool = True,
) -> NDArray[np.float32]:
    """(d,): the vector that the service gives for an input, unless it answers with a model.

    Args:
        kind: "text", "image" or "url".
        content: the text or URL; of an image the encoded bytes, or the pixels as they are sent.
        model: its name.
        task: None, or the model's task for queries, "retrieval.query" on v2.
        dimensions: width; None is the model's.
        normalized: whether it is of unit length.
    """
    spec = find_spec(model)
    name = digest(kind, content_bytes(kind, content), spec.name, task)
    return vectors([name], spec, dimensions or spec.dimensions, normalized=normalized)[0]


def content_bytes(kind: Kind, content: str | bytes | Image.Image) -> bytes:
    """What counts of an input: the UTF-8 of a text or URL; of an image a digest of its size and RGB pixels."""
    if kind != "image":
        if not isinstance(content, str):
            raise TypeError(f"a {kind} is a str, not {type(content).__name__}")
        return content.encode("utf-8", "surrogatepass")
    if isinstance(content, str):
        raise TypeError("an image is given by its bytes or pixels, not by a str")
    with Image.open(io.BytesIO(content)) if isinstance(content, bytes) else content.copy() as image:
        pixels = image.convert("RGB").tobytes()
        return blake2b(b"%d %d " % image.size + pixels, digest_size=16).digest()


def digest(kind: Kind, content: bytes, model: str, task: str | None) -> bytes:
    """The name of an input in the ledger, and the seed of its vector."""
    setting = f"{kind}\0{model}\0{task or ''}\0".encode()
    return blake2b(setting + content, digest_size=16).digest()


def vectors(digests: Sequence[bytes], spec: ModelSpec, dimensions: int, *, normalized: bool) -> NDArray[np.float32]:
    """One row of float32 per digest; made unit after the cut, or of some other length and left as cut."""
    heads, rows = _heads(digests)
    full = np.hstack([heads, _tails()[rows]])[:, : spec.dimensions]
    if not normalized:
        return (_unit(full) * _raw_norms()[rows, None])[:, :dimensions].astype(np.float32)
    return _unit(full[:, :dimensions]).astype(np.float32)


def write_fast(digests: Sequence[bytes], spec: ModelSpec, dimensions: int, tokens: int, *, normalized: bool) -> bytes:
    """What `write_answer` gives for these vectors, as JSON, in a third of the time."""
    heads, rows = _heads(digests)
    gains, tails = _encoded_tails(spec, dimensions, normalized)
    letters = pybase64.b64encode((heads * gains[rows, None]).astype("<f4").tobytes())
    cell = _cell_template()
    around = orjson.dumps(write_answer(spec.name, np.empty((0, dimensions), np.float32), tokens))
    before, after = around.split(b"[]")
    cells = [
        cell % (b"," if i else before + b"[", i, letters[i * 32 : i * 32 + 32], tails[row])  # 32 letters: HEAD numbers
        for i, row in enumerate(rows.tolist())
    ]
    return b"".join([*cells, b"]", after])


def _heads(digests: Sequence[bytes]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """(n, HEAD) numbers of length HEAD_NORM, and which tail follows."""
    words = np.frombuffer(b"".join(digests), "<u2").reshape(-1, 8)
    heads = (words[:, :HEAD] + 0.5) / 65536 - 0.5  # never 0
    return _unit(heads) * HEAD_NORM, words[:, HEAD].astype(np.intp) % ROWS


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@functools.cache
def _tails() -> NDArray[np.float64]:
    """(ROWS, WIDEST - HEAD), such that the widest vectors are of unit length."""
    return _unit(np.random.default_rng(7).standard_normal((ROWS, WIDEST - HEAD))) * (1 - HEAD_NORM**2) ** 0.5


@functools.cache
def _raw_norms() -> NDArray[np.float64]:
    """Length of the vectors that end in each tail, where they are not normalised."""
    return np.random.default_rng(8).uniform(2, 30, ROWS)


@functools.cache
def _encoded_tails(spec: ModelSpec, dimensions: int, normalized: bool) -> tuple[NDArray[np.float64], list[bytes]]:
    """By tail: what the whole vector is multiplied with, and the tail after that, in base64."""
    width = dimensions if normalized else spec.dimensions
    lengths = np.sqrt(HEAD_NORM**2 + (_tails()[:, : width - HEAD] ** 2).sum(axis=1))
    gains = (1 if normalized else _raw_norms()) / lengths
    scaled = (_tails()[:, : dimensions - HEAD] * gains[:, None]).astype("<f4")
    return gains, [pybase64.b64encode(row.tobytes()) for row in scaled]


@functools.cache
def _cell_template() -> bytes:
    """One row of an answer as `write_answer` shapes it, with places for what precedes it, index, head and tail."""
    cell = orjson.dumps(write_answer("", np.zeros((1, 3), np.float32), 0)["data"][0])
    return b"%b" + cell.replace(b":0,", b":%d,").replace(b'"%b"' % (b"A" * 16), b'"%b%b"')
