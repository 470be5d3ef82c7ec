"""Jina's wire: what `POST /v1/embeddings` takes and gives. Another provider's envelope is another such module.

The functions of this module are used by the client and by the test server alike, so the two cannot drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pybase64
from numpy.typing import NDArray

from jinaclip.config import EmbedderConfig
from jinaclip.specs import ModelSpec

Row = NDArray[Any]
HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # base64 of float32 hardly shrinks, and unpacking costs five times the decoding
}
BYTES_PER_NUMBER = 32
"""Room for one number of an answer, in any encoding."""
BYTES_AROUND = 64 * 1024
LONGEST_INDEX = 10
"""Digits."""


class Malformed(ValueError):
    """An answer that is not what the wire promises; the text says in what. `hopeless` ones are not asked for again."""

    def __init__(self, message: str, *, hopeless: bool = False) -> None:
        super().__init__(message)
        self.hopeless = hopeless


class WrongIndices(Malformed):
    """The indices of an answer are not those of the inputs, so nobody can say which row is whose."""


class WrongDimensions(ValueError):
    """Every row of an answer has the same width, and it is not the one asked for."""

    def __init__(self, width: int) -> None:
        super().__init__(f"vectors of {width} numbers")
        self.width = width


@dataclass(frozen=True, slots=True)
class Answer:
    """A checked answer: one row per input, in input order; `bad` rows are not finite or all zero."""

    rows: Row
    squares: NDArray[Any]
    """Squared length of each row."""
    bad: tuple[int, ...]
    tokens: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the service said when it did not answer."""

    code: str
    message: str
    request_id: str | None
    index: int | None
    """Of the input that the service names as the culprit."""
    field: str | None
    """Of the request that the service names as wrong."""


def text_input(text: str) -> dict[str, str]:
    """A text among the inputs of a request."""
    return {"text": text}


def image_input(data: bytes) -> dict[str, str]:
    """An encoded picture among the inputs of a request."""
    return {"image": pybase64.b64encode(data).decode()}


def url_input(url: str) -> dict[str, str]:
    """A picture that the service downloads itself."""
    return {"image": url}


def settings(config: EmbedderConfig, spec: ModelSpec, *, query: bool) -> dict[str, Any]:
    """All of a request but its inputs. `dimensions` and `task` only exist where the model has them."""
    body: dict[str, Any] = {
        "model": spec.name,
        "normalized": config.normalized,
        "embedding_type": "base64",
        "truncate": config.truncate,
    }
    if config.dimensions is not None and spec.min_dimensions < spec.dimensions:
        body["dimensions"] = config.dimensions
    if query and spec.query_task:
        body["task"] = spec.query_task
    return body


def write_request(body: dict[str, Any], inputs: list[dict[str, str]]) -> bytes:
    """A request as it is sent."""
    return orjson.dumps({**body, "input": inputs})


def most_bytes(items: int, dimensions: int) -> int:
    """More than any honest answer takes."""
    return items * dimensions * BYTES_PER_NUMBER + BYTES_AROUND


def write_answer(model: str, rows: Row, tokens: int) -> dict[str, Any]:
    """An answer as the service gives it, for base64 rows."""
    data = [
        {"object": "embedding", "index": i, "embedding": pybase64.b64encode(row.astype("<f4").tobytes()).decode()}
        for i, row in enumerate(rows)
    ]
    return {
        "model": model,
        "object": "list",
        "usage": {"total_tokens": tokens, "prompt_tokens": tokens},
        "data": data,
    }


def read_answer(raw: bytes, items: int, dimensions: int) -> Answer:
    """The vectors of an answer, checked: index set, count, dimension, finite, not zero.

    Raises:
        Malformed: it does not hold. An answer whose indices are off is never read by position.
        WrongDimensions: every row has one other width.
    """
    data, tokens = _open_answer(raw)
    order: list[Any] = [item.get("index") if isinstance(item, dict) else None for item in data]
    in_order = list(range(items))
    if not all(type(i) is int for i in order) or sorted(order) != in_order:
        raise WrongIndices(f"its indices are not 0 to {items - 1}, each once")
    cells = [_bytes_of(item.get("embedding")) for item in data]
    widths = {len(cell) // 4 for cell in cells}
    if len(widths) == 1 and (width := widths.pop()) not in (0, dimensions):
        raise WrongDimensions(width)
    rows = _stack(cells, dimensions)
    if order != in_order:
        rows = rows[np.argsort(order)]
    squares = np.einsum("ij,ij->i", rows, rows)
    sound = np.isfinite(squares) & (squares > 0)
    bad = () if sound.all() else tuple(map(int, np.flatnonzero(~sound)))
    return Answer(rows, squares, bad, tokens)


def _open_answer(raw: bytes) -> tuple[list[Any], int]:
    try:
        body = orjson.loads(raw)
    except ValueError as error:
        hopeless = any(words in str(error) for words in ("after document", "depth limit", "ecursion"))
        raise Malformed("it is not JSON, or more than JSON", hopeless=hopeless) from None
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list):
        raise Malformed("it has no list `data`")
    usage = body.get("usage")
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    return data, tokens if type(tokens) is int and tokens >= 0 else 0


def _bytes_of(value: Any) -> bytes:
    """One vector as little-endian float32, from base64 or from numbers; nothing if it is neither."""
    try:
        if isinstance(value, str):
            return pybase64.b64decode(value, validate=True)
        if isinstance(value, list):
            return _numbers(value).tobytes()
    except (ValueError, TypeError, OverflowError):
        return b""
    return b""


def _numbers(values: list[Any]) -> Row:
    numbers = np.array(values)
    if numbers.ndim != 1 or numbers.dtype.kind not in "fiu":
        raise ValueError("no flat list of numbers")
    with np.errstate(over="ignore"):  # becomes infinity, which is found out later
        return numbers.astype("<f4")


def _stack(cells: list[bytes], dimensions: int) -> Row:
    """The vectors as one matrix; one that could not be read, or is of another width than the rest, becomes NaN."""
    size = 4 * dimensions
    if any(len(cell) != size for cell in cells):
        missing = np.full(dimensions, np.nan, "<f4").tobytes()
        cells = [cell if len(cell) == size else missing for cell in cells]
    return np.frombuffer(b"".join(cells), "<f4").reshape(len(cells), dimensions)


def read_refusal(raw: bytes) -> Refusal:
    """What an error body says, whichever of the service's shapes it has, or a proxy's page."""
    try:
        body = orjson.loads(raw)
    except ValueError:
        return Refusal("", "", None, None, None)
    body = body if isinstance(body, dict) else {}
    detail = body.get("detail")
    inner = detail if isinstance(detail, dict) else body
    errors = body.get("errors") or (detail if isinstance(detail, list) else None) or []
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    message = _text(first.get("message") or first.get("msg") or inner.get("message") or inner.get("detail"))
    place = first.get("field") or first.get("loc") or ""
    index, name = _place(place)
    return Refusal(_text(inner.get("code")), message, _text(inner.get("request_id")) or None, index, name)


def _place(place: Any) -> tuple[int | None, str | None]:
    """Which input, or which field, `body -> input -> 3` or ["body", "input", 3] names."""
    parts = [str(part).strip() for part in (place if isinstance(place, list) else str(place).split("->"))]
    parts = [part for part in parts if part and part != "body"]
    numbers = [int(part) for part in parts if part.isdecimal() and len(part) < LONGEST_INDEX]
    if "input" in parts:
        return (numbers[0] if numbers else None), None
    return None, (parts[-1] if parts else None)


def _text(value: Any) -> str:
    return value[:500] if isinstance(value, str) else ""
