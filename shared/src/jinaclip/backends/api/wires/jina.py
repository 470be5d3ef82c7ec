"""Jina's wire: what `POST /v1/embeddings` takes and gives. Another provider's envelope is another such module.

Both ends of the wire are here, so that the two cannot drift apart:

client                                        service
settings, text_input, ..., write_request  ->  read_key, read_request
read_answer                               <-  write_answer, write_vector
read_refusal                              <-  write_refusal, write_nested_refusal, write_field_refusal
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson
import pybase64
from numpy.typing import NDArray

from jinaclip.config import EmbedderConfig
from jinaclip.specs import SPECS, ModelSpec

Row = NDArray[Any]
Encoding = Literal["float", "base64"]
Place = Sequence[str | int]
"""Where in a request: ("input", 3) is its fourth input, ("dimensions",) a field, () the whole body."""
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
MAX_INPUTS = 512
"""Of one request."""
SCHEME = "Bearer"
"""Of the Authorization header."""
ARROW = "->"
"""Between the parts of a place, where a refusal writes it as text."""
URL_SCHEMES = ("https://", "http://")
IMAGE_FIELDS = ("image", "url", "bytes")
"""Where an input has its image; the last two are what older clients send."""


class Code(StrEnum):
    """What the service calls the reasons of its refusals."""

    MISSING_KEY = "AUTH_MISSING_API_KEY"
    INVALID_KEY = "AUTH_INVALID_API_KEY"
    INVALID_SCHEME = "AUTH_INVALID_FORMAT"
    BALANCE = "AUTHZ_INSUFFICIENT_BALANCE"
    MODEL_NOT_FOUND = "INPUT_MODEL_NOT_FOUND"
    TEXT_TOO_LONG = "INPUT_TOKEN_LIMIT_EXCEEDED"
    NOT_FOUND = "RESOURCE_NOT_FOUND"
    BUSY = "CONFLICT_RESOURCE_BUSY"
    RATE_REQUESTS = "RATE_REQUEST_LIMIT_EXCEEDED"
    RATE_TOKENS = "RATE_TOKEN_LIMIT_EXCEEDED"
    RATE_CONCURRENCY = "RATE_CONCURRENCY_LIMIT_EXCEEDED"
    RATE_IP = "RATE_IP_LIMIT_EXCEEDED"
    INTERNAL = "INTERNAL_ERROR"
    UNAVAILABLE = "SERVICE_UNAVAILABLE"
    TIMEOUT = "SERVICE_TIMEOUT"


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


class InvalidRequest(ValueError):
    """A request that the service refuses.

    Attributes:
        status: of the HTTP response.
        body: of the response, as one of the `write_*refusal` functions gives it.
        kind: a word for counting such refusals.
    """

    def __init__(self, status: int, body: dict[str, Any], kind: str) -> None:
        super().__init__(kind)
        self.status = status
        self.body = body
        self.kind = str(kind)


class Input(NamedTuple):
    """One input of a request, as the service reads it."""

    kind: Literal["text", "image", "url"]
    value: str
    """The text, the encoded image in base64, or the URL of the image."""


@dataclass(frozen=True, slots=True)
class RequestBody:
    """What a request asks, as the service reads it."""

    spec: ModelSpec
    inputs: list[Input]
    task: str | None
    dimensions: int
    normalized: bool
    truncate: bool
    encoding: Encoding
    fields: dict[str, Any]
    """All of the request but its inputs, as sent."""
    raw_inputs: list[Any]
    """The inputs as sent; refusals repeat the value they are about."""


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
    """An encoded image among the inputs of a request."""
    return {"image": pybase64.b64encode(data).decode()}


def url_input(url: str) -> dict[str, str]:
    """An image that the service downloads itself."""
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


def read_key(authorization: str) -> str:
    """The key in an Authorization header, "" where there is no such header.

    Raises:
        InvalidRequest: it holds no key.
    """
    if not authorization:
        raise InvalidRequest(401, write_refusal("No API key was given.", Code.MISSING_KEY), Code.MISSING_KEY)
    scheme, _, key = authorization.partition(" ")
    if scheme != SCHEME or not key:
        message = f"The header must be '{SCHEME} <key>'."
        raise InvalidRequest(401, write_refusal(message, Code.INVALID_SCHEME), Code.INVALID_SCHEME)
    return key


def read_request(raw: bytes, *, max_inputs: int = MAX_INPUTS) -> RequestBody:
    """A request as the service understands it. Images are not decoded, and texts not measured.

    Args:
        raw: the body as it came.
        max_inputs: most inputs of one request; 0 lifts the limit.

    Raises:
        InvalidRequest: it is not valid.
    """
    fields, raw_inputs = _open_request(raw)
    spec = _read_model(fields)
    _check_count(raw_inputs, max_inputs)
    task, dimensions, encoding = _read_task(fields, spec), _read_dimensions(fields, spec), _read_encoding(fields)
    return RequestBody(
        spec=spec,
        inputs=[_read_input(value, index) for index, value in enumerate(raw_inputs)],
        task=task,
        dimensions=dimensions,
        normalized=fields.get("normalized") is not False,
        truncate=fields.get("truncate") is True,
        encoding=encoding,
        fields=fields,
        raw_inputs=raw_inputs,
    )


def _open_request(raw: bytes) -> tuple[dict[str, Any], list[Any]]:
    """The fields of a request without its inputs, and those; a lone input is a list of one."""
    try:
        fields = orjson.loads(raw)
        inputs = fields.pop("input")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise invalid_field((), "JSON decode error", "json_invalid", None) from None
    return fields, inputs if isinstance(inputs, list) else [inputs]


def _read_model(fields: dict[str, Any]) -> ModelSpec:
    name = fields.get("model")
    spec = SPECS.get(name) if isinstance(name, str) else None
    if spec is None:
        body = write_nested_refusal(f"Model {name!r} was not found.", Code.MODEL_NOT_FOUND)
        raise InvalidRequest(400, body, Code.MODEL_NOT_FOUND)
    return spec


def _check_count(inputs: list[Any], most: int) -> None:
    if not inputs:
        message = "List should have at least 1 item after validation, not 0"
        raise invalid_field(("input",), message, "too_short", [])
    if most and len(inputs) > most:
        message = f"List should have at most {most} items after validation, not {len(inputs)}"
        raise invalid_field(("input",), message, "too_long", inputs)


def _read_task(fields: dict[str, Any], spec: ModelSpec) -> str | None:
    """The task; a model without tasks ignores it."""
    task = fields.get("task")
    if spec.query_task is None or task is None:
        return None
    if task != spec.query_task:
        raise invalid_field(("task",), f"Input should be '{spec.query_task}'", "literal_error", task)
    return spec.query_task


def _read_dimensions(fields: dict[str, Any], spec: ModelSpec) -> int:
    """The width; a model that cannot be cut ignores it."""
    dimensions = fields.get("dimensions")
    if dimensions is None or spec.min_dimensions == spec.dimensions:
        return spec.dimensions
    if type(dimensions) is not int or not 1 <= dimensions <= spec.dimensions:
        message = f"Input should be between 1 and {spec.dimensions}"
        raise invalid_field(("dimensions",), message, "dimensions_range", dimensions)
    return dimensions


def _read_encoding(fields: dict[str, Any]) -> Encoding:
    """The form of the vectors. A list of forms breaks the service, though it is documented."""
    encoding = fields.get("embedding_type", "float")
    if isinstance(encoding, list):
        raise InvalidRequest(500, write_nested_refusal("Internal server error", Code.INTERNAL), Code.INTERNAL)
    if encoding == "float":
        return "float"
    if encoding == "base64":
        return "base64"
    raise invalid_field(("embedding_type",), "Input should be 'float' or 'base64'", "literal_error", encoding)


def _read_input(value: Any, index: int) -> Input:
    if isinstance(value, str):
        return Input("text", value)
    if isinstance(value, dict):
        if isinstance(text := value.get("text"), str):
            return Input("text", text)
        for name in IMAGE_FIELDS:
            if isinstance(image := value.get(name), str):
                return Input("url", image) if image.startswith(URL_SCHEMES) else Input("image", _without_prefix(image))
    raise invalid_field(("input", index), "Input should be a text or an image", "union_error", value)


def _without_prefix(letters: str) -> str:
    """The base64 of an image, without the `data:image/png;base64,` that it may come with."""
    return letters.partition(",")[2] if letters.startswith("data:") else letters


def read_image(letters: str) -> bytes:
    """The encoded image of an input.

    Raises:
        ValueError: it is not base64.
    """
    return pybase64.b64decode(letters, validate=True)


def most_bytes(items: int, dimensions: int) -> int:
    """More than any honest answer takes."""
    return items * dimensions * BYTES_PER_NUMBER + BYTES_AROUND


def write_vector(row: Row, encoding: Encoding = "base64") -> str | list[float]:
    """One vector of an answer: base64 of little-endian float32, or numbers."""
    if encoding == "base64":
        return pybase64.b64encode(row.astype("<f4").tobytes()).decode()
    numbers: list[float] = row.tolist()
    return numbers


def write_answer(model: str, rows: Row, tokens: int, encoding: Encoding = "base64") -> dict[str, Any]:
    """An answer as the service gives it."""
    data = [{"object": "embedding", "index": i, "embedding": write_vector(row, encoding)} for i, row in enumerate(rows)]
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
        raise Malformed("its body is not one JSON document", hopeless=hopeless) from None
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


def write_refusal(message: str, code: str | None = None) -> dict[str, Any]:
    """A refusal in the shape of the authentication layer, and of every error in Jina's specification."""
    body = {"detail": message, "code": code, "request_id": uuid.uuid4().hex}
    return {name: value for name, value in body.items() if value is not None}


def write_nested_refusal(message: str, code: str) -> dict[str, Any]:
    """A refusal in the shape of the application itself."""
    return {"detail": {"message": message, "code": code, "request_id": uuid.uuid4().hex}}


def write_field_refusal(place: Place, message: str, kind: str, value: Any) -> dict[str, Any]:
    """A refusal in the shape of validation: `errors[]` says what is wrong where, and repeats the value."""
    field = f" {ARROW} ".join(["body", *map(str, place)])
    error = {"field": field, "message": message, "type": kind, "input": value}
    return {"detail": f"Validation error: '{field}'", "request_id": uuid.uuid4().hex, "errors": [error]}


def invalid_field(place: Place, message: str, kind: str, value: Any) -> InvalidRequest:
    """The error for a request whose value at this place is not valid; a 422."""
    return InvalidRequest(422, write_field_refusal(place, message, kind, value), kind)


def read_refusal(raw: bytes) -> Refusal:
    """What an error body says, whichever of the service's shapes it has, or a proxy's page; neither clean nor cut."""
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
    parts = [str(part).strip() for part in (place if isinstance(place, list) else str(place).split(ARROW))]
    parts = [part for part in parts if part and part != "body"]
    numbers = [int(part) for part in parts if part.isdecimal() and len(part) < LONGEST_INDEX]
    if "input" in parts:
        return (numbers[0] if numbers else None), None
    return None, (parts[-1] if parts else None)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
