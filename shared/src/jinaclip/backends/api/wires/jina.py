"""Jina's wire: what `POST /v1/embeddings` takes and gives. Another provider's envelope is another such module.

Both ends of the wire are here, so that the two cannot drift apart:

client, a `Wire`                              service
settings, text_input, ..., write_request  ->  read_key, read_request
read_answer                               <-  write_answer, write_vector
read_refusal                              <-  write_refusal, write_nested_refusal, write_field_refusal
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import orjson
import pybase64

from jinaclip.backends.api.wires.base import (
    NO_HEADERS,
    Answer,
    Reason,
    Refusal,
    Row,
    Traits,
    check_rows,
    count_tokens,
    open_answer,
    open_refusal,
    order_by_index,
    read_cell,
    read_rows,
    read_text,
)
from jinaclip.config import EmbedderConfig
from jinaclip.secret import Secret
from jinaclip.specs import SPECS, ModelSpec
from jinaclip.vectors import pack_bits, to_signed

Encoding = Literal["float", "base64", "binary", "ubinary"]
"""How the service writes a vector. The last two are a bit a number, eight to a byte, signed and unsigned."""
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
Place = Sequence[str | int]
"""Where in a request: ("input", 3) is its fourth input, ("dimensions",) a field, () the whole body."""
traits = Traits(provider="jina", says_task=True, says_dimensions=True, says_normalized=True, says_truncate=True)
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


REASONS: Mapping[str, Reason] = {
    Code.BALANCE: Reason.BALANCE,
    Code.MODEL_NOT_FOUND: Reason.MODEL,
    Code.TEXT_TOO_LONG: Reason.TEXT_TOO_LONG,
}


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


def url(base_url: str) -> str:
    """Where requests go."""
    return base_url


def authorize(config: EmbedderConfig) -> Secret:
    """The value of the header Authorization; an empty Secret for a server without keys.

    Raises:
        AuthenticationError: there is no key, and no request without one.
    """
    return config.authorization


def open_signer(base_url: str) -> None:
    """Nothing: requests are not signed."""
    return


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


def write_request(body: dict[str, Any], inputs: list[Any]) -> bytes:
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
    if encoding in ENCODINGS:
        return encoding
    message = f"Input should be {', '.join(map(repr, ENCODINGS))}"
    raise invalid_field(("embedding_type",), message, "literal_error", encoding)


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


def write_vector(row: Row, encoding: Encoding = "base64") -> str | list[float]:
    """One vector of an answer: base64 of little-endian float32, or numbers.

    Those of "ubinary" are bytes of eight bits, the first number's the highest, set where it is above zero; "binary"
    has 128 less. The service writes them with a decimal point.
    """
    if encoding == "base64":
        return pybase64.b64encode(row.astype("<f4").tobytes()).decode()
    if encoding in ("binary", "ubinary"):
        octets = pack_bits(row)
        row = (to_signed(octets) if encoding == "binary" else octets).astype(np.float32)
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
    body, data = open_answer(raw)
    rows = read_rows([read_cell(item.get("embedding")) for item in order_by_index(data, items)], dimensions)
    return check_rows(rows, count_tokens(body.get("usage")), read_text(body.get("space")) or None)


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


def read_refusal(raw: bytes, status: int = 0, headers: Mapping[str, str] = NO_HEADERS) -> Refusal:
    """What an error body says, whichever of the service's shapes it has, or a proxy's page; neither clean nor cut."""
    body = open_refusal(raw)
    detail = body.get("detail")
    inner = detail if isinstance(detail, dict) else body
    errors = body.get("errors") or (detail if isinstance(detail, list) else None) or []
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    message = read_text(first.get("message") or first.get("msg") or inner.get("message") or inner.get("detail"))
    index, name = _place(first.get("field") or first.get("loc") or "")
    code = read_text(inner.get("code"))
    request_id = read_text(inner.get("request_id")) or None
    return Refusal(code, message, request_id, index, name, REASONS.get(code), status)


def _place(place: Any) -> tuple[int | None, str | None]:
    """Which input, or which field, `body -> input -> 3` or ["body", "input", 3] names."""
    parts = [str(part).strip() for part in (place if isinstance(place, list) else str(place).split(ARROW))]
    parts = [part for part in parts if part and part != "body"]
    numbers = [int(part) for part in parts if part.isdecimal() and len(part) < LONGEST_INDEX]
    if "input" in parts:
        return (numbers[0] if numbers else None), None
    return None, (parts[-1] if parts else None)
